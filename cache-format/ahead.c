/* Checking a large chunk by a thread of its own while the caller does other things. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define GROUPS_AT_ONCE 64u

/* Threads take groups in turn by `next`; which of them did which does not matter. */
struct ahead {
	const struct tcache *cache;
	uint32_t chunk;
	uint64_t count; /* groups to check; the chunk's last one, which has padding, is not among them */
	uint64_t next;
	bool damaged;
	pthread_t thread;
};

static void *check_groups(void *opaque)
{
	struct ahead *ahead = opaque;
	const struct tcache *cache = ahead->cache;
	const struct tcache_toc_entry *entry = &cache->toc[ahead->chunk];
	uint8_t digest[TCACHE_DIGEST_SIZE];
	uint64_t from;

	while ((from = __atomic_fetch_add(&ahead->next, GROUPS_AT_ONCE, __ATOMIC_RELAXED)) < ahead->count) {
		for (uint64_t n = from; n < from + GROUPS_AT_ONCE && n < ahead->count; n++) {
			tcache_group_digest(cache->header->group_digest, cache->map + entry->offset + n * TCACHE_GROUP,
					    TCACHE_GROUP, digest);
			if (memcmp(digest, cache->groups[entry->first_group + n].digest, sizeof(digest)))
				__atomic_store_n(&ahead->damaged, true, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

void tcache_verify_ahead(struct tcache *cache, uint32_t type)
{
	struct ahead *ahead;
	sigset_t all, before;
	uint32_t chunk = tcache_find(cache, type);

	if (cache->ahead || chunk == TCACHE_NO_CHUNK || cache->toc[chunk].length < 4 * GROUPS_AT_ONCE * TCACHE_GROUP)
		return;
	ahead = calloc(1, sizeof(*ahead));
	if (!ahead)
		return;
	ahead->cache = cache;
	ahead->chunk = chunk;
	ahead->count = groups_of(cache->toc[chunk].length) - 1;
	/* signals are for the caller's threads */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&ahead->thread, NULL, check_groups, ahead) == 0)
		cache->ahead = ahead;
	else
		free(ahead);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Helps the thread to finish. What was found damaged is left to be found again, by who has a message to write. */
void tcache_join_ahead(struct tcache *cache, uint32_t chunk)
{
	struct ahead *ahead = cache->ahead;
	uint64_t first;

	if (!ahead || ahead->chunk != chunk)
		return;
	check_groups(ahead);
	pthread_join(ahead->thread, NULL);
	first = cache->toc[chunk].first_group;
	for (uint64_t n = first; !ahead->damaged && n < first + ahead->count; n++)
		cache->verified[n / 8] |= (uint8_t)(1u << n % 8);
	free(ahead);
	cache->ahead = NULL;
}

void tcache_stop_ahead(struct tcache *cache, uint32_t chunk)
{
	struct ahead *ahead = cache->ahead;

	if (!ahead || (chunk != TCACHE_NO_CHUNK && chunk != ahead->chunk))
		return;
	__atomic_store_n(&ahead->next, ahead->count, __ATOMIC_RELAXED);
	pthread_join(ahead->thread, NULL);
	free(ahead);
	cache->ahead = NULL;
}
