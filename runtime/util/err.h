/* Error messages: a fallible call takes a struct err and appends a complete sentence fragment to it. */
#ifndef AVANT_UTIL_ERR_H
#define AVANT_UTIL_ERR_H

struct err {
	char text[512];
};

#define ERR_INIT                                                                                                       \
	{                                                                                                              \
		""                                                                                                     \
	}

/*
 * Sets the message (printf format): lower case, subject quoted, no full stop. Always returns -1, so that callers write
 * `return err_set(err, "cannot open '%s': %s", path, strerror(errno))`. err may be NULL.
 */
int err_set(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints "avant: warning: …" to stderr, once per call. */
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A fault of our own: prints where and what, aborts. Never for bad input. */
#define BUG(...) bug(__FILE__, __LINE__, __VA_ARGS__)
_Noreturn void bug(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
