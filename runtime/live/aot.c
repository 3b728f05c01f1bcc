#include "live/aot_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/cpu.h"
#include "live/aot_index.h"
#include "live/aot_module.h"
#include "live/aot_template.h"
#include "translate/fingerprint.h"
#include "vm.h"

_Static_assert(sizeof(struct pc_entry) == sizeof(struct tcache_pc), "pc records of caches are used as they are");
_Static_assert(offsetof(struct pc_entry, guest) == offsetof(struct tcache_pc, guest), "layout");
_Static_assert(offsetof(struct pc_entry, home) == offsetof(struct tcache_pc, home), "layout");
_Static_assert(offsetof(struct pc_entry, left) == offsetof(struct tcache_pc, left), "layout");

_Static_assert(AOT_MAX == VM_CACHES_MAX, "as many as can be named");

/* --- opening ----------------------------------------------------------------------------------------------------- */

static void fingerprint_wanted(const struct live *live, struct tcache_fingerprint *want)
{
	translator_fingerprint(&live->store, cpu_model_name(live->vm->config.cpu), want);
	tcache_host_features(want->host_features);
}

static bool overlap(u64 first, u64 count, u64 other_first, u64 other_count)
{
	return first < other_first + other_count && other_first < first + count;
}

/* Guest targets of direct jumps, and links, have numbers that the code knows. */
static int take_numbers(struct live *live, struct aot *aot, struct err *err)
{
	const u64 *pcs = tcache_targets(aot->file, 0, aot->target_count);
	u32 first = aot->place->first_target, first_link = aot->place->first_link;

	if (aot->target_count && !pcs)
		return err_set(err, "%s", tcache_error(aot->file));
	if (first == 0 || first + (u64)aot->target_count > TARGET_SIZE)
		return err_set(err, "cache '%s' numbers more jump targets than there are", tcache_name(aot->file));
	if (first_link < AOT_FIRST_LINK)
		return err_set(err, "cache '%s' numbers its links like live translations", tcache_name(aot->file));
	for (unsigned i = 0; i < live->aot_count; i++) {
		const struct aot *other = live->aot[i];

		if (overlap(first, aot->target_count, other->place->first_target, other->target_count) ||
		    overlap(first_link, aot->link_count, other->place->first_link, other->link_count))
			return err_set(err,
				       "cache '%s' has the same place as '%s': make one of them with another --place",
				       tcache_name(aot->file), tcache_name(other->file));
	}
	return 0;
}

