#include "unit_records.h"

#include <string.h>

struct tcache_pc unit_pc_record(const struct store *store, const struct unit *unit, u32 i)
{
	const struct pc_entry *from = &store->pcs[i];

	return (struct tcache_pc){
		.code = from->code - unit->code, .guest = from->guest, .home = from->home, .left = from->left};
}

struct tcache_entry unit_entry_record(const struct store *store, const struct unit *unit, u32 i)
{
	return (struct tcache_entry){.code = store->entries[i].code - unit->code,
				     .guest = (u16)(store->entries[i].pc - unit->pc)};
}

struct tcache_link unit_link_record(const struct store *store, const struct unit *unit, u32 i)
{
	return (struct tcache_link){.target = (s32)(s64)(store->links[i].target - unit->pc),
				    .cold = store->links[i].patch - unit->code,
				    .flags = store->links[i].saved ? TCACHE_LINK_SAVED : 0};
}

struct tcache_insn unit_insn_record(const struct store *store, u32 i)
{
	struct tcache_insn insn = {.length = store->insns[i].length};

	memcpy(insn.bytes, store->insns[i].bytes, insn.length);
	return insn;
}

struct tcache_template_link template_link_record(const struct store *store, const struct unit *unit, u32 i)
{
	return (struct tcache_template_link){.patch = store->links[i].patch - unit->code,
					     .target = (u16)PAGE_OFFSET(store->links[i].target),
					     .flags = store->links[i].saved ? TCACHE_LINK_SAVED : 0};
}

struct tcache_goal template_goal_record(const struct store *store, u32 i)
{
	const struct goal *goal = &store->goals[i];

	return (struct tcache_goal){.number = goal->number,
				    .entry = goal->entry,
				    .target = goal->target,
				    .flags = goal->saved ? TCACHE_LINK_SAVED : 0};
}
