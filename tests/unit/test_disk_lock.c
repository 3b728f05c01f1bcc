/* Locks: one that writes, or many that read; the same with QEMU. */
#include "test_disk_machine.h"

#include <signal.h>
#include <sys/stat.h>

static const struct disk_config writing, reading = {.readonly = true}, snapshot = {.snapshot = true};

static void test_writer(void **state)
{
	struct machine *m = *state;
	struct disk *writer = machine_open(m, writing);
	struct err err = ERR_INIT;
	struct disk_config config = {.path = m->path};

	assert_non_null(writer);
	assert_null(machine_open(m, reading));
	assert_null(machine_open(m, snapshot));
	assert_null(disk_open(&config, m->vm.poller, &err));
	assert_non_null(strstr(err.text, "is in use by another process"));
	assert_non_null(strstr(err.text, m->path));
	disk_close(writer);
	writer = machine_open(m, writing);
	assert_non_null(writer);
	disk_close(writer);
}

static void test_readers(void **state)
{
	struct machine *m = *state;
	struct disk *one, *two;

	assert_int_equal(chmod(m->path, 0400), 0);
	one = machine_open(m, reading);
	two = machine_open(m, snapshot);
	assert_non_null(one);
	assert_non_null(two);
	disk_close(one);
	assert_int_equal(chmod(m->path, 0600), 0);
	assert_null(machine_open(m, writing));
	disk_close(two);
	one = machine_open(m, writing);
	assert_non_null(one);
	disk_close(one);
}

static void test_locked_elsewhere(void **state)
{
	struct machine *m = *state;
	struct disk *one = machine_open(m, writing),
		    *two = machine_open(m, (struct disk_config){.locked_elsewhere = true});

	assert_non_null(one);
	assert_non_null(two);
	disk_close(one);
	disk_close(two);
}

/* Where nothing can be written, disks can be read, and be locked so. */
static void on_readonly_mount(struct machine *m)
{
	struct disk_config config = {.path = m->path};
	struct disk *one, *two;
	struct err err = ERR_INIT;
	int fd;

	mount_small(m);
	machine_poller(m);
	fd = open(m->path, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && ftruncate(fd, 65536) == 0);
	close(fd);
	CHECK(mount(NULL, m->folder, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	CHECK(!disk_open(&config, m->vm.poller, &err));
	CHECK(strstr(err.text, "Read-only file system"));
	one = machine_open(m, reading);
	two = machine_open(m, snapshot);
	CHECK(one && two);
	disk_close(one);
	disk_close(two);
}

static void test_readonly_mount(void **state)
{
	in_child(*state, on_readonly_mount);
}

/* The locks end with the process, at once, whatever it is doing. */
static void test_killed(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < 10; i++) {
		int ready[2];
		struct disk *disk;
		pid_t child;
		char byte;

		assert_int_equal(pipe(ready), 0);
		child = fork();
		if (child == 0) {
			static struct job jobs[16];

			machine_poller(m);
			disk = machine_open(m, writing);
			for (unsigned k = 0; disk && k < 16; k++) {
				job_fill(&jobs[k], k % 4 ? DISK_WRITE : DISK_FLUSH, 0, k % 4 ? 1 << 20 : 0, 1);
				disk_submit(disk, &jobs[k].request);
			}
			byte = disk ? 'y' : 'n';
			if (write(ready[1], &byte, 1) == 1)
				pause();
			_exit(1);
		}
		assert_int_equal(read(ready[0], &byte, 1), 1);
		assert_int_equal(byte, 'y');
		assert_null(machine_open(m, reading));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		disk = machine_open(m, writing);
		assert_non_null(disk);
		disk_close(disk);
		close(ready[0]);
		close(ready[1]);
	}
}

/* --- QEMU --------------------------------------------------------------------------------------------------------- */

/* 0 if it works; what it says is in the file `qemu`. */
static int run(const struct machine *m, const char *command)
{
	char text[256];

	snprintf(text, sizeof(text), "cd '%s' && %s >qemu 2>&1", m->folder, command);
	return system(text);
}

static int qemu_writes(const struct machine *m)
{
	return run(m, "qemu-io -f raw -c 'write 0 512' image");
}

static int qemu_reads(const struct machine *m)
{
	return run(m, "qemu-img convert -f raw -O raw image copy");
}

/* Was it refused because of a lock? */
static bool lock_was_missed(const struct machine *m)
{
	char command[160];

	snprintf(command, sizeof(command), "grep -q 'Failed to get .* lock' '%s/qemu'", m->folder);
	return system(command) == 0;
}

static void need_qemu(void)
{
	if (system("qemu-io --version >/dev/null 2>&1") != 0) {
		print_message("there is no qemu-io\n");
		skip();
	}
}

static void test_against_qemu(void **state)
{
	struct machine *m = *state;
	struct disk *disk;

	need_qemu();
	assert_int_equal(qemu_writes(m), 0);
	assert_int_equal(qemu_reads(m), 0);
	disk = machine_open(m, writing);
	assert_int_not_equal(qemu_writes(m), 0);
	assert_true(lock_was_missed(m));
	assert_int_not_equal(qemu_reads(m), 0);
	assert_true(lock_was_missed(m));
	disk_close(disk);
	disk = machine_open(m, reading);
	assert_int_not_equal(qemu_writes(m), 0);
	assert_true(lock_was_missed(m));
	assert_int_equal(qemu_reads(m), 0);
	disk_close(disk);
	assert_int_equal(qemu_writes(m), 0);
}

/* Can it be opened so within 10 s? QEMU needs some time to start. */
static bool becomes(struct machine *m, struct disk_config config, bool possible)
{
	for (unsigned i = 0; i < 100; i++) {
		struct err err = ERR_INIT;
		struct disk *disk;

		config.path = m->path;
		disk = disk_open(&config, m->vm.poller, &err);
		if (disk)
			disk_close(disk);
		if (!!disk == possible)
			return true;
		usleep(100000);
	}
	return false;
}

static void test_qemu_first(void **state)
{
	struct machine *m = *state;
	char command[160];
	FILE *held;

	need_qemu();
	snprintf(command, sizeof(command), "qemu-io -f raw '%s' >/dev/null 2>&1", m->path);
	held = popen(command, "w"); /* it waits for commands, with the image open */
	assert_non_null(held);
	assert_true(becomes(m, reading, false));
	assert_true(becomes(m, writing, false));
	pclose(held);
	assert_true(becomes(m, writing, true));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_writer), TEST(test_readers),      TEST(test_locked_elsewhere), TEST(test_readonly_mount),
		TEST(test_killed), TEST(test_against_qemu), TEST(test_qemu_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
