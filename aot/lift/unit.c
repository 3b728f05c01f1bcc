/*
 * The functions of a unit: one for each item at which lifted code is entered. Each holds all lifted blocks that are
 * reached from there.
 */
#include "ir.h"

#include <stdio.h>
#include <string.h>

/* Items in all functions together: more means that blocks are duplicated too often. */
#define EMITTED_MAX(count) (4 * (count) + 32)

/* Guest registers in the order of a function's arguments, whose host registers have the same name; then r10 (nest). */
static const u8 argument_order[] = {R12, R13, R14, R15, RDI, RSI, RDX, RCX, R8, R9, RSP, RAX};
#define ARGUMENTS ((unsigned)(sizeof(argument_order)))

/* Those that are in struct vcpu at every boundary: host r8, r9, rbx, rbp are free there. */
#define IN_MEMORY (BIT(RBX) | BIT(RBP) | BIT(R8) | BIT(R9) | BIT(R10) | BIT(R11))

static LLVMValueRef gpr_address(struct lift *l, unsigned reg)
{
	return lift_address(l, VCPU_ADDRESS + offsetof(struct vcpu, gpr) + reg * 8);
}

/* --- exits ------------------------------------------------------------------------------------------------------- */

static int find_exit(struct lift *l, const struct lift_exit *wanted)
{
	for (unsigned i = 0; i < l->exit_count; i++) {
		const struct lift_exit *e = &l->exit[i];

		if (e->kind == wanted->kind && e->item == wanted->item && e->flags == wanted->flags &&
		    e->pc == wanted->pc)
			return (int)i;
	}
	return -1;
}

static LLVMValueRef exit_function(struct lift *l, const struct lift_exit *wanted)
{
	int found = find_exit(l, wanted);
	char name[24];

	if (found >= 0)
		return l->exit_function[found];
	if (l->exit_count == EXIT_MAX) {
		l->reason = "too many exits";
		return l->exit_function[0];
	}
	snprintf(name, sizeof(name), "exit_%u", l->exit_count);
	LLVMValueRef function = LLVMAddFunction(l->module, name, l->function_type);

	LLVMSetFunctionCallConv(function, 21); /* preserve_none */
	l->exit[l->exit_count] = *wanted;
	l->exit_function[l->exit_count++] = function;
	return function;
}

static void nest_attribute(struct lift *l, LLVMValueRef function, bool call)
{
	LLVMAttributeRef nest = LLVMCreateEnumAttribute(l->context, LLVMGetEnumAttributeKindForName("nest", 4), 0);

	if (call)
		LLVMAddCallSiteAttribute(function, ARGUMENTS + 1, nest);
	else
		LLVMAddAttributeAtIndex(function, ARGUMENTS + 1, nest);
}

static void add_string_attribute(struct lift *l, LLVMValueRef function, const char *name, const char *value)
{
	LLVMAddAttributeAtIndex(
		function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
		LLVMCreateStringAttribute(l->context, name, (unsigned)strlen(name), value, (unsigned)strlen(value)));
}

static void add_attribute(struct lift *l, LLVMValueRef function, const char *name)
{
	unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));

	LLVMAddAttributeAtIndex(function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
				LLVMCreateEnumAttribute(l->context, kind, 0));
}

static LLVMValueRef add_function(struct lift *l, const char *prefix, unsigned entry)
{
	char name[16];

	snprintf(name, sizeof(name), "%s%u", prefix, entry);
	LLVMValueRef function = LLVMAddFunction(l->module, name, l->function_type);

	LLVMSetFunctionCallConv(function, 21); /* preserve_none */
	nest_attribute(l, function, false);
	add_attribute(l, function, "nounwind");
	add_attribute(l, function, "noredzone");
	add_attribute(l, function, "noimplicitfloat");
	add_string_attribute(l, function, "use-soft-float", "true");
	add_string_attribute(l, function, "no-jump-tables", "true");
	add_string_attribute(l, function, "frame-pointer", "none");
	return function;
}

