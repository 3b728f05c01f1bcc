#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "host.h"
#include "machine.h"
#include "mem/mem.h"
#include "native.h"
#include "x86/insn.h"

#define BATCH 64u

#define REPORTS_MAX 40u /* failed cases that are told in full */
#define RUNS        4u  /* CPL 0 and 3, each twice */

#define UNCOUNTED (~0ULL) /* interp left the host's way */

struct checked {
	struct insn_case c;
	u64 number;
	struct outcome native;
	u64 instructions[2];   /* as interp counts them, by CPL */
	u8 failed[VARIANTS];   /* bit for each run */
	char difference[1024]; /* of the first failure */
};

static struct checked *batch;
static unsigned reports;
static u64 ran;

static const char *const gpr_names[GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
						 "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

struct text {
	char *at, *end;
};

static void __attribute__((format(printf, 2, 3))) say(struct text *t, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int length = vsnprintf(t->at, (size_t)(t->end - t->at), format, arguments);
	va_end(arguments);
	if (length > 0)
		t->at += length < t->end - t->at ? length : t->end - t->at - 1;
}

/* The arithmetic flags that code from `rip` on may depend on. Of the others translations owe nothing to a fault. */
static u64 live_flags(const struct insn_case *c, const struct outcome *out)
{
	struct insn insn[CODE_MAX];
	unsigned count = 0;
	u64 live = FLAGS_ARITH, rip = out->rip;

	if (!c->linear || rip - c->start >= c->length ||
	    memcmp(out->memory.bytes + image_offset(c->start), c->code, c->length) != 0)
		return 0;
	for (u64 at = rip - c->start; at < c->length && count < CODE_MAX; at += insn[count - 1].length) {
		if (insn_decode(&insn[count++], c->code + at, (unsigned)(c->length - at)) < 0)
			break;
	}
	while (count-- > 0)
		live = insn_live_flags(&insn[count], (u16)live);
	return live;
}

/* Which byte of a masked access is reported is the processor's affair. */
static u64 cr2_unknown(const struct insn *insn)
{
	return insn->class == INSN_GATHER || (insn->class == INSN_STRING && insn->unit != UNIT_NONE) ? PAGE_SIZE - 1
												     : 0;
}

static bool is_compare(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
		return insn->class == INSN_STRING;
	default:
		return false;
	}
}

static bool is_scan(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_SCASB:
	case ZYDIS_MNEMONIC_SCASW:
	case ZYDIS_MNEMONIC_SCASD:
	case ZYDIS_MNEMONIC_SCASQ:
		return true;
	default:
		return false;
	}
}

/* May reading `size` bytes at `address` have raised the exception that `out` tells? */
static bool may_fault_at(const struct outcome *out, u64 address, unsigned size)
{
	if (out->vector == VEC_PF)
		return out->cr2 - address < size;
	return out->vector == VEC_GP && !vcpu_canonical(address);
}

/* The processor's affair: where both operands of a comparison of strings fault, which of them is reported. */
static bool other_operand_first(const struct insn *insn, const struct outcome *want, const struct outcome *got)
{
	u64 source = want->gpr[RSI], destination = want->gpr[RDI];
	unsigned size = insn->opsize;

	if (!is_compare(insn) || want->rip != got->rip)
		return false;
	if (insn->seg & INSN_SEG_LEGACY)
		return want->vector == VEC_PF && got->vector == VEC_PF;
	if (insn->seg != SEG_DS || insn->addrsize != 8)
		return false;
	return (may_fault_at(want, source, size) && may_fault_at(got, destination, size)) ||
	       (may_fault_at(want, destination, size) && may_fault_at(got, source, size));
}

/* The processor's affair: whether a repeated comparison that faults half-way has set the flags (AMD) or not (Intel). */
static bool faulted_repeating(const struct insn *insn, u8 vector)
{
	return insn->rep && (is_compare(insn) || is_scan(insn)) && (vector == VEC_PF || vector == VEC_GP);
}

/* A string instruction in the case that may have begun with ecx 0 and rcx not 0. */
static bool repeats_by_ecx(const struct insn_case *c)
{
	struct insn insn;

	for (unsigned at = 0; at < c->length; at += insn.length) {
		if (insn_decode(&insn, c->code + at, c->length - at) < 0)
			return false;
		if (insn.rep && insn.addrsize == 4)
			return true;
	}
	return false;
}

