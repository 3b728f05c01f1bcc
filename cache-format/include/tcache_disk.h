/*
 * What a translated-code cache looks like on disk. FORMAT.md is the specification; this file is its C form. Everything
 * is little-endian with natural alignment, and every reserved field is zero.
 */
#ifndef TCACHE_DISK_H
#define TCACHE_DISK_H

#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the structures are used as they lie on disk, which is little-endian"
#endif

#define TCACHE_MAGIC        "\x89TCACHE\n"
#define TCACHE_FOOTER_MAGIC "TCACHEND"
#define TCACHE_VERSION      3u

#define TCACHE_PAGE        4096u /* alignment of chunks */
#define TCACHE_GROUP       4096u /* bytes that share a digest, counted from the chunk's first page */
#define TCACHE_HEADER_SIZE 256u
#define TCACHE_DIGEST_SIZE 32u

/* Limits. A file beyond them is refused, and the writer does not make one. */
#define TCACHE_MAX_LENGTH        (1ULL << 36)
#define TCACHE_MAX_CHUNKS        256u
#define TCACHE_MAX_GROUPS        (1u << 24) /* of a file of the greatest length */
#define TCACHE_MAX_CODE          (TCACHE_AREA_END - TCACHE_AREA_BEGIN)
#define TCACHE_MAX_STRING        4095u /* bytes, without the terminating zero */
#define TCACHE_MAX_GUEST_LENGTH  (TCACHE_PAGE + 15u)
#define TCACHE_MAX_INSN_SIZE     4096u
#define TCACHE_MAX_TEMPLATE_CODE 65536u

/* Where the areas of a cache may lie in the process that uses it. */
#define TCACHE_AREA_BEGIN 0x50000000ULL
#define TCACHE_AREA_END   0x7f000000ULL

/* struct tcache_header.flags */
#define TCACHE_SIGNED       (1u << 0)
#define TCACHE_HEADER_FLAGS TCACHE_SIGNED

/* struct tcache_header.group_digest: how the digests of page groups are made. */
#define TCACHE_DIGEST_XXH3    1u /* XXH3-128, canonical (big-endian) form, then 16 zero bytes: against damage */
#define TCACHE_DIGEST_BLAKE2B 2u /* BLAKE2b-256: against forgery; a signed file must use it */

/* What a translation depends on. Text is printable ASCII, zero-padded, and ends with at least one zero byte. */
struct tcache_fingerprint {
	char translator[48];
	uint8_t options[TCACHE_DIGEST_SIZE]; /* digest of all options that change the code */
	uint64_t host_features[2];           /* CPU features that the code needs: TCACHE_HOST_FEATURES */
	char guest_cpu[32];
};

struct tcache_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t header_size;
	uint32_t flags;
	uint32_t group_digest;
	uint32_t page_size;
	uint32_t group_size;
	uint64_t length; /* of the file */
	uint64_t tail;   /* offset of the table of contents; a multiple of the page size */
	uint32_t chunk_count;
	uint32_t group_count;
	struct tcache_fingerprint fingerprint;
	uint64_t created; /* seconds since 1970, or 0: not recorded, for reproducible files */
	uint8_t reserved[64];
};

/* struct tcache_toc_entry.flags */
#define TCACHE_OPTIONAL    0u
#define TCACHE_CRITICAL    (1u << 0) /* a reader that does not know the chunk must refuse the file */
#define TCACHE_CHUNK_FLAGS TCACHE_CRITICAL

struct tcache_toc_entry {
	uint32_t type; /* TCACHE_FOURCC */
	uint32_t flags;
	uint64_t offset;
	uint64_t length; /* bytes; a multiple of element_size */
	uint32_t element_size;
	uint32_t schema; /* version of the records */
	uint32_t first_group;
	uint32_t group_count;
	uint64_t reserved[3];
};

/* One for each page group; the groups of a chunk follow each other. */
struct tcache_group {
	uint8_t digest[TCACHE_DIGEST_SIZE];
};