static int map_decoded(struct aot *aot, struct err *err)
{
	u64 size = tcache_insns_size(aot->file);
	void *at = (void *)aot->place->insns_address;

	if (aot->place->insn_size != sizeof(struct insn))
		return err_set(err, "cache '%s' has decoded instructions of another size", tcache_name(aot->file));
	if (!size)
		return 0;
	aot->decoded = mmap(at, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (aot->decoded == MAP_FAILED) {
		aot->decoded = NULL;
		return err_set(err, "cannot use cache '%s': address %p is taken: %s", tcache_name(aot->file), at,
			       strerror(errno));
	}
	aot->decoded_size = size;
	return 0;
}

static int index_units(struct aot *aot, struct err *err)
{
	u64 end = 0;

	aot->bindings = calloc(aot->unit_count, sizeof(*aot->bindings));
	aot->index = aot_index_create(aot->units, aot->unit_count);
	aot->code_starts = malloc(aot->unit_count * sizeof(u32));
	aot->link_starts = malloc(aot->unit_count * sizeof(u32));
	if (!aot->bindings || !aot->index || !aot->code_starts || !aot->link_starts)
		return err_set(err, "out of memory");
	for (u32 i = 0; i < aot->unit_count; i++) {
		u32 number = aot->by_code[i];

		if (number >= aot->unit_count)
			return err_set(err, "cache '%s' names a unit that it does not have", tcache_name(aot->file));

		const struct tcache_unit *unit = &aot->units[number];

		aot->code_starts[i] = unit->code_offset;
		aot->link_starts[i] = unit->link_first;
		/* find_unit() and find_by_link() rely on the order */
		if (unit->code_offset < end)
			return err_set(err, "cache '%s': code is not in the order that it names",
				       tcache_name(aot->file));
		end = (u64)unit->code_offset + unit->code_length;
		if (i && aot->link_starts[i] < aot->link_starts[i - 1])
			return err_set(err, "cache '%s': links are not in the order of code", tcache_name(aot->file));
	}
	return 0;
}

static int map_all(struct live *live, struct aot *aot, struct err *err)
{
	struct tcache *file = aot->file;
	struct tcache_fingerprint want;

	fingerprint_wanted(live, &want);
	if (tcache_check_fingerprint(file, &want) != TCACHE_OK)
		return err_set(err, "%s", tcache_error(file));
	aot->unit_count = (u32)tcache_units_count(file);
	aot->link_count = (u32)tcache_links_count(file);
	aot->target_count = (u32)tcache_targets_count(file);
	aot->place = tcache_place(file);
	if (!aot->place)
		return err_set(err, "%s", tcache_error(file));
	aot->units = tcache_units(file, 0, aot->unit_count);
	aot->links = tcache_links(file, 0, aot->link_count);
	aot->by_code = tcache_by_code(file, 0, aot->unit_count);
	if (!aot->units || !aot->links || !aot->by_code)
		return err_set(err, "%s", tcache_error(file));
	if (index_units(aot, err) < 0)
		return -1;
	if (take_numbers(live, aot, err) < 0 || map_decoded(aot, err) < 0)
		return -1;
	if (aot->unit_count && tcache_map_code(file, 0) != TCACHE_OK)
		return err_set(err, "%s", tcache_error(file));
	aot->code = (u32)(aot->place->code_address - LIVE_CODE_ADDRESS);
	aot->code_size = aot->unit_count ? tcache_code_size(file) : 0;
	if (tcache_map_cells(file, 0) != TCACHE_OK)
		return err_set(err, "%s", tcache_error(file));
	aot->cells = (u64 *)aot->place->cells_address;
	aot->cells_size = tcache_cells_size(file);
	return 0;
}

int aot_open(struct live *live, const char *path, bool trust, struct err *err)
{
	struct aot *aot;
	char error[512];

	if (live->aot_count == AOT_MAX)
		return err_set(err, "cache '%s': at most %d caches can be used", path, AOT_MAX);
	aot = calloc(1, sizeof(*aot));
	if (!aot)
		return err_set(err, "out of memory");
	if (tcache_open(path, trust ? TCACHE_TRUST : 0, &aot->file, error, sizeof(error)) != TCACHE_OK) {
		free(aot);
		return err_set(err, "%s", error);
	}
	tcache_verify_ahead(aot->file, TCACHE_TYPE_kernel); /* wanted when the kernel is loaded */
	if (map_all(live, aot, err) < 0) {
		aot_close(aot);
		return -1;
	}
	if (aot_modules_add(live, aot->file) < 0) {
		aot_close(aot);
		return err_set(err, "out of memory");
	}
	aot->id = (u8)live->aot_count;
	live->aot_templates[aot->id] = aot_templates_create(aot->file);
	live->aot[live->aot_count++] = aot;
	return 0;
}

void aot_close(struct aot *aot)
{
	if (!aot)
		return;
	if (aot->code_size)
		munmap((void *)aot->place->code_address, aot->code_size);
	if (aot->cells_size)
		munmap(aot->cells, aot->cells_size);
	if (aot->decoded)
		munmap(aot->decoded, aot->decoded_size);
	tcache_close(aot->file);
	free(aot->bindings);
	aot_index_destroy(aot->index);
	free(aot->code_starts);
	free(aot->link_starts);
	free(aot);
}

u64 aot_units(const struct live *live)
{
	u64 count = 0;

	for (unsigned i = 0; i < live->aot_count; i++)
		count += live->aot[i]->unit_count;
	return count;
}

u64 aot_template_count(const struct live *live)
{
	u64 count = 0;

	for (unsigned i = 0; i < live->aot_count; i++)
		count += aot_templates_count(live->aot_templates[i]);
	return count;
}

void aot_number_targets(struct live *live)
{
	for (unsigned i = 0; i < live->aot_count; i++) {
		const struct aot *aot = live->aot[i];
		const u64 *pcs = tcache_targets(aot->file, 0, aot->target_count);

		for (u32 n = 0; pcs && n < aot->target_count; n++)
			store_set_target(&live->store, aot->place->first_target + n, pcs[n]);
	}
}

/* Says so if the cache was made for kernels, and this is none of them. */
static void check_kernel(struct tcache *file, const u8 digest[TCACHE_DIGEST_SIZE])
{
	u64 count = tcache_images_count(file);
	const struct tcache_image *images = tcache_images(file, 0, count), *other = NULL;

	for (u64 i = 0; images && i < count; i++) {
		if (images[i].kind != TCACHE_IMAGE_KERNEL)
			continue;
		if (!memcmp(images[i].digest, digest, TCACHE_DIGEST_SIZE))
			return;
		other = &images[i];
	}
	if (other)
		warn("'%s' was made for another kernel, '%s': only code that is the same in both is used",
		     tcache_name(file), tcache_string(file, other->name) ?: "");
}

const u8 *aot_unpacked(const struct live *live, const u8 *file, u64 size, u64 *unpacked_size)
{
	u8 digest[TCACHE_DIGEST_SIZE];
	const void *data;

	tcache_image_digest(file, size, digest);
	for (unsigned i = 0; i < live->aot_count; i++)
		check_kernel(live->aot[i]->file, digest);
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (tcache_unpacked(live->aot[i]->file, digest, &data, unpacked_size) == TCACHE_OK)
			return data;
	}
	return NULL;
}