/*
 * The processor's affair, where a gather faults: whether elements of the mask that remain are widened to all ones
 * (Intel) or left as they are but for their sign (AMD), and whether what lies above the operands in mask
 * and destination is cleared (Intel) or left (AMD).
 */
static bool same_after_gather(const struct insn *insn, unsigned reg, const u8 *want, const u8 *got)
{
	const u8 *modrm = insn->bytes + insn->modrm_at, *vex = insn->bytes + insn->opcode_at - 1;
	unsigned destination = (*modrm >> 3 & 7u) | (~vex[-1] >> 4 & 8u), mask = ~vex[0] >> 3 & 15u;
	unsigned bytes = vex[0] & 4 ? 32 : 16, element = vex[0] & 0x80 ? 8 : 4;

	if (vex[1] & 1 && element == 4) /* indices of 64 bits, elements of 32 */
		bytes /= 2;

	if (reg == destination)
		return memcmp(want, got, bytes) == 0;
	if (reg != mask)
		return memcmp(want, got, 32) == 0;
	for (unsigned i = element - 1; i < bytes; i += element) {
		if ((want[i] ^ got[i]) & 0x80)
			return false;
	}
	return true;
}

/*
 * The processor's affair: whether the x87 state is that of MMX after an MMX instruction that faulted, and whether
 * MXCSR has the flags of a conversion whose store faulted.
 */
static void compare_vectors(struct text *t, const struct outcome *native, const struct vectors *got,
			    const struct insn *last)
{
	const struct vectors *want = &native->vectors;
	bool in_mmx = last->unit == UNIT_MMX;
	u32 mxcsr = native->vector == VEC_PF && last->unit == UNIT_AVX && last->mem_write ? ~0x3fu : ~0u;

	if (!in_mmx && (want->fcw != got->fcw || want->fsw != got->fsw || want->ftw != got->ftw))
		say(t, "  x87: fcw %04x fsw %04x ftw %02x, want %04x %04x %02x\n", got->fcw, got->fsw, got->ftw,
		    want->fcw, want->fsw, want->ftw);
	if ((want->mxcsr ^ got->mxcsr) & mxcsr)
		say(t, "  mxcsr %08x, want %08x\n", got->mxcsr, want->mxcsr);
	for (unsigned i = 0; i < 8 && !in_mmx; i++) {
		if (memcmp(want->st[i], got->st[i], 10) != 0)
			say(t, "  st%u differs\n", i);
	}
	for (unsigned i = 0; i < 16; i++) {
		u64 w[4], g[4];

		memcpy(w, want->ymm[i], sizeof(w));
		memcpy(g, got->ymm[i], sizeof(g));
		bool same = native->vector == VEC_PF && insn_has_vsib(last)
				    ? same_after_gather(last, i, want->ymm[i], got->ymm[i])
				    : memcmp(w, g, sizeof(w)) == 0;
		if (!same)
			say(t, "  ymm%u %016llx %016llx %016llx %016llx\n   want %016llx %016llx %016llx %016llx\n", i,
			    (unsigned long long)g[3], (unsigned long long)g[2], (unsigned long long)g[1],
			    (unsigned long long)g[0], (unsigned long long)w[3], (unsigned long long)w[2],
			    (unsigned long long)w[1], (unsigned long long)w[0]);
	}
}

/* Two bytes at offset `open` may be any; -1: none may. */
static void compare_memory(struct text *t, const struct image *want, const struct image *got, s64 open)
{
	unsigned shown = 0;

	if (memcmp(want, got, sizeof(*want)) == 0)
		return;
	for (unsigned i = 0; i < REGIONS && shown < 4; i++) {
		for (unsigned at = 0; at < regions[i].pages * PAGE_SIZE && shown < 4; at++) {
			unsigned offset = regions[i].first * (unsigned)PAGE_SIZE + at;

			if (want->bytes[offset] == got->bytes[offset] || offset == open || offset == open + 1)
				continue;
			say(t, "  [%#llx] %02x, want %02x\n", (unsigned long long)regions[i].address + at,
			    got->bytes[offset], want->bytes[offset]);
			shown++;
		}
	}
}

