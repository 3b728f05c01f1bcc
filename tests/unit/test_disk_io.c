/* Work in the background: both ways do all operations, where one is forbidden the other is taken, a sandbox holds. */
#include "test_disk_machine.h"

#include "disk/io_internal.h"

#include <liburing.h>
#include <linux/falloc.h>
#include <seccomp.h>
#include <sys/resource.h>

#define TASKS 700 /* more than a ring takes at a time */

struct io_result {
	struct io_task task;
	struct iovec iov;
	unsigned done;
};

static void io_done(struct io_task *task)
{
	((struct io_result *)task->opaque)->done++;
}

static void submit(struct io *io, struct io_result *result, struct io_task task)
{
	result->task = task;
	result->task.done = io_done;
	result->task.opaque = result;
	result->task.iov = &result->iov;
	result->done = 0;
	io_submit(io, &result->task);
}

/* One task through the poller, as while a guest runs. */
static s64 do_task(struct machine *m, struct io *io, struct io_task task)
{
	static struct io_result result;

	submit(io, &result, task);
	io_flush(io);
	while (!result.done)
		machine_wait(m);
	assert_int_equal(result.done, 1);
	return result.task.result;
}

static struct io *create(struct machine *m, enum io_kind kind, int fd)
{
	struct err err = ERR_INIT;
	struct io *io = io_create(kind, fd, m->vm.poller, &err);

	if (!io && kind == IO_URING) {
		print_message("no io_uring here: %s\n", err.text);
		skip();
	}
	assert_non_null(io);
	return io;
}

static void engine_works(struct machine *m, enum io_kind kind)
{
	static u8 data[TASKS][512];
	static struct io_result results[TASKS];
	int fd = open(m->path, O_RDWR);
	struct io *io = create(m, kind, fd);

	for (enum io_op op = IO_WRITE;; op = IO_READ) {
		for (unsigned i = 0; i < TASKS; i++) {
			memset(data[i], op == IO_WRITE ? (int)i : 0, 512);
			results[i].iov = (struct iovec){.iov_base = data[i], .iov_len = 512};
			submit(io, &results[i],
			       (struct io_task){.op = op, .offset = i * 512, .length = 512, .iov_count = 1});
		}
		io_drain(io);
		for (unsigned i = 0; i < TASKS; i++) {
			assert_int_equal(results[i].done, 1);
			assert_int_equal(results[i].task.result, 512);
			assert_int_equal(data[i][511], (u8)i);
		}
		if (op == IO_READ)
			break;
	}
	assert_int_equal(do_task(m, io, (struct io_task){.op = IO_SYNC}), 0);
	assert_int_equal(do_task(m, io,
				 (struct io_task){.op = IO_ALLOCATE,
						  .mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						  .length = 4096}),
			 0);
	assert_int_equal(pread(fd, data, 512, 512), 512);
	assert_int_equal(data[0][0], 0);
	/* errors are told as such */
	assert_int_equal(do_task(m, io, (struct io_task){.op = IO_ALLOCATE, .mode = FALLOC_FL_PUNCH_HOLE, .length = 1}),
			 -EOPNOTSUPP);
	io_destroy(io);
	close(fd);
}

static void test_threads(void **state)
{
	engine_works(*state, IO_THREADS);
}

static void test_one_thread(void **state)
{
	engine_works(*state, IO_ONE_THREAD);
}

static void test_uring(void **state)
{
	engine_works(*state, IO_URING);
}

/* Only regular files are there to test with; a discard of one is an error, and told as such. */
static void test_discard(void **state)
{
	struct machine *m = *state;
	int fd = open(m->path, O_RDWR);
	struct io *io = create(m, IO_ONE_THREAD, fd);

	assert_int_equal(do_task(m, io, (struct io_task){.op = IO_DISCARD, .length = 4096}), -ENOTTY);
	io_destroy(io);
	close(fd);
}

