/* 32-bit code under a 64-bit kernel: every opcode, with random operands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "check.h"
#include "generate.h"
#include "machine.h"
#include "native.h"

static unsigned samples = 3;
static u64 first, count = UINT32_MAX;

static void test_legacy(void **state)
{
	(void)state;
	if (!native_supported() || !native_init_legacy())
		skip();
	machine_take_signals();
	assert_int_equal(check_cases(generate_legacy, &samples, first, count), 0);
	print_message("%llu runs\n", (unsigned long long)check_ran());
}

/* Arguments: samples of each form, the first case, and how many. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_legacy)};

	if (argc > 1 && atoi(argv[1]) > 0)
		samples = (unsigned)atoi(argv[1]);
	if (argc > 2)
		first = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		count = strtoull(argv[3], NULL, 0);
	image_set_template(4);
	native_init();
	machine_create();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	machine_destroy();
	return failed;
}
