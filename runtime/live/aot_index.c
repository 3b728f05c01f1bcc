/*
 * Units are found by guest address. Most often there is one, or a handful (modes, code that was patched). Code that
 * rewrites itself all the time may have been recorded in a hundred thousand versions at one address: of such a crowd
 * it is noted which lengths and modes there are, so that the bytes are hashed once for each and then searched for.
 */
#include "live/aot_index.h"

#include <stdlib.h>
#include <tcache.h>

#include "live/guest_bytes.h"

#define FEW 8u

/* Units of one address that differ in their bytes only. */
struct kind {
	u32 mode, mode_mask;
	u32 length;
};

struct crowd {
	struct crowd *next;
	u32 first; /* unit */
	u32 kind_count;
	struct kind kinds[];
};

struct aot_index {
	const struct tcache_unit *units;
	struct crowd *crowds;
	u32 count;
	u64 pcs[]; /* of the units, close together: to search in */
};

struct aot_index *aot_index_create(const struct tcache_unit *units, u32 count)
{
	struct aot_index *index = malloc(sizeof(*index) + (u64)count * sizeof(index->pcs[0]));

	if (!index)
		return NULL;
	index->units = units;
	index->crowds = NULL;
	index->count = count;
	for (u32 i = 0; i < count; i++)
		index->pcs[i] = units[i].pc;
	return index;
}

void aot_index_destroy(struct aot_index *index)
{
	if (!index)
		return;
	for (struct crowd *crowd = index->crowds, *next; crowd; crowd = next) {
		next = crowd->next;
		free(crowd);
	}
	free(index);
}

u32 aot_index_first(const struct aot_index *index, u64 pc)
{
	u32 low = 0, high = index->count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (index->pcs[middle] < pc)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool aot_index_has(const struct aot_index *index, u64 pc)
{
	u32 first = aot_index_first(index, pc);

	return first < index->count && index->pcs[first] == pc;
}

static bool of_kind(const struct tcache_unit *unit, const struct kind *kind)
{
	return unit->mode == kind->mode && unit->mode_mask == kind->mode_mask && unit->guest_length == kind->length;
}

static bool known(const struct crowd *crowd, const struct tcache_unit *unit)
{
	for (u32 i = 0; i < crowd->kind_count; i++) {
		if (of_kind(unit, &crowd->kinds[i]))
			return true;
	}
	return false;
}

/* NULL: out of memory. */
static struct crowd *find_crowd(struct aot_index *index, u32 first)
{
	struct crowd *crowd, *larger;
	u32 room = 16;

	for (crowd = index->crowds; crowd; crowd = crowd->next) {
		if (crowd->first == first)
			return crowd;
	}
	crowd = malloc(sizeof(*crowd) + room * sizeof(crowd->kinds[0]));
	if (!crowd)
		return NULL;
	*crowd = (struct crowd){.next = index->crowds, .first = first};
	for (u32 n = first; n < index->count && index->pcs[n] == index->pcs[first]; n++) {
		const struct tcache_unit *unit = &index->units[n];

		if (known(crowd, unit))
			continue;
		if (crowd->kind_count == room) {
			room *= 2;
			larger = realloc(crowd, sizeof(*crowd) + room * sizeof(crowd->kinds[0]));
			if (!larger) {
				free(crowd);
				return NULL;
			}
			crowd = larger;
		}
		crowd->kinds[crowd->kind_count++] = (struct kind){unit->mode, unit->mode_mask, unit->guest_length};
	}
	index->crowds = crowd;
	return crowd;
}

/* The unit of this kind with these bytes, among those from `first` on. */
static u32 search(const struct aot_index *index, u32 first, const struct kind *kind, const u64 hash[2])
{
	const struct tcache_unit wanted = {.hash = {hash[0], hash[1]}, .pc = index->pcs[first], .mode = kind->mode};
	u32 low = first, high = index->count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (tcache_unit_compare(&index->units[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	/* a cache has no two units with the same key */
	if (low < index->count && tcache_unit_compare(&index->units[low], &wanted) == 0 &&
	    of_kind(&index->units[low], kind))
		return low;
	return AOT_INDEX_NONE;
}

/* Hashes what the guest has at v->rip; false if there are not so many bytes. */
static bool hash_here(struct vcpu *v, u64 gpa, u32 length, u64 hash[2], u64 *next)
{
	u8 joined[GUEST_BYTES_MAX];
	const u8 *bytes = guest_bytes(v, gpa, length, joined, next);

	if (!bytes)
		return false;
	tcache_hash(bytes, length, hash);
	return true;
}

static u32 find_among_few(const struct aot_index *index, struct vcpu *v, u64 gpa, u32 mode, u32 *cursor, u32 first,
			  u64 *next)
{
	u32 hashed = 0; /* bytes */
	u64 hash[2] = {0};

	for (u32 n = first + *cursor; n < index->count && index->pcs[n] == v->rip; n++) {
		const struct tcache_unit *unit = &index->units[n];

		if ((unit->mode ^ mode) & unit->mode_mask)
			continue;
		if (unit->guest_length != hashed)
			hashed = hash_here(v, gpa, unit->guest_length, hash, next) ? unit->guest_length : 0;
		if (!hashed)
			continue;
		if (hash[0] == unit->hash[0] && hash[1] == unit->hash[1]) {
			*cursor = n - first + 1;
			return n;
		}
	}
	return AOT_INDEX_NONE;
}

u32 aot_index_find(struct aot_index *index, struct vcpu *v, u64 gpa, u32 mode, u32 *cursor, u64 *next)
{
	u32 first = aot_index_first(index, v->rip);
	struct crowd *crowd = NULL;

	if (first + (u64)FEW < index->count && index->pcs[first + FEW] == v->rip)
		crowd = find_crowd(index, first);
	if (!crowd)
		return find_among_few(index, v, gpa, mode, cursor, first, next);
	while (*cursor < crowd->kind_count) {
		const struct kind *kind = &crowd->kinds[(*cursor)++];
		u64 hash[2];
		u32 found;

		if ((kind->mode ^ mode) & kind->mode_mask || !hash_here(v, gpa, kind->length, hash, next))
			continue;
		found = search(index, first, kind, hash);
		if (found != AOT_INDEX_NONE)
			return found;
	}
	return AOT_INDEX_NONE;
}
