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
	u32 *offsets = calloc((size_t)u->pc_count + u->entry_count + u->link_count + 4, sizeof(*offsets));

	if (!offsets)
		return NULL;
	offsets[count++] = u->body_offset;
	offsets[count++] = u->saved_offset;
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

static int compare_segments(const void *a, const void *b)
{
	const struct disasm_segment *x = a, *y = b;

	if (x->code != y->code)
		return x->code < y->code ? -1 : 1;
	return x->guest < y->guest ? -1 : x->guest > y->guest;
}

static void add_segment(struct disasm *d, u32 code, u32 guest)
{
	d->segments[d->segment_count++] = (struct disasm_segment){.code = code, .guest = guest};
}

/* The segments of slow paths, and of what they go back to. */
static void add_slow_paths(const struct tcache_unit_view *v, struct disasm *d)
{
	u32 begin = 0, record = 0;

	for (u32 i = 0; i + 1 < d->host_count; i++) {
		const struct disasm_line *call = &d->host[i], *jump = call + 1;

		while (record < v->unit->pc_count && v->pcs[record].code < call->offset)
			record++;
		if (record < v->unit->pc_count && v->pcs[record].code == call->offset && call->flow == DISASM_CALL &&
		    jump->flow == DISASM_JUMP && jump->target < begin) {
			add_segment(d, begin, v->pcs[record].guest);
			add_segment(d, jump->target, v->pcs[record].guest);
		}
		if (call->flow == DISASM_JUMP || call->flow == DISASM_END)
			begin = jump->offset;
	}
}

/* Two that begin at the same place, or go on with the same instruction, become one. */
static void merge_segments(struct disasm *d)
{
	u32 count = 0;

	for (u32 i = 0; i < d->segment_count; i++) {
		struct disasm_segment *last = count ? &d->segments[count - 1] : NULL;

		if (last && (last->code == d->segments[i].code || last->guest == d->segments[i].guest))
			continue;
		d->segments[count++] = d->segments[i];
	}
	d->segment_count = count;
}

static int make_segments(const struct tcache_unit_view *v, struct disasm *d)
{
	u8 *seen = calloc(1, v->unit->guest_length);
	u32 segment = 0;

	d->segments = calloc((size_t)v->unit->pc_count * 3 + 1, sizeof(*d->segments));
	if (!d->segments || !seen) {
		free(seen);
		return -1;
	}
	for (u32 i = 0; i < v->unit->pc_count; i++)
		add_segment(d, v->pcs[i].code, v->pcs[i].guest);
	add_slow_paths(v, d);
	qsort(d->segments, d->segment_count, sizeof(*d->segments), compare_segments);
	if (!d->segment_count || d->segments[0].code) {
		memmove(d->segments + 1, d->segments, d->segment_count * sizeof(*d->segments));
		d->segments[0] = (struct disasm_segment){.guest = DISASM_NO_GUEST};
		d->segment_count++;
	}
	merge_segments(d);
	for (u32 i = 0; i < d->segment_count; i++) {
		if (d->segments[i].guest == DISASM_NO_GUEST)
			continue;
		d->segments[i].again = seen[d->segments[i].guest];
		seen[d->segments[i].guest] = 1;
	}
	free(seen);
	for (u32 i = 0; i < d->host_count; i++) {
		while (segment + 1 < d->segment_count && d->segments[segment + 1].code <= d->host[i].offset)
			segment++;
		d->host[i].segment = segment;
	}
	return 0;
}

static void set_flow(const struct decoder *d, u32 code_length, struct disasm_line *line)
{
	const ZydisDecodedOperand *o = &d->operands[0];
	bool direct = o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && o->imm.is_relative;
	s64 target = direct ? (s64)line->offset + line->length + o->imm.value.s : -1;

	if (d->insn.meta.category == ZYDIS_CATEGORY_CALL && !direct) {
		line->flow = DISASM_CALL;
	} else if (d->insn.meta.category == ZYDIS_CATEGORY_UNCOND_BR && target >= 0 && target < code_length) {
		line->flow = DISASM_JUMP;
		line->target = (u32)target;
	} else if (d->insn.meta.category == ZYDIS_CATEGORY_UNCOND_BR || d->insn.meta.category == ZYDIS_CATEGORY_RET) {
		line->flow = DISASM_END;
	}
}

static int disasm_host(struct tcache *cache, const struct tcache_unit_view *v, struct decoder *d, struct disasm *out)
{
	u64 address = tcache_place(cache)->code_address + v->unit->code_offset;
	u32 *sure = sure_offsets(v), *next = sure;

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
		line->offset = at;
		good = decode(d, v->code + at, *next - at, address + at, line);
		if (at == v->unit->body_offset && at)
			note_add(line, "body");
		if (at == v->unit->saved_offset && at)
			note_add(line, "body with flags saved");
		note_places(cache, v, line);
		if (good) {
			set_flow(d, v->unit->code_length, line);
			note_operands(cache, v, address + at, d, line);
		}
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
	if (disasm_guest(view, &decoder, disasm) < 0 || disasm_host(cache, view, &decoder, disasm) < 0)
		return -1;
	return make_segments(view, disasm);
}

void disasm_free(struct disasm *disasm)
{
	free(disasm->guest);
	free(disasm->host);
	free(disasm->segments);
}
