/* The statistics file. */
#include "output.h"
#include "stats_json.h"

#include "dev/boot_timer.h"
#include "dev/platform.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/avant-test-XXXXXX";

static int enter_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) && !chdir(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	(void)state;
	unlink("s.json");
	return chdir("/") || rmdir(directory) ? -1 : 0;
}

static unsigned files_here(void)
{
	DIR *dir = opendir(".");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static int stats_json_write(const char *path, const struct vm *vm, const struct run_times *times, struct err *err)
{
	char *text = stats_json_text(vm, times);
	int result = output_write(path, text, strlen(text), err);

	free(text);
	return result;
}

static struct vm *sample_vm(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	vm->exit = EXIT_RESET;
	vm->stats.translate_ns = 12345678;
	vm->stats.page_faults = 7;
	vm->stats.interp_instructions = 1ULL << 40;
	return vm;
}

static void test_contents(void **state)
{
	struct run_times times = {.wall_ns = 1500000000, .cpu_ns = 1234567, .mark_ns = 2500000};
	struct vm *vm = sample_vm();
	struct err err = ERR_INIT;
	json_t *object;
	struct stat st;

	(void)state;
	assert_int_equal(output_check("s.json", &err), 0);
	assert_int_equal(stats_json_write("s.json", vm, &times, &err), 0);
	object = json_load_file("s.json", JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(object);
	assert_string_equal(json_string_value(json_object_get(object, "exit_reason")), "reset");
	assert_true(json_real_value(json_object_get(object, "wall_ms")) == 1500);
	assert_true(json_real_value(json_object_get(object, "cpu_ms")) == 1.234);
	assert_true(json_real_value(json_object_get(object, "live_translate_cpu_ms")) == 12.345);
	assert_true(json_real_value(json_object_get(object, "mark_ms")) == 2.5);
	assert_int_equal(json_integer_value(json_object_get(object, "page_faults")), 7);
	assert_int_equal(json_integer_value(json_object_get(object, "interp_instructions")), 1LL << 40);
#define STAT(field) assert_true(json_is_integer(json_object_get(object, #field)));
#include "stats.def"
#undef STAT
	json_decref(object);
	assert_int_equal(stat("s.json", &st), 0);
	assert_int_equal(st.st_mode & 0400, 0400);
	assert_int_equal(files_here(), 1);
	free(vm);
}

static void test_mark_never_seen(void **state)
{
	struct run_times times = {0};
	struct vm *vm = sample_vm();
	json_t *object;

	(void)state;
	assert_int_equal(stats_json_write("s.json", vm, &times, NULL), 0);
	object = json_load_file("s.json", 0, NULL);
	assert_true(json_is_null(json_object_get(object, "mark_ms")));
	json_decref(object);
	free(vm);
}

static void test_boot_marks(void **state)
{
	struct run_times times = {0};
	struct vm *vm = sample_vm();
	json_t *object, *marks;

	(void)state;
	vm->clock.source = CLOCK_SOURCE_INSTRUCTIONS;
	vm->clock.ns_mult = 1ULL << 32;
	vm->vcpu = calloc(1, sizeof(*vm->vcpu));
	vm->clock.vcpu = vm->vcpu;
	vm->boot_timer = boot_timer_create(vm);
	vm->vcpu->icount = 2500000;
	bus_write(&vm->ports, PORT_BOOT_TIMER, 1, 7);
	vm->vcpu->icount = 3000000;
	bus_write(&vm->ports, PORT_BOOT_TIMER, 1, 255);
	bus_write(&vm->ports, PORT_BOOT_TIMER, 1, 7); /* the first time counts */
	assert_int_equal(stats_json_write("s.json", vm, &times, NULL), 0);
	object = json_load_file("s.json", 0, NULL);
	marks = json_object_get(object, "boot_marks");
	assert_int_equal(json_object_size(marks), 2);
	assert_true(json_real_value(json_object_get(marks, "7")) == 2.5);
	assert_true(json_real_value(json_object_get(marks, "255")) == 3);
	json_decref(object);
	boot_timer_destroy(vm->boot_timer);
	free(vm->vcpu);
	free(vm);
}

/* A device must stay one: renaming a file over it would destroy it. */
static void test_special_files_are_written_in_place(void **state)
{
	struct run_times times = {0};
	struct vm *vm = sample_vm();
	struct err err = ERR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(symlink("/dev/full", "link"), 0);
	assert_int_equal(output_check("link", &err), 0);
	assert_int_equal(stats_json_write("link", vm, &times, &err), -1);
	assert_non_null(strstr(err.text, "No space left"));
	assert_int_equal(lstat("link", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	unlink("link");
	free(vm);
}

static void test_unwritable(void **state)
{
	struct run_times times = {0};
	struct vm *vm = sample_vm();
	struct err err = ERR_INIT;
	unsigned before = files_here();

	(void)state;
	assert_int_equal(output_check("no/such", &err), -1);
	assert_int_equal(output_check("/", &err), -1);
	assert_int_equal(stats_json_write("no/such", vm, &times, &err), -1);
	assert_non_null(strstr(err.text, "No such file"));
	assert_int_equal(files_here(), before);
	free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contents),   cmocka_unit_test(test_mark_never_seen),
		cmocka_unit_test(test_boot_marks), cmocka_unit_test(test_special_files_are_written_in_place),
		cmocka_unit_test(test_unwritable),
	};

	return cmocka_run_group_tests(tests, enter_directory, remove_directory);
}