u64 aot_map_unpacked(const struct live *live, const u8 *data, u64 size, u8 *to)
{
	size = PAGE_BASE(size);
	if (!size || PAGE_OFFSET((u64)to))
		return 0;
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (tcache_map_copy(live->aot[i]->file, data, size, to) == TCACHE_OK)
			return size;
	}
	return 0;
}

void aot_forget_unpacked(const struct live *live)
{
	for (unsigned i = 0; i < live->aot_count; i++) {
		u32 chunk = tcache_find(live->aot[i]->file, TCACHE_TYPE_kernel);

		if (chunk != TCACHE_NO_CHUNK)
			tcache_forget(live->aot[i]->file, chunk);
	}
}

/* --- what running code needs ------------------------------------------------------------------------------------- */

static struct aot *owner(const struct live *live, u32 offset)
{
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (offset - live->aot[i]->code < live->aot[i]->code_size)
			return live->aot[i];
	}
	return NULL;
}

bool aot_owns(const struct live *live, u32 offset)
{
	return owner(live, offset) != NULL;
}

/* How many of the ascending numbers are not above this one. */
static u32 count_to(const u32 *numbers, u32 count, u32 last)
{
	u32 low = 0, high = count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (numbers[middle] <= last)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The cache's unit whose code the offset (from the cache's code) lies in. */
static bool find_unit(const struct aot *aot, u32 offset, u32 *number)
{
	u32 count = count_to(aot->code_starts, aot->unit_count, offset);

	if (count == 0)
		return false;
	*number = aot->by_code[count - 1];
	return offset - aot->units[*number].code_offset < aot->units[*number].code_length;
}

