/* insn_reencode: exact encodings, then everything that can be encoded, re-encoded and decoded again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "x86/encode.h"
#include "x86/insn.h"

#define B(...)                                                                                                         \
	(const u8[INSN_MAX + 1])                                                                                       \
	{                                                                                                              \
		__VA_ARGS__                                                                                            \
	}

static u64 seed = 0x9e3779b97f4a7c15ULL;
static unsigned tried, identical;

static u64 next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void fail_at(const struct insn *insn, const u8 *out, unsigned length, const char *what)
{
	char text[128], hex[2 * (2 * INSN_MAX) * 3], *p = hex;

	insn_format(insn, 0, text, sizeof(text));
	for (unsigned i = 0; i < insn->length; i++)
		p += sprintf(p, "%02x ", insn->bytes[i]);
	p += sprintf(p, "-> ");
	for (unsigned i = 0; i < length; i++)
		p += sprintf(p, "%02x ", out[i]);
	fail_msg("%s (%s): %s", hex, text, what);
}

static unsigned encode(const u8 *bytes, const struct reencode *how, u8 *out)
{
	struct insn insn;

	assert_int_equal(insn_decode(&insn, bytes, INSN_MAX), 0);
	return insn_reencode(&insn, how, out);
}

/* Exactly these bytes come out; none (length 0) if it must be refused. */
static void expect(const u8 *bytes, const struct reencode *how, unsigned length, const u8 *expected)
{
	u8 out[INSN_MAX] = {0};

	assert_int_equal(encode(bytes, how, out), length);
	assert_memory_equal(out, expected, length);
}

