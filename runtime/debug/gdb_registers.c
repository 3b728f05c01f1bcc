#include "debug/gdb_registers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "mem/mem.h"

#define MSR_EFER 0xc0000080u

/* FXSAVE image (SDM vol. 1, table 10-2). */
#define FXSAVE_FSW 2u
#define FXSAVE_FTW 4u
#define FXSAVE_FOP 6u
#define FXSAVE_ST  32u

#define COMPONENT_X87 1u
#define COMPONENT_SSE 2u

enum kind {
	KIND_GPR,
	KIND_RIP,
	KIND_FLAGS,
	KIND_SELECTOR,
	KIND_ST,
	KIND_FPU,
	KIND_TAG,
	KIND_XMM,
	KIND_MXCSR,
	KIND_FS_BASE,
	KIND_GS_BASE,
	KIND_KERNEL_GS_BASE,
	KIND_CR0,
	KIND_CR2,
	KIND_CR3,
	KIND_CR4,
	KIND_EFER,
	KIND_CPL,
};

/* Register numbers follow the order here; gdb finds the ones it knows by feature and name. */
static const struct gdb_register {
	const char *name, *type;
	u8 bits, kind;
	u8 index;            /* of the register among its kind, or offset in the FXSAVE image */
	const char *feature; /* begins one, if not NULL */
} registers[] = {
	{"rax", "int64", 64, KIND_GPR, RAX, "org.gnu.gdb.i386.core"},
	{"rbx", "int64", 64, KIND_GPR, RBX, NULL},
	{"rcx", "int64", 64, KIND_GPR, RCX, NULL},
	{"rdx", "int64", 64, KIND_GPR, RDX, NULL},
	{"rsi", "int64", 64, KIND_GPR, RSI, NULL},
	{"rdi", "int64", 64, KIND_GPR, RDI, NULL},
	{"rbp", "data_ptr", 64, KIND_GPR, RBP, NULL},
	{"rsp", "data_ptr", 64, KIND_GPR, RSP, NULL},
	{"r8", "int64", 64, KIND_GPR, R8, NULL},
	{"r9", "int64", 64, KIND_GPR, R9, NULL},
	{"r10", "int64", 64, KIND_GPR, R10, NULL},
	{"r11", "int64", 64, KIND_GPR, R11, NULL},
	{"r12", "int64", 64, KIND_GPR, R12, NULL},
	{"r13", "int64", 64, KIND_GPR, R13, NULL},
	{"r14", "int64", 64, KIND_GPR, R14, NULL},
	{"r15", "int64", 64, KIND_GPR, R15, NULL},
	{"rip", "code_ptr", 64, KIND_RIP, 0, NULL},
	{"eflags", "i386_eflags", 32, KIND_FLAGS, 0, NULL},
	{"cs", "int32", 32, KIND_SELECTOR, SEG_CS, NULL},
	{"ss", "int32", 32, KIND_SELECTOR, SEG_SS, NULL},
	{"ds", "int32", 32, KIND_SELECTOR, SEG_DS, NULL},
	{"es", "int32", 32, KIND_SELECTOR, SEG_ES, NULL},
	{"fs", "int32", 32, KIND_SELECTOR, SEG_FS, NULL},
	{"gs", "int32", 32, KIND_SELECTOR, SEG_GS, NULL},
	{"st0", "i387_ext", 80, KIND_ST, 0, NULL},
	{"st1", "i387_ext", 80, KIND_ST, 1, NULL},
	{"st2", "i387_ext", 80, KIND_ST, 2, NULL},
	{"st3", "i387_ext", 80, KIND_ST, 3, NULL},
	{"st4", "i387_ext", 80, KIND_ST, 4, NULL},
	{"st5", "i387_ext", 80, KIND_ST, 5, NULL},
	{"st6", "i387_ext", 80, KIND_ST, 6, NULL},
	{"st7", "i387_ext", 80, KIND_ST, 7, NULL},
	{"fctrl", "int", 32, KIND_FPU, FXSAVE_FCW, NULL},
	{"fstat", "int", 32, KIND_FPU, FXSAVE_FSW, NULL},
	{"ftag", "int", 32, KIND_TAG, 0, NULL},
	{"fiseg", "int", 32, KIND_FPU, FXSAVE_POINTERS + 4, NULL},
	{"fioff", "int", 32, KIND_FPU, FXSAVE_POINTERS, NULL},
	{"foseg", "int", 32, KIND_FPU, FXSAVE_POINTERS + 12, NULL},
	{"fooff", "int", 32, KIND_FPU, FXSAVE_POINTERS + 8, NULL},
	{"fop", "int", 32, KIND_FPU, FXSAVE_FOP, NULL},
	{"xmm0", "vec128", 128, KIND_XMM, 0, "org.gnu.gdb.i386.sse"},
	{"xmm1", "vec128", 128, KIND_XMM, 1, NULL},
	{"xmm2", "vec128", 128, KIND_XMM, 2, NULL},
	{"xmm3", "vec128", 128, KIND_XMM, 3, NULL},
	{"xmm4", "vec128", 128, KIND_XMM, 4, NULL},
	{"xmm5", "vec128", 128, KIND_XMM, 5, NULL},
	{"xmm6", "vec128", 128, KIND_XMM, 6, NULL},
	{"xmm7", "vec128", 128, KIND_XMM, 7, NULL},
	{"xmm8", "vec128", 128, KIND_XMM, 8, NULL},
	{"xmm9", "vec128", 128, KIND_XMM, 9, NULL},
	{"xmm10", "vec128", 128, KIND_XMM, 10, NULL},
	{"xmm11", "vec128", 128, KIND_XMM, 11, NULL},
	{"xmm12", "vec128", 128, KIND_XMM, 12, NULL},
	{"xmm13", "vec128", 128, KIND_XMM, 13, NULL},
	{"xmm14", "vec128", 128, KIND_XMM, 14, NULL},
	{"xmm15", "vec128", 128, KIND_XMM, 15, NULL},
	{"mxcsr", "int", 32, KIND_MXCSR, 0, NULL},
	{"fs_base", "int64", 64, KIND_FS_BASE, 0, "org.gnu.gdb.i386.segments"},
	{"gs_base", "int64", 64, KIND_GS_BASE, 0, NULL},
	{"k_gs_base", "int64", 64, KIND_KERNEL_GS_BASE, 0, "org.gnu.gdb.i386.system"},
	{"cr0", "int64", 64, KIND_CR0, 0, NULL},
	{"cr2", "int64", 64, KIND_CR2, 0, NULL},
	{"cr3", "int64", 64, KIND_CR3, 0, NULL},
	{"cr4", "int64", 64, KIND_CR4, 0, NULL},
	{"efer", "int64", 64, KIND_EFER, 0, NULL},
	{"cpl", "int", 32, KIND_CPL, 0, NULL},
};

