/*
 * Which TLB entries let a page frame be written. Frames with code must have none, and most frames have had two or three
 * since anybody asked: where the kernel maps all memory, and where some process had them.
 */
#include "mem/walk.h"

#include "vm.h"

static struct writers *writers_of(const struct ram *ram, const u8 *host)
{
	return &ram->writers[(u64)(host - ram->host) >> PAGE_SHIFT];
}

/* Does this entry let the host page be written? */
static bool may_write(const struct view *view, unsigned index, u64 host)
{
	const struct tlb_entry *entry = &view->tlb[index];
	const u64 ntag = tlb_more(entry)->ntag_write;

	return ntag != tlb_invalid(index) && entry->addend - ntag == host;
}

static bool anyone_may_write(struct mmu *mmu, unsigned index, u64 host)
{
	FOR_EACH_VIEW (mmu, view)
		if (may_write(view, index, host))
			return true;
	return false;
}

/* Forgets those that are entries of something else by now. */
static void forget_old(struct mmu *mmu, struct writers *writers, u64 host)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < FRAME_WRITERS; i++) {
		u16 entry = writers->entry[i];

		writers->entry[i] = 0;
		if (entry && anyone_may_write(mmu, entry - 1u, host))
			writers->entry[kept++] = entry;
	}
}

static bool add(struct writers *writers, unsigned index)
{
	for (unsigned i = 0; i < FRAME_WRITERS; i++) {
		if (!writers->entry[i])
			writers->entry[i] = (u16)(index + 1);
		if (writers->entry[i] == index + 1)
			return true;
	}
	return false;
}

void mmu_note_writable(struct vm *vm, const u8 *host, unsigned index)
{
	struct writers *writers = writers_of(&vm->ram, host);
	u8 *frame = ram_frame(&vm->ram, host);

	if (!(*frame & FRAME_WRITABLE)) {
		*writers = (struct writers){0};
		*frame = (u8)((*frame & FRAME_CODE) | FRAME_WRITABLE);
	}
	if ((*frame & FRAME_MANY) || add(writers, index))
		return;
	forget_old(&vm->mmu, writers, (u64)host & ~(PAGE_SIZE - 1));
	if (!add(writers, index))
		*frame |= FRAME_MANY;
}

bool mmu_is_noted(const struct ram *ram, const u8 *host, unsigned index)
{
	const struct writers *writers = writers_of(ram, host);
	const u8 frame = *ram_frame(ram, host);

	for (unsigned i = 0; i < FRAME_WRITERS; i++)
		if ((frame & FRAME_WRITABLE) && writers->entry[i] == index + 1)
			return true;
	return (frame & FRAME_WRITABLE) && (frame & FRAME_MANY);
}

static void protect(struct view *view, unsigned index, u64 host)
{
	if (may_write(view, index, host))
		tlb_more(&view->tlb[index])->ntag_write = tlb_invalid(index);
}

/* Frames that are mapped in more places than can be noted, all at once: rare. */
static void protect_everywhere(struct view *view, u64 host)
{
	for (unsigned i = 0; i < TLB_SIZE; i++)
		protect(view, i, host);
}

void mmu_protect_frame(struct vcpu *v, u64 gpa)
{
	struct mmu *mmu = &v->vm->mmu;
	const u8 *host = ram_at(&v->vm->ram, PAGE_BASE(gpa));

	if (!host)
		return;
	const struct writers *writers = writers_of(&v->vm->ram, host);
	u8 *frame = ram_frame(&v->vm->ram, host);

	if (*frame & FRAME_WRITABLE) {
		FOR_EACH_VIEW (mmu, view) {
			if (*frame & FRAME_MANY)
				protect_everywhere(view, (u64)host);
			for (unsigned i = 0; i < FRAME_WRITERS && writers->entry[i]; i++)
				protect(view, writers->entry[i] - 1u, (u64)host);
			/* what they hold may not be in the TLB any more */
			view_clear_cells(view);
		}
	}
	*frame = FRAME_CODE;
}
