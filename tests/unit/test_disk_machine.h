/* What the tests of disks share: a poller without a guest, a temporary file, requests, and a storm of them. */
#ifndef AVANT_TEST_DISK_MACHINE_H
#define AVANT_TEST_DISK_MACHINE_H

#include "disk/internal.h"

#include "cpu/vcpu.h"
#include "poller.h"
#include "util/err.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK_SIZE (8u << 20)

struct machine {
	struct vm vm;
	struct vcpu vcpu;
	char folder[64], path[96]; /* of a file in it */
	unsigned waits;
};

static inline struct poller *machine_poller(struct machine *m)
{
	struct err err = ERR_INIT;

	m->vm.vcpu = &m->vcpu;
	m->vm.wake_fd = eventfd(0, EFD_NONBLOCK);
	m->vm.clock.vcpu = &m->vcpu;
	m->vm.poller = poller_create(&m->vm, &err);
	assert_non_null(m->vm.poller);
	return m->vm.poller;
}

static inline int machine_setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));
	int fd;

	machine_poller(m);
	strcpy(m->folder, "/var/tmp/avant-disk-XXXXXX");
	assert_non_null(mkdtemp(m->folder));
	snprintf(m->path, sizeof(m->path), "%s/image", m->folder);
	fd = open(m->path, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0 && ftruncate(fd, DISK_SIZE) == 0);
	close(fd);
	*state = m;
	return 0;
}

static inline int machine_teardown(void **state)
{
	struct machine *m = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", m->folder);
	assert_int_equal(system(command), 0);
	poller_destroy(m->vm.poller);
	close(m->vm.wake_fd);
	free(m);
	return 0;
}

/* Waits for something and runs the handlers: by turns as while the guest is halted and as while it runs. */
static inline void machine_wait(struct machine *m)
{
	if (m->waits++ % 2) {
		vm_sleep(&m->vm);
	} else {
		poller_unpark(m->vm.poller);
		while (!__atomic_load_n(&m->vcpu.event, __ATOMIC_SEQ_CST))
			usleep(20);
	}
	__atomic_store_n(&m->vcpu.event, 0, __ATOMIC_SEQ_CST);
	poller_run(m->vm.poller);
}

static inline struct disk *machine_open(struct machine *m, struct disk_config config)
{
	struct err err = ERR_INIT;
	struct disk *disk;

	if (!config.path)
		config.path = m->path;
	disk = disk_open(&config, m->vm.poller, &err);
	if (!disk)
		print_message("%s\n", err.text);
	return disk;
}

/* --- processes with limits of their own -------------------------------------------------------------------------- */

#define SKIPPED 77

/*
 * Runs `body` in a process of its own. It needs a poller of its own: threads are not inherited. What ends with the
 * status SKIPPED could not be tried here.
 */
static inline void in_child(struct machine *m, void (*body)(struct machine *m))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		body(m);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip();
	assert_int_equal(status, 0);
}

/* For children: cmocka's assertions would go on with the other tests there. */
#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

static inline bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

/*
 * A file system of 1 MiB on m->folder that only this process, which has one thread, sees. No privilege is needed where
 * users may have namespaces.
 */
static inline void mount_small(const struct machine *m)
{
	char user[64], group[64];

	snprintf(user, sizeof(user), "0 %u 1", getuid());
	snprintf(group, sizeof(group), "0 %u 1", getgid());
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_text("/proc/self/setgroups", "deny") &&
	    write_text("/proc/self/uid_map", user) && write_text("/proc/self/gid_map", group) &&
	    mount("tmpfs", m->folder, "tmpfs", 0, "size=1m") == 0)
		return;
	CHECK(errno == EPERM || errno == ENOSYS || errno == ENOSPC); /* what forbidden namespaces look like */
	_exit(SKIPPED);
}

/* --- single requests ---------------------------------------------------------------------------------------------- */

#define JOB_PIECES 5

struct job {
	struct disk_request request;
	struct iovec iov[JOB_PIECES];
	u8 *data; /* of all pieces, one after the other but in memory with gaps between */
	u64 room;
	bool busy;
	int error;
	void (*then)(struct job *job);
	void *opaque;
};

static inline void job_done(struct disk_request *request, int error)
{
	struct job *job = request->opaque;

	assert_true(job->busy);
	job->busy = false;
	job->error = error;
	if (job->then)
		job->then(job);
}

