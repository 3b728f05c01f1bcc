/* The sandbox holds: what it forbids ends the process, what a run needs works. Each case is a process of its own. */
#include "sandbox/sandbox.h"

#include "util/err.h"
#include "util/thread.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORBIDDEN (128 + SIGSYS)
#define RETURNED  7 /* the call came back */

/* Results are not looked at: a forbidden call does not come back, and an allowed one may fail. */
static void call(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
}

struct attempt {
	const char *name;
	long number, a, b, c, d;
	unsigned parts; /* of the machine that are there */
};

/* Exit status of a process that tries it in the sandbox, and what it said. */
static int try_it(const struct attempt *attempt, char *text, size_t size)
{
	int ends[2], status;
	ssize_t n;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		struct err err = ERR_INIT;

		dup2(ends[1], STDERR_FILENO);
		if (sandbox_enter(&(struct sandbox_config){.parts = attempt->parts}, &err) < 0)
			_exit(1);
		call(attempt->number, attempt->a, attempt->b, attempt->c, attempt->d);
		_exit(RETURNED);
	}
	close(ends[1]);
	n = read(ends[0], text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char page[4096] __attribute__((aligned(4096)));

#define A(call_name, ...)                                                                                              \
	{                                                                                                              \
		.name = #call_name, .number = SYS_##call_name, __VA_ARGS__                                             \
	}

static const struct attempt forbidden[] = {
	A(execve, (long)"/bin/true"),
	A(execveat, AT_FDCWD, (long)"/bin/true"),
	A(fork),
	A(vfork),
	A(clone, SIGCHLD),
	A(clone3),
	A(open, (long)"/etc/passwd"),
	A(openat, AT_FDCWD, (long)"/etc/passwd"),
	A(openat2, AT_FDCWD, (long)"/etc/passwd"),
	A(creat, (long)"/tmp/avant-sandbox-test"),
	A(unlink, (long)"/tmp/avant-sandbox-test"),
	A(rename, (long)"/tmp/avant-sandbox-test", (long)"/tmp/avant-sandbox-test2"),
	A(mkdir, (long)"/tmp/avant-sandbox-test"),
	A(chmod, (long)"/tmp/avant-sandbox-test"),
	A(socket, AF_INET, SOCK_STREAM),
	A(connect, 0),
	A(bind, 0),
	A(listen, 0),
	A(sendto, 0),
	A(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS),
	A(mprotect, (long)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC),
	A(pkey_mprotect, (long)page, 4096, PROT_EXEC),
	A(remap_file_pages, (long)page, 4096),
	A(ptrace, 16, 1),
	A(process_vm_writev, 1),
	A(kill, 1, 0),
	A(tgkill, 1, 1),
	A(tkill, 1),
	A(rt_sigaction, SIGSYS),
	A(prctl, PR_SET_DUMPABLE),
	A(seccomp, 1),
	A(setuid, 0),
	A(capset),
	A(mount),
	A(umount2),
	A(pivot_root),
	A(chroot, (long)"/"),
	A(unshare, 0x10000000),
	A(setns, 0),
	A(bpf, 0),
	A(perf_event_open),
	A(userfaultfd),
	A(io_uring_setup, 1),
	A(io_uring_register, 0),
	A(io_uring_enter, -1),
	A(keyctl),
	A(init_module),
	A(kexec_load),
	A(reboot, 0),
	A(iopl, 3),
	A(modify_ldt, 0),
	A(personality, 0),
	A(ioctl, 0, TIOCSTI),
	A(fcntl, 0, F_SETOWN),
	A(timerfd_create, 0),
	/* one part's calls are not another's */
	A(openat, AT_FDCWD, (long)"/etc/passwd", .parts = SANDBOX_DISK | SANDBOX_SOCKET | SANDBOX_LISTEN),
	A(socket, AF_INET, SOCK_STREAM, .parts = SANDBOX_SOCKET | SANDBOX_LISTEN),
	A(io_uring_enter, -1, .parts = SANDBOX_SHARE),
	A(wait4, -1, .parts = SANDBOX_DISK | SANDBOX_SHARE | SANDBOX_SOCKET | SANDBOX_LISTEN),
	A(socket, AF_INET, SOCK_STREAM, .parts = SANDBOX_NETWORK),
	A(accept4, -1, .parts = SANDBOX_SOCKET),
	/* no set-user-ID programs */
	A(openat, AT_FDCWD, (long)"/tmp/avant-sandbox-test", O_CREAT, 04755, .parts = SANDBOX_SHARE),
	A(fchmodat, AT_FDCWD, (long)"/tmp/avant-sandbox-test", 04755, .parts = SANDBOX_SHARE),
	A(mknodat, AT_FDCWD, (long)"/tmp/avant-sandbox-test", S_IFREG | 04755, .parts = SANDBOX_SHARE),
};

static const struct attempt allowed[] = {
	A(getpid),
	A(write, -1),
	A(mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS),
	A(mprotect, (long)page, 4096, PROT_READ),
	A(preadv2, -1, .parts = SANDBOX_DISK),
	A(io_uring_enter, -1, .parts = SANDBOX_DISK),
	A(openat, -1, .parts = SANDBOX_SHARE),
	A(fchmodat, -1, 0, 0755, .parts = SANDBOX_SHARE),
	A(recvfrom, -1, .parts = SANDBOX_SOCKET),
	A(accept4, -1, .parts = SANDBOX_LISTEN),
	A(pidfd_send_signal, -1, .parts = SANDBOX_NETWORK),
	A(wait4, -1, 0, WNOHANG, .parts = SANDBOX_NETWORK),
};

static void test_forbidden(void **state)
{
	char text[256];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(forbidden); i++) {
		int status = try_it(&forbidden[i], text, sizeof(text));

		char says[64];

		snprintf(says, sizeof(says), "the sandbox forbids the system call '%s'", forbidden[i].name);
		if (status != FORBIDDEN || !strstr(text, says))
			fail_msg("%s: status %d, '%s'", forbidden[i].name, status, text);
	}
}

