/*
 * The kernel's own symbol table (scripts/kallsyms.c of Linux), found by its structure: nothing names it in an image.
 *
 *	names    for each symbol its length (one byte, or two in ULEB128 form) and that many token numbers
 *	markers  u32 for each 256th symbol: where it starts in names
 *	tokens   256 zero-terminated strings; a name is its tokens' strings, one after the other, behind a type letter
 *	index    u16 for each token: where its string starts
 *	offsets  s32 for each symbol, relative to a base; or, in old kernels, u64 addresses
 *
 * The count of symbols is before names. Where offsets lie differs (before the count, or behind the index), so both are
 * tried. Each table has to agree with another: a wrong guess does not survive.
 */
#include <stdlib.h>

#include "internal.h"

#define TOKENS      256u
#define ALIGN       8u
#define MIN_SYMBOLS 64u
#define MAX_SYMBOLS (1u << 23)
#define MAX_TOKEN   512u        /* bytes of a token's string */
#define MAX_NAMES   (64u << 20) /* bytes of all names; a kernel has 4 MB */
#define MAX_TRIES   16u         /* things that look like tables of tokens */
#define MAX_STEPS   (1u << 28)  /* names looked at while searching: hostile images must not take forever */

struct tables {
	const u8 *bytes;
	u64 size;
	u64 token_table, token_index; /* offsets into bytes */
	u64 count_at, names, names_end, markers;
	u32 count;
	u32 steps;
};

/* --- tokens ------------------------------------------------------------------------------------------------------- */

static bool is_index(const struct tables *t, u64 at)
{
	u32 before = get16(t->bytes + at);

	if (before != 0)
		return false;
	for (unsigned i = 1; i < TOKENS; i++) {
		u32 next = get16(t->bytes + at + 2 * i);

		if (next <= before || next - before > MAX_TOKEN)
			return false;
		before = next;
	}
	return true;
}

/* Does a table of strings start at `at` that the index at token_index describes? Then the last string ends before it.
 */
static bool is_token_table(const struct tables *t, u64 at)
{
	const u8 *index = t->bytes + t->token_index;
	u64 last = at + get16(index + 2 * (TOKENS - 1));

	for (unsigned i = 1; i < TOKENS; i++) {
		u64 start = at + get16(index + 2 * (i - 1)), end = at + get16(index + 2 * i) - 1;

		if (end >= t->token_index || t->bytes[end] != 0 || memchr(t->bytes + start, 0, end - start))
			return false;
	}
	if (last >= t->token_index)
		return false;
	return memchr(t->bytes + last, 0, t->token_index - last) != NULL;
}

/* The bytes that no symbol holds have empty tokens, letters their own. */
static bool has_letters(const struct tables *t)
{
	unsigned same = 0;

	for (unsigned i = 'a'; i <= 'z'; i++) {
		const u8 *text = t->bytes + t->token_table + get16(t->bytes + t->token_index + 2 * i);

		same += text[0] == i && text[1] == 0;
	}
	return same >= 20;
}

static bool find_tokens(struct tables *t, u64 from)
{
	for (u64 at = from; at + 2 * TOKENS <= t->size; at += ALIGN) {
		u64 strings;

		if (get16(t->bytes + at) != 0 || !is_index(t, at))
			continue;
		t->token_index = at;
		strings = get16(t->bytes + at + 2 * (TOKENS - 1));
		for (u64 back = 0; back <= MAX_TOKEN; back += ALIGN) {
			u64 length = align_up(strings + 1, ALIGN) + back;

			if (length > at)
				break;
			t->token_table = at - length;
			if (is_token_table(t, t->token_table) && has_letters(t))
				return true;
		}
	}
	return false;
}

/* --- names -------------------------------------------------------------------------------------------------------- */

