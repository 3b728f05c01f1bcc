/* insn_decode: known instructions field by field, then properties of everything that can be encoded, then noise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>

#include "x86/insn.h"

#define B(...)                                                                                                         \
	(const u8[INSN_MAX + 1])                                                                                       \
	{                                                                                                              \
		__VA_ARGS__                                                                                            \
	}
#define M(r) ((u16)BIT(r))
#define ALL  ((u16)FLAGS_ARITH)
#define CF   ((u16)FLAG_CF)
#define ZF   ((u16)FLAG_ZF)
#define OF   ((u16)FLAG_OF)

static u64 seed = 0x2545f4914f6cdd1dULL;

static u64 next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static struct insn decode(const u8 *bytes)
{
	struct insn insn;

	assert_int_equal(insn_decode(&insn, bytes, INSN_MAX), 0);
	return insn;
}

/* Says which row of a table it was. */
static void expect(const u8 *bytes, const char *what, s64 actual, s64 expected)
{
	struct insn insn;
	char text[128];

	if (actual == expected)
		return;
	insn = decode(bytes);
	insn_format(&insn, 0, text, sizeof(text));
	fail_msg("%02x %02x %02x %02x %02x (%s): %s is 0x%llx, not 0x%llx", bytes[0], bytes[1], bytes[2], bytes[3],
		 bytes[4], text, what, (long long)actual, (long long)expected);
}

static void test_classes(void **state)
{
	const struct {
		const u8 *bytes;
		unsigned length;
		enum insn_class class;
	} rows[] = {
		{B(0x0f, 0x01, 0xe8), 3, INSN_COPY},                        /* serialize */
		{B(0x48, 0x89, 0xd8), 3, INSN_COPY},                        /* mov rax, rbx */
		{B(0xeb, 0xfe), 2, INSN_JMP},                               /* jmp $ */
		{B(0x66, 0xe9, 1, 2, 3, 4), 6, INSN_JMP},                   /* Intel ignores 66 */
		{B(0x66, 0xe8, 1, 2, 3, 4), 6, INSN_CALL},                  /* likewise */
		{B(0xf2, 0xe8, 1, 2, 3, 4), 6, INSN_CALL},                  /* bnd call */
		{B(0x74, 0x10), 2, INSN_JCC},                               /* jz */
		{B(0x2e, 0x0f, 0x8f, 1, 0, 0, 0), 7, INSN_JCC},             /* jg with a hint */
		{B(0xe3, 0), 2, INSN_JRCXZ},                                /* jrcxz */
		{B(0x67, 0xe3, 0), 3, INSN_JRCXZ},                          /* jecxz */
		{B(0xe0, 0), 2, INSN_JRCXZ},                                /* loopne */
		{B(0xe1, 0), 2, INSN_JRCXZ},                                /* loope */
		{B(0xe2, 0), 2, INSN_JRCXZ},                                /* loop */
		{B(0xff, 0xd0), 2, INSN_CALL_IND},                          /* call rax */
		{B(0x3e, 0xff, 0xe0), 3, INSN_JMP_IND},                     /* notrack jmp rax */
		{B(0xff, 0x24, 0xc5, 0, 0, 0, 0), 7, INSN_JMP_IND},         /* jmp [rax*8] */
		{B(0xf3, 0xc3), 2, INSN_RET},                               /* rep ret */
		{B(0xc2, 8, 0), 3, INSN_RET},                               /* ret 8 */
		{B(0x55), 1, INSN_STACK},                                   /* push rbp */
		{B(0x8f, 0x00), 2, INSN_STACK},                             /* pop [rax] */
		{B(0x68, 1, 2, 3, 4), 5, INSN_STACK},                       /* push imm32 */
		{B(0xc9), 1, INSN_STACK},                                   /* leave */
		{B(0xc8, 0x10, 0, 1), 4, INSN_STACK},                       /* enter 16, 1 */
		{B(0xf3, 0x48, 0xa5), 3, INSN_STRING},                      /* rep movsq */
		{B(0xa5), 1, INSN_STRING},                                  /* movsd, the string one */
		{B(0xf2, 0xa7), 2, INSN_STRING},                            /* repne cmpsd, the string one */
		{B(0xf2, 0x0f, 0x10, 0xc1), 4, INSN_COPY},                  /* movsd xmm0, xmm1 */
		{B(0xd7), 1, INSN_STRING},                                  /* xlat */
		{B(0x0f, 0xf7, 0xc1), 3, INSN_STRING},                      /* maskmovq */
		{B(0x66, 0x0f, 0xf7, 0xc1), 4, INSN_STRING},                /* maskmovdqu */
		{B(0xc5, 0xf9, 0xf7, 0xc1), 4, INSN_STRING},                /* vmaskmovdqu */
		{B(0x0f, 0xa3, 0x08), 3, INSN_BITSTRING},                   /* bt [rax], ecx */
		{B(0xf0, 0x48, 0x0f, 0xab, 0x08), 5, INSN_BITSTRING},       /* lock bts [rax], rcx */
		{B(0x0f, 0xa3, 0xc8), 3, INSN_COPY},                        /* bt eax, ecx */
		{B(0x0f, 0xba, 0x28, 5), 4, INSN_COPY},                     /* bts dword [rax], 5 */
		{B(0xc4, 0xe2, 0x71, 0x90, 0x04, 0x10), 6, INSN_GATHER},    /* vpgatherdd xmm0, [rax+xmm2], xmm1 */
		{B(0xc4, 0xe2, 0x79, 0x2c, 0x00), 5, INSN_GATHER},          /* vmaskmovps xmm0, xmm0, [rax] */
		{B(0xc4, 0xe2, 0x79, 0x8e, 0x00), 5, INSN_GATHER},          /* vpmaskmovd [rax], xmm0, xmm0 */
		{B(0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1), 6, INSN_UNDEFINED}, /* vmovaps zmm0, zmm1 */
		{B(0xc5, 0xf8, 0x92, 0xc8), 4, INSN_UNDEFINED},             /* kmovw k1, eax */
		{B(0xc4, 0xe2, 0x7d, 0xdc, 0xc0), 5, INSN_UNDEFINED},       /* vaesenc ymm0, ymm0, ymm0 */
		{B(0xc4, 0xe2, 0x79, 0xdc, 0xc0), 5, INSN_COPY},            /* vaesenc xmm0, xmm0, xmm0 */
		{B(0xc4, 0xe2, 0x79, 0x50, 0xc0), 5, INSN_UNDEFINED},       /* vpdpbusd (AVX-VNNI) */
		{B(0x66, 0x0f, 0x38, 0xcf, 0xc0), 5, INSN_UNDEFINED},       /* gf2p8mulb */
		{B(0x8f, 0xe9, 0x78, 0x81, 0xc0), 5, INSN_UNDEFINED},       /* vfrczpd (XOP) */
		{B(0x0f, 0x0f, 0xc0, 0x9e), 4, INSN_UNDEFINED},             /* pfadd (3DNow!) */
		{B(0xc7, 0xf8, 0, 0, 0, 0), 6, INSN_UNDEFINED},             /* xbegin */
		{B(0xc6, 0xf8, 0), 3, INSN_UNDEFINED},                      /* xabort */
		{B(0x0f, 0x01, 0xd6), 3, INSN_UNDEFINED},                   /* xtest */
		{B(0x0f, 0x01, 0xee), 3, INSN_UNDEFINED},                   /* rdpkru */
		{B(0x0f, 0x01, 0xef), 3, INSN_UNDEFINED},                   /* wrpkru */
		{B(0x0f, 0x01, 0xc1), 3, INSN_UNDEFINED},                   /* vmcall */
		{B(0x0f, 0x01, 0xd8), 3, INSN_UNDEFINED},                   /* vmrun */
		{B(0x0f, 0x01, 0xd7), 3, INSN_UNDEFINED},                   /* enclu */
		{B(0x0f, 0x01, 0xfd), 3, INSN_UNDEFINED},                   /* rdpru */
		{B(0x0f, 0x01, 0xfa), 3, INSN_UNDEFINED},                   /* monitorx */
		{B(0x66, 0x0f, 0xae, 0xf0), 4, INSN_UNDEFINED},             /* tpause */
		{B(0xf3, 0x0f, 0xae, 0xe0), 4, INSN_UNDEFINED},             /* ptwrite */
		{B(0xf3, 0x0f, 0xae, 0xe8), 4, INSN_UNDEFINED},             /* incsspd */
		{B(0x0f, 0x38, 0xf9, 0x00), 4, INSN_UNDEFINED},             /* movdiri */
		{B(0x66, 0x0f, 0x38, 0xf8, 0x00), 5, INSN_UNDEFINED},       /* movdir64b */
		{B(0xf2, 0x0f, 0x38, 0xf8, 0x00), 5, INSN_UNDEFINED},       /* enqcmd */
		{B(0x0f, 0xc7, 0x28), 3, INSN_UNDEFINED},                   /* xsaves */
		{B(0x0f, 0xaa), 2, INSN_UNDEFINED},                         /* rsm */
		{B(0x06), 1, INSN_UNDEFINED},                               /* push es */
		{B(0xce), 1, INSN_UNDEFINED},                               /* into */
		{B(0x9a), 1, INSN_UNDEFINED},                               /* call far immediate */
		{B(0xf0, 0x01, 0xc0), 3, INSN_UNDEFINED},                   /* lock add eax, eax */
		{B(0xf0, 0x8b, 0x00), 3, INSN_UNDEFINED},                   /* lock mov */
		{B(0xf0, 0x01, 0x00), 3, INSN_COPY},                        /* lock add [rax], eax */
		{B(0xf2, 0xf0, 0x01, 0x00), 4, INSN_COPY},                  /* xacquire lock add [rax], eax */
		{B(0xa1, 1, 2, 3, 4, 5, 6, 7, 8), 9, INSN_COPY},            /* mov eax, [offset64] */
		{B(0x0f, 0xae, 0xe8), 3, INSN_COPY},                        /* lfence */
		{B(0x66, 0x0f, 0x3a, 0x44, 0xc1, 0), 6, INSN_COPY},         /* pclmulqdq */
		{B(0x0f, 0x38, 0xc8, 0xc1), 4, INSN_COPY},                  /* sha1nexte */
		{B(0x9b), 1, INSN_COPY},                                    /* fwait */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct insn insn = decode(rows[i].bytes);

		expect(rows[i].bytes, "class", insn.class, rows[i].class);
		if (insn.mnemonic)
			expect(rows[i].bytes, "length", insn.length, rows[i].length);
	}
}

