/*
 * Slots and flushing. A slot holds what was translated under one PCID; global pages may be in all of them. Flushes go
 * by the sets of what is filled, because Linux loads CR3 thousands of times with next to nothing in the slot.
 */
#include "mem/walk.h"

#include "util/err.h"
#include "vm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define KERNEL_VIEWS 2 /* of a slot */
#define VIEWS        (TLB_SPACES + TLB_SLOTS * KERNEL_VIEWS)
#define VIEWS_SIZE   (sizeof(struct view) * VIEWS)

_Static_assert(TLB_BITS >= 12 && JUMP_BITS >= 12, "an index_set has whole summary words");

/* Runs the statement for each view that has a jump table of its own: views of kernel code share theirs. */
#define FOR_EACH_JUMPS(mmu, view)                                                                                      \
	for (unsigned n_ = 0; n_ <= TLB_SPACES; n_++)                                                                  \
		for (struct view *view = &(mmu)->views[n_]; view; view = NULL)

/* Runs the statement for each word of the set that is not 0, with its number in `w`. */
#define FOR_EACH_WORD(set, w)                                                                                          \
	for (unsigned s_ = 0, w = 0; s_ < ARRAY_SIZE((set)->summary); s_++)                                            \
		for (u64 m_ = (set)->summary[s_]; m_ && (w = s_ * 64 + (unsigned)__builtin_ctzll(m_), true);           \
		     m_ &= m_ - 1)

/* Runs the statement for each index in a word `bits`, number `w`, of a set. */
#define FOR_EACH_INDEX(bits, w, i)                                                                                     \
	for (u64 b_ = (bits), i = 0; b_ && (i = (w)*64 + (unsigned)__builtin_ctzll(b_), true); b_ &= b_ - 1)

#define set_clear_summary(set)                                                                                         \
	do {                                                                                                           \
		for (unsigned i_ = 0; i_ < ARRAY_SIZE((set)->summary); i_++)                                           \
			(set)->summary[i_] = 0;                                                                        \
	} while (0)

static void set_clear(struct index_set *set)
{
	FOR_EACH_WORD (set, w)
		set->word[w] = 0;
	set_clear_summary(set);
}

static bool set_empty(const struct index_set *set)
{
	FOR_EACH_WORD (set, w)
		if (set->word[w])
			return false;
	return true;
}

static bool jumps_empty(const struct view *view)
{
	FOR_EACH_WORD (&view->targets, w)
		if (view->targets.word[w])
			return false;
	FOR_EACH_WORD (&view->jumps, w)
		if (view->jumps.word[w])
			return false;
	return true;
}

static void entry_invalidate(struct view *view, unsigned index)
{
	struct tlb_entry *entry = &view->tlb[index];

	entry->ntag_read = tlb_more(entry)->ntag_write = tlb_more(entry)->ntag_exec = tlb_invalid(index);
}

static void entry_drop(struct view *view, unsigned index)
{
	entry_invalidate(view, index);
	index_set_remove(&view->filled, index);
	index_set_remove(&view->local, index);
	index_set_remove(&view->large, index);
}

/* The page that a filled entry is for. */
static u64 entry_page(const struct tlb_entry *entry, unsigned index)
{
	const u64 invalid = tlb_invalid(index);

	if (entry->ntag_read != invalid)
		return 0 - entry->ntag_read;
	return 0 - (tlb_more(entry)->ntag_exec != invalid ? tlb_more(entry)->ntag_exec : tlb_more(entry)->ntag_write);
}

static void view_no_large(struct view *view)
{
	view->large_low = ~0ULL;
	view->large_high = 0;
	view->large_mask = 0;
}

/* Each table is another line to load, of a memory that nobody has near: jump_pc and target_pc stay as they are. */
static void jump_drop(struct view *view, unsigned i)
{
	view->jump[i] = 0;
	view->pair[i] = (struct jump_pair){jump_pair_empty(i), NULL};
}

static void target_drop(struct view *view, unsigned i)
{
	view->target[i] = view->target_miss;
}

