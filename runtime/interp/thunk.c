#include "interp/thunk.h"

#include <Zydis/Zydis.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "interp/interp.h"
#include "translate/emit.h"
#include "util/bytes.h"
#include "vm.h"
#include "x86/encode.h"

#define THUNK_BITS         15
#define THUNK_COUNT        (1u << THUNK_BITS)
#define THUNK_BYTES        64
#define THUNK_CODE_ADDRESS 0x11000000UL

struct interp {
	struct thunk *thunks; /* by hash of rip; the content decides whether one fits */
	u8 *code_rw;
	u8 *code; /* executable view, THUNK_BYTES for each thunk */
};

struct interp *interp_create(struct vm *vm, struct err *err)
{
	struct interp *interp = calloc(1, sizeof(*interp));
	int fd = memfd_create("avant-thunks", MFD_CLOEXEC);

	(void)vm;
	if (!interp || fd < 0 || ftruncate(fd, THUNK_COUNT * THUNK_BYTES) < 0)
		goto fail;
	interp->thunks = calloc(THUNK_COUNT, sizeof(struct thunk));
	interp->code_rw = mmap(NULL, THUNK_COUNT * THUNK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	interp->code = mmap((void *)THUNK_CODE_ADDRESS, THUNK_COUNT * THUNK_BYTES, PROT_READ | PROT_EXEC,
			    MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	if (!interp->thunks || interp->code_rw == MAP_FAILED || interp->code == MAP_FAILED)
		goto fail;
	close(fd);
	return interp;
fail:
	err_set(err, "cannot map the single-instruction thunks: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	free(interp);
	return NULL;
}

void interp_destroy(struct interp *interp)
{
	if (!interp)
		return;
	munmap(interp->code_rw, THUNK_COUNT * THUNK_BYTES);
	munmap(interp->code, THUNK_COUNT * THUNK_BYTES);
	free(interp->thunks);
	free(interp);
}

bool interp_owns(const struct interp *interp, u64 host)
{
	return host - (u64)interp->code < THUNK_COUNT * THUNK_BYTES;
}

/* Vector operands of 16 bytes and more must be aligned, but for these (SDM vol. 1, 15.7, and AVX in vol. 2, 2.5). */
static bool must_be_aligned(const struct insn *insn)
{
	if (!insn->has_mem || insn->mem_size < 16 || insn->unit == UNIT_X87)
		return false;
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM:
		return false;
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVDQA:
	case ZYDIS_MNEMONIC_VMOVNTPS:
	case ZYDIS_MNEMONIC_VMOVNTPD:
	case ZYDIS_MNEMONIC_VMOVNTDQ:
	case ZYDIS_MNEMONIC_VMOVNTDQA:
		return true;
	default:
		return !insn->vex || insn->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
	}
}

/* A register that the instruction does not name; one that needs no REX if it cannot have that. */
static u8 free_register(const struct insn *insn)
{
	static const u8 order[] = {R15, R14, R13, R12, RBP, RBX, RSI, RDI, R9, R8, RDX};
	u16 used = insn->gpr_read | insn->gpr_write;

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
		if (!(used & BIT(order[i])) && !(insn->gpr_high && order[i] >= 8))
			return order[i];
	}
	return NO_REG;
}

/*
 * Emits the copy of an instruction of 64-bit code: guest registers are in the host registers of the same name, but RSP,
 * for which another register stands in; a memory operand becomes v->bounce; an address (lea) is computed as it is.
 */
static bool emit_thunk(struct vcpu *v, const struct interp *interp, struct thunk *thunk, const struct insn *insn)
{
	unsigned slot = (unsigned)(((u8 *)thunk->code - interp->code));
	struct emitter e = {interp->code_rw + slot, interp->code_rw + slot, interp->code_rw + slot + THUNK_BYTES,
			    false};
	struct reencode how = REENCODE_IDENTITY;
	bool names_rsp = (insn->gpr_read | insn->gpr_write) & BIT(RSP);
	u8 stand_in = NO_REG, bytes[INSN_MAX];

	if (insn->has_mem && insn->mem_size) {
		how.address = REENCODE_REPLACE;
		how.disp = (s32)(uintptr_t)v->bounce;
	}
	if (names_rsp) {
		stand_in = free_register(insn);
		if (stand_in == NO_REG)
			return false;
		emit_load(&e, stand_in, ADDRESS_ABS(&v->gpr[RSP]));
		how.host_reg[RSP] = stand_in;
	}
	if (!insn->nop && insn->has_mem && !insn->mem_size && insn->base == INSN_RIP) {
		return false;
	} else if (!insn->nop) {
		unsigned length = insn_reencode(insn, &how, bytes);

		if (!length)
			return false;
		emit_bytes(&e, bytes, length);
	}
	if (names_rsp) {
		emit_store(&e, ADDRESS_ABS(&v->gpr[RSP]), stand_in);
		emit_load(&e, stand_in, ADDRESS_ABS(&v->gpr[stand_in]));
	}
	emit_jmp_mem(&e, ADDRESS_ABS(&v->interp_done));
	return !e.overflow;
}

/* 32-bit code is copied as the 64-bit code that does the same; what there is none for is not executed. */
static void emit_legacy(struct vcpu *v, const struct interp *interp, struct thunk *thunk)
{
	struct insn *insn = &thunk->insn;
	struct insn wide;

	thunk->by_c = insn->has_mem && !insn->mem_size;
	if (thunk->by_c || (insn->nop && emit_thunk(v, interp, thunk, insn)))
		return;
	if (!insn_widen(insn, &wide) || !emit_thunk(v, interp, thunk, &wide))
		insn->class = INSN_UNDEFINED;
}

static bool same_bytes(const struct thunk *thunk, const u8 *bytes)
{
	u64 word[2];

	bytes_copy(&word[0], bytes, 8);
	bytes_copy(&word[1], bytes + 8, 8);
	return !((word[0] ^ thunk->word[0]) & thunk->mask[0]) && !((word[1] ^ thunk->word[1]) & thunk->mask[1]);
}

static void note_bytes(struct thunk *thunk)
{
	const unsigned length = thunk->insn.length;

	bytes_copy(&thunk->word[0], thunk->insn.bytes, 8);
	thunk->word[1] = 0;
	bytes_copy(&thunk->word[1], thunk->insn.bytes + 8, INSN_MAX - 8);
	thunk->mask[0] = length >= 8 ? ~0ULL : BIT(length * 8) - 1;
	thunk->mask[1] = length > 8 ? BIT((length - 8) * 8) - 1 : 0;
}

const struct thunk *thunk_get(struct vcpu *v, const u8 *bytes, unsigned available, enum insn_code kind)
{
	struct interp *interp = v->vm->interp;
	unsigned slot = (unsigned)(v->rip * 0x9e3779b97f4a7c15ULL >> (64 - THUNK_BITS));
	struct thunk *thunk = &interp->thunks[slot];

	if (LIKELY(thunk->valid && thunk->kind == kind && thunk->insn.length <= available && same_bytes(thunk, bytes)))
		return thunk;
	vcpu_fpu_put(v);
	v->interp_done = (void *)interp_thunk_done;
	thunk->valid = false;
	if (insn_decode_code(&thunk->insn, bytes, available, kind) < 0)
		return NULL;
	thunk->kind = (u8)kind;
	note_bytes(thunk);
	thunk->code = interp->code + slot * THUNK_BYTES;
	thunk->aligned = must_be_aligned(&thunk->insn);
	thunk->by_c = false;
	if (thunk->insn.class == INSN_COPY && kind != CODE_64)
		emit_legacy(v, interp, thunk);
	else if (thunk->insn.class == INSN_COPY)
		thunk->by_c = !emit_thunk(v, interp, thunk, &thunk->insn);
	thunk->valid = true;
	return thunk;
}