/* The last bytes of the file. */
struct tcache_footer {
	uint8_t magic[8];
	uint64_t length; /* of the file, as in the header */
	uint32_t version;
	uint32_t reserved0;
	uint64_t reserved[5];
	uint8_t digest[TCACHE_DIGEST_SIZE]; /* BLAKE2b-256 of the header page and of the tail up to here */
	uint8_t public_key[32];             /* Ed25519; zero in an unsigned file */
	uint8_t signature[64];              /* of TCACHE_SIGNATURE_PREFIX and digest; zero in an unsigned file */
};

#define TCACHE_SIGNATURE_PREFIX "translated-code cache, signature version 1\n"

#define TCACHE_FOURCC(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* An input that units were made from. */
struct tcache_image {
	uint8_t digest[TCACHE_DIGEST_SIZE]; /* tcache_image_digest() of the file */
	uint64_t size;                      /* of the file */
	uint64_t data_size;                 /* of what was unpacked from it, or 0 */
	uint32_t name;                      /* string */
	uint16_t kind;                      /* enum tcache_image_kind */
	uint16_t reserved0;
	uint32_t data; /* 1 + number of the chunk that holds what was unpacked, or 0 */
	uint32_t reserved1;
};

enum tcache_image_kind {
	TCACHE_IMAGE_KERNEL = 1,
	TCACHE_IMAGE_MODULE,
	TCACHE_IMAGE_INITRAMFS,
	TCACHE_IMAGE_PROGRAM, /* executable or shared object */
	TCACHE_IMAGE_PROFILE, /* a recorded run */
	TCACHE_IMAGE_KINDS
};

/* Where the code of this file was linked to lie. One record. Addresses are those of pages. */
struct tcache_placement {
	uint64_t code_address;  /* of CODE, mapped readable and executable, shared */
	uint64_t cells_address; /* of CELL, mapped readable and writable, private */
	uint64_t insns_address; /* of the area for decoded instructions: insn_size bytes for each record of INSN */
	uint32_t insn_size;     /* bytes of a decoded instruction: TCACHE_INSN_MIN … TCACHE_MAX_INSN_SIZE */
	uint32_t first_target;  /* number that code gives the first record of TRGT */
	uint32_t first_link;    /* and the first record of LINK */
	uint32_t reserved[7];
};

/* struct tcache_unit.flags: exactly one of lifted and copied */
#define TCACHE_UNIT_LIFTED (1u << 0)
#define TCACHE_UNIT_COPIED (1u << 1)
#define TCACHE_UNIT_COLD   (1u << 2) /* never seen executed */
#define TCACHE_UNIT_FLAGS  (TCACHE_UNIT_LIFTED | TCACHE_UNIT_COPIED | TCACHE_UNIT_COLD)

/* A translation of the guest's bytes pc … pc + guest_length - 1. Sorted by tcache_unit_compare(): pc, mode, hash. */
struct tcache_unit {
	uint64_t hash[2]; /* tcache_hash() of the guest bytes */
	uint64_t pc;
	uint64_t executions; /* in the training run; 0: unknown */
	uint32_t mode;       /* mode word of the key; must be equal in the bits of mode_mask, otherwise opaque here */
	uint32_t flags;
	uint32_t guest_length; /* may reach into a second page */
	uint32_t instruction_count;
	uint32_t image;                    /* 1 + number of the image, or 0 */
	uint32_t name;                     /* string: the function's name, or empty */
	uint32_t name_offset;              /* bytes from where that begins */
	uint32_t code_offset, code_length; /* in CODE */
	uint32_t body_offset; /* second entry, relative to code_offset: for jumps that need not set the guest pc */
	uint32_t pc_first, pc_count;
	uint32_t entry_first, entry_count;
	uint32_t link_first, link_count;
	uint32_t insn_first, insn_count;
	uint32_t saved_offset; /* the same for jumps that leave the flags saved in memory */
	uint32_t guest_offset; /* 1 + offset of the guest bytes in GBYT, or 0 */
	uint32_t mode_mask;    /* bits of the mode word that this code depends on; the others are 0 in mode */
	uint32_t reserved[3];
};

