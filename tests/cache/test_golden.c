/* Every example in this folder: does the reader say what the example expects? */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "golden_text.h"

/* What a user of the library hears first: from opening, from comparing fingerprints, from verifying. */
static void read_cache(const struct bytes *bytes, char *result, size_t size)
{
	struct tcache_fingerprint want = sample_fingerprint();
	enum tcache_status status;
	struct tcache *cache;
	char error[512] = "";
	int fd = memfd_create("golden", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes->data, bytes->size), (ssize_t)bytes->size);
	status = tcache_open_fd(fd, "x.tcache", TCACHE_TRUST, &cache, error, sizeof(error));
	close(fd);
	assert_int_equal(!status, cache != NULL);
	if (!status) {
		status = tcache_check_fingerprint(cache, &want);
		if (!status)
			status = tcache_verify_all(cache);
		snprintf(error, sizeof(error), "%s", tcache_error(cache));
		tcache_close(cache);
	}
	if (status)
		snprintf(result, size, "%s: %s", tcache_status_name(status), error);
	else
		snprintf(result, size, "ok");
}

static void test_examples(void **state)
{
	DIR *directory = opendir(GOLDEN_DIRECTORY);
	unsigned good = 0, bad = 0, wrong = 0;
	struct dirent *entry;
	char result[600];

	(void)state;
	assert_non_null(directory);
	while ((entry = readdir(directory))) {
		size_t length = strlen(entry->d_name);
		struct golden golden;

		if (length < 5 || strcmp(entry->d_name + length - 4, ".txt") ||
		    !strcmp(entry->d_name, "CMakeLists.txt"))
			continue;
		assert_int_equal(golden_parse(GOLDEN_DIRECTORY, entry->d_name, &golden), 0);
		/* the name says which it is, too */
		assert_int_equal(!strncmp(entry->d_name, "good-", 5), !strcmp(golden.expect, "ok"));
		read_cache(&golden.bytes, result, sizeof(result));
		if (strcmp(result, golden.expect)) {
			print_error("%s:\n  expected %s\n  got      %s\n", entry->d_name, golden.expect, result);
			wrong++;
		}
		good += !strcmp(golden.expect, "ok");
		bad += !!strcmp(golden.expect, "ok");
		free(golden.bytes.data);
	}
	closedir(directory);
	assert_int_equal(wrong, 0);
	assert_true(good >= 5);
	assert_true(bad >= 80);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
