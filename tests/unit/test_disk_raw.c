/* Raw disks: what is written is read back, in any order, whatever does the work; and what the host may do to them. */
#include "test_disk_machine.h"

#include "disk/io_internal.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void wait_for_machine(void *opaque)
{
	machine_wait(opaque);
}

/* The host's page cache forgets the file: reads have to wait. */
static void forget(const char *path)
{
	int fd = open(path, O_RDWR);

	fdatasync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

static struct disk *open_kind(struct machine *m, enum io_kind kind)
{
	struct err err = ERR_INIT;
	struct disk *disk = raw_open_fd(open(m->path, O_RDWR), -1, m->path, kind, false, m->vm.poller, &err);

	if (!disk && kind == IO_URING) {
		print_message("no io_uring here: %s\n", err.text);
		skip();
	}
	assert_non_null(disk);
	assert_int_equal(io_kind(raw_io(disk)), kind);
	return disk;
}

static void storm_by(struct machine *m, enum io_kind kind)
{
	struct disk *disk = open_kind(m, kind);
	struct storm storm;

	storm_init(&storm, disk, 11);
	for (unsigned round = 0; round < 6; round++) {
		storm_run(&storm, 400, wait_for_machine, m);
		forget(m->path);
	}
	storm_check(&storm, disk);
	disk_close(disk);
	assert_file(m->path, storm.tags, storm.sectors);
	storm_free(&storm);
}

static void test_storm_uring(void **state)
{
	storm_by(*state, IO_URING);
}

static void test_storm_threads(void **state)
{
	storm_by(*state, IO_THREADS);
}

static void test_discards(void **state)
{
	struct machine *m = *state;
	struct disk *disk = machine_open(m, (struct disk_config){0});
	struct stat before, after;
	struct job job = {0};

	assert_true(disk_can_discard(disk));
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 1 << 20), 0);
	assert_int_equal(do_one(disk, &job, DISK_FLUSH, 0, 0), 0);
	stat(m->path, &before);
	assert_int_equal(do_one(disk, &job, DISK_DISCARD, 0, 1 << 20), 0);
	stat(m->path, &after);
	assert_int_equal(after.st_size, before.st_size);
	/* not all file systems can; those that tests run on do */
	assert_true(after.st_blocks < before.st_blocks);
	disk_close(disk);
	job_free(&job);
}

/* Larger requests than one system call takes pieces: in as many steps as needed. */
static void many_pieces(struct machine *m, enum disk_op op)
{
	enum { PIECES = 2500 };
	static u8 data[PIECES * 2][512];
	static struct iovec iov[PIECES];
	struct disk *disk = machine_open(m, (struct disk_config){0});
	struct job job = {.busy = true};
	int fd = open(m->path, O_RDWR);

	for (unsigned i = 0; i < PIECES; i++) {
		iov[i] = (struct iovec){.iov_base = data[2 * i], .iov_len = 512};
		sector_fill(data[2 * i], op == DISK_WRITE ? i + 1 : 0);
	}
	for (unsigned i = 0; op == DISK_READ && i < PIECES; i++) {
		u8 sector[512];

		sector_fill(sector, i + 1);
		assert_int_equal(pwrite(fd, sector, 512, 4096 + i * 512), 512);
	}
	job.request = (struct disk_request){.op = op,
					    .offset = 4096,
					    .length = PIECES * 512,
					    .iov = iov,
					    .iov_count = PIECES,
					    .done = job_done,
					    .opaque = &job};
	disk_submit(disk, &job.request);
	disk_drain(disk);
	assert_false(job.busy);
	assert_int_equal(job.error, 0);
	for (unsigned i = 0; i < PIECES; i++) {
		u8 sector[512];

		assert_int_equal(pread(fd, sector, 512, 4096 + i * 512), 512);
		assert_sector(sector, i + 1, i);
		assert_sector(data[2 * i], i + 1, i);
	}
	close(fd);
	disk_close(disk);
}

static void test_many_pieces(void **state)
{
	many_pieces(*state, DISK_WRITE);
	many_pieces(*state, DISK_READ);
}

