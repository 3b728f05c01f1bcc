/* Inside of the lifter: the state of one unit being turned into IR, and what the files here do for each other. */
#ifndef AVANT_AOT_LIFT_IR_H
#define AVANT_AOT_LIFT_IR_H

#include <llvm-c/Core.h>

#include "lift.h"

#define EXIT_MAX   512
#define STREAM_MAX 32

/* Arithmetic flags by a dense number. */
enum { F_CF, F_PF, F_AF, F_ZF, F_SF, F_OF, F_COUNT };
extern const u16 flag_bits[F_COUNT]; /* FLAG_CF … */

/*
 * What set the flags last, as far as that is known at this place: conditions then become one comparison instead of
 * a combination of bits, and all flags together one instruction. The bits are in lift.flag in any case.
 */
enum flag_source { FLAGS_UNKNOWN, FLAGS_SUB, FLAGS_ADD, FLAGS_LOGIC, FLAGS_INC, FLAGS_DEC, FLAGS_WORD };

struct flag_state {
	enum flag_source source;
	u8 size;
	LLVMValueRef a, b, result; /* integers of that size */
	LLVMValueRef word;         /* FLAGS_WORD: i64 as lahf and seto al leave it */
	u16 known;                 /* FLAGS_WORD: flags that the word has */
};

/* Accesses that look-ups are shared between: see access.c. */
enum stream_kind { STREAM_BASE, STREAM_INDEX, STREAM_SEGMENT, STREAM_CONSTANT };

struct stream {
	u8 kind; /* enum stream_kind */
	u8 reg;  /* base or index register, or INSN_NO_REG */
	u8 seg;
	bool write;               /* some access writes: state is that of a page that may be written */
	u64 page;                 /* of a constant address, or of the displacement beside an index */
	u8 count;                 /* accesses */
	bool loops;               /* some access is in a loop */
	LLVMValueRef tag, addend; /* allocas of the function being built, or NULL */
};

/*
 * Several accesses off one register, unchanged in between, in one basic block: checked together before the first of
 * them. If they are not all in one page that may be accessed so, a plain function takes over, without windows.
 */
#define LIFT_WINDOWS_MAX 6

struct lift_window {
	u16 first, last; /* items */
	u8 base;
	bool write;
	u8 count;
	s64 low, high;       /* bytes touched, relative to the register */
	LLVMValueRef addend; /* once checked */
};

struct lift {
	LLVMContextRef context;
	LLVMModuleRef module;
	LLVMBuilderRef b;
	LLVMTypeRef i1, i8, i16, i32, i64, i128, ptr, none, function_type;
	const struct scan *scan;
	const struct lift_options *options;
	const bool *lifted; /* by item */
	unsigned prof_kind, invariant_kind;
	LLVMValueRef unlikely, empty_node; /* metadata */
	const char *reason;                /* why the unit is given up, or NULL */
	/* the unit */
	u16 written;  /* registers that some lifted instruction may change */
	u16 named;    /* … or read */
	u16 released; /* registers that no lifted instruction names, kept in vcpu.gpr throughout */
	bool in_loop[SCAN_ROOM];
	struct stream stream[STREAM_MAX];
	unsigned stream_count;
	struct lift_window window[LIFT_WINDOWS_MAX];
	unsigned window_count;
	bool plain;                             /* the function being built has no windows */
	LLVMValueRef plain_function[SCAN_ROOM]; /* by the item at which they begin, or NULL */
	struct lift_exit exit[EXIT_MAX];
	unsigned exit_count;
	LLVMValueRef exit_function[EXIT_MAX];
	unsigned emitted; /* items in all functions, duplicates included */
	/* the function being built */
	LLVMValueRef function;
	LLVMBasicBlockRef enter; /* allocas and loads of the initial state */
	LLVMValueRef reg[GPR_COUNT];
	LLVMValueRef flag[F_COUNT];
	LLVMBasicBlockRef block[SCAN_ROOM]; /* of leaders */
	bool reachable[SCAN_ROOM];
	/* the item being lifted */
	unsigned item;
	const struct insn *insn;
	u16 live_out;            /* flags live after it */
	LLVMBasicBlockRef fault; /* leaves before the item, or NULL so far */
	LLVMValueRef operand;    /* host address of its memory operand, once checked */
	struct flag_state flags;
	bool ended; /* the item has ended its block */
};

/* --- values (value.c) ------------------------------------------------------------------------------------------- */

