/* Inside of mem/: the page walk, and the resolution of one page through the TLB. */
#ifndef AVANT_MEM_WALK_H
#define AVANT_MEM_WALK_H

#include "mem/mem.h"

/* What a walk found, apart from faults. */
struct translation {
	u64 gpa;
	u64 size_mask; /* size of the page - 1 */
	bool writable; /* in this view; D aside */
	bool dirty;
	bool accessed; /* in all levels */
	bool global;
};

/* The result of a walk: WALK_OK, WALK_GP, or WALK_PF with the error code of the page fault. */
#define WALK_OK 0u
#define WALK_GP 0x40000000u
#define WALK_PF 0x80000000u

/*
 * Translates gva with the tables at cr3 as the view `kind` sees it. `commit`: sets A and D bits if the access succeeds;
 * otherwise nothing is changed. Never records a fault.
 */
u32 mmu_walk(const struct vcpu *v, u64 cr3, u64 gva, enum view_kind kind, unsigned access, bool commit,
	     struct translation *found);

/* Records the fault that the result of a walk stands for. Returns EXEC_FAULT. */
enum exec mmu_walk_fault(struct vcpu *v, u64 gva, u32 result);

/* Where one access that stays in a page goes. */
struct place {
	u8 *host; /* NULL: not RAM */
	u64 gpa;
};

/* Translates through the TLB, else by a walk that fills it. EXEC_FAULT with the fault recorded. */
enum exec tlb_resolve(struct vcpu *v, u64 gva, unsigned access, struct place *place);

/* The view has something of the large page that gva is in, size_mask + 1 bytes. */
void view_note_large(struct view *view, u64 gva, u64 size_mask);

/* Would the access succeed? Records the fault if not; changes nothing else. */
enum exec tlb_probe(struct vcpu *v, u64 gva, unsigned access);

/* The entry at `index` of some TLB lets the frame at `host` be written: for mmu_protect_frame(). */
void mmu_note_writable(struct vm *vm, const u8 *host, unsigned index);
/* Would mmu_protect_frame() look at entries with this index? */
bool mmu_is_noted(const struct ram *ram, const u8 *host, unsigned index);

/* Empties the view's cells, if they may hold anything. */
void view_clear_cells(struct view *view);

/* Runs the statement for each view whose TLB may hold anything. Slots that are not in use are empty, as are those of
 * parked spaces. */
#define FOR_EACH_VIEW(mmu, view)                                                                                       \
	for (unsigned n_ = 0; n_ < TLB_SLOTS * VIEW_KINDS; n_++)                                                       \
		if ((mmu)->slots[n_ / VIEW_KINDS].used)                                                                \
			for (struct view *view = slot_view(mmu, n_ / VIEW_KINDS, n_ % VIEW_KINDS); view; view = NULL)

static inline u64 tlb_invalid(unsigned index)
{
	return index ? 0 : TLB_INVALID_0;
}

/* The tag that decides about an access. */
static inline u64 tlb_tag(const struct tlb_entry *entry, unsigned access)
{
	return access & ACCESS_EXEC    ? tlb_more(entry)->ntag_exec
	       : access & ACCESS_WRITE ? tlb_more(entry)->ntag_write
				       : entry->ntag_read;
}

/* The flags of the frame that a host address in RAM belongs to. */
static inline u8 *ram_frame(const struct ram *ram, const u8 *host)
{
	return ram->frames + ((u64)(host - ram->host) >> PAGE_SHIFT);
}

#endif
