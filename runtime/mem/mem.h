/*
 * Guest memory: RAM, the walk of guest page tables, and the software TLB.
 *
 *   gva --(view's TLB, else walk)--> gpa --(ram)--> hva, or the MMIO bus
 *
 * Everything declared here is compiled for general registers only: it may run while the guest's vector state is loaded.
 */
#ifndef AVANT_MEM_MEM_H
#define AVANT_MEM_MEM_H

#include "cpu/vcpu.h"
#include "util/types.h"

struct err;

/* --- RAM ------------------------------------------------------------------------------------------------------- */

#define RAM_LOW_END   0xc0000000ULL  /* RAM below the hole for MMIO ends here at the latest */
#define RAM_HIGH_BASE 0x100000000ULL /* what does not fit below goes here */
#define MAXPHYADDR    40 /* bits of a guest physical address: CPUID 80000008H, reserved bits of page tables */

/* What is known of a guest page frame; one byte for each 4 KiB of RAM. */
#define FRAME_CODE     0x01 /* translations were made from it: writes must come through the slow path */
#define FRAME_WRITABLE 0x02 /* some TLB may hold it with write permission */
#define FRAME_MANY     0x04 /* with FRAME_WRITABLE: in others than those that are noted, too */

/* With FRAME_WRITABLE: 1 + the indices of the TLB entries that it may be in with write permission, then zeros. */
#define FRAME_WRITERS 4
struct writers {
	u16 entry[FRAME_WRITERS];
};

struct ram {
	u8 *host;                /* base of one contiguous anonymous mapping */
	u64 size;                /* bytes */
	u64 low;                 /* bytes at gpa 0; the remainder is at RAM_HIGH_BASE */
	u8 *frames;              /* FRAME_* flags, one byte a page, by offset in RAM */
	struct writers *writers; /* of each page */
	/* ahead.h: when the guest first uses memory in [watch, watch + watch_length), what lies at `ready` is due */
	u8 *watch, *ready;
	u64 watch_length;
	bool ahead_due;
};

/* Maps `size` bytes (a multiple of 2 MiB). Returns 0, or -1 with a message in err. */
int ram_init(struct ram *ram, u64 size, struct err *err);
void ram_release(struct ram *ram);

/* Host address of gpa, or NULL where there is no RAM. Valid up to the end of gpa's page. */
static inline u8 *ram_at(const struct ram *ram, u64 gpa)
{
	if (LIKELY(gpa < ram->low))
		return ram->host + gpa;
	if (gpa >= RAM_HIGH_BASE && gpa - RAM_HIGH_BASE < ram->size - ram->low)
		return ram->host + ram->low + (gpa - RAM_HIGH_BASE);
	return NULL;
}

/* Host address of [gpa, gpa+len), or NULL if not all of it is RAM in one piece. */
u8 *ram_range(const struct ram *ram, u64 gpa, u64 len);

/* The guest physical address of a pointer into RAM. */
static inline u64 ram_gpa(const struct ram *ram, const u8 *hva)
{
	u64 offset = (u64)(hva - ram->host);

	return offset < ram->low ? offset : RAM_HIGH_BASE + (offset - ram->low);
}

/* --- software TLB ---------------------------------------------------------------------------------------------- */

#define TLB_BITS    13
#define TLB_SIZE    (1u << TLB_BITS)
#define TLB_SLOTS   8
#define TLB_SPACES  16 /* at least TLB_SLOTS */
#define JUMP_BITS   16
#define JUMP_SIZE   (1u << JUMP_BITS)
#define TARGET_BITS 16
#define TARGET_SIZE (1u << TARGET_BITS)
#define VIEW_BASES  32768u
#define JUMP_SHIFT  3 /* jump_index() must be what generated code computes without touching flags: rorx, movzx */

/*
 * One entry. The three tags hold *minus* the page's gva, so that `ea + ntag` is the offset in the page on a hit and at
 * least 4096 on a miss. 0 means invalid; that is a miss for every entry but the first, whose page could be 0: there
 * invalid is TLB_INVALID_0. `addend` + gva is the host address.
 */
struct tlb_entry {
	u64 ntag_read;
	u64 addend;
};

/* What reading does not need lies elsewhere: so a line of the host's cache serves four pages that are read. */
struct tlb_more {
	u64 ntag_write;
	u64 ntag_exec;
};
#define TLB_INVALID_0 (0 - PAGE_SIZE)

static inline unsigned tlb_index(u64 gva)
{
	return (gva >> PAGE_SHIFT) & (TLB_SIZE - 1);
}

