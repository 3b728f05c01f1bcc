/* Putting the guest's vector state away and bringing it back. */
#include "cpu/cpu.h"
#include "cpu/features.h"
#include "cpu/fpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* While guest state is in the registers, nothing else may be. */
#define GENERAL __attribute__((noinline, target("general-regs-only")))

static struct vcpu *cpu;
static u8 image[XSAVE_HEADER_END + 256]; /* what the guest has in its registers */

static int setup(void **state)
{
	(void)state;
	cpu = aligned_alloc(64, align_up(sizeof(*cpu), 64));
	memset(cpu, 0, sizeof(*cpu));
	fpu_reset(cpu);
	if (!(cpu->host_xsave & XCR0_AVX))
		skip();
	for (unsigned i = 32; i < FXSAVE_USED; i++)
		cpu->xsave[i] = (u8)(i * 7 + 1);
	for (unsigned i = 0; i < 8; i++) /* x87 registers have ten bytes */
		memset(cpu->xsave + 32 + 16 * i + 10, 0, 6);
	for (unsigned i = XSAVE_HEADER_END; i < sizeof(image); i++)
		cpu->xsave[i] = (u8)(i * 5 + 3);
	cpu->xsave[FXSAVE_FCW] = 0x7e;                                /* as after FNINIT, but one exception unmasked */
	cpu->xsave[4] = 0xff;                                         /* no x87 register is empty */
	*(u32 *)(cpu->xsave + FXSAVE_MXCSR) = MXCSR_DEFAULT | 0x6000; /* rounds towards zero */
	*(u64 *)(cpu->xsave + XSAVE_XSTATE_BV) = cpu->host_xsave;
	memcpy(image, cpu->xsave, sizeof(image));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(cpu);
	return 0;
}

GENERAL static void load(void)
{
	vcpu_fpu_get(cpu);
}

/* What ordinary C may do to vector registers. */
GENERAL static void clobber(void)
{
	__asm__ volatile("vpcmpeqd %%xmm0,%%xmm0,%%xmm0\n\tvinsertf128 $1,%%xmm0,%%ymm0,%%ymm0\n\t"
			 "vmovaps %%ymm0,%%ymm7\n\tvmovaps %%ymm0,%%ymm15\n\tvzeroupper\n\tvmovaps %%xmm0,%%xmm3"
			 :
			 :
			 : "memory");
}

static u32 mxcsr(void)
{
	u32 value;

	__asm__("stmxcsr %0" : "=m"(value));
	return value;
}

static u16 control_word(void)
{
	u16 value;

	__asm__("fnstcw %0" : "=m"(value));
	return value;
}

/* The area has what the guest had; FXSAVE's bytes for software and what no instruction defines are left out. */
static void expect_image(void)
{
	assert_false(cpu->fpu_loaded);
	assert_false(cpu->fpu_lent);
	assert_memory_equal(cpu->xsave, image, 5);
	assert_memory_equal(cpu->xsave + FXSAVE_MXCSR, image + FXSAVE_MXCSR, 4);
	assert_memory_equal(cpu->xsave + 32, image + 32, FXSAVE_USED - 32);
	assert_memory_equal(cpu->xsave + XSAVE_HEADER_END, image + XSAVE_HEADER_END, 256);
	assert_int_equal(*(u64 *)(cpu->xsave + XSAVE_XSTATE_BV), cpu->host_xsave);
	assert_int_equal(mxcsr() & ~0x3fu, MXCSR_DEFAULT);
	assert_int_equal(control_word(), FCW_DEFAULT);
}

/* Makes sure that nothing but the registers has the state. */
GENERAL static void forget_area(void)
{
	for (unsigned i = 0; i < sizeof(image); i++)
		if (i < XSAVE_XSTATE_BV || i >= XSAVE_HEADER_END)
			cpu->xsave[i] = 0xcc;
}

GENERAL static void put_after_get(void)
{
	load();
	vcpu_fpu_get(cpu);
	forget_area();
	vcpu_fpu_put(cpu);
	vcpu_fpu_put(cpu);
	clobber();
}

static void state_is_put_away(void **state)
{
	(void)state;
	put_after_get();
	expect_image();
}

static u32 mxcsr_while_lent;
static bool loaded_while_lent;

GENERAL static void lend_and_get(void)
{
	load();
	forget_area();
	vcpu_fpu_lend(cpu);
	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr_while_lent));
	loaded_while_lent = cpu->fpu_loaded;
	clobber();
	vcpu_fpu_lend(cpu);
	vcpu_fpu_get(cpu);
	forget_area();
	vcpu_fpu_put(cpu);
}

static void lent_state_comes_back(void **state)
{
	(void)state;
	lend_and_get();
	expect_image();
	assert_int_equal(mxcsr_while_lent, MXCSR_DEFAULT);
	assert_false(loaded_while_lent);
}

GENERAL static void lend_and_put(void)
{
	load();
	forget_area();
	vcpu_fpu_lend(cpu);
	clobber();
	vcpu_fpu_put(cpu);
	clobber();
}

static void lent_state_can_be_put_away(void **state)
{
	(void)state;
	lend_and_put();
	expect_image();
	lend_and_get();
	expect_image();
}

GENERAL static void lend_unloaded(void)
{
	vcpu_fpu_lend(cpu);
}

static void nothing_is_lent_that_is_not_there(void **state)
{
	(void)state;
	lend_unloaded();
	assert_false(cpu->fpu_lent);
	assert_memory_equal(cpu->xsave, image, sizeof(image));
}

/* Registers that were never used are zero, whatever lies in the area in their place. */
static void unused_state_is_lent_as_zero(void **state)
{
	(void)state;
	*(u64 *)(cpu->xsave + XSAVE_XSTATE_BV) = XCR0_X87 | XCR0_SSE;
	memset(image + XSAVE_HEADER_END, 0, 256);
	lend_and_get();
	*(u64 *)(cpu->xsave + XSAVE_XSTATE_BV) |= XCR0_AVX; /* the processor may know that they are */
	expect_image();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(state_is_put_away),
		TEST(lent_state_comes_back),
		TEST(lent_state_can_be_put_away),
		TEST(nothing_is_lent_that_is_not_there),
		TEST(unused_state_is_lent_as_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
