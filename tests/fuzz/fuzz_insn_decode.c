/*
 * Fuzzes the instruction decoder and the re-encoder. Build by hand, for example:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_insn_decode.c \
 *		runtime/x86/[a-z]*.c -lZydis -o fuzz_insn_decode
 */
#include <stdlib.h>
#include <string.h>

#include "x86/encode.h"
#include "x86/insn.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* Whatever comes out of the re-encoder decodes to the same instruction. */
static void reencode(const struct insn *insn, const struct reencode *how)
{
	struct insn again;
	u8 out[INSN_MAX];
	unsigned length = insn_reencode(insn, how, out);

	if (!length)
		return;
	if (length > INSN_MAX || insn_decode(&again, out, length) || again.length != length ||
	    again.mnemonic != insn->mnemonic || again.class != insn->class || again.mem_size != insn->mem_size)
		abort();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct reencode how = REENCODE_IDENTITY;
	struct insn insn, part;
	char text[64];

	if (insn_decode(&insn, data, (unsigned)size)) {
		if (size >= INSN_MAX)
			abort();
		return 0;
	}
	if (!insn.length || insn.length > INSN_MAX || insn.length > size || memcmp(insn.bytes, data, insn.length))
		abort();
	if (insn.flags_kill & ~insn.flags_write)
		abort();
	/* exactly its own bytes are needed */
	if (insn_decode(&part, data, insn.length) || memcmp(&part, &insn, sizeof(insn)))
		abort();
	if (insn_decode(&part, data, insn.length - 1u) != -1)
		abort();
	insn_format(&insn, 0, text, sizeof(text));
	if (insn.class != INSN_COPY || insn.nop)
		return 0;
	reencode(&insn, &how);
	how.host_reg[RSP] = R11;
	reencode(&insn, &how);
	how.address = REENCODE_REPLACE;
	how.base = R10;
	reencode(&insn, &how);
	return 0;
}