#define TCACHE_LINK_SAVED  (1u << 0) /* it leaves flags saved, and wants an entry that finds them so */
#define TCACHE_LINK_DIRECT (1u << 1)
#define TCACHE_LINK_SITE   7u /* bytes of a jump or call through a cell, or of a direct one with two before it */

/* Host offset → guest offset. Within a unit strictly ascending by code. */
struct tcache_pc {
	uint32_t code;  /* offset from the unit's code */
	uint16_t guest; /* offset from the unit's pc */
	uint16_t home;  /* bit n: guest register n is in the vCPU state, not in its host register */
	uint16_t left;  /* counted code: instructions of the block not executed yet, this one included */
	uint16_t reserved;
};

/* A place in the unit's guest bytes that may be jumped to. */
struct tcache_entry {
	uint32_t code;  /* offset from the unit's code */
	uint16_t guest; /* offset from the unit's pc */
	uint16_t reserved;
};

/*
 * A jump or call to another unit of the page. Record n of CELL, 8 bytes at cells_address + 8 * n, is the host address
 * that it goes to: at first that of the cold path, which leaves for the runtime with the link's number. A direct link
 * goes straight into the only unit at its target instead: its unit must not run where that one does not fit.
 */
struct tcache_link {
	int32_t target; /* guest offset from the unit's pc */
	uint32_t cold;  /* offset from the unit's code */
	uint32_t flags; /* TCACHE_LINK_* */
	uint32_t site;  /* the jump or call's offset from the unit's code */
};

/*
 * A guest instruction that code hands to the runtime: record n by the address insns_address + insn_size * n, where the
 * runtime keeps it decoded.
 */
struct tcache_insn {
	uint8_t bytes[15]; /* zero after the instruction's end */
	uint8_t length;
};

#define TCACHE_INSN_MIN 16u /* bytes of a decoded one, at least */

/*
 * A translation of user code that is good wherever the guest maps its page: it is copied from TCOD and adapted to an
 * address, as the fix-ups say. Made for a page at TCACHE_TEMPLATE_BASE. Sorted by tcache_template_compare(): page;
 * those that were executed, then cold ones; offset, first, length, mode, hash.
 */
struct tcache_template {
	uint64_t hash[2];    /* tcache_hash() of the guest bytes */
	uint64_t first;      /* the first eight guest bytes, the lowest first; zeros beyond the end */
	uint64_t executions; /* in the training run; 0: unknown */
	uint32_t mode;
	uint32_t mode_mask;
	uint16_t offset;       /* of the first guest byte in its page */
	uint16_t guest_length; /* within the page */
	uint16_t instruction_count;
	uint16_t flags;                    /* TCACHE_UNIT_… */
	uint32_t page;                     /* number in TPAG */
	uint32_t code_offset, code_length; /* in TCOD */
	uint32_t body_offset, saved_offset;
	uint32_t pc_first, pc_count; /* in PCTB, ENTR, INSN as units */
	uint32_t entry_first, entry_count;
	uint32_t insn_first, insn_count;
	uint32_t link_first, link_count; /* in TLNK */
	uint32_t goal_first, goal_count; /* in GOAL */
	uint32_t fixup_first;            /* in FIXU: fixup_count[0] of the first kind, then … */
	uint16_t fixup_count[8];         /* by kind; the last is reserved */
	uint32_t guest_offset;           /* 1 + offset of the guest bytes in GBYT; never 0 */
	uint32_t image;                  /* 1 + number of the image, or 0 */
	uint32_t name, name_offset;
};

#define TCACHE_TEMPLATE_BASE 0x7f0000000000ULL

/* Kinds of fix-ups, and the bytes that each changes. */
enum tcache_fixup {
	TCACHE_FIXUP_ADDRESS, /* 8: a guest address */
	TCACHE_FIXUP_MINUS,   /* 8: minus a guest address */
	TCACHE_FIXUP_READ,    /* 4: displacements in the runtime's view, by page */
	TCACHE_FIXUP_WRITE,
	TCACHE_FIXUP_ADDEND,
	TCACHE_FIXUP_LINK, /* 4: the number of a link, from 0 */
	TCACHE_FIXUP_INSN, /* 4: the address of an instruction record */
	TCACHE_FIXUP_KINDS
};

