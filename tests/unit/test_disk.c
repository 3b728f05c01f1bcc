/* Disks: what is written is read back, in any order, whatever does the work; errors and locks. */
#include "disk/internal.h"
#include "disk/io.h"

#include "cpu/vcpu.h"
#include "poller.h"
#include "util/err.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE     (1u << 20)
#define REQUESTS 3000
#define QUEUE    16

struct machine {
	struct vm vm;
	struct vcpu vcpu;
	char path[32];
};

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct err err = ERR_INIT;
	int fd;

	m->vm.vcpu = &m->vcpu;
	m->vm.wake_fd = eventfd(0, EFD_NONBLOCK);
	m->vm.clock.vcpu = &m->vcpu;
	m->vm.poller = poller_create(&m->vm, &err);
	strcpy(m->path, "/var/tmp/avant-test-XXXXXX");
	fd = mkstemp(m->path);
	assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
	close(fd);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;

	unlink(m->path);
	poller_destroy(m->vm.poller);
	close(m->vm.wake_fd);
	free(m);
	return 0;
}

static struct disk *open_disk(struct machine *m, struct disk_config config)
{
	struct err err = ERR_INIT;
	struct disk *disk;

	config.path = m->path;
	disk = disk_open(&config, m->vm.poller, &err);
	if (!disk)
		print_message("%s\n", err.text);
	return disk;
}

struct job {
	struct disk_request request;
	struct iovec iov[3];
	u8 data[3][24576];
	bool busy;
	int error;
};

static void on_done(struct disk_request *request, int error)
{
	struct job *job = request->opaque;

	assert_true(job->busy);
	job->busy = false;
	job->error = error;
}

/* Pieces of odd numbers of sectors. */
static void job_fill(struct job *job, enum disk_op op, u64 offset, u64 length)
{
	unsigned pieces = 0;

	memset(job->iov, 0, sizeof(job->iov));
	for (u64 left = op == DISK_READ || op == DISK_WRITE ? length : 0; left; pieces++) {
		u64 size = pieces < 2 && left > 1024 ? left / 1024 * 512 : left;

		job->iov[pieces] = (struct iovec){.iov_base = job->data[pieces], .iov_len = size};
		left -= size;
	}
	job->request = (struct disk_request){.op = op,
					     .offset = offset,
					     .length = length,
					     .iov = job->iov,
					     .iov_count = pieces,
					     .unmap = length % 1024 == 0,
					     .done = on_done,
					     .opaque = job};
	job->busy = true;
	job->error = -1;
}

static int do_one(struct disk *disk, struct job *job, enum disk_op op, u64 offset, u64 length)
{
	job_fill(job, op, offset, length);
	disk_submit(disk, &job->request);
	disk_drain(disk);
	assert_false(job->busy);
	return job->error;
}

static void copy_out(struct job *job, u8 *to)
{
	for (unsigned i = 0; i < job->request.iov_count; i++) {
		memcpy(to, job->iov[i].iov_base, job->iov[i].iov_len);
		to += job->iov[i].iov_len;
	}
}

/* Random requests, several under way where they do not touch, against a copy in memory. */
static void random_requests(struct disk *disk, u8 *model)
{
	static struct job jobs[QUEUE];
	static u8 expected[QUEUE][SIZE / 16], got[SIZE / 16];
	unsigned seed = 7;

	for (unsigned round = 0; round < REQUESTS / QUEUE; round++) {
		if (round % 2)
			disk_begin_batch(disk);
		for (unsigned i = 0; i < QUEUE; i++) {
			/* each job has its own sixteenth of the disk */
			u64 area = SIZE / QUEUE, sectors = 1 + (unsigned)rand_r(&seed) % 80;
			u64 first = (unsigned)rand_r(&seed) % (area / 512 - sectors);
			u64 offset = i * area + first * 512, length = sectors * 512;
			static const enum disk_op ops[] = {DISK_READ, DISK_READ, DISK_WRITE, DISK_WRITE,
							   DISK_WRITE_ZEROES};
			enum disk_op op = ops[(unsigned)rand_r(&seed) % 5];

			job_fill(&jobs[i], op, offset, length);
			if (op == DISK_READ)
				memcpy(expected[i], model + offset, length);
			if (op == DISK_WRITE) {
				for (unsigned k = 0; k < jobs[i].request.iov_count; k++)
					memset(jobs[i].data[k], rand_r(&seed), jobs[i].iov[k].iov_len);
				copy_out(&jobs[i], model + offset);
			}
			if (op == DISK_WRITE_ZEROES)
				memset(model + offset, 0, length);
			disk_submit(disk, &jobs[i].request);
		}
		if (round % 2)
			disk_end_batch(disk);
		disk_drain(disk);
		for (unsigned i = 0; i < QUEUE; i++) {
			assert_false(jobs[i].busy);
			assert_int_equal(jobs[i].error, 0);
			if (jobs[i].request.op == DISK_READ) {
				copy_out(&jobs[i], got);
				assert_memory_equal(got, expected[i], jobs[i].request.length);
			}
		}
	}
}

