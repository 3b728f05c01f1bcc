/* Whom a cache is made for. */
#include <string.h>

#include <cpuid.h>

#include "internal.h"

struct host_feature {
	const char *name;
	uint32_t leaf, subleaf;
	uint8_t reg, bit;
	bool avx;
};

static const struct host_feature features[] = {
#define X(number, constant, text, leaf_number, subleaf_number, register_number, bit_number, needs_avx)                 \
	[number] = {.name = text,                                                                                      \
		    .leaf = leaf_number,                                                                               \
		    .subleaf = subleaf_number,                                                                         \
		    .reg = register_number,                                                                            \
		    .bit = bit_number,                                                                                 \
		    .avx = needs_avx},
	TCACHE_HOST_FEATURES(X)
#undef X
};

#define FEATURE_COUNT (sizeof(features) / sizeof(features[0]))

/* CPUID.1:ECX.OSXSAVE, and XCR0 says that the operating system keeps SSE and AVX state (Intel SDM volume 1, 14.3). */
static bool avx_enabled(void)
{
	uint32_t r[4], low, high;

	if (!__get_cpuid(1, &r[0], &r[1], &r[2], &r[3]) || !(r[2] & bit_OSXSAVE))
		return false;
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (low & 6) == 6;
}

void tcache_host_features(uint64_t bits[2])
{
	bool avx = avx_enabled();
	uint32_t r[4];

	bits[0] = bits[1] = 0;
	for (size_t i = 0; i < FEATURE_COUNT; i++) {
		const struct host_feature *f = &features[i];

		if (!__get_cpuid_count(f->leaf, f->subleaf, &r[0], &r[1], &r[2], &r[3]))
			continue;
		if ((r[f->reg] >> f->bit & 1) && (avx || !f->avx))
			bits[i / 64] |= 1ULL << i % 64;
	}
}

const char *tcache_host_feature_name(unsigned bit)
{
	return bit < FEATURE_COUNT ? features[bit].name : NULL;
}

enum tcache_status tcache_check_fingerprint(struct tcache *cache, const struct tcache_fingerprint *want)
{
	const struct tcache_fingerprint *have = &cache->header->fingerprint;

	if (strncmp(have->translator, want->translator, sizeof(want->translator)))
		return tcache_fail(&cache->report, TCACHE_ERR_FINGERPRINT, "made by translator '%s', this is '%.48s'",
				   have->translator, want->translator);
	if (strncmp(have->guest_cpu, want->guest_cpu, sizeof(want->guest_cpu)))
		return tcache_fail(&cache->report, TCACHE_ERR_FINGERPRINT, "made for guest CPU '%s', this is '%.32s'",
				   have->guest_cpu, want->guest_cpu);
	if (memcmp(have->options, want->options, sizeof(want->options)))
		return tcache_fail(&cache->report, TCACHE_ERR_FINGERPRINT, "made with other options");
	for (unsigned i = 0; i < 128; i++) {
		uint64_t missing = have->host_features[i / 64] & ~want->host_features[i / 64];
		const char *name = tcache_host_feature_name(i);

		if (!(missing >> i % 64 & 1))
			continue;
		if (!name)
			return tcache_fail(&cache->report, TCACHE_ERR_FINGERPRINT,
					   "needs host CPU feature number %u, which is not known here", i);
		return tcache_fail(&cache->report, TCACHE_ERR_FINGERPRINT,
				   "needs host CPU feature '%s', which this host lacks", name);
	}
	return TCACHE_OK;
}

enum tcache_status tcache_check_signer(struct tcache *cache, const uint8_t *public_key)
{
	if (!(cache->header->flags & TCACHE_SIGNED))
		return tcache_fail(&cache->report, TCACHE_ERR_SIGNATURE, "is not signed");
	if (memcmp(cache->footer->public_key, public_key, sizeof(cache->footer->public_key)))
		return tcache_fail(&cache->report, TCACHE_ERR_SIGNATURE, "is signed by another key");
	return TCACHE_OK;
}