static void test_nops(void **state)
{
	const u8 *const nops[] = {
		B(0x90),
		B(0x66, 0x90),
		B(0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0),
		B(0xf3, 0x0f, 0x1e, 0xfa),
		B(0x0f, 0x18, 0x08),
		B(0x0f, 0x0d, 0x08),
		B(0x0f, 0x0d, 0x10),
		B(0x0f, 0x18, 0x38),
		B(0x0f, 0x18, 0x35, 0, 0, 0, 0),
		B(0xf3, 0x48, 0x0f, 0x1e, 0xc8),
		B(0x0f, 0x1c, 0x00),
		B(0x0f, 0x1a, 0x00),
		B(0xf3, 0x0f, 0x1b, 0x00),
		B(0x0f, 0x0d, 0xc0),
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(nops); i++) {
		struct insn insn = decode(nops[i]);

		expect(nops[i], "class", insn.class, INSN_COPY);
		expect(nops[i], "nop", insn.nop, true);
		expect(nops[i], "has_mem", insn.has_mem, false);
		expect(nops[i], "registers", insn.gpr_read | insn.gpr_write, 0);
		expect(nops[i], "flags", insn.flags_read | insn.flags_write, 0);
	}
	assert_false(decode(B(0x41, 0x90)).nop); /* xchg r8d, eax */
	assert_false(decode(B(0x87, 0xc0)).nop); /* xchg eax, eax clears the upper half */
}

