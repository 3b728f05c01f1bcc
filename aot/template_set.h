/*
 * Templates on their way into a cache: a relocatable store, and the records that describe what is in it. Positions that
 * the file shares with units (pc records, entries, guest bytes) are counted from where the units' end.
 */
#ifndef AVANT_AOT_TEMPLATE_SET_H
#define AVANT_AOT_TEMPLATE_SET_H

#include <tcache.h>

#include "plan.h"

struct template_set;
struct translation;

/* `units`: the store for units, whose options hold here too, and whose table of instructions is used. */
struct template_set *template_set_create(struct store *units, struct err *err);
void template_set_destroy(struct template_set *set);

/* Translates a template. 0; 1: its bytes are not one unit, or make too much code; -1: no room for more. */
int template_set_add(struct template_set *set, struct translation *translation, const struct want *want);

/* Takes over a template of another cache as it is; false: no room for it. */
bool template_set_keep(struct template_set *set, const struct want *want, const struct tcache_template_view *view);

/* Bytes of host code so far. */
u64 template_set_code(const struct template_set *set);
u32 template_set_count(const struct template_set *set);
/* Records that it appends to the shared chunks. */
u32 template_set_pc_count(const struct template_set *set);
u32 template_set_entry_count(const struct template_set *set);

/* Appends to chunks that units begin. */
void template_set_write_pcs(const struct template_set *set, struct tcache_writer *writer);
void template_set_write_entries(const struct template_set *set, struct tcache_writer *writer);
u64 template_set_guest_size(const struct template_set *set);
void template_set_write_guest(const struct template_set *set, struct tcache_writer *writer);

/* The name of a template's code as a string of the file, and the offset in it; 0 if it has none. */
typedef u32 template_namer(void *opaque, const struct want *want, u32 *offset);

/* Writes the chunks of templates; the numbers say where the shared ones' records of templates begin. */
int template_set_write(const struct template_set *set, struct tcache_writer *writer, u32 first_pc, u32 first_entry,
		       u32 first_guest, template_namer *namer, void *opaque, struct err *err);

#endif
