/*
 * The virtual CPU: everything architectural that the guest can see, plus the few fields that generated code names.
 *
 * There is one struct vcpu, mapped at VCPU_ADDRESS in the low 2 GiB, so that every generated instruction can name
 * each of its fields by an absolute 32-bit displacement whatever the segment bases are.
 *
 * While guest code runs in the live or aot engine the general registers live in host registers (runtime/live/README
 * has the mapping); whenever C code looks at struct vcpu they have been stored back.
 */
#ifndef AVANT_CPU_VCPU_H
#define AVANT_CPU_VCPU_H

#include "util/types.h"

#define VCPU_ADDRESS 0x10000000UL

struct vm;
struct view;
struct insn;

/* Numbers as in instruction encodings. */
enum gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, GPR_COUNT };
enum seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/* RFLAGS (SDM vol. 1, 3.4.3). */
#define FLAG_CF     BIT(0)
#define FLAG_PF     BIT(2)
#define FLAG_AF     BIT(4)
#define FLAG_ZF     BIT(6)
#define FLAG_SF     BIT(7)
#define FLAG_TF     BIT(8)
#define FLAG_IF     BIT(9)
#define FLAG_DF     BIT(10)
#define FLAG_OF     BIT(11)
#define FLAG_IOPL   (3ULL << 12)
#define FLAG_NT     BIT(14)
#define FLAG_RF     BIT(16)
#define FLAG_VM     BIT(17)
#define FLAG_AC     BIT(18)
#define FLAG_VIF    BIT(19)
#define FLAG_VIP    BIT(20)
#define FLAG_ID     BIT(21)
#define FLAG_FIXED  BIT(1)
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* CR0, CR4, EFER (SDM vol. 3A, 2.5 and 2.2.1). */
#define CR0_PE         BIT(0)
#define CR0_MP         BIT(1)
#define CR0_EM         BIT(2)
#define CR0_TS         BIT(3)
#define CR0_ET         BIT(4)
#define CR0_NE         BIT(5)
#define CR0_WP         BIT(16)
#define CR0_AM         BIT(18)
#define CR0_NW         BIT(29)
#define CR0_CD         BIT(30)
#define CR0_PG         BIT(31)
#define CR4_VME        BIT(0)
#define CR4_PVI        BIT(1)
#define CR4_TSD        BIT(2)
#define CR4_DE         BIT(3)
#define CR4_PSE        BIT(4)
#define CR4_PAE        BIT(5)
#define CR4_MCE        BIT(6)
#define CR4_PGE        BIT(7)
#define CR4_PCE        BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)
#define EFER_SCE       BIT(0)
#define EFER_LME       BIT(8)
#define EFER_LMA       BIT(10)
#define EFER_NXE       BIT(11)

/* Exception vectors (SDM vol. 3A, table 6-1). */
enum vector {
	VEC_DE = 0,
	VEC_DB = 1,
	VEC_NMI = 2,
	VEC_BP = 3,
	VEC_OF = 4,
	VEC_BR = 5,
	VEC_UD = 6,
	VEC_NM = 7,
	VEC_DF = 8,
	VEC_TS = 10,
	VEC_NP = 11,
	VEC_SS = 12,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_MF = 16,
	VEC_AC = 17,
	VEC_MC = 18,
	VEC_XM = 19,
};

/*
 * A loaded segment. `attr` holds the descriptor's bits 40–47 in its low byte (type, S, DPL, P) and bits 52–55 (AVL, L,
 * D/B, G) in bits 12–15, the layout of the SDM's access-rights field (vol. 3C, 24.4.1). `limit` is in bytes, expanded.
 */
struct segment {
	u16 selector;
	u16 attr;
	u32 limit;
	u64 base;
};

#define SEG_ATTR_TYPE      0x000f
#define SEG_ATTR_S         0x0010
#define SEG_ATTR_DPL_SHIFT 5
#define SEG_ATTR_P         0x0080
#define SEG_ATTR_L         0x2000
#define SEG_ATTR_DB        0x4000
#define SEG_ATTR_G         0x8000

struct table_register {
	u64 base;
	u16 limit;
};

/*
 * What executing one instruction, or touching guest memory, came to. Helpers are entered with v->rip at the
 * instruction; see each value for who moves it.
 */