/* The length of the name at `at`, which then is where its tokens start. 0 if there is none. */
static u32 name_length(const struct tables *t, u64 *at)
{
	u32 length;

	if (*at >= t->size)
		return 0;
	length = t->bytes[(*at)++];
	if (length & 0x80) {
		if (*at >= t->size || t->bytes[*at] & 0x80)
			return 0;
		length = (length & 0x7f) | (u32)t->bytes[(*at)++] << 7;
	}
	return within(*at, length, t->size) ? length : 0;
}

/* Before the byte form with ULEB128, lengths above 127 were one byte. Then a wrong step here fails at the markers. */
static bool walk_names(struct tables *t)
{
	u64 at = t->names;

	for (u32 i = 0; i < t->count; i++) {
		u32 length = name_length(t, &at);

		if (!length || ++t->steps > MAX_STEPS)
			return false;
		at += length;
	}
	t->names_end = at;
	return true;
}

static bool check_markers(struct tables *t)
{
	u64 at = t->names;
	u32 length;

	t->markers = align_up(t->names_end, ALIGN);
	if (!within(t->markers, ((u64)t->count + 255) / 256 * 4, t->size))
		return false;
	for (u32 i = 0; i < t->count; i++) {
		if (i % 256 == 0 && get32(t->bytes + t->markers + i / 256 * 4) != at - t->names)
			return false;
		length = name_length(t, &at);
		at += length;
	}
	return true;
}

static bool find_names(struct tables *t)
{
	for (u64 at = 0; at + 2 * ALIGN <= t->token_table && t->steps <= MAX_STEPS; at += ALIGN) {
		t->count = get32(t->bytes + at);
		if (t->count < MIN_SYMBOLS || t->count > MAX_SYMBOLS || get32(t->bytes + at + 4) != 0)
			continue;
		t->count_at = at;
		t->names = at + ALIGN;
		if (2 * (u64)t->count <= t->token_table - t->names && walk_names(t) && t->names_end <= t->token_table &&
		    check_markers(t))
			return true;
	}
	return false;
}

/* --- addresses ---------------------------------------------------------------------------------------------------- */

/* How an address is made from what the table holds. */
enum form {
	FORM_PERCPU,   /* s32: not negative: absolute (per-CPU); negative: base - 1 - offset */
	FORM_RELATIVE, /* u32 to add to the base */
	FORM_ABSOLUTE, /* u64 */
	FORMS
};

static u64 address_of(const u8 *table, u32 i, u64 base, enum form form)
{
	s64 offset;

	if (form == FORM_ABSOLUTE)
		return get64(table + 8 * (u64)i);
	if (form == FORM_RELATIVE)
		return base + get32(table + 4 * (u64)i);
	offset = (s32)get32(table + 4 * (u64)i);
	return offset >= 0 ? (u64)offset : base - 1 - (u64)offset;
}

/* Symbols are sorted by address (absolute ones first), and many are code. */
static bool plausible(const u8 *table, u32 count, u64 base, enum form form, u64 text, u64 text_end)
{
	u32 inside = 0, backward = 0;
	u64 before = 0;

	for (u32 i = 0; i < count; i++) {
		u64 address = address_of(table, i, base, form);

		inside += address - text < text_end - text;
		backward += address < before;
		before = address;
	}
	return inside > count / 8 && backward <= count / 256;
}

struct addresses {
	u64 table, base_at; /* offsets into bytes */
	u64 base;
	enum form form;
};

static bool try_offsets(const struct tables *t, u64 table, u64 base_at, u64 text, u64 text_end, struct addresses *found)
{
	u64 base;

	if (!within(table, 4 * (u64)t->count, t->size) || !within(base_at, 8, t->size))
		return false;
	base = get64(t->bytes + base_at);
	for (enum form form = FORM_PERCPU; form <= FORM_RELATIVE; form++)
		if (plausible(t->bytes + table, t->count, base, form, text, text_end)) {
			*found = (struct addresses){table, base_at, base, form};
			return true;
		}
	return false;
}

