/*
 * Scans of user code that have been made before, found by their bytes: a program under ASLR is translated anew at each
 * exec, but what it decodes to does not depend on the address. (Half of such a translation is decoding.)
 */
#ifndef AVANT_LIVE_SCAN_CACHE_H
#define AVANT_LIVE_SCAN_CACHE_H

#include "translate/scan.h"

struct scan_cache;

/* NULL if memory is short: then there is none, and all calls do nothing. */
struct scan_cache *scan_cache_create(void);
void scan_cache_destroy(struct scan_cache *cache);

/*
 * Makes `scan` what scan_unit() would make, with these options, of the `length` bytes from pc to the end of its page;
 * false if that is not known.
 */
bool scan_cache_find(struct scan_cache *cache, struct scan *scan, u64 pc, const u8 *bytes, unsigned length,
		     const struct scan_options *options);
/* Notes a scan of these bytes. */
void scan_cache_note(struct scan_cache *cache, const struct scan *scan, const u8 *bytes,
		     const struct scan_options *options);

#endif
