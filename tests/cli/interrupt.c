/*
 * Preloaded into a program that writes a file: INTERRUPT_AT=N sends it SIGINT at its Nth pwrite(), INTERRUPT_START=N
 * when it starts its Nth thread, INTERRUPT_JOIN=N when it waits for the Nth to end; with INTERRUPT_LATE only after a
 * while, which makes it another signal than one before. With NO_TMPFILE set open() knows no O_TMPFILE, as on file
 * systems without it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

int openat(int dir, const char *path, int flags, ...)
{
	int (*real)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	if ((flags & O_TMPFILE) == O_TMPFILE && getenv("NO_TMPFILE")) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return real(dir, path, flags, mode);
}

static void interrupt(const char *variable, int *calls)
{
	const char *at = getenv(variable);

	if (!at || ++*calls != atoi(at))
		return;
	if (getenv("INTERRUPT_LATE"))
		usleep(200000);
	kill(getpid(), SIGINT);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
	ssize_t (*real)(int, const void *, size_t, off_t) =
		(ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
	static int calls;

	interrupt("INTERRUPT_AT", &calls);
	return real(fd, data, size, offset);
}

int pthread_create(pthread_t *id, const pthread_attr_t *attributes, void *(*run)(void *), void *opaque)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
		(int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(RTLD_NEXT,
											       "pthread_create");
	static int calls;

	interrupt("INTERRUPT_START", &calls);
	return real(id, attributes, run, opaque);
}

int pthread_join(pthread_t id, void **result)
{
	int (*real)(pthread_t, void **) = (int (*)(pthread_t, void **))dlsym(RTLD_NEXT, "pthread_join");
	static int calls;

	interrupt("INTERRUPT_JOIN", &calls);
	return real(id, result);
}
