/* Reading and writing guest memory, virtual and physical, page by page. */
#include "mem/walk.h"

#include "cpu/observe.h"
#include "util/bytes.h"
#include "vm.h"

/* One access for the usual sizes: devices and other threads see it whole. */
static inline void copy(void *to, const void *from, unsigned length)
{
	switch (length) {
	case 1:
		__builtin_memcpy(to, from, 1);
		break;
	case 2:
		__builtin_memcpy(to, from, 2);
		break;
	case 4:
		__builtin_memcpy(to, from, 4);
		break;
	case 8:
		__builtin_memcpy(to, from, 8);
		break;
	default:
		bytes_copy(to, from, length);
	}
}

/* The largest naturally sized bus access at gpa within `length` bytes. */
static unsigned bus_piece(u64 gpa, unsigned length)
{
	unsigned size = 8;

	while (size > length || gpa % size)
		size /= 2;
	return size;
}

static void mmio_read(struct vcpu *v, u64 gpa, u8 *to, unsigned length)
{
	while (length) {
		const unsigned size = bus_piece(gpa, length);
		const u64 value = bus_read(&v->vm->mmio, gpa, size);

		v->vm->stats.mmio_accesses++;
		copy(to, &value, size);
		to += size;
		gpa += size;
		length -= size;
	}
}

static void mmio_write(struct vcpu *v, u64 gpa, const u8 *from, unsigned length)
{
	while (length) {
		const unsigned size = bus_piece(gpa, length);
		u64 value = 0;

		v->vm->stats.mmio_accesses++;
		copy(&value, from, size);
		bus_write(&v->vm->mmio, gpa, size, value);
		from += size;
		gpa += size;
		length -= size;
	}
}

/* Bytes of [address, address + length) that lie in the first page. */
static inline u64 in_page(u64 address, u64 length)
{
	const u64 rest = PAGE_SIZE - PAGE_OFFSET(address);

	return length < rest ? length : rest;
}

/* Records the fault of the first page that the access may not touch; leaving canonical space comes before all. */
static enum exec probe_all(struct vcpu *v, u64 gva, unsigned length, unsigned access)
{
	if (!vcpu_canonical(gva + length - 1))
		return vcpu_raise_error(v, VEC_GP, 0);
	while (length) {
		const unsigned size = (unsigned)in_page(gva, length);

		if (tlb_probe(v, gva, access) != EXEC_OK)
			return EXEC_FAULT;
		gva += size;
		length -= size;
	}
	return EXEC_OK;
}

static enum exec read_slow(struct vcpu *v, u64 gva, u8 *to, unsigned length, unsigned access)
{
	/* a device must not see the first half of a read whose second half faults */
	if (in_page(gva, length) < length && probe_all(v, gva, length, access) != EXEC_OK)
		return EXEC_FAULT;
	while (length) {
		const unsigned size = (unsigned)in_page(gva, length);
		struct place place;

		if (tlb_resolve(v, gva, access, &place) != EXEC_OK)
			return EXEC_FAULT;
		if (place.host)
			copy(to, place.host, size);
		else
			mmio_read(v, place.gpa, to, size);
		to += size;
		gva += size;
		length -= size;
	}
	return EXEC_OK;
}

static enum exec write_slow(struct vcpu *v, u64 gva, const u8 *from, unsigned length, unsigned access)
{
	if (in_page(gva, length) < length && probe_all(v, gva, length, access) != EXEC_OK)
		return EXEC_FAULT;
	while (length) {
		const unsigned size = (unsigned)in_page(gva, length);
		struct place place;

		/* fails after the probe only if the guest is overwriting the very page tables in use */
		if (tlb_resolve(v, gva, access, &place) != EXEC_OK)
			return EXEC_FAULT;
		if (place.host) {
			if (*ram_frame(&v->vm->ram, place.host) & FRAME_CODE)
				smc_write(v, place.gpa, size);
			copy(place.host, from, size);
		} else {
			mmio_write(v, place.gpa, from, size);
		}
		from += size;
		gva += size;
		length -= size;
	}
	return EXEC_OK;
}

/* The host address of an access that hits in the TLB with all of its bytes, else NULL. */
static inline u8 *hit(struct vcpu *v, u64 gva, unsigned length, unsigned access)
{
	struct view *view = slot_view(&v->vm->mmu, v->slot, mmu_view_kind(v, access));
	const struct tlb_entry *entry = &view->tlb[tlb_index(gva)];
	const u64 offset = gva + tlb_tag(entry, access);

	return offset < PAGE_SIZE && length <= PAGE_SIZE - offset ? (u8 *)(gva + entry->addend) : NULL;
}

enum exec mem_read(struct vcpu *v, u64 gva, void *buffer, unsigned length, unsigned access)
{
	/* a read before a write of the same data asks for the permission only */
	if (UNLIKELY(v->observe) && observe_access(v, gva, length, access & ~ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	const u8 *host = hit(v, gva, length, access);

	if (UNLIKELY(!host))
		return read_slow(v, gva, buffer, length, access);
	copy(buffer, host, length);
	return EXEC_OK;
}

enum exec mem_write(struct vcpu *v, u64 gva, const void *buffer, unsigned length, unsigned access)
{
	if (UNLIKELY(v->observe) && observe_access(v, gva, length, access | ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	u8 *host = hit(v, gva, length, access | ACCESS_WRITE);

	if (UNLIKELY(!host))
		return write_slow(v, gva, buffer, length, access | ACCESS_WRITE);
	copy(host, buffer, length);
	return EXEC_OK;
}

void ram_written(struct vm *vm, const u8 *hva, u64 length)
{
	while (length) {
		const u64 size = in_page((u64)(uintptr_t)hva, length); /* RAM begins at a page of the host's */

		if (UNLIKELY(*ram_frame(&vm->ram, hva) & FRAME_CODE))
			smc_write(vm->vcpu, ram_gpa(&vm->ram, hva), (unsigned)size);
		hva += size;
		length -= size;
	}
}

int phys_read(struct vm *vm, u64 gpa, void *buffer, u64 length)
{
	const u8 *host = ram_range(&vm->ram, gpa, length);

	if (!host)
		return length ? -1 : 0;
	bytes_copy(buffer, host, length);
	return 0;
}

int phys_write(struct vm *vm, u64 gpa, const void *buffer, u64 length)
{
	const u8 *from = buffer;
	u8 *host = ram_range(&vm->ram, gpa, length);

	if (!host)
		return length ? -1 : 0;
	while (length) {
		const u64 size = in_page(gpa, length);

		if (UNLIKELY(*ram_frame(&vm->ram, host) & FRAME_CODE))
			smc_write(vm->vcpu, gpa, (unsigned)size);
		bytes_copy(host, from, size);
		host += size;
		from += size;
		gpa += size;
		length -= size;
	}
	return 0;
}