static void fill_file(const char *path, u8 *model)
{
	int fd = open(path, O_WRONLY);

	for (unsigned i = 0; i < SIZE; i++)
		model[i] = (u8)(i / 512 * 7 + i);
	assert_int_equal(write(fd, model, SIZE), SIZE);
	close(fd);
}

static void assert_file_equals(const char *path, const u8 *model)
{
	static u8 content[SIZE];
	int fd = open(path, O_RDONLY);

	assert_int_equal(read(fd, content, SIZE), SIZE);
	assert_memory_equal(content, model, SIZE);
	close(fd);
}

static void test_raw(void **state)
{
	struct machine *m = *state;
	static u8 model[SIZE];
	static struct job job;

	fill_file(m->path, model);
	struct disk *disk = open_disk(m, (struct disk_config){0});

	assert_non_null(disk);
	assert_int_equal(disk_size(disk), SIZE);
	random_requests(disk, model);
	assert_int_equal(do_one(disk, &job, DISK_FLUSH, 0, 0), 0);
	disk_close(disk);
	assert_file_equals(m->path, model);
}

static void test_snapshot(void **state)
{
	struct machine *m = *state;
	static u8 model[SIZE], before[SIZE];

	fill_file(m->path, model);
	memcpy(before, model, SIZE);
	struct disk *disk = open_disk(m, (struct disk_config){.snapshot = true});

	assert_non_null(disk);
	assert_false(disk_readonly(disk));
	random_requests(disk, model);
	disk_close(disk);
	assert_file_equals(m->path, before);
}

struct io_result {
	struct io_task task;
	unsigned done;
};

static void io_done(struct io_task *task)
{
	((struct io_result *)task->opaque)->done++;
}

/* Both engines do all operations, more at once than they have room for. */
static void engine_works(struct machine *m, enum io_kind kind)
{
	static u8 data[600][512];
	static struct io_result results[600];
	static struct iovec iov[600];
	struct err err = ERR_INIT;
	struct io *io = io_create(kind, m->vm.poller, &err);
	int fd = open(m->path, O_RDWR);

	if (!io && kind == IO_URING) {
		print_message("no io_uring here: %s\n", err.text);
		close(fd);
		return;
	}
	assert_non_null(io);
	for (enum io_op op = IO_WRITE;; op = IO_READ) {
		for (unsigned i = 0; i < 600; i++) {
			memset(data[i], op == IO_WRITE ? (int)i : 0, 512);
			iov[i] = (struct iovec){.iov_base = data[i], .iov_len = 512};
			results[i] = (struct io_result){.task = {.op = op,
								 .fd = fd,
								 .offset = i * 512,
								 .length = 512,
								 .iov = &iov[i],
								 .iov_count = 1,
								 .done = io_done,
								 .opaque = &results[i]}};
			io_submit(io, &results[i].task);
		}
		io_drain(io);
		for (unsigned i = 0; i < 600; i++) {
			assert_int_equal(results[i].done, 1);
			assert_int_equal(results[i].task.result, 512);
			assert_int_equal(data[i][511], (u8)i);
		}
		if (op == IO_READ)
			break;
	}
	results[0] = (struct io_result){.task = {.op = IO_SYNC, .fd = fd, .done = io_done, .opaque = &results[0]}};
	io_submit(io, &results[0].task);
	io_flush(io);
	/* through the poller this time, as while a guest runs */
	while (!results[0].done) {
		vm_sleep(&m->vm);
		__atomic_store_n(&m->vcpu.event, 0, __ATOMIC_SEQ_CST);
		poller_run(m->vm.poller);
	}
	assert_int_equal(results[0].task.result, 0);
	results[0] = (struct io_result){.task = {.op = IO_SYNC, .fd = -1, .done = io_done, .opaque = &results[0]}};
	io_submit(io, &results[0].task);
	io_drain(io);
	assert_int_equal(results[0].task.result, -EBADF);
	io_destroy(io);
	close(fd);
}

