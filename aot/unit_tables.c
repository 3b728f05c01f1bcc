#include "unit_tables.h"

#include "unit_records.h"

void unit_tables_write_pcs(const struct store *store, struct tcache_writer *writer)
{
	for (u32 n = 1; n < store->unit_count; n++) {
		const struct unit *unit = &store->units[n];

		for (u32 i = unit->pcs; i < unit->pcs + unit->pcs_count; i++) {
			struct tcache_pc pc = unit_pc_record(store, unit, i);

			tcache_writer_append(writer, &pc, sizeof(pc));
		}
	}
}

void unit_tables_write_entries(const struct store *store, struct tcache_writer *writer)
{
	for (u32 i = 0; i < store->entry_count; i++) {
		struct tcache_entry entry = unit_entry_record(store, &store->units[store->entries[i].unit], i);

		tcache_writer_append(writer, &entry, sizeof(entry));
	}
}

void unit_tables_write_guest(const struct store *store, const struct want *const *wants, struct tcache_writer *writer)
{
	for (u32 n = 1; n < store->unit_count; n++)
		tcache_writer_append(writer, wants[n]->bytes, wants[n]->length);
}

u64 unit_tables_guest_size(const struct store *store, const struct want *const *wants)
{
	u64 size = 0;

	for (u32 n = 1; n < store->unit_count; n++)
		size += wants[n]->length;
	return size;
}
