/* What stands on other disks: snapshots, and any sectors on disks of larger blocks. */
#include "test_disk_machine.h"

#include <sys/stat.h>

/* --- a disk in memory that answers when it is told, in any order, and fails at times --------------------------------
 */

struct lazy {
	struct disk disk;
	u8 *memory;
	struct disk_request *queue[1024];
	unsigned queued, batches;
	unsigned seed, fails; /* one in so many requests does; 0: none */
	u32 block;            /* all requests must be of such */
};

static void lazy_submit(struct disk *disk, struct disk_request *request)
{
	struct lazy *lazy = (struct lazy *)disk;

	assert_true(lazy->queued < ARRAY_SIZE(lazy->queue));
	if (request->op != DISK_FLUSH)
		assert_int_equal((request->offset | request->length) % lazy->block, 0);
	lazy->queue[lazy->queued++] = request;
}

static void lazy_perform(struct lazy *lazy, struct disk_request *request)
{
	u8 *at = lazy->memory + request->offset;

	for (unsigned i = 0; i < request->iov_count; i++) {
		const struct iovec *piece = &request->iov[i];

		if (request->op == DISK_READ)
			memcpy(piece->iov_base, at, piece->iov_len);
		else if (request->op == DISK_WRITE)
			memcpy(at, piece->iov_base, piece->iov_len);
		at += piece->iov_len;
	}
	if (request->op == DISK_WRITE_ZEROES)
		memset(at, 0, request->length);
	if (request->op == DISK_DISCARD)
		memset(at, 0xdd, request->length); /* anything */
}

/* One of those that wait is done. */
static void lazy_step(void *opaque)
{
	struct lazy *lazy = opaque;
	unsigned i;
	struct disk_request *request;

	if (!lazy->queued)
		return;
	i = (unsigned)rand_r(&lazy->seed) % lazy->queued;
	request = lazy->queue[i];
	lazy->queue[i] = lazy->queue[--lazy->queued];
	if (lazy->fails && (unsigned)rand_r(&lazy->seed) % lazy->fails == 0) {
		request->done(request, EIO);
		return;
	}
	lazy_perform(lazy, request);
	request->done(request, 0);
}

static void lazy_drain(struct disk *disk)
{
	struct lazy *lazy = (struct lazy *)disk;

	while (lazy->queued)
		lazy_step(lazy);
}

static void lazy_close(struct disk *disk)
{
	free(((struct lazy *)disk)->memory);
	free(disk);
}

static void lazy_begin_batch(struct disk *disk)
{
	((struct lazy *)disk)->batches++;
}

static struct lazy *lazy_create(u64 size, u32 block)
{
	static const struct disk_ops ops = {
		.submit = lazy_submit, .drain = lazy_drain, .close = lazy_close, .begin_batch = lazy_begin_batch};
	struct lazy *lazy = calloc(1, sizeof(*lazy));

	lazy->disk = (struct disk){.ops = &ops, .path = "lazy", .size = size, .can_discard = true};
	lazy->memory = calloc(1, size);
	lazy->seed = 3;
	lazy->block = block;
	return lazy;
}

/* --- any sectors on larger blocks --------------------------------------------------------------------------------- */

static void align_storm(u32 block, unsigned fails, bool discards)
{
	struct err err = ERR_INIT;
	struct lazy *lazy = lazy_create(1 << 20, block);
	struct disk *disk = align_open(&lazy->disk, block, &err);
	struct storm storm;

	assert_non_null(disk);
	storm_init(&storm, disk, block + fails);
	storm.largest = 300;
	storm.may_fail = fails;
	storm.discards = discards;
	lazy->fails = fails;
	storm_run(&storm, 6000, lazy_step, lazy);
	lazy->fails = 0;
	assert_true(!fails || storm.failures > 100);
	assert_true(lazy->batches > 100);
	storm_check(&storm, disk);
	disk_close(disk);
	storm_free(&storm);
}

static void test_align(void **state)
{
	(void)state;
	align_storm(1024, 0, false);
	align_storm(4096, 0, true);
	align_storm(65536, 0, false);
}

/* A failed write may leave anything in its own sectors, and only there. */
static void test_align_failures(void **state)
{
	(void)state;
	align_storm(4096, 20, false);
}

static void test_align_size(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_null(align_open(&lazy_create(4096 + 512, 512)->disk, 4096, &err));
	assert_non_null(strstr(err.text, "multiple of its blocks"));
}

/* --- snapshots ---------------------------------------------------------------------------------------------------- */

static void wait_for_machine(void *opaque)
{
	machine_wait(opaque);
}