/* A page of guest code. Ascending by hash (high, low). */
struct tcache_page {
	uint64_t hash[2];      /* tcache_hash() of its 4096 bytes */
	uint32_t first, count; /* its templates */
};

#define TCACHE_TEMPLATE_LINK_TAKEN (1u << 1) /* besides TCACHE_LINK_SAVED: both ends were executed */

/* A jump within the page. */
struct tcache_template_link {
	uint32_t patch;  /* offset of its displacement, 4 bytes, from the template's code */
	uint16_t target; /* offset in the page */
	uint16_t flags;
};

/* A jump to another page. */
struct tcache_goal {
	uint32_t number, entry; /* offsets from the template's code: 4 bytes for its number, and for its displacement */
	int64_t target;         /* from the beginning of the page */
	uint32_t flags;         /* TCACHE_LINK_SAVED */
	uint32_t reserved;
};

/*
 * A translation of code of a kernel module: good wherever the guest has loaded it, and for whatever it has filled into
 * the holes of its page. Copied from MCOD and adapted, as the fix-ups say. Made for a page at TCACHE_MODULE_BASE.
 * Sorted by tcache_module_compare(): page, offset, mode, length, hash.
 */
struct tcache_module_unit {
	uint64_t hash[2]; /* tcache_hash() of the guest bytes, with TCACHE_HOLE_FILLING in the holes */
	uint32_t mode;
	uint32_t mode_mask;
	uint32_t page;         /* number in MPAG */
	uint16_t offset;       /* of the first guest byte in its page */
	uint16_t guest_length; /* within the page */
	uint16_t instruction_count;
	uint16_t flags;                            /* TCACHE_UNIT_… */
	uint32_t code_offset, code_length;         /* in MCOD */
	uint32_t body_offset, saved_offset;        /* second and third entry */
	uint32_t stale_offset, stale_saved_offset; /* where these lead when the unit is no more */
	uint32_t pc_first, pc_count;               /* in PCTB, ENTR as units */
	uint32_t entry_first, entry_count;
	uint32_t insn_first, insn_count;   /* in MINS */
	uint32_t fixup_first, fixup_count; /* in MFIX */
	uint32_t guest_offset;             /* 1 + offset of the guest bytes in GBYT; never 0 */
};

#define TCACHE_MODULE_BASE  0xffffffffc0000000ULL
#define TCACHE_HOLE_FILLING 0x5a

/* A page of a kernel module's code. Ascending by hash (high, low). */
struct tcache_module_page {
	uint64_t hash[2];                /* of its bytes with holes filled, and of the holes */
	uint32_t first, count;           /* its units */
	uint32_t hole_first, hole_count; /* in MHOL; ascending, not overlapping */
};

/* A record of MHOL: offset in the page, below 4096, and whether 8 bytes are filled in there or 4. */
#define TCACHE_HOLE_WIDE    0x8000u
#define TCACHE_HOLE_AT(h)   ((h)&0xfffu)
#define TCACHE_HOLE_SIZE(h) ((h)&TCACHE_HOLE_WIDE ? 8u : 4u)

/* By what a unit is found. Sorted by offset, mask, hash, unit. */
struct tcache_module_key {
	uint16_t offset; /* the unit's */
	uint16_t mask;   /* bit n: byte n of its guest bytes is there and not in a hole */
	uint32_t hash;   /* low bits of tcache_hash() of 16 bytes: those, and zeros for the others */
	uint32_t unit;
};

/* What depends on a module's place or on a hole. */
struct tcache_module_fixup {
	uint16_t at;    /* offset in the unit's code */
	uint8_t kind;   /* enum tcache_module_kind */
	uint8_t from;   /* enum tcache_module_from */
	uint32_t value; /* by `from`, or by kind */
};

