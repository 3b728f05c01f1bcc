/* The client, against a reader that breaks the protocol and against the real one. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "boot/blob.h"
#include "image/image.h"

static char path[] = "/tmp/avant-test-XXXXXX";

static int setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	close(fd);
	return fd < 0;
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

/* An image whose reader behaves like this; its bytes are the word and a line feed. */
static struct image *fake(const char *mode)
{
	struct err err = ERR_INIT;
	FILE *file = fopen(path, "w");
	struct image *image;

	assert_non_null(file);
	fprintf(file, "%s\n........", mode);
	assert_int_equal(fclose(file), 0);
	image = image_open(path, FAKE_READER, &err);
	if (!image)
		fail_msg("%s", err.text);
	return image;
}

static void expect_failure(int result, const struct err *err, const char *mode, const char *message)
{
	if (result != -1 || !strstr(err->text, message))
		fail_msg("%s: %d, '%s'", mode, result, err->text);
}

static int ignore_entry(void *opaque, const struct image_entry *entry)
{
	(void)entry;
	return --*(int *)opaque < 0 ? 7 : 0;
}

static void readers_that_end(void **state)
{
	static const struct {
		const char *mode, *message;
	} cases[] = {{"die", "Aborted"}, {"exit", "ended with status 9"}, {"error", "': bad ?[2J name"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct image *image = fake(cases[i].mode);
		struct image_entry entry;
		struct err err = ERR_INIT;

		expect_failure(image_stat(image, IMAGE_TREE, "/", true, &entry, &err), &err, cases[i].mode,
			       cases[i].message);
		/* and nothing more can be had */
		expect_failure(image_stat(image, IMAGE_TREE, "/", true, &entry, &err), &err, cases[i].mode, path);
		image_close(image);
	}
}

static void replies_that_lie(void **state)
{
	static const char *const modes[] = {"garbage", "short", "root", "volumes"};
	static const char message[] = "does not answer sensibly";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct image *image = fake(modes[i]);
		struct err err = ERR_INIT;

		expect_failure(image_info(image, &err) ? 0 : -1, &err, modes[i],
			       strcmp(modes[i], "garbage") ? message : "");
		image_close(image);
	}
	struct image *image = fake("boot");
	struct image_boot boot;
	struct err err = ERR_INIT;

	expect_failure(image_find_boot(image, &boot, &err), &err, "boot", message);
	image_close(image);
}

static void files_that_lie(void **state)
{
	static const char *const modes[] = {"large",  "sum",  "count", "beyond",        "wrap",
					    "length", "more", "pipe",  "no-descriptor", "unasked"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct image *image = fake(modes[i]);
		struct err err = ERR_INIT;
		struct blob blob;

		expect_failure(image_open_file(image, IMAGE_TREE, "/x", 100, &blob, &err), &err, modes[i],
			       "does not answer sensibly");
		image_close(image);
	}
}

static void files_from_memory(void **state)
{
	struct image *image = fake("memory");
	struct err err = ERR_INIT;
	struct blob blob;
	char bytes[9] = "";

	(void)state;
	assert_int_equal(image_open_file(image, IMAGE_TREE, "/x", 8, &blob, &err), 0);
	assert_int_equal(blob_read(&blob, 0, bytes, 8, &err), 0);
	assert_string_equal(bytes, "in memor");
	blob_release(&blob);
	expect_failure(image_open_file(image, IMAGE_TREE, "/x", 7, &blob, &err), &err, "memory", "sensibly");
	image_close(image);

	/* the memory is smaller than it was said to be: an error, not a signal */
	image = fake("shrunk");
	assert_int_equal(image_open_file(image, IMAGE_TREE, "/x", 8, &blob, &err), 0);
	expect_failure(blob_read(&blob, 0, bytes, 8, &err), &err, "shrunk", "shorter");
	blob_release(&blob);
	image_close(image);
}

static void files_in_the_image(void **state)
{
	struct image *image = fake("plain");
	struct err err = ERR_INIT;
	struct blob blob;
	char bytes[9] = "";

	(void)state;
	assert_int_equal(image_open_file(image, IMAGE_TREE, "/x", 8, &blob, &err), 0);
	assert_int_equal(blob_read(&blob, 2, bytes, 4, &err), 0);
	assert_string_equal(bytes, "ain\n");
	blob_release(&blob);
	image_close(image);
}

