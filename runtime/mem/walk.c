/* The walk of 4-level page tables (SDM vol. 3A, 4.5 to 4.8). */
#include "mem/walk.h"

#include "vm.h"

#define PTE_P        BIT(0)
#define PTE_RW       BIT(1)
#define PTE_US       BIT(2)
#define PTE_A        BIT(5)
#define PTE_D        BIT(6)
#define PTE_PS       BIT(7)
#define PTE_G        BIT(8)
#define PTE_NX       BIT(63)
#define PTE_ADDRESS  (BIT(MAXPHYADDR) - PAGE_SIZE)
#define PTE_RESERVED (BIT(52) - BIT(MAXPHYADDR))
#define LARGE_PAT    BIT(12) /* in an entry of a large page the only bit below the address that is not reserved */

static u32 page_fault(const struct vcpu *v, enum view_kind kind, unsigned access, u32 error)
{
	if (access & ACCESS_WRITE)
		error |= PFEC_WRITE;
	if (kind == VIEW_USER)
		error |= PFEC_USER;
	if ((access & ACCESS_EXEC) && ((v->efer & EFER_NXE) || (v->cr4 & CR4_SMEP)))
		error |= PFEC_FETCH;
	return WALK_PF | error;
}

u32 mmu_walk(const struct vcpu *v, u64 cr3, u64 gva, enum view_kind kind, unsigned access, bool commit,
	     struct translation *found)
{
	const struct ram *ram = &v->vm->ram;
	const u64 reserved = v->efer & EFER_NXE ? PTE_RESERVED : PTE_RESERVED | PTE_NX;
	u64 table = cr3 & PTE_ADDRESS;
	u64 all = ~0ULL, any = 0, entry, mask;
	u64 *at[4];
	unsigned levels = 0;
	unsigned shift = 39;
	bool permitted;

	if (UNLIKELY(!(v->cr0 & CR0_PG))) {
		*found = (struct translation){
			.gpa = gva, .size_mask = PAGE_SIZE - 1, .writable = true, .dirty = true, .accessed = true};
		return WALK_OK;
	}
	if (UNLIKELY(!vcpu_canonical(gva)))
		return WALK_GP;
	for (;; shift -= 9) {
		u64 *slot = (u64 *)ram_at(ram, table + (gva >> shift & 511) * 8);

		/* where there is no RAM the bus reads as ones: present, with reserved bits set */
		entry = LIKELY(slot) ? *slot : ~0ULL;
		at[levels++] = slot;
		if (!(entry & PTE_P))
			return page_fault(v, kind, access, 0);
		if (UNLIKELY(entry & reserved))
			return page_fault(v, kind, access, PFEC_P | PFEC_RESERVED);
		all &= entry;
		any |= entry;
		mask = BIT(shift) - 1;
		if (shift == PAGE_SHIFT)
			break;
		if (entry & PTE_PS) {
			if (UNLIKELY(shift == 39 || (entry & mask & PTE_ADDRESS & ~LARGE_PAT)))
				return page_fault(v, kind, access, PFEC_P | PFEC_RESERVED);
			break;
		}
		table = entry & PTE_ADDRESS;
	}

	found->writable = all & PTE_RW;
	if (kind == VIEW_USER) {
		permitted = all & PTE_US;
	} else {
		if (!(v->cr0 & CR0_WP))
			found->writable = true;
		if (!(all & PTE_US))
			permitted = true;
		else if (access & ACCESS_EXEC)
			permitted = !(v->cr4 & CR4_SMEP);
		else
			permitted = kind == VIEW_KERNEL_AC || !(v->cr4 & CR4_SMAP);
	}
	if ((access & ACCESS_WRITE) && !found->writable)
		permitted = false;
	if ((access & ACCESS_EXEC) && (any & PTE_NX))
		permitted = false;
	if (!permitted)
		return page_fault(v, kind, access, PFEC_P);

	if (commit) {
		if (UNLIKELY(!(all & PTE_A)))
			for (unsigned i = 0; i < levels; i++)
				*at[i] |= PTE_A;
		if ((access & ACCESS_WRITE) && !(entry & PTE_D)) {
			*at[levels - 1] |= PTE_D;
			entry |= PTE_D;
		}
	}
	found->gpa = (entry & PTE_ADDRESS & ~mask) | (gva & mask);
	found->size_mask = mask;
	found->dirty = entry & PTE_D;
	found->accessed = all & PTE_A;
	found->global = (entry & PTE_G) && (v->cr4 & CR4_PGE);
	return WALK_OK;
}

enum exec mmu_walk_fault(struct vcpu *v, u64 gva, u32 result)
{
	if (result == WALK_GP)
		return vcpu_raise_error(v, VEC_GP, 0);
	v->fault = (struct fault){.vector = VEC_PF, .has_error = true, .error = result & ~WALK_PF, .cr2 = gva};
	return EXEC_FAULT;
}

bool mmu_peek(struct vcpu *v, u64 gva, u64 *gpa)
{
	struct translation found;

	/* the kernel with AC set may read whatever is mapped */
	if (mmu_walk(v, v->cr3, gva, VIEW_KERNEL_AC, ACCESS_READ, false, &found) != WALK_OK)
		return false;
	*gpa = found.gpa;
	return true;
}
