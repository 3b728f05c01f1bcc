/*
 * What the process that runs a guest may still ask of the host's kernel. Installed once, after start-up: every file,
 * thread and mapping of code that the run needs is there by then. A guest that took over the process would be left with
 * the descriptors that are open, and with the system calls that the devices in use need (DESIGN: a hostile guest kernel
 * is assumed able to).
 */
#ifndef AVANT_SANDBOX_SANDBOX_H
#define AVANT_SANDBOX_SANDBOX_H

#include "util/types.h"

struct err;

/* Parts of the machine that need system calls of their own. */
enum sandbox_part {
	SANDBOX_DISK = 1 << 0,    /* disk/: files and block devices */
	SANDBOX_SHARE = 1 << 1,   /* p9/: a directory of the host */
	SANDBOX_SOCKET = 1 << 2,  /* sockets that are open: gdb, NBD */
	SANDBOX_LISTEN = 1 << 3,  /* … and those that come: gdb, --serial unix: */
	SANDBOX_NETWORK = 1 << 4, /* net/: a process that is ended with the guest */
};

/* A directory below which files may be opened. */
struct sandbox_folder {
	const char *path;
	bool readonly;
};

struct sandbox_config {
	unsigned parts; /* of enum sandbox_part */
	const struct sandbox_folder *folders;
	unsigned folder_count;
	/* Called before a forbidden call ends the process, in a signal handler; or NULL. */
	void (*at_end)(void);
};

/*
 * For all threads of the process: drops all capabilities, also for programs to come, and installs the filter. What it
 * does not allow ends the process with status 159 and a message that names the call. With SANDBOX_SHARE, Landlock keeps
 * what is opened below the folders; kernels without it cost a warning. 0, or -1 with a message in err.
 */
int sandbox_enter(const struct sandbox_config *config, struct err *err);

#endif
