/* Threads beside the vCPU's. */
#ifndef AVANT_UTIL_THREAD_H
#define AVANT_UTIL_THREAD_H

#include <pthread.h>

#include "util/err.h"

/*
 * Starts a thread that takes no signals: they are for the vCPU's thread, but for those that its own faults raise and
 * the one of thread_each_other(), for which system calls return EINTR. 0, or -1 with a message in err.
 */
int thread_start(pthread_t *thread, void *(*run)(void *opaque), void *opaque, struct err *err);

/*
 * Has every other thread of the process do something, each by itself in a signal handler, and waits for it: for what a
 * thread can do to itself alone. All were started by thread_start(), and no others start meanwhile. 0, or -1 with a
 * message in err.
 */
int thread_each_other(void (*act)(void *opaque), void *opaque, struct err *err);

#endif
