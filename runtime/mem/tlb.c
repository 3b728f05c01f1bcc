/* The software TLB: looking up and filling. Flushing is in flush.c. */
#include "mem/walk.h"

#include "vm.h"

void vcpu_update_view(struct vcpu *v)
{
	v->view = slot_view(&v->vm->mmu, v->slot, mmu_view_kind(v, 0));
	if (UNLIKELY(v->view->target_miss != v->vm->mmu.target_miss))
		view_fill_targets(v->view, v->vm->mmu.target_miss);
	__asm__ volatile("wrgsbase %0" : : "r"(v->view) : "memory");
}

void view_note_large(struct view *view, u64 gva, u64 size_mask)
{
	if ((gva & ~size_mask) < view->large_low)
		view->large_low = gva & ~size_mask;
	if ((gva | size_mask) > view->large_high)
		view->large_high = gva | size_mask;
	if (size_mask > view->large_mask)
		view->large_mask = size_mask;
}

/* Memory near the end of what is ready is used: the loop has somebody make more of it ready. */
static void note_use(struct vcpu *v, u8 *host)
{
	struct ram *ram = &v->vm->ram;

	if (LIKELY((u64)(host - ram->watch) >= ram->watch_length))
		return;
	ram->watch_length = 0;
	ram->ahead_due = true;
	vcpu_notify(v);
}

static void fill(struct vcpu *v, struct view *view, u64 gva, u8 *host, unsigned access, const struct translation *found)
{
	const unsigned index = tlb_index(gva);
	struct tlb_entry *entry = &view->tlb[index];
	const u64 ntag = 0 - PAGE_BASE(gva), addend = (u64)host - gva;
	u8 *frame = ram_frame(&v->vm->ram, host);

	note_use(v, host);
	/* the tags share an addend: all valid ones must be of the same page and the same translation */
	if (entry->addend != addend ||
	    (entry->ntag_read != ntag && tlb_more(entry)->ntag_write != ntag && tlb_more(entry)->ntag_exec != ntag)) {
		entry->ntag_read = tlb_more(entry)->ntag_write = tlb_more(entry)->ntag_exec = tlb_invalid(index);
		entry->addend = addend;
		index_set_add(&view->filled, index);
		index_set_remove(&view->local, index);
		index_set_remove(&view->large, index);
	}
	if (!found->global)
		index_set_add(&view->local, index);
	else if ((s64)gva >= 0)
		view->low_global = true;
	if (found->size_mask >= PAGE_SIZE) {
		index_set_add(&view->large, index);
		view_note_large(view, gva, found->size_mask);
	}
	if (access & ACCESS_EXEC) {
		tlb_more(entry)->ntag_exec = ntag;
		return;
	}
	entry->ntag_read = ntag; /* what may be written may be read */
	if (found->writable && found->dirty && !(*frame & FRAME_CODE)) {
		tlb_more(entry)->ntag_write = ntag;
		mmu_note_writable(v->vm, host, index);
	}
}

enum exec tlb_resolve(struct vcpu *v, u64 gva, unsigned access, struct place *place)
{
	const enum view_kind kind = mmu_view_kind(v, access);
	struct view *view = slot_view(&v->vm->mmu, v->slot, kind);
	const struct tlb_entry *entry = &view->tlb[tlb_index(gva)];
	struct translation found;
	u32 result;

	if (gva + tlb_tag(entry, access) < PAGE_SIZE) {
		place->host = (u8 *)(gva + entry->addend);
		place->gpa = ram_gpa(&v->vm->ram, place->host);
		return EXEC_OK;
	}
	v->vm->stats.tlb_misses++;
	result = mmu_walk(v, v->cr3, gva, kind, access, true, &found);
	if (result != WALK_OK) {
		mmu_walk_fault(v, gva, result);
		return EXEC_FAULT;
	}
	place->gpa = found.gpa;
	place->host = ram_at(&v->vm->ram, found.gpa);
	if (place->host)
		fill(v, view, gva, place->host, access, &found);
	return EXEC_OK;
}

enum exec tlb_probe(struct vcpu *v, u64 gva, unsigned access)
{
	const enum view_kind kind = mmu_view_kind(v, access);
	const struct view *view = slot_view(&v->vm->mmu, v->slot, kind);
	struct translation found;
	u32 result;

	if (gva + tlb_tag(&view->tlb[tlb_index(gva)], access) < PAGE_SIZE)
		return EXEC_OK;
	result = mmu_walk(v, v->cr3, gva, kind, access, false, &found);
	return result == WALK_OK ? EXEC_OK : mmu_walk_fault(v, gva, result);
}

enum exec mmu_translate(struct vcpu *v, u64 gva, unsigned access, u64 *gpa)
{
	struct place place;

	if (tlb_resolve(v, gva, access, &place) != EXEC_OK)
		return EXEC_FAULT;
	*gpa = place.gpa;
	return EXEC_OK;
}

enum exec mmu_fetch(struct vcpu *v, u64 gva, u64 *gpa)
{
	return mmu_translate(v, gva, ACCESS_EXEC, gpa);
}

enum exec mmu_fill(struct vcpu *v, u64 gva, unsigned size, unsigned access, u8 **hva)
{
	struct place place;

	*hva = NULL;
	if (PAGE_OFFSET(gva) + size > PAGE_SIZE)
		return EXEC_OK;
	if (tlb_resolve(v, gva, access, &place) != EXEC_OK)
		return EXEC_FAULT;
	if (place.host && !((access & ACCESS_WRITE) && (*ram_frame(&v->vm->ram, place.host) & FRAME_CODE)))
		*hva = place.host;
	return EXEC_OK;
}