static enum insn_code code_of(const struct insn_case *c)
{
	return c->legacy ? CODE_32 : CODE_64;
}

/* The instruction that faulted, or int3. */
static void decode_last(const struct insn_case *c, const struct outcome *out, struct insn *insn)
{
	s64 at = image_offset(out->rip - (out->vector == VEC_BP));

	if (at < 0 || insn_decode_code(insn, out->memory.bytes + at, INSN_MAX, code_of(c)) < 0)
		memset(insn, 0, sizeof(*insn));
}

static bool is_sha(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_SHA1MSG1:
	case ZYDIS_MNEMONIC_SHA1MSG2:
	case ZYDIS_MNEMONIC_SHA1NEXTE:
	case ZYDIS_MNEMONIC_SHA1RNDS4:
	case ZYDIS_MNEMONIC_SHA256MSG1:
	case ZYDIS_MNEMONIC_SHA256MSG2:
	case ZYDIS_MNEMONIC_SHA256RNDS2:
		return true;
	default:
		return false;
	}
}

/*
 * Known: where a misaligned vector operand also faults otherwise, translations raise the other exception (the check of
 * the address comes first); and an x87 store that would store nothing, because of an unmasked exception, faults at an
 * address that cannot be written; a fault of the operand comes before a pending x87 exception. Translations find out
 * only at its target that a branch went to a non-canonical address, so that #GP reports the target, after a return has
 * released its stack. SHA instructions want alignment from the guest's processor, though not from every host's.
 */
static bool known_difference(const struct insn_case *c, const struct variant *variant, const struct outcome *want,
			     const struct outcome *got)
{
	struct insn insn;

	if (variant->live && want->vector == VEC_GP && got->vector == VEC_GP && want->error == got->error &&
	    !vcpu_canonical(got->rip))
		return true;
	if (want->vector == VEC_MF && want->rip == got->rip && (got->vector == VEC_PF || got->vector == VEC_GP))
		return true;
	decode_last(c, got, &insn);
	if (host()->sha_unaligned && is_sha(&insn) && got->vector == VEC_GP && insn.has_mem)
		return true;
	if (got->vector != VEC_PF)
		return false;
	/* a large bit offset reaches, natively, what this process itself has there */
	if (insn.class == INSN_BITSTRING && got->cr2 - VCPU_ADDRESS < 0x70000000)
		return true;
	if (insn.unit == UNIT_X87 && insn.mem_write)
		return want->vectors.fsw & 0x80 && want->rip > got->rip;
	return variant->live && want->vector == VEC_GP && want->rip == got->rip && insn.mem_size >= 16;
}

/* The processor's affair, or that of a hypervisor below: whether int1 leaves RIP behind itself. */
static bool known_int1(const struct insn *insn, const struct outcome *want, const struct outcome *got)
{
	return insn->helper == HELP_int1 && insn->class == INSN_HELPER && want->vector == VEC_DB &&
	       got->vector == VEC_DB && got->rip == want->rip + insn->length;
}

/*
 * The processor's affair: whether a bit string whose address is canonical only with its segment's base, and not the
 * process's, is #GP (AMD) or #PF.
 */
static bool known_bit_string(const struct insn *insn, const struct outcome *want, const struct outcome *got)
{
	return insn->class == INSN_BITSTRING && insn->seg != SEG_DS && want->vector == VEC_GP && !want->error &&
	       got->vector == VEC_PF && got->rip == want->rip && got->cr2 >> 47;
}

/* What the instruction before the end leaves undefined (SDM vol. 2A, AAA to AAS, DAA, DAS): decimal arithmetic. */
static u64 undefined_flags(const struct insn_case *c)
{
	struct insn insn;

	if (!c->legacy || insn_decode_code(&insn, c->code, c->length, CODE_32) < 0 || insn.class != INSN_LEGACY)
		return 0;
	switch (insn.bytes[insn.opcode_at]) {
	case 0x27:
	case 0x2f:
		return FLAG_OF;
	case 0x37:
	case 0x3f:
		return FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF;
	case 0xd4:
	case 0xd5:
		return FLAG_OF | FLAG_AF | FLAG_CF;
	default:
		return 0;
	}
}