/* Calls another function instead of returning, with the registers where functions take them. Ends the block. */
static void tail_call(struct lift *l, LLVMValueRef to, LLVMValueRef word)
{
	LLVMValueRef args[ARGUMENTS + 1];

	for (unsigned reg = 0; reg < GPR_COUNT; reg++) {
		if (IN_MEMORY & l->written & BIT(reg))
			LLVMBuildStore(l->b, lift_get(l, reg), gpr_address(l, reg));
	}
	for (unsigned i = 0; i < ARGUMENTS; i++) {
		unsigned reg = argument_order[i];

		if (IN_MEMORY & BIT(reg)) {
			args[i] = LLVMGetPoison(l->i64);
		} else if (l->released & BIT(reg)) {
			args[i] = LLVMBuildLoad2(l->b, l->i64, gpr_address(l, reg), "");
			LLVMSetVolatile(args[i], true);
		} else {
			args[i] = lift_get(l, reg);
		}
	}
	args[ARGUMENTS] = word ? LLVMBuildIntToPtr(l->b, word, l->ptr, "") : LLVMGetPoison(l->ptr);
	LLVMValueRef call = LLVMBuildCall2(l->b, l->function_type, to, args, ARGUMENTS + 1, "");

	LLVMSetInstructionCallConv(call, 21);
	LLVMSetTailCallKind(call, LLVMTailCallKindMustTail);
	nest_attribute(l, call, true);
	LLVMBuildRetVoid(l->b);
}

static void leave(struct lift *l, struct lift_exit exit)
{
	LLVMValueRef word = exit.flags ? lift_flags_word(l, exit.flags) : NULL;

	tail_call(l, exit_function(l, &exit), word);
}

/* At the end of what is emitted so far: a new block that leaves. */
static LLVMBasicBlockRef leaving_block(struct lift *l, struct lift_exit exit)
{
	LLVMBasicBlockRef here = LLVMGetInsertBlock(l->b), block = lift_block(l, "leave");

	lift_to(l, block);
	leave(l, exit);
	lift_to(l, here);
	return block;
}

static struct lift_exit item_exit(const struct lift *l, enum lift_exit_kind kind)
{
	return (struct lift_exit){.kind = (u8)kind, .item = (u16)l->item, .flags = l->scan->item[l->item].live_in};
}

LLVMBasicBlockRef lift_fault(struct lift *l)
{
	if (!l->fault)
		l->fault = leaving_block(l, item_exit(l, LIFT_EXIT_CAREFUL));
	return l->fault;
}

LLVMBasicBlockRef lift_plain(struct lift *l)
{
	LLVMBasicBlockRef here = LLVMGetInsertBlock(l->b), block = lift_block(l, "plain");
	u16 flags = l->scan->item[l->item].live_in;

	if (!l->plain_function[l->item])
		l->plain_function[l->item] = add_function(l, "n", l->item);
	LLVMSetLinkage(l->plain_function[l->item], LLVMInternalLinkage);
	lift_to(l, block);
	if (flags)
		LLVMBuildStore(l->b, lift_flags_word(l, flags),
			       lift_address(l, VCPU_ADDRESS + offsetof(struct vcpu, scratch) + 2 * 8));
	tail_call(l, l->plain_function[l->item], NULL);
	lift_to(l, here);
	return block;
}

static u64 next_pc(const struct lift *l, unsigned i)
{
	return l->scan->pc + l->scan->item[i].offset + l->scan->item[i].insn.length;
}

/* Where a way out of the current item leads: item `to`, or if that is negative guest address pc. */
static struct lift_exit way_out(const struct lift *l, int to, u64 pc)
{
	if (to >= 0)
		return (struct lift_exit){.kind = LIFT_EXIT_ITEM, .item = (u16)to, .flags = l->scan->item[to].live_in};
	return (struct lift_exit){.kind = LIFT_EXIT_GOTO, .pc = pc, .flags = FLAGS_ARITH};
}

/* The block of an item, or one that leaves for it (or for pc). */
static LLVMBasicBlockRef successor(struct lift *l, int to, u64 pc)
{
	if (to >= 0 && l->lifted[to])
		return l->block[to];
	return leaving_block(l, way_out(l, to, pc));
}

static LLVMBasicBlockRef branch_target(struct lift *l, const struct scan_item *item)
{
	return successor(l, item->target, next_pc(l, l->item) + (u64)item->insn.imm);
}