static void test_helpers(void **state)
{
	const struct {
		const u8 *bytes;
		enum insn_helper helper;
	} rows[] = {
		{B(0x0f, 0xa2), HELP_cpuid},
		{B(0x0f, 0x31), HELP_rdtsc},
		{B(0x0f, 0x01, 0xf9), HELP_rdtscp},
		{B(0xf3, 0x0f, 0xc7, 0xf8), HELP_rdpid},
		{B(0x0f, 0x33), HELP_rdpmc},
		{B(0x0f, 0x32), HELP_rdmsr},
		{B(0x0f, 0x30), HELP_wrmsr},
		{B(0xf4), HELP_hlt},
		{B(0xfa), HELP_cli},
		{B(0xfb), HELP_sti},
		{B(0xfc), HELP_cld},
		{B(0xfd), HELP_std},
		{B(0x0f, 0x01, 0xcb), HELP_stac},
		{B(0x0f, 0x01, 0xca), HELP_clac},
		{B(0x9c), HELP_pushf},
		{B(0x66, 0x9c), HELP_pushf},
		{B(0x9d), HELP_popf},
		{B(0x0f, 0x05), HELP_syscall},
		{B(0x48, 0x0f, 0x07), HELP_sysret},
		{B(0x0f, 0x34), HELP_sysenter},
		{B(0x0f, 0x35), HELP_sysexit},
		{B(0x48, 0xcf), HELP_iret},
		{B(0xcf), HELP_iret},
		{B(0xcd, 0x80), HELP_int_n},
		{B(0xcc), HELP_int3},
		{B(0xf1), HELP_int1},
		{B(0x0f, 0x0b), HELP_ud},
		{B(0x0f, 0xb9, 0xc0), HELP_ud},
		{B(0x0f, 0xff, 0xc0), HELP_ud},
		{B(0x0f, 0x01, 0xf8), HELP_swapgs},
		{B(0x0f, 0x20, 0xd8), HELP_mov_from_cr},
		{B(0x44, 0x0f, 0x22, 0xc0), HELP_mov_to_cr},
		{B(0x0f, 0x21, 0xf8), HELP_mov_from_dr},
		{B(0x0f, 0x23, 0xf8), HELP_mov_to_dr},
		{B(0x0f, 0x06), HELP_clts},
		{B(0x0f, 0x01, 0xf0), HELP_lmsw},
		{B(0x0f, 0x01, 0xe0), HELP_smsw},
		{B(0x0f, 0x01, 0x38), HELP_invlpg},
		{B(0x66, 0x0f, 0x38, 0x82, 0x08), HELP_invpcid},
		{B(0x0f, 0x08), HELP_invd},
		{B(0x0f, 0x09), HELP_wbinvd},
		{B(0xf3, 0x0f, 0x09), HELP_wbinvd},
		{B(0x0f, 0x01, 0x10), HELP_lgdt},
		{B(0x0f, 0x01, 0x18), HELP_lidt},
		{B(0x0f, 0x01, 0x00), HELP_sgdt},
		{B(0x0f, 0x01, 0x08), HELP_sidt},
		{B(0x0f, 0x00, 0xd0), HELP_lldt},
		{B(0x0f, 0x00, 0xd8), HELP_ltr},
		{B(0x0f, 0x00, 0xc0), HELP_sldt},
		{B(0x0f, 0x00, 0xc8), HELP_str},
		{B(0x0f, 0x02, 0xc0), HELP_lar},
		{B(0x0f, 0x03, 0xc0), HELP_lsl},
		{B(0x0f, 0x00, 0xe0), HELP_verr},
		{B(0x0f, 0x00, 0xe8), HELP_verw},
		{B(0x8e, 0xd8), HELP_mov_to_seg},
		{B(0x8c, 0xd8), HELP_mov_from_seg},
		{B(0x0f, 0xa0), HELP_push_seg},
		{B(0x0f, 0xa9), HELP_pop_seg},
		{B(0x0f, 0xb2, 0x00), HELP_load_far},
		{B(0x48, 0x0f, 0xb5, 0x00), HELP_load_far},
		{B(0x48, 0xff, 0x28), HELP_jmp_far},
		{B(0xff, 0x18), HELP_call_far},
		{B(0x48, 0xcb), HELP_ret_far},
		{B(0xca, 8, 0), HELP_ret_far},
		{B(0xe4, 0x60), HELP_in},
		{B(0xee), HELP_out},
		{B(0xf3, 0x6c), HELP_ins},
		{B(0x6f), HELP_outs},
		{B(0x0f, 0x01, 0xd0), HELP_xgetbv},
		{B(0x0f, 0x01, 0xd1), HELP_xsetbv},
		{B(0x48, 0x0f, 0xae, 0x20), HELP_xsave},
		{B(0x0f, 0xc7, 0x20), HELP_xsave},
		{B(0x0f, 0xae, 0x28), HELP_xrstor},
		{B(0x0f, 0xae, 0x00), HELP_fxsave},
		{B(0x48, 0x0f, 0xae, 0x08), HELP_fxrstor},
		{B(0x0f, 0xae, 0x10), HELP_ldmxcsr},
		{B(0xc5, 0xf8, 0xae, 0x18), HELP_stmxcsr},
		{B(0xf3, 0x48, 0x0f, 0xae, 0xc0), HELP_rdfsbase},
		{B(0xf3, 0x48, 0x0f, 0xae, 0xc8), HELP_rdgsbase},
		{B(0xf3, 0x48, 0x0f, 0xae, 0xd0), HELP_wrfsbase},
		{B(0xf3, 0x48, 0x0f, 0xae, 0xd8), HELP_wrgsbase},
		{B(0x0f, 0x01, 0xc8), HELP_monitor},
		{B(0x0f, 0x01, 0xc9), HELP_mwait},
		{B(0xf3, 0x90), HELP_pause},
		{B(0x0f, 0xc7, 0xf0), HELP_rdrand},
		{B(0x48, 0x0f, 0xc7, 0xf8), HELP_rdseed},
		{B(0x0f, 0xae, 0x38), HELP_clflush},
		{B(0x66, 0x0f, 0xae, 0x38), HELP_clflush},
		{B(0x66, 0x0f, 0xae, 0x30), HELP_clflush},
		{B(0xd9, 0x30), HELP_fpu_env},
		{B(0xd9, 0x20), HELP_fpu_env},
		{B(0xdd, 0x30), HELP_fpu_env},
		{B(0xdd, 0x20), HELP_fpu_env},
	};
	bool seen[HELP_COUNT] = {false};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct insn insn = decode(rows[i].bytes);

		expect(rows[i].bytes, "class", insn.class, INSN_HELPER);
		expect(rows[i].bytes, "helper", insn.helper, rows[i].helper);
		expect(rows[i].bytes, "flags_read", insn.flags_read, ALL);
		expect(rows[i].bytes, "flags_kill", insn.flags_kill, 0);
		seen[insn.helper] = true;
	}
	for (unsigned h = 0; h < HELP_COUNT; h++)
		assert_true(seen[h]);
}

