#include "live/guest_bytes.h"

#include <string.h>

#include "vm.h"

const u8 *guest_bytes(struct vcpu *v, u64 gpa, unsigned length, u8 joined[GUEST_BYTES_MAX], u64 *next)
{
	const struct ram *ram = &v->vm->ram;
	const u8 *bytes = ram_at(ram, gpa), *rest;
	unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(gpa));

	*next = NO_FRAME;
	if (!bytes || length <= in_page)
		return bytes;
	if (length > in_page + PAGE_SIZE || mmu_fetch(v, v->rip + in_page, next) != EXEC_OK)
		return NULL;
	rest = ram_at(ram, *next);
	if (!rest)
		return NULL;
	memcpy(joined, bytes, in_page);
	memcpy(joined + in_page, rest, length - in_page);
	return joined;
}