static inline unsigned jump_index(u64 pc)
{
	return (pc >> JUMP_SHIFT) & (JUMP_SIZE - 1);
}

/*
 * A set of indices below TLB_SIZE or JUMP_SIZE. Adding is two ORs, and walking it costs by what it holds, not by its
 * size: flushes are frequent and the tables mostly empty then.
 */
#define INDEX_SET(name, size)                                                                                          \
	struct name {                                                                                                  \
		u64 summary[(size) / 4096]; /* which words may be non-zero */                                          \
		u64 word[(size) / 64];                                                                                 \
	}
INDEX_SET(index_set, TLB_SIZE);
INDEX_SET(jump_set, JUMP_SIZE);
INDEX_SET(target_set, TARGET_SIZE);

#define index_set_add(set, i)                                                                                          \
	do {                                                                                                           \
		(set)->word[(i) / 64] |= BIT((i) % 64);                                                                \
		(set)->summary[(i) / 4096] |= BIT((i) / 64 % 64);                                                      \
	} while (0)
#define index_set_remove(set, i) ((set)->word[(i) / 64] &= ~BIT((i) % 64))
#define index_set_has(set, i)    ((bool)((set)->word[(i) / 64] >> ((i) % 64) & 1))

/*
 * What an access in generated code found in the TLB, kept for that access (others may share the cell): it needs not
 * compute an index first, and its addend is there before its address. `ntag` and `addend` as in a TLB entry. Cells with
 * even numbers are filled from write tags only, those with odd numbers from read tags. Number 0 is the stack's.
 */
struct tlb_cell {
	u64 ntag;
	u64 addend;
};

#define TLB_CELLS      256
/*
 * The ntag of an empty cell. Every ntag fits some page; this one's is not canonical and nobody's, and with the addend 0
 * the host's processor raises the #GP that it is owed (for the stack that should be #SS).
 */
#define TLB_CELL_EMPTY (0 - 0xb362c4ad8e17a000ULL)

/* Where an indirect jump to the guest address pc goes, with the flags in v->scratch[2]. */
struct jump_pair {
	u64 pc;
	void *code;
};

/* A guest address whose pair is another one. */
static inline u64 jump_pair_empty(unsigned i)
{
	return i ? 0 : 1 << JUMP_SHIFT;
}

/*
 * A page that jump entries are for, and where in host memory it was: page + addend. What several pages share an element
 * for, or a page that was somewhere else before, is nobody's.
 */
struct jump_page {
	u64 page;
	u64 addend;
};
#define JUMP_PAGE_MIXED 1u

/*
 * One view of one slot. The host's GS base points at the view in force; generated code names the arrays GS-relative.
 *
 * What begins with `jump` is one and the same memory in all views of kernel code, whatever their slot: Linux runs in
 * global pages, of which no address space has others, and goes through many slots while it patches itself. Entries for
 * pages that are not global go when another slot is loaded.
 */
struct view {
	struct tlb_entry tlb[TLB_SIZE];
	struct tlb_more tlb_more[TLB_SIZE]; /* of the same entries */
	struct index_set filled;            /* TLB entries with a valid tag */
	struct index_set local;             /* those of pages that are not global */
	struct index_set large;             /* those that are pieces of a 2 MiB or 1 GiB page */
	u64 large_low, large_high;       /* covers every large page seen since the last full flush; empty: low > high */
	u64 large_mask;                  /* size - 1 of the largest of them */
	struct tlb_cell cell[TLB_CELLS]; /* written by generated code, emptied with anything that the TLB loses */
	bool cells_used;
	bool low_global; /* a global page of the lower half has been here */
	/*
	 * Where generated code for a guest address is: offset in the code cache, whose beginning is a jump to where
	 * misses are looked after, so 0 is an empty entry. The code checks itself whether it is the one wanted.
	 */
	__attribute__((aligned(4096))) u32 jump[JUMP_SIZE]; /* written by view_set_jump() only */
	u64 jump_pc[JUMP_SIZE];                             /* the guest address that an entry was made for, last */
	/* Where the jumping code checks, for those entries of `jump` that are beginnings of units. */
	struct jump_pair pair[JUMP_SIZE];
	/*
	 * The same for direct jumps, whose targets the translator numbers: exact, so the code need not check. Host
	 * addresses; empty ones hold target_miss.
	 */
	void *target[TARGET_SIZE]; /* written by view_set_target() only */
	u64 target_pc[TARGET_SIZE];
	void *target_miss;                    /* what these are filled with; NULL: they are not */
	struct jump_set jumps;                /* jump entries in use */
	struct target_set targets;            /* targets in use */
	struct index_set jump_pages;          /* tlb_index() of the pages they lie in; may hold more */
	struct jump_page jump_page[TLB_SIZE]; /* of those in jump_pages that are in the lower half */
	bool jumps_local;                     /* some jump entry may be for a page that is not global */
	bool jumps_low;                       /* some jump entry may be for the lower half of the address space */
	struct bases *bases;                  /* all views' of user code; kernel code has none */
	unsigned base_index;                  /* this one's in `bases` */
	unsigned bases_used;                  /* numbers below it may be taken */
};

