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

/*
 * Drops all capabilities, also for programs to come, and installs the filter in all threads of the process. What it
 * does not allow ends the process with a message that names the call. `parts`: of enum sandbox_part. 0, or -1 with a
 * message in err.
 */
int sandbox_enter(unsigned parts, struct err *err);

#endif
