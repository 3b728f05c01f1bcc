/* Symbol files, and the map for perf that uses them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "debug/perf_map.h"
#include "debug/symbols.h"
#include "util/err.h"
#include "vm.h"

static char path[] = "/tmp/avant-symbols-XXXXXX";

static int create_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void write_file(const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static const char sample[] = "ffffffff81000100 t second\n"
			     "not a symbol\n"
			     "ffffffff81000000 T first\n"
			     "ffffffff81000050 D data\n"
			     "ffffffffa0000000 t in_module\t[module]\n"
			     "zz T what\n"
			     "ffffffff81000040 T \n"
			     "fffffffffffffffff T too_long\n";

static void expect(const struct symbols *symbols, u64 address, const char *name, u64 distance)
{
	u64 offset = 0;
	const char *found = symbols_find(symbols, address, &offset);

	assert_non_null(found);
	assert_string_equal(found, name);
	assert_int_equal(offset, distance);
}

static void test_symbols(void **state)
{
	struct err err = ERR_INIT;
	struct symbols *symbols;
	u64 offset;

	(void)state;
	write_file(sample);
	symbols = symbols_load(path, &err);
	assert_non_null(symbols);
	expect(symbols, 0xffffffff81000000, "first", 0);
	expect(symbols, 0xffffffff810000ff, "first", 0xff);
	expect(symbols, 0xffffffff81000100, "second", 0);
	expect(symbols, 0xffffffffa0000010, "in_module", 0x10);
	assert_null(symbols_find(symbols, 0xffffffff80ffffff, &offset));
	assert_null(symbols_find(symbols, 0xffffffff90000000, &offset)); /* far from everything */
	assert_null(symbols_find(symbols, 0, &offset));
	symbols_free(symbols);
}

static void test_bad_files(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	write_file("nothing of use\n");
	assert_null(symbols_load(path, &err));
	assert_non_null(strstr(err.text, "no symbols"));
	write_file("0000000000000000 T a\n0000000000000000 T b\n");
	assert_null(symbols_load(path, &err));
	assert_non_null(strstr(err.text, "permission"));
	assert_null(symbols_load("/no/such/file", &err));
	assert_null(symbols_load("/", &err));
}

static void test_perf_map(void **state)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct err err = ERR_INIT;
	char map[64], text[256];
	struct stat st;
	FILE *file;

	(void)state;
	perf_map_add(vm, 1, 2, 3); /* not wanted: nothing happens */
	write_file(sample);
	snprintf(map, sizeof(map), "/tmp/perf-%d.map", (int)getpid());
	/* what lies there must not be written through */
	unlink(map);
	assert_int_equal(symlink(path, map), 0);
	vm->config.perf_map = true;
	vm->config.symbols_path = path;
	assert_int_equal(perf_map_open(vm, &vm->perf_map, &err), 0);
	perf_map_add(vm, 0x20000040, 0x1f, 0xffffffff81000104);
	perf_map_add(vm, 0x20000060, 0x20, 0x401000);
	perf_map_close(vm->perf_map);
	assert_int_equal(lstat(map, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	file = fopen(map, "r");
	assert_non_null(fgets(text, sizeof(text), file));
	assert_string_equal(text, "20000040 1f second+0x4\n");
	assert_non_null(fgets(text, sizeof(text), file));
	assert_string_equal(text, "20000060 20 guest_0000000000401000\n");
	assert_null(fgets(text, sizeof(text), file));
	fclose(file);
	unlink(map);
	free(vm);
}

static void test_perf_map_is_optional(void **state)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(perf_map_open(vm, &vm->perf_map, &err), 0);
	assert_null(vm->perf_map);
	perf_map_close(vm->perf_map);
	vm->config.perf_map = true;
	vm->config.symbols_path = "/no/such/file";
	assert_int_equal(perf_map_open(vm, &vm->perf_map, &err), -1);
	free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_symbols),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_perf_map),
		cmocka_unit_test(test_perf_map_is_optional),
	};

	return cmocka_run_group_tests(tests, create_file, remove_file);
}