static void test_units(void **state)
{
	const struct {
		const u8 *bytes;
		enum insn_unit unit;
	} rows[] = {
		{B(0x01, 0xc0), UNIT_NONE},
		{B(0x0f, 0xae, 0xe8), UNIT_NONE},             /* lfence */
		{B(0x0f, 0xc3, 0x00), UNIT_NONE},             /* movnti */
		{B(0xf2, 0x0f, 0x38, 0xf1, 0xc1), UNIT_NONE}, /* crc32 */
		{B(0xf3, 0x0f, 0xb8, 0xc1), UNIT_NONE},       /* popcnt */
		{B(0xc4, 0xe2, 0x78, 0xf2, 0xc1), UNIT_NONE}, /* andn */
		{B(0xd9, 0xc0), UNIT_X87},                    /* fld st0 */
		{B(0xdb, 0xf0), UNIT_X87},                    /* fcomi */
		{B(0xda, 0xc0), UNIT_X87},                    /* fcmovb */
		{B(0xdd, 0x08), UNIT_X87},                    /* fisttp */
		{B(0x0f, 0xae, 0x00), UNIT_X87},              /* fxsave */
		{B(0x0f, 0xfe, 0xc1), UNIT_MMX},              /* paddd mm0, mm1 */
		{B(0x66, 0x0f, 0xfe, 0xc1), UNIT_SSE},        /* paddd xmm0, xmm1 */
		{B(0x0f, 0xe7, 0x00), UNIT_MMX},              /* movntq */
		{B(0x0f, 0xd7, 0xc1), UNIT_MMX},              /* pmovmskb eax, mm1 */
		{B(0x0f, 0x77), UNIT_MMX},                    /* emms */
		{B(0x0f, 0xf7, 0xc1), UNIT_MMX},              /* maskmovq */
		{B(0x0f, 0x2d, 0x00), UNIT_SSE},              /* cvtps2pi mm0, [rax] */
		{B(0xf3, 0x0f, 0x10, 0x00), UNIT_SSE},        /* movss */
		{B(0xa5), UNIT_NONE},                         /* movsd, the string one */
		{B(0x66, 0x0f, 0x38, 0xdc, 0xc1), UNIT_SSE},  /* aesenc */
		{B(0x0f, 0xae, 0x10), UNIT_SSE},              /* ldmxcsr */
		{B(0xc5, 0xf8, 0x77), UNIT_AVX},              /* vzeroupper */
		{B(0xc5, 0xf8, 0xae, 0x10), UNIT_AVX},        /* vldmxcsr */
		{B(0xc4, 0xe2, 0xf9, 0x98, 0xc1), UNIT_AVX},  /* vfmadd132pd */
		{B(0xc4, 0xe2, 0x7d, 0x13, 0xc1), UNIT_AVX},  /* vcvtph2ps */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		expect(rows[i].bytes, "unit", decode(rows[i].bytes).unit, rows[i].unit);
}

static void test_registers(void **state)
{
	const struct {
		const u8 *bytes;
		u16 read, write;
	} rows[] = {
		{B(0x48, 0x89, 0xd8), M(RBX), M(RAX)},                            /* mov rax, rbx */
		{B(0x89, 0xd8), M(RBX), M(RAX)},                                  /* mov eax, ebx */
		{B(0x66, 0x89, 0xd8), M(RAX) | M(RBX), M(RAX)},                   /* mov ax, bx merges */
		{B(0x88, 0xfc), M(RAX) | M(RBX), M(RAX)},                         /* mov ah, bh */
		{B(0x40, 0x88, 0xfc), M(RSP) | M(RDI), M(RSP)},                   /* mov spl, dil */
		{B(0x0f, 0x94, 0xc1), M(RCX), M(RCX)},                            /* setz cl */
		{B(0x0f, 0x44, 0xc1), M(RAX) | M(RCX), M(RAX)},                   /* cmovz eax, ecx */
		{B(0x87, 0xd1), M(RCX) | M(RDX), M(RCX) | M(RDX)},                /* xchg ecx, edx */
		{B(0x41, 0x92), M(R10) | M(RAX), M(R10) | M(RAX)},                /* xchg r10d, eax */
		{B(0x48, 0xf7, 0xe1), M(RAX) | M(RCX), M(RAX) | M(RDX)},          /* mul rcx */
		{B(0x48, 0xf7, 0xf1), M(RAX) | M(RCX) | M(RDX), M(RAX) | M(RDX)}, /* div rcx */
		{B(0xf6, 0xf1), M(RAX) | M(RCX), M(RAX)},                         /* div cl */
		{B(0xd3, 0xe6), M(RCX) | M(RSI), M(RSI)},                         /* shl esi, cl */
		{B(0x0f, 0xa5, 0xde), M(RCX) | M(RSI) | M(RBX), M(RSI)},          /* shld esi, ebx, cl */
		{B(0x0f, 0xb1, 0x1e), M(RAX) | M(RSI) | M(RBX), M(RAX)},          /* cmpxchg [rsi], ebx */
		{B(0x48, 0x0f, 0xc7, 0x0e), M(RAX) | M(RBX) | M(RCX) | M(RDX) | M(RSI),
		 M(RAX) | M(RDX)},                                                   /* cmpxchg16b */
		{B(0x0f, 0xbc, 0xc1), M(RAX) | M(RCX), M(RAX)},                      /* bsf eax, ecx */
		{B(0xf3, 0x0f, 0xbc, 0xc1), M(RCX), M(RAX)},                         /* tzcnt eax, ecx */
		{B(0xc4, 0xe2, 0x6b, 0xf6, 0xc1), M(RCX) | M(RDX), M(RAX) | M(RDX)}, /* mulx eax, edx, ecx */
		{B(0xc4, 0xc2, 0x20, 0xf2, 0xc1), M(R9) | M(R11), M(RAX)},           /* andn eax, r11d, r9d */
		{B(0x4a, 0x8d, 0x44, 0xa3, 8), M(RBX) | M(R12), M(RAX)},             /* lea rax, [rbx+r12*4+8] */
		{B(0x4a, 0x89, 0x44, 0xa3, 8), M(RAX) | M(RBX) | M(R12), 0},         /* mov [rbx+r12*4+8], rax */
		{B(0x98), M(RAX), M(RAX)},                                           /* cwde */
		{B(0x66, 0x99), M(RAX) | M(RDX), M(RDX)},                            /* cwd */
		{B(0x99), M(RAX), M(RDX)},                                           /* cdq */
		{B(0x9f), M(RAX), M(RAX)},                                           /* lahf */
		{B(0x9e), M(RAX), 0},                                                /* sahf */
		{B(0x50), M(RAX) | M(RSP), M(RSP)},                                  /* push rax */
		{B(0x41, 0x5b), M(RSP), M(RSP) | M(R11)},                            /* pop r11 */
		{B(0xe8, 0, 0, 0, 0), M(RSP), M(RSP)},                               /* call */
		{B(0xc3), M(RSP), M(RSP)},                                           /* ret */
		{B(0xc9), M(RBP) | M(RSP), M(RBP) | M(RSP)},                         /* leave */
		{B(0xc8, 0, 0, 0), M(RBP) | M(RSP), M(RBP) | M(RSP)},                /* enter */
		{B(0xe2, 0), M(RCX), M(RCX)},                                        /* loop */
		{B(0xe3, 0), M(RCX), 0},                                             /* jrcxz */
		{B(0xa4), M(RSI) | M(RDI), M(RSI) | M(RDI)},                         /* movsb */
		{B(0xf3, 0xa4), M(RSI) | M(RDI) | M(RCX), M(RSI) | M(RDI) | M(RCX)}, /* rep movsb */
		{B(0xf2, 0xa4), M(RSI) | M(RDI) | M(RCX), M(RSI) | M(RDI) | M(RCX)}, /* repne movsb */
		{B(0xf3, 0xab), M(RAX) | M(RDI) | M(RCX), M(RDI) | M(RCX)},          /* rep stosd */
		{B(0xac), M(RAX) | M(RSI), M(RAX) | M(RSI)},                         /* lodsb */
		{B(0xad), M(RSI), M(RAX) | M(RSI)},                                  /* lodsd */
		{B(0xf3, 0xad), M(RAX) | M(RSI) | M(RCX), M(RAX) | M(RSI) | M(RCX)}, /* rep lodsd */
		{B(0xf2, 0xae), M(RAX) | M(RDI) | M(RCX), M(RDI) | M(RCX)},          /* repne scasb */
		{B(0xa7), M(RSI) | M(RDI), M(RSI) | M(RDI)},                         /* cmpsd */
		{B(0xf3, 0x6d), M(RDX) | M(RDI) | M(RCX), M(RDI) | M(RCX)},          /* rep insd */
		{B(0xd7), M(RAX) | M(RBX), M(RAX)},                                  /* xlat */
		{B(0x0f, 0xf7, 0xc1), M(RDI), 0},                                    /* maskmovq */
		{B(0x0f, 0xa2), M(RAX) | M(RCX), M(RAX) | M(RBX) | M(RCX) | M(RDX)}, /* cpuid */
		{B(0x0f, 0x05), 0, M(RCX) | M(R11)},                                 /* syscall */
		{B(0x0f, 0x31), 0, M(RAX) | M(RDX)},                                 /* rdtsc */
		{B(0xa1, 1, 2, 3, 4, 5, 6, 7, 8), 0, M(RAX)},                        /* mov eax, [offset64] */
		{B(0xf2, 0x48, 0x0f, 0x2a, 0xc6), M(RSI), 0},                        /* cvtsi2sd xmm0, rsi */
		{B(0x0f, 0x50, 0xc1), 0, M(RAX)},                                    /* movmskps eax, xmm1 */
		{B(0xff, 0x60, 0x10), M(RAX), 0},                                    /* jmp [rax+16] */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct insn insn = decode(rows[i].bytes);

		expect(rows[i].bytes, "gpr_read", insn.gpr_read, rows[i].read);
		expect(rows[i].bytes, "gpr_write", insn.gpr_write, rows[i].write);
	}
	assert_true(decode(B(0x88, 0xfc)).gpr_high);
	assert_true(decode(B(0xb4, 1)).gpr_high);
	assert_false(decode(B(0x40, 0x88, 0xfc)).gpr_high);
	assert_false(decode(B(0x9f)).gpr_high); /* AH, but not encoded */
}

static void test_flags(void **state)
{
	const struct {
		const u8 *bytes;
		u16 read, write, kill;
	} rows[] = {
		{B(0x89, 0xd8), 0, 0, 0},                           /* mov */
		{B(0x01, 0xd8), 0, ALL, ALL},                       /* add */
		{B(0x11, 0xd8), CF, ALL, ALL},                      /* adc */
		{B(0x21, 0xd8), 0, ALL, ALL},                       /* and: AF undefined */
		{B(0xff, 0xc0), 0, ALL & ~CF, ALL & ~CF},           /* inc */
		{B(0xf7, 0xd0), 0, 0, 0},                           /* not */
		{B(0xf7, 0xe1), ALL & ~(CF | OF), ALL, CF | OF},    /* mul: the others undefined, may be kept */
		{B(0x6b, 0xc1, 3), ALL & ~(CF | OF), ALL, CF | OF}, /* imul: likewise */
		{B(0xf7, 0xf1), ALL, ALL, 0},                       /* div: undefined, may be kept */
		{B(0xd3, 0xe0), ALL, ALL, 0},                       /* shl eax, cl */
		{B(0xd1, 0xe0), 0, ALL, ALL},                       /* shl eax, 1 */
		{B(0xc1, 0xe0, 5), 0, ALL, ALL},                    /* shl eax, 5 */
		{B(0xc1, 0xe0, 32), 0, 0, 0},                       /* shl eax, 32: count 0 */
		{B(0x48, 0xc1, 0xe0, 32), 0, ALL, ALL},             /* shl rax, 32 */
		{B(0x48, 0xc1, 0xe0, 64), 0, 0, 0},                 /* shl rax, 64: count 0 */
		{B(0xc1, 0xd0, 0), 0, 0, 0},                        /* rcl eax, 0 */
		{B(0xd1, 0xc0), 0, CF | OF, CF | OF},               /* rol eax, 1 */
		{B(0xc1, 0xc0, 3), OF, CF | OF, CF},                /* rol eax, 3: OF undefined, may be kept */
		{B(0xd3, 0xc0), CF | OF, CF | OF, 0},               /* rol eax, cl */
		{B(0xd1, 0xd0), CF, CF | OF, CF | OF},              /* rcl eax, 1 */
		{B(0x0f, 0xa4, 0xc8, 3), 0, ALL, ALL},              /* shld eax, ecx, 3 */
		{B(0x0f, 0xa4, 0xc8, 32), 0, 0, 0},                 /* shld eax, ecx, 32 */
		{B(0x0f, 0xad, 0xc8), ALL, ALL, 0},                 /* shrd eax, ecx, cl */
		{B(0x0f, 0xbc, 0xc1), ALL & ~ZF, ALL, ZF},          /* bsf */
		{B(0xf3, 0x0f, 0xbc, 0xc1), ALL & ~(CF | ZF), ALL, CF | ZF}, /* tzcnt: likewise */
		{B(0x0f, 0xa3, 0xc8), ALL & ~(CF | ZF), ALL & ~ZF, CF},      /* bt: ZF kept, others undefined */
		{B(0xf5), CF, CF, CF},                                       /* cmc */
		{B(0xf9), 0, CF, CF},                                        /* stc */
		{B(0x9f), ALL & ~OF, 0, 0},                                  /* lahf */
		{B(0x9e), 0, ALL & ~OF, ALL & ~OF},                          /* sahf */
		{B(0x0f, 0x94, 0xc0), ZF, 0, 0},                             /* setz */
		{B(0x0f, 0x46, 0xc1), CF | ZF, 0, 0},                        /* cmovbe */
		{B(0x77, 0), CF | ZF, 0, 0},                                 /* ja */
		{B(0xe1, 0), ZF, 0, 0},                                      /* loope */
		{B(0xe2, 0), 0, 0, 0},                                       /* loop */
		{B(0xa6), 0, ALL, ALL},                                      /* cmpsb */
		{B(0xf3, 0xa6), ALL, ALL, 0},                                /* repe cmpsb */
		{B(0xf2, 0xae), ALL, ALL, 0},                                /* repne scasb */
		{B(0xf3, 0xa4), 0, 0, 0},                                    /* rep movsb */
		{B(0x66, 0x0f, 0x38, 0xf6, 0xc1), CF, CF, CF},               /* adcx */
		{B(0xf3, 0x0f, 0x38, 0xf6, 0xc1), OF, OF, OF},               /* adox */
		{B(0x0f, 0xb1, 0x1e), 0, ALL, ALL},                          /* cmpxchg */
		{B(0x0f, 0xc7, 0x0e), 0, ZF, ZF},                            /* cmpxchg8b */
		{B(0x0f, 0x2f, 0xc1), 0, ALL, ALL},                          /* comiss */
		{B(0xc4, 0xe2, 0x79, 0x17, 0xc1), 0, ALL, ALL},              /* vptest */
		{B(0xc4, 0xe2, 0x79, 0x0e, 0xc1), 0, ALL, ALL},              /* vtestps */
		{B(0xc4, 0xe2, 0x71, 0xf7, 0xc1), 0, 0, 0},                  /* shlx */
		{B(0x06), ALL, 0, 0},                                        /* invalid */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct insn insn = decode(rows[i].bytes);

		expect(rows[i].bytes, "flags_read", insn.flags_read, rows[i].read);
		expect(rows[i].bytes, "flags_write", insn.flags_write, rows[i].write);
		expect(rows[i].bytes, "flags_kill", insn.flags_kill, rows[i].kill);
	}
}

static void test_memory(void **state)
{
	enum { R = 1, W = 2 };
	const struct {
		const u8 *bytes;
		unsigned size, access;
		u8 base, index, scale;
		s64 disp;
	} rows[] = {
		{B(0x8b, 0x00), 4, R, RAX, INSN_NO_REG, 1, 0},
		{B(0x4b, 0x8b, 0x44, 0xec, 0x80), 8, R, R12, R13, 8, -128},
		{B(0x01, 0x03), 4, R | W, RBX, INSN_NO_REG, 1, 0},
		{B(0x39, 0x03), 4, R, RBX, INSN_NO_REG, 1, 0},       /* cmp */
		{B(0x88, 0x04, 0x24), 1, W, RSP, INSN_NO_REG, 1, 0}, /* mov [rsp], al */
		{B(0x8b, 0x05, 1, 0, 0, 0x80), 4, R, INSN_RIP, INSN_NO_REG, 1, -0x7fffffff},
		{B(0x8b, 0x04, 0x25, 0, 0, 0, 0x80), 4, R, INSN_NO_REG, INSN_NO_REG, 1, -0x80000000LL},
		{B(0xa3, 1, 2, 3, 4, 5, 6, 7, 8), 4, W, INSN_NO_REG, INSN_NO_REG, 1, 0x0807060504030201},
		{B(0x67, 0x8b, 0x40, 4), 4, R, RAX, INSN_NO_REG, 1, 4},
		{B(0x0f, 0xb6, 0x00), 1, R, RAX, INSN_NO_REG, 1, 0},                /* movzx eax, byte */
		{B(0x48, 0x8d, 0x04, 0x40), 0, 0, RAX, RAX, 2, 0},                  /* lea */
		{B(0x0f, 0xb1, 0x1e), 4, R | W, RSI, INSN_NO_REG, 1, 0},            /* cmpxchg */
		{B(0x48, 0x0f, 0xc7, 0x0e), 16, R | W, RSI, INSN_NO_REG, 1, 0},     /* cmpxchg16b */
		{B(0x87, 0x03), 4, R | W, RBX, INSN_NO_REG, 1, 0},                  /* xchg */
		{B(0xff, 0x30), 8, R, RAX, INSN_NO_REG, 1, 0},                      /* push [rax] */
		{B(0x8f, 0x44, 0x24, 8), 8, W, RSP, INSN_NO_REG, 1, 8},             /* pop [rsp+8] */
		{B(0x66, 0xff, 0x10), 8, R, RAX, INSN_NO_REG, 1, 0},                /* call [rax] */
		{B(0x0f, 0xab, 0x08), 4, R | W, RAX, INSN_NO_REG, 1, 0},            /* bts [rax], ecx */
		{B(0xdb, 0x28), 10, R, RAX, INSN_NO_REG, 1, 0},                     /* fld tbyte */
		{B(0xd9, 0x38), 2, W, RAX, INSN_NO_REG, 1, 0},                      /* fnstcw */
		{B(0xc5, 0xfe, 0x6f, 0x00), 32, R, RAX, INSN_NO_REG, 1, 0},         /* vmovdqu ymm0, [rax] */
		{B(0x66, 0x0f, 0x3a, 0x14, 0x00, 1), 1, W, RAX, INSN_NO_REG, 1, 0}, /* pextrb */
		{B(0x0f, 0x01, 0x38), 0, 0, RAX, INSN_NO_REG, 1, 0},                /* invlpg */
		{B(0x0f, 0x01, 0x10), 10, R, RAX, INSN_NO_REG, 1, 0},               /* lgdt */
		{B(0x0f, 0xae, 0x38), 1, R, RAX, INSN_NO_REG, 1, 0},                /* clflush */
		{B(0x0f, 0xae, 0x20), 0, 0, RAX, INSN_NO_REG, 1, 0},                /* xsave */
		{B(0xc4, 0xe2, 0x71, 0x90, 0x04, 0x90), 4, R, RAX, 2, 4, 0}, /* vpgatherdd xmm0, [rax+xmm2*4], xmm1 */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct insn insn = decode(rows[i].bytes);

		expect(rows[i].bytes, "has_mem", insn.has_mem, true);
		if (insn.class != INSN_GATHER)
			expect(rows[i].bytes, "mem_size", insn.mem_size, rows[i].size);
		expect(rows[i].bytes, "access", (insn.mem_read ? R : 0) | (insn.mem_write ? W : 0), rows[i].access);
		expect(rows[i].bytes, "base", insn.base, rows[i].base);
		expect(rows[i].bytes, "index", insn.index, rows[i].index);
		expect(rows[i].bytes, "scale", insn.scale, rows[i].scale);
		expect(rows[i].bytes, "disp", insn.disp, rows[i].disp);
	}
	assert_false(decode(B(0xf3, 0xa4)).has_mem);
	assert_false(decode(B(0x55)).has_mem);
	assert_false(decode(B(0xc3)).has_mem);
	assert_false(decode(B(0xd7)).has_mem);
	assert_true(insn_has_vsib(&(struct insn){.class = INSN_GATHER, .mnemonic = ZYDIS_MNEMONIC_VPGATHERDD}));
	assert_false(insn_has_vsib(&(struct insn){.class = INSN_GATHER, .mnemonic = ZYDIS_MNEMONIC_VPMASKMOVD}));
}

static void test_fields(void **state)
{
	struct insn insn;

	(void)state;
	/* segments: null prefixes do not cancel FS or GS, the last of these two counts */
	assert_int_equal(decode(B(0x64, 0x2e, 0x8b, 0x00)).seg, SEG_FS);
	assert_int_equal(decode(B(0x64, 0x65, 0x8b, 0x00)).seg, SEG_GS);
	assert_int_equal(decode(B(0x36, 0x8b, 0x00)).seg, SEG_DS);
	assert_int_equal(decode(B(0x65, 0xac)).seg, SEG_GS);

	insn = decode(B(0xf3, 0x48, 0xa5));
	assert_int_equal(insn.rep, 0xf3);
	assert_int_equal(insn.opsize, 8);
	assert_int_equal(insn.mandatory, 0);
	assert_int_equal(decode(B(0xf3, 0xc3)).rep, 0);
	assert_int_equal(decode(B(0x67, 0xf2, 0xae)).addrsize, 4);

	/* a REX that is not last has no effect */
	insn = decode(B(0x48, 0x66, 0x8b, 0x00));
	assert_int_equal(insn.rex, 0);
	assert_int_equal(insn.opsize, 2);
	insn = decode(B(0x66, 0x48, 0x8b, 0x00));
	assert_int_equal(insn.rex, 0x48);
	assert_int_equal(insn.opsize, 8);

	insn = decode(B(0x66, 0xf3, 0x44, 0x0f, 0xb8, 0xc1)); /* popcnt r8w, cx */
	assert_int_equal(insn.mandatory, 0xf3);
	assert_int_equal(insn.prefix_66, 1);
	assert_int_equal(insn.opcode_at, 3);
	assert_int_equal(insn.modrm_at, 5);
	assert_int_equal(insn.imm_at, 6);
	assert_int_equal(insn.gpr_fields, GPR_FIELD_REG | GPR_FIELD_RM);

	insn = decode(B(0xc4, 0xe3, 0x79, 0x4a, 0x44, 0x24, 8, 0x50)); /* vblendvps xmm0, xmm0, [rsp+8], xmm5 */
	assert_int_equal(insn.vex, 3);
	assert_int_equal(insn.opcode_at, 3);
	assert_int_equal(insn.modrm_at, 4);
	assert_int_equal(insn.imm_at, 7);
	assert_int_equal(insn.opsize, 16);

	insn = decode(B(0x49, 0xbb, 1, 2, 3, 4, 5, 6, 7, 0x88)); /* mov r11, imm64 */
	assert_int_equal(insn.imm, (s64)0x8807060504030201ULL);
	assert_int_equal(insn.imm_at, 2);
	assert_int_equal(insn.gpr_fields, GPR_FIELD_OPCODE);
	assert_int_equal(insn.op[0].kind, OPERAND_GPR);
	assert_int_equal(insn.op[0].reg, R11);
	assert_int_equal(insn.op[1].kind, OPERAND_IMM);
	assert_int_equal(insn.op[1].size, 8);
	assert_int_equal(insn.op[2].kind, OPERAND_NONE);

	insn = decode(B(0x83, 0xc8, 0xff)); /* or eax, -1 */
	assert_int_equal(insn.imm, -1);
	assert_int_equal(insn.op[1].size, 4);
	assert_int_equal(decode(B(0xd1, 0xe0)).imm, 1); /* shl eax, 1: not encoded, but an operand */
	assert_int_equal(decode(B(0xcd, 0x80)).imm, 0x80);
	assert_int_equal(decode(B(0xe4, 0xf0)).imm, 0xf0);
	assert_int_equal(decode(B(0xc2, 0xff, 0xff)).imm, 0xffff);
	assert_int_equal(decode(B(0xeb, 0xfe)).imm, -2);
	assert_int_equal(decode(B(0xe9, 0, 0, 0, 0x80)).imm, -0x80000000LL);
	insn = decode(B(0xc8, 0xf0, 0xff, 3));
	assert_int_equal(insn.imm, 0xfff0);
	assert_int_equal(insn.bytes[insn.length - 1], 3);

	assert_int_equal(decode(B(0x0f, 0x8d, 0, 0, 0, 0)).cond, 13);
	assert_int_equal(decode(B(0x7e, 0)).cond, 14);
	assert_int_equal(decode(B(0x0f, 0x95, 0xc0)).cond, 5);

	insn = decode(B(0x88, 0xe5)); /* mov ch, ah */
	assert_int_equal(insn.op[0].reg, 5);
	assert_true(insn.op[0].high);
	assert_int_equal(insn.op[1].reg, 4);
	assert_int_equal(insn.gpr_fields, GPR_FIELD_REG | GPR_FIELD_RM | GPR_FIELD_REG8 | GPR_FIELD_RM8);

	insn = decode(B(0x44, 0x0f, 0x22, 0xc1)); /* mov cr8, rcx */
	assert_int_equal(insn.op[0].kind, OPERAND_CR);
	assert_int_equal(insn.op[0].reg, 8);
	assert_int_equal(insn.op[1].reg, RCX);
	insn = decode(B(0x8e, 0xe8)); /* mov gs, ax */
	assert_int_equal(insn.op[0].kind, OPERAND_SEG);
	assert_int_equal(insn.op[0].reg, SEG_GS);
	insn = decode(B(0x0f, 0x23, 0xf8)); /* mov dr7, rax */
	assert_int_equal(insn.op[0].kind, OPERAND_DR);
	assert_int_equal(insn.op[0].reg, 7);
	insn = decode(B(0xec)); /* in al, dx */
	assert_int_equal(insn.op[0].size, 1);
	assert_int_equal(insn.op[1].reg, RDX);
	assert_int_equal(insn.opsize, 1);
}

static void test_truncated(void **state)
{
	const u8 *const samples[] = {
		B(0x48, 0x81, 0x84, 0xc8, 1, 2, 3, 4, 5, 6, 7, 8),
		B(0xc4, 0xe3, 0x79, 0x4a, 0x44, 0x24, 8, 0x50),
		B(0x49, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8),
		B(0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc1),
		B(0x66, 0x66, 0x66, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0),
		B(0x0f, 0x01, 0xee),
	};
	static const u8 prefixes[INSN_MAX] = {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
					      0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66};
	struct insn insn;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(samples); i++) {
		unsigned length = decode(samples[i]).length;

		for (unsigned available = 0; available < length; available++) {
			u8 *exact = malloc(available ? available : 1); /* so that a sanitizer sees reads beyond */

			memcpy(exact, samples[i], available);
			assert_int_equal(insn_decode(&insn, exact, available), -1);
			free(exact);
		}
		assert_int_equal(insn_decode(&insn, samples[i], length), 0);
	}
	/* more than 15 bytes is #GP, and known after 15 */
	assert_int_equal(insn_decode(&insn, prefixes, 14), -1);
	assert_int_equal(insn_decode(&insn, prefixes, 15), 0);
	assert_int_equal(insn.class, INSN_UNDEFINED);
	assert_true(insn.too_long);
	assert_int_equal(insn.length, 15);
	/* an undecodable one needs no more bytes than decide */
	assert_int_equal(insn_decode(&insn, B(0x06), 1), 0);
	assert_int_equal(insn.length, 1);
	assert_false(insn.too_long);
	assert_int_equal(insn_decode(&insn, B(0xf0, 0x01), 2), -1);
	assert_int_equal(insn_decode(&insn, B(0xf0, 0x01, 0xc0), 15), 0);
	assert_int_equal(insn.length, 3);
}

