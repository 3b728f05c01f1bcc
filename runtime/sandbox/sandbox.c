#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "util/err.h"

#define STATUS_FORBIDDEN (128 + SIGSYS)

/* Calls that are allowed whatever their arguments, and the part of the machine that needs them; 0: all do. */
static const struct {
	int number;
	unsigned parts;
} calls[] = {
	/* descriptors that are open */
	{SCMP_SYS(read), 0},
	{SCMP_SYS(write), 0},
	{SCMP_SYS(readv), 0},
	{SCMP_SYS(writev), 0},
	{SCMP_SYS(pread64), 0},
	{SCMP_SYS(pwrite64), 0},
	{SCMP_SYS(lseek), 0},
	{SCMP_SYS(close), 0},
	{SCMP_SYS(dup), 0},
	{SCMP_SYS(fstat), 0},
	{SCMP_SYS(ftruncate), 0},
	{SCMP_SYS(fsync), 0},
	{SCMP_SYS(memfd_create), 0}, /* the recording is put together in one */
	{SCMP_SYS(poll), 0},
	{SCMP_SYS(ppoll), 0},
	{SCMP_SYS(epoll_wait), 0},
	{SCMP_SYS(epoll_pwait), 0},
	{SCMP_SYS(epoll_ctl), 0},
	/* time */
	{SCMP_SYS(clock_gettime), 0},
	{SCMP_SYS(clock_nanosleep), 0},
	{SCMP_SYS(nanosleep), 0},
	{SCMP_SYS(gettimeofday), 0},
	{SCMP_SYS(timer_settime), 0},
	{SCMP_SYS(timer_delete), 0},
	{SCMP_SYS(getrusage), 0},
	/* memory; mmap and mprotect are below */
	{SCMP_SYS(brk), 0},
	{SCMP_SYS(munmap), 0},
	{SCMP_SYS(mremap), 0},
	{SCMP_SYS(madvise), 0},
	{SCMP_SYS(getrandom), 0},
	/* threads and signals */
	{SCMP_SYS(futex), 0},
	{SCMP_SYS(sched_yield), 0},
	{SCMP_SYS(sched_getaffinity), 0}, /* malloc asks for the number of processors */
	{SCMP_SYS(rseq), 0},
	{SCMP_SYS(set_robust_list), 0},
	{SCMP_SYS(getpid), 0},
	{SCMP_SYS(getpgrp), 0}, /* is the terminal ours? */
	{SCMP_SYS(gettid), 0},
	{SCMP_SYS(rt_sigreturn), 0},
	{SCMP_SYS(rt_sigprocmask), 0},
	{SCMP_SYS(rt_sigpending), 0},
	{SCMP_SYS(rt_sigtimedwait), 0},
	{SCMP_SYS(sigaltstack), 0},
	{SCMP_SYS(restart_syscall), 0},
	{SCMP_SYS(exit), 0},
	{SCMP_SYS(exit_group), 0},
	/* disks: disk/README.md */
	{SCMP_SYS(preadv), SANDBOX_DISK | SANDBOX_SHARE},
	{SCMP_SYS(pwritev), SANDBOX_DISK | SANDBOX_SHARE},
	{SCMP_SYS(preadv2), SANDBOX_DISK | SANDBOX_SHARE},
	{SCMP_SYS(pwritev2), SANDBOX_DISK | SANDBOX_SHARE},
	{SCMP_SYS(fdatasync), SANDBOX_DISK | SANDBOX_SHARE},
	{SCMP_SYS(fallocate), SANDBOX_DISK | SANDBOX_SHARE},
	{SCMP_SYS(io_uring_enter), SANDBOX_DISK},
	/* a directory: p9/README.md */
	{SCMP_SYS(openat), SANDBOX_SHARE},
	{SCMP_SYS(statx), SANDBOX_SHARE},
	{SCMP_SYS(fstatfs), SANDBOX_SHARE},
	{SCMP_SYS(getdents64), SANDBOX_SHARE},
	{SCMP_SYS(mkdirat), SANDBOX_SHARE},
	{SCMP_SYS(mknodat), SANDBOX_SHARE},
	{SCMP_SYS(unlinkat), SANDBOX_SHARE},
	{SCMP_SYS(renameat), SANDBOX_SHARE},
	{SCMP_SYS(linkat), SANDBOX_SHARE},
	{SCMP_SYS(symlinkat), SANDBOX_SHARE},
	{SCMP_SYS(readlinkat), SANDBOX_SHARE},
	{SCMP_SYS(fchmod), SANDBOX_SHARE},
	{SCMP_SYS(fchmodat), SANDBOX_SHARE},
	{SCMP_SYS(fchownat), SANDBOX_SHARE},
	{SCMP_SYS(utimensat), SANDBOX_SHARE},
	{SCMP_SYS(flistxattr), SANDBOX_SHARE},
	{SCMP_SYS(fgetxattr), SANDBOX_SHARE},
	{SCMP_SYS(fsetxattr), SANDBOX_SHARE},
	{SCMP_SYS(fremovexattr), SANDBOX_SHARE},
	/* sockets that are open */
	{SCMP_SYS(recvfrom), SANDBOX_SOCKET | SANDBOX_LISTEN},
	{SCMP_SYS(recvmsg), SANDBOX_SOCKET | SANDBOX_LISTEN},
	{SCMP_SYS(sendto), SANDBOX_SOCKET | SANDBOX_LISTEN},
	{SCMP_SYS(sendmsg), SANDBOX_SOCKET | SANDBOX_LISTEN},
	{SCMP_SYS(shutdown), SANDBOX_SOCKET | SANDBOX_LISTEN},
	{SCMP_SYS(timerfd_settime), SANDBOX_SOCKET}, /* a server that is silent */
	{SCMP_SYS(getsockopt), SANDBOX_SOCKET | SANDBOX_LISTEN},
	{SCMP_SYS(setsockopt), SANDBOX_SOCKET | SANDBOX_LISTEN},
	{SCMP_SYS(accept), SANDBOX_LISTEN},
	{SCMP_SYS(accept4), SANDBOX_LISTEN},
	/* the network process: net/README.md */
	{SCMP_SYS(pidfd_send_signal), SANDBOX_NETWORK},
	{SCMP_SYS(wait4), SANDBOX_NETWORK},
};