static LLVMBasicBlockRef fall_target(struct lift *l, const struct scan_item *item)
{
	return successor(l, item->falls ? (int)l->item + 1 : -1, next_pc(l, l->item));
}

/* --- control flow ------------------------------------------------------------------------------------------------ */

static void lift_jrcxz(struct lift *l, const struct scan_item *item)
{
	u8 opcode = item->insn.bytes[item->insn.opcode_at];
	LLVMValueRef rcx = lift_get(l, RCX), condition;

	if (opcode == 0xe3) {
		condition = lift_is_zero(l, rcx);
	} else {
		rcx = LLVMBuildSub(l->b, rcx, lift_const(l, 8, 1), "");
		lift_set(l, RCX, rcx);
		condition = LLVMBuildNot(l->b, lift_is_zero(l, rcx), "");
		if (opcode == 0xe1)
			condition = LLVMBuildAnd(l->b, condition, lift_condition(l, 4), "");
		else if (opcode == 0xe0)
			condition = LLVMBuildAnd(l->b, condition, lift_condition(l, 5), "");
	}
	LLVMBasicBlockRef to = branch_target(l, item), next = fall_target(l, item);

	LLVMBuildCondBr(l->b, condition, to, next);
}

static void lift_branch(struct lift *l)
{
	const struct scan_item *item = &l->scan->item[l->item];
	LLVMValueRef condition;

	switch ((enum insn_class)item->insn.class) {
	case INSN_JMP:
		LLVMBuildBr(l->b, branch_target(l, item));
		break;
	case INSN_JCC: {
		condition = lift_condition(l, item->insn.cond);
		LLVMBasicBlockRef to = branch_target(l, item), next = fall_target(l, item);

		LLVMBuildCondBr(l->b, condition, to, next);
		break;
	}
	default:
		lift_jrcxz(l, item);
		break;
	}
	l->ended = true;
}

static bool is_branch(const struct insn *insn)
{
	return insn->class == INSN_JMP || insn->class == INSN_JCC || insn->class == INSN_JRCXZ;
}

/* --- one item ---------------------------------------------------------------------------------------------------- */

/* Flags that are live after item i, as scan.c has it. */
static u16 live_out(const struct lift *l, unsigned i)
{
	const struct scan *scan = l->scan;
	const struct scan_item *item = &scan->item[i];
	u16 next = item->falls ? scan->item[i + 1].live_in : (u16)FLAGS_ARITH;

	switch ((enum insn_class)item->insn.class) {
	case INSN_JMP:
		return item->target >= 0 ? scan->item[item->target].live_in : (u16)FLAGS_ARITH;
	case INSN_JCC:
	case INSN_JRCXZ:
		return (u16)(next | (item->target >= 0 ? scan->item[item->target].live_in : (u16)FLAGS_ARITH));
	default:
		return next;
	}
}

static void add_to(struct lift *l, u64 address, u64 amount)
{
	LLVMValueRef value = LLVMBuildLoad2(l->b, l->i64, lift_address(l, address), "");

	value = LLVMBuildAdd(l->b, value, lift_const(l, 8, amount), "");
	LLVMBuildStore(l->b, value, lift_address(l, address));
}

static void check_poll(struct lift *l)
{
	LLVMBasicBlockRef next = lift_block(l, "polled");
	LLVMValueRef poll = lift_load(l, lift_address(l, VCPU_ADDRESS + offsetof(struct vcpu, poll)), 1);

	lift_unlikely(l, LLVMBuildNot(l->b, lift_is_zero(l, poll), ""), leaving_block(l, item_exit(l, LIFT_EXIT_POLL)),
		      next);
	lift_to(l, next);
}

/* The stub gives the budget back. */
static void take_budget(struct lift *l)
{
	LLVMBasicBlockRef next = lift_block(l, "counted");
	LLVMValueRef address = lift_address(l, VCPU_ADDRESS + offsetof(struct vcpu, budget));
	LLVMValueRef budget = LLVMBuildLoad2(l->b, l->i64, address, "");

	budget = LLVMBuildSub(l->b, budget, lift_const(l, 8, l->scan->item[l->item].block_left), "");
	LLVMBuildStore(l->b, budget, address);
	lift_unlikely(l, lift_negative(l, budget), leaving_block(l, item_exit(l, LIFT_EXIT_BUDGET)), next);
	lift_to(l, next);
}