/* Requests are submitted from where others are finished. */
struct chain {
	struct io *io;
	struct io_task task;
	unsigned left;
};

static void chain_done(struct io_task *task)
{
	struct chain *chain = task->opaque;

	assert_int_equal(task->result, 0);
	if (chain->left--)
		io_submit(chain->io, task);
}

static void chains(struct machine *m, enum io_kind kind)
{
	static struct chain all[300];
	int fd = open(m->path, O_RDWR);
	struct io *io = create(m, kind, fd);

	for (unsigned i = 0; i < 300; i++) {
		all[i] = (struct chain){.io = io, .left = 5};
		all[i].task = (struct io_task){.op = IO_ALLOCATE,
					       .mode = FALLOC_FL_KEEP_SIZE,
					       .length = 512,
					       .done = chain_done,
					       .opaque = &all[i]};
		io_submit(io, &all[i].task);
	}
	io_drain(io);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(all[i].left, UINT32_MAX);
	io_destroy(io);
	close(fd);
}

static void test_chains(void **state)
{
	chains(*state, IO_THREADS);
	chains(*state, IO_URING);
}

/* --- what hosts forbid -------------------------------------------------------------------------------------------- */

/* A storm without assertions: what it finds ends the child. */
static void work(struct machine *m, enum io_kind kind)
{
	struct job job = {0};
	struct disk *disk;

	machine_poller(m);
	disk = machine_open(m, (struct disk_config){0});
	CHECK(disk && io_kind(raw_io(disk)) == kind);
	CHECK(do_one(disk, &job, DISK_WRITE, 4096, 1 << 20) == 0);
	CHECK(do_one(disk, &job, DISK_FLUSH, 0, 0) == 0);
	CHECK(do_one(disk, &job, DISK_WRITE_ZEROES, 8192, 8192) == 0);
	CHECK(do_one(disk, &job, DISK_READ, 0, 1 << 20) == 0);
	disk_close(disk);
}

static void forbid_uring(int error)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	CHECK(filter && seccomp_rule_add(filter, SCMP_ACT_ERRNO((u32)error), SCMP_SYS(io_uring_setup), 0) == 0);
	CHECK(seccomp_load(filter) == 0);
	seccomp_release(filter);
}

/* As containers have it, and kernel.io_uring_disabled. */
static void no_uring(struct machine *m)
{
	forbid_uring(EPERM);
	work(m, IO_THREADS);
}

/* As older containers and kernels without it have it. */
static void uring_unknown(struct machine *m)
{
	forbid_uring(ENOSYS);
	work(m, IO_THREADS);
}

static void test_forbidden(void **state)
{
	in_child(*state, no_uring);
	in_child(*state, uring_unknown);
}

/* No memory may be locked: a ring of a kernel that counts its memory so is done without. */
static void no_locked_memory(struct machine *m)
{
	struct rlimit limit = {0, 0};
	struct disk *disk;
	enum io_kind kind;

	CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	machine_poller(m);
	disk = machine_open(m, (struct disk_config){0});
	CHECK(disk);
	kind = io_kind(raw_io(disk));
	disk_close(disk);
	work(m, kind);
}

static void test_locked_memory(void **state)
{
	in_child(*state, no_locked_memory);
}

/* --- after disk_open(), only what the README lists is called ------------------------------------------------------ */

/* the first line: the poller, and threads that are just starting; the last: the C library */
static const int of_all[] = {
	SCMP_SYS(epoll_wait), SCMP_SYS(epoll_ctl),      SCMP_SYS(write),   SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),       SCMP_SYS(rt_sigprocmask), SCMP_SYS(preadv2), SCMP_SYS(pwritev),
	SCMP_SYS(fstat),      SCMP_SYS(newfstatat),     SCMP_SYS(close),   SCMP_SYS(clock_gettime),
	SCMP_SYS(munmap),     SCMP_SYS(mmap),           SCMP_SYS(brk),     SCMP_SYS(madvise),
	SCMP_SYS(mremap),     SCMP_SYS(exit_group),
};
static const int of_uring[] = {SCMP_SYS(io_uring_enter), SCMP_SYS(clock_nanosleep)};
static const int of_threads[] = {
	SCMP_SYS(read),  SCMP_SYS(preadv), SCMP_SYS(fdatasync), SCMP_SYS(fallocate),
	SCMP_SYS(futex), SCMP_SYS(poll),   SCMP_SYS(exit),      SCMP_SYS(mprotect),
};