unsigned gdb_register_count(void)
{
	return ARRAY_SIZE(registers);
}

unsigned gdb_register_size(unsigned n)
{
	return n < ARRAY_SIZE(registers) ? registers[n].bits / 8u : 0;
}

const char *gdb_register_name(unsigned n)
{
	return registers[n].name;
}

/* A component that XSAVE left out is in its initial state, and the area holds anything: make it say so. */
static u8 *component(struct vcpu *v, u64 bit)
{
	u64 present;

	memcpy(&present, v->xsave + XSAVE_XSTATE_BV, sizeof(present));
	if (!(present & bit)) {
		static const u16 fcw = FCW_DEFAULT;

		if (bit == COMPONENT_X87) {
			memset(v->xsave, 0, FXSAVE_MXCSR);
			memcpy(v->xsave + FXSAVE_FCW, &fcw, sizeof(fcw));
			memset(v->xsave + FXSAVE_ST, 0, FXSAVE_XMM - FXSAVE_ST);
		} else {
			memset(v->xsave + FXSAVE_XMM, 0, FXSAVE_USED - FXSAVE_XMM);
		}
		present |= bit;
		memcpy(v->xsave + XSAVE_XSTATE_BV, &present, sizeof(present));
	}
	return v->xsave;
}

/* The full tag word: 3 for an empty register; the other kinds are not told apart. */
static u64 tag_word(struct vcpu *v)
{
	u8 used = component(v, COMPONENT_X87)[FXSAVE_FTW];
	u64 tags = 0;

	for (unsigned i = 0; i < 8; i++)
		if (!(used >> i & 1))
			tags |= 3ULL << (2 * i);
	return tags;
}

