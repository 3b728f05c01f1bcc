/* Reads what of an ELF object file a lifted unit needs. Independent of LLVM. */
#ifndef AVANT_AOT_LIFT_OBJECT_H
#define AVANT_AOT_LIFT_OBJECT_H

#include "lift.h"

/*
 * Takes the text, the functions named f<item> and the relocations against exit_<number>. NULL with *reason (constant)
 * if the object holds anything else that the text depends on. `exits` are copied.
 */
struct lifted *object_read(const u8 *bytes, u64 size, const struct lift_exit *exits, unsigned exit_count,
			   const char **reason);

#endif
