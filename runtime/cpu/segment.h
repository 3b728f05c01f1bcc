/* Descriptors in the GDT and LDT, and loaded segments (SDM vol. 3A, 3.4 and 5). */
#ifndef AVANT_CPU_SEGMENT_H
#define AVANT_CPU_SEGMENT_H

#include "cpu/vcpu.h"
#include "util/types.h"

#define SELECTOR_RPL   3u
#define SELECTOR_LDT   4u
#define SELECTOR_INDEX 0xfffcu /* what error codes carry */

/* Types of system descriptors in long mode (SDM vol. 3A, table 3-2). */
#define SYSTEM_LDT            0x2
#define SYSTEM_TSS_FREE       0x9
#define SYSTEM_TSS_BUSY       0xb
#define SYSTEM_CALL_GATE      0xc
#define SYSTEM_INTERRUPT_GATE 0xe
#define SYSTEM_TRAP_GATE      0xf

/* Bits of code and data descriptors' types. */
#define TYPE_DOWN       0x4 /* data: the limit is the lower one */
#define TYPE_ACCESSED   0x1
#define TYPE_WRITABLE   0x2 /* data */
#define TYPE_READABLE   0x2 /* code */
#define TYPE_CONFORMING 0x4
#define TYPE_CODE       0x8

/* Attributes (see struct segment) of the flat segments that SYSCALL and its kin load. */
#define ATTR_KERNEL_CODE64 0xa09b
#define ATTR_USER_CODE64   0xa0fb
#define ATTR_USER_CODE32   0xc0fb
#define ATTR_KERNEL_DATA   0xc093
#define ATTR_USER_DATA     0xc0f3

static inline u16 descriptor_attr(u64 descriptor)
{
	return (u16)(descriptor >> 40) & 0xf0ff;
}

static inline u64 descriptor_base(u64 descriptor)
{
	return (descriptor >> 16 & 0xffffff) | (descriptor >> 56 << 24);
}

static inline u32 descriptor_limit(u64 descriptor)
{
	const u32 raw = (u32)((descriptor & 0xffff) | (descriptor >> 32 & 0xf0000));

	return descriptor_attr(descriptor) & SEG_ATTR_G ? raw << 12 | 0xfff : raw;
}

static inline unsigned attr_dpl(u16 attr)
{
	return attr >> SEG_ATTR_DPL_SHIFT & 3;
}

static inline bool attr_is_code(u16 attr)
{
	return (attr & (SEG_ATTR_S | TYPE_CODE)) == (SEG_ATTR_S | TYPE_CODE);
}

static inline bool attr_is_conforming(u16 attr)
{
	return attr_is_code(attr) && (attr & TYPE_CONFORMING);
}

static inline bool attr_is_writable_data(u16 attr)
{
	return (attr & (SEG_ATTR_S | TYPE_CODE | TYPE_WRITABLE)) == (SEG_ATTR_S | TYPE_WRITABLE);
}

static inline bool selector_is_null(u16 selector)
{
	return (selector & SELECTOR_INDEX) == 0;
}

/* Linear address of the descriptor of `size` bytes; false where it lies beyond its table or there is no LDT. */
bool descriptor_locate(const struct vcpu *v, u16 selector, unsigned size, u64 *address);

/* Reads a descriptor. Beyond the table: `vector` with the selector as error code, its EXT bit from `ext`. */
enum exec descriptor_read(struct vcpu *v, u16 selector, u8 vector, u32 ext, u64 *descriptor);

/* Sets bits of the type field in memory (accessed, busy), if they are not set, and in *descriptor. */
enum exec descriptor_mark(struct vcpu *v, u16 selector, u64 *descriptor, u8 bits);

/* Fills a segment from its descriptor. */
void segment_set(struct segment *segment, u16 selector, u64 descriptor);

/* Loads ES, SS, DS, FS or GS as MOV and POP do, with all checks (SDM vol. 2B, MOV). Does not set the shadow of SS. */
enum exec segment_load(struct vcpu *v, unsigned seg, u16 selector);

/* The same with what a load of SS holds back: interrupts and traps, until the next instruction, which may load RSP. */
enum exec segment_load_held(struct vcpu *v, unsigned seg, u16 selector);

/* Loads CS and SS with fixed flat contents. */
void segment_set_flat(struct vcpu *v, u16 cs, u16 cs_attr, u16 ss, u16 ss_attr);

/* Leaving to an outer level: data segments that it may not use become null (SDM vol. 2B, RET). */
void segments_hide_from(struct vcpu *v, unsigned cpl);

/*
 * May 32-bit code access [offset, offset + length) of this segment so? #SS(0) for SS, #GP(0) for others (SDM vol. 3A,
 * 5.3 and 5.4).
 */
enum exec segment_check(struct vcpu *v, unsigned seg, u32 offset, unsigned length, unsigned access);

/*
 * May code at `rip` be entered through this descriptor at privilege `cpl`? EXEC_OK, and *rip is cut to what 32-bit code
 * has; EXEC_FAULT with #GP(0); EXEC_STOP for a kernel that enters 32-bit code, which is not supported.
 */
enum exec code_check(struct vcpu *v, u64 descriptor, unsigned cpl, u64 *rip);

#endif