enum tcache_module_kind {
	TCACHE_MODULE_ADDRESS, /* 4 bytes … */
	TCACHE_MODULE_WIDE,    /* 8 */
	TCACHE_MODULE_MINUS,
	TCACHE_MODULE_TAG,
	TCACHE_MODULE_READ, /* displacements in the runtime's view, by page */
	TCACHE_MODULE_WRITE,
	TCACHE_MODULE_ADDEND,
	TCACHE_MODULE_NUMBER, /* a target's … */
	TCACHE_MODULE_NUMBER_SAVED,
	TCACHE_MODULE_ELEMENT,
	TCACHE_MODULE_ELEMENT_SAVED,
	TCACHE_MODULE_LINK, /* the number of the unit's jump `value` */
	TCACHE_MODULE_INSN, /* the address of its instruction record `value` */
	TCACHE_MODULE_JUMP, /* the displacement of a jump to offset `value` in the page; they are numbered in order */
	TCACHE_MODULE_JUMP_SAVED, /* … that leaves flags saved */
	TCACHE_MODULE_LANDING,    /* nothing is changed: returns come here */
	TCACHE_MODULE_KINDS
};

enum tcache_module_from {
	TCACHE_MODULE_FROM_PAGE, /* `value`, signed, from the page's address */
	TCACHE_MODULE_FROM_RELATIVE,
	TCACHE_MODULE_FROM_ABSOLUTE,
	TCACHE_MODULE_FROM_WIDE,
	TCACHE_MODULE_FROMS
};

/* `value` of what comes from a field: its offset in the guest bytes, bytes of the instruction behind it, of an access
 */
#define TCACHE_MODULE_FIELD_AT(value)     ((value)&0xffffu)
#define TCACHE_MODULE_FIELD_BEHIND(value) ((value) >> 16 & 0xffu)

/* What is known of a page of code. Sorted by image, then page. */
struct tcache_verdict {
	uint64_t hash[2]; /* tcache_hash() of its 4096 bytes */
	uint32_t image;   /* number of the image */
	uint32_t page;    /* number of the page in the image's unpacked bytes */
	uint32_t flags;
	uint32_t reserved;
};

#define TCACHE_VERDICT_PLAIN (1u << 0) /* holds no sensitive unprivileged instruction */
#define TCACHE_VERDICT_FLAGS TCACHE_VERDICT_PLAIN

/* How often a place was executed in a training run. Strictly ascending by pc, mode, hash. */
struct tcache_profile {
	uint64_t hash[2]; /* as in struct tcache_unit */
	uint64_t pc;
	uint64_t count;
	uint32_t mode;
	uint32_t reserved;
};

/* Recorded run: guest code that was executed as a unit. In the order of first execution. */
struct tcache_executed {
	uint64_t pc;
	uint32_t mode;
	uint32_t guest_length;
	uint32_t bytes_first; /* offset of the guest bytes in GBYT */
	uint32_t count_first; /* in CNTS: how often each basic block was entered */
	uint32_t count_count;
	uint32_t page; /* 1 + number in RPAG, or 0: this code was translated for its address */
};

/* Recorded run: a page of code that may be anywhere. */
struct tcache_recorded_page {
	uint64_t hash[2]; /* as in struct tcache_page */
};

/*
 * The known chunks: name in the API, FourCC, record, alone or several in a file, flag in the table of contents, schema,
 * meaning. A new chunk is a line here (and, if its records hold more than plain numbers, a check in records.c).
 */
