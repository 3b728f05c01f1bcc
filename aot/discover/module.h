/*
 * Kernel modules (object files): laid out at nominal addresses, relocated against a kernel and patched as that kernel
 * does when it loads them. Where a module really lies is decided by the guest; fields whose value depends on that are
 * holes. All other bytes of its code are those of the running guest.
 *
 *	kernel_image → discover_kernel()        the kernel, patched
 *	discover_module()                       spans of code, entries, holes
 *	units_create(&module->image, …)         as with any image; module_holes() tells the holes of a unit
 *
 * Two groups of memory hold code: what stays, and what is gone after initialization. Each begins at a page; a distance
 * within one is the same wherever it lies. All other distances are unknown: between the groups, to the kernel, to other
 * modules, to data (of which the newer kernels put each kind elsewhere).
 */
#ifndef AVANT_DISCOVER_MODULE_H
#define AVANT_DISCOVER_MODULE_H

#include "discover.h"
#include "packed.h"

/*
 * Nominal addresses, the same for each module; what other modules export is somewhere between MODULE_OTHERS and 0. All
 * have names among the symbols of the image.
 */
#define MODULE_TEXT      0xffffffffc0000000ULL
#define MODULE_INIT_TEXT 0xffffffffc8000000ULL
#define MODULE_DATA      0xffffffffd0000000ULL
#define MODULE_OTHERS    0xffffffffe8000000ULL
#define MODULE_MOST      (96ULL << 20) /* bytes of a group */

enum hole_kind {
	HOLE_RELATIVE, /* the distance from the hole to something: target - hole's address + constant */
	HOLE_ABSOLUTE, /* an address, or a per-CPU offset; of 4 bytes, the instruction says whether it is signed */
};

struct module_hole {
	u64 address; /* nominal */
	u8 size;     /* bytes: 4 or 8 */
	u8 kind;     /* enum hole_kind */
};

/* One that is in memory while the module is loaded, or being loaded. */
struct module_section {
	char *name;        /* owned; "" if it is longer than anybody's */
	u64 address, size; /* nominal; bytes in memory */
};

struct module {
	struct image image;             /* kernel and moves are set; its executable segments are whole pages */
	struct module_section *section; /* those of code first, sorted by address within each group */
	u32 section_count;
	struct module_hole *hole; /* sorted by address, not overlapping; in executable segments only */
	u32 hole_count;
};

/*
 * Reads a module, not compressed, for a kernel that discover_kernel() made and patched, and for the CPU model that it
 * was made for (NULL: the default). All of it is copied. Bytes of holes are those for the nominal addresses. Returns 0,
 * and the caller releases the module; -1 with a message in err that names the file.
 */
int discover_module(const u8 *data, u64 size, const char *name, const struct image *kernel, const struct cpu_model *cpu,
		    struct module *module, struct err *err);
void module_release(struct module *module);

/* The holes that have a byte in this range, the first one and how many; NULL if there are none. */
const struct module_hole *module_holes(const struct module *module, u64 address, u64 size, u32 *count);

/* --- which modules there are ------------------------------------------------------------------------------------- */

/* What a module says of itself. Texts point into the file; "" if it does not say. */
struct module_info {
	const char *name;    /* as others depend on it */
	const char *depends; /* names of the modules that it needs, with commas between them */
	const char *release; /* of its kernel, up to a space */
	bool for_guests;     /* for what guests have here, so that they will load it */
};

/*
 * `file_system`: types of those that the guest has, e.g. "ext4", up to a NULL; cpu as above. -1 with a message in err
 * that names the file.
 */
int module_read_info(const u8 *data, u64 size, const char *name, const char *const *file_system,
		     const struct cpu_model *cpu, struct module_info *info, struct err *err);

/* Is it made for this kernel? By the release that both name; a kernel that does not tell is for none. */
bool module_fits(const struct module_info *info, const struct image *kernel);

#endif
