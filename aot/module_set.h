/*
 * Code of kernel modules on its way into a cache: a module store, and the records that describe what is in it.
 * Positions that the file shares with units and templates (pc records, entries, guest bytes) are counted from where
 * theirs end.
 */
#ifndef AVANT_AOT_MODULE_SET_H
#define AVANT_AOT_MODULE_SET_H

#include <tcache.h>

#include "plan.h"

struct module_set;
struct translation;

/* The options of this store hold here too. */
struct module_set *module_set_create(const struct store *options, struct err *err);
void module_set_destroy(struct module_set *set);

/*
 * Translates a unit. 0; 1: its bytes are not one unit, have holes in other places than fields of instructions, or make
 * too much code; -1: no room for more.
 */
int module_set_add(struct module_set *set, struct translation *translation, const struct want *want);

/* Takes over a unit of another cache as it is; false: no room for it. */
bool module_set_keep(struct module_set *set, const struct want *want, const struct tcache_module_view *view);

/* Bytes of host code so far. */
u64 module_set_code(const struct module_set *set);

/* Appends to chunks that units begin. */
void module_set_write_pcs(const struct module_set *set, struct tcache_writer *writer);
void module_set_write_entries(const struct module_set *set, struct tcache_writer *writer);
u64 module_set_guest_size(const struct module_set *set);
void module_set_write_guest(const struct module_set *set, struct tcache_writer *writer);

/* Writes the chunks of modules; the numbers say where the shared ones' records of modules begin. */
int module_set_write(const struct module_set *set, struct tcache_writer *writer, u32 first_pc, u32 first_entry,
		     u32 first_guest, struct err *err);

#endif
