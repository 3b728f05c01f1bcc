/* Compares the TLBs with the guest's page tables: each valid tag must be what a walk of its view gives now. */
#include "mem/walk.h"

#include "util/err.h"
#include "vm.h"

#define REQUIRE(condition, what)                                                                                       \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			BUG("TLB slot %u view %d index %u (page %llx): %s", slot, (int)kind, index,                    \
			    (unsigned long long)page, what);                                                           \
	} while (0)

/* Walks for one tag and compares. */
static void check_tag(struct vm *vm, unsigned slot, enum view_kind kind, unsigned index, u64 page, unsigned access)
{
	const struct view *view = slot_view(&vm->mmu, slot, kind);
	struct translation found = {0};
	const u8 *host = (const u8 *)(page + view->tlb[index].addend);
	u8 frame;

	REQUIRE(tlb_index(page) == index && !PAGE_OFFSET(page), "tag of another index");
	REQUIRE(mmu_walk(vm->vcpu, vm->mmu.slots[slot].cr3, page, kind, access, false, &found) == WALK_OK,
		"the walk faults");
	REQUIRE(host >= vm->ram.host && host < vm->ram.host + vm->ram.size, "not in RAM");
	REQUIRE(ram_at(&vm->ram, found.gpa) == host, "the walk leads elsewhere");
	REQUIRE(found.global || index_set_has(&view->local, index), "taken for global");
	if (found.size_mask >= PAGE_SIZE)
		REQUIRE(index_set_has(&view->large, index) && view->large_mask >= found.size_mask &&
				view->large_low <= (page & ~found.size_mask) &&
				view->large_high >= (page | found.size_mask),
			"not known to be large");
	if (!(access & ACCESS_WRITE))
		return;
	frame = *ram_frame(&vm->ram, host);
	REQUIRE(found.dirty, "writable though not dirty");
	REQUIRE(!(frame & FRAME_CODE), "code page writable");
	REQUIRE(mmu_is_noted(&vm->ram, host, index), "write permission not noted");
}

static void check_entry(struct vm *vm, unsigned slot, enum view_kind kind, unsigned index)
{
	const struct view *view = slot_view(&vm->mmu, slot, kind);
	const struct tlb_entry *entry = &view->tlb[index];
	const u64 invalid = tlb_invalid(index);
	const bool valid = entry->ntag_read != invalid || tlb_more(entry)->ntag_write != invalid ||
			   tlb_more(entry)->ntag_exec != invalid;
	u64 page = 0;

	REQUIRE(valid == index_set_has(&view->filled, index), "set of filled entries is wrong");
	REQUIRE(valid || !index_set_has(&view->local, index), "local, but not valid");
	REQUIRE(valid || !index_set_has(&view->large, index), "large, but not valid");
	REQUIRE(!valid || vm->mmu.slots[slot].used, "in a slot that is not in use");
	if (entry->ntag_read != invalid) {
		page = 0 - entry->ntag_read;
		check_tag(vm, slot, kind, index, page, ACCESS_READ);
	}
	if (tlb_more(entry)->ntag_write != invalid) {
		page = 0 - tlb_more(entry)->ntag_write;
		REQUIRE(entry->ntag_read == tlb_more(entry)->ntag_write, "writable, but not readable");
		check_tag(vm, slot, kind, index, page, ACCESS_WRITE);
	}
	if (tlb_more(entry)->ntag_exec != invalid) {
		REQUIRE(!page || page == 0 - tlb_more(entry)->ntag_exec, "tags of two pages");
		page = 0 - tlb_more(entry)->ntag_exec;
		check_tag(vm, slot, kind, index, page, ACCESS_EXEC);
	}
}

static void check_jump(struct vm *vm, unsigned slot, enum view_kind kind, unsigned index)
{
	const struct view *view = slot_view(&vm->mmu, slot, kind);
	const u64 page = PAGE_BASE(view->jump_pc[index]);
	struct translation found = {0};

	REQUIRE(view->pair[index].pc == jump_pair_empty(index) ||
			(view->pair[index].code && view->pair[index].pc == view->jump_pc[index]),
		"pair of another jump");
	if (!view->jump[index])
		return;
	REQUIRE(index_set_has(&view->jumps, index), "jump not in the set");
	REQUIRE(index_set_has(&view->jump_pages, tlb_index(page)), "jump page not in the set");
	REQUIRE(mmu_walk(vm->vcpu, vm->mmu.slots[slot].cr3, view->jump_pc[index], kind, ACCESS_EXEC, false, &found) ==
			WALK_OK,
		"jump to a page that may not be executed");
	REQUIRE(found.global || view->jumps_local, "jump taken for global");
}

/* Spaces that are parked have nothing in their TLBs: nobody flushes them. */
static void check_parked(struct vm *vm, const struct space *space)
{
	const unsigned slot = (unsigned)(space - vm->mmu.spaces), index = 0, page = 0;
	const enum view_kind kind = VIEW_USER;

	for (unsigned i = 0; i < TLB_SIZE; i++)
		REQUIRE(space->view->tlb[i].ntag_read == tlb_invalid(i) &&
				space->view->tlb_more[i].ntag_write == tlb_invalid(i) &&
				space->view->tlb_more[i].ntag_exec == tlb_invalid(i),
			"parked, but not empty");
}

void mmu_check(struct vm *vm)
{
	for (unsigned i = 0; i < TLB_SPACES; i++)
		if (vm->mmu.spaces[i].parked)
			check_parked(vm, &vm->mmu.spaces[i]);
	for (unsigned slot = 0; slot < TLB_SLOTS; slot++)
		for (unsigned kind = 0; kind < VIEW_KINDS; kind++) {
			for (unsigned index = 0; index < TLB_SIZE; index++)
				check_entry(vm, slot, kind, index);
			/* those of kernel code are shared: good for the slot that is loaded */
			for (unsigned index = 0; index < JUMP_SIZE && (kind == VIEW_USER || slot == vm->vcpu->slot);
			     index++)
				check_jump(vm, slot, kind, index);
		}
}