#define TCACHE_CHUNKS(X)                                                                                               \
	X(images, TCACHE_FOURCC('I', 'M', 'G', 'S'), struct tcache_image, 1, TCACHE_CRITICAL, 1, "input images")       \
	X(placement, TCACHE_FOURCC('P', 'L', 'A', 'C'), struct tcache_placement, 1, TCACHE_CRITICAL, 1,                \
	  "addresses that code was linked to")                                                                         \
	X(units, TCACHE_FOURCC('U', 'N', 'I', 'T'), struct tcache_unit, 1, TCACHE_CRITICAL, 1, "unit index")           \
	X(by_code, TCACHE_FOURCC('B', 'Y', 'C', 'O'), uint32_t, 1, TCACHE_CRITICAL, 1,                                 \
	  "numbers of units in the order of their code")                                                               \
	X(code, TCACHE_FOURCC('C', 'O', 'D', 'E'), uint8_t, 1, TCACHE_CRITICAL, 1, "machine code")                     \
	X(pcs, TCACHE_FOURCC('P', 'C', 'T', 'B'), struct tcache_pc, 1, TCACHE_CRITICAL, 1, "host to guest addresses")  \
	X(entries, TCACHE_FOURCC('E', 'N', 'T', 'R'), struct tcache_entry, 1, TCACHE_CRITICAL, 1,                      \
	  "places that may be jumped to")                                                                              \
	X(links, TCACHE_FOURCC('L', 'I', 'N', 'K'), struct tcache_link, 1, TCACHE_CRITICAL, 1, "jumps to other units") \
	X(cells, TCACHE_FOURCC('C', 'E', 'L', 'L'), uint64_t, 1, TCACHE_CRITICAL, 1, "where links lead at first")      \
	X(targets, TCACHE_FOURCC('T', 'R', 'G', 'T'), uint64_t, 1, TCACHE_CRITICAL, 1,                                 \
	  "guest addresses of numbered jump targets")                                                                  \
	X(insns, TCACHE_FOURCC('I', 'N', 'S', 'N'), struct tcache_insn, 1, TCACHE_CRITICAL, 1,                         \
	  "instructions for the runtime")                                                                              \
	X(verdicts, TCACHE_FOURCC('V', 'E', 'R', 'D'), struct tcache_verdict, 1, TCACHE_OPTIONAL, 1, "page verdicts")  \
	X(profile, TCACHE_FOURCC('P', 'R', 'O', 'F'), struct tcache_profile, 1, TCACHE_OPTIONAL, 1, "profile")         \
	X(guest, TCACHE_FOURCC('G', 'B', 'Y', 'T'), uint8_t, 1, TCACHE_OPTIONAL, 1, "guest bytes")                     \
	X(log, TCACHE_FOURCC('B', 'L', 'O', 'G'), char, 1, TCACHE_OPTIONAL, 1, "build log")                            \
	X(kernel, TCACHE_FOURCC('K', 'E', 'R', 'N'), uint8_t, 0, TCACHE_OPTIONAL, 1, "unpacked kernel")                \
	X(executed, TCACHE_FOURCC('R', 'E', 'C', 'D'), struct tcache_executed, 1, TCACHE_OPTIONAL, 2,                  \
	  "code that was executed")                                                                                    \
	X(counts, TCACHE_FOURCC('C', 'N', 'T', 'S'), uint64_t, 1, TCACHE_OPTIONAL, 1, "executions of basic blocks")    \
	X(strings, TCACHE_FOURCC('S', 'T', 'R', 'S'), char, 1, TCACHE_CRITICAL, 1, "strings")                          \
	X(templates, TCACHE_FOURCC('T', 'M', 'P', 'L'), struct tcache_template, 1, TCACHE_OPTIONAL, 2,                 \
	  "code that may be anywhere")                                                                                 \
	X(pages, TCACHE_FOURCC('T', 'P', 'A', 'G'), struct tcache_page, 1, TCACHE_OPTIONAL, 2, "pages of templates")   \
	X(by_content, TCACHE_FOURCC('T', 'B', 'Y', 'C'), uint32_t, 1, TCACHE_OPTIONAL, 1,                              \
	  "executed templates by content")                                                                             \
	X(template_code, TCACHE_FOURCC('T', 'C', 'O', 'D'), uint8_t, 1, TCACHE_OPTIONAL, 1,                            \
	  "machine code of templates")                                                                                 \
	X(template_links, TCACHE_FOURCC('T', 'L', 'N', 'K'), struct tcache_template_link, 1, TCACHE_OPTIONAL, 1,       \
	  "jumps within pages of templates")                                                                           \
	X(goals, TCACHE_FOURCC('G', 'O', 'A', 'L'), struct tcache_goal, 1, TCACHE_OPTIONAL, 1,                         \
	  "jumps of templates to other pages")                                                                         \
	X(fixups, TCACHE_FOURCC('F', 'I', 'X', 'U'), uint32_t, 1, TCACHE_OPTIONAL, 1,                                  \
	  "places in templates that depend on their address")                                                          \
	X(recorded_pages, TCACHE_FOURCC('R', 'P', 'A', 'G'), struct tcache_recorded_page, 1, TCACHE_OPTIONAL, 1,       \
	  "pages of code that was executed")                                                                           \
	X(module_units, TCACHE_FOURCC('M', 'U', 'N', 'I'), struct tcache_module_unit, 1, TCACHE_OPTIONAL, 1,           \
	  "code of kernel modules")                                                                                    \
	X(module_pages, TCACHE_FOURCC('M', 'P', 'A', 'G'), struct tcache_module_page, 1, TCACHE_OPTIONAL, 1,           \
	  "pages of kernel modules")                                                                                   \
	X(module_keys, TCACHE_FOURCC('M', 'K', 'E', 'Y'), struct tcache_module_key, 1, TCACHE_OPTIONAL, 1,             \
	  "by what code of kernel modules is found")                                                                   \
	X(module_holes, TCACHE_FOURCC('M', 'H', 'O', 'L'), uint16_t, 1, TCACHE_OPTIONAL, 1,                            \
	  "what is filled in when a module is loaded")                                                                 \
	X(module_code, TCACHE_FOURCC('M', 'C', 'O', 'D'), uint8_t, 1, TCACHE_OPTIONAL, 1,                              \
	  "machine code of kernel modules")                                                                            \
	X(module_insns, TCACHE_FOURCC('M', 'I', 'N', 'S'), struct tcache_insn, 1, TCACHE_OPTIONAL, 1,                  \
	  "its instructions for the runtime")                                                                          \
	X(module_fixups, TCACHE_FOURCC('M', 'F', 'I', 'X'), struct tcache_module_fixup, 1, TCACHE_OPTIONAL, 1,         \
	  "places in it that depend on its address or on holes")                                                       \
	X(padding, TCACHE_FOURCC('P', 'A', 'D', 'D'), uint8_t, 0, TCACHE_OPTIONAL, 1, "zeros before an aligned chunk")

