/* Kernel modules that are compressed, as distributions have them. */
#ifndef AVANT_DISCOVER_PACKED_H
#define AVANT_DISCOVER_PACKED_H

#include "util/err.h"
#include "util/types.h"

#define MODULE_FILE_MOST (256ULL << 20) /* bytes of a file, unpacked */

/* Is this a module that is compressed (".ko.xz", ".ko.zst", ".ko.gz")? The first six bytes are enough. */
bool module_is_packed(const char *name, const u8 *data, u64 size);

/* Unpacks one; the caller frees it. NULL with a message in err; *unpacked bytes were made all the same. */
u8 *module_unpack(const u8 *data, u64 size, const char *name, u64 *unpacked, struct err *err);

#endif