/*
 * Code that exists at several guest addresses shares target numbers, which mean addresses relative to a base of the
 * view: see view_take_base(). All views' bases of one number lie together, so that bases_free() is quick.
 */
struct bases {
	u64 generation[TLB_SPACES]; /* 1 … PAGE_SIZE - 1 */
	u64 left[TLB_SPACES];       /* the last generation that another program in the same address space ended */
	u64 taken[VIEW_BASES][TLB_SPACES]; /* by number and view: base | generation; others do not count */
};

/* The other half of an entry of view.tlb. */
static inline struct tlb_more *tlb_more(const struct tlb_entry *entry)
{
	u64 at = (u64)(uintptr_t)entry + offsetof(struct view, tlb_more) - offsetof(struct view, tlb);
	_Static_assert(sizeof(struct tlb_entry) == sizeof(struct tlb_more), "the same distance for all");

	/* the compiler is not to think that this is still in the array `tlb` */
	__asm__("" : "+r"(at));
	return (struct tlb_more *)at;
}
#define VIEW_SHARED_SIZE (sizeof(struct view) - offsetof(struct view, jump))

/*
 * The view of user code of one address space. While no slot has it, it is parked: its TLB is empty, and what jump
 * entries say must be compared with the page tables before it is used again.
 */
struct space {
	struct view *view;
	u64 table; /* the page table that CR3 named last; ~0: none yet */
	bool parked;
	u64 last_use;
};

struct slot {
	struct space *space;
	struct view *kernel; /* VIEW_KERNEL, VIEW_KERNEL_AC */
	u64 pcid;
	u64 cr3; /* as last loaded */
	bool used;
	u64 last_use;
};

struct mmu {
	struct view *views; /* TLB_SPACES, then two for each slot: one mapping */
	struct bases *bases;
	struct space spaces[TLB_SPACES];
	struct slot slots[TLB_SLOTS];
	u64 use_clock;
	void *target_miss;
};

/* Slot 0 is that of PCID 0. vcpu_update_view() must follow before guest code runs. -1 with a message in err. */
int mmu_init(struct mmu *mmu, struct err *err);
void mmu_release(struct mmu *mmu);

static inline struct view *slot_view(struct mmu *mmu, unsigned slot, enum view_kind kind)
{
	const struct slot *s = &mmu->slots[slot];

	return kind == VIEW_USER ? s->space->view : s->kernel + (kind - VIEW_KERNEL);
}

/* There are jump entries for code in the page of gva, in the lower half. */
static inline void view_note_page(struct view *view, u64 gva)
{
	const unsigned i = tlb_index(gva);
	struct jump_page *note = &view->jump_page[i];
	const u64 page = gva & ~(PAGE_SIZE - 1), addend = view->tlb[i].addend;

	if (gva + view->tlb_more[i].ntag_exec >= PAGE_SIZE)
		note->page = JUMP_PAGE_MIXED;
	else if (!index_set_has(&view->jump_pages, i))
		*note = (struct jump_page){page, addend};
	else if (note->page != page || note->addend != addend)
		note->page = JUMP_PAGE_MIXED;
	index_set_add(&view->jump_pages, i);
}

/* What flushes have to know of the guest code [pc, last] that a jump or target entry leads to. */
static inline void view_note_pages(struct view *view, u64 pc, u64 last)
{
	unsigned first_page = tlb_index(pc), last_page = tlb_index(last);

	if ((s64)pc >= 0) {
		view_note_page(view, pc);
		if (first_page != last_page)
			view_note_page(view, last);
		view->jumps_low = true;
	}
	index_set_add(&view->jump_pages, first_page);
	if (pc + view->tlb_more[first_page].ntag_exec >= PAGE_SIZE || index_set_has(&view->local, first_page) ||
	    last + view->tlb_more[last_page].ntag_exec >= PAGE_SIZE || index_set_has(&view->local, last_page))
		view->jumps_local = true;
}

