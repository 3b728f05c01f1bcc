#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "net/process/process.h"

/* The sanitizers' own system calls are too many to name. */
#ifdef AVANT_SANITIZE
#define SANITIZED true
#else
#define SANITIZED false
#endif

#define RESOLVER_PATH "/etc/resolv.conf"
#define FILES_MAX     4096         /* connections of the guest's, each with 256 KiB of buffers */
#define MEMORY_MAX    (2ULL << 30) /* address space */

/* What the signal handler serves files from. A signal handler has nowhere else to look. */
static int resolver_fd = -1;

static long result_of(long value)
{
	return value < 0 ? -errno : value;
}

/* The file from its beginning; the offset is shared with other openings, of which there are none at a time. */
static long open_resolver(const char *path)
{
	if (strcmp(path, RESOLVER_PATH) != 0)
		return -EACCES;
	if (lseek(resolver_fd, 0, SEEK_SET) < 0)
		return -EIO;
	return result_of(dup(resolver_fd));
}

static long stat_file(const char *path, int fd, struct stat *to)
{
	if (*path && strcmp(path, RESOLVER_PATH) != 0)
		return -EACCES;
	return result_of(syscall(SYS_fstat, *path ? resolver_fd : fd, to));
}

/* A system call about files, which the filter handed over: does for it what may be done. */
static void on_file_call(int number, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	int saved = errno;
	long result = -EACCES;

	(void)number;
	switch (info->si_syscall) {
	case SYS_open:
		result = open_resolver((const char *)registers[REG_RDI]);
		break;
	case SYS_openat:
		result = open_resolver((const char *)registers[REG_RSI]);
		break;
	case SYS_stat:
		result = stat_file((const char *)registers[REG_RDI], -1, (struct stat *)registers[REG_RSI]);
		break;
	case SYS_newfstatat:
		result = stat_file((const char *)registers[REG_RSI], (int)registers[REG_RDI],
				   (struct stat *)registers[REG_RDX]);
		break;
	}
	registers[REG_RAX] = result;
	errno = saved;
}

static const int file_calls[] = {
	SCMP_SYS(open),   SCMP_SYS(openat),   SCMP_SYS(stat),       SCMP_SYS(newfstatat),
	SCMP_SYS(access), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(faccessat),
};

/* Packets and sockets that are open; memory; the end, also by abort(). */
static const int free_calls[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(close),
	SCMP_SYS(lseek),
	SCMP_SYS(dup),
	SCMP_SYS(fstat),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(fcntl),
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(restart_syscall),
};

static int add_all(scmp_filter_ctx filter, u32 action, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int status = seccomp_rule_add(filter, action, calls[i], 0);

		if (status < 0)
			return status;
	}
	return 0;
}

/* The call with an argument that compares so. */
static int add_if(scmp_filter_ctx filter, u32 action, int call, struct scmp_arg_cmp argument)
{
	return seccomp_rule_add_array(filter, action, call, 1, &argument);
}

static int add_domain(scmp_filter_ctx filter, u32 action, int domain)
{
	return add_if(filter, action, SCMP_SYS(socket),
		      (struct scmp_arg_cmp){.arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)domain});
}

/* Sockets of the Internet, if any; others that a library may ask for it is told not to exist. */
static int add_socket_rules(scmp_filter_ctx filter, bool restricted)
{
	const u32 action = restricted ? SCMP_ACT_ERRNO(EACCES) : SCMP_ACT_ALLOW;
	int status = add_domain(filter, action, AF_INET);

	if (!status)
		status = add_domain(filter, action, AF_INET6);
	if (!status)
		status = seccomp_rule_add(filter, action, SCMP_SYS(connect), 0);
	if (!status)
		status = add_domain(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), AF_UNIX);
	if (!status)
		status = add_domain(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), AF_NETLINK);
	return status;
}

static int add_rules(scmp_filter_ctx filter, bool restricted)
{
	int status = add_all(filter, SCMP_ACT_ALLOW, free_calls, ARRAY_SIZE(free_calls));

	if (!status)
		status = add_all(filter, SCMP_ACT_TRAP, file_calls, ARRAY_SIZE(file_calls));
	if (!status)
		status = add_socket_rules(filter, restricted);
	if (!status)
		status = add_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl),
				(struct scmp_arg_cmp){.arg = 1, .op = SCMP_CMP_EQ, .datum_a = FIONREAD});
	if (!status)
		status = add_if(filter, SCMP_ACT_ERRNO(ENOTTY), SCMP_SYS(ioctl),
				(struct scmp_arg_cmp){.arg = 1, .op = SCMP_CMP_NE, .datum_a = FIONREAD});
	if (!status)
		status = add_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap),
				(struct scmp_arg_cmp){.arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC});
	return status;
}

static int load_filter(bool restricted)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int status = filter ? add_rules(filter, restricted) : -ENOMEM;

	/* a tree instead of a list of sixty comparisons */
	if (!status)
		status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!status)
		status = seccomp_load(filter);
	seccomp_release(filter);
	return status;
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	/* there is nothing to drop where this is refused */
	syscall(SYS_capset, &header, none);
}

static void limit(__rlimit_resource_t what, rlim_t most)
{
	struct rlimit now;

	if (getrlimit(what, &now) < 0)
		return;
	now.rlim_cur = now.rlim_max = now.rlim_cur < most ? now.rlim_cur : most;
	setrlimit(what, &now);
}

int confine(bool restricted, int resolver, struct err *err)
{
	struct sigaction action = {.sa_sigaction = on_file_call, .sa_flags = SA_SIGINFO};
	int status;

	resolver_fd = resolver;
	limit(RLIMIT_NOFILE, FILES_MAX);
	limit(RLIMIT_CORE, 0);
	drop_capabilities();
	if (SANITIZED)
		return 0;
	limit(RLIMIT_AS, MEMORY_MAX);
	if (sigaction(SIGSYS, &action, NULL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(err, "cannot enter the sandbox: %s", strerror(errno));
	status = load_filter(restricted);
	return status ? err_set(err, "cannot enter the sandbox: %s", strerror(-status)) : 0;
}
