/* One process and the kernel: system calls, faults, signals, files. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void syscall_run(struct job *job)
{
	long parent = getppid();

	for (uint64_t n = 0; n < job->iterations; n++)
		if (syscall(SYS_getppid) != parent)
			job_fail(job, "getppid changed its mind");
}

static void clock_run(struct job *job)
{
	uint64_t last = 0;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t now = harness_now();

		if (now < last)
			job_fail(job, "the clock went backwards");
		last = now;
	}
}

static void *pipe_setup(void)
{
	int *ends = malloc(2 * sizeof(int));

	if (ends && pipe(ends)) {
		free(ends);
		return NULL;
	}
	return ends;
}

static void pipe_teardown(void *state)
{
	int *ends = state;

	close(ends[0]);
	close(ends[1]);
	free(ends);
}

static void pipe_run(struct job *job)
{
	const int *ends = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint8_t out = (uint8_t)n, in = (uint8_t)~n;

		if (write(ends[1], &out, 1) != 1 || read(ends[0], &in, 1) != 1 || in != out)
			job_fail(job, "pipe");
	}
}

/* Small pages only: with huge ones a fault would be another thing. One mmap, madvise and munmap are spread over all. */
enum { FAULT_PAGES = 512, PAGE = 4096 };

static void page_fault_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++) {
		volatile uint8_t *pages =
			mmap(NULL, FAULT_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		unsigned dirt = 0;

		if (pages == MAP_FAILED) {
			job_fail(job, "mmap");
			return;
		}
		madvise((void *)pages, FAULT_PAGES * PAGE, MADV_NOHUGEPAGE);
		for (int i = 0; i < FAULT_PAGES; i++) {
			dirt |= pages[i * PAGE + 8];
			pages[i * PAGE] = 1;
		}
		if (dirt)
			job_fail(job, "a fresh page is not zero");
		munmap((void *)pages, FAULT_PAGES * PAGE);
	}
}

static volatile sig_atomic_t signals_caught;

static void catch_signal(int number)
{
	(void)number;
	signals_caught++;
}

static void signal_run(struct job *job)
{
	struct sigaction action = {.sa_handler = catch_signal}, old;
	pid_t self = getpid();

	if (sigaction(SIGUSR1, &action, &old)) {
		job_fail(job, "sigaction");
		return;
	}
	signals_caught = 0;
	for (uint64_t n = 0; n < job->iterations; n++) {
		sig_atomic_t before = signals_caught;

		kill(self, SIGUSR1); /* one thread, not blocked: delivered before kill returns */
		if (signals_caught != before + 1)
			job_fail(job, "signal not delivered");
	}
	sigaction(SIGUSR1, &old, NULL);
}

/* A file on tmpfs, five names deep. */
enum { FILE_SIZE = 4096 };

struct file_state {
	char top[64], directory[96], path[128];
};

static void file_teardown(void *state)
{
	struct file_state *file = state;

	unlink(file->path);
	rmdir(file->directory);
	rmdir(file->top);
	free(file);
}

static void *file_setup(void)
{
	struct file_state *file = calloc(1, sizeof(*file));
	uint8_t bytes[FILE_SIZE];
	int fd;

	if (!file)
		return NULL;
	memset(bytes, 0x5a, sizeof(bytes));
	snprintf(file->top, sizeof(file->top), "/dev/shm/avant-bench-%d", (int)getpid());
	snprintf(file->directory, sizeof(file->directory), "%s/directory", file->top);
	snprintf(file->path, sizeof(file->path), "%s/file", file->directory);
	mkdir(file->top, 0700);
	mkdir(file->directory, 0700);
	fd = open(file->path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	if (fd < 0 || write(fd, bytes, sizeof(bytes)) != sizeof(bytes)) {
		if (fd >= 0)
			close(fd);
		file_teardown(file);
		return NULL;
	}
	close(fd);
	return file;
}

static void stat_run(struct job *job)
{
	const struct file_state *file = job->state;
	struct stat status;

	for (uint64_t n = 0; n < job->iterations; n++)
		if (stat(file->path, &status) || status.st_size != FILE_SIZE)
			job_fail(job, "stat");
}

static void file_read_run(struct job *job)
{
	const struct file_state *file = job->state;
	uint8_t bytes[FILE_SIZE];

	for (uint64_t n = 0; n < job->iterations; n++) {
		int fd = open(file->path, O_RDONLY);

		if (fd < 0 || read(fd, bytes, sizeof(bytes)) != sizeof(bytes) || bytes[FILE_SIZE - 1] != 0x5a)
			job_fail(job, "open, read");
		if (fd >= 0)
			close(fd);
	}
}

const struct row rows_system[] = {
	{"syscall_null", "ns", 1, NULL, syscall_run, NULL},
	{"clock_gettime", "ns", 1, NULL, clock_run, NULL},
	{"pipe_1byte", "ns", 1, pipe_setup, pipe_run, pipe_teardown},
	{"page_fault", "ns", FAULT_PAGES, NULL, page_fault_run, NULL},
	{"signal_catch", "ns", 1, NULL, signal_run, NULL},
	{"stat", "ns", 1, file_setup, stat_run, file_teardown},
	{"file_read_4k", "ns", 1, file_setup, file_read_run, file_teardown},
	{0},
};
