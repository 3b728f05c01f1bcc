/* Writing caches: the same bytes every time, all or nothing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../cache/sample.h"

static char directory[64];
static char path[128];
static char error[512];
static struct sample sample;
static const struct tcache_write_options no_options;

static int set_up(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/test-tcache-write-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/x.tcache", directory);
	sample_fill(&sample);
	error[0] = 0;
	return 0;
}

/* Files in the directory; dot files too. */
static unsigned count_files(void)
{
	DIR *dir = opendir(directory);
	unsigned count = 0;
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return count;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(directory);
}

static struct tcache_writer *start(const struct tcache_write_options *options)
{
	struct tcache_writer *writer;

	if (tcache_writer_create(path, options, &writer, error, sizeof(error)))
		fail_msg("%s", error);
	return writer;
}

/* Not every file system knows files without a name. */
static bool have_tmpfile(void)
{
	int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void must_be_valid(void)
{
	struct tcache *cache;

	if (tcache_open(path, 0, &cache, error, sizeof(error)))
		fail_msg("%s", error);
	if (tcache_verify_all(cache))
		fail_msg("%s", tcache_error(cache));
	tcache_close(cache);
}

/* ---- contents ---- */

static void test_same_bytes(void **state)
{
	struct bytes first, second;

	(void)state;
	for (int is_signed = 0; is_signed < 2; is_signed++) {
		assert_int_equal(sample_write(path, &sample, is_signed, error, sizeof(error)), TCACHE_OK);
		first = bytes_read(path);
		assert_int_equal(sample_write(path, &sample, is_signed, error, sizeof(error)), TCACHE_OK);
		second = bytes_read(path);
		assert_int_equal(first.size, second.size);
		assert_memory_equal(first.data, second.data, first.size);
		free(first.data);
		free(second.data);
		assert_int_equal(count_files(), 1);
	}
}

/* In pieces of any size, the file is the same; so it is with garbage behind the fingerprint's texts. */
static void test_pieces(void **state)
{
	struct tcache_write_options options = {.fingerprint = sample_fingerprint()};
	static uint8_t data[2 * TCACHE_GROUP + 5000];
	struct tcache_writer *writer = start(&options);
	struct bytes whole, pieces;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i ^ i >> 8);
	tcache_writer_chunk(writer, TCACHE_TYPE_kernel, data, sizeof(data));
	tcache_writer_chunk(writer, TCACHE_TYPE_log, "log", 3);
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	whole = bytes_read(path);

	memset(options.fingerprint.translator + 9, 'x', sizeof(options.fingerprint.translator) - 9);
	writer = start(&options);
	tcache_writer_begin(writer, TCACHE_TYPE_kernel);
	for (size_t at = 0, step = 1; at < sizeof(data); at += step, step = step * 3 % 40009) {
		step = step < sizeof(data) - at ? step : sizeof(data) - at;
		assert_int_equal(tcache_writer_append(writer, data + at, step), TCACHE_OK);
	}
	tcache_writer_append(writer, data, 0);
	assert_int_equal(tcache_writer_end(writer), TCACHE_OK);
	assert_int_equal(tcache_writer_chunk_count(writer), 1);
	tcache_writer_chunk(writer, TCACHE_TYPE_log, "log", 3);
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	pieces = bytes_read(path);
	assert_int_equal(whole.size, pieces.size);
	assert_memory_equal(whole.data, pieces.data, whole.size);
	free(whole.data);
	free(pieces.data);
	must_be_valid();
}

/* Chunks that end on, before and after the borders of pages and groups, and empty ones. */
static void test_sizes(void **state)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 0};
	static uint8_t data[131072];
	struct tcache_writer *writer = start(&no_options);
	struct tcache *cache;
	uint64_t length;

	(void)state;
	memset(data, 0xab, sizeof(data));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		tcache_writer_chunk(writer, TCACHE_TYPE_kernel, data, sizes[i]);
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	must_be_valid();
	assert_int_equal(tcache_open(path, 0, &cache, error, sizeof(error)), TCACHE_OK);
	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const void *chunk = tcache_chunk(cache, i, &length);

		assert_non_null(chunk);
		assert_int_equal(length, sizes[i]);
		assert_memory_equal(chunk, data, length);
	}
	tcache_close(cache);
}

