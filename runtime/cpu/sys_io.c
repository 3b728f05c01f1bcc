/* in, out, ins, outs (SDM vol. 1, 19.5). */
#include "cpu/observe.h"
#include "cpu/segment.h"
#include "cpu/system.h"
#include "vm.h"

/* A repeated ins or outs looks for events after so many elements. */
#define REPEAT_LIMIT 1024u

#define TSS_IO_MAP_BASE 0x66u

/* Above IOPL, the bits of all ports touched must be 0 in the TSS's I/O permission map. */
static enum exec check_permission(struct vcpu *v, u16 port, unsigned size)
{
	const struct segment *tss = &v->seg[SEG_TR];
	u16 map, bits;
	u32 at;

	if (LIKELY(v->cpl <= (v->rflags >> 12 & 3)))
		return EXEC_OK;
	if (!(tss->attr & SEG_ATTR_P) || TSS_IO_MAP_BASE + 1 > tss->limit)
		return raise_gp0(v);
	if (mem_read(v, tss->base + TSS_IO_MAP_BASE, &map, 2, ACCESS_READ | ACCESS_SYSTEM) != EXEC_OK)
		return EXEC_FAULT;
	/* two bytes are read always: the map ends with a byte of ones */
	at = map + port / 8u;
	if (at + 1 > tss->limit)
		return raise_gp0(v);
	if (mem_read(v, tss->base + at, &bits, 2, ACCESS_READ | ACCESS_SYSTEM) != EXEC_OK)
		return EXEC_FAULT;
	return bits >> port % 8 & ((1u << size) - 1) ? raise_gp0(v) : EXEC_OK;
}

/* Even opcodes move bytes; the others 4, or 2 with 66. */
static unsigned port_size(const struct insn *insn)
{
	return !(insn_opcode(insn) & 1) ? 1 : insn->prefix_66 ? 2 : 4;
}

/* Opcodes e4 to e7 have the port in an immediate, ec to ef in DX. */
static u16 port_number(const struct vcpu *v, const struct insn *insn)
{
	return insn_opcode(insn) & 8 ? (u16)v->gpr[RDX] : insn->bytes[insn->length - 1];
}

static u64 port_read(struct vcpu *v, u16 port, unsigned size)
{
	v->vm->stats.port_accesses++;
	if (UNLIKELY(v->observe))
		observe_port(v, port, size);
	return bus_read(&v->vm->ports, port, size);
}

static void port_write(struct vcpu *v, u16 port, unsigned size, u64 value)
{
	v->vm->stats.port_accesses++;
	if (UNLIKELY(v->observe))
		observe_port(v, port, size);
	bus_write(&v->vm->ports, port, size, value & size_mask(size));
}

/* A device may have ended the run. */
static enum exec after_access(const struct vcpu *v)
{
	return UNLIKELY(v->vm->exit != EXIT_RUNNING) ? EXEC_STOP : EXEC_OK;
}

enum exec help_in(struct vcpu *v, const struct insn *insn)
{
	const struct operand accumulator = {.kind = OPERAND_GPR, .reg = RAX, .size = (u8)port_size(insn)};
	const u16 port = port_number(v, insn);

	if (check_permission(v, port, accumulator.size) != EXEC_OK)
		return EXEC_FAULT;
	operand_set_gpr(v, &accumulator, port_read(v, port, accumulator.size));
	return after_access(v);
}

enum exec help_out(struct vcpu *v, const struct insn *insn)
{
	const unsigned size = port_size(insn);
	const u16 port = port_number(v, insn);

	if (check_permission(v, port, size) != EXEC_OK)
		return EXEC_FAULT;
	port_write(v, port, size, v->gpr[RAX]);
	return after_access(v);
}

/* --- string forms ---------------------------------------------------------------------------------------------- */

/* RSI, RDI or RCX as the address size wants it. */
static u64 address_register(const struct vcpu *v, const struct insn *insn, enum gpr reg)
{
	return v->gpr[reg] & size_mask(insn->addrsize);
}

static void set_address_register(struct vcpu *v, const struct insn *insn, enum gpr reg, u64 value)
{
	const struct operand operand = {.kind = OPERAND_GPR, .reg = (u8)reg, .size = insn->addrsize};

	operand_set_gpr(v, &operand, value);
}

/* The device must not be read when the value cannot be stored. */
static enum exec probe_write(struct vcpu *v, u64 address, unsigned size)
{
	u64 gpa;

	if (UNLIKELY(v->observe) && observe_alignment(v, address, size) != EXEC_OK)
		return EXEC_FAULT;
	if (mmu_translate(v, address, ACCESS_WRITE, &gpa) != EXEC_OK)
		return EXEC_FAULT;
	if (PAGE_OFFSET(address) + size > PAGE_SIZE &&
	    mmu_translate(v, PAGE_BASE(address + size - 1), ACCESS_WRITE, &gpa) != EXEC_OK)
		return EXEC_FAULT;
	return EXEC_OK;
}

static enum exec element_in(struct vcpu *v, const struct insn *insn, u16 port, unsigned size)
{
	const bool legacy = insn->seg & INSN_SEG_LEGACY;
	u64 address = address_register(v, insn, RDI);
	u64 value;

	if (legacy && segment_check(v, SEG_ES, (u32)address, size, ACCESS_WRITE) != EXEC_OK)
		return EXEC_FAULT;
	if (legacy)
		address = (u32)(address + v->seg[SEG_ES].base);
	if (probe_write(v, address, size) != EXEC_OK)
		return EXEC_FAULT;
	value = port_read(v, port, size);
	return mem_write(v, address, &value, size, ACCESS_WRITE);
}

static enum exec element_out(struct vcpu *v, const struct insn *insn, u16 port, unsigned size)
{
	const u64 address = operand_linear(v, insn, v->gpr[RSI]);
	u64 value = 0;

	if (operand_check(v, insn, address, size, ACCESS_READ) != EXEC_OK ||
	    mem_read(v, address, &value, size, ACCESS_READ) != EXEC_OK)
		return EXEC_FAULT;
	port_write(v, port, size, value);
	return EXEC_OK;
}

typedef enum exec element_fn(struct vcpu *v, const struct insn *insn, u16 port, unsigned size);

static enum exec string_io(struct vcpu *v, const struct insn *insn, element_fn *element, enum gpr pointer)
{
	const unsigned size = port_size(insn);
	const u64 step = v->rflags & FLAG_DF ? 0 - (u64)size : size;
	const u16 port = (u16)v->gpr[RDX];

	if (check_permission(v, port, size) != EXEC_OK)
		return EXEC_FAULT;
	for (unsigned done = 0;; done++) {
		if (insn->rep && address_register(v, insn, RCX) == 0)
			return EXEC_OK;
		if (done == REPEAT_LIMIT)
			return EXEC_AGAIN;
		if (element(v, insn, port, size) != EXEC_OK)
			return EXEC_FAULT;
		set_address_register(v, insn, pointer, address_register(v, insn, pointer) + step);
		if (insn->rep)
			set_address_register(v, insn, RCX, address_register(v, insn, RCX) - 1);
		if (after_access(v) != EXEC_OK)
			return EXEC_STOP;
		if (!insn->rep)
			return EXEC_OK;
	}
}

enum exec help_ins(struct vcpu *v, const struct insn *insn)
{
	return string_io(v, insn, element_in, RDI);
}

enum exec help_outs(struct vcpu *v, const struct insn *insn)
{
	return string_io(v, insn, element_out, RSI);
}