static void view_forget_bases(struct view *view)
{
	struct bases *bases = view->bases;

	if (!bases || ++bases->generation[view->base_index] < PAGE_SIZE)
		return;
	for (unsigned i = 0; i < view->bases_used; i++)
		bases->taken[i][view->base_index] = 0;
	view->bases_used = 0;
	bases->generation[view->base_index] = 1;
}

static void view_clear_jumps(struct view *view)
{
	FOR_EACH_WORD (&view->targets, w) {
		FOR_EACH_INDEX (view->targets.word[w], w, i)
			target_drop(view, i);
		view->targets.word[w] = 0;
	}
	set_clear_summary(&view->targets);
	FOR_EACH_WORD (&view->jumps, w) {
		FOR_EACH_INDEX (view->jumps.word[w], w, i)
			jump_drop(view, i);
		view->jumps.word[w] = 0;
	}
	set_clear_summary(&view->jumps);
	set_clear(&view->jump_pages);
	view->jumps_local = view->jumps_low = false;
	view_forget_bases(view);
}

/* Cells hold what the TLB held once: they must not outlive any flush. Generated code fills them, and says so. */
void view_clear_cells(struct view *view)
{
	if (!view->cells_used)
		return;
	for (unsigned i = 0; i < TLB_CELLS; i++)
		view->cell[i] = (struct tlb_cell){TLB_CELL_EMPTY, 0};
	view->cells_used = false;
}

/* Drops everything that the TLB holds. */
static void view_clear_tlb(struct view *view)
{
	view_clear_cells(view);
	FOR_EACH_WORD (&view->filled, w) {
		FOR_EACH_INDEX (view->filled.word[w], w, i)
			entry_invalidate(view, i);
		view->filled.word[w] = 0;
	}
	set_clear_summary(&view->filled);
	set_clear(&view->local);
	set_clear(&view->large);
}

static void view_clear(struct view *view)
{
	view_clear_tlb(view);
	view_clear_jumps(view);
	view_no_large(view);
	view->low_global = false;
}

/* Drops what the TLB holds that is not global. */
static void view_clear_local_tlb(struct view *view)
{
	view_clear_cells(view);
	FOR_EACH_WORD (&view->local, w) {
		const u64 bits = view->local.word[w];

		FOR_EACH_INDEX (bits, w, i)
			entry_invalidate(view, i);
		view->filled.word[w] &= ~bits;
		view->large.word[w] &= ~bits;
		view->local.word[w] = 0;
	}
	set_clear_summary(&view->local);
}

/* Jump entries outlive the TLB entries that they were made with, and their large pages still count. */
static void view_forget_large(struct view *view)
{
	if (view->large_mask && set_empty(&view->large) && jumps_empty(view))
		view_no_large(view);
}

/* Drops what is not global. */
static void view_clear_local(struct view *view)
{
	view_clear_local_tlb(view);
	if (view->jumps_local)
		view_clear_jumps(view);
	view_forget_large(view);
}

/* Is the page of jump entries still what it was, in the address space of cr3? A look-up would set A, this does not. */
static bool page_stays(const struct vcpu *v, struct view *view, u64 cr3, unsigned index)
{
	const struct jump_page *note = &view->jump_page[index];
	struct translation found;

	if (note->page == JUMP_PAGE_MIXED || tlb_index(note->page) != index || (s64)note->page < 0 ||
	    mmu_walk(v, cr3, note->page, VIEW_USER, ACCESS_EXEC, false, &found) != WALK_OK || !found.accessed ||
	    (u64)ram_at(&v->vm->ram, found.gpa) - note->page != note->addend)
		return false;
	if (found.size_mask >= PAGE_SIZE)
		view_note_large(view, note->page, found.size_mask);
	return true;
}