/*
 * Enters the unit of guest code [pc, last] into the view's jump table; mmu_fetch() has translated its (at most two)
 * pages for this view since the last flush. Flushes that concern any of them take it out again. `saved`, if not NULL,
 * is where to enter with saved flags.
 */
static inline void view_set_jump(struct view *view, u64 pc, u64 last, u32 code, void *saved)
{
	unsigned i = jump_index(pc);

	view->jump_pc[i] = pc;
	view->jump[i] = code;
	view->pair[i] = (struct jump_pair){saved ? pc : jump_pair_empty(i), saved};
	index_set_add(&view->jumps, i);
	view_note_pages(view, pc, last);
}

/* The same for target number n. */
static inline void view_set_target(struct view *view, unsigned n, u64 pc, u64 last, void *code)
{
	view->target_pc[n] = pc;
	view->target[n] = code;
	index_set_add(&view->targets, n);
	view_note_pages(view, pc, last);
}

/*
 * Lets base number n (below VIEW_BASES) be `base`, a page's address, for as long as the jump table has not been emptied
 * altogether. False: it is another one.
 */
static inline bool view_take_base(struct view *view, unsigned n, u64 base)
{
	const u64 generation = view->bases->generation[view->base_index], wanted = base | generation;
	u64 *taken = &view->bases->taken[n][view->base_index];

	if (*taken == wanted)
		return true;
	if (PAGE_OFFSET(*taken) == generation)
		return false;
	*taken = wanted;
	if (n >= view->bases_used)
		view->bases_used = n + 1;
	return true;
}

/* Base number n; false if it is none now. */
static inline bool view_get_base(const struct view *view, unsigned n, u64 *base)
{
	const u64 taken = view->bases->taken[n][view->base_index];

	*base = PAGE_BASE(taken);
	return PAGE_OFFSET(taken) == view->bases->generation[view->base_index];
}

/*
 * Base number n as the program had it that the view's address space was for before: it is gone, for most of its pages
 * were. 0: nothing is known of it.
 */
static inline u64 view_left_base(const struct view *view, unsigned n)
{
	const u64 taken = view->bases->taken[n][view->base_index];

	return PAGE_OFFSET(taken) == view->bases->left[view->base_index] ? PAGE_BASE(taken) : 0;
}

/* Is base number n this page's address in no view? Then no view knows a way to code that counts from it. */
static inline bool bases_free(const struct bases *bases, unsigned n, u64 base)
{
	for (unsigned i = 0; i < TLB_SPACES; i++)
		if (bases->taken[n][i] == (base | bases->generation[i]))
			return false;
	return true;
}

/* Empties the jump entry for pc in every view. */
void mmu_drop_jump(struct vcpu *v, u64 pc);

/* Empties target n in every view. */
void mmu_drop_target(struct vcpu *v, unsigned n);

/* Empties all jump entries and targets for guest code in gva's page, and in the page before, in every view. */
void mmu_drop_page_jumps(struct vcpu *v, u64 gva);

/* Empties those that lead to code at [from, to), offsets in the code cache, which lies at `code`, in every view. */
void mmu_drop_code(struct vcpu *v, const u8 *code, u32 from, u32 to);

/* Where empty targets lead; to be called before guest code runs. */
void mmu_set_target_miss(struct mmu *mmu, void *code);

/* Makes the view's targets empty ones: they are a lot of memory, which most views never need. */
void view_fill_targets(struct view *view, void *target_miss);

/* Empties every jump table. */
void mmu_clear_jumps(struct vcpu *v);

/*
 * CR3 was written; v->cr3 is the new value without bit 63. Chooses the slot of the new PCID and makes it and its view
 * current; drops what is not global from it unless `keep` (bit 63 with CR4.PCIDE).
 */
void mmu_load_cr3(struct vcpu *v, bool keep);
/* INVLPG: `gva` in the current slot, and everywhere for global pages. */
void mmu_flush_page(struct vcpu *v, u64 gva);
/*
 * Every entry of every slot, global ones too (CR0/CR4/EFER paging bits, INVPCID type 2). To be called with the new
 * control registers in place: it also adapts the current slot to CR4.PCIDE and the view to CR4.SMAP.
 */
void mmu_flush_all(struct vcpu *v);
/* INVPCID type 0, 1, 3 (SDM vol. 2A). */
void mmu_flush_pcid_page(struct vcpu *v, u64 pcid, u64 gva);
void mmu_flush_pcid(struct vcpu *v, u64 pcid);
void mmu_flush_non_global(struct vcpu *v);
/* No view may hold the page frame at gpa with write permission any longer (its code has been translated). */
void mmu_protect_frame(struct vcpu *v, u64 gpa);