/* 16 bits, or 32 of the two offsets. */
static u64 fpu_field(struct vcpu *v, unsigned offset)
{
	const u8 *at = component(v, COMPONENT_X87) + offset;
	u64 value = 0;

	memcpy(&value, at, offset == FXSAVE_POINTERS || offset == FXSAVE_POINTERS + 8 ? 4 : 2);
	return value;
}

static u64 mxcsr(const struct vcpu *v)
{
	u32 value;

	memcpy(&value, v->xsave + FXSAVE_MXCSR, sizeof(value));
	return value;
}

static u64 read_number(struct vcpu *v, const struct gdb_register *r)
{
	switch ((enum kind)r->kind) {
	case KIND_GPR:
		return v->gpr[r->index];
	case KIND_RIP:
		return v->rip;
	case KIND_FLAGS:
		return vcpu_rflags(v);
	case KIND_SELECTOR:
		return v->seg[r->index].selector;
	case KIND_FPU:
		return fpu_field(v, r->index);
	case KIND_TAG:
		return tag_word(v);
	case KIND_MXCSR:
		return mxcsr(v);
	case KIND_FS_BASE:
		return v->fs_base;
	case KIND_GS_BASE:
		return v->gs_base;
	case KIND_KERNEL_GS_BASE:
		return v->kernel_gs_base;
	case KIND_CR0:
		return v->cr0;
	case KIND_CR2:
		return v->cr2;
	case KIND_CR3:
		return v->cr3;
	case KIND_CR4:
		return v->cr4;
	case KIND_EFER:
		return v->efer;
	case KIND_CPL:
		return v->cpl;
	case KIND_ST:
	case KIND_XMM:
		break;
	}
	return 0;
}

void gdb_register_read(struct vcpu *v, unsigned n, u8 *bytes)
{
	const struct gdb_register *r = &registers[n];
	u64 value;

	if (r->kind == KIND_ST) {
		memcpy(bytes, component(v, COMPONENT_X87) + FXSAVE_ST + 16u * r->index, 10);
	} else if (r->kind == KIND_XMM) {
		memcpy(bytes, component(v, COMPONENT_SSE) + FXSAVE_XMM + 16u * r->index, 16);
	} else {
		value = read_number(v, r);
		memcpy(bytes, &value, r->bits / 8u);
	}
}

static bool write_flags(struct vcpu *v, u64 value)
{
	const u64 known = FLAGS_ARITH | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID;

	vcpu_set_rflags(v, value & known);
	vcpu_update_view(v);
	vcpu_update_poll(v);
	return true;
}

static bool write_base(u64 value, u64 *where, u64 *copy)
{
	if (!vcpu_canonical(value))
		return false;
	*where = *copy = value;
	return true;
}

/* With the checks that the instruction makes; what it would raise is forgotten. */
static bool write_control(struct vcpu *v, u8 kind, u64 value)
{
	struct fault before = v->fault;
	enum exec result;

	if (kind == KIND_CR0)
		result = cpu_write_cr0(v, value);
	else if (kind == KIND_CR3)
		result = cpu_write_cr3(v, value);
	else if (kind == KIND_CR4)
		result = cpu_write_cr4(v, value);
	else
		result = cpu_write_msr(v, MSR_EFER, value);
	v->fault = before;
	vcpu_update_view(v);
	return result != EXEC_FAULT;
}

static bool write_number(struct vcpu *v, const struct gdb_register *r, u64 value)
{
	u32 low = (u32)value;

	switch ((enum kind)r->kind) {
	case KIND_GPR:
		v->gpr[r->index] = value;
		return true;
	case KIND_RIP:
		if (!vcpu_canonical(value))
			return false;
		v->rip = value;
		return true;
	case KIND_FLAGS:
		return write_flags(v, value);
	case KIND_FPU:
		if (r->index != FXSAVE_FCW)
			return false;
		memcpy(component(v, COMPONENT_X87) + FXSAVE_FCW, &low, 2);
		return true;
	case KIND_MXCSR:
		low &= MXCSR_DEFINED; /* XRSTOR faults on others */
		memcpy(v->xsave + FXSAVE_MXCSR, &low, 4);
		return true;
	case KIND_FS_BASE:
		return write_base(value, &v->fs_base, &v->seg[SEG_FS].base);
	case KIND_GS_BASE:
		return write_base(value, &v->gs_base, &v->seg[SEG_GS].base);
	case KIND_KERNEL_GS_BASE:
		return write_base(value, &v->kernel_gs_base, &v->kernel_gs_base);
	case KIND_CR2:
		v->cr2 = value;
		return true;
	case KIND_CR0:
	case KIND_CR3:
	case KIND_CR4:
	case KIND_EFER:
		return write_control(v, r->kind, value);
	case KIND_SELECTOR:
	case KIND_TAG:
	case KIND_CPL:
	case KIND_ST:
	case KIND_XMM:
		break;
	}
	return false;
}