enum exec {
	EXEC_OK = 0, /* completed; the caller advances rip past the instruction */
	EXEC_LEAVE,  /* completed, the caller advances rip; mappings, mode or code may have changed: dispatch anew */
	EXEC_JUMP,   /* completed, rip has been set by the callee: dispatch anew */
	EXEC_FAULT,  /* not executed: v->fault says what to deliver, rip unchanged */
	EXEC_AGAIN,  /* partly executed (a long REP): rip unchanged, registers advanced; look for events, then go on */
	EXEC_HALT,   /* HLT completed; the caller advances rip, then waits for an interrupt */
	EXEC_STOP,   /* the VM is to stop; v->vm->exit says why */
};

struct fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 cr2;     /* with VEC_PF */
	u64 dr6;     /* with VEC_DB: bits to set in DR6 */
	bool before; /* with VEC_DB: raised before the instruction, so a fault and not a trap */
};

/* Which address space view is in force: TLBs and jump tables are separate for each. */
enum view_kind { VIEW_USER, VIEW_KERNEL, VIEW_KERNEL_AC, VIEW_KINDS };

#define XSAVE_AREA_SIZE 1024 /* x87, SSE and AVX in standard format take 832 bytes */

struct vcpu {
	/* --- named by generated code -------------------------------------------------------------------------------
	 */
	u64 gpr[GPR_COUNT];
	u64 rip;
	u64 arith;   /* CF PF AF ZF SF OF; other bits undefined. The rest of RFLAGS is in `rflags`. */
	u64 rflags;  /* RFLAGS without the arithmetic ones (those bits are 0 here) */
	u8 poll;     /* non-zero: leave generated code at the next safepoint (an event, or a deliverable interrupt) */
	u8 event;    /* non-zero: timers or input want to be looked at; set by signal handlers and waiter threads */
	u8 irq_line; /* non-zero: the interrupt controllers have an interrupt that only RFLAGS.IF may hold back */
	u8 shadow;   /* interrupts are held back for one instruction (after STI, MOV SS, POP SS) */
	u8 cpl;
	u8 trap; /* a single-step trap is due after the instruction being executed (RFLAGS.TF) */
	u8 pad0[2];
	u64 host_sp;           /* the C stack to switch to when generated code calls a helper */
	u64 scratch[8];        /* spill slots of emitted sequences */
	u64 exit_info;         /* says which exit of which unit was taken */
	s64 budget;            /* counted mode: instructions left until the next event is due */
	u64 prediction_sp[2];  /* [cpl == 3]: tops of the stacks that generated code runs on */
	u64 enter_target;      /* where live_enter goes */
	u64 interp_sp;         /* C stack while an interp thunk runs */
	u32 live_exit;         /* enum live_exit */
	u32 live_exec;         /* enum exec, with LIVE_EXIT_EXEC */
	void *interp_done;     /* where a thunk goes at its end */
	void *stub[32];        /* entry points reached by `call/jmp [abs32]`, filled at start-up; enum stub */
	u64 window[GPR_COUNT]; /* addends of open windows while a stub is called, by register */
	u64 tally[4][2];       /* counted mode: instructions executed by enum origin and CPL 3 */
	u64 gs_base;           /* copies of seg[].base where generated code adds them */
	u64 fs_base;

	/* --- the rest of the architectural state -------------------------------------------------------------------
	 */
	u64 cr0, cr2, cr3, cr4;
	u64 efer;
	u64 xcr0;
	u64 dr[8];
	struct segment seg[SEG_COUNT];
	struct table_register gdtr, idtr;
	u64 kernel_gs_base;
	u64 star, lstar, cstar, sfmask;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 pat;
	u64 tsc_aux;
	u64 tsc_offset; /* guest TSC = clock_tsc(vm) + tsc_offset; also what IA32_TSC_ADJUST reports */
	u64 misc_enable;
	u64 mtrr_def_type, mtrr_fixed[11], mtrr_variable[16];
	u64 spec_ctrl, feature_control, microcode;
	u64 kvm_wall_clock, kvm_system_time; /* KVM's paravirtual clock MSRs; 0: not in use */
	u64 random_state;                    /* RDRAND on the instruction clock */
	bool host_rdrand;                    /* the host has RDRAND */
	u32 host_xsave; /* state components that are moved to and from xsave[]: x87, SSE, and AVX if the host has it */