LLVMTypeRef lift_type(struct lift *l, unsigned size);
LLVMValueRef lift_const(struct lift *l, unsigned size, u64 value);
LLVMValueRef lift_zext(struct lift *l, LLVMValueRef value, unsigned size);
LLVMValueRef lift_sext(struct lift *l, LLVMValueRef value, unsigned size);
LLVMValueRef lift_trunc(struct lift *l, LLVMValueRef value, unsigned size);
/* The constant address of a field of struct vcpu, as a pointer. */
LLVMValueRef lift_address(struct lift *l, u64 address);
LLVMValueRef lift_intrinsic1(struct lift *l, const char *name, LLVMValueRef a);
LLVMValueRef lift_intrinsic(struct lift *l, const char *name, LLVMTypeRef type, LLVMValueRef *args, unsigned count);
LLVMValueRef lift_negative(struct lift *l, LLVMValueRef value);
LLVMValueRef lift_is_zero(struct lift *l, LLVMValueRef value);
LLVMBasicBlockRef lift_block(struct lift *l, const char *name);
/* Branches to `then` if the condition holds, which it seldom does. */
void lift_unlikely(struct lift *l, LLVMValueRef condition, LLVMBasicBlockRef then, LLVMBasicBlockRef otherwise);
void lift_to(struct lift *l, LLVMBasicBlockRef block);
/* Inline assembly without side effects but in `volatile_` ones; Intel syntax unless att. */
LLVMValueRef lift_asm(struct lift *l, LLVMTypeRef result, const char *text, const char *constraints, LLVMValueRef *args,
		      unsigned count, bool volatile_, bool att);
/* An alloca of the function, with its initial value (constant or valid in the entry block). */
LLVMValueRef lift_variable(struct lift *l, LLVMTypeRef type, LLVMValueRef initial, const char *name);

/* Guest registers; `high`: AH–BH are registers 4–7 as in struct operand. */
LLVMValueRef lift_get(struct lift *l, unsigned reg);
void lift_set(struct lift *l, unsigned reg, LLVMValueRef value);
LLVMValueRef lift_get_part(struct lift *l, unsigned reg, unsigned size, bool high);
void lift_set_part(struct lift *l, unsigned reg, bool high, LLVMValueRef value);
/* Operand n of the current instruction as an integer of `size` bytes. */
LLVMValueRef lift_read(struct lift *l, unsigned n, unsigned size);
void lift_write(struct lift *l, unsigned n, LLVMValueRef value);

/* --- memory (access.c) ------------------------------------------------------------------------------------------- */

void lift_find_streams(struct lift *l);
/* The linear address of the memory operand. */
LLVMValueRef lift_ea(struct lift *l, bool with_segment);
/* Host address of the memory operand: checked; leaves the unit if it must not be accessed here. */
LLVMValueRef lift_operand(struct lift *l);
/* Finds the windows of the function, and opens those that begin with the current item. */
void lift_find_windows(struct lift *l);
void lift_open_windows(struct lift *l);
/* … of `size` bytes at gva off the stack or frame pointer. */
LLVMValueRef lift_stack(struct lift *l, unsigned base, LLVMValueRef gva, bool write);
LLVMValueRef lift_load(struct lift *l, LLVMValueRef host, unsigned size);
void lift_store(struct lift *l, LLVMValueRef host, LLVMValueRef value);

/* --- flags (flags.c) --------------------------------------------------------------------------------------------- */

LLVMValueRef lift_flag(struct lift *l, unsigned flag);
void lift_set_flag(struct lift *l, unsigned flag, LLVMValueRef bit);
/* The flags after result = a - b, a + b, or a logical operation. */
void lift_flags_sub(struct lift *l, LLVMValueRef a, LLVMValueRef b, LLVMValueRef result);
void lift_flags_add(struct lift *l, LLVMValueRef a, LLVMValueRef b, LLVMValueRef result, LLVMValueRef carry);
void lift_flags_logic(struct lift *l, LLVMValueRef result);
void lift_flags_step(struct lift *l, LLVMValueRef a, LLVMValueRef result, bool up);
/* Result flags (ZF SF PF) as far as live. */
void lift_flags_result(struct lift *l, LLVMValueRef result);
/* Takes the flags in `mask` from a word; `unless`: a condition under which they stay as they are, or NULL. */
void lift_flags_from_word(struct lift *l, LLVMValueRef word, u16 mask, LLVMValueRef unless);
/* Those in `mask` as a word for the exits. */
LLVMValueRef lift_flags_word(struct lift *l, u16 mask);
LLVMValueRef lift_condition(struct lift *l, unsigned cc);

/* --- instructions (insn.c, …) ------------------------------------------------------------------------------------ */

/* A general-purpose instruction of class INSN_COPY. */
void lift_copy_class(struct lift *l);

typedef void lift_handler(struct lift *l);
extern lift_handler *const lift_handlers[];

/* SSE and AVX (vector.c). */
bool lift_vector_possible(const struct insn *insn, u32 mode);
/* May it raise a floating-point exception? */
bool lift_vector_floats(const struct insn *insn);
void lift_vector(struct lift *l);
/* Is a floating-point exception unmasked in MXCSR? A bit. */
LLVMValueRef lift_unmasked(struct lift *l);

/* --- functions and exits (unit.c) -------------------------------------------------------------------------------- */

/* Builds all functions of the unit. False with l->reason. */
bool lift_unit(struct lift *l);
/* Where an access of this item goes that must not be made here. */
LLVMBasicBlockRef lift_fault(struct lift *l);
/* Where the code goes on at this item that does without windows. */
LLVMBasicBlockRef lift_plain(struct lift *l);

#endif
