#include "host.h"

#include <string.h>

#include "native.h"

/* Runs `code`, which ends with int3. */
static void try_as(const u8 *code, unsigned length, bool legacy, struct outcome *out)
{
	static struct insn_case c;

	memset(&c, 0, sizeof(c));
	c.legacy = legacy;
	c.gpr[RSP] = STACK + PAGE_SIZE / 2;
	memcpy(c.code, code, length);
	c.length = length;
	c.start = CODE;
	c.gpr[RCX] = BIT(32);
	c.gpr[RSI] = DATA + 1;
	c.gpr[RDI] = DATA + 1;
	vectors_default(c.vectors);
	native_run(&c, out);
}

static void try(const u8 *code, unsigned length, struct outcome *out)
{
	try_as(code, length, false, out);
}

bool host_pushes_all_bytes(void)
{
	static const u8 push[] = {0x68, 0xff, 0xff, 0xff, 0xff /* push -1 */, 0x58 /* pop eax */, 0x1e /* push ds */,
				  0x58, 0xcc};
	static struct outcome out;
	static int all = -1;

	if (all < 0) {
		try_as(push, sizeof(push), true, &out);
		all = out.gpr[RAX] >> 16 == 0;
	}
	return all;
}

const struct host *host(void)
{
	static const u8 hint[] = {0x0f, 0x0d, 0xc0, 0xcc}, sha[] = {0x0f, 0x38, 0xc8, 0x06, 0xcc} /* sha1nexte */,
			string[] = {0x67, 0xf3, 0xac, 0xcc}; /* rep lodsb */
	static struct outcome out;
	static struct host found;
	static bool known;

	if (known)
		return &found;
	try(hint, sizeof(hint), &out);
	found.hints_undefined = out.vector == VEC_UD;
	try(sha, sizeof(sha), &out);
	found.sha_unaligned = out.vector == VEC_BP;
	try(string, sizeof(string), &out);
	found.keeps_high_rcx = out.gpr[RCX] != 0;
	known = true;
	return &found;
}
