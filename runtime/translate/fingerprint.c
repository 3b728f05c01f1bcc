#include "translate/fingerprint.h"

#include <stdio.h>
#include <string.h>

#include "translator_version.h"

const char translator_version[] = "avant " AVANT_TRANSLATOR;

void translator_fingerprint(const struct store *store, const char *guest_cpu, struct tcache_fingerprint *fingerprint)
{
	char options[96];
	int length = snprintf(options, sizeof(options), "returns=%s counted=%d exact-flags=%d",
			      store->returns_host ? "host" : "table", store->counted, store->exact_flags);

	memset(fingerprint, 0, sizeof(*fingerprint));
	snprintf(fingerprint->translator, sizeof(fingerprint->translator), "%s", translator_version);
	tcache_digest(options, (size_t)length, fingerprint->options);
	snprintf(fingerprint->guest_cpu, sizeof(fingerprint->guest_cpu), "%s", guest_cpu);
}

bool translator_find_options(struct store *store, const struct tcache_fingerprint *fingerprint)
{
	struct tcache_fingerprint other;

	for (unsigned n = 0; n < 8; n++) {
		store->returns_host = !(n & 1);
		store->counted = n & 2;
		store->exact_flags = n & 4;
		translator_fingerprint(store, "", &other);
		if (!memcmp(other.options, fingerprint->options, sizeof(other.options)))
			return true;
	}
	return false;
}
