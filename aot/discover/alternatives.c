/*
 * .altinstructions: instruction sequences that Linux replaces by what the processor can do
 *(arch/x86/kernel/alternative.c). Two layouts of the table, told apart by which of them makes sense of all entries, and
 *with them two ways of doing it:
 *
 *	12 bytes  place, replacement (s32, relative to themselves), u16 feature with bit 15 for "not", two lengths (u8)
 *	14 bytes  place, replacement, u16 feature, u16 flags, two lengths
 *
 * The older code relocates one leading call or jump and pads with a sequence of no-operations; the newer one relocates
 * everything and jumps over long padding.
 */
#include "internal.h"
#include "x86/insn.h"

#define MAX_PATCH    254u
#define MAX_NESTED   16u /* alternatives of one place */
#define OP_CALL      0xe8u
#define OP_JMP32     0xe9u
#define OP_JMP8      0xebu
#define OP_INT3      0xccu
#define OP_NOP       0x90u
#define NOP_MAX_OLD  8u
#define NOP_MAX_NEW  11u
#define FLAG_NOT     BIT(0) /* newer layout */
#define FLAG_CALL    BIT(1) /* an indirect call becomes a direct one */
#define OLD_FLAG_NOT 0x8000u

/* One by one: nop; xchg %ax,%ax; nopl (%rax); nopl 0(%rax); … and longer ones with prefixes. */
static const u8 nops[NOP_MAX_NEW][NOP_MAX_NEW] = {
	{0x90},
	{0x66, 0x90},
	{0x0f, 0x1f, 0x00},
	{0x0f, 0x1f, 0x40, 0x00},
	{0x0f, 0x1f, 0x44, 0x00, 0x00},
	{0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
	{0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
	{0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
	{0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
	{0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
	{0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
};

void put_nops(u8 *p, u64 length)
{
	while (length) {
		u64 n = length < NOP_MAX_OLD ? length : NOP_MAX_OLD;

		memcpy(p, nops[n - 1], n);
		p += n;
		length -= n;
	}
}

/* The newer way: one no-operation, or a jump over breakpoints. */
static void put_padding(u8 *p, u64 length)
{
	u64 at = 2;

	if (length <= NOP_MAX_NEW) {
		if (length)
			memcpy(p, nops[length - 1], length);
		return;
	}
	if (length < 128) {
		p[0] = OP_JMP8;
		p[1] = (u8)(length - 2);
	} else {
		p[0] = OP_JMP32;
		put32(p + 1, (u32)(length - 5));
		at = 5;
	}
	memset(p + at, OP_INT3, length - at);
}

struct alternative {
	u64 place, replacement;
	u32 feature;
	u32 flags; /* FLAG_* */
	u32 length, replacement_length;
};

static void read_old(const struct table *table, u64 at, struct alternative *a)
{
	u16 feature = get16(table->bytes + at + 8);

	*a = (struct alternative){
		.place = table_relative(table, at),
		.replacement = table_relative(table, at + 4),
		.feature = feature & ~OLD_FLAG_NOT,
		.flags = feature & OLD_FLAG_NOT ? FLAG_NOT : 0,
		.length = table->bytes[at + 10],
		.replacement_length = table->bytes[at + 11],
	};
}

static void read_new(const struct table *table, u64 at, struct alternative *a)
{
	*a = (struct alternative){
		.place = table_relative(table, at),
		.replacement = table_relative(table, at + 4),
		.feature = get16(table->bytes + at + 8),
		.flags = get16(table->bytes + at + 10),
		.length = table->bytes[at + 12],
		.replacement_length = table->bytes[at + 13],
	};
}

static const struct layout {
	u32 size;
	void (*read)(const struct table *table, u64 at, struct alternative *a);
	bool newer;
} layouts[] = {
	{12, read_old, false},
	{14, read_new, true},
};

static bool is_sound(const struct image *image, const struct alternative *a)
{
	return image_is_code(image, a->place) && a->length <= MAX_PATCH && a->replacement_length <= a->length &&
	       a->feature / 32 < FEATURE_WORDS && image_at(image, a->place, a->length ? a->length : 1) &&
	       (!a->replacement_length || image_at(image, a->replacement, a->replacement_length));
}

static const struct layout *find_layout(const struct image *image, const struct table *table)
{
	for (unsigned i = 0; i < ARRAY_SIZE(layouts); i++) {
		const struct layout *layout = &layouts[i];
		u64 good = 0, count = table->size / layout->size;
		struct alternative a;

		for (u64 k = 0; k < count; k++) {
			layout->read(table, k * layout->size, &a);
			good += is_sound(image, &a);
		}
		if (count && good > count - count / 100 - 1)
			return layout;
	}
	return NULL;
}

/* Modules are made with the layout of their kernel, and few of them would tell it. */
static const struct layout *kernel_layout(const struct image *kernel)
{
	struct table table;

	return find_table(kernel, NULL, NULL, "__alt_instructions", "__alt_instructions_end", &table)
		       ? find_layout(kernel, &table)
		       : NULL;
}

/* The replacement's bytes have come to the place, and what is a hole in them. */
static void patch_copied(const struct patcher *p, const struct alternative *a)
{
	patch_plain(p, a->place, a->length);
	if (p->holes)
		holes_copy(p->holes, a->replacement, a->place, a->replacement_length);
}

/* --- the older way ------------------------------------------------------------------------------------------------ */

static void jump_old(u64 place, u64 target, u8 *bytes)
{
	s64 distance = (s64)(target - place);

	/* backward jumps are short only by a comparison that never holds for them: Linux keeps five bytes */
	if (distance >= 0 && distance - 2 <= 127) {
		bytes[0] = OP_JMP8;
		bytes[1] = (u8)(distance - 2);
		put_nops(bytes + 2, 3);
		return;
	}
	bytes[0] = OP_JMP32;
	put32(bytes + 1, (u32)(distance - 5));
}

static void optimize_old(u8 *bytes, u64 length, u64 available)
{
	struct insn insn;

	for (u64 at = 0; at < length;) {
		u64 end = at;

		if (insn_decode(&insn, bytes + at, available - at < INSN_MAX ? (unsigned)(available - at) : INSN_MAX) ||
		    insn.class == INSN_UNDEFINED)
			return;
		if (insn.length != 1 || bytes[at] != OP_NOP) {
			at += insn.length;
			continue;
		}
		while (end < length && bytes[end] == OP_NOP)
			end++;
		if (end - at > 1)
			put_nops(bytes + at, end - at);
		at = end;
	}
}

static void apply_old(struct patcher *p, const struct alternative *a, bool chosen)
{
	u8 *place = image_write_at(p->image, a->place, a->length), bytes[MAX_PATCH];
	const u8 *replacement = image_at(p->image, a->replacement, a->replacement_length);

	if (chosen) {
		memset(bytes, OP_NOP, sizeof(bytes));
		if (a->replacement_length)
			memcpy(bytes, replacement, a->replacement_length);
		patch_copied(p, a);
		if (a->replacement_length == 5) {
			u64 target = a->replacement + 5 + (u64)(s64)(s32)get32(bytes + 1);

			if (bytes[0] == OP_CALL)
				put32(bytes + 1, (u32)(target - a->place - 5));
			else if (bytes[0] == OP_JMP32)
				jump_old(a->place, target, bytes);
			if (bytes[0] == OP_CALL || bytes[0] == OP_JMP32)
				patch_distance(p, a->place + 1, target);
		}
		memcpy(place, bytes, a->length);
	}
	optimize_old(place, a->length, a->length);
}

/* --- the newer way ------------------------------------------------------------------------------------------------ */

/* Any no-operation but pause (f3 90) and endbr64. */
static bool is_nop(const struct insn *insn, const u8 *bytes)
{
	const u8 *opcode = bytes + insn->opcode_at;

	return (opcode[0] == OP_NOP && !insn->prefix_f3) ||
	       (opcode[0] == 0x0f && insn->opcode_at + 1u < insn->length && opcode[1] == 0x1f);
}

static void optimize_new(u8 *bytes, u64 length)
{
	struct insn insn;
	u64 at = 0, nops_from = 0;
	bool in_nops = false;

	while (at < length) {
		bool nop;

		if (insn_decode(&insn, bytes + at, length - at < INSN_MAX ? (unsigned)(length - at) : INSN_MAX) ||
		    insn.class == INSN_UNDEFINED)
			return;
		nop = is_nop(&insn, bytes + at);
		if (nop && !in_nops)
			nops_from = at;
		if (!nop && in_nops)
			put_padding(bytes + nops_from, at - nops_from);
		in_nops = nop;
		at += insn.length;
	}
	if (in_nops)
		put_padding(bytes + nops_from, length - nops_from);
}

/* Does a displacement that is relative to `next` lead out of the replacement? Then it has to be adjusted. */
static bool leads_out(u64 next, s64 displacement, u64 length)
{
	s64 target = (s64)next + displacement;

	return target < 0 || target > (s64)length;
}

static void relocate_new(const struct patcher *p, const struct alternative *a, u8 *bytes)
{
	s64 moved = (s64)(a->replacement - a->place);
	struct insn insn;

	for (u64 at = 0; at < a->length;) {
		u64 left = a->length - at;
		u64 next;

		if (insn_decode(&insn, bytes + at, left < INSN_MAX ? (unsigned)left : INSN_MAX))
			return;
		next = at + insn.length;
		if ((insn.class == INSN_JMP || insn.class == INSN_CALL || insn.class == INSN_JCC) &&
		    insn.length - insn.imm_at == 4u && leads_out(next, insn.imm, a->replacement_length)) {
			s64 distance = insn.imm + moved;

			put32(bytes + at + insn.imm_at, (u32)distance);
			patch_distance(p, a->place + at + insn.imm_at, a->place + next + (u64)distance);
			if (insn.length == 5 && bytes[at] == OP_JMP32 && distance + 3 == (s8)(distance + 3)) {
				bytes[at] = OP_JMP8;
				bytes[at + 1] = (u8)(distance + 3);
				memset(bytes + at + 2, OP_INT3, 3);
				patch_plain(p, a->place + at, 5);
			}
		} else if (insn.has_mem && insn.base == INSN_RIP && insn.modrm_at &&
			   leads_out(next, insn.disp, a->replacement_length)) {
			put32(bytes + at + insn.modrm_at + 1, (u32)(insn.disp + moved));
			patch_distance(p, a->place + at + insn.modrm_at + 1,
				       a->place + next + (u64)(insn.disp + moved));
		}
		at = next;
	}
}

/* `call *pointer(%rip)` with the pointer's present value. The replacement, `call BUG_func`, tells the size only. */
static u32 direct_call(const struct patcher *p, const struct alternative *a, const u8 *place, u8 *bytes)
{
	const u8 *pointer;
	u64 target;

	if (a->length != 6 || a->replacement_length != 5 || place[0] != 0xff || place[1] != 0x15)
		return a->replacement_length;
	pointer = patch_data(p, a->place + 6 + (u64)(s64)(s32)get32(place + 2), 8);
	target = pointer ? patch_guest_op(p->kernel, get64(pointer)) : 0;
	if (!target)
		return a->replacement_length;
	if (target == patch_find(p, "nop_func") || target == patch_find(p, "_paravirt_nop"))
		return 0;
	/* relative to the replacement: relocation will move it */
	put32(bytes + 1, (u32)(target - a->replacement - 5));
	return 5;
}

static void apply_new(struct patcher *p, const struct alternative *a, bool chosen)
{
	u8 *place = image_write_at(p->image, a->place, a->length), bytes[MAX_PATCH + 1];

	memcpy(bytes, place, a->length);
	if (chosen) {
		u32 used = a->replacement_length;

		if (used)
			memcpy(bytes, image_at(p->image, a->replacement, used), used);
		patch_copied(p, a);
		if (a->flags & FLAG_CALL)
			used = direct_call(p, a, place, bytes);
		patch_plain(p, a->place + used, a->length - used);
		memset(bytes + used, OP_NOP, a->length - used);
		relocate_new(p, a, bytes);
	}
	optimize_new(bytes, a->length);
	memcpy(place, bytes, a->length);
}

bool alternatives_are_newer(const struct image *kernel)
{
	const struct layout *layout = kernel_layout(kernel);

	return layout && layout->newer;
}

/* ------------------------------------------------------------------------------------------------------------------ */

bool patch_alternatives(struct patcher *p, const struct table *table, unsigned bug_word)
{
	struct image *image = p->image;
	struct features features;
	const struct layout *layout = image == p->kernel ? NULL : kernel_layout(p->kernel);
	u64 applied = 0, left_out = 0, count;

	if (!layout)
		layout = find_layout(image, table);
	if (!layout) {
		report_line(&image->report, ".altinstructions: layout not known, nothing replaced");
		return false;
	}
	features_of(p->cpu, bug_word, layout->newer, &features);
	count = table->size / layout->size;
	for (u64 i = 0; i < count; i++) {
		struct alternative a, next;
		bool chosen;

		layout->read(table, i * layout->size, &a);
		if (!is_sound(image, &a)) {
			left_out++;
			continue;
		}
		/* newer: alternatives of one place are padded alike */
		for (u64 k = i + 1; layout->newer && k < count && k <= i + MAX_NESTED; k++) {
			layout->read(table, k * layout->size, &next);
			if (next.place != a.place || !is_sound(image, &next))
				break;
			if (next.length > a.length)
				a.length = next.length;
		}
		chosen = features_have(&features, a.feature) != !!(a.flags & FLAG_NOT);
		applied += chosen;
		(layout->newer ? apply_new : apply_old)(p, &a, chosen);
	}
	report_line(&image->report, ".altinstructions: %llu entries of %u bytes, %llu replaced, %llu not understood",
		    (unsigned long long)count, layout->size, (unsigned long long)applied, (unsigned long long)left_out);
	return true;
}