static void add(scmp_filter_ctx filter, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++)
		CHECK(seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0) == 0);
}

static void sandboxed(struct machine *m, enum io_kind kind, const int *calls, size_t count)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	struct err err = ERR_INIT;
	struct disk *raw, *snapshot;
	struct job job = {0};

	machine_poller(m);
	raw = raw_open_fd(open(m->path, O_RDWR), -1, m->path, kind, false, m->vm.poller, &err);
	if (!raw && kind == IO_URING)
		return;
	CHECK(raw);
	snapshot = snapshot_open(raw_open_fd(open(m->path, O_RDONLY), -1, m->path, kind, true, m->vm.poller, &err),
				 m->vm.poller, &err);
	CHECK(snapshot);
	CHECK(filter && seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) == 0);
	add(filter, of_all, ARRAY_SIZE(of_all));
	add(filter, calls, count);
	if (kind == IO_THREADS) /* the snapshot's overlay takes what there is */
		add(filter, of_uring, ARRAY_SIZE(of_uring));
	CHECK(seccomp_load(filter) == 0);
	for (unsigned i = 0; i < 50; i++) {
		struct disk *disk = i % 2 ? raw : snapshot;

		CHECK(do_one(disk, &job, DISK_WRITE, i * 70000 / 512 * 512, i % 5 ? 1024 : 600 << 10) == 0);
		CHECK(do_one(disk, &job, DISK_WRITE_ZEROES, i * 30000 / 512 * 512, 8192) == 0);
		CHECK(do_one(disk, &job, DISK_DISCARD, i * 4096, 8192) == 0);
		CHECK(do_one(disk, &job, DISK_FLUSH, 0, 0) == 0);
		CHECK(do_one(disk, &job, DISK_READ, 0, 1 << 20) == 0);
	}
	disk_close(snapshot);
	disk_close(raw);
}

static void sandboxed_uring(struct machine *m)
{
	sandboxed(m, IO_URING, of_uring, ARRAY_SIZE(of_uring));
}

static void sandboxed_threads(struct machine *m)
{
	sandboxed(m, IO_THREADS, of_threads, ARRAY_SIZE(of_threads));
}

static void test_sandbox(void **state)
{
#ifdef AVANT_SANITIZE
	skip(); /* its run-time library has calls of its own */
#endif
	in_child(*state, sandboxed_uring);
	in_child(*state, sandboxed_threads);
}

/* A ring does nothing but what a disk needs: it would be a way around the sandbox. */
static void test_ring_is_restricted(void **state)
{
	struct machine *m = *state;
	int fd = open(m->path, O_RDWR);
	struct io *io = create(m, IO_URING, fd);
	struct io_uring *ring = io->state;
	struct io_uring_sqe *entry = io_uring_get_sqe(ring);
	struct io_uring_cqe *result;

	io_uring_prep_openat(entry, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	assert_int_equal(io_uring_submit(ring), 1);
	assert_int_equal(io_uring_wait_cqe(ring, &result), 0);
	assert_int_equal(result->res, -EACCES);
	io_uring_cqe_seen(ring, result);
	assert_int_equal(io_uring_register_files(ring, &fd, 1), -EACCES);
	io_destroy(io);
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_threads),       TEST(test_one_thread), TEST(test_uring),
		TEST(test_discard),       TEST(test_chains),     TEST(test_forbidden),
		TEST(test_locked_memory), TEST(test_sandbox),    TEST(test_ring_is_restricted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
