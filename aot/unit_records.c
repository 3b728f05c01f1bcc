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
				    .flags = (store->links[i].saved ? TCACHE_LINK_SAVED : 0) |
					     (store->links[i].direct ? TCACHE_LINK_DIRECT : 0),
				    .site = store->links[i].site - unit->code};
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

struct tcache_module_fixup module_fixup_record(const struct store *store, const struct unit *unit, u32 i)
{
	if (i < unit->fixups_count) {
		const struct fixup *fixup = &store->fixups[unit->fixups + i];

		return (struct tcache_module_fixup){
			.at = (u16)fixup->at, .kind = (u8)fixup->kind, .from = (u8)fixup->from, .value = fixup->value};
	}
	i -= unit->fixups_count;
	if (i < unit->links_count) {
		const struct link *link = &store->links[unit->links + i];

		return (struct tcache_module_fixup){
			.at = (u16)(link->patch - unit->code),
			.kind = link->saved ? TCACHE_MODULE_JUMP_SAVED : TCACHE_MODULE_JUMP,
			.value = (u32)PAGE_OFFSET(link->target),
		};
	}
	i -= unit->links_count;
	return (struct tcache_module_fixup){.at = (u16)(store->landings[unit->landings + i] - unit->code),
					    .kind = TCACHE_MODULE_LANDING};
}