/* --- walk and access ------------------------------------------------------------------------------------------- */

/* Page-fault error code (SDM vol. 3A, 4.7). */
#define PFEC_P        0x01u
#define PFEC_WRITE    0x02u
#define PFEC_USER     0x04u
#define PFEC_RESERVED 0x08u
#define PFEC_FETCH    0x10u

#define ACCESS_READ   1u
#define ACCESS_WRITE  2u
#define ACCESS_EXEC   4u
#define ACCESS_SYSTEM 8u  /* implicit supervisor access: descriptor tables, TSS, IDT stack pushes at a new CPL 0 */
#define ACCESS_USER   16u /* as if at CPL 3 */

/* Which view answers for such an access now. Implicit supervisor accesses obey SMAP whatever AC is (SDM vol. 3A, 4.6).
 */
static inline enum view_kind mmu_view_kind(const struct vcpu *v, unsigned access)
{
	if ((access & ACCESS_USER) || (v->cpl == 3 && !(access & ACCESS_SYSTEM)))
		return VIEW_USER;
	if (!(access & ACCESS_SYSTEM) && (v->rflags & FLAG_AC) && (v->cr4 & CR4_SMAP))
		return VIEW_KERNEL_AC;
	return VIEW_KERNEL;
}

/*
 * Translates gva for the given access at the current CPL (or as the flags say), setting A and D bits. On success
 * *gpa is the physical address. EXEC_FAULT: #PF is recorded, or #GP(0) for a non-canonical address: callers that owe
 * #SS convert it.
 */
enum exec mmu_translate(struct vcpu *v, u64 gva, unsigned access, u64 *gpa);

/*
 * The slow path of generated code, and the way of string helpers to whole pages: translates a data access of `size`
 * bytes and makes its TLB entry valid. On EXEC_OK *hva is the host address, valid up to the end of the page; or NULL
 * if nothing was decided and the access must go through mem_read() or mem_write(): it crosses a page, is not to RAM,
 * or is a write to a page that code was translated from.
 */
enum exec mmu_fill(struct vcpu *v, u64 gva, unsigned size, unsigned access, u8 **hva);

/* Translates for an instruction fetch. *gpa need not be in RAM. */
enum exec mmu_fetch(struct vcpu *v, u64 gva, u64 *gpa);

/* Translates without side effects, as a debugger would; returns false if not mapped. */
bool mmu_peek(struct vcpu *v, u64 gva, u64 *gpa);

/*
 * Reads and writes guest virtual memory: any length, across pages, MMIO included, with A/D bits, faults and the
 * invalidation of translated code. A write checks every page before it changes anything. A read with ACCESS_WRITE
 * asks for the permission to write (the first half of a read-modify-write), one with ACCESS_EXEC is a fetch.
 * Return EXEC_OK or EXEC_FAULT.
 */
enum exec mem_read(struct vcpu *v, u64 gva, void *buffer, unsigned length, unsigned access);
enum exec mem_write(struct vcpu *v, u64 gva, const void *buffer, unsigned length, unsigned access);

static inline enum exec mem_read_u64(struct vcpu *v, u64 gva, u64 *value, unsigned access)
{
	return mem_read(v, gva, value, 8, access);
}

/* Guest physical memory, for devices (DMA) and boot: RAM only. Return 0, or -1 if not all is RAM. Writes drop
 * translations. */
int phys_read(struct vm *vm, u64 gpa, void *buffer, u64 length);
int phys_write(struct vm *vm, u64 gpa, const void *buffer, u64 length);

/*
 * The host has written to [hva, hva+length) of guest RAM, or is about to: drops what was translated from there. For
 * those who write by host address: call it when the data are there and before the guest is told of them.
 */
void ram_written(struct vm *vm, const u8 *hva, u64 length);

/*
 * Implemented by the live engine. [gpa, gpa+length), within one page that has FRAME_CODE, is about to be written:
 * drops the translations concerned, and FRAME_CODE when none is left. General registers only.
 */
void smc_write(struct vcpu *v, u64 gpa, unsigned length);

/*
 * Aborts if a TLB says anything that a walk of the guest's page tables as they are now would not. For tests: a guest
 * that has changed a page table and not flushed yet may rightly fail it.
 */
void mmu_check(struct vm *vm);

#endif
