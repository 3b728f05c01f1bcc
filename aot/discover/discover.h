/*
 * The pre-scan of the build step: which guest addresses are entry points of code, and which bytes will be there when
 * the code runs? Knows ELF files, Linux kernel images and initramfs archives, all as untrusted input; nothing of LLVM
 * and nothing of the VMM.
 *
 *	discover_kernel(), discover_program()           make images: bytes and entries; programs may come from
 *	discover_archive()
 *	units_create(), units_add(), units_next()       walk the units that the live translator would make
 *
 * Same input, same output: entries are sorted, units come in an order that depends on the image alone.
 */
#ifndef AVANT_DISCOVER_H
#define AVANT_DISCOVER_H

#include "util/err.h"
#include "util/types.h"

struct cpu_model;
struct kernel_image;
struct scan;
struct scan_options;

/* Which source named an address; an entry may have several. */
enum entry_source {
	ENTRY_START = BIT(0),      /* entry point of the ELF file */
	ENTRY_SYMBOL = BIT(1),     /* kallsyms, or an ELF symbol table */
	ENTRY_EXPORT = BIT(2),     /* __ksymtab */
	ENTRY_UNWIND = BIT(3),     /* ORC or .eh_frame: a function starts here */
	ENTRY_FIXUP = BIT(4),      /* __ex_table: where a fault continues */
	ENTRY_POINTER = BIT(5),    /* data or an immediate holds this address (the kernel's relocations say where) */
	ENTRY_PLT = BIT(6),        /* slot of a procedure linkage table */
	ENTRY_INIT = BIT(7),       /* .init_array, .fini_array and the like */
	ENTRY_CALL = BIT(8),       /* target of a direct call (units_note_entries()) */
	ENTRY_JUMP_TABLE = BIT(9), /* target of an indirect jump through a table */
	ENTRY_SOURCES = 10,
};

struct image_entry {
	u64 pc;
	u16 sources;      /* enum entry_source */
	const char *name; /* owned by the image, or NULL */
};

/*
 * Bytes of the image, as loaded (and, in a kernel, patched). What lies beyond the file's bytes (.bss) is left out. Code
 * of programs comes in whole pages, with what the file has around it.
 */
struct image_segment {
	u64 address; /* guest virtual */
	u64 size;    /* bytes */
	u8 *bytes;   /* owned by the image */
	bool executable, writable;
};

/* A range of code. An image without section headers has its executable segments as ranges. */
struct code_range {
	u64 address, size;
	bool init; /* gone when the kernel has booted; runs before and after patching */
};

/* Lines of text about what was found, and what was not. Grows; zeroed is empty. */
struct report {
	char *text; /* NULL while empty */
	u64 size, capacity;
};

struct image {
	char *name; /* owned: path within an archive, or "kernel" */
	bool kernel;
	bool moves;                    /* position independent: may be loaded anywhere, a multiple of 4096 bytes away */
	struct image_segment *segment; /* sorted by address, not overlapping */
	u32 segment_count;
	struct code_range *code; /* sorted by address, not overlapping */
	u32 code_count;
	struct image_entry *entry; /* sorted by pc, unique */
	u32 entry_count;
	struct image_entry *symbol; /* code and data, sorted by address; several may share one */
	u32 symbol_count;
	u32 *by_name;               /* numbers of symbols, sorted by name, then address */
	struct image_entry *export; /* of a kernel: what modules may use, sorted by name; sources is 0 */
	u32 export_count;
	char *names; /* what the names point into */
	struct report report;
};

struct kernel_options {
	const struct cpu_model *cpu; /* guest CPU model; NULL: the default one */
	bool patch; /* bytes as the kernel will have patched them, one CPU online; else as linked, for early boot */
};

/*
 * Reads a kernel, whose memory is no longer needed afterwards. Tables that cannot be found or read are only missing in
 * the result, and the report says so. Returns 0, and the caller releases the image; -1 with a message in err if it is
 * no usable 64-bit ELF file or memory runs out.
 */
int discover_kernel(const struct kernel_image *kernel, const struct kernel_options *options, struct image *image,
		    struct err *err);

/* What became of a file that is an ELF file for x86-64. */
enum program_verdict {
	PROGRAM_FIXED,       /* ET_EXEC: translated at its addresses */
	PROGRAM_INDEPENDENT, /* ET_DYN: translated as templates, for any address */
};

/*
 * Reads an ELF64 executable or shared object for x86-64. Addresses are those that the file gives. Returns 0, and the
 * caller releases the image; -1 with a message in err that names the file.
 */
int discover_program(const u8 *data, u64 size, const char *name, struct image *image, enum program_verdict *verdict,
		     struct err *err);

