#include "machine.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "cpu/cpu.h"
#include "cpu/segment.h"
#include "dev/console.h"
#include "live/live.h"
#include "mem/mem.h"
#include "native.h"
#include "vm.h"

#define RAM_SIZE   (4ULL << 20)
#define CACHE_SIZE (2ULL << 20)

/* Guest physical addresses; in virtual memory they are at SYSTEM +, for the supervisor only. */
#define TICK_US     200000
#define TICKS_MAX   10 /* a run that takes as long as this will never end */
#define SYSTEM      0xffff800000000000ULL
#define TABLES      0x1000ULL /* page tables, as many as it takes */
#define TABLES_END  0x10000ULL
#define GDT         0x10000ULL
#define IDT         0x11000ULL
#define TSS         0x12000ULL
#define HANDLERS    0x14000ULL /* 16 bytes a vector */
#define EVENT_STACK 0x18000ULL /* its end; for every event */
#define PAGES_AT    0x100000ULL

#define KERNEL_CS 0x10
#define KERNEL_DS 0x18
#define USER_DS   0x2b
#define USER_CS   0x33
#define TSS_AT    0x40

#define PTE_P  1ULL
#define PTE_W  2ULL
#define PTE_U  4ULL
#define PTE_NX BIT(63)

const struct variant variants[VARIANTS] = {
	{.name = "interp"},
	{.name = "live", .live = true},
	{.name = "live table", .live = true, .table = true},
	{.name = "live exact", .live = true, .exact = true},
	{.name = "live table exact", .live = true, .table = true, .exact = true},
	{.name = "live counted", .live = true, .counted = true},
	{.name = "live table exact counted", .live = true, .table = true, .exact = true, .counted = true},
	{.name = "lifted", .live = true, .lifted = true},
	{.name = "lifted exact", .live = true, .exact = true, .lifted = true},
	{.name = "lifted table counted", .live = true, .table = true, .counted = true, .lifted = true},
	{.name = "lifted exact counted", .live = true, .exact = true, .counted = true, .lifted = true},
};

const struct translate_parts *(*machine_lift)(const struct scan *scan, const struct store *store, u32 mode);

static struct vm *vm;
static struct live *live; /* vm->live, or not for the variant selected */
static u64 next_table;
static sigjmp_buf escape;
static volatile bool running;
static volatile u64 runs, run_seen; /* how many runs there were: now, and at the last tick */
static volatile unsigned ticks;     /* since then */
static struct sigaction vmm_action;

static void put(struct console *console, u8 byte)
{
	(void)console;
	(void)byte;
}

static int get(struct console *console)
{
	(void)console;
	return -1;
}

static void flush(struct console *console)
{
	(void)console;
}

static int attach(struct console *console, struct vm *to, struct err *err)
{
	(void)console;
	(void)to;
	(void)err;
	return 0;
}

static struct console console = {.put = put, .get = get, .flush = flush, .attach = attach};

static void *physical(u64 gpa)
{
	return ram_at(&vm->ram, gpa);
}

static u64 *table_entry(u64 table, u64 gva, unsigned shift)
{
	return (u64 *)physical(table) + (gva >> shift & 511);
}

static void map_page(u64 gva, u64 gpa, u64 bits)
{
	u64 table = TABLES;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		u64 *entry = table_entry(table, gva, shift);

		if (!*entry) {
			next_table += PAGE_SIZE;
			if (next_table == TABLES_END)
				abort();
			*entry = next_table | PTE_P | PTE_W | PTE_U;
		}
		table = PAGE_BASE(*entry);
	}
	*table_entry(table, gva, 12) = gpa | bits;
}

/* Neighbours in virtual memory are none in physical memory. */
static u64 gpa_of_page(unsigned index)
{
	return PAGES_AT + (PAGES - 1 - index) * PAGE_SIZE;
}

static void map_memory(void)
{
	memset(physical(TABLES), 0, TABLES_END - TABLES);
	next_table = TABLES;
	for (u64 gpa = TABLES; gpa < EVENT_STACK; gpa += PAGE_SIZE)
		map_page(SYSTEM + gpa, gpa, PTE_P | PTE_W);
	for (unsigned i = 0; i < REGIONS; i++) {
		for (unsigned page = 0; page < regions[i].pages; page++) {
			bool last = page + 1 == regions[i].pages;

			map_page(regions[i].address + page * PAGE_SIZE, gpa_of_page(regions[i].first + page),
				 PTE_P | PTE_U | (last && regions[i].read_only_end ? 0 : PTE_W) |
					 (regions[i].execute ? 0 : PTE_NX));
		}
	}
}