/* Pieces of odd numbers of sectors, apart from each other. `pieces` at most. */
static inline void job_fill(struct job *job, enum disk_op op, u64 offset, u64 length, unsigned pieces)
{
	u64 left = op == DISK_READ || op == DISK_WRITE ? length : 0, at = 0;
	unsigned n = 0;

	if (job->room < length + JOB_PIECES * 512) {
		job->room = length + JOB_PIECES * 512;
		job->data = realloc(job->data, job->room);
	}
	for (; left; n++) {
		u64 size = n + 1 < pieces && left > 1024 ? left / 1024 * 512 : left;

		job->iov[n] = (struct iovec){.iov_base = job->data + at, .iov_len = size};
		at += size + 512;
		left -= size;
	}
	job->request = (struct disk_request){
		.op = op,
		.offset = offset,
		.length = length,
		.iov = job->iov,
		.iov_count = n,
		.unmap = length % 1024 == 0,
		.done = job_done,
		.opaque = job,
	};
	job->busy = true;
	job->error = -1;
}

static inline u8 *job_sector(const struct job *job, u64 sector)
{
	u64 at = sector * 512;

	for (unsigned i = 0; i < job->request.iov_count; i++) {
		if (at < job->iov[i].iov_len)
			return (u8 *)job->iov[i].iov_base + at;
		at -= job->iov[i].iov_len;
	}
	fail_msg("sector %llu is not in the request", (unsigned long long)sector);
	return NULL;
}

static inline int do_one(struct disk *disk, struct job *job, enum disk_op op, u64 offset, u64 length)
{
	job_fill(job, op, offset, length, 3);
	disk_submit(disk, &job->request);
	disk_drain(disk);
	assert_false(job->busy);
	return job->error;
}

static inline void job_free(struct job *job)
{
	free(job->data);
	*job = (struct job){0};
}

/* --- a storm ------------------------------------------------------------------------------------------------------ */

/*
 * Random requests, many under way at once, against a model of the disk. Sectors hold tags; 0 is a sector of zeros. A
 * sector that is written by one request is in no other at that time, as a guest has it that wants to know what it
 * reads; but neighbours are, in the same cluster or block.
 */
#define STORM_QUEUE 32
#define STORM_LOST  UINT64_MAX /* a write failed: anything is right */

struct storm {
	struct disk *disk;
	u64 sectors;
	u64 *tags;              /* of all sectors */
	u16 *readers, *writers; /* under way */
	u64 next_tag;
	unsigned seed;
	u64 largest; /* sectors in a request */
	bool may_fail;
	unsigned failures;
	bool discards; /* what is discarded may read as anything afterwards */
	struct job jobs[STORM_QUEUE];
};

static inline u64 storm_random(struct storm *storm, u64 limit)
{
	u64 high = (u64)rand_r(&storm->seed);

	return (high << 31 | (u64)rand_r(&storm->seed)) % limit;
}

static inline void sector_fill(u8 *sector, u64 tag)
{
	for (unsigned i = 0; i < 512; i += 8)
		memcpy(sector + i, &tag, 8);
}

static inline void assert_sector(const u8 *sector, u64 tag, u64 number)
{
	for (unsigned i = 0; i < 512; i += 8) {
		u64 found;

		memcpy(&found, sector + i, 8);
		if (found != tag)
			fail_msg("sector %llu holds %llx instead of %llx at byte %u", (unsigned long long)number,
				 (unsigned long long)found, (unsigned long long)tag, i);
	}
}

static inline void storm_done(struct job *job)
{
	struct storm *storm = job->opaque;
	const enum disk_op op = job->request.op;
	const u64 first = job->request.offset / 512, count = job->request.length / 512;

	if (job->error)
		storm->failures++;
	if (job->error && !storm->may_fail)
		fail_msg("request %d at sector %llu failed: %d", (int)op, (unsigned long long)first, job->error);
	for (u64 i = 0; i < count; i++) {
		u64 *tag = &storm->tags[first + i];

		if (op == DISK_READ) {
			storm->readers[first + i]--;
			if (!job->error && *tag != STORM_LOST)
				assert_sector(job_sector(job, i), *tag, first + i);
			continue;
		}
		storm->writers[first + i]--;
		if (job->error || op == DISK_DISCARD)
			*tag = STORM_LOST;
		else if (op == DISK_WRITE)
			memcpy(tag, job_sector(job, i), 8);
		else
			*tag = 0;
	}
}

static inline bool storm_is_free(const struct storm *storm, enum disk_op op, u64 first, u64 count)
{
	for (u64 i = first; i < first + count; i++) {
		if (storm->writers[i] || (op != DISK_READ && storm->readers[i]))
			return false;
	}
	return true;
}