	/* --- execution ---------------------------------------------------------------------------------------------
	 */
	struct fault fault;
	struct vm *vm;
	struct view *view;               /* in force; the host's GS base while the vCPU thread runs */
	unsigned slot;                   /* address-space slot in force */
	bool fpu_loaded;                 /* the guest's vector state is in the host's registers, not in xsave[] */
	bool fpu_lent;                   /* … but for x87, which is still there (vcpu_fpu_lend) */
	u64 icount;                      /* instructions executed (counted mode and interp) */
	u64 *tally_in;                   /* counted mode: where the instruction that C executes now counts */
	u64 icount_limit;                /* counted mode, in generated code: icount when the budget is 0 */
	u64 observed;                    /* breakpoints that the instruction has met, as bits of DR6 */
	u64 observed_late;               /* those that a load of SS has met: told after the next instruction */
	u8 observe;                      /* what accesses are looked at for: OBSERVE_* */
	bool nmi_blocked;                /* by an NMI, until IRET */
	bool careful;                    /* the next translation to run must be one without windows */
	bool predictions_full;           /* a prediction stack has used its reserve */
	bool forget_user, forget_kernel; /* return predictions may be stale: mappings have changed */
	_Alignas(64) u8 bounce[512];     /* memory operands of single instructions */
	_Alignas(64) u8 xsave[XSAVE_AREA_SIZE];
	_Alignas(64) u8 image[XSAVE_AREA_SIZE]; /* what XSAVE, FXSAVE and their kin move to and from guest memory */
};

/* The whole of RFLAGS as the guest would read it. */
static inline u64 vcpu_rflags(const struct vcpu *v)
{
	return v->rflags | (v->arith & FLAGS_ARITH) | FLAG_FIXED;
}

/* Sets the whole of RFLAGS. The caller follows with vcpu_update_view() if CPL or AC changed, vcpu_update_poll() if IF
 * did. */
static inline void vcpu_set_rflags(struct vcpu *v, u64 value)
{
	v->arith = value & FLAGS_ARITH;
	v->rflags = (value & ~FLAGS_ARITH) | FLAG_FIXED;
}

/* Recomputes `poll` from `event`, `irq_line`, RFLAGS.IF and the shadow. */
static inline void vcpu_update_poll(struct vcpu *v)
{
	__atomic_store_n(&v->poll, 0, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&v->event, __ATOMIC_SEQ_CST) || (v->irq_line && (v->rflags & FLAG_IF)))
		__atomic_store_n(&v->poll, 1, __ATOMIC_SEQ_CST);
}

/* Asks the vCPU to look at timers and input soon. Async-signal-safe; callable from any thread. */
static inline void vcpu_notify(struct vcpu *v)
{
	__atomic_store_n(&v->event, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&v->poll, 1, __ATOMIC_SEQ_CST);
}

/* Records an exception without error code; returns EXEC_FAULT. */
static inline enum exec vcpu_raise(struct vcpu *v, u8 vector)
{
	v->fault = (struct fault){.vector = vector};
	return EXEC_FAULT;
}

/* Records an exception with error code; returns EXEC_FAULT. */
static inline enum exec vcpu_raise_error(struct vcpu *v, u8 vector, u32 error)
{
	v->fault = (struct fault){.vector = vector, .has_error = true, .error = error};
	return EXEC_FAULT;
}

/* Is 32-bit or 16-bit code being executed (compatibility mode, SDM vol. 3A, 2.2)? CODE_64 has SEG_ATTR_L. */
static inline bool vcpu_legacy(const struct vcpu *v)
{
	return v->cpl == 3 && !(v->seg[SEG_CS].attr & SEG_ATTR_L);
}

static inline bool vcpu_canonical(u64 address)
{
	return (u64)((s64)(address << 16) >> 16) == address;
}

/*
 * Moves the guest's vector state out of the host's registers into xsave[] if it is there. Must precede any call into
 * code that is not compiled for general registers only (libc's string functions, Zydis, printf, malloc).
 * Entering guest code loads it back.
 */
void vcpu_fpu_put(struct vcpu *v);

/*
 * The same for a quarter of the price, where the C code that follows is short and must only not find the guest's
 * values: x87 registers stay where they are. No C code here touches those but with long double. vcpu_fpu_get() brings
 * the rest back; whoever calls vcpu_fpu_put() in between gets what it promises.
 */
void vcpu_fpu_lend(struct vcpu *v);

/* Loads the guest's vector state into the host's registers if it is not there. */
void vcpu_fpu_get(struct vcpu *v);

/* Puts the view that fits CPL and RFLAGS.AC, in the slot in force, into force (writes the host's GS base). */
void vcpu_update_view(struct vcpu *v);

/* Power-on state of the general, control and segment registers (SDM vol. 3A, table 9-1), before boot/ sets the boot
 * state. */
void vcpu_reset(struct vcpu *v);

#endif