/* What can be told of an ELF file without looking for code. Texts point into the file. */
#define SUMMARY_NEEDED 128
#define SUMMARY_TEXT   4
struct program_summary {
	bool module;           /* an object file: a kernel module */
	u64 entry;             /* address, of a program of fixed ones; 0: it is none */
	const u8 *entry_bytes; /* … and what is there */
	u64 entry_left;        /* … to the end of its segment; or 0 */
	u64 code;              /* bytes of its executable segments, or of a module's sections; segments … */
	struct {
		u64 offset, size;
	} text[SUMMARY_TEXT]; /* … which lie here in the file */
	u32 text_count;
	const char *soname;                 /* the name that others need it by; or NULL */
	const char *interpreter;            /* path of the loader; or NULL */
	const char *needed[SUMMARY_NEEDED]; /* names of the libraries that it needs */
	u32 needed_count;
};

/* -1 with a message in err that names the file: no program, library or module for x86-64. */
int discover_summary(const u8 *data, u64 size, const char *name, struct program_summary *summary, struct err *err);

/* Is told of one ELF file; anything but 0 ends it. */
typedef int archive_visitor(void *opaque, const char *name, const u8 *data, u64 size, struct err *err);

/*
 * Visits the ELF files of an initramfs: newc cpio archives one after the other, each plain or compressed, with padding
 * between them, as the kernel takes them. Damage is reported, what comes behind it is left out; report may be NULL.
 * Names are as they are there. Returns 0; what a visitor returned; or -1 with a message in err if this is no archive.
 */
int discover_archive(const u8 *data, u64 size, const char *name, archive_visitor *visit, void *opaque,
		     struct report *report, struct err *err);

void image_release(struct image *image);

/* `size` bytes at a guest address, within one segment; NULL if they are not all there. */
const u8 *image_at(const struct image *image, u64 address, u64 size);

/* Bytes from a guest address to the end of its segment; 0: it is in none. */
u64 image_left(const struct image *image, u64 address);

/* Is this an address of code? */
bool image_is_code(const struct image *image, u64 address);

/* The last symbol at or before pc, and the distance to it; NULL if there is none in the same range of code. */
const char *image_symbol(const struct image *image, u64 pc, u64 *offset);

/* The address of a symbol (code or data: kallsyms has both), or 0. */
u64 image_find(const struct image *image, const char *name);

/* Name of a source: "symbol", "export" … `source` is one bit. */
const char *entry_source_name(u16 source);

/* The address of what a kernel exports (or an offset in each processor's memory). False: no such export. */
bool image_exported(const struct image *image, const char *name, u64 *address);

void report_line(struct report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
void report_release(struct report *report);

/* --- units ------------------------------------------------------------------------------------------------------ */

/*
 * The worklist of translation units. From each pc that was added, the unit is scanned as the live translator does
 * (scan_unit(), page by page), and each place where the unit is left for a known address is added in turn: targets of
 * direct jumps and calls outside of the unit, return points and falls beyond its end, what follows instructions that
 * leave the unit on purpose, tables of indirect jumps where they can be read. Each pc comes once. What the live
 * translator enters by interrupts and faults inside a unit cannot be seen here.
 */
struct units;

/* The image must outlive it. NULL with a message in err. */
struct units *units_create(const struct image *image, const struct scan_options *options, struct err *err);
void units_free(struct units *units);

/*
 * Units are to end where another one begins, so that hardly any instruction belongs to two: what jumps into the middle
 * of one cuts it in two. They come in the order of addresses. Call it before anything is added; nothing can be added
 * after the first unit.
 */
void units_set_disjoint(struct units *units);

/* Adds a pc unless it was added before or is no code. Returns whether it is new. */
bool units_add(struct units *units, u64 pc);

/* All entries of the image. */
void units_add_entries(struct units *units);

/*
 * The next unit, last in first out; NULL if there is none (left). It stays valid until the next call. Its bytes are at
 * image_at(scan->pc, scan->bytes).
 */
const struct scan *units_next(struct units *units);

struct units_figures {
	u64 units, instructions;      /* scanned so far; units overlap */
	u64 covered;                  /* bytes of code that belong to some unit */
	u64 indirect_jumps, resolved; /* jmp through a register or memory, and those whose table was read */
	u64 calls;                    /* distinct targets of direct calls that were no entries of the image */
	u64 straddling;               /* units of one instruction across two pages */
};

struct units_figures units_figures(const struct units *units);

/* Adds the targets of calls and jump tables seen so far to the image's entries. -1 if memory runs out. */
int units_note_entries(const struct units *units, struct image *image, struct err *err);

#endif
