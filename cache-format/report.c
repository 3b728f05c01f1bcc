/* Statuses and messages. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

enum tcache_status tcache_fail(const struct report *report, enum tcache_status status, const char *format, ...)
{
	va_list arguments;
	int used;

	if (report->last)
		*report->last = status;
	if (!report->size)
		return status;
	used = snprintf(report->text, report->size, "'%s': ", report->name);
	if (used < 0 || (size_t)used >= report->size)
		return status;
	va_start(arguments, format);
	vsnprintf(report->text + used, report->size - (size_t)used, format, arguments);
	va_end(arguments);
	return status;
}

const char *tcache_status_name(enum tcache_status status)
{
	static const char *const names[] = {
#define X(constant, name) name,
		TCACHE_STATUSES(X)
#undef X
	};

	return (unsigned)status < TCACHE_STATUS_COUNT ? names[status] : "unknown";
}