/* Aligned chunks begin where huge pages do, once or many times, whatever was before them; nothing else is different. */
static void test_aligned(void **state)
{
	static const size_t before[] = {1, TCACHE_HUGE - TCACHE_PAGE, TCACHE_HUGE + 5, 3 * TCACHE_PAGE};
	uint8_t *data = malloc(TCACHE_HUGE + 5);
	struct tcache_writer *writer = start(&no_options);
	struct tcache *cache;
	uint64_t length;

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < TCACHE_HUGE + 5; i++)
		data[i] = (uint8_t)(i * 7 ^ i >> 11);
	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		tcache_writer_chunk(writer, TCACHE_TYPE_kernel, data, before[i]);
		tcache_writer_align(writer);
		tcache_writer_chunk(writer, TCACHE_TYPE_kernel, data, 100);
		tcache_writer_align(writer);
		tcache_writer_align(writer);
		tcache_writer_chunk(writer, TCACHE_TYPE_kernel, data, 200);
	}
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	must_be_valid();
	assert_int_equal(tcache_open(path, 0, &cache, error, sizeof(error)), TCACHE_OK);
	for (uint32_t i = 0; i < tcache_chunk_count(cache); i++) {
		const struct tcache_toc_entry *entry = tcache_toc(cache, i);
		const uint8_t *chunk = tcache_chunk(cache, i, &length);
		static const size_t lengths[] = {0, 0, 100, 0, 0, 200};

		assert_non_null(chunk);
		if (i % 6 != 2 && i % 6 != 5) {
			assert_int_equal(entry->type, i % 6 == 0 ? TCACHE_TYPE_kernel : TCACHE_TYPE_padding);
			if (i % 6 == 0)
				assert_memory_equal(chunk, data, before[i / 6]);
			continue;
		}
		assert_int_equal(entry->offset % TCACHE_HUGE, 0);
		assert_int_equal(length, lengths[i % 6]);
		assert_memory_equal(chunk, data, length);
	}
	tcache_close(cache);
	free(data);
}

static void test_usage(void **state)
{
	struct tcache_writer *writer;

	(void)state;
#define REFUSED(...)                                                                                                   \
	do {                                                                                                           \
		writer = start(&no_options);                                                                           \
		__VA_ARGS__;                                                                                           \
		assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_ERR_USAGE);                \
		assert_int_equal(count_files(), 0);                                                                    \
	} while (0)
	REFUSED(tcache_writer_append(writer, "x", 1));
	REFUSED(tcache_writer_end(writer));
	REFUSED(tcache_writer_begin(writer, TCACHE_TYPE_log));
	REFUSED(tcache_writer_begin(writer, TCACHE_TYPE_log); tcache_writer_begin(writer, TCACHE_TYPE_kernel));
	REFUSED(tcache_writer_chunk(writer, TCACHE_TYPE_log, "x", 1);
		tcache_writer_chunk(writer, TCACHE_TYPE_log, "x", 1));
	REFUSED(tcache_writer_chunk(writer, TCACHE_TYPE_units, "x", 1));
	REFUSED(tcache_writer_begin(writer, TCACHE_FOURCC('N', 'O', 'N', 'E')));
	REFUSED(tcache_writer_begin_other(writer, 1, 0, 0, 1));
	REFUSED(tcache_writer_begin_other(writer, 1, 2, 1, 1));
#undef REFUSED
	/* the first error stays */
	writer = start(&no_options);
	assert_int_equal(tcache_writer_append(writer, "x", 1), TCACHE_ERR_USAGE);
	assert_int_equal(tcache_writer_begin(writer, TCACHE_TYPE_log), TCACHE_ERR_USAGE);
	tcache_writer_abort(writer);
	tcache_writer_abort(NULL);
}

static void test_other_chunks(void **state)
{
	struct tcache_writer *writer = start(&no_options);
	struct tcache *cache;

	(void)state;
	tcache_writer_begin_other(writer, TCACHE_FOURCC('A', 'B', 'C', 'D'), TCACHE_OPTIONAL, 4, 3);
	tcache_writer_append(writer, "12345678", 8);
	tcache_writer_end(writer);
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	must_be_valid();
	assert_int_equal(tcache_open(path, 0, &cache, error, sizeof(error)), TCACHE_OK);
	assert_int_equal(tcache_find(cache, TCACHE_FOURCC('A', 'B', 'C', 'D')), TCACHE_NO_CHUNK);
	assert_memory_equal(tcache_range(cache, 0, 0, 8), "12345678", 8);
	tcache_close(cache);
}