static void test_allowed(void **state)
{
	char text[256];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(allowed); i++) {
		int status = try_it(&allowed[i], text, sizeof(text));

		if (status != RETURNED)
			fail_msg("%s: status %d, '%s'", allowed[i].name, status, text);
	}
}

/* Does nothing but wait, by a call that is allowed. */
static void *idle_thread(void *opaque)
{
	while (!opaque)
		poll(NULL, 0, -1);
	return NULL;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where)
{
	(void)status;
	(void)kind;
	(void)where;
	return remove(path);
}

struct late {
	int start[2];
};

/* Waits until the process is in the sandbox; then, with the signals blocked that all threads block, tries to open a
 * file. */
static void *late_thread(void *opaque)
{
	struct late *late = opaque;
	char byte;

	if (read(late->start[0], &byte, 1) != 1)
		_exit(4);
	call(SYS_openat, AT_FDCWD, (long)"/etc/passwd", 0, 0);
	_exit(RETURNED);
}

static void test_threads(void **state)
{
	char text[256] = "";
	int ends[2], status;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		struct err err = ERR_INIT;
		struct late late;
		pthread_t thread;

		dup2(ends[1], STDERR_FILENO);
		if (pipe(late.start) < 0 || thread_start(&thread, late_thread, &late, &err) < 0 ||
		    sandbox_enter(&(struct sandbox_config){0}, &err) < 0 || write(late.start[1], "x", 1) != 1)
			_exit(1);
		idle_thread(NULL);
	}
	close(ends[1]);
	assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), FORBIDDEN);
	assert_non_null(strstr(text, "the sandbox forbids the system call 'openat' (257)"));
}

/* What /proc tells of one thread, or of the process: does it hold? */
static bool has_no_rights(const char *path)
{
	char text[4096] = "";
	FILE *file = fopen(path, "r");
	size_t n;

	assert_non_null(file);
	n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';
	return strstr(text, "CapInh:\t0000000000000000") && strstr(text, "CapPrm:\t0000000000000000") &&
	       strstr(text, "CapEff:\t0000000000000000") && strstr(text, "CapAmb:\t0000000000000000") &&
	       (geteuid() != 0 || strstr(text, "CapBnd:\t0000000000000000")) && strstr(text, "NoNewPrivs:\t1") &&
	       strstr(text, "Seccomp:\t2");
}