/* Every event goes to its handler, on the event stack, and ends the run there: out 0xf4, al. */
static void set_gates(void)
{
	u64 *idt = physical(IDT);

	for (unsigned vector = 0; vector < 256; vector++) {
		u64 handler = SYSTEM + HANDLERS + vector * 16, dpl = vector == VEC_BP || vector == VEC_OF ? 3 : 0;

		idt[vector * 2] = (handler & 0xffff) | (u64)KERNEL_CS << 16 | 1ULL << 32 | (0x8e | dpl << 5) << 40 |
				  (handler >> 16 & 0xffff) << 48;
		idt[vector * 2 + 1] = handler >> 32;
		memcpy(physical(HANDLERS + vector * 16), "\xe6\xf4", 2);
	}
}

static void set_tables(void)
{
	static const u64 gdt[] = {[KERNEL_CS / 8] = 0x00af9b000000ffff,
				  [KERNEL_DS / 8] = 0x00cf93000000ffff,
				  [USER_DS / 8] = 0x00cff3000000ffff,
				  [USER_CS / 8] = 0x00affb000000ffff};
	u64 stack = SYSTEM + EVENT_STACK;
	struct vcpu *v = vm->vcpu;

	memcpy(physical(GDT), gdt, sizeof(gdt));
	memcpy((u8 *)physical(TSS) + 36, &stack, 8);       /* IST 1 */
	memcpy((u8 *)physical(TSS) + 102, &(u16){104}, 2); /* no I/O permission bitmap */
	set_gates();
	v->gdtr = (struct table_register){SYSTEM + GDT, TSS_AT - 1};
	v->idtr = (struct table_register){SYSTEM + IDT, 0xfff};
	v->seg[SEG_TR] = (struct segment){.selector = TSS_AT, .attr = 0x8b, .limit = 103, .base = SYSTEM + TSS};
	v->seg[SEG_LDTR] = (struct segment){0};
}

void machine_create(void)
{
	struct vm_config config = {.memory = RAM_SIZE,
				   .cpu = cpu_model_find("default"),
				   .engine = ENGINE_LIVE,
				   .clock = CLOCK_SOURCE_INSTRUCTIONS,
				   .code_cache_size = CACHE_SIZE,
				   .debug_exit = true};
	struct err err = ERR_INIT;

	vm = vm_create(&config, &console, &err);
	if (!vm) {
		fprintf(stderr, "cannot create the machine: %s\n", err.text);
		exit(1);
	}
	live = vm->live;
	sigaction(SIGSEGV, NULL, &vmm_action);
	map_memory();
	set_tables();
	struct vcpu *v = vm->vcpu;

	v->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	v->cr3 = TABLES;
	v->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
	v->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	v->xcr0 = 7;
	mmu_load_cr3(v, false);
	mmu_flush_all(v);
	live_check_mode(v);
}

void machine_destroy(void)
{
	vm->live = live;
	vm_destroy(vm);
}

/* Whatever the VMM's handler does not take for the guest's doing ends the case, not the test. */
static void on_signal(int number, siginfo_t *info, void *context)
{
	struct sigaction now;

	if (number == SIGALRM) {
		ticks = run_seen == runs + native_runs() ? ticks + 1 : 0;
		run_seen = runs + native_runs();
		if (ticks < (machine_lift ? 30 : 1) * TICKS_MAX) /* LLVM may take its time */
			return;
	}
	if (native_signal(context))
		return;
	if (running && number != SIGTRAP && number != SIGABRT && number != SIGALRM) {
		vmm_action.sa_sigaction(number, info, context);
		sigaction(number, NULL, &now);
		if (now.sa_handler != SIG_DFL)
			return;
		machine_take_signals();
	}
	if (running)
		siglongjmp(escape, number);
	if (number != SIGALRM)
		signal(number, SIG_DFL);
}

void machine_take_signals(void)
{
	static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGALRM};
	struct itimerval tick = {{0, TICK_US}, {0, TICK_US}};
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaction(numbers[i], &action, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
}

void machine_select(const struct variant *variant)
{
	vm->live = live;
	vm->counted = live->store.counted = variant->counted;
	live->store.exact_flags = variant->exact;
	live->store.returns_host = !variant->table;
	live->lift = variant->lifted ? machine_lift : NULL;
	live_flush(live);
	if (!variant->live)
		vm->live = NULL;
}

/* Code pages are written as a device would write them, and only if that is necessary: that drops translations. */
static void load_memory(const struct insn_case *c)
{
	static struct image image;

	image_prepare(&image, c);
	for (unsigned i = 0; i < PAGES; i++) {
		const u8 *from = image.bytes + i * PAGE_SIZE;

		if (memcmp(physical(gpa_of_page(i)), from, PAGE_SIZE) != 0)
			phys_write(vm, gpa_of_page(i), from, PAGE_SIZE);
	}
}