/* Calls that are allowed if one argument is as it says. */
struct condition {
	int number;
	struct scmp_arg_cmp argument;
};

/* libseccomp's own macros leave out fields, which clang warns of. */
#define EQUAL(number, value)                                                                                           \
	{                                                                                                              \
		.arg = number, .op = SCMP_CMP_EQ, .datum_a = value                                                     \
	}
#define OTHER(number, value)                                                                                           \
	{                                                                                                              \
		.arg = number, .op = SCMP_CMP_NE, .datum_a = value                                                     \
	}
#define BITS(number, mask, value)                                                                                      \
	{                                                                                                              \
		.arg = number, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value                             \
	}

static int allow_conditions(scmp_filter_ctx filter)
{
	const u64 self = (u64)getpid();
	const struct condition conditions[] = {
		/* no code but what is there */
		{SCMP_SYS(mmap), BITS(2, PROT_EXEC, 0)},
		{SCMP_SYS(mprotect), BITS(2, PROT_EXEC, 0)},
		/* what libc makes of fstat() */
		{SCMP_SYS(newfstatat), BITS(3, AT_EMPTY_PATH, AT_EMPTY_PATH)},
		/* the terminal */
		{SCMP_SYS(ioctl), EQUAL(1, TCGETS)},
		{SCMP_SYS(ioctl), EQUAL(1, TCSETS)},
		{SCMP_SYS(ioctl), EQUAL(1, TCSETSW)},
		{SCMP_SYS(ioctl), EQUAL(1, TCSETSF)},
		{SCMP_SYS(ioctl), EQUAL(1, TIOCGPGRP)},
		{SCMP_SYS(ioctl), EQUAL(1, TIOCGWINSZ)},
		{SCMP_SYS(ioctl), EQUAL(1, FIONREAD)},
		{SCMP_SYS(ioctl), EQUAL(1, BLKDISCARD)},
		{SCMP_SYS(fcntl), EQUAL(1, F_GETFL)},
		{SCMP_SYS(fcntl), EQUAL(1, F_SETFL)},
		{SCMP_SYS(fcntl), EQUAL(1, F_GETFD)},
		{SCMP_SYS(fcntl), EQUAL(1, F_OFD_GETLK)},
		{SCMP_SYS(fcntl), EQUAL(1, F_OFD_SETLK)},
		/* to stop at the terminal, and to abort; the handler that tells of forbidden calls stays */
		{SCMP_SYS(kill), EQUAL(0, self)},
		{SCMP_SYS(tgkill), EQUAL(0, self)},
		{SCMP_SYS(rt_sigaction), OTHER(0, SIGSYS)},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(conditions); i++) {
		int error = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, conditions[i].number, 1,
						   &conditions[i].argument);

		if (error < 0)
			return error;
	}
	return 0;
}

static int allow_calls(scmp_filter_ctx filter, unsigned parts)
{
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		int error = calls[i].parts && !(calls[i].parts & parts)
				    ? 0
				    : seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i].number, 0);

		if (error < 0)
			return error;
	}
	return 0;
}

/* Async-signal-safe. seccomp_syscall_resolve_num_arch() is not; numbers are found in ausyscall or asm/unistd.h. */
static void on_forbidden(int number, siginfo_t *info, void *context)
{
	char text[] = "avant run: the sandbox stopped system call number 00000, which no guest needs; the run ends\n";
	char *digit = strstr(text, "00000") + 4;

	(void)number;
	(void)context;
	for (int value = info->si_syscall; value > 0 && *digit; value /= 10)
		*digit-- = (char)('0' + value % 10);
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(STATUS_FORBIDDEN + 1);
	_exit(STATUS_FORBIDDEN);
}

static int catch_forbidden(struct err *err)
{
	struct sigaction action = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	sigset_t set;

	sigfillset(&action.sa_mask);
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	if (sigaction(SIGSYS, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &set, NULL) < 0)
		return err_set(err, "cannot catch SIGSYS: %s", strerror(errno));
	return 0;
}

/* For a process without capabilities there is nothing to drop: errors are no news. */
static int drop_capabilities(struct err *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		prctl(PR_CAPBSET_DROP, capability);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &header, none) < 0)
		return err_set(err, "cannot drop capabilities: %s", strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(err, "cannot give up new privileges: %s", strerror(errno));
	return 0;
}

int sandbox_enter(unsigned parts, struct err *err)
{
	scmp_filter_ctx filter;
	int error;

	if (drop_capabilities(err) < 0 || catch_forbidden(err) < 0)
		return -1;
	filter = seccomp_init(SCMP_ACT_TRAP);
	if (!filter)
		return err_set(err, "cannot prepare a system call filter: out of memory");
	error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* a tree instead of a list: three comparisons for each call instead of sixty */
	if (!error)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!error)
		error = allow_calls(filter, parts);
	if (!error)
		error = allow_conditions(filter);
	if (!error)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error < 0 ? err_set(err, "cannot install the system call filter: %s", strerror(-error)) : 0;
}