static void test_exact(void **state)
{
	struct reencode id = REENCODE_IDENTITY, how = REENCODE_IDENTITY;

	(void)state;
	/* registers */
	how.host_reg[RSP] = R11;
	expect(B(0x48, 0x89, 0xe0), &how, 3, B(0x4c, 0x89, 0xd8)); /* mov rax, rsp -> r11 */
	expect(B(0x48, 0x81, 0xec, 1, 2, 3, 4), &how, 7, B(0x49, 0x81, 0xeb, 1, 2, 3, 4));
	expect(B(0x31, 0xe0), &how, 3, B(0x44, 0x31, 0xd8));             /* REX appears */
	expect(B(0x40, 0x88, 0xe0), &how, 3, B(0x44, 0x88, 0xd8));       /* spl -> r11b */
	expect(B(0x88, 0xe0), &how, 2, B(0x88, 0xe0));                   /* ah is not spl */
	expect(B(0xbc, 1, 2, 3, 4), &how, 6, B(0x41, 0xbb, 1, 2, 3, 4)); /* mov esp, imm32 */
	how.host_reg[RBX] = RSI;
	expect(B(0x88, 0xd8), &how, 3, B(0x40, 0x88, 0xf0));             /* bl -> sil needs a REX */
	expect(B(0x0f, 0xb6, 0xc3), &how, 4, B(0x40, 0x0f, 0xb6, 0xc6)); /* movzx eax, bl */
	expect(B(0x0f, 0xb6, 0xd8), &how, 3, B(0x0f, 0xb6, 0xf0));       /* movzx ebx, al: no byte register 4-7 */
	expect(B(0xb3, 9), &how, 3, B(0x40, 0xb6, 9));                   /* mov bl, 9 */
	expect(B(0x0f, 0xcb), &how, 2, B(0x0f, 0xce));                   /* bswap */
	expect(B(0x00, 0xfb), &how, 0, NULL);                            /* add bl, bh: bh moved */
	expect(B(0x00, 0xe3), &how, 0, NULL);                            /* add sil, ah has no encoding */
	how = (struct reencode)REENCODE_IDENTITY;
	how.host_reg[R9] = RDI;
	expect(B(0xc4, 0xc2, 0x30, 0xf2, 0xc1), &how, 5, B(0xc4, 0xe2, 0x40, 0xf2, 0xc7)); /* andn eax, r9d, r9d */
	expect(B(0x66, 0x49, 0x0f, 0x6e, 0xc1), &how, 5, B(0x66, 0x48, 0x0f, 0x6e, 0xc7)); /* movq xmm0, r9 */
	expect(B(0x66, 0x45, 0x0f, 0x6f, 0xc1), &how, 5, B(0x66, 0x45, 0x0f, 0x6f, 0xc1)); /* xmm8, xmm9 stay */
	/* prefixes */
	expect(B(0xf2, 0xf0, 0x01, 0x00), &id, 3, B(0xf0, 0x01, 0x00)); /* HLE is dropped */
	expect(B(0xf3, 0x89, 0xc0), &id, 2, B(0x89, 0xc0));
	expect(B(0x2e, 0x66, 0xf3, 0x0f, 0xb8, 0xc1), &id, 5, B(0x66, 0xf3, 0x0f, 0xb8, 0xc1));
	expect(B(0x66, 0xff, 0xe0), &id, 2, B(0xff, 0xe0));
	expect(B(0x67, 0x8d, 0x04, 0x08), &id, 4, B(0x67, 0x8d, 0x04, 0x08));
	/* addresses */
	how = (struct reencode)REENCODE_IDENTITY;
	how.address = REENCODE_REPLACE;
	how.base = R10;
	expect(B(0x65, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0), &how, 3, B(0x49, 0x8b, 0x02));
	expect(B(0x67, 0x8b, 0x44, 0x8b, 8), &how, 3, B(0x41, 0x8b, 0x02));
	expect(B(0x8b, 0x05, 1, 2, 3, 4), &how, 3, B(0x41, 0x8b, 0x02)); /* RIP-relative */
	expect(B(0xc7, 0x05, 1, 2, 3, 4, 5, 6, 7, 8), &how, 7, B(0x41, 0xc7, 0x02, 5, 6, 7, 8));
	expect(B(0xc5, 0xf8, 0x28, 0x00), &how, 5, B(0xc4, 0xc1, 0x78, 0x28, 0x02)); /* VEX grows */
	expect(B(0xc5, 0x7e, 0x6f, 0x00), &how, 5, B(0xc4, 0x41, 0x7e, 0x6f, 0x02));
	expect(B(0xa0, 1, 2, 3, 4, 5, 6, 7, 8), &how, 3, B(0x41, 0x8a, 0x02));
	expect(B(0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8), &how, 3, B(0x49, 0x8b, 0x02));
	expect(B(0xa2, 1, 2, 3, 4, 5, 6, 7, 8), &how, 3, B(0x41, 0x88, 0x02));
	expect(B(0x66, 0xa3, 1, 2, 3, 4, 5, 6, 7, 8), &how, 4, B(0x66, 0x41, 0x89, 0x02));
	expect(B(0x88, 0x20), &how, 0, NULL);          /* ah beside r10 */
	expect(B(0x8b, 0xc1), &how, 2, B(0x8b, 0xc1)); /* no memory operand: nothing to replace */
	how.base = R12;
	expect(B(0x8b, 0x00), &how, 4, B(0x41, 0x8b, 0x04, 0x24));
	how.base = R13;
	expect(B(0x8b, 0x00), &how, 4, B(0x41, 0x8b, 0x45, 0));
	how.base = RBP;
	how.disp = 127;
	expect(B(0x88, 0x20), &how, 3, B(0x88, 0x65, 127));
	how.disp = 128;
	expect(B(0x8b, 0x00), &how, 6, B(0x8b, 0x85, 128, 0, 0, 0));
	how.index = R8;
	how.disp = -128;
	expect(B(0x8b, 0x00), &how, 5, B(0x42, 0x8b, 0x44, 0x05, 0x80));
	how.index = RSP;
	expect(B(0x8b, 0x00), &how, 0, NULL);
	how.base = how.index = INSN_NO_REG;
	how.disp = 0x10000000;
	expect(B(0x8b, 0x00), &how, 7, B(0x8b, 0x04, 0x25, 0, 0, 0, 0x10));
	how.segment = SEG_GS;
	expect(B(0xf0, 0x01, 0x00), &how, 9, B(0xf0, 0x65, 0x01, 0x04, 0x25, 0, 0, 0, 0x10));
	expect(B(0xc5, 0xf8, 0x28, 0x00), &how, 10, B(0x65, 0xc5, 0xf8, 0x28, 0x04, 0x25, 0, 0, 0, 0x10));
	/* renamed addresses */
	how = (struct reencode)REENCODE_IDENTITY;
	how.host_reg[RSP] = R11;
	expect(B(0x8b, 0x44, 0x24, 8), &how, 4, B(0x41, 0x8b, 0x43, 8));
	expect(B(0x48, 0x8d, 0x04, 0xcc), &how, 4, B(0x49, 0x8d, 0x04, 0xcb));
	expect(B(0x8b, 0x04, 0xcd, 1, 2, 3, 4), &how, 7, B(0x8b, 0x04, 0xcd, 1, 2, 3, 4));
	expect(B(0x8b, 0x05, 1, 2, 3, 4), &how, 0, NULL);
	expect(B(0xa1, 1, 2, 3, 4, 5, 6, 7, 8), &how, 0, NULL);
	expect(B(0xa1, 1, 2, 3, 4, 0, 0, 0, 0), &how, 7, B(0x8b, 0x04, 0x25, 1, 2, 3, 4));
}

