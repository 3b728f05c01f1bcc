/*
 * What a buffered write to a disk image costs the thread that asks for it, and how long it takes until it is done: at
 * once (pwrite), at once if that needs no waiting (RWF_NOWAIT), by io_uring, by another thread, and as
 * runtime/disk/raw.c does it. The figures that runtime/disk/README.md decides by come from here.
 */
#include "disk/disk.h"

#include "cpu/vcpu.h"
#include "poller.h"
#include "util/err.h"
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_MAX (1u << 20)

enum way { AT_ONCE, NOWAIT, URING, THREAD, DISK, WAYS };

static const char *const way_text[] = {"at once", "nowait", "io_uring", "thread", "disk"};

struct sample {
	double asked, done; /* microseconds until the caller goes on, until the write is done */
};

struct thread {
	pthread_t thread;
	sem_t wanted, done;
	int fd;
	struct iovec iov;
	off_t offset; /* -1: end */
};

struct bench {
	int fd;
	u64 size;
	unsigned count;
	struct io_uring ring;
	struct thread thread;
	struct vm vm;
	struct vcpu vcpu;
	struct disk *disk;
	u8 *data;
	struct sample *samples;
	unsigned refused; /* NOWAIT: it would have waited */
};

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void fail(const char *what, int error)
{
	fprintf(stderr, "disk_writes: %s: %s\n", what, strerror(error));
	exit(1);
}

static void *work(void *opaque)
{
	struct thread *thread = opaque;

	for (;;) {
		while (sem_wait(&thread->wanted) < 0)
			;
		if (thread->offset < 0)
			return NULL;
		if (pwritev(thread->fd, &thread->iov, 1, thread->offset) < 0)
			fail("cannot write", errno);
		sem_post(&thread->done);
	}
}

static void by_uring(struct bench *bench, const struct iovec *iov, off_t offset, double start, struct sample *sample)
{
	struct io_uring_sqe *entry = io_uring_get_sqe(&bench->ring);
	struct io_uring_cqe *result;

	io_uring_prep_writev(entry, bench->fd, iov, 1, (u64)offset);
	io_uring_submit(&bench->ring);
	sample->asked = now() - start;
	while (io_uring_wait_cqe(&bench->ring, &result) == -EINTR)
		;
	if (result->res < 0)
		fail("cannot write by io_uring", -result->res);
	io_uring_cqe_seen(&bench->ring, result);
}

static void by_thread(struct bench *bench, const struct iovec *iov, off_t offset, double start, struct sample *sample)
{
	struct thread *thread = &bench->thread;

	thread->iov = *iov;
	thread->offset = offset;
	sem_post(&thread->wanted);
	sample->asked = now() - start;
	while (sem_wait(&thread->done) < 0)
		;
}

static void disk_done(struct disk_request *request, int error)
{
	if (error)
		fail("cannot write", error);
	*(bool *)request->opaque = true;
}

static void by_disk(struct bench *bench, const struct iovec *iov, off_t offset, double start, struct sample *sample)
{
	bool done = false;
	struct disk_request request = {
		.op = DISK_WRITE,
		.offset = (u64)offset,
		.length = iov->iov_len,
		.iov = iov,
		.iov_count = 1,
		.done = disk_done,
		.opaque = &done,
	};

	disk_submit(bench->disk, &request);
	sample->asked = now() - start;
	while (!done) {
		vm_sleep(&bench->vm);
		__atomic_store_n(&bench->vcpu.event, 0, __ATOMIC_SEQ_CST);
		poller_run(bench->vm.poller);
	}
}

static void write_one(struct bench *bench, enum way way, size_t block, off_t offset, struct sample *sample)
{
	struct iovec iov = {.iov_base = bench->data, .iov_len = block};
	double start = now();

	sample->asked = -1;
	if (way == NOWAIT && pwritev2(bench->fd, &iov, 1, offset, RWF_NOWAIT) != (ssize_t)block) {
		bench->refused++;
		way = AT_ONCE;
	}
	if (way == AT_ONCE && pwritev(bench->fd, &iov, 1, offset) < 0)
		fail("cannot write", errno);
	if (way == URING)
		by_uring(bench, &iov, offset, start, sample);
	if (way == THREAD)
		by_thread(bench, &iov, offset, start, sample);
	if (way == DISK)
		by_disk(bench, &iov, offset, start, sample);
	sample->done = now() - start;
	if (sample->asked < 0)
		sample->asked = sample->done;
}

static int by_asked(const void *a, const void *b)
{
	double x = ((const struct sample *)a)->asked, y = ((const struct sample *)b)->asked;

	return (x > y) - (x < y);
}

static int by_done(const void *a, const void *b)
{
	double x = ((const struct sample *)a)->done, y = ((const struct sample *)b)->done;

	return (x > y) - (x < y);
}

