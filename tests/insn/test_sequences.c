/* Random sequences of instructions: what one leaves in registers, flags and memory the next works on. */
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

static u64 count = 12000, seed = 1, first;

static void test_sequences(void **state)
{
	(void)state;
	if (!native_supported())
		skip();
	machine_take_signals();
	generate_init();
	assert_int_equal(check_cases(generate_sequence, &seed, first, count), 0);
	print_message("%llu sequences, %llu runs\n", (unsigned long long)count, (unsigned long long)check_ran());
}

/* Arguments: how many sequences, the seed, and the number of the first. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_sequences)};

	if (argc > 1)
		count = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	if (argc > 3)
		first = strtoull(argv[3], NULL, 0);
	image_set_template(3);
	native_init();
	machine_create();
#ifdef INSN_LIFTED
	lift_engine_install();
#endif
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	machine_destroy();
	return failed;
}
