/* The network process's sandbox: each case runs in a process of its own, which enters it and then tries something. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/process/process.h"
#include "util/err.h"

#define RESOLVER_TEXT "nameserver 192.0.2.1\n"

enum { PASSED = 0, NO_SANDBOX = 100 }; /* exit statuses; between them: the line that failed is too large a number */

#define EXPECT(condition)                                                                                              \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			static const char failed[] = "failed: " #condition "\n";                                       \
			if (write(STDERR_FILENO, failed, sizeof(failed) - 1) < 0)                                      \
				_exit(2);                                                                              \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

/* Runs the case in the sandbox; what wait() says of it. */
static int run(bool restricted, void (*attempt)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct net_config config;
		struct err err = ERR_INIT;
		int resolver;

		net_config_parse(&config, "user,dns=192.0.2.1", &err);
		resolver = resolver_open(&config, &err);
		if (resolver < 0 || confine(restricted, resolver, &err) < 0) {
			fprintf(stderr, "%s\n", err.text);
			_exit(NO_SANDBOX);
		}
		attempt();
		_exit(PASSED);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void assert_passes(bool restricted, void (*attempt)(void))
{
	int status = run(restricted, attempt);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), PASSED);
}

static void assert_killed(void (*attempt)(void))
{
	int status = run(false, attempt);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void try_packets(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct pollfd poll_fd = {.events = POLLIN};
	socklen_t length = sizeof(address);
	char byte = 1;
	int from = socket(AF_INET, SOCK_DGRAM, 0), to = socket(AF_INET, SOCK_DGRAM, 0);

	EXPECT(from >= 0 && to >= 0);
	EXPECT(sendto(to, &byte, 1, 0, (struct sockaddr *)&address, length) < 0); /* port 0 */
	EXPECT(connect(to,
		       (struct sockaddr *)&(struct sockaddr_in){
			       .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
		       sizeof(address)) == 0);
	EXPECT(send(to, &byte, 1, 0) == 1);
	EXPECT(getsockname(to, (struct sockaddr *)&address, &length) == 0 && address.sin_port);
	poll_fd.fd = from;
	EXPECT(poll(&poll_fd, 1, 0) == 0);
	EXPECT(close(from) == 0 && close(to) == 0);
}

static void try_memory(void)
{
	void *at[100];

	for (int i = 0; i < 100; i++) {
		at[i] = malloc(100000);
		EXPECT(at[i]);
		memset(at[i], 1, 100000);
	}
	for (int i = 0; i < 100; i++)
		free(at[i]);
}

/* As libslirp reads it, more than once. */
static void try_resolver(void)
{
	for (int i = 0; i < 3; i++) {
		char line[64] = "";
		struct stat info;
		FILE *file = fopen("/etc/resolv.conf", "r");

		EXPECT(file);
		EXPECT(fgets(line, sizeof(line), file) && !strcmp(line, RESOLVER_TEXT));
		EXPECT(!fgets(line, sizeof(line), file));
		EXPECT(fclose(file) == 0);
		EXPECT(stat("/etc/resolv.conf", &info) == 0 && info.st_size == sizeof(RESOLVER_TEXT) - 1);
	}
}

static void try_files(void)
{
	struct stat info;
	char text[64];

	EXPECT(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	EXPECT(open("/etc/../etc/resolv.conf", O_RDONLY) < 0 && errno == EACCES);
	EXPECT(open("/tmp/new", O_RDWR | O_CREAT, 0600) < 0 && errno == EACCES);
	EXPECT(stat("/", &info) < 0 && errno == EACCES);
	EXPECT(access("/", F_OK) < 0 && errno == EACCES);
	EXPECT(readlink("/proc/self/exe", text, sizeof(text)) < 0 && errno == EACCES);
	EXPECT(fstat(STDERR_FILENO, &info) == 0);
}

static void try_other_sockets(void)
{
	EXPECT(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT);
	EXPECT(socket(AF_NETLINK, SOCK_RAW, 0) < 0 && errno == EAFNOSUPPORT);
}

static void try_restricted(void)
{
	EXPECT(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EACCES);
	EXPECT(socket(AF_INET6, SOCK_DGRAM, 0) < 0 && errno == EACCES);
	EXPECT(connect(STDERR_FILENO, NULL, 0) < 0 && errno == EACCES);
}

static void try_limits(void)
{
	EXPECT(mmap(NULL, 3UL << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
}

static void try_exec(void)
{
	execl("/bin/true", "true", NULL);
}

static void try_fork(void)
{
	fork();
}

static void try_signal(void)
{
	kill(getppid(), SIGTERM);
}

static void try_executable_memory(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void try_protection(void)
{
	static char page[8192];

	mprotect((void *)(((uintptr_t)page + 4095) & ~4095UL), 4096, PROT_READ | PROT_EXEC);
}

static void try_ptrace(void)
{
	syscall(SYS_ptrace, 0, 0, 0, 0);
}

static void try_openat2(void)
{
	syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", NULL, 0);
}

static void try_bind(void)
{
	bind(STDERR_FILENO, NULL, 0);
}

static void try_packet_socket(void)
{
	socket(AF_PACKET, SOCK_RAW, 0);
}

static void test_allowed(void **state)
{
	(void)state;
	assert_passes(false, try_packets);
	assert_passes(false, try_memory);
	assert_passes(true, try_memory);
}

static void test_resolver(void **state)
{
	(void)state;
	assert_passes(false, try_resolver);
	assert_passes(true, try_resolver);
}

static void test_refused(void **state)
{
	(void)state;
	assert_passes(false, try_files);
	assert_passes(false, try_other_sockets);
	assert_passes(true, try_restricted);
	assert_passes(false, try_limits);
}

static void test_killed(void **state)
{
	(void)state;
	assert_killed(try_exec);
	assert_killed(try_fork);
	assert_killed(try_signal);
	assert_killed(try_executable_memory);
	assert_killed(try_protection);
	assert_killed(try_ptrace);
	assert_killed(try_openat2);
	assert_killed(try_bind);
	assert_killed(try_packet_socket);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_resolver),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_killed),
	};

#ifdef AVANT_SANITIZE
	return 77; /* built without a sandbox */
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
