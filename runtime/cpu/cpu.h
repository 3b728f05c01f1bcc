/*
 * What the processor does besides computing: exceptions and interrupts, control and model-specific registers,
 * segments, CPUID, and the helpers that emulate sensitive instructions. Compiled for general registers only.
 */
#ifndef AVANT_CPU_CPU_H
#define AVANT_CPU_CPU_H

#include "cpu/vcpu.h"
#include "x86/insn.h"

struct err;

/* The helpers, by enum insn_helper. Each follows the contract of enum exec. */
typedef enum exec insn_helper_fn(struct vcpu *v, const struct insn *insn);
extern insn_helper_fn *const cpu_helpers[HELP_COUNT];
#define X(name) insn_helper_fn help_##name;
INSN_HELPERS(X)
#undef X

/*
 * Delivers v->fault through the IDT, escalating to #DF and then to a triple fault (SDM vol. 3A, 6.15).
 * EXEC_JUMP: rip, CS, SS, RSP, RFLAGS and the view are those of the handler. EXEC_STOP: triple fault.
 */
enum exec cpu_deliver_fault(struct vcpu *v);

/* Delivers an external interrupt or NMI (SDM vol. 3A, 6.12–6.14). Results as above. */
enum exec cpu_deliver_interrupt(struct vcpu *v, u8 vector);

/* Delivers a software interrupt (INT n, INT3, INTO): checks the gate's DPL; return address is `next`. */
enum exec cpu_software_interrupt(struct vcpu *v, u8 vector, u64 next);

/* Writes to control registers and EFER with all checks; EXEC_LEAVE, or EXEC_FAULT with #GP(0). */
enum exec cpu_write_cr0(struct vcpu *v, u64 value);
enum exec cpu_write_cr3(struct vcpu *v, u64 value);
enum exec cpu_write_cr4(struct vcpu *v, u64 value);

/* MSRs. EXEC_FAULT with #GP(0) for an unknown one or an illegal value. */
enum exec cpu_read_msr(struct vcpu *v, u32 msr, u64 *value);
enum exec cpu_write_msr(struct vcpu *v, u32 msr, u64 value);

/* Changes the privilege level and the view that goes with it. */
void cpu_set_cpl(struct vcpu *v, u8 cpl);

/* CPUID of the model in force; fills four registers. */
struct cpuid_leaf {
	u32 eax, ebx, ecx, edx;
};
void cpu_cpuid(const struct vcpu *v, u32 leaf, u32 subleaf, struct cpuid_leaf *out);

/* Named CPU models. */
struct cpu_model;
const struct cpu_model *cpu_model_find(const char *name); /* NULL if unknown; "default" is one */
const char *cpu_model_name(const struct cpu_model *model);
const char *cpu_model_describe(const struct cpu_model *model);
const struct cpu_model *cpu_model_at(unsigned index); /* NULL past the end */
/* Says in err which feature of the model this host lacks; 0 if none. */
int cpu_model_check_host(const struct cpu_model *model, struct err *err);

#endif
