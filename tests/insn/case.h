/*
 * One instruction case: a few bytes of guest code, the registers and memory that they start with, and what they end
 * with. A case ends with the first exception; cases that are to run through end with int3.
 *
 * Guest and native process see the same bytes at the same addresses (regions below), so every address that a case
 * computes, pushes or faults at is the same in both.
 */
#ifndef AVANT_TEST_INSN_CASE_H
#define AVANT_TEST_INSN_CASE_H

#include "cpu/vcpu.h"
#include "util/types.h"

/* --- memory ---------------------------------------------------------------------------------------------------- */

/* Addresses; what lies between the regions is not mapped. */
#define CODE       0x08000000ULL
#define DATA       0x08010000ULL
#define EDGE       0x08018000ULL /* one page that may be written, then one that may not */
#define STACK      0x08020000ULL
#define HIGH_CODE  0x7d0000000000ULL
#define HIGH_DATA  0x7d0000010000ULL
#define CODE_PAGES 2u
#define PAGES      12u
#define BYTES      (PAGES * PAGE_SIZE)

struct region {
	u64 address;
	unsigned pages;
	unsigned first; /* index of the first page in struct image */
	bool execute;
	bool read_only_end; /* the last page may not be written */
};

#define REGIONS 6u
extern const struct region regions[REGIONS];

/* The contents of all regions, one after the other. */
struct image {
	_Alignas(64) u8 bytes[BYTES];
};

/* Where `address` lies in struct image; negative if it is not in a region. */
s64 image_offset(u64 address);

/* --- cases ----------------------------------------------------------------------------------------------------- */

#define CODE_MAX    256u
#define PATCH_MAX   8u
#define VECTOR_AREA 832u /* XSAVE area in standard format: x87, SSE, AVX */

struct patch {
	u64 address, value;
};

struct insn_case {
	char name[96];
	u64 start; /* address of code[0] */
	u8 code[CODE_MAX];
	unsigned length;
	u64 gpr[GPR_COUNT];
	u64 flags; /* arithmetic ones and DF */
	u64 fs_base, gs_base;
	_Alignas(64) u8 vectors[VECTOR_AREA];
	struct patch patch[PATCH_MAX]; /* quadwords of memory that differ from the template */
	unsigned patches;
	bool linear; /* no branches: liveness of flags is easily told */
	bool cold;   /* TLBs are flushed before */
	bool legacy; /* 32-bit code, at CPL 3, with FS and GS as below; fs_base and gs_base are not used */
};

/* FS and GS of 32-bit cases: selectors of an LDT natively. FS is DATA and may be written, GS ends where FS does. */
#define LEGACY_CS       0x23u
#define LEGACY_FS       0x07u
#define LEGACY_GS       0x0fu
#define LEGACY_GS_BASE  (DATA + 0x800)
#define LEGACY_FS_LIMIT 0x1ffeu /* one byte less than there is */
#define LEGACY_GS_LIMIT 0x0ffeu /* expands down: the first 4 KiB are not there; read-only */

/* x87, SSE and AVX registers with everything filled in. */
struct vectors {
	u16 fcw, fsw;
	u8 ftw;
	u32 mxcsr;
	u8 st[8][10];
	u8 ymm[16][32];
};

struct outcome {
	const char *crash; /* the VMM failed: how; nothing else is valid */
	u8 vector;
	u32 error;
	u64 cr2;
	u64 rip;
	u64 gpr[GPR_COUNT];
	u64 flags;
	u64 instructions; /* guest only */
	struct vectors vectors;
	struct image memory;
};

/* The memory that every case starts with, but for its code and patches. */
void image_prepare(struct image *image, const struct insn_case *c);
void image_set_template(u64 seed);

/* Takes the registers out of an XSAVE area in standard format. */
void vectors_unpack(struct vectors *to, const u8 *area);

/* An area for starting with: x87 and SSE as after reset, XMM and YMM registers zero. */
void vectors_default(u8 *area);

#endif