static u16 rename_mask(const struct reencode *how, u16 mask)
{
	u16 renamed = 0;

	for (unsigned r = 0; r < GPR_COUNT; r++) {
		if (mask & BIT(r))
			renamed |= (u16)BIT(how->host_reg[r]);
	}
	return renamed;
}

/* Is there a reason why this has no encoding? */
static bool may_refuse(const struct insn *insn, const struct reencode *how)
{
	if (insn->gpr_high)
		return true;
	if (!insn->has_mem || how->address == REENCODE_REPLACE)
		return false;
	return insn->base == INSN_RIP || insn->disp != (s32)insn->disp ||
	       (insn->index != INSN_NO_REG && how->host_reg[insn->index] == RSP);
}

static void check(const struct insn *insn, const struct reencode *how)
{
	struct insn again;
	struct reencode id = REENCODE_IDENTITY;
	u8 out[INSN_MAX], twice[INSN_MAX];
	unsigned length = insn_reencode(insn, how, out);
	u8 base = insn->base, index = insn->index;
	bool implicit = insn->class == INSN_CALL_IND || insn->class == INSN_STACK; /* rsp: not renamed */

	if (!length) {
		if (!may_refuse(insn, how))
			fail_at(insn, out, 0, "refused");
		return;
	}
	if (insn_decode(&again, out, length) || again.length != length)
		fail_at(insn, out, length, "wrong length");
	if (again.mnemonic != insn->mnemonic || again.class != insn->class || again.unit != insn->unit)
		fail_at(insn, out, length, "another instruction");
	if (again.opsize != insn->opsize || again.imm != insn->imm || again.mandatory != insn->mandatory ||
	    again.prefix_lock != insn->prefix_lock)
		fail_at(insn, out, length, "size, immediate or prefix");
	if (again.flags_read != insn->flags_read || again.flags_write != insn->flags_write ||
	    again.flags_kill != insn->flags_kill)
		fail_at(insn, out, length, "flags");
	for (unsigned i = 0; i < ARRAY_SIZE(insn->op); i++) {
		struct operand expected = insn->op[i];

		if (expected.kind == OPERAND_GPR && !expected.high)
			expected.reg = how->host_reg[expected.reg];
		if (memcmp(&expected, &again.op[i], sizeof(expected)))
			fail_at(insn, out, length, "operand");
	}
	if (again.has_mem != insn->has_mem || again.mem_size != insn->mem_size || again.mem_read != insn->mem_read ||
	    again.mem_write != insn->mem_write)
		fail_at(insn, out, length, "memory access");
	if (!insn->has_mem) {
		if (!implicit && again.gpr_read != rename_mask(how, insn->gpr_read))
			fail_at(insn, out, length, "registers read");
	} else if (how->address == REENCODE_REPLACE) {
		if (again.base != how->base || again.index != how->index || again.scale != 1 ||
		    again.disp != how->disp || again.addrsize != 8)
			fail_at(insn, out, length, "new address");
	} else {
		base = base == INSN_NO_REG ? base : how->host_reg[base];
		index = index == INSN_NO_REG ? index : how->host_reg[index];
		if (again.base != base || again.index != index ||
		    (index != INSN_NO_REG && again.scale != insn->scale) || again.disp != insn->disp ||
		    again.addrsize != insn->addrsize)
			fail_at(insn, out, length, "address");
		if (!implicit && again.gpr_read != rename_mask(how, insn->gpr_read))
			fail_at(insn, out, length, "registers read");
	}
	if (!implicit && again.gpr_write != rename_mask(how, insn->gpr_write))
		fail_at(insn, out, length, "registers written");
	if (insn->has_mem && again.seg != (how->segment ? how->segment : SEG_DS))
		fail_at(insn, out, length, "segment");

	/* what comes out is canonical: it re-encodes to itself */
	id.segment = how->segment;
	if (insn_reencode(&again, &id, twice) != length || memcmp(out, twice, length))
		fail_at(insn, out, length, "not stable");
}

