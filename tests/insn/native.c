#include "native.h"

#include <asm/ldt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define FRAME_ADDRESS 0x0a000000UL /* native_enter.S */

struct native_frame {
	u64 gpr[GPR_COUNT];
	u64 flags, rip, fs, gs;
	u64 host_sp, host_fs, host_gs, far; /* far: offset and selector of 32-bit code */
	_Alignas(64) u8 vectors[VECTOR_AREA];
};

void native_enter(void);
void native_enter_legacy(void);
_Noreturn void native_leave(void);

static struct native_frame *frame = (struct native_frame *)FRAME_ADDRESS;
static volatile bool running;
static volatile u64 runs;
static struct outcome *result;

static void map_or_die(u64 address, u64 size, int protection)
{
	if (mmap((void *)address, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
	    MAP_FAILED) {
		perror("cannot map a region of the test");
		exit(1);
	}
}

void native_init(void)
{
	map_or_die(FRAME_ADDRESS, align_up(sizeof(*frame), PAGE_SIZE), PROT_READ | PROT_WRITE);
	for (unsigned i = 0; i < REGIONS; i++)
		map_or_die(regions[i].address, regions[i].pages * PAGE_SIZE,
			   PROT_READ | PROT_WRITE | (regions[i].execute ? PROT_EXEC : 0));
}

static bool make_segment(unsigned selector, u64 base, u32 limit, unsigned contents, bool read_only)
{
	struct user_desc segment = {.entry_number = selector >> 3,
				    .base_addr = (unsigned)base,
				    .limit = limit,
				    .seg_32bit = 1,
				    .contents = contents,
				    .read_exec_only = read_only};

	return syscall(SYS_modify_ldt, 1, &segment, sizeof(segment)) == 0;
}

bool native_init_legacy(void)
{
	return make_segment(LEGACY_FS, DATA, LEGACY_FS_LIMIT, MODIFY_LDT_CONTENTS_DATA, false) &&
	       make_segment(LEGACY_GS, LEGACY_GS_BASE, LEGACY_GS_LIMIT, MODIFY_LDT_CONTENTS_STACK, true);
}

bool native_supported(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
	       __builtin_cpu_supports("fma") && (getauxval(AT_HWCAP2) & 2); /* FSGSBASE, enabled by the kernel */
}

/* The thread pointer may be the case's: nothing here may use it before it is put back. */
__attribute__((no_stack_protector)) bool native_signal(void *context)
{
	static const int number[GPR_COUNT] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
					      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
	mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;

	if (!running)
		return false;
	if (frame->far)
		__asm__ volatile("mov %0, %%fs\n\tmov %0, %%gs" : : "r"(0));
	__asm__ volatile("wrfsbase %0\n\twrgsbase %1" : : "r"(frame->host_fs), "r"(frame->host_gs));
	running = false;
	for (unsigned i = 0; i < GPR_COUNT; i++)
		result->gpr[i] = (u64)machine->gregs[number[i]];
	result->rip = (u64)machine->gregs[REG_RIP];
	result->flags = (u64)machine->gregs[REG_EFL];
	result->vector = (u8)machine->gregs[REG_TRAPNO];
	result->error = (u32)machine->gregs[REG_ERR];
	result->cr2 = (u64)machine->gregs[REG_CR2];
	vectors_unpack(&result->vectors, (const u8 *)machine->fpregs);
	native_leave();
}

u64 native_runs(void)
{
	return runs;
}

static void protect_ends(int protection)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		u64 last = regions[i].address + (regions[i].pages - 1) * PAGE_SIZE;

		if (regions[i].read_only_end && mprotect((void *)last, PAGE_SIZE, protection) < 0)
			abort();
	}
}

void native_run(const struct insn_case *c, struct outcome *out)
{
	static struct image image;

	image_prepare(&image, c);
	memset(out, 0, offsetof(struct outcome, memory));
	for (unsigned i = 0; i < REGIONS; i++) {
		unsigned pages = regions[i].pages;

		/* changes from case to case only by a patch */
		if (regions[i].read_only_end &&
		    memcmp((void *)(regions[i].address + (pages - 1) * PAGE_SIZE),
			   image.bytes + (regions[i].first + pages - 1) * PAGE_SIZE, PAGE_SIZE) != 0) {
			protect_ends(PROT_READ | PROT_WRITE);
			memcpy((void *)(regions[i].address + (pages - 1) * PAGE_SIZE),
			       image.bytes + (regions[i].first + pages - 1) * PAGE_SIZE, PAGE_SIZE);
			protect_ends(PROT_READ);
		}
		memcpy((void *)regions[i].address, image.bytes + regions[i].first * PAGE_SIZE,
		       (pages - regions[i].read_only_end) * PAGE_SIZE);
	}
	memcpy(frame->gpr, c->gpr, sizeof(frame->gpr));
	frame->flags = c->flags | FLAG_FIXED | FLAG_IF;
	frame->rip = c->start;
	frame->fs = c->fs_base;
	frame->gs = c->gs_base;
	memcpy(frame->vectors, c->vectors, VECTOR_AREA);
	result = out;
	runs++;
	running = true;
	frame->far = c->legacy ? c->start | (u64)LEGACY_CS << 32 : 0;
	if (c->legacy)
		native_enter_legacy();
	else
		native_enter();
	for (unsigned i = 0; i < REGIONS; i++)
		memcpy(out->memory.bytes + regions[i].first * PAGE_SIZE, (void *)regions[i].address,
		       regions[i].pages * PAGE_SIZE);
}