static void test_threads(void **state)
{
	engine_works(*state, IO_THREADS);
}

static void test_uring(void **state)
{
	engine_works(*state, IO_URING);
}

static void test_readonly(void **state)
{
	struct machine *m = *state;
	static struct job job;
	struct disk *disk = open_disk(m, (struct disk_config){.readonly = true});

	assert_true(disk_readonly(disk));
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 512), 0);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 512), EROFS);
	assert_int_equal(do_one(disk, &job, DISK_DISCARD, 0, 512), EROFS);
	assert_int_equal(do_one(disk, &job, DISK_FLUSH, 0, 0), 0);
	disk_close(disk);
}

static void test_bounds(void **state)
{
	struct machine *m = *state;
	static struct job job;
	struct disk *disk = open_disk(m, (struct disk_config){0});

	assert_int_equal(do_one(disk, &job, DISK_READ, SIZE, 512), EINVAL);
	assert_int_equal(do_one(disk, &job, DISK_READ, UINT64_MAX - 511, 1024), EINVAL);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 256, 512), EINVAL);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, SIZE - 512, 512), 0);
	disk_close(disk);
}

/* The file shrinks while it is used: errors beyond its end, nothing worse. */
static void test_shrunk(void **state)
{
	struct machine *m = *state;
	static struct job job;
	struct disk *disk = open_disk(m, (struct disk_config){0});

	assert_int_equal(truncate(m->path, SIZE / 2 + 512), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, SIZE / 2, 4096), EIO);
	assert_int_equal(do_one(disk, &job, DISK_READ, SIZE - 4096, 4096), EIO);
	disk_close(disk);
}

/* The host has no room: an error for the guest, and the next request that fits is served. */
static void test_full(void **state)
{
	struct machine *m = *state;
	static struct job job;
	struct rlimit limit = {.rlim_cur = SIZE / 2, .rlim_max = RLIM_INFINITY};
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct disk *disk;

		/* threads and descriptors that wait are not a child's: it has its own */
		m->vm.poller = poller_create(&m->vm, NULL);
		signal(SIGXFSZ, SIG_IGN);
		if (truncate(m->path, SIZE / 2) < 0)
			_exit(1);
		disk = open_disk(m, (struct disk_config){0});
		/* as if it were as long as it was */
		disk->size = SIZE;
		setrlimit(RLIMIT_FSIZE, &limit);
		if (do_one(disk, &job, DISK_WRITE, SIZE / 2, 4096) != EFBIG)
			_exit(2);
		if (do_one(disk, &job, DISK_WRITE, 0, 4096) != 0)
			_exit(3);
		disk_close(disk);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_locks(void **state)
{
	struct machine *m = *state;
	struct disk *writer = open_disk(m, (struct disk_config){0}), *reader;

	assert_non_null(writer);
	assert_null(open_disk(m, (struct disk_config){0}));
	assert_null(open_disk(m, (struct disk_config){.readonly = true}));
	assert_null(open_disk(m, (struct disk_config){.snapshot = true}));
	disk_close(writer);
	reader = open_disk(m, (struct disk_config){.readonly = true});
	assert_non_null(reader);
	writer = open_disk(m, (struct disk_config){.snapshot = true});
	assert_non_null(writer); /* reads the file as well */
	assert_null(open_disk(m, (struct disk_config){0}));
	disk_close(writer);
	disk_close(reader);
	writer = open_disk(m, (struct disk_config){0});
	assert_non_null(writer);
	disk_close(writer);
}

static void test_refused(void **state)
{
	struct machine *m = *state;
	struct err err = ERR_INIT;
	static const char *const paths[] = {"/", "/nowhere/x", "/dev/null"};

	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		struct disk_config config = {.path = paths[i]};

		assert_null(disk_open(&config, m->vm.poller, &err));
		assert_non_null(strstr(err.text, paths[i]));
	}
	assert_int_equal(truncate(m->path, SIZE + 1), 0);
	assert_null(open_disk(m, (struct disk_config){0}));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_raw),    TEST(test_snapshot), TEST(test_threads), TEST(test_uring), TEST(test_readonly),
		TEST(test_bounds), TEST(test_shrunk),   TEST(test_full),    TEST(test_locks), TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
