/* The tables of a store, as translating and binding fill them. General registers only. */
#include "translate/store.h"

#define TABLE_ADD(name, type)                                                                                          \
	type *store_add_##name(struct store *store)                                                                    \
	{                                                                                                              \
		return store->name##_count < store->name##_max ? &store->name##s[store->name##_count++] : NULL;        \
	}

TABLE_ADD(pc, struct pc_entry)
TABLE_ADD(link, struct link)
TABLE_ADD(insn, struct insn)
TABLE_ADD(counter, u64)
TABLE_ADD(fixup, struct fixup)
TABLE_ADD(goal, struct goal)

/* A live store has room: no unit has more landings than entries, of which there are as many at most. */
void store_add_landing(struct store *store, u32 code)
{
	if (store->landing_count < store->landing_max)
		store->landings[store->landing_count++] = code;
}

bool store_add_entry(struct store *store, u32 unit, u64 pc, u32 code)
{
	if (store->entry_count == store->entry_max)
		return false;
	store->entries[store->entry_count] = (struct entry){.pc = pc, .unit = unit, .code = code};
	store->entry_count++;
	return true;
}

static u32 target_hash(u64 pc)
{
	return (u32)((pc * 0x9e3779b97f4a7c15ULL) >> (64 - TARGET_HASH_BITS));
}

u32 store_find_target(const struct store *store, u64 pc)
{
	u32 i = store->target_hash[target_hash(pc)];

	while (i && store->targets[i].pc != pc)
		i = store->targets[i].next;
	return i;
}

u32 store_find_target_again(const struct store *store, u32 number)
{
	u32 i = store->targets[number].next;

	while (i && store->targets[i].pc != store->targets[number].pc)
		i = store->targets[i].next;
	return i;
}

void store_set_target(struct store *store, u32 number, u64 pc)
{
	u32 *head = &store->target_hash[target_hash(pc)];

	store->targets[number] = (struct target){.pc = pc, .next = *head};
	*head = number;
	if (number >= store->target_count)
		store->target_count = number + 1;
}

u32 store_target(struct store *store, u64 pc)
{
	u32 found = store_find_target(store, pc);

	if (found || store->target_count >= store->target_max)
		return found;
	store_set_target(store, store->target_count, pc);
	return store->target_count - 1;
}
