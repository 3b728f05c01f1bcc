/*
 * The processor as oracle: copied instructions run natively, and what they touch is compared with what insn_decode
 * said: size and direction of the memory access, general registers and flags read and written.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>

#include "x86/encode.h"
#include "x86/insn.h"

struct registers {
	u64 gpr[GPR_COUNT];
	u64 flags;
};

/* All in the low 2 GiB, so that the thunk can name it by disp32. */
struct arena {
	_Alignas(64) u8 vectors[4096]; /* XSAVE area: x87, SSE, AVX */
	struct registers in, out;
	u64 host_sp;
	_Alignas(4096) u8 code[4096];
	_Alignas(4096) u8 data[4096]; /* followed by a page that faults */
	u8 guard[4096];
	u8 read_only[4096];
};

static struct arena *arena;
static jmp_buf escape;
static volatile int caught;
static unsigned failures, executed;
static u64 seed = 88172645463325252ULL;

static u64 next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void on_signal(int number)
{
	caught = number;
	_longjmp(escape, 1);
}

static u32 low(const void *p)
{
	return (u32)(uintptr_t)p;
}

static u8 *put(u8 *p, unsigned count, const u8 *bytes)
{
	memcpy(p, bytes, count);
	return p + count;
}
#define PUT(p, ...) put(p, sizeof((u8[]){__VA_ARGS__}), (u8[]){__VA_ARGS__})

static u8 *put32(u8 *p, u32 value)
{
	memcpy(p, &value, 4);
	return p + 4;
}

/* mov r64, [abs32] (0x8b) or mov [abs32], r64 (0x89) */
static u8 *put_move(u8 *p, u8 opcode, unsigned reg, const void *at)
{
	p = PUT(p, (u8)(0x48 | (reg >> 3) << 2), opcode, (u8)((reg & 7) << 3 | 4), 0x25);
	return put32(p, low(at));
}

static void build_thunk(const u8 *bytes, unsigned length)
{
	u8 *p = arena->code;

	p = PUT(p, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57); /* push rbx rbp r12 r13 r14 r15 */
	p = put_move(p, 0x89, RSP, &arena->host_sp);
	p = PUT(p, 0xb8, 7, 0, 0, 0, 0x31, 0xd2); /* mov eax, 7; xor edx, edx */
	p = PUT(p, 0x0f, 0xae, 0x2c, 0x25);       /* xrstor [vectors] */
	p = put32(p, low(arena->vectors));
	p = PUT(p, 0xff, 0x34, 0x25); /* push [flags] */
	p = put32(p, low(&arena->in.flags));
	p = PUT(p, 0x9d); /* popfq */
	for (unsigned r = 0; r < GPR_COUNT; r++)
		p = put_move(p, 0x8b, r, &arena->in.gpr[r]);
	p = put(p, length, bytes);
	for (unsigned r = 0; r < GPR_COUNT; r++)
		p = put_move(p, 0x89, r, &arena->out.gpr[r]);
	p = put_move(p, 0x8b, RSP, &arena->host_sp);
	p = PUT(p, 0x9c, 0x8f, 0x04, 0x25); /* pushfq; pop [flags] */
	p = put32(p, low(&arena->out.flags));
	p = PUT(p, 0xdb, 0xe3); /* fninit */
	PUT(p, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
}

/* Runs the thunk; 0 or the signal it ended with. */
static int run_thunk(void)
{
	caught = 0;
	if (!_setjmp(escape))
		((void (*)(void))(uintptr_t)arena->code)();
	return caught;
}

static int setup(void **state)
{
	(void)state;
	arena = mmap(NULL, sizeof(*arena), PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
		     -1, 0);
	if (arena == MAP_FAILED)
		return -1;
	mprotect(arena->guard, 4096, PROT_NONE);
	mprotect(arena->read_only, 4096, PROT_READ);
	/* FCW, MXCSR with all exceptions masked, arbitrary XMM and YMM contents */
	arena->vectors[0] = 0x7f;
	arena->vectors[1] = 0x03;
	arena->vectors[24] = 0x80;
	arena->vectors[25] = 0x1f;
	arena->vectors[512] = 7;
	for (unsigned i = 32; i < 416; i++)
		arena->vectors[i] = (u8)next_random();
	for (unsigned i = 576; i < 832; i++)
		arena->vectors[i] = (u8)next_random();
	return 0;
}

/* The thunk needs XRSTOR with AVX; on a processor without BMI and LZCNT (both came with AVX2
 * at the latest) lzcnt and tzcnt would silently be bsr and bsf. */
static void need_features(void)
{
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi"))
		skip();
}

/* Within the test: cmocka sets handlers of its own before each, on the stack that the thunk has given away. */
static void take_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER};
	static u8 alternate[65536];
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};

	sigaltstack(&stack, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGILL, &action, NULL);
	sigaction(SIGTRAP, &action, NULL);
}

