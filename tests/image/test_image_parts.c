/* The small parts: messages, versions, fstab, names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "image/reader/fstab.h"
#include "image/reader/index.h"
#include "image/reader/tree.h"
#include "image/reader/version.h"
#include "image/wire.h"

/* ---- messages ---- */

static void wire_gives_back_what_was_put(void **state)
{
	u8 data[64];
	struct wire out = {.data = data, .size = sizeof(data)}, in;

	(void)state;
	wire_put_u32(&out, 7);
	wire_put_text(&out, "text");
	wire_put_u64(&out, UINT64_MAX - 1);
	wire_put_text(&out, "");
	assert_false(out.bad);
	in = (struct wire){.data = data, .size = out.at};
	assert_int_equal(wire_get_u32(&in), 7);
	assert_string_equal(wire_get_text(&in), "text");
	assert_true(wire_get_u64(&in) == UINT64_MAX - 1);
	assert_string_equal(wire_get_text(&in), "");
	assert_true(wire_done(&in));
}

static void wire_refuses_what_does_not_fit(void **state)
{
	u8 data[8];
	struct wire out = {.data = data, .size = sizeof(data)};

	(void)state;
	wire_put_text(&out, "five"); /* 4 + 4 + 1 */
	assert_true(out.bad);
	wire_put_u32(&out, 1);
	assert_true(out.bad);
}

static void wire_refuses_lies(void **state)
{
	static const struct {
		u8 data[12];
		u32 size;
	} cases[] = {
		{{5, 0, 0, 0, 'a', 'b', 0, 0}, 8},     /* longer than the message */
		{{0xff, 0xff, 0xff, 0xff, 'a', 0}, 6}, /* wraps */
		{{2, 0, 0, 0, 'a', 0, 0}, 7},          /* a NUL within */
		{{1, 0, 0, 0, 'a', 'b'}, 6},           /* no NUL behind */
		{{1, 0, 0}, 3},                        /* cut in the length */
		{{0, 0, 0, 0}, 4},                     /* the NUL is missing */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct wire in = {.data = (u8 *)cases[i].data, .size = cases[i].size};

		assert_string_equal(wire_get_text(&in), "");
		assert_true(in.bad);
		assert_int_equal(wire_get_u32(&in), 0);
		assert_false(wire_done(&in));
	}
}

static void wire_wants_all_to_be_read(void **state)
{
	u8 data[8] = {0};
	struct wire in = {.data = data, .size = sizeof(data)};

	(void)state;
	wire_get_u32(&in);
	assert_false(wire_done(&in));
	wire_get_u32(&in);
	assert_true(wire_done(&in));
}

/* ---- versions ---- */

static void versions_are_ordered(void **state)
{
	/* each is older than the next */
	static const char *const order[] = {
		"~rc1",
		"",
		"2.6.32",
		"6.1~rc1",
		"6.1",
		"6.1-rc",
		"6.1.0-9-amd64",
		"6.1.0-10-amd64",
		"6.1.0-10-cloud-amd64",
		"6.1.9",
		"6.1.10",
		"6.1.10a",
		"6.1.10b",
		"6.12.118+deb13-cloud-amd64",
		"10",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		for (size_t k = 0; k < ARRAY_SIZE(order); k++) {
			int expected = (i > k) - (i < k), got = version_compare(order[i], order[k]);

			if ((got > 0) - (got < 0) != expected)
				fail_msg("'%s' and '%s': %d", order[i], order[k], got);
		}
	assert_int_equal(version_compare("1_2", "1+2"), 0); /* what separates does not count */
	assert_int_equal(version_compare("1.007", "1.7"), 0);
}

/* ---- fstab ---- */

struct seen {
	char text[512];
};

static void note_line(void *opaque, const struct fstab_line *line)
{
	struct seen *seen = opaque;
	size_t used = strlen(seen->text);

	snprintf(seen->text + used, sizeof(seen->text) - used, "[%s|%s|%s|%s]", line->device, line->directory,
		 line->type, line->options);
}

static void fstab_lines(void **state)
{
	char text[] = "# comment\n"
		      "\n"
		      "UUID=1\t/ ext4  rw,noatime 0 1\r\n"
		      "  LABEL=my\\040disk /mnt/a\\040b\n"
		      "only-a-device\n"
		      "/dev/vda2 /boot ext2";
	struct seen seen = {""};

	(void)state;
	fstab_read(text, note_line, &seen);
	assert_string_equal(seen.text, "[UUID=1|/|ext4|rw,noatime][LABEL=my disk|/mnt/a b||][/dev/vda2|/boot|ext2|]");
}

/* ---- names ---- */

static void names_that_are_refused(void **state)
{
	char long_name[NAME_MAX + 2];

	(void)state;
	memset(long_name, 'a', sizeof(long_name));
	assert_true(tree_name_ok("a", 1));
	assert_true(tree_name_ok("...", 3));
	assert_true(tree_name_ok(long_name, NAME_MAX));
	assert_false(tree_name_ok(long_name, NAME_MAX + 1));
	assert_false(tree_name_ok("", 0));
	assert_false(tree_name_ok(".", 1));
	assert_false(tree_name_ok("..", 2));
	assert_false(tree_name_ok("a/b", 3));
	assert_false(tree_name_ok("a\0b", 3));
}

static void index_finds_what_was_added(void **state)
{
	struct index index;
	char name[16];
	u32 parent = 0;

	(void)state;
	assert_int_equal(index_init(&index, NULL), 0);
	for (unsigned i = 0; i < 5000; i++) {
		u32 node;

		snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(index_find(&index, parent, name, strlen(name)), INDEX_NONE);
		node = index_add(&index, parent, name, strlen(name), NULL);
		assert_int_equal(index_add(&index, parent, name, strlen(name), NULL), node);
		assert_int_equal(index_find(&index, parent, name, strlen(name)), node);
		assert_string_equal(index_name(&index, node), name);
		if (i % 100 == 0)
			parent = node;
	}
	assert_int_equal(index.count, 5001);
	/* a name that begins like another one is another one */
	assert_int_equal(index_find(&index, 0, "n", 1), INDEX_NONE);
	assert_int_equal(index_find(&index, 0, "n00", 3), INDEX_NONE);
	index_release(&index);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_gives_back_what_was_put),
		cmocka_unit_test(wire_refuses_what_does_not_fit),
		cmocka_unit_test(wire_refuses_lies),
		cmocka_unit_test(wire_wants_all_to_be_read),
		cmocka_unit_test(versions_are_ordered),
		cmocka_unit_test(fstab_lines),
		cmocka_unit_test(names_that_are_refused),
		cmocka_unit_test(index_finds_what_was_added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
