/* Makes kallsyms tables as scripts/kallsyms.c of Linux does, without its compression: each token is a letter. */
#ifndef AVANT_TESTS_SYNTH_KALLSYMS_H
#define AVANT_TESTS_SYNTH_KALLSYMS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/types.h"

enum synth_order { SYNTH_OFFSETS_FIRST, SYNTH_OFFSETS_LAST };
enum synth_form { SYNTH_PERCPU, SYNTH_RELATIVE, SYNTH_ABSOLUTE };

#define SYNTH_TEXT     0xffffffff81000000ULL
#define SYNTH_TEXT_END 0xffffffff81100000ULL
#define SYNTH_SYMBOLS  700u
#define SYNTH_LONG     300u /* number of a symbol with a name of 200 letters, whose length takes two bytes */
#define SYNTH_THUNK    600u /* number of __x86_return_thunk */

struct synth_kallsyms {
	u8 bytes[1 << 17];
	u64 size;
	u64 token_index, markers; /* where they are */
};

static inline void synth_put(struct synth_kallsyms *k, u64 value, unsigned size)
{
	memcpy(k->bytes + k->size, &value, size);
	k->size += size;
}

static inline void synth_align(struct synth_kallsyms *k)
{
	while (k->size % 8)
		k->bytes[k->size++] = 0;
}

static inline void synth_name(unsigned i, char *name)
{
	if (i == SYNTH_LONG) {
		memset(name, 'x', 200);
		name[200] = 0;
	} else if (i == SYNTH_THUNK) {
		strcpy(name, "__x86_return_thunk");
	} else {
		sprintf(name, "symbol_%u", i);
	}
}

static inline u64 synth_address(unsigned i, enum synth_form form)
{
	return form == SYNTH_PERCPU && i < 5 ? i * 64 : SYNTH_TEXT + 16 * (u64)i;
}

static inline void synth_addresses(struct synth_kallsyms *k, enum synth_form form)
{
	for (unsigned i = 0; i < SYNTH_SYMBOLS; i++) {
		u64 address = synth_address(i, form);

		if (form == SYNTH_ABSOLUTE)
			synth_put(k, address, 8);
		else if (form == SYNTH_RELATIVE)
			synth_put(k, address - SYNTH_TEXT, 4);
		else
			synth_put(k, address < SYNTH_TEXT ? address : SYNTH_TEXT - address - 1, 4);
	}
	synth_align(k);
	if (form != SYNTH_ABSOLUTE)
		synth_put(k, SYNTH_TEXT, 8);
}

/* Something that looks a little like tables, then the tables, then something else. */
static inline void synth_kallsyms(struct synth_kallsyms *k, enum synth_order order, enum synth_form form)
{
	u32 markers[SYNTH_SYMBOLS / 256 + 1], start;
	u16 index[256];
	char name[256];

	memset(k, 0, sizeof(*k));
	for (unsigned i = 0; i < 2000; i++)
		synth_put(k, i * 3, 2);
	for (unsigned i = 0; i < 64; i++)
		synth_put(k, 1000 + i, 8);
	synth_align(k);
	if (order == SYNTH_OFFSETS_FIRST)
		synth_addresses(k, form);
	synth_put(k, SYNTH_SYMBOLS, 4);
	synth_align(k);
	start = (u32)k->size;
	for (unsigned i = 0; i < SYNTH_SYMBOLS; i++) {
		unsigned length;

		if (i % 256 == 0)
			markers[i / 256] = (u32)k->size - start;
		synth_name(i, name);
		length = (unsigned)strlen(name) + 1;
		if (length > 127) {
			synth_put(k, (length & 0x7f) | 0x80, 1);
			synth_put(k, length >> 7, 1);
		} else {
			synth_put(k, length, 1);
		}
		synth_put(k, i % 2 ? 'd' : 'T', 1);
		memcpy(k->bytes + k->size, name, length - 1);
		k->size += length - 1;
	}
	synth_align(k);
	k->markers = k->size;
	for (unsigned i = 0; i < ARRAY_SIZE(markers); i++)
		synth_put(k, markers[i], 4);
	synth_align(k);
	/* what newer kernels have here: numbers of symbols, sorted by name */
	for (unsigned i = 0; order == SYNTH_OFFSETS_FIRST && i < SYNTH_SYMBOLS; i++)
		synth_put(k, i, 3);
	synth_align(k);
	start = (u32)k->size;
	for (unsigned i = 0; i < 256; i++) {
		index[i] = (u16)(k->size - start);
		if ((i >= '0' && i <= '9') || (i >= 'A' && i <= 'z'))
			synth_put(k, i, 1);
		synth_put(k, 0, 1);
	}
	synth_align(k);
	k->token_index = k->size;
	memcpy(k->bytes + k->size, index, sizeof(index));
	k->size += sizeof(index);
	if (order == SYNTH_OFFSETS_LAST)
		synth_addresses(k, form);
	for (unsigned i = 0; i < 100; i++)
		synth_put(k, i * 7, 8);
}

#endif