static void complain(const struct insn *insn, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(const struct insn *insn, const char *format, ...)
{
	char text[128];
	va_list args;

	if (++failures > 200)
		return;
	insn_format(insn, 0, text, sizeof(text));
	for (unsigned i = 0; i < insn->length; i++)
		fprintf(stderr, "%02x ", insn->bytes[i]);
	fprintf(stderr, "(%s): ", text);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* With the memory operand at `address`. */
static bool build_at(const struct insn *insn, const void *address)
{
	struct reencode how = REENCODE_IDENTITY;
	u8 bytes[INSN_MAX];
	unsigned length;

	if (insn->has_mem && insn->mem_size) {
		how.address = REENCODE_REPLACE;
		how.disp = (s32)low(address);
	}
	length = insn_reencode(insn, &how, bytes);
	if (!length)
		return false;
	build_thunk(bytes, length);
	return true;
}

static void randomize(struct registers *registers, u16 gprs, u16 flags)
{
	for (unsigned r = 0; r < GPR_COUNT; r++) {
		if (gprs & BIT(r))
			registers->gpr[r] = next_random() >> (next_random() & 32) << (next_random() & 3);
	}
	registers->flags = (registers->flags & ~(u64)flags) | (next_random() & flags) | FLAG_FIXED;
}

static void check_memory(const struct insn *insn)
{
	int result;

	randomize(&arena->in, 0xffff, FLAGS_ARITH);
	build_at(insn, arena->guard - insn->mem_size);
	result = run_thunk();
	if (result == SIGSEGV || result == SIGBUS)
		complain(insn, "touches more than %u bytes", insn->mem_size);
	build_at(insn, arena->guard - insn->mem_size + 1);
	result = run_thunk();
	/* movsxd with 66 loads 2 bytes on Intel and 4 on AMD: the larger size stands */
	if (result != SIGSEGV && !(insn->mnemonic == ZYDIS_MNEMONIC_MOVSXD && insn->opsize == 2))
		complain(insn, "touches less than %u bytes", insn->mem_size);
	build_at(insn, arena->read_only + 2048);
	result = run_thunk();
	if (insn->mem_write != (result == SIGSEGV))
		complain(insn, "mem_write is %d", insn->mem_write);
}

static u16 undefined_flags(const struct insn *insn)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction zi;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (ZYAN_FAILED(ZydisDecoderDecodeInstruction(&decoder, NULL, insn->bytes, insn->length, &zi)) || !zi.cpu_flags)
		return 0;
	return zi.cpu_flags->undefined & FLAGS_ARITH;
}

static void check_flow(const struct insn *insn)
{
	u16 compared = (u16)(insn->flags_write & ~undefined_flags(insn));
	struct registers first;
	u8 before[64], after[64], *data = arena->data + 2048;

	for (unsigned trial = 0; trial < 8; trial++) {
		for (unsigned i = 0; i < sizeof(before); i++)
			before[i] = (u8)next_random();
		if (!build_at(insn, data))
			return;
		randomize(&arena->in, 0xffff, FLAGS_ARITH);
		memcpy(data, before, sizeof(before));
		if (run_thunk())
			continue; /* #DE, or not a feature of this processor */
		executed++;
		first = arena->out;
		memcpy(after, data, sizeof(after));
		for (unsigned r = 0; r < GPR_COUNT; r++) {
			if (!(insn->gpr_write & BIT(r)) && first.gpr[r] != arena->in.gpr[r])
				complain(insn, "writes register %u", r);
		}
		if ((first.flags ^ arena->in.flags) & FLAGS_ARITH & ~insn->flags_write)
			complain(insn, "writes flags %x",
				 (unsigned)((first.flags ^ arena->in.flags) & FLAGS_ARITH & ~insn->flags_write));
		if (insn->has_mem && !insn->mem_write && memcmp(before, after, sizeof(after)))
			complain(insn, "writes memory");

		/* What is not an input must not matter. */
		randomize(&arena->in, (u16)~insn->gpr_read, (u16)(FLAGS_ARITH & ~insn->flags_read));
		memcpy(data, before, sizeof(before));
		if (run_thunk()) {
			complain(insn, "faults depending on what is not read");
			continue;
		}
		for (unsigned r = 0; r < GPR_COUNT; r++) {
			if (insn->gpr_write & BIT(r) && first.gpr[r] != arena->out.gpr[r])
				complain(insn, "register %u depends on what is not read", r);
		}
		if ((first.flags ^ arena->out.flags) & compared)
			complain(insn, "flags %x depend on what is not read",
				 (unsigned)((first.flags ^ arena->out.flags) & compared));
		if (insn->mem_write && memcmp(after, data, sizeof(after)))
			complain(insn, "memory depends on what is not read");
	}
}

static void check_bytes(const u8 *bytes)
{
	struct insn insn;

	if (insn_decode(&insn, bytes, INSN_MAX) || insn.class != INSN_COPY || insn.nop)
		return;
	/* an absolute or RIP-relative address cannot be renamed, and rsp would have to point somewhere */
	if (!build_at(&insn, arena->data))
		return;
	randomize(&arena->in, 0xffff, FLAGS_ARITH);
	if (run_thunk() == SIGILL)
		return;
	if (insn.has_mem && insn.mem_size)
		check_memory(&insn);
	check_flow(&insn);
}

/* Memory [rcx + 0x10]; registers rcx, rbx (or r9, r11 …) with every reg field. */
static void check_forms(u8 *bytes, unsigned at)
{
	static const u8 forms[] = {0x41, 0xc1, 0xc3};

	for (unsigned reg = 0; reg < 8; reg++) {
		for (unsigned f = 0; f < sizeof(forms); f++) {
			bytes[at] = (u8)(forms[f] | reg << 3);
			bytes[at + 1] = 0x10;
			bytes[at + 2] = (u8)next_random();
			check_bytes(bytes);
		}
	}
}

static void test_legacy(void **state)
{
	static const char *const prefixes[] = {"",         "\x66",     "\xf2",     "\xf3", "\x48",
					       "\x66\x48", "\xf2\x48", "\xf3\x48", "\x4d", "\xf0"};
	static const char *const maps[] = {"", "\x0f", "\x0f\x38", "\x0f\x3a"};
	u8 bytes[32] = {0};

	(void)state;
	need_features();
	take_signals();
	for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++) {
		for (unsigned m = 0; m < ARRAY_SIZE(maps); m++) {
			unsigned at = (unsigned)snprintf((char *)bytes, sizeof(bytes), "%s%s", prefixes[p], maps[m]);

			for (unsigned opcode = 0; opcode < 256; opcode++) {
				bytes[at] = (u8)opcode;
				for (unsigned i = at + 1; i < INSN_MAX; i++)
					bytes[i] = (u8)next_random();
				check_forms(bytes, at + 1);
			}
		}
	}
	assert_int_equal(failures, 0);
	assert_true(executed > 10000);
}

static void test_vex(void **state)
{
	u8 bytes[32] = {0xc4};

	(void)state;
	need_features();
	take_signals();
	failures = executed = 0;
	for (unsigned map = 1; map <= 3; map++) {
		for (unsigned low_bits = 0; low_bits < 16; low_bits++) {
			for (unsigned opcode = 0; opcode < 256; opcode++) {
				bytes[1] = (u8)(0xe0 | map);
				/* W, L and pp; vvvv unused, then naming register 6 */
				bytes[2] = (u8)(0x78 | (low_bits & 8) << 4 | (low_bits & 7));
				bytes[3] = (u8)opcode;
				for (unsigned i = 4; i < INSN_MAX; i++)
					bytes[i] = (u8)next_random();
				check_forms(bytes, 4);
				bytes[2] ^= 0x30;
				check_forms(bytes, 4);
			}
		}
	}
	assert_int_equal(failures, 0);
	assert_true(executed > 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_legacy), cmocka_unit_test(test_vex)};

	return cmocka_run_group_tests(tests, setup, NULL);
}
