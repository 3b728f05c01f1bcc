/*
 * Guest RAM: one anonymous mapping, seen by the guest in two parts around the hole for MMIO. Anonymous because that is
 * what gets huge pages on hosts that give shared memory none.
 */
#include "mem/mem.h"

#include "util/err.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_SIZE (2ULL << 20)

static void *map_anonymous(u64 size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* Maps with an alignment that lets the first and the last huge page be huge. */
static u8 *map_aligned(u64 size)
{
	u8 *at = map_anonymous(size + HUGE_PAGE_SIZE);
	u8 *aligned;

	if (!at)
		return NULL;
	aligned = (u8 *)align_up((u64)at, HUGE_PAGE_SIZE);
	if (aligned != at)
		munmap(at, (u64)(aligned - at));
	munmap(aligned + size, HUGE_PAGE_SIZE - (u64)(aligned - at));
	return aligned;
}

int ram_init(struct ram *ram, u64 size, struct err *err)
{
	*ram = (struct ram){0};
	if (!size || size % HUGE_PAGE_SIZE || size > BIT(MAXPHYADDR) - RAM_HIGH_BASE)
		return err_set(err, "memory size %llu is not a multiple of 2 MiB up to 1 TiB",
			       (unsigned long long)size);
	ram->size = size;
	ram->low = size < RAM_LOW_END ? size : RAM_LOW_END;
	ram->host = map_aligned(size);
	if (ram->host)
		ram->frames = map_anonymous(size >> PAGE_SHIFT);
	if (ram->frames)
		ram->writers = map_anonymous((size >> PAGE_SHIFT) * sizeof(*ram->writers));
	if (!ram->writers) {
		err_set(err, "cannot map %llu MiB of guest memory: %s", (unsigned long long)(size >> 20),
			strerror(errno));
		ram_release(ram);
		return -1;
	}
	madvise(ram->host, size, MADV_HUGEPAGE); /* a wish: without it all is slower, not wrong */
	return 0;
}

void ram_release(struct ram *ram)
{
	if (ram->host)
		munmap(ram->host, ram->size);
	if (ram->frames)
		munmap(ram->frames, ram->size >> PAGE_SHIFT);
	if (ram->writers)
		munmap(ram->writers, (ram->size >> PAGE_SHIFT) * sizeof(*ram->writers));
	*ram = (struct ram){0};
}

u8 *ram_range(const struct ram *ram, u64 gpa, u64 len)
{
	u64 high = ram->size - ram->low;

	if (gpa < ram->low)
		return len <= ram->low - gpa ? ram->host + gpa : NULL;
	if (gpa < RAM_HIGH_BASE || gpa - RAM_HIGH_BASE >= high)
		return NULL;
	return len <= high - (gpa - RAM_HIGH_BASE) ? ram_at(ram, gpa) : NULL;
}
