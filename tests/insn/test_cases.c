/* The hand-written cases of cases.S. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "check.h"
#include "machine.h"
#ifdef INSN_LIFTED
#include "lift_engine.h"
#endif
#include "native.h"
#include "random.h"

struct text_case {
	const char *text;
	const u8 *code, *end;
};

/* Ends with an empty one. */
extern const struct text_case insn_cases[];

static void set_registers(struct insn_case *c)
{
	static const u64 gpr[GPR_COUNT] = {
		[RAX] = 0x1122334455667788,
		[RCX] = 5,
		[RDX] = 0x99aabbccddeeff00,
		[RBX] = DATA + 0x20,
		[RSP] = STACK + 0xf00,
		[RBP] = STACK + 0xf80,
		[RSI] = DATA + 0x200,
		[RDI] = DATA + 0x400,
		[R8] = 3,
		[R9] = (u64)-7,
		[R10] = DATA + 0x400,
		[R11] = DATA + 0x440,
		[R12] = DATA + 0x480,
		[R13] = DATA + 0x2000,
		[R14] = DATA + 0xffc,
		[R15] = HIGH_DATA + 0x100,
	};
	struct random r = {1};

	memcpy(c->gpr, gpr, sizeof(gpr));
	c->fs_base = DATA + 0x100;
	c->gs_base = HIGH_DATA + 0x100 - 0x1000;
	vectors_default(c->vectors);
	for (unsigned i = 0; i < 16 * 16; i += 8) {
		u64 low = random_interesting(&r), high = random_interesting(&r);

		memcpy(c->vectors + 160 + i, &low, 8);
		memcpy(c->vectors + 576 + i, &high, 8);
	}
}

/* Each case at the beginning of a page, with its last bytes on the next page, and at a high address. */
static bool make(void *opaque, u64 number, struct insn_case *c)
{
	const struct text_case *from = &insn_cases[number / 3];

	(void)opaque;
	if (!from->text)
		return false;
	c->length = (unsigned)(from->end - from->code);
	if (c->length > CODE_MAX)
		fail_msg("too long: %s", from->text);
	snprintf(c->name, sizeof(c->name), "%s", from->text);
	memcpy(c->code, from->code, c->length);
	set_registers(c);
	c->start = number % 3 == 0   ? CODE + 0x40
		   : number % 3 == 1 ? CODE + PAGE_SIZE - c->length / 2
				     : HIGH_CODE + PAGE_SIZE - c->length + 3;
	c->cold = number % 3 == 2;
	return true;
}

static u64 first, count = UINT32_MAX;

static void test_all(void **state)
{
	(void)state;
	if (!native_supported())
		skip();
	assert_int_equal(check_cases(make, NULL, first, count), 0);
	assert_true(check_ran() > 0);
}

/* Arguments: the first case, and how many. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};

	if (argc > 1)
		first = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		count = strtoull(argv[2], NULL, 0);
	image_set_template(1);
	native_init();
	machine_create();
#ifdef INSN_LIFTED
	lift_engine_install();
#endif
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	machine_destroy();
	return failed;
}