/* Drops the jump entries for pages in the set, and for the page before each of them: see view_flush_page_jumps(). */
static void view_drop_pages(struct view *view, const struct index_set *pages)
{
	FOR_EACH_WORD (&view->jumps, w)
		FOR_EACH_INDEX (view->jumps.word[w], w, i) {
			const unsigned page = tlb_index(view->jump_pc[i]);

			if (index_set_has(pages, page) || index_set_has(pages, (page + 1) % TLB_SIZE)) {
				jump_drop(view, i);
				index_set_remove(&view->jumps, i);
			}
		}
	FOR_EACH_WORD (&view->targets, w)
		FOR_EACH_INDEX (view->targets.word[w], w, i) {
			const unsigned page = tlb_index(view->target_pc[i]);

			if (index_set_has(pages, page) || index_set_has(pages, (page + 1) % TLB_SIZE)) {
				target_drop(view, i);
				index_set_remove(&view->targets, i);
			}
		}
	FOR_EACH_WORD (pages, w)
		view->jump_pages.word[w] &= ~pages->word[w];
}

/*
 * The mappings of the space that this view of user code belongs to may have changed, all at once: drops the jump
 * entries for pages that have. Few do, and each entry is a look-up of half a microsecond when it is wanted again.
 */
static void view_check_jumps(const struct vcpu *v, struct view *view, u64 cr3)
{
	struct index_set gone = {0};
	unsigned stay = 0, go = 0;

	FOR_EACH_WORD (&view->jump_pages, w)
		FOR_EACH_INDEX (view->jump_pages.word[w], w, i) {
			if (page_stays(v, view, cr3, i)) {
				stay++;
			} else {
				index_set_add(&gone, i);
				go++;
			}
		}
	if (go > stay) { /* most likely another program; bases are free again as well */
		view->bases->left[view->base_index] = view->bases->generation[view->base_index];
		view_clear_jumps(view);
	} else if (go)
		view_drop_pages(view, &gone);
}

/*
 * Drops the jump entries for the page of gva and for the page before it (whose last instruction may reach into this
 * one), and what cannot be told from them.
 */
static void view_flush_page_jumps(struct view *view, u64 gva)
{
	const unsigned here = tlb_index(gva), before = tlb_index(gva - PAGE_SIZE);

	if (!index_set_has(&view->jump_pages, here) && !index_set_has(&view->jump_pages, before))
		return;
	FOR_EACH_WORD (&view->jumps, w)
		FOR_EACH_INDEX (view->jumps.word[w], w, i) {
			const unsigned page = tlb_index(view->jump_pc[i]);

			if (page == here || page == before) {
				jump_drop(view, i);
				index_set_remove(&view->jumps, i);
			}
		}
	FOR_EACH_WORD (&view->targets, w)
		FOR_EACH_INDEX (view->targets.word[w], w, i) {
			const unsigned page = tlb_index(view->target_pc[i]);

			if (page == here || page == before) {
				target_drop(view, i);
				index_set_remove(&view->targets, i);
			}
		}
	index_set_remove(&view->jump_pages, here);
	index_set_remove(&view->jump_pages, before);
}

/* Drops everything in the large page that gva may be in. */
static void view_flush_large(struct view *view, u64 gva)
{
	const u64 mask = view->large_mask, base = gva & ~mask;

	FOR_EACH_WORD (&view->large, w)
		FOR_EACH_INDEX (view->large.word[w], w, i)
			if ((entry_page(&view->tlb[i], i) & ~mask) == base)
				entry_drop(view, i);
	FOR_EACH_WORD (&view->jumps, w)
		FOR_EACH_INDEX (view->jumps.word[w], w, i)
			if (view->jump_pc[i] - (base - PAGE_SIZE) <= PAGE_SIZE + mask) {
				jump_drop(view, i);
				index_set_remove(&view->jumps, i);
			}
	FOR_EACH_WORD (&view->targets, w)
		FOR_EACH_INDEX (view->targets.word[w], w, i)
			if (view->target_pc[i] - (base - PAGE_SIZE) <= PAGE_SIZE + mask) {
				target_drop(view, i);
				index_set_remove(&view->targets, i);
			}
}