static void walks_that_do_not_end(void **state)
{
	struct err err = ERR_INIT;
	struct image *image = fake("empty-next");
	int most = 1000;

	(void)state;
	expect_failure(image_walk(image, IMAGE_TREE, "/", 1, ignore_entry, &most, &err), &err, "empty-next",
		       "sensibly");
	image_close(image);
	image = fake("many-next");
	expect_failure(image_walk(image, IMAGE_TREE, "/", 1, ignore_entry, &most, &err), &err, "many-next", "sensibly");
	image_close(image);
	/* one entry after the other for ever: it is the visitor who ends that */
	image = fake("entries");
	assert_int_equal(image_walk(image, IMAGE_TREE, "/", 1, ignore_entry, &most, &err), 7);
	image_close(image);
}

/* ---- the real one ---- */

struct collected {
	char text[512];
};

static int collect(void *opaque, const struct image_entry *entry)
{
	struct collected *c = opaque;
	size_t used = strlen(c->text);

	snprintf(c->text + used, sizeof(c->text) - used, "%s:%d:%s ", entry->path, (int)entry->kind, entry->target);
	return 0;
}

static void a_directory(void **state)
{
	char folder[] = "/tmp/avant-test-XXXXXX", name[64], command[64];
	struct err err = ERR_INIT;
	struct collected c = {""};
	struct image *image;
	struct blob blob;
	FILE *file;
	char bytes[8] = "";

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(name, sizeof(name), "%s/d", folder);
	assert_int_equal(mkdir(name, 0700), 0);
	snprintf(name, sizeof(name), "%s/d/f", folder);
	file = fopen(name, "w");
	assert_non_null(file);
	fputs("bytes", file);
	assert_int_equal(fclose(file), 0);
	snprintf(name, sizeof(name), "%s/l", folder);
	assert_int_equal(symlink("/d/../d/f", name), 0);
	snprintf(name, sizeof(name), "%s/p", folder);
	assert_int_equal(mkfifo(name, 0600), 0);

	image = image_open(folder, READER, &err);
	assert_non_null(image);
	assert_int_equal(image_walk(image, IMAGE_TREE, "/", UINT32_MAX, collect, &c, &err), 0);
	assert_string_equal(c.text, ":1: d:1: d/f:0: l:2:/d/../d/f p:5: ");
	assert_int_equal(image_open_file(image, IMAGE_TREE, "l", 100, &blob, &err), 0);
	assert_int_equal(blob_read(&blob, 0, bytes, 5, &err), 0);
	assert_string_equal(bytes, "bytes");
	blob_release(&blob);
	expect_failure(image_open_file(image, IMAGE_TREE, "/p", 100, &blob, &err), &err, "fifo", "not a regular file");
	expect_failure(image_open_file(image, IMAGE_TREE, "/d", 100, &blob, &err), &err, "directory", "a directory");
	expect_failure(image_open_file(image, IMAGE_TREE, "/l", 4, &blob, &err), &err, "limit", "too large");
	expect_failure(image_open_file(image, IMAGE_TREE, "/no", 4, &blob, &err), &err, "none", "'/no': no such file");
	image_close(image);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
}

static void what_is_no_image(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_null(image_open("/nowhere", READER, &err));
	assert_string_equal(err.text, "cannot open '/nowhere': No such file or directory");
	assert_null(image_open("/dev/null", READER, &err));
	assert_string_equal(err.text, "'/dev/null' is neither a file, nor a disk, nor a directory");
	assert_null(image_open(path, "/nowhere", &err));
	assert_string_equal(err.text, "cannot run '/nowhere': No such file or directory");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_that_end),   cmocka_unit_test(replies_that_lie),
		cmocka_unit_test(files_that_lie),     cmocka_unit_test(files_from_memory),
		cmocka_unit_test(files_in_the_image), cmocka_unit_test(walks_that_do_not_end),
		cmocka_unit_test(a_directory),        cmocka_unit_test(what_is_no_image),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