static void load_legacy_segments(struct vcpu *v)
{
	const struct segment flat = {.selector = USER_DS, .attr = ATTR_USER_DATA, .limit = UINT32_MAX};

	segment_set_flat(v, LEGACY_CS, ATTR_USER_CODE32, USER_DS, ATTR_USER_DATA);
	v->seg[SEG_DS] = v->seg[SEG_ES] = flat;
	v->seg[SEG_FS] =
		(struct segment){.selector = LEGACY_FS, .attr = 0x40f3, .limit = LEGACY_FS_LIMIT, .base = DATA};
	v->seg[SEG_GS] = (struct segment){
		.selector = LEGACY_GS, .attr = 0x40f5, .limit = LEGACY_GS_LIMIT, .base = LEGACY_GS_BASE};
	v->fs_base = DATA;
	v->gs_base = LEGACY_GS_BASE;
}

static void load_registers(const struct insn_case *c, unsigned cpl)
{
	struct vcpu *v = vm->vcpu;

	segment_set_flat(v, cpl ? USER_CS : KERNEL_CS, cpl ? ATTR_USER_CODE64 : ATTR_KERNEL_CODE64,
			 cpl ? USER_DS : KERNEL_DS, cpl ? ATTR_USER_DATA : ATTR_KERNEL_DATA);
	memcpy(v->gpr, c->gpr, sizeof(v->gpr));
	v->seg[SEG_FS].base = v->fs_base = c->fs_base;
	v->seg[SEG_GS].base = v->gs_base = c->gs_base;
	if (c->legacy)
		load_legacy_segments(v);
	v->rip = c->start;
	vcpu_set_rflags(v, c->flags | FLAG_IF);
	v->shadow = 0;
	v->cr2 = 0;
	memcpy(v->xsave, c->vectors, VECTOR_AREA);
	cpu_set_cpl(v, (u8)cpl);
	vcpu_update_poll(v);
}

/* The frame that the event left (SDM vol. 3A, figure 6-8). */
static void take_outcome(struct outcome *out)
{
	const struct vcpu *v = vm->vcpu;
	bool has_error;
	const u64 *frame;

	out->vector = (u8)((v->rip - (SYSTEM + HANDLERS)) / 16);
	has_error = out->vector == VEC_DF || (out->vector >= VEC_TS && out->vector <= VEC_PF) || out->vector == VEC_AC;
	frame = (const u64 *)((u8 *)physical(EVENT_STACK - PAGE_SIZE) + PAGE_SIZE) - 5;
	out->error = has_error ? (u32)frame[-1] : 0;
	out->rip = frame[0];
	out->flags = frame[2];
	out->cr2 = v->cr2;
	memcpy(out->gpr, v->gpr, sizeof(out->gpr));
	out->gpr[RSP] = frame[3];
	vectors_unpack(&out->vectors, v->xsave);
	for (unsigned i = 0; i < PAGES; i++)
		memcpy(out->memory.bytes + i * PAGE_SIZE, physical(gpa_of_page(i)), PAGE_SIZE);
}

static const char *run(void)
{
	switch (sigsetjmp(escape, 0)) {
	case 0:
		running = true;
		vm_run(vm);
		running = false;
		break;
	case SIGABRT:
		return "it aborted";
	case SIGALRM:
		return "it did not end";
	default:
		return "a fault of its own";
	}
	if (vm->exit == EXIT_ERROR)
		return vm->exit_message;
	if (vm->exit != EXIT_DEBUG)
		return vm->exit == EXIT_TRIPLE_FAULT ? "triple fault" : "it stopped";
	if (vm->vcpu->rip - (SYSTEM + HANDLERS) >= PAGE_SIZE)
		return "stopped elsewhere";
	return NULL;
}

void machine_run(const struct insn_case *c, unsigned cpl, bool again, struct outcome *out)
{
	struct vcpu *v = vm->vcpu;
	struct live *chosen = vm->live;

	memset(out, 0, offsetof(struct outcome, memory));
	load_memory(c);
	load_registers(c, cpl);
	if (c->cold && !again)
		mmu_flush_all(v);
	vm->exit = EXIT_RUNNING;
	u64 before = v->icount;

	runs++;
	out->crash = run();
	if (out->crash) {
		running = false;
		v->fpu_loaded = false;
		vm->live = live;
		live_flush(live);
		vm->live = chosen;
		return;
	}
	out->instructions = v->icount - before;
	take_outcome(out);
}
