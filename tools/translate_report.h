/* The --report file of avant translate: what was not lifted, by frequency, as one JSON object (aot/README.md). */
#ifndef AVANT_TOOLS_TRANSLATE_REPORT_H
#define AVANT_TOOLS_TRANSLATE_REPORT_H

#include "account.h"
#include "build.h"
#include "programs.h"

struct report_input {
	struct account *account;
	const struct plan *plan;
	const struct programs *programs;
	unsigned profiles; /* recordings that the counts are from */
	build_namer *namer;
	void *opaque;
};

/* Writes it. -1 with a message in err that names the file, which then is not there. */
int translate_report_write(const struct report_input *input, const char *path, struct err *err);

/* Can a report be written to `path`? It stays as it is, or is there and empty. 0, or -1 with a message in err. */
int translate_report_check(const char *path, struct err *err);

#endif
