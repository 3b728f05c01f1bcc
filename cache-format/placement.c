/* Where a cache lies in the process that uses it, and mapping it there. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static uint64_t chunk_size(const struct tcache *cache, uint32_t type)
{
	uint32_t chunk = tcache_find(cache, type);

	return chunk == TCACHE_NO_CHUNK ? 0 : pages_up(cache->toc[chunk].length);
}

uint64_t tcache_code_size(const struct tcache *cache)
{
	return chunk_size(cache, TCACHE_TYPE_code);
}

uint64_t tcache_cells_size(const struct tcache *cache)
{
	return chunk_size(cache, TCACHE_TYPE_cells);
}

static uint64_t insns_size(const struct tcache *cache, uint32_t insn_size)
{
	return pages_up(tcache_insns_count(cache) * insn_size);
}

uint64_t tcache_insns_size(const struct tcache *cache)
{
	return cache->placed ? insns_size(cache, cache->placement.insn_size) : 0;
}

struct area {
	const char *name;
	uint64_t start, size;
};

static enum tcache_status check_areas(struct tcache *cache, const struct tcache_placement *p)
{
	const struct area areas[] = {
		{"code", p->code_address, tcache_code_size(cache)},
		{"cells", p->cells_address, tcache_cells_size(cache)},
		{"instructions", p->insns_address, insns_size(cache, p->insn_size)},
	};

	for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++) {
		const struct area *a = &areas[i];

		if (a->start % TCACHE_PAGE || a->start < TCACHE_AREA_BEGIN || a->start > TCACHE_AREA_END ||
		    a->size > TCACHE_AREA_END - a->start)
			return FAIL_RECORD(cache, "%s cannot be at 0x%" PRIx64 " (0x%" PRIx64 " bytes)", a->name,
					   a->start, a->size);
		for (size_t k = 0; k < i; k++)
			if (a->start < areas[k].start + areas[k].size && areas[k].start < a->start + a->size)
				return FAIL_RECORD(cache, "%s and %s overlap", areas[k].name, a->name);
	}
	return TCACHE_OK;
}

/* Chunks that must have as many records as another. */
static enum tcache_status check_counts(struct tcache *cache)
{
	if (tcache_cells_count(cache) != tcache_links_count(cache))
		return FAIL_RECORD(cache, "has %" PRIu64 " links, but %" PRIu64 " cells for them",
				   tcache_links_count(cache), tcache_cells_count(cache));
	if (tcache_by_code_count(cache) != tcache_units_count(cache))
		return FAIL_RECORD(cache, "has %" PRIu64 " units, but %" PRIu64 " in the order of their code",
				   tcache_units_count(cache), tcache_by_code_count(cache));
	return TCACHE_OK;
}

static enum tcache_status check_placement(struct tcache *cache, const struct tcache_placement *p)
{
	enum tcache_status status;

	if (!tcache_zero(p->reserved, sizeof(p->reserved)))
		return FAIL_RECORD(cache, "reserved fields of the placement are not zero");
	if (p->insn_size < TCACHE_INSN_MIN || p->insn_size > TCACHE_MAX_INSN_SIZE)
		return FAIL_RECORD(cache, "decoded instructions cannot have %u bytes", p->insn_size);
	if (tcache_targets_count(cache) > UINT32_MAX - p->first_target ||
	    tcache_links_count(cache) > UINT32_MAX - p->first_link)
		return FAIL_RECORD(cache, "numbers of targets or links are too high (from %u, from %u)",
				   p->first_target, p->first_link);
	status = check_areas(cache, p);
	return status ? status : check_counts(cache);
}

const struct tcache_placement *tcache_place(struct tcache *cache)
{
	const struct tcache_placement *record;

	if (cache->placed)
		return &cache->placement;
	if (tcache_placement_count(cache) != 1) {
		FAIL_RECORD(cache, "does not say where its code belongs");
		return NULL;
	}
	record = tcache_placement(cache, 0, 1);
	if (!record)
		return NULL;
	/* a copy: what was checked must stay as it was */
	cache->placement = *record;
	cache->placed = !check_placement(cache, &cache->placement);
	return cache->placed ? &cache->placement : NULL;
}

enum tcache_status tcache_check_placement(struct tcache *cache)
{
	bool needed = tcache_units_count(cache) || tcache_code_size(cache) || tcache_templates_count(cache) ||
		      tcache_placement_count(cache);

	return !needed || tcache_place(cache) ? check_counts(cache) : cache->last;
}

/* Maps a chunk at a fixed address. */
static enum tcache_status map_chunk(struct tcache *cache, const char *what, uint32_t type, uint64_t address,
				    int protection, int sharing, unsigned flags)
{
	const struct tcache_toc_entry *entry = &cache->toc[tcache_find(cache, type)];
	int how = sharing | (flags & TCACHE_MAP_REPLACE ? MAP_FIXED : MAP_FIXED_NOREPLACE);
	uint64_t size = pages_up(entry->length);
	void *want = (void *)(uintptr_t)address;
	void *map = mmap(want, size, protection, how, cache->fd, (off_t)entry->offset);

	if (map == want) {
		madvise(map, size, MADV_HUGEPAGE); /* a wish */
		return TCACHE_OK;
	}
	/* kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint */
	if (map != MAP_FAILED) {
		munmap(map, size);
		errno = EEXIST;
	}
	if (errno == EPERM)
		return tcache_fail(&cache->report, TCACHE_ERR_SYSTEM,
				   "%s cannot be mapped: the file system is mounted noexec, or policy forbids it",
				   what);
	if (errno == EEXIST)
		return tcache_fail(&cache->report, TCACHE_ERR_SYSTEM,
				   "%s cannot be mapped: addresses 0x%" PRIx64 " … 0x%" PRIx64
				   " are in use, perhaps by another cache",
				   what, address, address + size - 1);
	return tcache_fail(&cache->report, TCACHE_ERR_SYSTEM, "%s cannot be mapped at 0x%" PRIx64 ": %s", what, address,
			   strerror(errno));
}

enum tcache_status tcache_map_code(struct tcache *cache, unsigned flags)
{
	if (!tcache_code_size(cache))
		return tcache_fail(&cache->report, TCACHE_ERR_RANGE, "holds no code");
	if (!tcache_place(cache))
		return cache->last;
	return map_chunk(cache, "code", TCACHE_TYPE_code, cache->placement.code_address, PROT_READ | PROT_EXEC,
			 MAP_SHARED, flags);
}

enum tcache_status tcache_map_cells(struct tcache *cache, unsigned flags)
{
	if (!tcache_place(cache))
		return cache->last;
	if (!tcache_cells_size(cache))
		return TCACHE_OK;
	if (!tcache_cells(cache, 0, tcache_cells_count(cache)))
		return cache->last;
	return map_chunk(cache, "cells", TCACHE_TYPE_cells, cache->placement.cells_address, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE, flags);
}

enum tcache_status tcache_map_copy(struct tcache *cache, const void *data, uint64_t size, void *to)
{
	uint64_t offset = (uint64_t)((uintptr_t)data - (uintptr_t)cache->map), end = cache->header->tail;

	if (offset >= end || size > end - offset || offset % TCACHE_PAGE || size % TCACHE_PAGE ||
	    (uintptr_t)to % TCACHE_PAGE)
		return tcache_fail(&cache->report, TCACHE_ERR_RANGE, "has no pages there to map");
	if (mmap(to, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, cache->fd, (off_t)offset) == MAP_FAILED)
		return tcache_fail(&cache->report, TCACHE_ERR_SYSTEM, "cannot be mapped: %s", strerror(errno));
	return TCACHE_OK;
}