/* All threads, also those that were there before. */
static void test_rights(void **state)
{
	char path[64], byte;
	int ends[2], count = 0;
	pid_t child;
	DIR *threads;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		struct err err = ERR_INIT;
		pthread_t thread[3];

		for (unsigned i = 0; i < ARRAY_SIZE(thread); i++)
			if (thread_start(&thread[i], idle_thread, NULL, &err) < 0)
				_exit(1);
		if (sandbox_enter(&(struct sandbox_config){0}, &err) < 0 || write(ends[1], "x", 1) != 1)
			_exit(1);
		idle_thread(NULL);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	snprintf(path, sizeof(path), "/proc/%d/task", child);
	threads = opendir(path);
	for (struct dirent *entry; (entry = readdir(threads));) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", child, entry->d_name);
		assert_true(has_no_rights(path));
		count++;
	}
	assert_int_equal(count, 4);
	closedir(threads);
	close(ends[0]);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* --- Landlock ---------------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/avant-test-XXXXXX";

struct way {
	const char *path;
	int flags, error; /* 0: it may be opened */
};

static int open_result(const char *path, int flags)
{
	int fd = open(path, flags, 0600), error = fd < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return error;
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 2;
}

/* In every thread; the number of the first expectation that does not hold is the exit status. */
static const struct way ways[] = {
	{"readonly/file", O_RDONLY, 0},
	{"readonly/file", O_WRONLY, EACCES},
	{"readonly/new", O_WRONLY | O_CREAT, EACCES},
	{"writable/file", O_RDWR, 0},
	{"writable/new", O_WRONLY | O_CREAT, 0},
	{"writable", O_RDONLY | O_DIRECTORY, 0},
	{"outside", O_RDONLY, EACCES},
	{"writable/../outside", O_RDONLY, EACCES},
	{"writable/link", O_RDONLY, EACCES},
	{"/etc/passwd", O_RDONLY, EACCES},
	{"/proc/self/mem", O_RDWR, EACCES},
	{".", O_RDONLY | O_DIRECTORY, EACCES},
	{"/", O_RDONLY | O_DIRECTORY, EACCES},
};

static void *open_all(void *opaque)
{
	int start = *(int *)opaque;
	char byte;

	if (read(start, &byte, 1) != 1)
		_exit(100);
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
		if (open_result(ways[i].path, ways[i].flags) != ways[i].error)
			_exit(1 + (int)i);
	return NULL;
}

static void open_in_sandbox(void)
{
	const struct sandbox_folder folders[] = {{"readonly", true}, {"writable", false}};
	const struct sandbox_config config = {
		.parts = SANDBOX_SHARE, .folders = folders, .folder_count = ARRAY_SIZE(folders)};
	struct err err = ERR_INIT;
	pthread_t thread;
	int start[2];

	if (chdir(folder) < 0 || pipe(start) < 0 || thread_start(&thread, open_all, &start[0], &err) < 0 ||
	    sandbox_enter(&config, &err) < 0 || write(start[1], "xx", 2) != 2)
		_exit(101);
	pthread_join(thread, NULL);
	open_all(&start[0]);
	/* files move between directories, but not out */
	if (renameat(AT_FDCWD, "writable/new", AT_FDCWD, "writable/sub/new") < 0)
		_exit(102);
	if (renameat(AT_FDCWD, "writable/sub/new", AT_FDCWD, "new") == 0)
		_exit(103);
	_exit(0);
}

static void make_file(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static void test_folders(void **state)
{
	int status;
	pid_t child;

	(void)state;
	if (!has_landlock())
		skip();
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(mkdir("readonly", 0700) | mkdir("writable", 0700) | mkdir("writable/sub", 0700), 0);
	make_file("readonly/file");
	make_file("writable/file");
	make_file("outside");
	assert_int_equal(symlink("../outside", "writable/link"), 0);
	child = fork();
	if (child == 0)
		open_in_sandbox();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), 0);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden), cmocka_unit_test(test_allowed), cmocka_unit_test(test_threads),
		cmocka_unit_test(test_rights),    cmocka_unit_test(test_folders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
