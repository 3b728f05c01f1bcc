/*
 * Retranslates the copied units of a cache from the guest bytes that it keeps, and compares: code that the translator
 * of this program would not have made at that place is found, whatever the file's digests say.
 */
#ifndef AVANT_AOT_RETRANSLATE_H
#define AVANT_AOT_RETRANSLATE_H

#include "util/err.h"
#include "util/types.h"

struct tcache;

struct retranslation {
	u64 equal, different; /* copied units, templates, units of kernel modules */
	u64 lifted;           /* skipped: another tool makes them */
};

enum retranslated_kind { RETRANSLATED_UNIT, RETRANSLATED_TEMPLATE, RETRANSLATED_MODULE };

/* `what` about one of these is not as it should be. */
struct retranslated {
	enum retranslated_kind kind;
	u32 number;
	u64 pc; /* of a unit; of others the offset in the page */
	const char *what;
};
typedef void retranslate_report(void *opaque, const struct retranslated *found);

/*
 * The cache has passed tcache_verify_all(). Uses the addresses that the cache was linked to; a VM in the same process
 * is in the way. Returns 0 and the result; or -1 with a message in err that names the file: it cannot be compared.
 */
int retranslate(struct tcache *cache, retranslate_report *report, void *opaque, struct retranslation *result,
		struct err *err);

#endif