/* TCACHE_TYPE_images, TCACHE_TYPE_units, …: the FourCCs by the names of the table. */
enum tcache_type {
#define X(name, fourcc, record, single, flags, schema, text) TCACHE_TYPE_##name = (int)(fourcc),
	TCACHE_CHUNKS(X)
#undef X
};

/*
 * Host CPU features, by bit number in fingerprint.host_features: name as in /proc/cpuinfo, CPUID leaf, subleaf,
 * register (0 EAX … 3 EDX), bit, and whether the operating system must have enabled AVX state (Intel SDM volume 2,
 * CPUID; leaf 80000001 also AMD APM volume 3, appendix E). Numbers are never reused.
 */
#define TCACHE_HOST_FEATURES(X)                                                                                        \
	X(0, CX16, "cx16", 0x1, 0, 2, 13, 0)                                                                           \
	X(1, POPCNT, "popcnt", 0x1, 0, 2, 23, 0)                                                                       \
	X(2, SSE42, "sse4_2", 0x1, 0, 2, 20, 0)                                                                        \
	X(3, MOVBE, "movbe", 0x1, 0, 2, 22, 0)                                                                         \
	X(4, AVX, "avx", 0x1, 0, 2, 28, 1)                                                                             \
	X(5, FMA, "fma", 0x1, 0, 2, 12, 1)                                                                             \
	X(6, F16C, "f16c", 0x1, 0, 2, 29, 1)                                                                           \
	X(7, AES, "aes", 0x1, 0, 2, 25, 0)                                                                             \
	X(8, PCLMUL, "pclmulqdq", 0x1, 0, 2, 1, 0)                                                                     \
	X(9, RDRAND, "rdrand", 0x1, 0, 2, 30, 0)                                                                       \
	X(10, AVX2, "avx2", 0x7, 0, 1, 5, 1)                                                                           \
	X(11, BMI1, "bmi1", 0x7, 0, 1, 3, 0)                                                                           \
	X(12, BMI2, "bmi2", 0x7, 0, 1, 8, 0)                                                                           \
	X(13, ADX, "adx", 0x7, 0, 1, 19, 0)                                                                            \
	X(14, FSGSBASE, "fsgsbase", 0x7, 0, 1, 0, 0)                                                                   \
	X(15, ERMS, "erms", 0x7, 0, 1, 9, 0)                                                                           \
	X(16, SHA, "sha_ni", 0x7, 0, 1, 29, 0)                                                                         \
	X(17, RDSEED, "rdseed", 0x7, 0, 1, 18, 0)                                                                      \
	X(18, CLFLUSHOPT, "clflushopt", 0x7, 0, 1, 23, 0)                                                              \
	X(19, FSRM, "fsrm", 0x7, 0, 3, 4, 0)                                                                           \
	X(20, LAHF, "lahf_lm", 0x80000001, 0, 2, 0, 0)                                                                 \
	X(21, LZCNT, "abm", 0x80000001, 0, 2, 5, 0)                                                                    \
	X(22, PREFETCHW, "3dnowprefetch", 0x80000001, 0, 2, 8, 0)                                                      \
	X(23, RDTSCP, "rdtscp", 0x80000001, 0, 3, 27, 0)                                                               \
	X(24, GFNI, "gfni", 0x7, 0, 2, 8, 0)                                                                           \
	X(25, VAES, "vaes", 0x7, 0, 2, 9, 1)                                                                           \
	X(26, VPCLMUL, "vpclmulqdq", 0x7, 0, 2, 10, 1)

