/*
 * Rights are a thread's own, for the kernel: what one thread gives up, another one keeps, and whoever can write to the
 * memory of the process can make any thread do anything. So each thread gives up for itself.
 */
#include "sandbox/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/err.h"
#include "util/thread.h"

/* Newer than some headers that this is built with: Landlock's ABI 3 and 5. */
#define ACCESS_TRUNCATE     (1ULL << 14)
#define ACCESS_IOCTL_DEVICE (1ULL << 15)

/* Before ABI 2 files cannot be moved between directories at all. */
#define LANDLOCK_ABI_MIN 2

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE                                                                                                   \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |              \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |                    \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)
/* Nowhere. */
#define ACCESS_NEVER (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

struct rights {
	int rules; /* of Landlock, or -1 */
	const char *failed;
	int error;
};

static void fail(struct rights *rights, const char *what)
{
	rights->failed = what;
	rights->error = errno;
}

/* Of the calling thread; async-signal-safe. */
static void give_up(void *opaque)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
	struct rights *rights = opaque;

	/* for a process without capabilities there is nothing to drop: these errors are no news */
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		prctl(PR_CAPBSET_DROP, capability);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &header, none) < 0)
		fail(rights, "drop capabilities");
	else if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(rights, "give up new privileges");
	else if (rights->rules >= 0 && syscall(SYS_landlock_restrict_self, rights->rules, 0) < 0)
		fail(rights, "restrict paths");
}

static u64 access_to(const struct sandbox_folder *folder, u64 handled)
{
	return folder->readonly ? ACCESS_READ : handled & ~(ACCESS_NEVER | ACCESS_IOCTL_DEVICE);
}

static int allow_folder(int rules, const struct sandbox_folder *folder, u64 handled, struct err *err)
{
	struct landlock_path_beneath_attr below = {
		.allowed_access = access_to(folder, handled),
		.parent_fd = open(folder->path, O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	int result = -1;

	if (below.parent_fd >= 0)
		result = (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0);
	if (result < 0)
		err_set(err, "cannot restrict paths to '%s': %s", folder->path, strerror(errno));
	if (below.parent_fd >= 0)
		close(below.parent_fd);
	return result;
}

/* Rules that allow opening below the folders alone; their descriptor, or -1 where the kernel has no Landlock, or -2. */
static int make_rules(const struct sandbox_config *config, struct err *err)
{
	const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct landlock_ruleset_attr attributes = {.handled_access_fs = ACCESS_READ | ACCESS_WRITE | ACCESS_NEVER};
	int rules;

	if (abi < LANDLOCK_ABI_MIN) {
		warn("this kernel cannot restrict paths (Landlock): a guest that breaks out can open what you can");
		return -1;
	}
	attributes.handled_access_fs |= (abi >= 3 ? ACCESS_TRUNCATE : 0) | (abi >= 5 ? ACCESS_IOCTL_DEVICE : 0);
	rules = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
	if (rules < 0) {
		err_set(err, "cannot restrict paths: %s", strerror(errno));
		return -2;
	}
	for (unsigned i = 0; i < config->folder_count; i++)
		if (allow_folder(rules, &config->folders[i], attributes.handled_access_fs, err) < 0) {
			close(rules);
			return -2;
		}
	return rules;
}

int sandbox_give_up_rights(const struct sandbox_config *config, struct err *err)
{
	struct rights rights = {.rules = -1};
	int result;

	/* without it there is no opening at all */
	if (config->parts & SANDBOX_SHARE)
		rights.rules = make_rules(config, err);
	if (rights.rules == -2)
		return -1;
	/* this one last: it looks for the others in /proc */
	result = thread_each_other(give_up, &rights, err);
	if (!result)
		give_up(&rights);
	if (rights.rules >= 0)
		close(rights.rules);
	if (!result && rights.failed)
		return err_set(err, "cannot %s: %s", rights.failed, strerror(rights.error));
	return result;
}