bool gdb_register_write(struct vcpu *v, unsigned n, const u8 *bytes)
{
	const struct gdb_register *r = &registers[n];
	u8 now[GDB_REGISTER_BYTES];
	u64 value = 0;

	/* gdb writes all of them where one was meant: what does not change is always allowed */
	gdb_register_read(v, n, now);
	if (!memcmp(now, bytes, r->bits / 8u))
		return true;
	if (r->kind == KIND_ST) {
		memcpy(component(v, COMPONENT_X87) + FXSAVE_ST + 16u * r->index, bytes, 10);
		return true;
	}
	if (r->kind == KIND_XMM) {
		memcpy(component(v, COMPONENT_SSE) + FXSAVE_XMM + 16u * r->index, bytes, 16);
		return true;
	}
	memcpy(&value, bytes, r->bits / 8u);
	return write_number(v, r, value);
}

/* --- target.xml -------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	unsigned first, last;
} flag_fields[] = {
	{"CF", 0, 0},   {"PF", 2, 2},   {"AF", 4, 4},    {"ZF", 6, 6},     {"SF", 7, 7},   {"TF", 8, 8},
	{"IF", 9, 9},   {"DF", 10, 10}, {"OF", 11, 11},  {"IOPL", 12, 13}, {"NT", 14, 14}, {"RF", 16, 16},
	{"VM", 17, 17}, {"AC", 18, 18}, {"VIF", 19, 19}, {"VIP", 20, 20},  {"ID", 21, 21},
};

static void print_flags(FILE *to)
{
	fputs("<flags id=\"i386_eflags\" size=\"4\">", to);
	for (unsigned i = 0; i < ARRAY_SIZE(flag_fields); i++)
		fprintf(to, "<field name=\"%s\" start=\"%u\" end=\"%u\"%s/>", flag_fields[i].name, flag_fields[i].first,
			flag_fields[i].last, flag_fields[i].first == flag_fields[i].last ? " type=\"bool\"" : "");
	fputs("</flags>", to);
}

static const struct {
	const char *id, *field, *type;
	unsigned count;
} vector_types[] = {
	{"v4f", "v4_float", "ieee_single", 4}, {"v2d", "v2_double", "ieee_double", 2},
	{"v16i8", "v16_int8", "int8", 16},     {"v8i16", "v8_int16", "int16", 8},
	{"v4i32", "v4_int32", "int32", 4},     {"v2i64", "v2_int64", "int64", 2},
};

static void print_vectors(FILE *to)
{
	for (unsigned i = 0; i < ARRAY_SIZE(vector_types); i++)
		fprintf(to, "<vector id=\"%s\" type=\"%s\" count=\"%u\"/>", vector_types[i].id, vector_types[i].type,
			vector_types[i].count);
	fputs("<union id=\"vec128\">", to);
	for (unsigned i = 0; i < ARRAY_SIZE(vector_types); i++)
		fprintf(to, "<field name=\"%s\" type=\"%s\"/>", vector_types[i].field, vector_types[i].id);
	fputs("<field name=\"uint128\" type=\"uint128\"/></union>", to);
}

static void print_registers(FILE *to)
{
	for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
		const struct gdb_register *r = &registers[i];

		if (r->feature) {
			fprintf(to, "%s<feature name=\"%s\">\n", i ? "</feature>\n" : "", r->feature);
			if (i == 0)
				print_flags(to);
			if (r->kind == KIND_XMM)
				print_vectors(to);
		}
		fprintf(to, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"%s/>\n", r->name, r->bits, r->type,
			r->kind >= KIND_KERNEL_GS_BASE ? " group=\"system\"" : "");
	}
	fputs("</feature>\n", to);
}

char *gdb_registers_xml(void)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	if (!to)
		return NULL;
	fputs("<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target>\n"
	      "<architecture>i386:x86-64</architecture>\n",
	      to);
	print_registers(to);
	fputs("</target>\n", to);
	if (fclose(to) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
