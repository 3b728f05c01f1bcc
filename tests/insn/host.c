#include "host.h"

#include <string.h>

#include "native.h"

/* Runs `code`, which ends with int3. */
static void try(const u8 *code, unsigned length, bool legacy, struct outcome *out)
{
	static struct insn_case c;

	memset(&c, 0, sizeof(c));
	memcpy(c.code, code, length);
	c.length = length;
	c.start = CODE;
	c.legacy = legacy;
	c.gpr[RCX] = BIT(32);
	c.gpr[RSP] = STACK + 0x800;
	c.gpr[RSI] = DATA + 1;
	c.gpr[RDI] = DATA + 1;
	vectors_default(c.vectors);
	native_run(&c, out);
}

const struct host *host(void)
{
	static const u8 hint[] = {0x0f, 0x0d, 0xc0, 0xcc}, sha[] = {0x0f, 0x38, 0xc8, 0x06, 0xcc} /* sha1nexte */,
			string[] = {0x67, 0xf3, 0xac, 0xcc} /* rep lodsb */,
			segment[] = {0x6a, 0xff, 0x58, 0x06, 0xcc}; /* push -1; pop eax; push es */
	static struct outcome out;
	static struct host found;
	static bool known;

	if (known)
		return &found;
	try(hint, sizeof(hint), false, &out);
	found.hints_undefined = out.vector == VEC_UD;
	try(sha, sizeof(sha), false, &out);
	found.sha_unaligned = out.vector == VEC_BP;
	try(string, sizeof(string), false, &out);
	found.keeps_high_rcx = out.gpr[RCX] != 0;
	if (native_init_legacy()) {
		try(segment, sizeof(segment), true, &out);
		found.pushes_words = out.memory.bytes[image_offset(STACK + 0x7fe)] == 0xff;
	}
	known = true;
	return &found;
}
