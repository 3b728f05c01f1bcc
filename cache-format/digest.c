/* Digests and signatures: the only file that knows the libraries behind them. FORMAT.md says why there are two. */
#include <string.h>

#include <sodium.h>
#include <xxhash.h>

#include "internal.h"

_Static_assert(TCACHE_SECRET_KEY_SIZE == crypto_sign_SECRETKEYBYTES, "size of a secret key");
_Static_assert(sizeof(((struct tcache_footer *)0)->public_key) == crypto_sign_PUBLICKEYBYTES, "size of a public key");
_Static_assert(sizeof(((struct tcache_footer *)0)->signature) == crypto_sign_BYTES, "size of a signature");

/* What is signed: the digest, marked as ours so that the key may serve for other things too. */
struct signed_message {
	uint8_t prefix[sizeof(TCACHE_SIGNATURE_PREFIX) - 1];
	uint8_t digest[TCACHE_DIGEST_SIZE];
};

/* libsodium chooses its fastest BLAKE2b here; without the call it would still be correct. */
enum tcache_status tcache_digest_init(const struct report *report)
{
	if (sodium_init() < 0)
		return tcache_fail(report, TCACHE_ERR_SYSTEM, "cannot initialize libsodium");
	return TCACHE_OK;
}

void tcache_digest(const void *data, size_t size, uint8_t digest[TCACHE_DIGEST_SIZE])
{
	tcache_digest2(data, size, NULL, 0, digest);
}

void tcache_digest2(const void *a, size_t a_size, const void *b, size_t b_size, uint8_t digest[TCACHE_DIGEST_SIZE])
{
	crypto_generichash_state state;

	crypto_generichash_init(&state, NULL, 0, TCACHE_DIGEST_SIZE);
	crypto_generichash_update(&state, a, a_size);
	crypto_generichash_update(&state, b, b_size);
	crypto_generichash_final(&state, digest, TCACHE_DIGEST_SIZE);
}

void tcache_hash(const void *data, size_t size, uint64_t hash[2])
{
	XXH128_hash_t value = XXH3_128bits(data, size);

	hash[0] = value.low64;
	hash[1] = value.high64;
}

void tcache_image_digest(const void *data, size_t size, uint8_t digest[TCACHE_DIGEST_SIZE])
{
	tcache_group_digest(TCACHE_DIGEST_XXH3, data, size, digest);
}

void tcache_group_digest(uint32_t kind, const void *data, size_t size, uint8_t digest[TCACHE_DIGEST_SIZE])
{
	XXH128_canonical_t canonical;

	if (kind == TCACHE_DIGEST_BLAKE2B) {
		tcache_digest(data, size, digest);
		return;
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, size));
	memset(digest, 0, TCACHE_DIGEST_SIZE);
	memcpy(digest, canonical.digest, sizeof(canonical.digest));
}

static struct signed_message signed_message(const struct tcache_footer *footer)
{
	struct signed_message message;

	memcpy(message.prefix, TCACHE_SIGNATURE_PREFIX, sizeof(message.prefix));
	memcpy(message.digest, footer->digest, sizeof(message.digest));
	return message;
}

bool tcache_signature_valid(const struct tcache_footer *footer)
{
	struct signed_message message = signed_message(footer);

	return !crypto_sign_verify_detached(footer->signature, (const uint8_t *)&message, sizeof(message),
					    footer->public_key);
}

void tcache_sign(struct tcache_footer *footer, const uint8_t secret_key[TCACHE_SECRET_KEY_SIZE])
{
	struct signed_message message = signed_message(footer);

	crypto_sign_ed25519_sk_to_pk(footer->public_key, secret_key);
	crypto_sign_detached(footer->signature, NULL, (const uint8_t *)&message, sizeof(message), secret_key);
}
