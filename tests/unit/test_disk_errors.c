/*
 * Raw disks on a host that misbehaves: its system calls are replaced (--wrap), so the work is done by threads.
 * Interrupted calls, short transfers, I/O errors, missing operations, an fdatasync that fails once.
 */
#include "test_disk_machine.h"

#include <sys/ioctl.h>
#include <sys/uio.h>

/* What the calls do, atomically set and read: threads make them. */
static struct {
	bool interrupted, shortened; /* many calls are */
	int read_error, write_error, sync_error, punch_error, zero_error;
	bool no_cache; /* nothing is read at once */
	unsigned calls, allocations;
} host;

ssize_t __real_preadv(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __real_pwritev(int fd, const struct iovec *iov, int count, off_t offset);
int __real_fdatasync(int fd);
int __real_fallocate(int fd, int mode, off_t offset, off_t length);
ssize_t __wrap_preadv(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t offset);
int __wrap_fdatasync(int fd);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t length);

static unsigned count_call(void)
{
	return __atomic_add_fetch(&host.calls, 1, __ATOMIC_RELAXED);
}

static bool fails(int error)
{
	if (host.interrupted && count_call() % 3 == 0)
		error = EINTR;
	errno = error;
	return error;
}

/* Something between one byte and the first piece. */
static struct iovec shortened(const struct iovec *iov)
{
	return (struct iovec){.iov_base = iov->iov_base, .iov_len = 1 + count_call() * 977 % iov->iov_len};
}

ssize_t __wrap_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
	struct iovec piece;

	if (fails(host.read_error))
		return -1;
	if (!host.shortened)
		return __real_preadv(fd, iov, count, offset);
	piece = shortened(iov);
	return __real_preadv(fd, &piece, 1, offset);
}

ssize_t __wrap_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	if (host.no_cache) {
		errno = EAGAIN;
		return -1;
	}
	if (fails(host.read_error))
		return -1;
	return __real_preadv2(fd, iov, count, offset, flags);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	struct iovec piece;

	if (fails(host.write_error))
		return -1;
	if (!host.shortened)
		return __real_pwritev(fd, iov, count, offset);
	piece = shortened(iov);
	return __real_pwritev(fd, &piece, 1, offset);
}

int __wrap_fdatasync(int fd)
{
	return fails(host.sync_error) ? -1 : __real_fdatasync(fd);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t length)
{
	__atomic_add_fetch(&host.allocations, 1, __ATOMIC_RELAXED);
	if (fails(mode & FALLOC_FL_PUNCH_HOLE ? host.punch_error : host.zero_error))
		return -1;
	return __real_fallocate(fd, mode, offset, length);
}

static struct disk *open_threads(struct machine *m)
{
	struct err err = ERR_INIT;
	struct disk *disk = raw_open_fd(open(m->path, O_RDWR), -1, m->path, IO_THREADS, false, m->vm.poller, &err);

	assert_non_null(disk);
	memset(&host, 0, sizeof(host));
	return disk;
}

static void wait_for_machine(void *opaque)
{
	machine_wait(opaque);
}

static void storm_on_host(struct machine *m, struct disk *disk)
{
	struct storm storm;

	storm_init(&storm, disk, 5);
	storm.largest = 100;
	storm_run(&storm, 400, wait_for_machine, m);
	memset(&host, 0, sizeof(host));
	storm_check(&storm, disk);
	disk_close(disk);
	assert_file(m->path, storm.tags, storm.sectors);
	storm_free(&storm);
}

static void test_interrupted(void **state)
{
	struct disk *disk = open_threads(*state);

	host.interrupted = host.no_cache = true;
	storm_on_host(*state, disk);
}

static void test_short(void **state)
{
	struct disk *disk = open_threads(*state);

	host.shortened = host.no_cache = true;
	storm_on_host(*state, disk);
}

/* Neither holes nor zeroed ranges: zeros are written; and the host is asked once each. */
static void test_no_allocate(void **state)
{
	struct disk *disk = open_threads(*state);
	struct job job = {0};

	host.punch_error = host.zero_error = EOPNOTSUPP;
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 65536), 0);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 8192), 0);
	assert_int_equal(host.allocations, 2);
	assert_int_equal(do_one(disk, &job, DISK_DISCARD, 8192, 8192), 0);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 8192), 0);
	assert_int_equal(host.allocations, 2);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 8192), 0);
	for (unsigned i = 0; i < 16; i++)
		assert_sector(job_sector(&job, i), 0, i);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 65536), 0);
	job_free(&job);
	storm_on_host(*state, disk);
}

/* Holes only, ranges that are not good for them (EINVAL): zeros are written for these alone. */
static void test_odd_ranges(void **state)
{
	struct disk *disk = open_threads(*state);
	struct job job = {0};

	host.punch_error = EINVAL;
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 8192), 0);
	assert_int_equal(do_one(disk, &job, DISK_DISCARD, 0, 8192), 0);
	host.punch_error = 0;
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 8192), 0);
	assert_int_equal(host.allocations, 3);
	/* an error that is one */
	host.punch_error = EIO;
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 8192), EIO);
	assert_int_equal(do_one(disk, &job, DISK_DISCARD, 0, 8192), EIO);
	host.punch_error = 0;
	disk_close(disk);
	job_free(&job);
}

/* Runs `body` with stderr in a file; the number of lines with `text` in them. */
static unsigned messages(struct machine *m, void (*body)(struct disk *disk), struct disk *disk, const char *text)
{
	char path[128], line[1024];
	int saved = dup(STDERR_FILENO), fd;
	unsigned count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/stderr", m->folder);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(saved >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
	close(fd);
	body(disk);
	dup2(saved, STDERR_FILENO);
	close(saved);
	file = fopen(path, "r");
	while (fgets(line, sizeof(line), file)) {
		assert_non_null(strstr(line, m->path)); /* each names the file */
		count += strstr(line, text) != NULL;
	}
	fclose(file);
	return count;
}

static void fail_often(struct disk *disk)
{
	struct job job = {0};

	host.no_cache = true;
	for (unsigned i = 0; i < 100; i++) {
		host.read_error = host.write_error = i % 2 ? EIO : ENOSPC;
		assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), host.read_error);
		assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 4096), host.write_error);
		assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 1 << 20), host.write_error);
	}
	host.read_error = host.write_error = 0;
	/* later ones are served */
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 4096), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), 0);
	job_free(&job);
}

/* Each error is the guest's, and told once of each kind. */
static void test_errors(void **state)
{
	struct disk *disk = open_threads(*state);

	assert_int_equal(messages(*state, fail_often, disk, "avant: warning: disk"), 4);
	disk_close(disk);
}

static void fail_once(struct disk *disk)
{
	struct job job = {0};

	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 4096), 0);
	host.sync_error = EIO;
	assert_int_equal(do_one(disk, &job, DISK_FLUSH, 0, 0), EIO);
	host.sync_error = 0;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 4096), 0);
		assert_int_equal(do_one(disk, &job, DISK_FLUSH, 0, 0), EIO);
	}
	job_free(&job);
}

/* What a failed flush lost, no later one makes safe. */
static void test_lost_writes(void **state)
{
	struct disk *disk = open_threads(*state);

	assert_int_equal(messages(*state, fail_once, disk, "may be lost"), 1);
	disk_close(disk);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_interrupted), TEST(test_short),  TEST(test_no_allocate),
		TEST(test_odd_ranges),  TEST(test_errors), TEST(test_lost_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