static void test_format(void **state)
{
	struct insn insn = decode(B(0xeb, 0xfe));
	char text[64], tiny[4];

	(void)state;
	insn_format(&insn, 0x1000, text, sizeof(text));
	assert_string_equal(text, "jmp 0x0000000000001000");
	insn = decode(B(0x06));
	insn_format(&insn, 0, text, sizeof(text));
	assert_string_equal(text, "(bad)");
	insn = decode(B(0x48, 0x8b, 0x04, 0xc8));
	insn_format(&insn, 0, tiny, sizeof(tiny));
	assert_true(strlen(tiny) < sizeof(tiny));
	insn_format(&insn, 0, tiny, 0);
}

/* What must hold for any bytes. */
static void check_invariants(const struct insn *insn, const u8 *bytes, unsigned available)
{
	assert_in_range(insn->length, 1, available < INSN_MAX ? available : INSN_MAX);
	assert_memory_equal(insn->bytes, bytes, insn->length);
	for (unsigned i = insn->length; i < INSN_MAX; i++)
		assert_int_equal(insn->bytes[i], 0);
	assert_true(insn->class <= INSN_UNDEFINED);
	assert_true(insn->helper < HELP_COUNT);
	assert_int_equal(insn->flags_kill & ~insn->flags_write, 0);
	assert_int_equal((insn->flags_read | insn->flags_write) & ~ALL, 0);
	assert_true(insn->opcode_at < insn->length);
	assert_true(insn->imm_at <= insn->length);
	assert_true(insn->seg == SEG_FS || insn->seg == SEG_GS || insn->seg == SEG_DS);
	if (insn->class == INSN_UNDEFINED)
		return;
	assert_true(insn->addrsize == 4 || insn->addrsize == 8);
	assert_true(insn->opcode_at < insn->imm_at);
	if (insn->modrm_at) {
		assert_true(insn->opcode_at < insn->modrm_at);
		assert_true(insn->modrm_at < insn->imm_at);
	}
	if (!insn->has_mem) {
		assert_false(insn->mem_read || insn->mem_write || insn->mem_size);
	} else {
		assert_int_equal(insn->mem_read || insn->mem_write, insn->mem_size != 0);
		assert_true(insn->base < GPR_COUNT || insn->base == INSN_NO_REG || insn->base == INSN_RIP);
		assert_true(insn->index < GPR_COUNT || insn->index == INSN_NO_REG);
		assert_true(insn->scale == 1 || insn->scale == 2 || insn->scale == 4 || insn->scale == 8);
		assert_true(insn->mem_size <= 512);
		if (insn->base < GPR_COUNT)
			assert_true(insn->gpr_read & BIT(insn->base));
	}
	if (insn->gpr_high)
		assert_int_equal(insn->rex, 0);
	/* an implicit memory access must never be copied */
	if (insn->class == INSN_COPY && !insn->has_mem)
		assert_int_equal(insn->rep, 0);
}