/* What is submitted in a batch goes to the host by one call; without a batch, each by its own. */
static void test_batch(void **state)
{
	struct machine *m = *state;
	struct disk *disk = open_kind(m, IO_URING);
	const struct io *io = raw_io(disk);
	struct job jobs[20] = {0};
	u64 calls = io->calls;

	disk_begin_batch(disk);
	for (unsigned i = 0; i < 20; i++) {
		job_fill(&jobs[i], DISK_WRITE_ZEROES, i * 8192, 4096, 1);
		disk_submit(disk, &jobs[i].request);
	}
	assert_int_equal(io->calls - calls, 0);
	disk_end_batch(disk);
	assert_int_equal(io->calls - calls, 1);
	disk_drain(disk);
	for (unsigned i = 0; i < 20; i++) {
		assert_false(jobs[i].busy);
		job_fill(&jobs[i], DISK_WRITE_ZEROES, i * 8192, 4096, 1);
		disk_submit(disk, &jobs[i].request);
	}
	assert_int_equal(io->calls - calls, 21);
	disk_drain(disk);
	for (unsigned i = 0; i < 20; i++)
		job_free(&jobs[i]);
	disk_close(disk);
}

static void test_readonly(void **state)
{
	struct machine *m = *state;
	struct job job = {0};
	struct disk *disk;

	assert_int_equal(chmod(m->path, 0400), 0);
	disk = machine_open(m, (struct disk_config){.readonly = true});
	assert_true(disk_readonly(disk));
	assert_false(disk_can_discard(disk));
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 512), 0);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 512), EROFS);
	assert_int_equal(do_one(disk, &job, DISK_DISCARD, 0, 512), EROFS);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 512), EROFS);
	assert_int_equal(do_one(disk, &job, DISK_FLUSH, 0, 0), 0);
	disk_close(disk);
	job_free(&job);
}

static void test_bounds(void **state)
{
	struct machine *m = *state;
	struct job job = {0};
	struct disk *disk = machine_open(m, (struct disk_config){0});

	assert_int_equal(disk_size(disk), DISK_SIZE);
	assert_int_equal(do_one(disk, &job, DISK_READ, DISK_SIZE, 512), EINVAL);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, UINT64_MAX - 511, 1024), EINVAL);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 512, UINT64_MAX - 511), EINVAL);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 256, 512), EINVAL);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 0), 0);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, DISK_SIZE - 512, 512), 0);
	disk_close(disk);
	job_free(&job);
}

/* The file shrinks while it is used: errors beyond its end, nothing worse; it is not made longer again. */
static void test_shrunk(void **state)
{
	struct machine *m = *state;
	struct job job = {0};
	struct disk *disk = machine_open(m, (struct disk_config){0});
	struct stat status;

	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), 0);
	assert_int_equal(truncate(m->path, DISK_SIZE / 2 + 512), 0);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, DISK_SIZE - 4096, 4096), EIO);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, DISK_SIZE - 4096, 4096), EIO);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, DISK_SIZE / 2, 4096), EIO);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, DISK_SIZE / 2, 512), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, DISK_SIZE / 2, 4096), EIO);
	assert_int_equal(do_one(disk, &job, DISK_READ, DISK_SIZE - 4096, 4096), EIO);
	stat(m->path, &status);
	assert_int_equal(status.st_size, DISK_SIZE / 2 + 512);
	/* what was there is not what comes back */
	assert_int_equal(truncate(m->path, DISK_SIZE), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, DISK_SIZE - 4096, 4096), EIO);
	disk_close(disk);
	job_free(&job);
}

/* The same, found out by reading only, and in the background. */
static void test_shrunk_reads(void **state)
{
	struct machine *m = *state;
	struct job job = {0};
	struct disk *disk = machine_open(m, (struct disk_config){.readonly = true});

	assert_int_equal(truncate(m->path, 4096 * 10 + 512), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 4096 * 8, 4096 * 4), EIO);
	assert_int_equal(truncate(m->path, DISK_SIZE), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 4096 * 11, 4096), EIO);
	assert_int_equal(do_one(disk, &job, DISK_READ, 4096 * 8, 4096 * 2), 0);
	disk_close(disk);
	job_free(&job);
}