/* Where the host's push of a segment register wrote two bytes that the guest's does not write, or -1. */
static s64 unlike_guest(const struct insn_case *c, const struct outcome *want)
{
	struct insn insn;

	if (!c->legacy || insn_decode_code(&insn, c->code, c->length, CODE_32) < 0 || insn.class != INSN_HELPER ||
	    insn.helper != HELP_push_seg || insn.opsize != 4 || want->vector != VEC_BP || !host_pushes_all_bytes())
		return -1;
	return image_offset((u32)want->gpr[RSP] + 2);
}

/* Appends every difference to `text`. */
static void compare(struct text *t, const struct checked *k, const struct variant *variant, unsigned cpl,
		    const struct outcome *got)
{
	const struct outcome *want = &k->native;
	u64 flags = FLAGS_ARITH | FLAG_DF;
	u32 error = want->error;
	struct insn last;

	decode_last(&k->c, want, &last);
	if (got->crash) {
		say(t, "  the VMM failed: %s\n", got->crash);
		return;
	}
	if (known_difference(&k->c, variant, want, got))
		return;
	if (want->vector == VEC_PF && !cpl)
		error &= ~PFEC_USER;
	/* this process and the host's kernel may have something there */
	if (want->vector == VEC_PF && image_offset(want->cr2) < 0)
		error &= ~PFEC_P;
	if (other_operand_first(&last, want, got) || known_int1(&last, want, got) || known_bit_string(&last, want, got))
		;
	else if (want->vector != got->vector || want->rip != got->rip || error != got->error)
		say(t, "  exception %u error %#x at %#llx, want %u %#x at %#llx\n", got->vector, got->error,
		    (unsigned long long)got->rip, want->vector, error, (unsigned long long)want->rip);
	else if (want->vector == VEC_PF && (want->cr2 ^ got->cr2) & ~cr2_unknown(&last))
		say(t, "  cr2 %#llx, want %#llx\n", (unsigned long long)got->cr2, (unsigned long long)want->cr2);
	for (unsigned i = 0; i < GPR_COUNT; i++) {
		if (i == RCX && got->gpr[RCX] == (u32)want->gpr[RCX] && host()->keeps_high_rcx && repeats_by_ecx(&k->c))
			continue;
		if (want->gpr[i] != got->gpr[i])
			say(t, "  %s %#llx, want %#llx\n", gpr_names[i], (unsigned long long)got->gpr[i],
			    (unsigned long long)want->gpr[i]);
	}
	if (variant->live && !variant->exact && want->vector != VEC_BP)
		flags = live_flags(&k->c, want) | FLAG_DF;
	if (faulted_repeating(&last, want->vector))
		flags = FLAG_DF;
	flags &= ~undefined_flags(&k->c);
	if ((want->flags ^ got->flags) & flags)
		say(t, "  flags %#llx, want %#llx\n", (unsigned long long)(got->flags & flags),
		    (unsigned long long)(want->flags & flags));
	compare_vectors(t, want, &got->vectors, &last);
	/* the store of an 80-bit number that faults half-way may have stored the first half */
	if (want->vector != VEC_PF || last.unit != UNIT_X87 || !last.mem_write)
		compare_memory(t, &want->memory, &got->memory, unlike_guest(&k->c, want));
	if (variant->counted && k->instructions[cpl != 0] != UNCOUNTED &&
	    got->instructions != k->instructions[cpl != 0])
		say(t, "  %llu instructions counted, interp %llu\n", (unsigned long long)got->instructions,
		    (unsigned long long)k->instructions[cpl != 0]);
}

/* Code that has overwritten itself may end at what only a kernel may execute. */
static bool is_privileged(const struct insn_case *c, const struct outcome *native)
{
	struct insn last;

	decode_last(c, native, &last);
	return native->vector == VEC_GP && last.class == INSN_HELPER;
}

/* Another run will do no better than one that crashed; those that hang take long. */
static bool check_one(struct checked *k, unsigned variant, unsigned run)
{
	static struct outcome got;
	unsigned cpl = run & 1 ? 3 : 0;
	char difference[sizeof(k->difference)];
	struct text t = {difference, difference + sizeof(difference)};

	if (!cpl && (k->c.legacy || is_privileged(&k->c, &k->native)))
		return true;
	machine_run(&k->c, cpl, run & 2, &got);
	ran++;
	if (!variants[variant].live) /* interp counts the instruction that ends the run as well */
		k->instructions[cpl != 0] = !got.crash && known_difference(&k->c, &variants[variant], &k->native, &got)
						    ? UNCOUNTED
						    : got.instructions - 1;
	compare(&t, k, &variants[variant], cpl, &got);
	if (t.at == difference)
		return true;
	if (!k->difference[0])
		memcpy(k->difference, difference, sizeof(difference));
	k->failed[variant] |= (u8)(1 << run);
	return !got.crash;
}

