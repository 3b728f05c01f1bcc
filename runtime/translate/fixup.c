#include "translate/fixup.h"

#include <string.h>

#include "mem/mem.h"

static u32 get32(const u8 *at)
{
	u32 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void put32(u8 *at, u32 value)
{
	memcpy(at, &value, sizeof(value));
}

static void add64(u8 *at, u64 more)
{
	u64 value;

	memcpy(&value, at, sizeof(value));
	value += more;
	memcpy(at, &value, sizeof(value));
}

/* The displacement is that of an element of an array in the view which has one for each page, modulo its size. */
static void move_index(u8 *at, u32 array, u64 pages)
{
	u32 index = (get32(at) - array) / sizeof(struct tlb_entry);

	index = (index + (u32)(pages >> PAGE_SHIFT)) & (TLB_SIZE - 1);
	put32(at, array + index * (u32)sizeof(struct tlb_entry));
}

void fixup_apply(u8 *code, const struct fixup_list *list, const struct fixup_move *move)
{
	static const u32 array[FIXUP_KINDS] = {
		[FIXUP_READ] = offsetof(struct view, tlb) + offsetof(struct tlb_entry, ntag_read),
		[FIXUP_WRITE] = offsetof(struct view, tlb_more) + offsetof(struct tlb_more, ntag_write),
		[FIXUP_ADDEND] = offsetof(struct view, tlb) + offsetof(struct tlb_entry, addend),
	};
	const u32 *at = list->at;

	for (u32 n = list->count[FIXUP_ADDRESS]; n; n--)
		add64(code + *at++, move->pages);
	for (u32 n = list->count[FIXUP_MINUS]; n; n--)
		add64(code + *at++, 0 - move->pages);
	for (unsigned kind = FIXUP_READ; kind <= FIXUP_ADDEND; kind++) {
		for (u32 n = list->count[kind]; n; n--)
			move_index(code + *at++, array[kind], move->pages);
	}
	const u32 *insn = at + list->count[FIXUP_LINK];

	for (u32 n = 0; move->first_link && n < list->count[FIXUP_LINK]; n++)
		put32(code + at[n], get32(code + at[n]) + move->first_link);
	for (u32 n = 0; move->insns && n < list->count[FIXUP_INSN]; n++)
		put32(code + insn[n], get32(code + insn[n]) + move->insns);
}

void fixup_goal(u8 *code, u32 number_at, u32 entry_at, u32 number)
{
	put32(code + number_at, number);
	put32(code + entry_at, (u32)(offsetof(struct view, target) + number * sizeof(void *)));
}

bool fixup_sort(const struct store *store, const struct unit *unit, u32 *at, u16 count[FIXUP_KINDS])
{
	const struct fixup *fixups = store->fixups + unit->fixups;
	u32 total = 0;

	for (unsigned kind = 0; kind < FIXUP_KINDS; kind++) {
		u32 before = total;

		for (u32 i = 0; i < unit->fixups_count; i++) {
			if (fixups[i].kind == kind)
				at[total++] = fixups[i].at;
		}
		if (total - before > UINT16_MAX)
			return false;
		count[kind] = (u16)(total - before);
	}
	return true;
}
