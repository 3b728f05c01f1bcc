#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

void report_line(struct report *report, const char *format, ...)
{
	char line[512];
	va_list args;
	u64 length;

	va_start(args, format);
	vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	strcat(line, "\n");
	length = strlen(line);
	if (report->capacity - report->size <= length) {
		u64 capacity = report->capacity ? report->capacity * 2 : 4096;
		char *text = realloc(report->text, capacity);

		if (!text)
			return; /* a line less */
		report->text = text;
		report->capacity = capacity;
	}
	memcpy(report->text + report->size, line, length + 1);
	report->size += length;
}

void report_release(struct report *report)
{
	free(report->text);
	*report = (struct report){0};
}