static void begin_block(struct lift *l)
{
	const struct scan_item *item = &l->scan->item[l->item];

	if (!item->block)
		return;
	if (l->item == 0 || item->loop_head)
		check_poll(l);
	if (l->options->counted)
		take_budget(l);
	if (l->options->tally)
		add_to(l, l->options->tally, item->block_left);
}

static void lift_item(struct lift *l)
{
	const struct scan_item *item = &l->scan->item[l->item];

	l->insn = &item->insn;
	l->fault = NULL;
	l->operand = NULL;
	l->ended = false;
	l->live_out = live_out(l, l->item);
	l->emitted++;
	lift_open_windows(l);
	if (is_branch(l->insn)) {
		lift_branch(l);
		return;
	}
	lift_copy_class(l);
	if (!item->falls || !l->lifted[l->item + 1] || l->block[l->item + 1])
		LLVMBuildBr(l->b, fall_target(l, item));
}

/* --- one function ------------------------------------------------------------------------------------------------ */

/* Marks what is reached from item i inside of one function. */
static void reach(struct lift *l, unsigned i)
{
	for (;;) {
		const struct scan_item *item = &l->scan->item[i];

		if (l->reachable[i] || !l->lifted[i])
			return;
		l->reachable[i] = true;
		if (is_branch(&item->insn) && item->target >= 0)
			reach(l, (unsigned)item->target);
		if (!item->falls)
			return;
		i++;
	}
}

static void load_registers(struct lift *l)
{
	for (unsigned reg = 0; reg < GPR_COUNT; reg++)
		l->reg[reg] = LLVMBuildAlloca(l->b, l->i64, "");
	for (unsigned i = 0; i < ARGUMENTS; i++) {
		LLVMValueRef value = LLVMGetParam(l->function, i);

		if (IN_MEMORY & BIT(argument_order[i]))
			continue;
		if (l->released & BIT(argument_order[i]))
			lift_store(l, gpr_address(l, argument_order[i]), value);
		else
			lift_set(l, argument_order[i], value);
	}
	for (unsigned reg = 0; reg < GPR_COUNT; reg++) {
		if (!(IN_MEMORY & BIT(reg)))
			continue;
		LLVMValueRef value = LLVMBuildLoad2(l->b, l->i64, gpr_address(l, reg), "");

		if (!(l->written & BIT(reg)))
			LLVMSetMetadata(value, l->invariant_kind, l->empty_node);
		lift_set(l, reg, value);
	}
}

static void load_flags(struct lift *l, u16 live)
{
	LLVMValueRef word = NULL;

	for (unsigned i = 0; i < F_COUNT; i++)
		l->flag[i] = LLVMBuildAlloca(l->b, l->i1, "");
	l->flags.source = FLAGS_UNKNOWN;
	if (!live)
		return;
	word = LLVMBuildLoad2(l->b, l->i64, lift_address(l, VCPU_ADDRESS + offsetof(struct vcpu, scratch) + 2 * 8), "");
	l->live_out = live;
	lift_flags_from_word(l, word, live, NULL);
}

/* May the flags' source be kept from the end of the block before? */
static bool only_falls_into(const struct lift *l, unsigned i, unsigned entry)
{
	return i > 0 && i != entry && !l->scan->item[i].label && l->scan->item[i - 1].falls && l->reachable[i - 1];
}

/* The registers that the function names, and whose values it leaves in struct vcpu meanwhile to have room for streams.
 */
static void choose_registers(struct lift *l)
{
	unsigned wanted = 2 + ARGUMENTS - 2; /* temporaries; arguments without r8 and r9 */
	unsigned have = 15;

	l->written = l->named = l->released = 0;
	for (unsigned i = 0; i < l->scan->count; i++) {
		const struct insn *insn = &l->scan->item[i].insn;

		if (!l->reachable[i])
			continue;
		l->written |= insn->gpr_write;
		l->named |= insn->gpr_read | insn->gpr_write;
	}
	for (unsigned i = 0; i < l->stream_count; i++) {
		if (l->stream[i].loops)
			wanted += l->stream[i].kind == STREAM_CONSTANT ? 1 : 2;
	}
	wanted += (unsigned)__builtin_popcount(IN_MEMORY & l->named);
	for (unsigned i = 0; i < ARGUMENTS && wanted > have; i++) {
		u16 bit = (u16)BIT(argument_order[i]);

		if (!(bit & (l->named | IN_MEMORY)) && argument_order[i] != RSP) {
			l->released |= bit;
			wanted--;
		}
	}
}

