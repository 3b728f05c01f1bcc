#include "cache_disasm.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

struct decoder {
	ZydisDecoder decoder;
	ZydisFormatter formatter;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

static void decoder_init(struct decoder *d)
{
	ZydisDecoderInit(&d->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderEnableMode(&d->decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisFormatterInit(&d->formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	ZydisFormatterSetProperty(&d->formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
	ZydisFormatterSetProperty(&d->formatter, ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE, ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&d->formatter, ZYDIS_FORMATTER_PROP_DISP_PADDING, ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&d->formatter, ZYDIS_FORMATTER_PROP_IMM_PADDING, ZYDIS_PADDING_DISABLED);
}

/* The instruction at the beginning of the bytes, or one byte. Returns whether it is one. */
static bool decode(struct decoder *d, const u8 *bytes, size_t size, u64 address, struct disasm_line *line)
{
	line->length = 1;
	if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d->decoder, bytes, size, &d->insn, d->operands)) &&
	    ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&d->formatter, &d->insn, d->operands,
							 d->insn.operand_count_visible, line->text, sizeof(line->text),
							 address, ZYAN_NULL))) {
		line->length = d->insn.length;
		return true;
	}
	snprintf(line->text, sizeof(line->text), ".byte 0x%02x", bytes[0]);
	return false;
}

/* ---- what code refers to ---- */

static void note_add(struct disasm_line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note_add(struct disasm_line *line, const char *format, ...)
{
	size_t used = strlen(line->note);
	va_list args;

	if (used && used + 2 < sizeof(line->note)) {
		memcpy(line->note + used, ", ", 3);
		used += 2;
	}
	va_start(args, format);
	vsnprintf(line->note + used, sizeof(line->note) - used, format, args);
	va_end(args);
}

static void note_cell(struct tcache *cache, const struct tcache_unit_view *view, u64 address, struct disasm_line *line)
{
	const struct tcache_placement *p = tcache_place(cache);
	u64 number = (address - p->cells_address) / 8;

	if (address < p->cells_address || number >= tcache_cells_count(cache))
		return;
	if (number >= view->unit->link_first && number - view->unit->link_first < view->unit->link_count)
		note_add(line, "to 0x%" PRIx64,
			 view->unit->pc + (u64)(s64)view->links[number - view->unit->link_first].target);
	else
		note_add(line, "cell %" PRIu64, number);
}

static void note_insn(struct tcache *cache, u64 address, struct decoder *d, struct disasm_line *line)
{
	const struct tcache_placement *p = tcache_place(cache);
	u64 number = (address - p->insns_address) / p->insn_size;
	const struct tcache_insn *insn;
	struct disasm_line text;

	if (address < p->insns_address || number >= tcache_insns_count(cache) ||
	    (address - p->insns_address) % p->insn_size)
		return;
	insn = tcache_insns(cache, number, 1);
	if (!insn || insn->length > sizeof(insn->bytes))
		return;
	decode(d, insn->bytes, insn->length, 0, &text);
	note_add(line, "for the runtime: %.60s", text.text);
}

/* Overwrites what the decoder holds. */
static void note_operands(struct tcache *cache, const struct tcache_unit_view *view, u64 address, struct decoder *d,
			  struct disasm_line *line)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn = d->insn;

	memcpy(operands, d->operands, sizeof(operands));
	for (unsigned i = 0; i < insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &operands[i];
		bool absolute = o->type == ZYDIS_OPERAND_TYPE_MEMORY && !o->mem.index &&
				(!o->mem.base || o->mem.base == ZYDIS_REGISTER_RIP) &&
				o->mem.segment != ZYDIS_REGISTER_GS && o->mem.segment != ZYDIS_REGISTER_FS;
		ZyanU64 target;

		if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && !o->imm.is_relative)
			note_insn(cache, o->imm.value.u, d, line);
		else if (absolute && ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&insn, o, address, &target)))
			note_cell(cache, view, target, line);
	}
}

/* Places in the code that others jump to. */
static void note_places(struct tcache *cache, const struct tcache_unit_view *view, struct disasm_line *line)
{
	const struct tcache_placement *p = tcache_place(cache);

	for (u32 i = 0; i < view->unit->entry_count; i++)
		if (view->entries[i].code == line->offset)
			note_add(line, "entry 0x%" PRIx64, view->unit->pc + view->entries[i].guest);
	for (u32 i = 0; i < view->unit->link_count; i++)
		if (view->links[i].cold == line->offset)
			note_add(line, "cold path of link %u", p->first_link + view->unit->link_first + i);
}