static void test_too_many_chunks(void **state)
{
	struct tcache_writer *writer = start(&no_options);

	(void)state;
	for (unsigned i = 0; i < TCACHE_MAX_CHUNKS; i++)
		assert_int_equal(tcache_writer_chunk(writer, TCACHE_TYPE_kernel, "x", 1), TCACHE_OK);
	assert_int_equal(tcache_writer_chunk(writer, TCACHE_TYPE_kernel, "x", 1), TCACHE_ERR_LIMIT);
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_ERR_LIMIT);
	assert_int_equal(count_files(), 0);
}

/* A fingerprint that no reader would take is not written. */
static void test_bad_fingerprint(void **state)
{
	struct tcache_write_options options = {.fingerprint = {.translator = "tab\there"}};
	struct tcache_writer *writer = start(&options);

	(void)state;
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_ERR_HEADER);
	assert_int_equal(count_files(), 0);
}

/* ---- publishing ---- */

static void test_abort(void **state)
{
	struct tcache_write_options options = {.named_temp = false};
	struct tcache_writer *writer;

	(void)state;
	for (int named = 0; named < 2; named++) {
		unsigned visible = named || !have_tmpfile();

		options.named_temp = named;
		writer = start(&options);
		sample_chunks(writer, &sample);
		assert_int_equal(count_files(), visible);
		tcache_writer_abort(writer);
		assert_int_equal(count_files(), 0);
		/* with and without a file that is already there */
		for (int round = 0; round < 2; round++) {
			writer = start(&options);
			sample_chunks(writer, &sample);
			assert_int_equal(count_files(), visible + (unsigned)round);
			assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
			assert_int_equal(count_files(), 1);
			must_be_valid();
		}
		unlink(path);
	}
}

/* Whoever has the old file open keeps it. */
static void test_replace(void **state)
{
	struct tcache_writer *writer;
	struct tcache *cache;

	(void)state;
	assert_int_equal(sample_write(path, &sample, false, error, sizeof(error)), TCACHE_OK);
	assert_int_equal(tcache_open(path, 0, &cache, error, sizeof(error)), TCACHE_OK);
	writer = start(&no_options);
	tcache_writer_chunk(writer, TCACHE_TYPE_log, "new", 3);
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	assert_int_equal(tcache_verify_all(cache), TCACHE_OK);
	assert_memory_equal(tcache_units(cache, 0, 4), sample.units, sizeof(sample.units));
	tcache_close(cache);
	assert_int_equal(tcache_open(path, 0, &cache, error, sizeof(error)), TCACHE_OK);
	assert_int_equal(tcache_chunk_count(cache), 1);
	tcache_close(cache);
}

static void test_permissions(void **state)
{
	struct tcache_write_options options = {.named_temp = false};
	mode_t before = umask(0);
	struct stat st;

	(void)state;
	for (int named = 0; named < 2; named++) {
		options.named_temp = named;
		umask(0);
		assert_int_equal(tcache_writer_finish(start(&options), error, sizeof(error)), TCACHE_OK);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0644);
		umask(077);
		assert_int_equal(tcache_writer_finish(start(&options), error, sizeof(error)), TCACHE_OK);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
	umask(before);
}

static void must_not_start(const char *name, enum tcache_status status, const char *message)
{
	struct tcache_writer *writer;

	assert_int_equal(tcache_writer_create(name, &no_options, &writer, error, sizeof(error)), status);
	assert_null(writer);
	if (!strstr(error, message) || error[0] != '\'')
		fail_msg("%s: %s", name, error);
}

static void test_targets(void **state)
{
	char name[160], here[4096];

	(void)state;
	must_not_start(directory, TCACHE_ERR_KIND, "exists and is not a regular file");
	must_not_start("/dev/null", TCACHE_ERR_KIND, "exists and is not a regular file");
	must_not_start("", TCACHE_ERR_WRITE, "is not a file name");
	must_not_start("/", TCACHE_ERR_WRITE, "is not a file name");
	must_not_start("/tmp/", TCACHE_ERR_WRITE, "is not a file name");
	must_not_start("..", TCACHE_ERR_WRITE, "is not a file name");
	snprintf(name, sizeof(name), "%s/missing/x", directory);
	must_not_start(name, TCACHE_ERR_WRITE, "its directory cannot be opened: No such file or directory");
	must_not_start("/proc/x.tcache", TCACHE_ERR_WRITE, "cannot be created");
	assert_int_equal(symlink("/etc/passwd", path), 0);
	must_not_start(path, TCACHE_ERR_KIND, "exists and is not a regular file");
	unlink(path);
	/* a name without a slash is in the current directory */
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(sample_write("x.tcache", &sample, false, error, sizeof(error)), TCACHE_OK);
	assert_int_equal(chdir(here), 0);
	must_be_valid();
}

