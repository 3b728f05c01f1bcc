/* cpuid, random numbers, cache line hints, and what is not offered. */
#include "cpu/system.h"
#include "vm.h"

#include <sys/syscall.h>

enum exec help_cpuid(struct vcpu *v, const struct insn *insn)
{
	struct cpuid_leaf leaf;

	(void)insn;
	cpu_cpuid(v, (u32)v->gpr[RAX], (u32)v->gpr[RCX], &leaf);
	v->gpr[RAX] = leaf.eax;
	v->gpr[RBX] = leaf.ebx;
	v->gpr[RCX] = leaf.ecx;
	v->gpr[RDX] = leaf.edx;
	return EXEC_OK;
}

/* Not offered by any CPU model. */
enum exec help_monitor(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return vcpu_raise(v, VEC_UD);
}

enum exec help_mwait(struct vcpu *v, const struct insn *insn)
{
	(void)insn;
	return vcpu_raise(v, VEC_UD);
}

enum exec help_pause(struct vcpu *v, const struct insn *insn)
{
	(void)v;
	(void)insn;
	return EXEC_OK;
}

/* Checked like a load of one byte; guest memory is coherent, so there is nothing to flush. */
enum exec help_clflush(struct vcpu *v, const struct insn *insn)
{
	const u64 address = operand_address(v, insn);
	u64 gpa;

	if (mmu_translate(v, address, ACCESS_READ, &gpa) == EXEC_OK)
		return EXEC_OK;
	return insn->base == RSP || insn->base == RBP ? stack_fault(v, address) : EXEC_FAULT;
}

/* --- random numbers -------------------------------------------------------------------------------------------- */

/* A repeatable sequence for the instruction clock (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
 */
static u64 random_repeatable(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* From the host's kernel, without libc's wrapper: it may be interposed, and errno lives in thread-local storage. */
static bool random_from_kernel(u64 *value)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"((long)SYS_getrandom), "D"(value), "S"(sizeof(*value)), "d"(0L)
			 : "rcx", "r11", "memory");
	return result == (long)sizeof(*value);
}

/* 10 tries, as the SDM (vol. 1, 7.3.17.1) recommends. */
#define RDRAND_TRIES 10

static bool random_from_host(const struct vcpu *v, u64 *value)
{
	for (unsigned i = 0; v->host_rdrand && i < RDRAND_TRIES; i++) {
		bool valid;

		__asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(valid));
		if (valid)
			return true;
	}
	return random_from_kernel(value);
}

static enum exec random_number(struct vcpu *v, const struct insn *insn)
{
	const struct operand reg = {.kind = OPERAND_GPR, .reg = (u8)insn_modrm_rm(insn), .size = (u8)insn_size(insn)};
	u64 value = 0;
	bool valid = true;

	if (v->vm->clock.source == CLOCK_SOURCE_INSTRUCTIONS)
		value = random_repeatable(&v->random_state);
	else
		valid = random_from_host(v, &value);
	operand_set_gpr(v, &reg, valid ? value : 0);
	v->arith = valid ? FLAG_CF : 0;
	return EXEC_OK;
}

enum exec help_rdrand(struct vcpu *v, const struct insn *insn)
{
	return random_number(v, insn);
}

enum exec help_rdseed(struct vcpu *v, const struct insn *insn)
{
	return random_number(v, insn);
}