static void view_flush_page(struct view *view, u64 gva)
{
	const unsigned index = tlb_index(gva);
	const struct tlb_entry *entry = &view->tlb[index];
	const u64 ntag = 0 - PAGE_BASE(gva);

	view_clear_cells(view);
	if (entry->ntag_read == ntag || tlb_more(entry)->ntag_write == ntag || tlb_more(entry)->ntag_exec == ntag)
		entry_drop(view, index);
	if (gva >= view->large_low && gva <= view->large_high)
		view_flush_large(view, gva);
	view_flush_page_jumps(view, gva);
}

/* Does kernel code of pages that are not global run in this slot? (VIEW_KERNEL_AC shares what is asked for.) */
static bool slot_kernel_local(const struct slot *slot)
{
	return slot->kernel->jumps_local;
}

/* Predicted returns are a kind of jump entry that is not in a table: they go where local entries go. */
static void slot_clear_local(struct vcpu *v, struct slot *slot)
{
	v->forget_user = true;
	v->forget_kernel |= slot_kernel_local(slot);
	for (unsigned i = 0; i < KERNEL_VIEWS; i++)
		view_clear_local(slot->kernel + i);
	/* of another slot nobody knows what its tables will say when it is loaded */
	if (slot != &v->vm->mmu.slots[v->slot]) {
		view_clear_local(slot->space->view);
		return;
	}
	view_clear_local_tlb(slot->space->view);
	view_check_jumps(v, slot->space->view, v->cr3);
	view_forget_large(slot->space->view);
}

static void slot_flush_page(struct vcpu *v, struct slot *slot, u64 gva)
{
	v->forget_user = true;
	/* pages of the lower half are the user's, unless the kernel has run code there */
	v->forget_kernel |= (s64)gva < 0 || slot->kernel->jumps_low;
	view_flush_page(slot->space->view, gva);
	for (unsigned i = 0; i < KERNEL_VIEWS; i++)
		view_flush_page(slot->kernel + i, gva);
}

/* May the slot hold this page as a global one? In the lower half of the address space kernels have none. */
static bool may_be_global(const struct slot *slot, u64 gva)
{
	bool low = slot->space->view->low_global;

	for (unsigned i = 0; i < KERNEL_VIEWS; i++)
		low |= slot->kernel[i].low_global;
	return low || (s64)gva < 0;
}

static u64 space_table(u64 cr3)
{
	return cr3 & (BIT(MAXPHYADDR) - PAGE_SIZE);
}

/* A space for the address space of this page table: the one that had it when it was parked, else the oldest. */
static struct space *space_for(struct mmu *mmu, u64 table)
{
	struct space *victim = NULL;

	for (unsigned i = 0; i < TLB_SPACES; i++) {
		struct space *space = &mmu->spaces[i];

		if (!space->parked)
			continue;
		if (space->table == table)
			return space;
		if (!victim || space->last_use < victim->last_use)
			victim = space;
	}
	return victim; /* there are more spaces than slots */
}

/* The slot gets another address space, by a load of CR3 that keeps nothing. */
static void slot_change_space(struct mmu *mmu, struct slot *slot, u64 table)
{
	struct space *space = slot->space;

	if (space->table == table)
		return;
	/* its TLB is as empty as it must be now, wherever it goes */
	view_clear_tlb(space->view);
	space->parked = true;
	space->last_use = ++mmu->use_clock;
	space = space_for(mmu, table);
	space->parked = false;
	if (space->table != table)
		view_clear(space->view);
	space->table = table;
	slot->space = space;
}

static u64 current_pcid(const struct vcpu *v)
{
	return v->cr4 & CR4_PCIDE ? v->cr3 & 0xfff : 0;
}

static struct slot *slot_find(struct mmu *mmu, u64 pcid)
{
	for (unsigned i = 0; i < TLB_SLOTS; i++)
		if (mmu->slots[i].used && mmu->slots[i].pcid == pcid)
			return &mmu->slots[i];
	return NULL;
}

/* A slot to give to another PCID: a free one, else the one not loaded for the longest time. */
static struct slot *slot_victim(struct mmu *mmu)
{
	struct slot *victim = &mmu->slots[0];

	for (unsigned i = 0; i < TLB_SLOTS; i++) {
		if (!mmu->slots[i].used)
			return &mmu->slots[i];
		if (mmu->slots[i].last_use < victim->last_use)
			victim = &mmu->slots[i];
	}
	return victim;
}

