/* What the kernel's tables say about its code: exports, unwinding, fixups of faults. */
#include "internal.h"

#define EXPORT_SIZE 12u /* struct kernel_symbol: value, name, namespace, each s32 relative to itself */
#define FIXUP_SIZE  12u /* struct exception_table_entry: instruction, fixup, type */
#define ORC_ALIGN   16u /* functions start at such addresses */
#define INT3        0xccu

bool find_table(const struct image *image, const struct elf_file *elf, const char *section, const char *start,
		const char *stop, struct table *table)
{
	const struct elf_part *part = section ? elf_section(elf, section) : NULL;

	*table = (struct table){0};
	if (part) {
		table->address = part->address;
		table->size = part->size;
	} else if (start && stop) {
		table->address = image_find(image, start);
		table->size = image_find(image, stop) - table->address;
	}
	if (!table->address || !table->size)
		return false;
	table->bytes = image_at(image, table->address, table->size);
	return table->bytes != NULL;
}

/* A string of at most NAME_MOST bytes in the image, or NULL. */
static const char *name_at(const struct image *image, u64 address)
{
	u64 left = image_left(image, address);
	const char *name = left ? (const char *)image_at(image, address, left) : NULL;

	return name && memchr(name, 0, left < NAME_MOST ? left : NAME_MOST) ? name : NULL;
}

static void read_exports(struct kernel_scan *scan, const char *section, const char *start, const char *stop)
{
	struct table table;
	const char *name;
	u32 count = 0;

	if (!find_table(scan->image, scan->elf, section, start, stop, &table)) {
		report_line(&scan->image->report, "%s: not found", section);
		return;
	}
	for (u64 at = 0; at + EXPORT_SIZE <= table.size; at += EXPORT_SIZE) {
		u64 pc = table_relative(&table, at);

		name = name_at(scan->image, table_relative(&table, at + 4));
		if (name && *name)
			collect(&scan->exports, pc, 0, name);
		/* data is exported too */
		if (image_is_code(scan->image, pc)) {
			collect(&scan->entries, pc, ENTRY_EXPORT, NULL);
			count++;
		}
	}
	report_line(&scan->image->report, "%s: %u exported functions", section, count);
}

/*
 * An entry of ORC is where the shape of the stack changes. It starts a function if it is aligned as functions are and
 * follows padding.
 */
static void read_orc(struct kernel_scan *scan)
{
	struct table table;
	u32 count = 0;

	if (!find_table(scan->image, scan->elf, ".orc_unwind_ip", "__start_orc_unwind_ip", "__stop_orc_unwind_ip",
			&table)) {
		report_line(&scan->image->report, ".orc_unwind_ip: not found");
		return;
	}
	for (u64 at = 0; at + 4 <= table.size; at += 4) {
		u64 pc = table_relative(&table, at);
		const u8 *before;

		if (pc % ORC_ALIGN || !image_is_code(scan->image, pc))
			continue;
		before = image_at(scan->image, pc - 1, 2);
		if (before && before[0] == INT3 && before[1] != INT3) {
			collect(&scan->entries, pc, ENTRY_UNWIND, NULL);
			count++;
		}
	}
	report_line(&scan->image->report, ".orc_unwind_ip: %llu addresses, of which %u start a function",
		    (unsigned long long)table.size / 4, count);
}

void read_fixups(struct image *image, const struct elf_file *elf, struct collector *entries)
{
	struct table table;
	u32 count = 0;

	if (!find_table(image, elf, "__ex_table", "__start___ex_table", "__stop___ex_table", &table)) {
		report_line(&image->report, "__ex_table: not found");
		return;
	}
	for (u64 at = 0; at + FIXUP_SIZE <= table.size; at += FIXUP_SIZE) {
		u64 pc = table_relative(&table, at + 4);

		if (image_is_code(image, pc)) {
			collect(entries, pc, ENTRY_FIXUP, NULL);
			count++;
		}
	}
	report_line(&image->report, "__ex_table: %u fixups", count);
}

void kernel_read_exports(struct kernel_scan *scan)
{
	read_exports(scan, "__ksymtab", "__start___ksymtab", "__stop___ksymtab");
	read_exports(scan, "__ksymtab_gpl", "__start___ksymtab_gpl", "__stop___ksymtab_gpl");
}

void kernel_read_tables(struct kernel_scan *scan)
{
	read_orc(scan);
	read_fixups(scan->image, scan->elf, &scan->entries);
}