/* What appears in the meantime is looked at again. */
static void test_target_appears(void **state)
{
	struct tcache_writer *writer = start(&no_options);

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_ERR_KIND);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(count_files(), 0);
}

/* ---- disk full ---- */

/* Writes until it fails. */
static void write_too_much(bool named)
{
	struct tcache_write_options options = {.named_temp = named};
	struct tcache_writer *writer = start(&options);
	static uint8_t data[100000];

	memset(data, 0x5a, sizeof(data));
	for (int i = 0; i < 20; i++)
		tcache_writer_chunk(writer, TCACHE_TYPE_kernel, data, sizeof(data));
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_ERR_WRITE);
}

static void test_file_limit(void **state)
{
	struct rlimit before, limit;
	struct bytes old, now;
	sigset_t pending;

	(void)state;
	assert_int_equal(sample_write(path, &sample, false, error, sizeof(error)), TCACHE_OK);
	old = bytes_read(path);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	/* in the middle of a page group too */
	for (rlim_t size = 0; size <= 300000; size += 30001) {
		for (int named = 0; named < 2; named++) {
			limit.rlim_cur = size;
			assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
			write_too_much(named);
			assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
			assert_non_null(strstr(error, "cannot be written: File too large"));
			assert_int_equal(count_files(), 1);
		}
	}
	/* SIGXFSZ has neither killed us nor does it wait to do so */
	sigpending(&pending);
	assert_false(sigismember(&pending, SIGXFSZ));
	now = bytes_read(path);
	assert_int_equal(old.size, now.size);
	assert_memory_equal(old.data, now.data, old.size);
	free(old.data);
	free(now.data);
}

/* In a mount namespace of its own, which a child enters; 77: that is not allowed here. */
static int on_small_disk(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", directory, "tmpfs", 0, "size=256k,mode=700"))
		return 77;
	for (int named = 0; named < 2; named++) {
		write_too_much(named);
		if (!strstr(error, "cannot be written: No space left on device") || count_files())
			return 1;
	}
	/* a small one still fits */
	if (sample_write(path, &sample, false, error, sizeof(error)))
		return 2;
	must_be_valid();
	write_too_much(false);
	must_be_valid();
	return count_files() == 1 ? 0 : 3;
}

static void test_full_disk(void **state)
{
	int status;
	pid_t child;

	(void)state;
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(on_small_disk());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- killed ---- */

static void write_slowly(void)
{
	struct tcache_writer *writer;
	static uint8_t data[200000];

	if (tcache_writer_create(path, &no_options, &writer, error, sizeof(error)))
		_exit(1);
	for (int i = 0; i < 10; i++)
		tcache_writer_chunk(writer, TCACHE_TYPE_kernel, data, sizeof(data));
	tcache_writer_finish(writer, error, sizeof(error));
}

/* At whatever moment the writer is killed: the file is there and complete, or there is nothing at all. */
static void test_killed(void **state)
{
	unsigned published = 0;

	(void)state;
	if (!have_tmpfile())
		skip();
	for (unsigned round = 0; round < 40; round++) {
		pid_t child = fork();

		assert_true(child >= 0);
		if (!child) {
			write_slowly();
			_exit(0);
		}
		usleep(round * 250);
		kill(child, round % 2 ? SIGKILL : SIGTERM);
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_true(count_files() <= 1);
		if (!count_files())
			continue;
		must_be_valid();
		published++;
		unlink(path);
	}
	assert_true(published < 40);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_same_bytes),      TEST(test_pieces),          TEST(test_sizes),
		TEST(test_aligned),         TEST(test_usage),           TEST(test_other_chunks),
		TEST(test_too_many_chunks), TEST(test_bad_fingerprint), TEST(test_abort),
		TEST(test_replace),         TEST(test_permissions),     TEST(test_targets),
		TEST(test_target_appears),  TEST(test_file_limit),      TEST(test_full_disk),
		TEST(test_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
