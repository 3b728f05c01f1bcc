/* What the confined process can still do: nothing but read and answer. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "image/reader/confine.h"

static void call_execve(void)
{
	char *const arguments[] = {(char *)"true", NULL};

	execve("/bin/true", arguments, NULL);
}

static void call_fork(void)
{
	fork();
}

static void call_socket(void)
{
	socket(AF_UNIX, SOCK_STREAM, 0);
}

static void call_unlink(void)
{
	unlink("/nowhere");
}

static void call_kill(void)
{
	kill(getppid(), 0);
}

static void call_ptrace(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void call_mmap_code(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void call_mprotect_code(void)
{
	static _Alignas(4096) u8 page[4096];

	mprotect(page, sizeof(page), PROT_READ | PROT_EXEC);
}

static void call_openat2(void)
{
	struct open_how how = {.flags = O_RDONLY};

	syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof(how));
}

static void call_process_read(void)
{
	syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}

/* How the child that is confined and makes the call ends. */
static int status_of(void (*call)(void), bool directory)
{
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY), status;
	pid_t child = fork();

	if (child == 0) {
		if (confine(fd, directory) < 0)
			_exit(1);
		call();
		_exit(0);
	}
	close(fd);
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void calls_that_kill(void **state)
{
	static void (*const calls[])(void) = {call_execve,  call_fork,        call_socket,    call_unlink,
					      call_kill,    call_ptrace,      call_mmap_code, call_mprotect_code,
					      call_openat2, call_process_read};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		int status = status_of(calls[i], false);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("call %zu: status 0x%x", i, status);
	}
}

static void check_open(void)
{
	if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
		_exit(2);
}

static void check_reading(void)
{
	static char byte;
	int fd = memfd_create("x", 0);
	void *memory = malloc(10 << 20);

	if (fd < 0 || write(fd, "x", 1) != 1 || pread(fd, &byte, 1, 0) != 1 || byte != 'x' || !memory)
		_exit(2);
	memset(memory, 1, 10 << 20);
	free(memory);
	close(fd);
}

static void calls_that_go_on(void **state)
{
	(void)state;
	assert_int_equal(status_of(check_open, false), 0);
	assert_int_equal(status_of(check_reading, false), 0);
}

/* In a directory: files below it can be read, if the kernel has Landlock others cannot, and none can be written. */
static void check_directory(void)
{
	struct open_how reading = {.flags = O_RDONLY}, writing = {.flags = O_RDWR | O_CREAT, .mode = 0600};

	if (syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &reading, sizeof(reading)) >= 0)
		_exit(2);
	if (syscall(SYS_openat2, AT_FDCWD, "/tmp/avant-test-written", &writing, sizeof(writing)) >= 0)
		_exit(3);
	if (syscall(SYS_openat2, AT_FDCWD, "/tmp", &reading, sizeof(reading)) < 0)
		_exit(4);
}

static void directories(void **state)
{
	(void)state;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 1)
		skip();
	assert_int_equal(status_of(check_directory, true), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_that_kill),
		cmocka_unit_test(calls_that_go_on),
		cmocka_unit_test(directories),
	};

#ifdef AVANT_SANITIZE
	return 77; /* the sanitizers need calls of their own: nothing is filtered */
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