/* The same allow-list seen from the other side: by extension instead of by mnemonic. */
static bool offered(const ZydisDecodedInstruction *zi)
{
#define S(set) ZYDIS_ISA_SET_##set
	static const u8 legacy[] = {
		S(ADOX_ADCX), S(AES),          S(BMI1),          S(CLDEMOTE),   S(CLFLUSHOPT),  S(CLFSH),
		S(CLWB),      S(CMOV),         S(CMPXCHG16B),    S(FAT_NOP),    S(FCMOV),       S(FXSAVE),
		S(FXSAVE64),  S(I186),         S(I286PROTECTED), S(I286REAL),   S(I386),        S(I486REAL),
		S(I86),       S(INVPCID),      S(LAHF),          S(LONGMODE),   S(LZCNT),       S(MONITOR),
		S(MOVBE),     S(PAUSE),        S(PCLMULQDQ),     S(PENTIUMMMX), S(PENTIUMREAL), S(POPCNT),
		S(PPRO),      S(PREFETCHWT1),  S(PREFETCH_NOP),  S(RDPID),      S(RDPMC),       S(RDRAND),
		S(RDSEED),    S(RDTSCP),       S(RDWRFSGS),      S(SHA),        S(SMAP),        S(SSE),
		S(SSE2),      S(SSE2MMX),      S(SSE3),          S(SSE3X87),    S(SSE4),        S(SSE42),
		S(SSEMXCSR),  S(SSE_PREFETCH), S(SSSE3),         S(SSSE3MMX),   S(X87),         S(XSAVE),
		S(XSAVEC),    S(XSAVEOPT),     S(SERIALIZE),
	};
	static const u8 vex[] = {
		S(AVX), S(AVX2), S(AVX2GATHER), S(AVXAES), S(BMI1), S(BMI2), S(F16C), S(FMA),
	};
#undef S
	const u8 *sets = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? legacy : vex;
	unsigned count = sets == legacy ? sizeof(legacy) : sizeof(vex);

	if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && zi->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return false;
	/* in sets of their own from Zydis 4.1 on */
	if (zi->mnemonic == ZYDIS_MNEMONIC_FCOMI || zi->mnemonic == ZYDIS_MNEMONIC_FCOMIP ||
	    zi->mnemonic == ZYDIS_MNEMONIC_FUCOMI || zi->mnemonic == ZYDIS_MNEMONIC_FUCOMIP)
		return true;
	if (sets == legacy && zi->opcode_map == ZYDIS_OPCODE_MAP_0F && zi->opcode == 0x18)
		return true;
	/* without CET these are nops, the others undefined */
	if (zi->meta.isa_set == ZYDIS_ISA_SET_CET)
		return zi->mnemonic == ZYDIS_MNEMONIC_ENDBR32 || zi->mnemonic == ZYDIS_MNEMONIC_ENDBR64 ||
		       zi->mnemonic == ZYDIS_MNEMONIC_RDSSPD || zi->mnemonic == ZYDIS_MNEMONIC_RDSSPQ;
	for (unsigned i = 0; i < count; i++) {
		if (sets[i] == zi->meta.isa_set)
			return true;
	}
	return false;
}