/* A permutation that leaves alone what instructions name implicitly. */
static void shuffle(struct reencode *how)
{
	static const u8 free_regs[] = {RSP, RBP, RSI, R8, R9, R10, R11, R12, R13, R14, R15};
	u8 left[sizeof(free_regs)];

	memcpy(left, free_regs, sizeof(left));
	for (unsigned i = 0; i < sizeof(left); i++) {
		unsigned j = i + (unsigned)(next_random() % (sizeof(left) - i));
		u8 swap = left[j];

		left[j] = left[i];
		left[i] = swap;
		how->host_reg[free_regs[i]] = swap;
	}
}

static void check_bytes(const u8 *bytes)
{
	struct reencode how = REENCODE_IDENTITY;
	struct insn insn;
	u8 out[INSN_MAX];

	assert_int_equal(insn_decode(&insn, bytes, INSN_MAX), 0);
	if (insn.nop || (insn.class != INSN_COPY && insn.class != INSN_BITSTRING && insn.class != INSN_JMP_IND &&
			 insn.class != INSN_CALL_IND && insn.class != INSN_STACK))
		return;
	tried++;
	if (insn_reencode(&insn, &how, out) == insn.length && !memcmp(out, bytes, insn.length))
		identical++;
	check(&insn, &how);
	how.segment = next_random() & 1 ? SEG_FS : SEG_GS;
	check(&insn, &how);
	how.segment = 0;
	shuffle(&how);
	check(&insn, &how);
	how.address = REENCODE_REPLACE;
	how.base = (u8)(next_random() % GPR_COUNT);
	how.index = (u8)(next_random() % GPR_COUNT);
	if (how.index == RSP || next_random() % 3 == 0)
		how.index = INSN_NO_REG;
	how.disp = (s32)next_random() >> (next_random() & 31);
	check(&insn, &how);
	how.base = how.index = INSN_NO_REG;
	check(&insn, &how);
}

static void test_legacy(void **state)
{
	static const char *const prefixes[] = {"",         "\x66",     "\x67",     "\xf2",     "\xf3",     "\xf0",
					       "\x64",     "\x41",     "\x40",     "\x48",     "\x4f",     "\x66\x48",
					       "\xf2\x4f", "\xf3\x48", "\x66\xf2", "\x66\xf0", "\xf3\x66", "\xc5\xf8",
					       "\xc5\x79", "\xc5\xff", "\xc5\x31"};
	static const char *const maps[] = {"", "\x0f", "\x0f\x38", "\x0f\x3a"};
	u8 bytes[64];

	(void)state;
	tried = identical = 0;
	for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++) {
		for (unsigned m = 0; m < ARRAY_SIZE(maps); m++) {
			unsigned at = (unsigned)snprintf((char *)bytes, sizeof(bytes), "%s%s", prefixes[p], maps[m]);

			for (unsigned opcode = 0; opcode < 256; opcode++) {
				bytes[at] = (u8)opcode;
				for (unsigned modrm = 0; modrm < 256; modrm += m < 2 ? 1 : 5) {
					for (unsigned i = at + 1; i < sizeof(bytes); i++)
						bytes[i] = (u8)next_random();
					bytes[at + 1] = (u8)modrm;
					check_bytes(bytes);
				}
			}
		}
	}
	print_message("%u of %u re-encoded identically\n", identical, tried);
	assert_true(tried > 100000);
	assert_true(identical > tried / 3);
}

static void test_vex(void **state)
{
	u8 bytes[64] = {0xc4};

	(void)state;
	tried = identical = 0;
	for (unsigned n = 0; n < 600000; n++) {
		for (unsigned i = 1; i < sizeof(bytes); i++)
			bytes[i] = (u8)next_random();
		bytes[1] = (u8)((bytes[1] & 0xe0) | (1 + n % 3));
		if (n & 1)
			bytes[2] |= 0x78; /* vvvv unused */
		check_bytes(bytes);
	}
	assert_true(tried > 10000);
	assert_true(identical > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_legacy),
		cmocka_unit_test(test_vex),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