static void test_snapshot(void **state)
{
	struct machine *m = *state;
	u64 *before = calloc(DISK_SIZE / 512, 8);
	struct storm storm;
	struct stat status, after;
	struct disk *disk;

	fill_tags(m->path, before, DISK_SIZE / 512, 1);
	assert_int_equal(chmod(m->path, 0400), 0);
	stat(m->path, &status);
	disk = machine_open(m, (struct disk_config){.snapshot = true});
	assert_non_null(disk);
	assert_false(disk_readonly(disk));
	storm_init(&storm, disk, 77);
	memcpy(storm.tags, before, storm.sectors * 8);
	storm.next_tag = 1 << 20;
	storm_run(&storm, 2500, wait_for_machine, m);
	storm_check(&storm, disk);
	storm.discards = true;
	storm_run(&storm, 500, wait_for_machine, m);
	storm_check(&storm, disk);
	disk_close(disk);
	storm_free(&storm);
	assert_file(m->path, before, DISK_SIZE / 512);
	stat(m->path, &after);
	assert_int_equal(after.st_mtim.tv_nsec, status.st_mtim.tv_nsec);
	free(before);
	/* dropped at the end */
	disk = machine_open(m, (struct disk_config){.snapshot = true});
	storm_init(&storm, disk, 1);
	for (u64 i = 0; i < storm.sectors; i++)
		storm.tags[i] = i + 1;
	storm_check(&storm, disk);
	disk_close(disk);
	storm_free(&storm);
}

struct both {
	struct machine *m;
	struct lazy *lazy;
};

static void wait_for_both(void *opaque)
{
	struct both *both = opaque;

	if (both->lazy->queued)
		lazy_step(both->lazy);
	else
		machine_wait(both->m);
}

/* The disk below takes its time, has an odd size, and fails at times: a write that would need its data fails then. */
static void snapshot_on_lazy(struct machine *m, unsigned fails)
{
	struct err err = ERR_INIT;
	struct lazy *lazy = lazy_create((1 << 20) + 512 * 3, 512);
	struct both both = {m, lazy};
	u8 *before = malloc(lazy->disk.size);
	struct disk *disk;
	struct storm storm;

	lazy->disk.readonly = true;
	for (u64 i = 0; i < lazy->disk.size / 512; i++)
		sector_fill(lazy->memory + i * 512, i + 1);
	memcpy(before, lazy->memory, lazy->disk.size);
	disk = snapshot_open(&lazy->disk, m->vm.poller, &err);
	assert_non_null(disk);
	storm_init(&storm, disk, 9 + fails);
	for (u64 i = 0; i < storm.sectors; i++)
		storm.tags[i] = i + 1;
	storm.next_tag = 1 << 20;
	storm.largest = 300;
	storm.may_fail = fails;
	lazy->fails = fails;
	storm_run(&storm, 3000, wait_for_both, &both);
	lazy->fails = 0;
	assert_true(!fails || storm.failures > 20);
	storm_check(&storm, disk);
	assert_memory_equal(before, lazy->memory, lazy->disk.size);
	disk_close(disk);
	storm_free(&storm);
	free(before);
}

static void test_snapshot_lazy(void **state)
{
	snapshot_on_lazy(*state, 0);
}

static void test_snapshot_failures(void **state)
{
	snapshot_on_lazy(*state, 3);
}

/* A cluster that is written twice at once, in different sectors, while the rest of it is still being read. */
static void test_same_cluster(void **state)
{
	struct machine *m = *state;
	struct err err = ERR_INIT;
	struct lazy *lazy = lazy_create(1 << 20, 512);
	struct disk *disk;
	struct job jobs[8] = {0}, whole = {0};

	lazy->disk.readonly = true;
	disk = snapshot_open(&lazy->disk, m->vm.poller, &err);
	for (unsigned i = 0; i < 8; i++) {
		job_fill(&jobs[i], DISK_WRITE, i * 512, 512, 1);
		sector_fill(jobs[i].data, i + 100);
		disk_submit(disk, &jobs[i].request);
		assert_true(jobs[i].busy);
	}
	assert_int_equal(lazy->queued, 1); /* read once */
	lazy_step(lazy);
	for (unsigned i = 0; i < 8; i++) {
		assert_false(jobs[i].busy);
		assert_int_equal(jobs[i].error, 0);
		job_free(&jobs[i]);
	}
	assert_int_equal(do_one(disk, &whole, DISK_READ, 0, 4096), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_sector(job_sector(&whole, i), i + 100, i);
	assert_int_equal(lazy->queued, 0);
	disk_close(disk);
	job_free(&whole);
}

/* The temporary file is where TMPDIR says, and has no name. */
static void test_temporary(void **state)
{
	struct machine *m = *state;
	struct err err = ERR_INIT;
	struct disk_config config = {.path = m->path, .snapshot = true};
	char command[128];
	struct disk *disk;

	assert_int_equal(setenv("TMPDIR", "/nowhere", 1), 0);
	assert_null(disk_open(&config, m->vm.poller, &err));
	assert_non_null(strstr(err.text, "/nowhere"));
	assert_int_equal(setenv("TMPDIR", m->folder, 1), 0);
	disk = machine_open(m, config);
	assert_non_null(disk);
	snprintf(command, sizeof(command), "test \"$(ls -A '%s')\" = image", m->folder);
	assert_int_equal(system(command), 0);
	disk_close(disk);
	unsetenv("TMPDIR");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_align),      cmocka_unit_test(test_align_failures),
		cmocka_unit_test(test_align_size), TEST(test_snapshot),
		TEST(test_snapshot_lazy),          TEST(test_snapshot_failures),
		TEST(test_same_cluster),           TEST(test_temporary),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
