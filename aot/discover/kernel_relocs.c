/*
 * Relocations that arch/x86/tools/relocs puts behind the ELF file in a bzImage, for KASLR. Each says where an address
 * lies: in data, or as an immediate. Those that point to code are functions (or labels) whose address is taken.
 *
 * Read from the end: u32 addresses (their upper half is all ones) up to a zero: places that hold 32 bits; another list
 * of places to be adjusted the other way (per-CPU; not in newer kernels); a list of places that hold 64 bits, and a
 * zero.
 */
#include "boot/kernel_image.h"
#include "internal.h"

#define UPPER     0xffffffff00000000ULL
#define MAX_LISTS 3u

static u64 value_at(const struct image *image, u64 place, bool wide)
{
	const u8 *bytes = image_at(image, place, wide ? 8 : 4);

	if (!bytes)
		return 0;
	return wide ? get64(bytes) : (u64)(s64)(s32)get32(bytes);
}

/* Tables of places to patch hold addresses of code, too, but nobody jumps there. */
struct skipped {
	struct table table[2];
};

static void find_skipped(const struct kernel_scan *scan, struct skipped *skipped)
{
	find_table(scan->image, scan->elf, "__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc",
		   &skipped->table[0]);
	find_table(scan->image, scan->elf, ".parainstructions", NULL, NULL, &skipped->table[1]);
}

static bool is_skipped(const struct skipped *skipped, u64 place)
{
	for (unsigned i = 0; i < ARRAY_SIZE(skipped->table); i++)
		if (place - skipped->table[i].address < skipped->table[i].size)
			return true;
	return false;
}

static u32 read_list(struct kernel_scan *scan, const u8 *words, u64 from, u64 to, bool wide)
{
	struct skipped skipped;
	u32 found = 0;

	find_skipped(scan, &skipped);
	for (u64 i = from; i < to; i++) {
		u64 place = UPPER | get32(words + 4 * i);
		u64 pc = value_at(scan->image, place, wide);

		if (image_is_code(scan->image, pc) && !is_skipped(&skipped, place)) {
			collect(&scan->entries, pc, ENTRY_POINTER, NULL);
			found++;
		}
	}
	return found;
}

void kernel_read_relocations(struct kernel_scan *scan)
{
	struct report *report = &scan->image->report;
	u64 start = align_up(scan->elf->end, 4), size = scan->elf->size;
	u64 end, from[MAX_LISTS], to[MAX_LISTS];
	const u8 *words;
	unsigned lists = 0;

	if (start >= size || size - start < 8) {
		report_line(report, "relocations: none behind the ELF file (an unpacked kernel has none)");
		return;
	}
	/* the payload's end is what counts: words are aligned to it */
	end = (size - start) / 4;
	words = scan->elf->data + size - 4 * end;
	while (lists < MAX_LISTS && end > 0) {
		u64 first = end;

		while (first > 0 && get32(words + 4 * (first - 1)) != 0)
			first--;
		if (first == 0)
			break; /* every list has a zero before it */
		from[lists] = first;
		to[lists++] = end;
		end = first - 1;
	}
	if (lists < 2) {
		report_line(report, "relocations: not understood");
		return;
	}
	u32 narrow = read_list(scan, words, from[0], to[0], false);
	u32 wide = read_list(scan, words, from[lists - 1], to[lists - 1], true);

	report_line(report, "relocations: %llu of 32 bits, %llu of 64 bits; %u and %u of them hold addresses of code",
		    (unsigned long long)(to[0] - from[0]), (unsigned long long)(to[lists - 1] - from[lists - 1]),
		    narrow, wide);
}