/* Functions with floating-point instructions are for masked exceptions only. */
static void check_masks(struct lift *l, unsigned entry)
{
	bool floats = false;

	for (unsigned i = 0; i < l->scan->count; i++)
		floats |= l->reachable[i] && lift_vector_floats(&l->scan->item[i].insn);
	if (!floats)
		return;
	LLVMBasicBlockRef next = lift_block(l, "masked");

	l->item = entry;
	lift_unlikely(l, lift_unmasked(l), leaving_block(l, item_exit(l, LIFT_EXIT_UNMASKED)), next);
	lift_to(l, next);
}

/* The function that begins at item `entry`; a plain one is entered behind the counting at the head of its block. */
static void lift_function(struct lift *l, unsigned entry, bool plain)
{
	const struct scan *scan = l->scan;

	memset(l->reachable, 0, sizeof(l->reachable));
	memset(l->block, 0, sizeof(l->block));
	reach(l, entry);
	lift_find_streams(l);
	choose_registers(l);
	l->plain = plain;
	l->function = plain ? l->plain_function[entry] : add_function(l, "f", entry);
	l->enter = lift_block(l, "enter");
	for (unsigned i = 0; i < scan->count; i++) {
		if (l->reachable[i] && (scan->item[i].block || i == entry))
			l->block[i] = lift_block(l, "item");
	}
	LLVMBasicBlockRef start = l->block[entry];

	if (plain && scan->item[entry].block)
		start = lift_block(l, "start");
	lift_find_windows(l);
	lift_to(l, l->enter);
	load_registers(l);
	load_flags(l, scan->item[entry].live_in);
	if (!plain)
		check_masks(l, entry);
	LLVMBuildBr(l->b, start);
	l->ended = true;
	for (unsigned i = 0; i < scan->count && !l->reason; i++) {
		if (!l->reachable[i])
			continue;
		if (l->block[i]) {
			lift_to(l, l->block[i]);
			if (!only_falls_into(l, i, entry))
				l->flags.source = FLAGS_UNKNOWN;
			l->item = i;
			begin_block(l);
			if (i == entry && start != l->block[i]) {
				LLVMBuildBr(l->b, start);
				lift_to(l, start);
			}
		}
		l->item = i;
		lift_item(l);
	}
}

/* --- the unit ---------------------------------------------------------------------------------------------------- */

static void find_loops(struct lift *l)
{
	for (unsigned i = 0; i < l->scan->count; i++) {
		int target = l->scan->item[i].target;

		for (int j = target; target >= 0 && j <= (int)i; j++)
			l->in_loop[j] = true;
	}
}

/* Marks the items at which functions begin. */
static void find_entries(struct lift *l, bool entered[SCAN_ROOM])
{
	const struct scan *scan = l->scan;

	memset(entered, 0, SCAN_ROOM * sizeof(*entered));
	for (unsigned i = 0; i < scan->count; i++) {
		int target = scan->item[i].target;

		if (l->lifted[i])
			entered[i] |= i == 0 || (scan->item[i - 1].falls && !l->lifted[i - 1]);
		else if (target >= 0 && l->lifted[target])
			entered[target] = true;
	}
}

bool lift_unit(struct lift *l)
{
	const struct scan *scan = l->scan;
	bool entered[SCAN_ROOM];

	find_loops(l);
	find_entries(l, entered);
	for (unsigned i = 0; i < scan->count && !l->reason; i++) {
		if (!entered[i])
			continue;
		lift_function(l, i, false);
		if (l->emitted > EMITTED_MAX(scan->count))
			l->reason = "entered at too many places";
	}
	for (unsigned i = 0; i < scan->count && !l->reason; i++) {
		if (l->plain_function[i])
			lift_function(l, i, true);
	}
	if (!l->emitted)
		l->reason = "nothing is reached";
	return !l->reason;
}
