/*
 * Absolute addresses of struct vcpu's fields, and offsets in struct view, for assembly; calls.c asserts that they agree
 * with the structs.
 */
#ifndef AVANT_LIVE_OFFSETS_H
#define AVANT_LIVE_OFFSETS_H

#define VA(offset)      (0x10000000 + (offset))
#define V_GPR(n)        VA((n)*8)
#define V_RIP           VA(128)
#define V_ARITH         VA(136)
#define V_RFLAGS        VA(144)
#define V_SHADOW        VA(155)
#define V_CPL           VA(156)
#define V_HOST_SP       VA(160)
#define V_SCRATCH       VA(168)
#define V_PREDICTION_SP VA(248)
#define V_ENTER_TARGET  VA(264)
#define V_INTERP_SP     VA(272)
#define V_LIVE_EXIT     VA(280)

/* Of a view's TLB, whose tags for reading come first: from an address to the offset of its entry; other fields. */
#define VIEW_TLB_SHIFT  8
#define VIEW_TLB_MASK   0x1fff0
#define VIEW_TLB_ADDEND 8
#define VIEW_TLB_WRITE  0x20000

#define LIVE_CODE 0x20000000 /* what the offsets in the jump table count from */

#define VIEW_JUMP    0x42000 /* u32 */
#define VIEW_JUMP_PC 0x82000 /* u64 */
#define VIEW_SHIFT   3       /* of a guest address, whose low 16 bits are the index of both then */

#endif
