/* Every form on the allow-list, with operands and their places sampled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "check.h"
#include "generate.h"
#include "machine.h"
#ifdef INSN_LIFTED
#include "lift_engine.h"
#endif
#include "native.h"

static unsigned samples = 5;
static u64 first, count;

static void test_forms(void **state)
{
	(void)state;
	if (!native_supported())
		skip();
	machine_take_signals();
	unsigned forms = generate_init();

	assert_true(forms > 3000);
	assert_int_equal(check_cases(generate_form, &samples, first, count ? count : (u64)forms * samples), 0);
	print_message("%u forms, %llu runs\n", forms, (unsigned long long)check_ran());
}

/* Arguments: samples of each form, the first case, and how many. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms)};

	if (argc > 1 && atoi(argv[1]) > 0)
		samples = (unsigned)atoi(argv[1]);
	if (argc > 2)
		first = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		count = strtoull(argv[3], NULL, 0);
	image_set_template(2);
	native_init();
	machine_create();
#ifdef INSN_LIFTED
	lift_engine_install();
#endif
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	machine_destroy();
	return failed;
}
