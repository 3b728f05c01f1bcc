#include "image/reader/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEMORY_MOST  (6ULL << 30) /* bytes of address space: names of some ten million files, or one unpacked kernel */
#define FILE_MOST    (8ULL << 30) /* bytes of a file that is unpacked into memory */
#define SECONDS_MOST 3600         /* of processor time */
#define DESCRIPTORS  64

static int limit(int resource, u64 most)
{
	struct rlimit now, limit = {most, most};

	if (getrlimit(resource, &now) < 0)
		return -1;
	if (now.rlim_max != RLIM_INFINITY && now.rlim_max < most)
		limit.rlim_cur = limit.rlim_max = now.rlim_max;
	return setrlimit(resource, &limit);
}

static int limit_all(void)
{
#ifndef AVANT_SANITIZE /* AddressSanitizer reserves terabytes */
	if (limit(RLIMIT_AS, MEMORY_MOST) < 0)
		return -1;
#endif
	return limit(RLIMIT_FSIZE, FILE_MOST) < 0 || limit(RLIMIT_CPU, SECONDS_MOST) < 0 ||
			       limit(RLIMIT_NOFILE, DESCRIPTORS) < 0 || limit(RLIMIT_CORE, 0) < 0
		       ? -1
		       : 0;
}

/* Root keeps reading a directory's files, whoever owns them. */
static int drop_capabilities(bool directory)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct have[2], keep[2] = {{0}, {0}};

	if (syscall(SYS_capget, &header, have) < 0)
		return -1;
	if (directory) {
		keep[0].permitted = have[0].permitted & (1U << CAP_DAC_READ_SEARCH);
		keep[0].effective = keep[0].permitted;
	}
	return (int)syscall(SYS_capset, &header, keep);
}

/* Best effort: kernels without Landlock leave a directory's reader able to open what the user may read. */
static void restrict_paths(int directory_fd)
{
	struct landlock_ruleset_attr attributes = {
		.handled_access_fs =
			LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
			LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
			LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
			LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
			LANDLOCK_ACCESS_FS_MAKE_SYM,
	};
	struct landlock_path_beneath_attr below = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
		.parent_fd = directory_fd,
	};
	int rules = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);

	if (rules < 0)
		return;
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) == 0)
		syscall(SYS_landlock_restrict_self, rules, 0);
	close(rules);
}

#ifndef AVANT_SANITIZE
static int allow(scmp_filter_ctx filter, int number)
{
	return seccomp_rule_add_exact(filter, SCMP_ACT_ALLOW, number, 0);
}

/* Mappings that cannot be executed. */
static int allow_memory(scmp_filter_ctx filter)
{
	static const int numbers[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (seccomp_rule_add_exact(filter, SCMP_ACT_ALLOW, numbers[i], 1,
					   SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) < 0)
			return -1;
	return 0;
}

/* libblkid asks for /dev and /sys when the image is a block device, qsort() for the size of memory: both can do
 * without. */
static int refuse_politely(scmp_filter_ctx filter, bool directory)
{
	static const int numbers[] = {SCMP_SYS(open), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(readlink),
				      SCMP_SYS(stat), SCMP_SYS(ioctl),  SCMP_SYS(sysinfo)};

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (seccomp_rule_add_exact(filter, SCMP_ACT_ERRNO(EACCES), numbers[i], 0) < 0)
			return -1;
	return directory ? 0 : seccomp_rule_add_exact(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
}

static int allow_directory(scmp_filter_ctx filter)
{
	static const int numbers[] = {SCMP_SYS(openat2), SCMP_SYS(getdents64), SCMP_SYS(readlinkat)};

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (allow(filter, numbers[i]) < 0)
			return -1;
	return 0;
}

static int add_rules(scmp_filter_ctx filter, bool directory)
{
	/* newfstatat is what the C library makes of fstat(); by name it tells sizes and times, and no more */
	static const int numbers[] = {
		SCMP_SYS(read),       SCMP_SYS(pread64),       SCMP_SYS(write),        SCMP_SYS(pwrite64),
		SCMP_SYS(lseek),      SCMP_SYS(fstat),         SCMP_SYS(newfstatat),   SCMP_SYS(close),
		SCMP_SYS(recvmsg),    SCMP_SYS(recvfrom),      SCMP_SYS(sendmsg),      SCMP_SYS(memfd_create),
		SCMP_SYS(ftruncate),  SCMP_SYS(fadvise64),     SCMP_SYS(munmap),       SCMP_SYS(mremap),
		SCMP_SYS(madvise),    SCMP_SYS(brk),           SCMP_SYS(futex),        SCMP_SYS(getrandom),
		SCMP_SYS(exit_group), SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
	};

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (allow(filter, numbers[i]) < 0)
			return -1;
	return allow_memory(filter) < 0 || refuse_politely(filter, directory) < 0 ||
			       (directory && allow_directory(filter) < 0)
		       ? -1
		       : 0;
}

static int filter_calls(bool directory)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int result = filter && add_rules(filter, directory) == 0 ? seccomp_load(filter) : -1;

	seccomp_release(filter);
	return result;
}
#else
static int filter_calls(bool directory)
{
	(void)directory; /* the sanitizers' own calls are not ours to list */
	return 0;
}
#endif

int confine(int image_fd, bool directory)
{
	/* killed with its client; that it has gone already shows at the socket */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (directory)
		restrict_paths(image_fd);
	return limit_all() < 0 || drop_capabilities(directory) < 0 || filter_calls(directory) < 0 ? -1 : 0;
}
