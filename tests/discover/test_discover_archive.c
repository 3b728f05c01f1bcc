#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "discover/internal.h"
#include "kernel_synth.h"
#include "synth_program.h"

static _Alignas(16) u8 program[PROGRAM_SIZE];
static u8 archive[1 << 17];
static u64 archive_size;

static void add_file(const char *name, u32 mode, const void *data, u64 size)
{
	char header[128];
	u64 name_size = strlen(name) + 1;

	sprintf(header, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1u, mode, 0u, 0u, 1u, 0u,
		(u32)size, 0u, 0u, 0u, 0u, (u32)name_size, 0u);
	memcpy(archive + archive_size, header, 110);
	memcpy(archive + archive_size + 110, name, name_size);
	archive_size = align_up(archive_size + 110 + name_size, 4);
	if (size)
		memcpy(archive + archive_size, data, size);
	archive_size = align_up(archive_size + size, 4);
}

static void start(void)
{
	memset(archive, 0, sizeof(archive));
	archive_size = 0;
}

/* A directory, a program, a library, a module, a script. */
static void add_root(void)
{
	add_file("bin", 0040755, NULL, 0);
	synth_program(program, ET_EXEC);
	add_file("bin/fixed", 0100755, program, PROGRAM_SIZE);
	synth_program(program, ET_DYN);
	add_file("lib/shared.so", 0100644, program, PROGRAM_SIZE);
	synth_program(program, ET_REL);
	add_file("lib/module.ko", 0100644, program, PROGRAM_SIZE);
	add_file("init", 0100755, "#!/bin/sh\n", 10);
	add_file("TRAILER!!!", 0, NULL, 0);
}

/* What was visited. */
struct visited {
	char names[256];
	unsigned count;
	int result; /* what visiting returns */
};

static int visit(void *opaque, const char *name, const u8 *data, u64 size, struct err *err)
{
	struct visited *visited = opaque;

	(void)err;
	assert_int_equal(memcmp(data, ELFMAG, SELFMAG), 0);
	if (strlen(visited->names) + strlen(name) + 2 < sizeof(visited->names)) {
		strcat(visited->names, name);
		strcat(visited->names, " ");
	}
	visited->count += size >= sizeof(Elf64_Ehdr);
	return visited->result;
}

static void check(const u8 *data, u64 size, unsigned archives)
{
	struct visited visited = {0};
	struct report report = {0};
	struct err err = ERR_INIT;
	u8 *copy = malloc(size ? size : 1);
	char line[64];

	memcpy(copy, data, size);
	if (discover_archive(copy, size, "initrd", visit, &visited, &report, &err))
		fail_msg("unexpected error: %s", err.text);
	sprintf(line, "%u archives", archives);
	assert_non_null(strstr(report.text, line));
	assert_string_equal(visited.names, "bin/fixed lib/shared.so lib/module.ko ");
	report_release(&report);
	visited.result = 7;
	assert_int_equal(discover_archive(copy, size, "initrd", visit, &visited, NULL, &err), 7);
	assert_int_equal(visited.count, 4);
	free(copy);
}

static void test_plain(void **state)
{
	(void)state;
	start();
	add_root();
	check(archive, archive_size, 1);
}

/* Microcode first, as distributions have it, zeros, then the root. */
static void test_concatenated(void **state)
{
	(void)state;
	start();
	add_file("kernel/x86/microcode/GenuineIntel.bin", 0100644, "microcode", 9);
	add_file("TRAILER!!!", 0, NULL, 0);
	archive_size = align_up(archive_size, 512);
	add_root();
	check(archive, archive_size, 2);
}

static void test_compressed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(synth_packers); i++) {
		struct bytes packed, whole;
		u64 first;

		start();
		add_root();
		packed = synth_packers[i].pack((struct bytes){archive, archive_size});
		check(packed.data, packed.size, 1);
		start();
		add_file("early", 0100644, "x", 1);
		add_file("TRAILER!!!", 0, NULL, 0);
		first = align_up(archive_size, 512);
		whole = bytes_of(first + packed.size);
		memcpy(whole.data, archive, archive_size);
		memcpy(whole.data + first, packed.data, packed.size);
		check(whole.data, whole.size, 2);
		free(packed.data);
		free(whole.data);
	}
}

/* To the limit, and not a byte more, wherever it lies between the steps in which the room grows. */
static void test_unpack_limit(void **state)
{
	static const u64 limits[] = {0,       1,      65536, 1 << 20, (1 << 20) + 1, (3 << 19) + 7, (3 << 20) - 1,
				     3 << 20, 4 << 20};
	struct bytes whole = bytes_of(3 << 20);

	(void)state;
	for (u64 i = 0; i < whole.size; i++)
		whole.data[i] = (u8)(i >> 8);
	for (unsigned i = 0; i < ARRAY_SIZE(synth_packers); i++) {
		struct bytes packed = synth_packers[i].pack(whole);

		for (unsigned k = 0; k < ARRAY_SIZE(limits); k++) {
			u64 unpacked, wanted = limits[k] < whole.size ? limits[k] : whole.size;
			const char *reason = NULL;
			u8 *bytes = unpack(packed.data, packed.size, limits[k], &unpacked, &reason);

			assert_int_equal(unpacked, wanted);
			if (wanted)
				assert_memory_equal(bytes, whole.data, wanted);
			else
				assert_null(bytes);
			assert_true(bytes || strstr(reason, "too much"));
			free(bytes);
		}
		free(packed.data);
	}
	free(whole.data);
}

static void expect_error(const void *data, u64 size)
{
	struct visited visited = {0};
	struct err err = ERR_INIT;

	assert_int_equal(discover_archive(data, size, "initrd", visit, &visited, NULL, &err), -1);
	assert_non_null(strstr(err.text, "'initrd' is not an initramfs"));
	assert_int_equal(visited.count, 0);
}

static void test_no_archive(void **state)
{
	(void)state;
	expect_error("", 0);
	expect_error("\0\0\0\0", 4);
	expect_error("something else entirely, and long enough to be looked at", 56);
	expect_error("\x1f\x8b\x08\x00", 4);
}

/* Cut anywhere or bent: what came before the damage counts. */
static void test_damaged(void **state)
{
	(void)state;
	srand(4);
	for (unsigned round = 0; round < 600; round++) {
		struct visited visited = {0};
		struct report report = {0};
		struct err err = ERR_INIT;
		u64 size;
		u8 *copy;

		start();
		add_root();
		size = round % 2 ? archive_size : (u64)rand() % archive_size;
		for (unsigned i = 0; i < round % 5; i++)
			archive[rand() % (round % 3 ? 300 : (int)archive_size)] ^= (u8)(1 << rand() % 8);
		copy = malloc(size ? size : 1);
		memcpy(copy, archive, size);
		discover_archive(copy, size, "initrd", visit, &visited, &report, &err);
		report_release(&report);
		free(copy);
	}
	start();
	add_root();
	{
		struct visited visited = {0};
		struct report report = {0};
		struct err err = ERR_INIT;

		assert_int_equal(
			discover_archive(archive, archive_size - 200, "initrd", visit, &visited, &report, &err), 0);
		assert_int_equal(visited.count, 3);
		assert_non_null(strstr(report.text, "damaged or truncated"));
		report_release(&report);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),      cmocka_unit_test(test_concatenated),
		cmocka_unit_test(test_compressed), cmocka_unit_test(test_unpack_limit),
		cmocka_unit_test(test_no_archive), cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