static bool find_addresses(const struct tables *t, u64 text, u64 text_end, struct addresses *found)
{
	u64 offsets = align_up(4 * (u64)t->count, ALIGN), addresses = 8 * (u64)t->count;
	u64 behind = t->token_index + 2 * TOKENS;

	if (t->count_at >= offsets + 8 &&
	    try_offsets(t, t->count_at - 8 - offsets, t->count_at - 8, text, text_end, found))
		return true;
	if (try_offsets(t, behind, behind + offsets, text, text_end, found))
		return true;
	if (t->count_at >= addresses &&
	    plausible(t->bytes + t->count_at - addresses, t->count, 0, FORM_ABSOLUTE, text, text_end)) {
		*found = (struct addresses){t->count_at - addresses, 0, 0, FORM_ABSOLUTE};
		return true;
	}
	return false;
}

/* --- decoding ----------------------------------------------------------------------------------------------------- */

static const char *token(const struct tables *t, u8 number)
{
	return (const char *)t->bytes + t->token_table + get16(t->bytes + t->token_index + 2 * number);
}

/* Writes all names if `out` is not NULL. Returns the bytes they need; more than MAX_NAMES: too many. */
static u64 expand(const struct tables *t, char *out)
{
	u64 at = t->names, total = 0;

	for (u32 i = 0; i < t->count && total <= MAX_NAMES; i++) {
		u32 length = name_length(t, &at);

		for (u32 k = 0; k < length; k++) {
			const char *text = token(t, t->bytes[at + k]);
			u64 n = strlen(text);

			if (out)
				memcpy(out + total, text, n);
			total += n;
		}
		if (out)
			out[total] = 0;
		total++;
		at += length;
	}
	return total;
}

/* The names are those of nm: a type letter first. */
static bool decode(struct kallsyms *kallsyms, const struct tables *t, const struct addresses *addresses)
{
	const char *name;

	kallsyms->names_size = expand(t, NULL);
	kallsyms->names = kallsyms->names_size > MAX_NAMES ? NULL : malloc(kallsyms->names_size + 1);
	if (!kallsyms->names)
		return false;
	expand(t, kallsyms->names);
	name = kallsyms->names;
	for (u32 i = 0; i < t->count; i++) {
		u64 length = strlen(name);
		bool code = length > 1 && strchr("tTwW", name[0]);

		if (length > 1)
			collect(&kallsyms->symbols,
				address_of(t->bytes + addresses->table, i, addresses->base, addresses->form),
				code ? ENTRY_SYMBOL : 0, name + 1);
		name += length + 1;
	}
	return !kallsyms->symbols.failed;
}

bool kallsyms_read(struct kallsyms *kallsyms, const u8 *bytes, u64 size, u64 address, u64 text, u64 text_end,
		   const char **reason)
{
	struct tables t = {.bytes = bytes, .size = size};
	struct addresses addresses;
	unsigned tries = 0;

	*kallsyms = (struct kallsyms){0};
	/* something that only looks like an index may come first */
	*reason = "no token table";
	for (u64 from = 0; tries < MAX_TRIES && find_tokens(&t, from); from = t.token_index + ALIGN, tries++) {
		*reason = "no names that their markers agree with";
		if (!find_names(&t))
			continue;
		*reason = "no addresses that belong to the names";
		if (!find_addresses(&t, text, text_end, &addresses))
			continue;
		*reason = "more names than memory is used for";
		if (!decode(kallsyms, &t, &addresses)) {
			kallsyms_release(kallsyms);
			return false;
		}
		kallsyms->count = t.count;
		kallsyms->token_table = address + t.token_table;
		kallsyms->token_index = address + t.token_index;
		kallsyms->name_table = address + t.names;
		kallsyms->markers = address + t.markers;
		kallsyms->offsets = address + addresses.table;
		return true;
	}
	return false;
}

void kallsyms_release(struct kallsyms *kallsyms)
{
	free(kallsyms->symbols.entry);
	free(kallsyms->names);
	*kallsyms = (struct kallsyms){0};
}