static void print_code(const struct insn_case *c, const struct outcome *native)
{
	struct insn insn;
	char text[128];

	decode_last(c, native, &insn);
	insn_format(&insn, native->rip, text, sizeof(text));
	if (native->vector != VEC_BP)
		printf("  natively exception %u at %#llx: %s\n", native->vector, (unsigned long long)native->rip, text);

	for (unsigned at = 0; at < c->length; at += insn.length) {
		if (insn_decode_code(&insn, c->code + at, c->length - at, code_of(c)) < 0)
			break;
		insn_format(&insn, c->start + at, text, sizeof(text));
		printf("  %#llx  ", (unsigned long long)c->start + at);
		for (unsigned i = 0; i < insn.length; i++)
			printf("%02x", insn.bytes[i]);
		printf("  %s\n", text);
	}
}

/* One failed case: where it fails, what differs first, and what it started from. */
static void report(const struct checked *k)
{
	static const char *const runs[RUNS] = {"0", "3", "0 again", "3 again"};

	static char last[sizeof(k->c.name)];

	if (strcmp(last, k->c.name) == 0 || reports++ >= REPORTS_MAX)
		return;
	memcpy(last, k->c.name, sizeof(last));
	printf("case %llu: %s\n ", (unsigned long long)k->number, k->c.name);
	for (unsigned i = 0; i < VARIANTS; i++) {
		if (!k->failed[i])
			continue;
		printf(" [%s, CPL", variants[i].name);
		for (unsigned run = 0; run < RUNS; run++)
			printf("%s%s", k->failed[i] >> run & 1 ? " " : "", k->failed[i] >> run & 1 ? runs[run] : "");
		printf("]");
	}
	printf("\n%s", k->difference);
	print_code(&k->c, &k->native);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		printf("%s%3s %#018llx%s", i % 4 ? " " : "  ", gpr_names[i], (unsigned long long)k->c.gpr[i],
		       i % 4 == 3 ? "\n" : "");
	printf("  flags %#llx fs %#llx gs %#llx%s\n", (unsigned long long)k->c.flags, (unsigned long long)k->c.fs_base,
	       (unsigned long long)k->c.gs_base, k->c.cold ? " cold" : "");
	fflush(stdout);
}

static unsigned check_batch(unsigned count)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < count; i++)
		native_run(&batch[i].c, &batch[i].native);
	for (unsigned variant = 0; variant < VARIANTS; variant++) {
		if (variants[variant].live && variants[variant].lifted != !!machine_lift)
			continue;
		machine_select(&variants[variant]);
		for (unsigned i = 0; i < count; i++) {
			unsigned run = 0, last = variants[variant].live ? RUNS : 2;

			while (run < last && check_one(&batch[i], variant, run))
				run++;
		}
	}
	for (unsigned i = 0; i < count; i++) {
		if (!batch[i].difference[0])
			continue;
		report(&batch[i]);
		failed++;
	}
	return failed;
}

unsigned check_cases(case_maker *maker, void *opaque, u64 first, u64 count)
{
	unsigned failed = 0;
	bool more = true;

	machine_take_signals();
	if (!batch)
		batch = calloc(BATCH, sizeof(*batch));
	if (!batch)
		abort();
	for (u64 number = first; more && number < first + count;) {
		unsigned filled = 0;

		while (filled < BATCH && number < first + count) {
			struct checked *k = &batch[filled];

			memset(k, 0, offsetof(struct checked, native));
			memset(k->failed, 0, sizeof(k->failed));
			k->difference[0] = 0;
			k->number = number;
			more = maker(opaque, number, &k->c);
			if (!more)
				break;
			number++;
			filled++;
		}
		failed += check_batch(filled);
	}
	return failed;
}

u64 check_ran(void)
{
	return ran;
}