/* The unit's last pc entry at or before the offset from its first byte; NULL if there is none. */
static const struct pc_entry *entry_before(const struct aot *aot, u32 number, u32 offset)
{
	const struct tcache_unit *unit = &aot->units[number];
	const struct tcache_pc *pcs = aot->host_pcs + unit->pc_first;
	u32 first = 0, last = unit->pc_count;

	while (first < last) {
		u32 middle = first + (last - first) / 2;

		if (pcs[middle].code <= offset)
			first = middle + 1;
		else
			last = middle;
	}
	return first ? (const struct pc_entry *)&pcs[first - 1] : NULL;
}

bool aot_find_pc(const struct live *live, u32 offset, const struct unit **found, const struct pc_entry **entry)
{
	const struct aot *aot = owner(live, offset);
	u32 number;

	offset -= aot->code;
	if (!find_unit(aot, offset, &number) || aot->bindings[number].unit == UNIT_NONE)
		return false;
	*found = &live->store.units[aot->bindings[number].unit];
	*entry = entry_before(aot, number, offset - aot->units[number].code_offset);
	return true;
}

bool aot_find_copied_pc(const struct live *live, u32 offset, const struct unit **found, const struct pc_entry **entry)
{
	const struct unit *units = live->store.units;
	u32 low = 0, high = live->copied_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (units[live->copied[middle]].code_end <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == live->copied_count || offset < units[live->copied[low]].code)
		return false;
	*found = &units[live->copied[low]];
	*entry = entry_before(live->aot[(*found)->cache_id], (*found)->cached - 1, offset - (*found)->code);
	return true;
}

static struct aot *link_owner(const struct live *live, u32 number)
{
	for (unsigned i = 0; i < live->aot_count; i++) {
		if (number - live->aot[i]->place->first_link < live->aot[i]->link_count)
			return live->aot[i];
	}
	return NULL;
}

/* The cache's unit that the link (counted from its first one) belongs to. */
static u32 find_by_link(const struct aot *aot, u32 link)
{
	u32 count = count_to(aot->link_starts, aot->unit_count, link);

	return aot->by_code[count ? count - 1 : 0];
}

struct link aot_link(const struct live *live, u32 number)
{
	const struct aot *aot = link_owner(live, number);

	if (!aot)
		BUG("a cache's code left by link %#x, which it does not have", number);
	number -= aot->place->first_link;

	u32 from = find_by_link(aot, number);

	return (struct link){
		.unit = aot->bindings[from].bound ? aot->bindings[from].unit : UNIT_NONE,
		.target = aot->units[from].pc + (u64)(s64)aot->links[number].target,
		.saved = aot->links[number].flags & TCACHE_LINK_SAVED,
	};
}

void aot_set_link(struct live *live, u32 number, u64 host)
{
	struct aot *aot = link_owner(live, number);

	number -= aot->place->first_link;
	aot->cells[number] = host;
	aot->bindings[find_by_link(aot, number)].dirty = true;
}

bool aot_decode(struct vcpu *v, const struct insn *insn)
{
	struct live *live = v->vm->live;

	for (unsigned i = 0; i < live->aot_count; i++) {
		struct aot *aot = live->aot[i];
		u64 offset = (u64)insn - (u64)aot->decoded;

		if (offset >= aot->decoded_size)
			continue;
		u32 number = (u32)(offset / sizeof(*insn));

		vcpu_fpu_put(v);

		const struct tcache_insn *bytes = tcache_insns(aot->file, number, 1);

		bool good = bytes && insn_decode(&aot->decoded[number], bytes->bytes, bytes->length) == 0;

		/* its bytes have their digest: whoever made the file meant it so */
		if (!good) {
			char text[200];

			snprintf(text, sizeof(text), "instruction %u of cache '%.100s' is none", number,
				 tcache_name(aot->file));
			vm_stop_message(v->vm, EXIT_ERROR, text);
		}
		vcpu_fpu_get(v);
		return good;
	}
	BUG("an instruction record at %p, where there is none", (const void *)insn);
}
