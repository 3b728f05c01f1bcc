/* Internal to discover/. */
#ifndef AVANT_DISCOVER_INTERNAL_H
#define AVANT_DISCOVER_INTERNAL_H

#include <string.h>

#include "discover.h"
#include "module.h"

/* Little-endian reads of unaligned fields; the caller has checked the bounds. */
static inline u16 get16(const u8 *p)
{
	u16 value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static inline u32 get32(const u8 *p)
{
	u32 value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static inline u64 get64(const u8 *p)
{
	u64 value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static inline void put32(u8 *p, u32 value)
{
	memcpy(p, &value, sizeof(value));
}

/* Is [offset, offset + length) within size bytes? No sum overflows. */
static inline bool within(u64 offset, u64 length, u64 size)
{
	return offset <= size && length <= size - offset;
}

/*
 * Bytes of a name with its zero, as Linux' KSYM_NAME_LEN. Many names may be parts of one long string: whoever copies or
 * compares all of these would take memory or time without end.
 */
#define NAME_MOST 512u

/* Cuts a name that is longer. */
static inline const char *cut_name(char *name)
{
	if (strnlen(name, NAME_MOST) == NAME_MOST)
		name[NAME_MOST - 1] = 0;
	return name;
}

/* --- elf.c: sections and segments of an ELF64 file ---------------------------------------------------------------- */

struct elf_part {
	const char *name; /* of a section, zero-terminated; "" if it has none, or one longer than NAME_MOST */
	u32 type;
	u64 flags;
	u64 address, offset;
	u64 size;        /* bytes in the file: 0 for SHT_NOBITS; within the file, else the part does not exist */
	u64 memory_size; /* in memory */
	u64 entry_size;  /* of sections, as the rest */
	u64 align;
	u32 link, info;
};

struct elf_file {
	const u8 *data;
	u64 size;
	u16 type; /* ET_* */
	u64 entry;
	struct elf_part *section; /* those that lie within the file, by their number (else of type SHT_NULL) */
	u32 section_count;
	struct elf_part *segment; /* PT_LOAD and others */
	u32 segment_count;
	u64 end; /* of the last thing that the headers name */
};

/* -1 with a message that has `name` in it. The data must outlive the result. */
int elf_open(struct elf_file *elf, const u8 *data, u64 size, const char *name, struct err *err);
void elf_close(struct elf_file *elf);
const struct elf_part *elf_section(const struct elf_file *elf, const char *name);

/* --- unpack.c -------------------------------------------------------------------------------------------------------
 */

/*
 * Compressed data of a known kind, unpacked to `most` bytes or to where it is damaged: *unpacked bytes, never more. The
 * caller frees them. NULL: nothing at all, and *reason says why; `most` may be 0.
 */
u8 *unpack(const u8 *data, u64 size, u64 most, u64 *unpacked, const char **reason);

/* --- image.c: building an image ----------------------------------------------------------------------------------- */

/* Entries in any order, several for an address; image_sort_entries() makes them sorted and unique. */
struct collector {
	struct image_entry *entry;
	u64 count, capacity;
	bool failed; /* memory ran out */
};

void collect(struct collector *collector, u64 pc, u16 source, const char *name);
/* The collected ones that are code become the image's entries. Frees the collector. -1 if memory ran out. */
int image_set_entries(struct image *image, struct collector *collector, struct err *err);
/* The same for the symbols; data symbols stay. */
int image_set_symbols(struct image *image, struct collector *collector, struct err *err);

/* What a kernel exports; all have names, which must stay as they are. */
int image_set_exports(struct image *image, struct collector *collector, struct err *err);

/* Copies the loaded segments and makes the ranges of code. */
int image_load(struct image *image, const struct elf_file *elf, const char *name, struct err *err);

u8 *image_write_at(struct image *image, u64 address, u64 size);
/* The range of code that an address belongs to, or NULL. */
const struct code_range *image_range(const struct image *image, u64 address);
bool image_is_executable(const struct image *image, u64 address);

/* Counts by source, one line. */
void image_report_entries(struct image *image);

/* --- kallsyms.c ----------------------------------------------------------------------------------------------------
 */

struct kallsyms {
	struct collector symbols; /* name: offset into names, until the arena has stopped growing */
	char *names;              /* zero-terminated */
	u64 names_size;
	u64 token_table, token_index, name_table, markers, offsets; /* addresses, for the report */
	u32 count;
};

/*
 * Finds and decodes kallsyms in `bytes`, which are at `address`. [text, text_end) is where most symbols must lie.
 * Returns false, with a reason, if there is none that makes sense.
 */
bool kallsyms_read(struct kallsyms *kallsyms, const u8 *bytes, u64 size, u64 address, u64 text, u64 text_end,
		   const char **reason);
void kallsyms_release(struct kallsyms *kallsyms);

/* --- kernel_tables.c, kernel_relocs.c --------------------------------------------------------------------------------
 */

struct kernel_scan {
	struct image *image;
	const struct elf_file *elf;
	const struct kernel_image *kernel;
	struct collector entries, exports;
};

/* ORC, extable. */
void kernel_read_tables(struct kernel_scan *scan);
/* After all patching: names of exports are not copied, and a damaged kernel may patch over where they end. */
void kernel_read_exports(struct kernel_scan *scan);
/* Where code goes on after faults, in the kernel or a module. */
void read_fixups(struct image *image, const struct elf_file *elf, struct collector *entries);
/* Addresses that data and immediates hold, by the relocations behind the ELF file. */
void kernel_read_relocations(struct kernel_scan *scan);

/* A table that a section or a pair of symbols delimits. NULL if it is not there. */
struct table {
	const u8 *bytes;
	u64 address, size;
};

bool find_table(const struct image *image, const struct elf_file *elf, const char *section, const char *start,
		const char *stop, struct table *table);

/* The address that the s32 at `offset` of the table names relative to itself. */
static inline u64 table_relative(const struct table *table, u64 offset)
{
	return table->address + offset + (u64)(s64)(s32)get32(table->bytes + offset);
}

/* --- holes.c: fields of a module's code that depend on where something is loaded ------------------------------------
 */

#define HOLE_GROUPS 2 /* of code */

/* Zeroed is empty; without a map (NULL) nothing is done, as in a kernel, which does not move. */
struct hole_map {
	struct hole_group {
		u64 address, size;
		u8 *mark; /* one for each byte */
	} group[HOLE_GROUPS];
	u32 group_count;
};

/* -1: out of memory. */
int holes_add_group(struct hole_map *map, u64 address, u64 size);
void holes_release(struct hole_map *map);
/* Is the distance between them known? */
bool holes_same_group(struct hole_map *map, u64 a, u64 b);
/* What lies outside of the groups is no code, and ignored. A hole that is cut is gone. */
void holes_clear(struct hole_map *map, u64 address, u64 size);
void holes_set(struct hole_map *map, u64 address, u8 size, enum hole_kind kind);
void holes_copy(struct hole_map *map, u64 from, u64 to, u64 size);
/* The module's list. -1: out of memory. */
int holes_list(const struct hole_map *map, struct module *module);

/* --- module_layout.c, module_relocs.c --------------------------------------------------------------------------------
 */

enum module_group { GROUP_NONE, GROUP_TEXT, GROUP_INIT_TEXT, GROUP_DATA, GROUP_OTHERS, GROUP_FIXED };

struct module_scan {
	struct module *module;
	const struct image *kernel;
	const char *name;
	struct elf_file elf; /* its sections have nominal addresses once they are laid out */
	u8 *group;           /* enum module_group of each section */
	const struct elf_part *symbols, *strings;
	u32 symbol_count;
	struct module_symbol {
		u64 value;
		u8 group; /* enum module_group; GROUP_OTHERS: nothing is known; GROUP_FIXED: the kernel's, or absolute
			   */
	} * symbol;
	struct hole_map holes;
	struct collector entries;
};

/* Gives sections addresses as the kernel does, and the image its segments. -1 with a message. */
int module_lay_out(struct module_scan *scan, struct err *err);
/* What its symbols are worth; those with names become the image's. -1 with a message. */
int module_read_symbols(struct module_scan *scan, struct err *err);
/* Writes values, notes holes and pointers to code. -1 with a message. */
int module_relocate(struct module_scan *scan, struct err *err);

/* --- features.c, patch.c ---------------------------------------------------------------------------------------------
 */

#define FEATURE_WORDS 32 /* of 32 bits: capabilities, then bugs */

struct features {
	u32 word[FEATURE_WORDS];
};

/*
 * What Linux' boot_cpu_data will hold on this model when it applies alternatives. `bug_word`: the first word of bugs
 * (Linux' NCAPINTS). `newer`: a kernel with the newer
 * layout of alternatives, which has some bits of its own elsewhere.
 */
void features_of(const struct cpu_model *cpu, unsigned bug_word, bool newer, struct features *features);

static inline bool features_have(const struct features *features, u32 number)
{
	return number / 32 < FEATURE_WORDS && features->word[number / 32] >> number % 32 & 1;
}

/* What is patched, and by whom. */
struct patcher {
	struct image *image;
	const struct image *kernel; /* whose symbols and data decide: the image itself if it is a kernel */
	const struct elf_file *elf; /* its sections have the image's addresses */
	const struct cpu_model *cpu;
	struct hole_map *holes; /* of a module; NULL */
};

/* Patches the image's bytes in the order in which the kernel does; reports counts. */
void patch(struct patcher *patcher);
void kernel_patch(struct image *image, const struct elf_file *elf, const struct cpu_model *cpu);

/* Bytes of the module or its kernel; NULL: there are none. */
static inline const u8 *patch_data(const struct patcher *patcher, u64 address, u64 size)
{
	const u8 *bytes = image_at(patcher->image, address, size);

	return bytes ? bytes : image_at(patcher->kernel, address, size);
}

/* The address of the kernel's symbol, or else the module's, or 0. */
static inline u64 patch_find(const struct patcher *patcher, const char *name)
{
	u64 address = image_find(patcher->kernel, name);

	return address || patcher->image == patcher->kernel ? address : image_find(patcher->image, name);
}

/* To be said of bytes that were written: they do not depend on where anything lies … */
static inline void patch_plain(const struct patcher *patcher, u64 place, u64 size)
{
	if (patcher->holes)
		holes_clear(patcher->holes, place, size);
}

/* … but these four, which are the distance to a target. */
void patch_distance(const struct patcher *patcher, u64 field, u64 target);

/* alternatives.c: one table, with its layout recognized. False if it makes no sense. */
bool patch_alternatives(struct patcher *patcher, const struct table *table, unsigned bug_word);
/* Do the kernel's alternatives have the newer layout? */
bool alternatives_are_newer(const struct image *kernel);
/* A member of pv_ops as it is when the kernel patches itself: some are set before by what it finds of the machine. */
u64 patch_guest_op(const struct image *kernel, u64 function);
/* Multi-byte no-operations as Linux writes them. */
void put_nops(u8 *p, u64 length);
/* patch_dynamic.c: static keys and calls, constants known at boot, function tracing. */
void patch_static_calls(struct patcher *patcher);
void patch_static_keys(struct patcher *patcher);
void patch_constants(struct patcher *patcher);
void patch_tracing(struct patcher *patcher);

/* --- eh_frame.c
 * ------------------------------------------------------------------------------------------------------- */

/* Calls back for each function that .eh_frame, found through .eh_frame_hdr or as a section, describes. Returns how
 * many. */
u32 eh_frame_read(const struct image *image, u64 address, u64 size, void (*found)(void *context, u64 start, u64 length),
		  void *context);

#endif
