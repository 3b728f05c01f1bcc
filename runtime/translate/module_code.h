/*
 * Code of a kernel module on its way to the address that the guest has loaded it at: what a module store noted as
 * fix-ups becomes what it would have been for that address and for what the guest has filled into the holes, byte for
 * byte.
 */
#ifndef AVANT_TRANSLATE_MODULE_CODE_H
#define AVANT_TRANSLATE_MODULE_CODE_H

#include "translate/store.h"
#include "x86/mode.h"

/*
 * May a module's code be here? Where Linux has its module area: what is there, the kernel and offsets of per-CPU data
 * are all addresses of 32 bits. (With room for what a page at the end refers to.)
 */
#define MODULE_AREA_BEGIN 0xffffffffa0000000ULL
#define MODULE_AREA_END   0xffffffffff000000ULL

static inline bool module_may_be(u64 pc, u32 mode)
{
	return !(mode & MODE_USER) && pc >= MODULE_AREA_BEGIN && pc < MODULE_AREA_END;
}

/* Pages of modules are translated as if they lay here. */
#define MODULE_BASE 0xffffffffc0000000ULL

struct module_place {
	u64 pc;                /* of the unit's first byte */
	const u8 *bytes;       /* what the guest has there, all of the unit */
	struct store *numbers; /* gives targets their numbers */
	u32 first_link;        /* number of the unit's first link */
	u32 first_insn;        /* address of its first instruction record */
};

/*
 * Changes the code, which has been copied already. False if there is no code of this form for the place: an address
 * does not fit, an access runs over the end of a page, or there is no number left. `fixup` has been checked: it lies in
 * the code, and its field in the guest bytes.
 */
bool module_fix(u8 *code, const struct fixup *fixup, const struct module_place *place);

#endif