/* The host does not let the file have more than so many bytes: an error for the guest; what fits is still written. */
static void over_the_limit(struct machine *m)
{
	struct rlimit limit = {.rlim_cur = DISK_SIZE / 2, .rlim_max = RLIM_INFINITY};
	struct job job = {0};
	struct disk *disk;

	machine_poller(m);
	disk = machine_open(m, (struct disk_config){0});
	setrlimit(RLIMIT_FSIZE, &limit);
	CHECK(do_one(disk, &job, DISK_WRITE, DISK_SIZE / 2, 4096) == EFBIG);
	CHECK(do_one(disk, &job, DISK_WRITE, DISK_SIZE / 2, 512 << 10) == EFBIG);
	/* a part of it can be written, the rest cannot */
	CHECK(do_one(disk, &job, DISK_WRITE, DISK_SIZE / 2 - 4096, 8192) == EFBIG);
	CHECK(do_one(disk, &job, DISK_WRITE, 0, 4096) == 0);
	CHECK(do_one(disk, &job, DISK_FLUSH, 0, 0) == 0);
	disk_close(disk);
}

static void test_limit(void **state)
{
	in_child(*state, over_the_limit);
}

/* A file system of 1 MiB with a sparse image of 8 MiB. */
static void on_full_host(struct machine *m)
{
	struct job job = {0};
	unsigned written = 0, failed = 0;
	struct disk *disk;
	u64 offset = 0;
	int fd;

	mount_small(m);
	machine_poller(m);
	fd = open(m->path, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && ftruncate(fd, DISK_SIZE) == 0);
	disk = machine_open(m, (struct disk_config){0});
	for (; offset < DISK_SIZE; offset += 65536) {
		int error = do_one(disk, &job, DISK_WRITE, offset, 65536);

		CHECK(error == 0 || error == ENOSPC);
		written += !error;
		failed += error == ENOSPC;
	}
	CHECK(written >= 14 && failed > 100);
	/* in the background too, and where zeros have to be written: tmpfs cannot zero a range otherwise */
	CHECK(do_one(disk, &job, DISK_WRITE, 4 << 20, 1 << 20) == ENOSPC);
	job_fill(&job, DISK_WRITE_ZEROES, 4 << 20, 1 << 20, 1);
	job.request.unmap = false;
	disk_submit(disk, &job.request);
	disk_drain(disk);
	CHECK(!job.busy && job.error == ENOSPC);
	/* what is there stays; there is room again when some is given back */
	CHECK(do_one(disk, &job, DISK_READ, 0, 65536) == 0);
	CHECK(do_one(disk, &job, DISK_DISCARD, 0, 262144) == 0);
	CHECK(do_one(disk, &job, DISK_WRITE, 2 << 20, 65536) == 0);
	disk_close(disk);
}

static void test_full(void **state)
{
	in_child(*state, on_full_host);
}

/*
 * The host stalls writers, here by not serving them at all for a time: one write waits, those that follow do not.
 */
static void test_slow_writes(void **state)
{
	struct machine *m = *state;
	struct disk *disk = machine_open(m, (struct disk_config){0});
	struct job job = {0};

	/* nothing is slow: all at once */
	for (unsigned i = 0; i < 3; i++) {
		job_fill(&job, DISK_WRITE, 0, 4096, 1);
		disk_submit(disk, &job.request);
		assert_false(job.busy);
	}
	raw_was_slow(disk, 50000000);
	job_fill(&job, DISK_WRITE, 0, 4096, 1);
	disk_submit(disk, &job.request);
	assert_true(job.busy);
	disk_drain(disk);
	assert_int_equal(job.error, 0);
	disk_close(disk);
	job_free(&job);
}

static void test_refused(void **state)
{
	struct machine *m = *state;
	struct err err = ERR_INIT;
	char fifo[128];
	const char *const paths[] = {"/", "/nowhere/x", "/dev/null", "nbd+ssh://host/", fifo};

	snprintf(fifo, sizeof(fifo), "%s/fifo", m->folder);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		struct disk_config config = {.path = paths[i]};

		assert_null(disk_open(&config, m->vm.poller, &err));
		assert_non_null(strstr(err.text, paths[i]));
	}
	assert_int_equal(truncate(m->path, DISK_SIZE + 1), 0);
	assert_null(machine_open(m, (struct disk_config){0}));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_storm_uring),  TEST(test_storm_threads), TEST(test_discards), TEST(test_many_pieces),
		TEST(test_batch),        TEST(test_readonly),      TEST(test_bounds),   TEST(test_shrunk),
		TEST(test_shrunk_reads), TEST(test_limit),         TEST(test_full),     TEST(test_slow_writes),
		TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
