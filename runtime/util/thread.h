/* Threads beside the vCPU's. */
#ifndef AVANT_UTIL_THREAD_H
#define AVANT_UTIL_THREAD_H

#include <pthread.h>

#include "util/err.h"

/*
 * Starts a thread that takes no signals: they are for the vCPU's thread, but for the one by which the sandbox ends the
 * process. 0, or -1 with a message in err.
 */
int thread_start(pthread_t *thread, void *(*run)(void *opaque), void *opaque, struct err *err);

#endif
