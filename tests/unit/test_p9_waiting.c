/* Requests that take long: asked for without waiting, they are put off, and nothing has been done. On a real disk. */
#define TEST_PLACE "/tmp"
#include "test_p9_client.h"

#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define SIZE 200000

static u8 data[SIZE], back[SIZE];

/* The kind of file system that the host has, for whoever asks; 0: what it is. */
static unsigned file_system;

int fstatfs(int fd, struct statfs *st)
{
	int result = (int)syscall(SYS_fstatfs, fd, st);

	if (file_system)
		st->f_type = (long)file_system;
	return result;
}

/* A file that is on the disk and not in memory, as far as the host does what it is told. */
static void make_cold(void)
{
	int fd = openat(client.share, "file", O_RDWR | O_CREAT, 0644);

	for (u32 i = 0; i < SIZE; i++)
		data[i] = (u8)((i * 2654435761u) >> 11);
	assert_int_equal(pwrite(fd, data, SIZE, 0), SIZE);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	close(fd);
}

static bool is_cold(u64 at)
{
	int fd = openat(client.share, "file", O_RDONLY);
	struct iovec iov = {back, 1};
	bool cold = preadv2(fd, &iov, 1, (off_t)at, RWF_NOWAIT) < 0 && errno == EAGAIN;

	close(fd);
	return cold;
}

static int setup(void **state)
{
	client_setup(state);
	client.in_room = 1 << 20;
	start_session(1 << 20);
	client.impatient = true;
	return 0;
}

/* Once the disk was waited for, everything is in memory. */
static void cold_files(void **state)
{
	(void)state;
	make_cold();
	if (!is_cold(0))
		skip(); /* a file system that keeps it, or does not say */
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY), 0);
	assert_int_equal(client.waits, 0);
	assert_int_equal(read_at(2, 0, back, SIZE), SIZE);
	assert_memory_equal(back, data, SIZE);
	assert_int_equal(client.waits, 1);
	memset(back, 0, SIZE);
	assert_int_equal(read_at(2, 0, back, SIZE), SIZE);
	assert_memory_equal(back, data, SIZE);
	assert_int_equal(read_at(2, 190000, back, SIZE), 10000);
	assert_memory_equal(back, data + 190000, 10000);
	assert_int_equal(read_at(2, SIZE, back, SIZE), 0);
	assert_int_equal(client.waits, 1);
}

/* What is in memory in part is waited for as a whole: a reply that ends early would look like the end of the file. */
static void half_cold_files(void **state)
{
	int fd;

	(void)state;
	make_cold();
	fd = openat(client.share, "file", O_RDONLY);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0); /* no more than what is read */
	assert_int_equal(pread(fd, back, 5000, 0), 5000);
	close(fd);
	if (is_cold(0) || !is_cold(120000))
		skip();
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY), 0);
	assert_int_equal(read_at(2, 0, back, SIZE), SIZE);
	assert_memory_equal(back, data, SIZE);
	assert_int_equal(client.waits, 1);
}

static void what_goes_to_the_disk(void **state)
{
	(void)state;
	assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0644), 0);
	assert_int_equal(write_at(2, 0, "text", 4), 4);
	assert_int_equal(client.waits, 0);
	assert_int_equal(call(P9_TFSYNC, "dd", 2, 0), 0);
	assert_int_equal(client.waits, 1);
	assert_int_equal(call(P9_TFSYNC, "dd", ROOT, 0), EBADF);
	assert_int_equal(client.waits, 1);
	assert_int_equal(create(3, "file", P9_OPEN_RDWR | P9_OPEN_DSYNC, 0644), 0);
	assert_int_equal(write_at(3, 4, "more", 4), 4);
	assert_int_equal(client.waits, 2);
	assert_int_equal(walk(ROOT, 4, "file"), 0);
	assert_int_equal(lopen(4, P9_OPEN_RDWR | P9_OPEN_SYNC | P9_OPEN_APPEND), 0);
	assert_int_equal(write_at(4, 0, "end", 3), 3); /* once */
	assert_int_equal(client.waits, 3);
	host_expect("file", "textmoreend");
}

/* Everything may take long on a file system of another machine, or of a program. */
static void far_away(void **state)
{
	static const unsigned types[] = {0x6969, 0xff534d42, 0xfe534d42, 0x65735546, 0x01021997};
	struct attributes a;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		file_system = types[i];
		restart(false, 0);
		client.waits = 0;
		assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0644), 0);
		assert_int_equal(client.waits, 2);
		assert_int_equal(write_at(2, 0, "text", 4), 4);
		assert_int_equal(getattr(2, &a), 0);
		assert_int_equal(a.size, 4);
		assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, "file", 0), 0);
		assert_int_equal(client.waits, 5);
	}
	file_system = 0xef53; /* ext4 */
	restart(false, 0);
	client.waits = 0;
	assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0644), 0);
	assert_int_equal(client.waits, 0);
	file_system = 0;
}

#define WAITING_TEST(function) cmocka_unit_test_setup_teardown(function, setup, client_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WAITING_TEST(cold_files),
		WAITING_TEST(half_cold_files),
		WAITING_TEST(what_goes_to_the_disk),
		WAITING_TEST(far_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
