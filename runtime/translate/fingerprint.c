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