/* ---- segments ---- */

static int compare_offsets(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

/* Offsets where an instruction begins for sure, sorted, ending with the code's length. NULL without memory. */
static u32 *sure_offsets(const struct tcache_unit_view *v)
{
	const struct tcache_unit *u = v->unit;
	size_t count = 0;
	u32 *offsets = calloc((size_t)u->pc_count + u->entry_count + u->link_count + 3, sizeof(*offsets));

	if (!offsets)
		return NULL;
	offsets[count++] = u->body_offset;
	for (u32 i = 0; i < u->pc_count; i++)
		offsets[count++] = v->pcs[i].code;
	for (u32 i = 0; i < u->entry_count; i++)
		offsets[count++] = v->entries[i].code;
	for (u32 i = 0; i < u->link_count; i++)
		offsets[count++] = v->links[i].cold;
	qsort(offsets, count, sizeof(*offsets), compare_offsets);
	offsets[count] = u->code_length;
	return offsets;
}

static int make_segments(const struct tcache_unit_view *v, struct disasm *d)
{
	u8 *seen = calloc(1, v->unit->guest_length);

	d->segments = calloc((size_t)v->unit->pc_count + 1, sizeof(*d->segments));
	if (!d->segments || !seen) {
		free(seen);
		return -1;
	}
	if (!v->unit->pc_count || v->pcs[0].code)
		d->segments[d->segment_count++] = (struct disasm_segment){.guest = DISASM_NO_GUEST};
	for (u32 i = 0; i < v->unit->pc_count; i++) {
		u32 guest = v->pcs[i].guest;

		d->segments[d->segment_count++] =
			(struct disasm_segment){.code = v->pcs[i].code, .guest = guest, .again = seen[guest]};
		seen[guest] = 1;
	}
	free(seen);
	return 0;
}

static int disasm_host(struct tcache *cache, const struct tcache_unit_view *v, struct decoder *d, struct disasm *out)
{
	u64 address = tcache_place(cache)->code_address + v->unit->code_offset;
	u32 *sure = sure_offsets(v), *next = sure, segment = 0;

	out->host = calloc(v->unit->code_length, sizeof(*out->host));
	if (!sure || !out->host) {
		free(sure);
		return -1;
	}
	for (u32 at = 0; at < v->unit->code_length;) {
		struct disasm_line *line = &out->host[out->host_count++];
		bool good;

		while (*next <= at && *next < v->unit->code_length)
			next++;
		while (segment + 1 < out->segment_count && out->segments[segment + 1].code <= at)
			segment++;
		line->offset = at;
		line->segment = segment;
		good = decode(d, v->code + at, *next - at, address + at, line);
		if (at == v->unit->body_offset && at)
			note_add(line, "body");
		note_places(cache, v, line);
		if (good)
			note_operands(cache, v, address + at, d, line);
		at += line->length;
	}
	free(sure);
	return 0;
}

static int disasm_guest(const struct tcache_unit_view *v, struct decoder *d, struct disasm *out)
{
	if (!v->guest)
		return 0;
	out->guest = calloc(v->unit->guest_length, sizeof(*out->guest));
	if (!out->guest)
		return -1;
	for (u32 at = 0; at < v->unit->guest_length;) {
		struct disasm_line *line = &out->guest[out->guest_count++];

		line->offset = at;
		decode(d, v->guest + at, v->unit->guest_length - at, v->unit->pc + at, line);
		at += line->length;
	}
	return 0;
}

int disasm_unit(struct tcache *cache, const struct tcache_unit_view *view, struct disasm *disasm)
{
	struct decoder decoder;

	*disasm = (struct disasm){0};
	decoder_init(&decoder);
	if (make_segments(view, disasm) < 0 || disasm_guest(view, &decoder, disasm) < 0)
		return -1;
	return disasm_host(cache, view, &decoder, disasm);
}

void disasm_free(struct disasm *disasm)
{
	free(disasm->guest);
	free(disasm->host);
	free(disasm->segments);
}