static void run(struct bench *bench, enum way way, size_t block)
{
	const unsigned n = bench->count;
	struct sample *samples = bench->samples;
	double median, p99, max, sum = 0;

	bench->refused = 0;
	for (unsigned i = 0; i < n; i++) {
		u64 at = (u64)rand() % (bench->size / block);

		write_one(bench, way, block, (off_t)(at * block), &samples[i]);
	}
	for (unsigned i = 0; i < n; i++)
		sum += samples[i].asked;
	qsort(samples, n, sizeof(*samples), by_asked);
	median = samples[n / 2].asked;
	p99 = samples[n - 1 - n / 100].asked;
	max = samples[n - 1].asked;
	qsort(samples, n, sizeof(*samples), by_done);
	printf("%7zu %-9s %9.1f %9.1f %9.0f %9.0f %9.1f %9.1f %9.0f", block, way_text[way], median, p99, max, sum,
	       samples[n / 2].done, samples[n - 1 - n / 100].done, samples[n - 1].done);
	if (way == NOWAIT)
		printf("   refused %u of %u", bench->refused, n);
	printf("\n");
	fflush(stdout);
}

static void open_disk(struct bench *bench, const char *path)
{
	struct disk_config config = {.path = path};
	struct err err = ERR_INIT;

	bench->vm.vcpu = &bench->vcpu;
	bench->vm.clock.vcpu = &bench->vcpu;
	bench->vm.wake_fd = eventfd(0, EFD_NONBLOCK);
	bench->vm.poller = poller_create(&bench->vm, &err);
	bench->disk = bench->vm.poller ? disk_open(&config, bench->vm.poller, &err) : NULL;
	if (!bench->disk) {
		fprintf(stderr, "disk_writes: %s\n", err.text);
		exit(1);
	}
}

static void start_thread(struct bench *bench)
{
	struct thread *thread = &bench->thread;
	int error;

	thread->fd = bench->fd;
	sem_init(&thread->wanted, 0, 0);
	sem_init(&thread->done, 0, 0);
	error = pthread_create(&thread->thread, NULL, work, thread);
	if (error)
		fail("thread", error);
}

static void fill(struct bench *bench, const char *path)
{
	struct stat status;

	if (fstat(bench->fd, &status) < 0 || (S_ISREG(status.st_mode) && ftruncate(bench->fd, (off_t)bench->size) < 0))
		fail(path, errno);
	for (u64 at = 0; at < bench->size; at += BLOCK_MAX)
		if (pwrite(bench->fd, bench->data, BLOCK_MAX, (off_t)at) < 0)
			fail(path, errno);
	if (fsync(bench->fd) < 0)
		fail(path, errno);
}

static void prepare(struct bench *bench, const char *path)
{
	int error;

	bench->fd = open(path, O_RDWR | O_CREAT, 0600);
	if (bench->fd < 0)
		fail(path, errno);
	bench->data = malloc(BLOCK_MAX);
	bench->samples = calloc(bench->count, sizeof(*bench->samples));
	if (!bench->data || !bench->samples)
		fail("memory", ENOMEM);
	memset(bench->data, 0x5a, BLOCK_MAX);
	fill(bench, path);
	error = io_uring_queue_init(64, &bench->ring, 0);
	if (error < 0)
		fail("io_uring", -error);
	start_thread(bench);
	open_disk(bench, path);
}

int main(int argc, char **argv)
{
	static const size_t blocks[] = {4096, 65536, 262144, BLOCK_MAX};
	static struct bench bench = {.size = 256ull << 20, .count = 2000};
	int rounds = 2;

	if (argc < 2) {
		fprintf(stderr,
			"Usage: disk_writes FILE [MIB [COUNT [ROUNDS]]]\n"
			"FILE is overwritten: MIB (256) MiB; each way makes COUNT (2000) writes in each round\n");
		return 2;
	}
	if (argc > 2)
		bench.size = strtoull(argv[2], NULL, 0) << 20;
	if (argc > 3)
		bench.count = (unsigned)strtoul(argv[3], NULL, 0);
	if (argc > 4)
		rounds = atoi(argv[4]);
	if (bench.size == 0 || bench.count == 0) {
		fprintf(stderr, "disk_writes: sizes and counts must not be 0\n");
		return 2;
	}
	prepare(&bench, argv[1]);
	printf("  bytes way       asked: median, p99, max, sum (us)         done: median, p99, max (us)\n");
	for (int round = 0; round < rounds; round++)
		for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++)
			for (enum way way = 0; way < WAYS; way++)
				run(&bench, way, blocks[i]);
	disk_close(bench.disk);
	poller_destroy(bench.vm.poller);
	bench.thread.offset = -1;
	sem_post(&bench.thread.wanted);
	pthread_join(bench.thread.thread, NULL);
	io_uring_queue_exit(&bench.ring);
	return 0;
}