/* The views of kernel code share their jumps (struct view). */
static int share_jumps(struct mmu *mmu)
{
	void *first = mmu->views[TLB_SPACES].jump;

	if (mmap(first, VIEW_SHARED_SIZE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -1;
	/* an old size of 0 duplicates a shared mapping (mremap(2)) */
	for (unsigned i = TLB_SPACES + 1; i < VIEWS; i++)
		if (mremap(first, 0, VIEW_SHARED_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, mmu->views[i].jump) == MAP_FAILED)
			return -1;
	return 0;
}

int mmu_init(struct mmu *mmu, struct err *err)
{
	void *at = mmap(NULL, VIEWS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	*mmu = (struct mmu){0};
	if (at == MAP_FAILED)
		return err_set(err, "cannot map %zu KiB for TLBs: %s", VIEWS_SIZE >> 10, strerror(errno));
	mmu->views = at;
	at = mmap(NULL, sizeof(*mmu->bases), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		  0);
	if (at == MAP_FAILED)
		return err_set(err, "cannot map %zu KiB for TLBs: %s", sizeof(*mmu->bases) >> 10, strerror(errno));
	mmu->bases = at;
	if (share_jumps(mmu) < 0)
		return err_set(err, "cannot map %zu KiB for TLBs: %s", VIEWS_SIZE >> 10, strerror(errno));
	for (unsigned i = 0; i < TLB_SPACES; i++) {
		mmu->spaces[i] = (struct space){.view = mmu->views + i, .table = ~0ULL, .parked = i >= TLB_SLOTS};
		mmu->views[i].bases = mmu->bases;
		mmu->views[i].base_index = i;
		mmu->bases->generation[i] = 1;
	}
	for (unsigned i = 0; i < TLB_SLOTS; i++) {
		mmu->slots[i].space = &mmu->spaces[i];
		mmu->slots[i].kernel = mmu->views + TLB_SPACES + i * KERNEL_VIEWS;
	}
	for (unsigned i = 0; i < VIEWS; i++) {
		entry_invalidate(&mmu->views[i], 0);
		view_no_large(&mmu->views[i]);
		mmu->views[i].pair[0].pc = jump_pair_empty(0);
		mmu->views[i].cells_used = true;
		view_clear_cells(&mmu->views[i]);
	}
	mmu->slots[0].used = true;
	return 0;
}

void mmu_release(struct mmu *mmu)
{
	if (mmu->views)
		munmap(mmu->views, VIEWS_SIZE);
	if (mmu->bases)
		munmap(mmu->bases, sizeof(*mmu->bases));
	*mmu = (struct mmu){0};
}

void view_fill_targets(struct view *view, void *target_miss)
{
	view->target_miss = target_miss;
	for (unsigned i = 0; i < TARGET_SIZE; i++)
		view->target[i] = target_miss;
}

void mmu_set_target_miss(struct mmu *mmu, void *code)
{
	mmu->target_miss = code;
}

void mmu_load_cr3(struct vcpu *v, bool keep)
{
	struct mmu *mmu = &v->vm->mmu;
	const u64 pcid = current_pcid(v);
	struct slot *slot = slot_find(mmu, pcid);

	if (!slot) {
		slot = slot_victim(mmu);
		slot->used = true;
		slot->pcid = pcid;
		keep = false;
	}
	const bool other = slot != &mmu->slots[v->slot];

	v->slot = (unsigned)(slot - mmu->slots);
	if (!keep) {
		slot_change_space(mmu, slot, space_table(v->cr3));
		slot_clear_local(v, slot);
		v->vm->stats.tlb_flushes++;
	}
	v->forget_user = true; /* the other address space's */
	v->forget_kernel |= slot_kernel_local(slot);
	if (other && slot_kernel_local(slot))
		view_clear_jumps(slot->kernel);
	slot->cr3 = v->cr3;
	slot->space->table = space_table(v->cr3);
	slot->last_use = ++mmu->use_clock;
	vcpu_update_view(v);
}

void mmu_flush_page(struct vcpu *v, u64 gva)
{
	struct mmu *mmu = &v->vm->mmu;

	v->vm->stats.tlb_flushes++;
	for (unsigned i = 0; i < TLB_SLOTS; i++)
		if (mmu->slots[i].used && (i == v->slot || may_be_global(&mmu->slots[i], gva)))
			slot_flush_page(v, &mmu->slots[i], gva);
}

void mmu_flush_all(struct vcpu *v)
{
	struct mmu *mmu = &v->vm->mmu;

	v->vm->stats.tlb_flushes++;
	v->forget_user = v->forget_kernel = true;
	for (unsigned i = 0; i < TLB_SPACES; i++)
		view_clear(mmu->spaces[i].view);
	for (unsigned i = 0; i < TLB_SLOTS; i++) {
		struct slot *slot = &mmu->slots[i];

		for (unsigned kind = 0; slot->used && kind < KERNEL_VIEWS; kind++)
			view_clear(slot->kernel + kind);
		slot->used = i == v->slot;
	}
	/* CR4.PCIDE may have changed, and with it what the current PCID is */
	mmu->slots[v->slot].pcid = current_pcid(v);
	mmu->slots[v->slot].cr3 = v->cr3;
	vcpu_update_view(v);
}

void mmu_flush_pcid_page(struct vcpu *v, u64 pcid, u64 gva)
{
	struct slot *slot = slot_find(&v->vm->mmu, pcid);

	v->vm->stats.tlb_flushes++;
	if (slot)
		slot_flush_page(v, slot, gva);
}

void mmu_flush_pcid(struct vcpu *v, u64 pcid)
{
	struct slot *slot = slot_find(&v->vm->mmu, pcid);

	v->vm->stats.tlb_flushes++;
	if (slot)
		slot_clear_local(v, slot);
}

void mmu_flush_non_global(struct vcpu *v)
{
	struct mmu *mmu = &v->vm->mmu;

	v->vm->stats.tlb_flushes++;
	for (unsigned i = 0; i < TLB_SLOTS; i++)
		if (mmu->slots[i].used)
			slot_clear_local(v, &mmu->slots[i]);
}

void mmu_drop_jump(struct vcpu *v, u64 pc)
{
	const unsigned i = jump_index(pc);

	FOR_EACH_JUMPS (&v->vm->mmu, view)
		if (index_set_has(&view->jumps, i) && view->jump_pc[i] == pc) {
			jump_drop(view, i);
			index_set_remove(&view->jumps, i);
		}
}

void mmu_drop_target(struct vcpu *v, unsigned n)
{
	FOR_EACH_JUMPS (&v->vm->mmu, view)
		if (index_set_has(&view->targets, n)) {
			target_drop(view, n);
			index_set_remove(&view->targets, n);
		}
}

void mmu_drop_page_jumps(struct vcpu *v, u64 gva)
{
	FOR_EACH_JUMPS (&v->vm->mmu, view)
		view_flush_page_jumps(view, gva);
}

static void view_drop_code(struct view *view, const u8 *code, u32 from, u32 to)
{
	FOR_EACH_WORD (&view->jumps, w)
		FOR_EACH_INDEX (view->jumps.word[w], w, i)
			if (view->jump[i] - from < to - from) {
				jump_drop(view, i);
				index_set_remove(&view->jumps, i);
			}
	FOR_EACH_WORD (&view->targets, w)
		FOR_EACH_INDEX (view->targets.word[w], w, i)
			if ((u64)((const u8 *)view->target[i] - code) - from < to - from) {
				target_drop(view, i);
				index_set_remove(&view->targets, i);
			}
}

void mmu_drop_code(struct vcpu *v, const u8 *code, u32 from, u32 to)
{
	FOR_EACH_JUMPS (&v->vm->mmu, view)
		view_drop_code(view, code, from, to);
}

void mmu_clear_jumps(struct vcpu *v)
{
	FOR_EACH_JUMPS (&v->vm->mmu, view)
		view_clear_jumps(view);
}
