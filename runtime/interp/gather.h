/*
 * Vector instructions that touch memory element by element, under a mask: gathers, masked loads and stores, byte-masked
 * stores. In C, on the vector state in v->xsave.
 */
#ifndef AVANT_INTERP_GATHER_H
#define AVANT_INTERP_GATHER_H

#include "cpu/vcpu.h"

struct insn;

/* vgather*, vpgather*, vmaskmov*, vpmaskmov* (INSN_GATHER). */
enum exec interp_gather(struct vcpu *v, const struct insn *insn);

/* maskmovq, maskmovdqu, vmaskmovdqu. */
enum exec interp_masked_bytes(struct vcpu *v, const struct insn *insn);

/* vzeroall, vzeroupper in 32-bit code: registers beyond the seventh keep what they have (SDM vol. 2C, VZEROALL). */
enum exec interp_zero_vectors(struct vcpu *v, const struct insn *insn);

#endif