/* Submits one more request, unless what was thought of is in use. */
static inline void storm_one(struct storm *storm, struct job *job)
{
	static const enum disk_op ops[] = {DISK_READ,         DISK_READ,  DISK_READ,         DISK_WRITE, DISK_WRITE,
					   DISK_WRITE_ZEROES, DISK_FLUSH, DISK_WRITE_ZEROES, DISK_WRITE, DISK_DISCARD};
	enum disk_op op = ops[storm_random(storm, storm->discards ? 10 : 9)];
	u64 count = 1 + storm_random(storm, storm_random(storm, 8) ? 24 : storm->largest);
	/* in a few places only: neighbours are to meet */
	u64 first = storm_random(storm, 2) ? storm_random(storm, storm->sectors) : storm_random(storm, 64);

	if (count > storm->sectors - first)
		count = storm->sectors - first;
	if (op == DISK_FLUSH)
		count = 0;
	if (!storm_is_free(storm, op, first, count))
		return;
	job_fill(job, op, first * 512, count * 512, 1 + (unsigned)storm_random(storm, JOB_PIECES));
	job->then = storm_done;
	job->opaque = storm;
	for (u64 i = 0; i < count; i++) {
		if (op == DISK_WRITE)
			sector_fill(job_sector(job, i), ++storm->next_tag);
		if (op == DISK_READ)
			storm->readers[first + i]++;
		else
			storm->writers[first + i]++;
	}
	disk_submit(storm->disk, &job->request);
}

/* The disk holds zeros, or was left by another storm of the same size. */
static inline void storm_init(struct storm *storm, struct disk *disk, unsigned seed)
{
	*storm = (struct storm){.disk = disk, .sectors = disk_size(disk) / 512, .seed = seed, .largest = 1200};
	storm->tags = calloc(storm->sectors, sizeof(*storm->tags));
	storm->readers = calloc(storm->sectors, sizeof(*storm->readers));
	storm->writers = calloc(storm->sectors, sizeof(*storm->writers));
}

static inline void storm_free(struct storm *storm)
{
	for (unsigned i = 0; i < STORM_QUEUE; i++)
		job_free(&storm->jobs[i]);
	free(storm->tags);
	free(storm->readers);
	free(storm->writers);
}

/* Waits in `wait` while the queue is full; sometimes drains. */
static inline void storm_run(struct storm *storm, unsigned requests, void (*wait)(void *opaque), void *opaque)
{
	for (unsigned n = 0; n < requests; n++) {
		struct job *job = NULL;
		const bool batch = storm_random(storm, 4) == 0;

		if (storm_random(storm, 50) == 0)
			disk_drain(storm->disk);
		while (!job) {
			for (unsigned i = 0; i < STORM_QUEUE && !job; i++)
				job = storm->jobs[i].busy ? NULL : &storm->jobs[i];
			if (!job)
				wait(opaque);
		}
		if (batch)
			disk_begin_batch(storm->disk);
		storm_one(storm, job);
		for (unsigned i = 0; batch && i < STORM_QUEUE; i++) {
			if (!storm->jobs[i].busy && storm_random(storm, 2))
				storm_one(storm, &storm->jobs[i]);
		}
		if (batch)
			disk_end_batch(storm->disk);
	}
	disk_drain(storm->disk);
	for (unsigned i = 0; i < STORM_QUEUE; i++)
		assert_false(storm->jobs[i].busy);
}

/* All of the disk is as the model has it. */
static inline void storm_check(struct storm *storm, struct disk *disk)
{
	struct job job = {0};

	for (u64 first = 0; first < storm->sectors; first += 512) {
		u64 count = storm->sectors - first < 512 ? storm->sectors - first : 512;

		assert_int_equal(do_one(disk, &job, DISK_READ, first * 512, count * 512), 0);
		for (u64 i = 0; i < count; i++) {
			if (storm->tags[first + i] != STORM_LOST)
				assert_sector(job_sector(&job, i), storm->tags[first + i], first + i);
		}
	}
	job_free(&job);
}

/* A file that every sector of holds its tag. */
static inline void fill_tags(const char *path, u64 *tags, u64 sectors, u64 first_tag)
{
	int fd = open(path, O_WRONLY);
	u8 sector[512];

	assert_true(fd >= 0);
	for (u64 i = 0; i < sectors; i++) {
		tags[i] = first_tag + i;
		sector_fill(sector, tags[i]);
		assert_int_equal(write(fd, sector, 512), 512);
	}
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static inline void assert_file(const char *path, const u64 *tags, u64 sectors)
{
	int fd = open(path, O_RDONLY);
	u8 sector[512];

	assert_true(fd >= 0);
	for (u64 i = 0; i < sectors; i++) {
		assert_int_equal(read(fd, sector, 512), 512);
		if (tags[i] != STORM_LOST)
			assert_sector(sector, tags[i], i);
	}
	assert_int_equal(read(fd, sector, 1), 0);
	close(fd);
}

#endif
