#include "boot/long_mode.h"

#include <string.h>

#include "boot/layout.h"
#include "cpu/vcpu.h"
#include "mem/mem.h"
#include "vm.h"

/* Page table entries (SDM vol. 3A, 4.5). */
#define PTE_PRESENT BIT(0)
#define PTE_WRITE   BIT(1)
#define PTE_LARGE   BIT(7)
#define PTE_TABLE   (PTE_PRESENT | PTE_WRITE)
#define ENTRIES     512u
#define LARGE_PAGE  (2ULL << 20)
#define GIB_COUNT   4u

/* Selectors and descriptors that boot.rst prescribes: flat, 4 GiB, the code segment a 64-bit one. */
#define BOOT_CS         0x10
#define BOOT_DS         0x18
#define CODE_DESCRIPTOR 0x00af9b000000ffffULL
#define DATA_DESCRIPTOR 0x00cf93000000ffffULL

static void write_page_tables(const struct ram *ram)
{
	u64 *pml4 = (u64 *)ram_range(ram, BOOT_PAGE_TABLES, BOOT_PAGE_TABLES_SIZE);
	u64 *pdpt = pml4 + ENTRIES, *directory = pdpt + ENTRIES;

	memset(pml4, 0, BOOT_PAGE_TABLES_SIZE);
	pml4[0] = (BOOT_PAGE_TABLES + PAGE_SIZE) | PTE_TABLE;
	for (unsigned i = 0; i < GIB_COUNT; i++)
		pdpt[i] = (BOOT_PAGE_TABLES + (2 + i) * PAGE_SIZE) | PTE_TABLE;
	for (unsigned i = 0; i < GIB_COUNT * ENTRIES; i++)
		directory[i] = (i * LARGE_PAGE) | PTE_TABLE | PTE_LARGE;
}

static struct segment segment_of(u16 selector, u64 descriptor)
{
	return (struct segment){.selector = selector, .attr = (descriptor >> 40) & 0xf0ff, .limit = UINT32_MAX};
}

static void load_segments(struct vcpu *v, const struct ram *ram)
{
	static const u64 gdt[] = {0, 0, CODE_DESCRIPTOR, DATA_DESCRIPTOR};
	static const enum seg data_segments[] = {SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS};

	memcpy(ram_range(ram, BOOT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
	v->gdtr = (struct table_register){.base = BOOT_GDT, .limit = sizeof(gdt) - 1};
	v->idtr = (struct table_register){0};
	v->seg[SEG_CS] = segment_of(BOOT_CS, CODE_DESCRIPTOR);
	for (unsigned i = 0; i < ARRAY_SIZE(data_segments); i++)
		v->seg[data_segments[i]] = segment_of(BOOT_DS, DATA_DESCRIPTOR);
	v->fs_base = 0;
	v->gs_base = 0;
}

void boot_enter_long_mode(struct vm *vm, u64 entry, u64 params)
{
	struct vcpu *v = vm->vcpu;

	write_page_tables(&vm->ram);
	load_segments(v, &vm->ram);
	v->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	v->cr3 = BOOT_PAGE_TABLES;
	v->cr4 = CR4_PAE;
	v->efer = EFER_LME | EFER_LMA;
	v->cpl = 0;
	vcpu_set_rflags(v, 0);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		v->gpr[i] = 0;
	v->gpr[RSI] = params;
	v->rip = entry;
}
