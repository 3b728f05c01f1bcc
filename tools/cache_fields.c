#include "cache_fields.h"

#include <string.h>

#define FIELD(record, member, kind)                                                                                    \
	{                                                                                                              \
		.name = #member, .offset = offsetof(struct tcache_##record, member),                                   \
		.size = sizeof(((struct tcache_##record *)0)->member), .form = kind                                    \
	}

const struct field cache_header_fields[] = {
	FIELD(header, version, FIELD_COUNT),
	FIELD(header, flags, FIELD_ADDRESS),
	FIELD(header, group_digest, FIELD_COUNT),
	FIELD(header, page_size, FIELD_COUNT),
	FIELD(header, group_size, FIELD_COUNT),
	FIELD(header, length, FIELD_COUNT),
	FIELD(header, tail, FIELD_COUNT),
	FIELD(header, chunk_count, FIELD_COUNT),
	FIELD(header, group_count, FIELD_COUNT),
	FIELD(header, fingerprint.translator, FIELD_TEXT),
	FIELD(header, fingerprint.options, FIELD_BYTES),
	FIELD(header, fingerprint.host_features[0], FIELD_ADDRESS),
	FIELD(header, fingerprint.host_features[1], FIELD_ADDRESS),
	FIELD(header, fingerprint.guest_cpu, FIELD_TEXT),
	FIELD(header, created, FIELD_COUNT),
	{0},
};

const struct field cache_footer_fields[] = {
	FIELD(footer, length, FIELD_COUNT),    FIELD(footer, version, FIELD_COUNT),
	FIELD(footer, digest, FIELD_BYTES),    FIELD(footer, public_key, FIELD_BYTES),
	FIELD(footer, signature, FIELD_BYTES), {0},
};

static const struct field images[] = {
	FIELD(image, kind, FIELD_COUNT),
	FIELD(image, name, FIELD_STRING),
	FIELD(image, size, FIELD_COUNT),
	FIELD(image, data, FIELD_COUNT),
	FIELD(image, data_size, FIELD_COUNT),
	FIELD(image, digest, FIELD_BYTES),
	{0},
};

static const struct field placement[] = {
	FIELD(placement, code_address, FIELD_ADDRESS),
	FIELD(placement, cells_address, FIELD_ADDRESS),
	FIELD(placement, insns_address, FIELD_ADDRESS),
	FIELD(placement, insn_size, FIELD_COUNT),
	FIELD(placement, first_target, FIELD_COUNT),
	FIELD(placement, first_link, FIELD_COUNT),
	{0},
};

static const struct field units[] = {
	FIELD(unit, pc, FIELD_ADDRESS),
	FIELD(unit, mode, FIELD_ADDRESS),
	FIELD(unit, mode_mask, FIELD_ADDRESS),
	FIELD(unit, hash, FIELD_HASH),
	FIELD(unit, executions, FIELD_COUNT),
	FIELD(unit, flags, FIELD_ADDRESS),
	FIELD(unit, guest_length, FIELD_COUNT),
	FIELD(unit, instruction_count, FIELD_COUNT),
	FIELD(unit, image, FIELD_COUNT),
	FIELD(unit, name, FIELD_STRING),
	FIELD(unit, name_offset, FIELD_COUNT),
	FIELD(unit, code_offset, FIELD_COUNT),
	FIELD(unit, code_length, FIELD_COUNT),
	FIELD(unit, body_offset, FIELD_COUNT),
	FIELD(unit, saved_offset, FIELD_COUNT),
	FIELD(unit, pc_first, FIELD_COUNT),
	FIELD(unit, pc_count, FIELD_COUNT),
	FIELD(unit, entry_first, FIELD_COUNT),
	FIELD(unit, entry_count, FIELD_COUNT),
	FIELD(unit, link_first, FIELD_COUNT),
	FIELD(unit, link_count, FIELD_COUNT),
	FIELD(unit, insn_first, FIELD_COUNT),
	FIELD(unit, insn_count, FIELD_COUNT),
	FIELD(unit, guest_offset, FIELD_COUNT),
	{0},
};

static const struct field pcs[] = {
	FIELD(pc, code, FIELD_COUNT),
	FIELD(pc, guest, FIELD_COUNT),
	FIELD(pc, home, FIELD_ADDRESS),
	FIELD(pc, left, FIELD_COUNT),
	{0},
};

static const struct field entries[] = {
	FIELD(entry, code, FIELD_COUNT),
	FIELD(entry, guest, FIELD_COUNT),
	{0},
};

static const struct field links[] = {
	FIELD(link, target, FIELD_SIGNED),
	FIELD(link, cold, FIELD_COUNT),
	FIELD(link, flags, FIELD_ADDRESS),
	FIELD(link, site, FIELD_COUNT),
	{0},
};

static const struct field insns[] = {
	FIELD(insn, length, FIELD_COUNT),
	FIELD(insn, bytes, FIELD_BYTES),
	{0},
};

static const struct field verdicts[] = {
	FIELD(verdict, image, FIELD_COUNT),
	FIELD(verdict, page, FIELD_COUNT),
	FIELD(verdict, flags, FIELD_ADDRESS),
	FIELD(verdict, hash, FIELD_HASH),
	{0},
};

static const struct field profile[] = {
	FIELD(profile, pc, FIELD_ADDRESS),
	FIELD(profile, mode, FIELD_ADDRESS),
	FIELD(profile, count, FIELD_COUNT),
	FIELD(profile, hash, FIELD_HASH),
	{0},
};

static const struct field executed[] = {
	FIELD(executed, pc, FIELD_ADDRESS),         FIELD(executed, mode, FIELD_ADDRESS),
	FIELD(executed, guest_length, FIELD_COUNT), FIELD(executed, bytes_first, FIELD_COUNT),
	FIELD(executed, count_first, FIELD_COUNT),  FIELD(executed, count_count, FIELD_COUNT),
	FIELD(executed, page, FIELD_COUNT),         {0},
};

#define FIXUPS(text, kind)                                                                                             \
	{                                                                                                              \
		text, offsetof(struct tcache_template, fixup_count[TCACHE_FIXUP_##kind]), 2, FIELD_COUNT               \
	}

static const struct field templates[] = {
	FIELD(template, offset, FIELD_ADDRESS),
	FIELD(template, page, FIELD_COUNT),
	FIELD(template, mode, FIELD_ADDRESS),
	FIELD(template, mode_mask, FIELD_ADDRESS),
	FIELD(template, hash, FIELD_HASH),
	FIELD(template, first, FIELD_ADDRESS),
	FIELD(template, executions, FIELD_COUNT),
	FIELD(template, flags, FIELD_ADDRESS),
	FIELD(template, guest_length, FIELD_COUNT),
	FIELD(template, instruction_count, FIELD_COUNT),
	FIELD(template, image, FIELD_COUNT),
	FIELD(template, name, FIELD_STRING),
	FIELD(template, name_offset, FIELD_COUNT),
	FIELD(template, code_offset, FIELD_COUNT),
	FIELD(template, code_length, FIELD_COUNT),
	FIELD(template, body_offset, FIELD_COUNT),
	FIELD(template, saved_offset, FIELD_COUNT),
	FIELD(template, pc_first, FIELD_COUNT),
	FIELD(template, pc_count, FIELD_COUNT),
	FIELD(template, entry_first, FIELD_COUNT),
	FIELD(template, entry_count, FIELD_COUNT),
	FIELD(template, insn_first, FIELD_COUNT),
	FIELD(template, insn_count, FIELD_COUNT),
	FIELD(template, link_first, FIELD_COUNT),
	FIELD(template, link_count, FIELD_COUNT),
	FIELD(template, goal_first, FIELD_COUNT),
	FIELD(template, goal_count, FIELD_COUNT),
	FIELD(template, fixup_first, FIELD_COUNT),
	FIXUPS("address_fixups", ADDRESS),
	FIXUPS("minus_fixups", MINUS),
	FIXUPS("read_fixups", READ),
	FIXUPS("write_fixups", WRITE),
	FIXUPS("addend_fixups", ADDEND),
	FIXUPS("link_fixups", LINK),
	FIXUPS("insn_fixups", INSN),
	FIELD(template, guest_offset, FIELD_COUNT),
	{0},
};

static const struct field pages[] = {
	FIELD(page, hash, FIELD_HASH),
	FIELD(page, first, FIELD_COUNT),
	FIELD(page, count, FIELD_COUNT),
	{0},
};

static const struct field template_links[] = {
	FIELD(template_link, patch, FIELD_COUNT),
	FIELD(template_link, target, FIELD_ADDRESS),
	FIELD(template_link, flags, FIELD_ADDRESS),
	{0},
};

static const struct field goals[] = {
	FIELD(goal, number, FIELD_COUNT),
	FIELD(goal, entry, FIELD_COUNT),
	FIELD(goal, target, FIELD_SIGNED),
	FIELD(goal, flags, FIELD_ADDRESS),
	{0},
};

static const struct field recorded_pages[] = {
	FIELD(recorded_page, hash, FIELD_HASH),
	{0},
};

static const struct field module_units[] = {
	FIELD(module_unit, offset, FIELD_ADDRESS),     FIELD(module_unit, page, FIELD_COUNT),
	FIELD(module_unit, mode, FIELD_ADDRESS),       FIELD(module_unit, mode_mask, FIELD_ADDRESS),
	FIELD(module_unit, hash, FIELD_HASH),          FIELD(module_unit, flags, FIELD_ADDRESS),
	FIELD(module_unit, guest_length, FIELD_COUNT), FIELD(module_unit, instruction_count, FIELD_COUNT),
	FIELD(module_unit, code_offset, FIELD_COUNT),  FIELD(module_unit, code_length, FIELD_COUNT),
	FIELD(module_unit, body_offset, FIELD_COUNT),  FIELD(module_unit, saved_offset, FIELD_COUNT),
	FIELD(module_unit, stale_offset, FIELD_COUNT), FIELD(module_unit, stale_saved_offset, FIELD_COUNT),
	FIELD(module_unit, pc_first, FIELD_COUNT),     FIELD(module_unit, pc_count, FIELD_COUNT),
	FIELD(module_unit, entry_first, FIELD_COUNT),  FIELD(module_unit, entry_count, FIELD_COUNT),
	FIELD(module_unit, insn_first, FIELD_COUNT),   FIELD(module_unit, insn_count, FIELD_COUNT),
	FIELD(module_unit, fixup_first, FIELD_COUNT),  FIELD(module_unit, fixup_count, FIELD_COUNT),
	FIELD(module_unit, guest_offset, FIELD_COUNT), {0},
};

static const struct field module_pages[] = {
	FIELD(module_page, hash, FIELD_HASH),        FIELD(module_page, first, FIELD_COUNT),
	FIELD(module_page, count, FIELD_COUNT),      FIELD(module_page, hole_first, FIELD_COUNT),
	FIELD(module_page, hole_count, FIELD_COUNT), {0},
};

static const struct field module_keys[] = {
	FIELD(module_key, offset, FIELD_ADDRESS),
	FIELD(module_key, mask, FIELD_ADDRESS),
	FIELD(module_key, hash, FIELD_ADDRESS),
	FIELD(module_key, unit, FIELD_COUNT),
	{0},
};

static const struct field module_fixups[] = {
	FIELD(module_fixup, at, FIELD_COUNT),
	FIELD(module_fixup, kind, FIELD_COUNT),
	FIELD(module_fixup, from, FIELD_COUNT),
	FIELD(module_fixup, value, FIELD_ADDRESS),
	{0},
};

static const struct field module_holes[] = {{"hole", 0, 2, FIELD_ADDRESS}, {0}};
static const struct field counts[] = {{"count", 0, 8, FIELD_COUNT}, {0}};
static const struct field numbers[] = {{"unit", 0, 4, FIELD_COUNT}, {0}};
static const struct field by_content[] = {{"template", 0, 4, FIELD_COUNT}, {0}};
static const struct field fixups[] = {{"code", 0, 4, FIELD_COUNT}, {0}};
static const struct field addresses[] = {{"address", 0, 8, FIELD_ADDRESS}, {0}};

static const struct {
	u32 type;
	const struct field *fields;
} chunks[] = {
	{TCACHE_TYPE_images, images},
	{TCACHE_TYPE_placement, placement},
	{TCACHE_TYPE_units, units},
	{TCACHE_TYPE_by_code, numbers},
	{TCACHE_TYPE_pcs, pcs},
	{TCACHE_TYPE_entries, entries},
	{TCACHE_TYPE_links, links},
	{TCACHE_TYPE_cells, addresses},
	{TCACHE_TYPE_targets, addresses},
	{TCACHE_TYPE_insns, insns},
	{TCACHE_TYPE_verdicts, verdicts},
	{TCACHE_TYPE_profile, profile},
	{TCACHE_TYPE_executed, executed},
	{TCACHE_TYPE_counts, counts},
	{TCACHE_TYPE_templates, templates},
	{TCACHE_TYPE_pages, pages},
	{TCACHE_TYPE_by_content, by_content},
	{TCACHE_TYPE_template_links, template_links},
	{TCACHE_TYPE_goals, goals},
	{TCACHE_TYPE_fixups, fixups},
	{TCACHE_TYPE_recorded_pages, recorded_pages},
	{TCACHE_TYPE_module_units, module_units},
	{TCACHE_TYPE_module_pages, module_pages},
	{TCACHE_TYPE_module_keys, module_keys},
	{TCACHE_TYPE_module_holes, module_holes},
	{TCACHE_TYPE_module_insns, insns},
	{TCACHE_TYPE_module_fixups, module_fixups},
};

const struct field *cache_fields(u32 type)
{
	for (size_t i = 0; i < ARRAY_SIZE(chunks); i++)
		if (chunks[i].type == type)
			return chunks[i].fields;
	return NULL;
}

u64 cache_field_value(const struct field *field, const void *record)
{
	u64 value = 0;

	memcpy(&value, (const u8 *)record + field->offset, field->size < 8 ? field->size : 8);
	if (field->form == FIELD_SIGNED && field->size == 4)
		value = (u64)(s64)(s32)value;
	return value;
}
