/* The registers as gdb sees them: their order and description (target.xml), and the way to struct vcpu. */
#ifndef AVANT_DEBUG_GDB_REGISTERS_H
#define AVANT_DEBUG_GDB_REGISTERS_H

#include "util/types.h"

struct vcpu;

#define GDB_REGISTER_BYTES 16 /* the widest */

unsigned gdb_register_count(void);
/* Bytes of register `n` in packets, little-endian; 0 past the last. */
unsigned gdb_register_size(unsigned n);
const char *gdb_register_name(unsigned n);

/* The vector state must have been put away. */
void gdb_register_read(struct vcpu *v, unsigned n, u8 *bytes);
/* False: this one cannot be written, or not with this value. Anything may have changed then but the register. */
bool gdb_register_write(struct vcpu *v, unsigned n, const u8 *bytes);

/* The description of all of them, from malloc; NULL: out of memory. */
char *gdb_registers_xml(void);

#endif
