#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "sandbox/parts.h"
#include "util/err.h"

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
	{SCMP_SYS(geteuid), SANDBOX_SHARE},
	{SCMP_SYS(statx), SANDBOX_SHARE},
	{SCMP_SYS(fstatfs), SANDBOX_SHARE},
	{SCMP_SYS(getdents64), SANDBOX_SHARE},
	{SCMP_SYS(mkdirat), SANDBOX_SHARE},
	{SCMP_SYS(unlinkat), SANDBOX_SHARE},
	{SCMP_SYS(renameat), SANDBOX_SHARE},
	{SCMP_SYS(linkat), SANDBOX_SHARE},
	{SCMP_SYS(symlinkat), SANDBOX_SHARE},
	{SCMP_SYS(readlinkat), SANDBOX_SHARE},
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

/* Calls that are allowed if one argument is as it says, and the part of the machine that needs them; 0: all do. */
struct condition {
	int number;
	struct scmp_arg_cmp argument;
	unsigned parts;
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

static int allow_conditions(scmp_filter_ctx filter, unsigned parts)
{
	const u64 self = (u64)getpid();
	const struct condition conditions[] = {
		/* no code but what is there */
		{SCMP_SYS(mmap), BITS(2, PROT_EXEC, 0), 0},
		{SCMP_SYS(mprotect), BITS(2, PROT_EXEC, 0), 0},
		/* what libc makes of fstat() */
		{SCMP_SYS(newfstatat), BITS(3, AT_EMPTY_PATH, AT_EMPTY_PATH), 0},
		/* no programs that run with the rights of whoever runs this one */
		{SCMP_SYS(openat), BITS(3, S_ISUID, 0), SANDBOX_SHARE},
		{SCMP_SYS(mknodat), BITS(2, S_ISUID, 0), SANDBOX_SHARE},
		{SCMP_SYS(fchmod), BITS(1, S_ISUID, 0), SANDBOX_SHARE},
		{SCMP_SYS(fchmodat), BITS(2, S_ISUID, 0), SANDBOX_SHARE},
		/* the terminal */
		{SCMP_SYS(ioctl), EQUAL(1, TCGETS), 0},
		{SCMP_SYS(ioctl), EQUAL(1, TCSETS), 0},
		{SCMP_SYS(ioctl), EQUAL(1, TCSETSW), 0},
		{SCMP_SYS(ioctl), EQUAL(1, TCSETSF), 0},
		{SCMP_SYS(ioctl), EQUAL(1, TIOCGPGRP), 0},
		{SCMP_SYS(ioctl), EQUAL(1, TIOCGWINSZ), 0},
		{SCMP_SYS(ioctl), EQUAL(1, FIONREAD), 0},
		{SCMP_SYS(ioctl), EQUAL(1, BLKDISCARD), SANDBOX_DISK},
		{SCMP_SYS(fcntl), EQUAL(1, F_GETFL), 0},
		{SCMP_SYS(fcntl), EQUAL(1, F_SETFL), 0},
		{SCMP_SYS(fcntl), EQUAL(1, F_GETFD), 0},
		{SCMP_SYS(fcntl), EQUAL(1, F_OFD_GETLK), 0},
		{SCMP_SYS(fcntl), EQUAL(1, F_OFD_SETLK), 0},
		/* to stop at the terminal, and to abort; the handler that tells of forbidden calls stays */
		{SCMP_SYS(kill), EQUAL(0, self), 0},
		{SCMP_SYS(tgkill), EQUAL(0, self), 0},
		{SCMP_SYS(rt_sigaction), OTHER(0, SIGSYS), 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(conditions); i++) {
		const struct condition *c = &conditions[i];
		int error = c->parts && !(c->parts & parts)
				    ? 0
				    : seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, c->number, 1, &c->argument);

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

static int set_attributes(scmp_filter_ctx filter)
{
	static const struct {
		enum scmp_filter_attr name;
		u32 value;
	} attributes[] = {
		{SCMP_FLTATR_CTL_TSYNC, 1},
		/* a tree instead of a list: three comparisons for each call instead of sixty */
		{SCMP_FLTATR_CTL_OPTIMIZE, 2},
		/* older kernels slow processes with a filter down, against attacks that are out of our scope */
		{SCMP_FLTATR_CTL_SSB, 1},
		/* calls of 32-bit programs: there are no names for them */
		{SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS},
	};
	int error = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(attributes) && !error; i++)
		error = seccomp_attr_set(filter, attributes[i].name, attributes[i].value);
	return error;
}

static int load_filter(unsigned parts)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	int error = filter ? set_attributes(filter) : -ENOMEM;

	if (!error)
		error = allow_calls(filter, parts);
	if (!error)
		error = allow_conditions(filter, parts);
	if (!error)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error;
}

int sandbox_enter(const struct sandbox_config *config, struct err *err)
{
	int error;

	if (sandbox_give_up_rights(config, err) < 0 || sandbox_catch_forbidden(config, err) < 0)
		return -1;
	error = load_filter(config->parts);
	return error < 0 ? err_set(err, "cannot install the system call filter: %s", strerror(-error)) : 0;
}
