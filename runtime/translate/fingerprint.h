/* What a cache must have been made for to be of use to a store: translator, options, guest CPU model. */
#ifndef AVANT_TRANSLATE_FINGERPRINT_H
#define AVANT_TRANSLATE_FINGERPRINT_H

#include <tcache.h>

#include "translate/store.h"

/* "avant VERSION DIGEST": the digest is that of the sources that decide about generated code (CMakeLists.txt). */
extern const char translator_version[];

/* Fills all but the host features. */
void translator_fingerprint(const struct store *store, const char *guest_cpu, struct tcache_fingerprint *fingerprint);

/* Sets the options of the store to those that the fingerprint is of. False: no combination has its digest. */
bool translator_find_options(struct store *store, const struct tcache_fingerprint *fingerprint);

#endif