/* The layout, taken apart by hand, against Zydis. */
static void check_against_zydis(const struct insn *insn)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, insn->bytes, insn->length, &zi, ops))) {
		assert_int_equal(insn->class, INSN_UNDEFINED);
		return;
	}
	assert_int_equal(insn->length, zi.length);
	if (offered(&zi) != (insn->class != INSN_UNDEFINED))
		expect(insn->bytes, "offered", insn->class != INSN_UNDEFINED, offered(&zi));
	if (insn->class == INSN_UNDEFINED)
		return;
	/* the opcode byte is the last one before ModRM or the immediate */
	if (insn->modrm_at)
		assert_int_equal(insn->bytes[insn->modrm_at - 1], zi.opcode);
	else if (!insn->has_mem)
		assert_int_equal(insn->bytes[insn->imm_at - 1], zi.opcode);
	assert_int_equal(!!insn->modrm_at, !!(zi.attributes & ZYDIS_ATTRIB_HAS_MODRM));
	/* Copied instructions touch no memory but through ModRM or a 64-bit offset, no segment, control or debug
	 * register. */
	if (insn->class != INSN_COPY)
		return;
	assert_false(zi.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED);
	assert_int_equal(zi.meta.branch_type, ZYDIS_BRANCH_TYPE_NONE);
	for (unsigned i = 0; i < zi.operand_count; i++) {
		ZydisRegisterClass class;

		if (ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			assert_int_not_equal(ops[i].visibility, ZYDIS_OPERAND_VISIBILITY_HIDDEN);
		if (ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER || insn->nop)
			continue;
		class = ZydisRegisterGetClass(ops[i].reg.value);
		assert_int_not_equal(class, ZYDIS_REGCLASS_SEGMENT);
		assert_int_not_equal(class, ZYDIS_REGCLASS_CONTROL);
		assert_int_not_equal(class, ZYDIS_REGCLASS_DEBUG);
		assert_int_not_equal(class, ZYDIS_REGCLASS_TABLE);
		assert_int_not_equal(class, ZYDIS_REGCLASS_IP);
		assert_int_not_equal(class, ZYDIS_REGCLASS_ZMM);
		assert_int_not_equal(class, ZYDIS_REGCLASS_MASK);
	}
}

