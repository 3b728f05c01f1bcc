/* Which accesses the translator expects on the page of the last one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/vcpu.h"
#include "translate/locality.h"

static struct scan scan;
static struct locality locality;

/* Scans the code; the answer for the memory operand of its instruction number `i`. */
static bool stays(const u8 *code, unsigned length, unsigned i)
{
	const struct scan_options options = {.max = SCAN_MAX};

	assert_int_equal(scan_unit(&scan, 0x401000, code, length, length, &options), 0);
	assert_true(i < scan.count);
	locality_find(&locality, &scan);
	return locality_stays(&locality, &scan, i, scan.item[i].insn.base, scan.item[i].insn.index);
}

#define STAYS(i, ...) stays((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), i)

static void test_streams(void **state)
{
	(void)state;
	/* l: mov cl,[rax]; add rax,1; jne l; ret */
	assert_true(STAYS(0, 0x8a, 0x08, 0x48, 0x83, 0xc0, 0x01, 0x75, 0xf8, 0xc3));
	/* the same with add rax,0x1000 */
	assert_false(STAYS(0, 0x8a, 0x08, 0x48, 0x81, 0xc0, 0x00, 0x10, 0x00, 0x00, 0x75, 0xf5, 0xc3));
	/* l: mov rax,[rax]; test rax,rax; jne l; ret: a list */
	assert_false(STAYS(0, 0x48, 0x8b, 0x00, 0x48, 0x85, 0xc0, 0x75, 0xf8, 0xc3));
	/* l: mov cl,[rdx]; inc rax; jne l; ret: the same address each time */
	assert_true(STAYS(0, 0x8a, 0x0a, 0x48, 0xff, 0xc0, 0x75, 0xf9, 0xc3));
	/* mov cl,[rdx]; ret: whose pointer? */
	assert_false(STAYS(0, 0x8a, 0x0a, 0xc3));
	/* the pointer is loaded in an outer loop: l: mov rax,[rsi]; m: mov cl,[rax]; inc rax; jne m; jmp l */
	assert_true(STAYS(1, 0x48, 0x8b, 0x06, 0x8a, 0x08, 0x48, 0xff, 0xc0, 0x75, 0xf9, 0xeb, 0xf4));
}

static void test_tables(void **state)
{
	(void)state;
	/* movzx eax,dl; mov eax,[rbx+rax*4]; ret */
	assert_true(STAYS(1, 0x0f, 0xb6, 0xc2, 0x8b, 0x04, 0x83, 0xc3));
	/* movzx eax,dx; mov eax,[rbx+rax*4]; ret */
	assert_false(STAYS(1, 0x0f, 0xb7, 0xc2, 0x8b, 0x04, 0x83, 0xc3));
	/* movzx eax,dl; add eax,edx; mov eax,[rbx+rax*4]; ret */
	assert_false(STAYS(2, 0x0f, 0xb6, 0xc2, 0x01, 0xd0, 0x8b, 0x04, 0x83, 0xc3));
	/* and eax,0xff (as imm32); mov eax,[rbx+rax*4]; ret, and with 0x1ff */
	assert_true(STAYS(1, 0x81, 0xe0, 0xff, 0x00, 0x00, 0x00, 0x8b, 0x04, 0x83, 0xc3));
	assert_false(STAYS(1, 0x81, 0xe0, 0xff, 0x01, 0x00, 0x00, 0x8b, 0x04, 0x83, 0xc3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_tables),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