enum tcache_host_feature {
#define X(number, name, text, leaf, subleaf, reg, bit, avx) TCACHE_HOST_##name = number,
	TCACHE_HOST_FEATURES(X)
#undef X
};

_Static_assert(sizeof(struct tcache_fingerprint) == 128, "size of the fingerprint");
_Static_assert(sizeof(struct tcache_header) == TCACHE_HEADER_SIZE, "size of the header");
_Static_assert(sizeof(struct tcache_toc_entry) == 64, "size of a table of contents entry");
_Static_assert(sizeof(struct tcache_footer) == 192, "size of the footer");
_Static_assert(sizeof(struct tcache_image) == 64, "size of an image record");
_Static_assert(sizeof(struct tcache_unit) == 128, "size of a unit record");
_Static_assert(sizeof(struct tcache_template) == 144, "size of a template record");
_Static_assert(sizeof(struct tcache_page) == 24, "size of a page record");
_Static_assert(sizeof(struct tcache_template_link) == 8, "size of a template's link record");
_Static_assert(sizeof(struct tcache_goal) == 24, "size of a goal record");
_Static_assert(sizeof(struct tcache_pc) == 12, "size of a pc record");
_Static_assert(sizeof(struct tcache_placement) == 64, "size of a placement record");
_Static_assert(sizeof(struct tcache_entry) == 8, "size of an entry record");
_Static_assert(sizeof(struct tcache_link) == 16, "size of a link record");
_Static_assert(sizeof(struct tcache_insn) == 16, "size of an instruction record");
_Static_assert(sizeof(struct tcache_verdict) == 32, "size of a verdict record");
_Static_assert(sizeof(struct tcache_profile) == 40, "size of a profile record");
_Static_assert(sizeof(struct tcache_executed) == 32, "size of a record of executed code");
_Static_assert(sizeof(struct tcache_recorded_page) == 16, "size of a recorded page's record");
_Static_assert(sizeof(struct tcache_module_unit) == 96, "size of a module unit record");
_Static_assert(sizeof(struct tcache_module_page) == 32, "size of a module page record");
_Static_assert(sizeof(struct tcache_module_key) == 12, "size of a module key record");
_Static_assert(sizeof(struct tcache_module_fixup) == 8, "size of a module fix-up record");

#endif