static void check(const u8 *bytes)
{
	struct insn insn;

	if (insn_decode(&insn, bytes, INSN_MAX))
		fail_msg("15 bytes were not enough");
	check_invariants(&insn, bytes, INSN_MAX);
	check_against_zydis(&insn);
}

static void test_enumeration(void **state)
{
	static const char *const prefixes[] = {"",         "\x66",     "\x67",     "\xf2",     "\xf3",
					       "\xf0",     "\x64",     "\x41",     "\x48",     "\x4f",
					       "\x66\x48", "\xf2\x4f", "\xf3\x48", "\x66\xf2", "\x65\xf3",
					       "\x66\xf0", "\xc5\xf8", "\xc5\x79", "\xc5\xff"};
	static const char *const maps[] = {"", "\x0f", "\x0f\x38", "\x0f\x3a"};
	u8 bytes[64];

	(void)state;
	for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++) {
		for (unsigned m = 0; m < ARRAY_SIZE(maps); m++) {
			unsigned at = (unsigned)snprintf((char *)bytes, sizeof(bytes), "%s%s", prefixes[p], maps[m]);

			for (unsigned opcode = 0; opcode < 256; opcode++) {
				bytes[at] = (u8)opcode;
				for (unsigned modrm = 0; modrm < 256; modrm += m < 2 ? 1 : 3) {
					for (unsigned i = at + 1; i < sizeof(bytes); i++)
						bytes[i] = (u8)next_random();
					bytes[at + 1] = (u8)modrm;
					check(bytes);
				}
			}
		}
	}
}

static void test_vex_enumeration(void **state)
{
	u8 bytes[INSN_MAX + 1] = {0xc4};

	(void)state;
	for (unsigned map = 1; map <= 3; map++) {
		for (unsigned w_l_pp = 0; w_l_pp < 16; w_l_pp++) {
			for (unsigned opcode = 0; opcode < 256; opcode++) {
				for (unsigned modrm = 0; modrm < 256; modrm += 7) {
					bytes[1] = (u8)(0xe0 | map);
					bytes[2] = (u8)((w_l_pp & 8) << 4 | (modrm & 1 ? 0x78 : 0x68) | (w_l_pp & 7));
					bytes[3] = (u8)opcode;
					bytes[4] = (u8)modrm;
					for (unsigned i = 5; i < INSN_MAX; i++)
						bytes[i] = (u8)next_random();
					if ((modrm & 0xc7) == 4)
						bytes[5] =
							0x48; /* index 1: gathers want it to differ from the others */
					check(bytes);
				}
			}
		}
	}
}

static void test_noise(void **state)
{
	u8 bytes[INSN_MAX + 1];
	struct insn insn;

	(void)state;
	for (unsigned n = 0; n < 300000; n++) {
		unsigned available = (unsigned)(next_random() % (INSN_MAX + 1));

		for (unsigned i = 0; i < INSN_MAX; i++)
			bytes[i] = (u8)next_random();
		if (n & 1) /* more VEX */
			bytes[0] = n & 2 ? 0xc4 : 0xc5;
		check(bytes);
		insn_decode(&insn, bytes, INSN_MAX);
		/* fewer bytes: the same, or a wish for more */
		if (available < insn.length) {
			assert_int_equal(insn_decode(&insn, bytes, available), -1);
		} else {
			struct insn again;

			assert_int_equal(insn_decode(&again, bytes, available), 0);
			assert_memory_equal(&again, &insn, sizeof(insn));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),     cmocka_unit_test(test_nops),
		cmocka_unit_test(test_helpers),     cmocka_unit_test(test_units),
		cmocka_unit_test(test_registers),   cmocka_unit_test(test_flags),
		cmocka_unit_test(test_memory),      cmocka_unit_test(test_fields),
		cmocka_unit_test(test_truncated),   cmocka_unit_test(test_format),
		cmocka_unit_test(test_enumeration), cmocka_unit_test(test_vex_enumeration),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
