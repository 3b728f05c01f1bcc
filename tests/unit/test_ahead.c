/* Memory that is made ready ahead: which, when, and that it is left as it was. */
#include "ahead.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vm.h"

static struct vm *vm;

/* How much of the guest's memory at [gpa, gpa + length) is there. */
static u64 present(u64 gpa, u64 length)
{
	static unsigned char pages[1 << 18];
	u64 count = 0;

	assert_true(length / PAGE_SIZE <= sizeof(pages));
	assert_int_equal(mincore(ram_at(&vm->ram, gpa), length, pages), 0);
	for (u64 i = 0; i < length / PAGE_SIZE; i++)
		count += pages[i] & 1;
	return count * PAGE_SIZE;
}

static void wait_for(u64 gpa, u64 length)
{
	for (unsigned i = 0; i < 2000 && present(gpa, length) < length; i++)
		usleep(5000);
	assert_int_equal(present(gpa, length), length);
}

static int set_up(void **state)
{
	(void)state;
	vm = calloc(1, sizeof(*vm));
	assert_int_equal(ram_init(&vm->ram, 1 << 30, NULL), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ahead_destroy(vm->ahead);
	ram_release(&vm->ram);
	free(vm);
	return 0;
}

#define STEP   (16ULL << 20) /* of 1 GiB */
#define KERNEL (50ULL << 20)

static void test_guest(void **state)
{
	struct ram *ram = &vm->ram;
	const u64 end = (1 << 30) - 2 * STEP;

	(void)state;
	if (!ahead_create(vm))
		skip();
	wait_for(end, 2 * STEP);
	ahead_boot(vm, KERNEL);
	wait_for(KERNEL, STEP);
	assert_int_equal(present(0, KERNEL), 0);
	assert_int_equal(present(KERNEL + STEP, end - KERNEL - STEP), 0);
	/* the first use of what is ready */
	assert_ptr_equal(ram->watch, ram->host + KERNEL);
	assert_int_equal(ram->watch_length, STEP);
	ram->ahead_due = true;
	ahead_go_on(vm);
	assert_false(ram->ahead_due);
	assert_ptr_equal(ram->watch, ram->host + KERNEL + STEP);
	wait_for(KERNEL + STEP, STEP);
	for (unsigned i = 0; i < 100; i++)
		ahead_go_on(vm);
	assert_ptr_equal(ram->ready, ram->host + ram->size);
}

static void test_shared(void **state)
{
	const u64 length = 4 * AHEAD_PAGE;
	u8 *room = mmap(NULL, length + AHEAD_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	u8 *at = (u8 *)align_up((u64)room, AHEAD_PAGE);

	assert_ptr_not_equal(room, MAP_FAILED);
	assert_ptr_equal(mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
	for (u64 i = 0; i < length; i += 1000)
		at[i] = (u8)(i / 1000);
	ahead_create(vm); /* or not: then it is done at once */
	ahead_collapse(vm->ahead, at, length);
	ahead_destroy(vm->ahead);
	vm->ahead = NULL;
	for (u64 i = 0; i < length; i += 1000)
		assert_int_equal(at[i], (u8)(i / 1000));
	munmap(room, length + AHEAD_PAGE);
	(void)state;
}

/* More than is remembered, and an end in the middle of it. */
static void test_end(void **state)
{
	(void)state;
	ahead_create(vm);
	for (unsigned i = 0; i < 100; i++)
		ahead_touch(vm->ahead, vm->ram.host, 256ULL << 20);
	ahead_touch(NULL, vm->ram.host, AHEAD_PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_guest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_shared, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
