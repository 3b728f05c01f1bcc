/* Unpacking of a bzImage's compressed payload. No dependency on the rest of the VMM. */
#ifndef AVANT_BOOT_PAYLOAD_H
#define AVANT_BOOT_PAYLOAD_H

#include "util/err.h"
#include "util/types.h"

struct payload {
	u8 *data; /* page-aligned, owned; NULL if there is none */
	u64 size; /* bytes */
};

/* Name of the compression format that the data starts with ("gzip"), or NULL. Supported or not. */
const char *payload_format(const u8 *data, u64 size);

/*
 * Unpacks the data to at most `limit` bytes (not above 2 GiB). What follows the compressed stream is ignored: Linux
 * appends the unpacked size in 4 bytes. Returns 0, or -1 with a message in err that speaks of "its payload".
 */
int payload_unpack(const u8 *data, u64 size, u64 limit, struct payload *out, struct err *err);

/* Frees the unpacked data; harmless on a zeroed struct. */
void payload_release(struct payload *payload);

#endif
