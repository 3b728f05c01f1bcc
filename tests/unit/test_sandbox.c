/* The sandbox holds: what it forbids ends the process, what a run needs works. Each case is a process of its own. */
#include "sandbox/sandbox.h"

#include "util/err.h"
#include "util/thread.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/capability.h>
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
		if (sandbox_enter(attempt->parts, &err) < 0)
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
};

static const struct attempt allowed[] = {
	A(getpid),
	A(write, -1),
	A(mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS),
	A(mprotect, (long)page, 4096, PROT_READ),
	A(preadv2, -1, .parts = SANDBOX_DISK),
	A(io_uring_enter, -1, .parts = SANDBOX_DISK),
	A(openat, -1, .parts = SANDBOX_SHARE),
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

		if (status != FORBIDDEN || !strstr(text, "the sandbox stopped"))
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
		    sandbox_enter(0, &err) < 0 || write(late.start[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ends[1]);
	assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), FORBIDDEN);
	assert_non_null(strstr(text, "the sandbox stopped"));
}

static void test_capabilities(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		char text[4096] = "";
		struct err err = ERR_INIT;
		int fd = open("/proc/self/status", O_RDONLY);

		if (sandbox_enter(0, &err) < 0 || read(fd, text, sizeof(text) - 1) <= 0)
			_exit(1);
		_exit(strstr(text, "CapEff:\t0000000000000000") && strstr(text, "CapPrm:\t0000000000000000") &&
				      strstr(text, "NoNewPrivs:\t1") && strstr(text, "Seccomp:\t2")
			      ? 0
			      : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden),
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_capabilities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
