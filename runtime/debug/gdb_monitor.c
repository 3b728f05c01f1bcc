/* What gdb's `monitor` command offers: facts about the machine that gdb has no words for. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "debug/gdb_internal.h"
#include "debug/gdb_registers.h"
#include "mem/mem.h"
#include "vm.h"

#define TLB_LINES 200

typedef enum gdb_outcome monitor_fn(struct gdb_server *s, FILE *to, const char *argument);

static enum gdb_outcome show_exits(struct gdb_server *s, FILE *to, const char *argument)
{
	(void)argument;
#define STAT(field) fprintf(to, "%-24s %" PRIu64 "\n", #field, s->vm->stats.field);
#include "stats.def"
#undef STAT
	return GDB_STAY;
}

static void show_segment(FILE *to, const char *name, const struct segment *segment)
{
	fprintf(to, "%-5s %04x base %016" PRIx64 " limit %08x attributes %04x\n", name, segment->selector,
		segment->base, segment->limit, segment->attr);
}

static enum gdb_outcome show_registers(struct gdb_server *s, FILE *to, const char *argument)
{
	static const char *const names[SEG_COUNT] = {
		[SEG_ES] = "es", [SEG_CS] = "cs", [SEG_SS] = "ss",     [SEG_DS] = "ds",
		[SEG_FS] = "fs", [SEG_GS] = "gs", [SEG_LDTR] = "ldtr", [SEG_TR] = "tr"};
	const struct vcpu *v = s->vm->vcpu;

	(void)argument;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		show_segment(to, names[i], &v->seg[i]);
	fprintf(to, "gdtr  base %016" PRIx64 " limit %04x\nidtr  base %016" PRIx64 " limit %04x\n", v->gdtr.base,
		v->gdtr.limit, v->idtr.base, v->idtr.limit);
	fprintf(to, "cpl %u slot %u instructions %" PRIu64 " event %u irq %u shadow %u\n", v->cpl, v->slot, v->icount,
		v->event, v->irq_line, v->shadow);
	fprintf(to, "star %016" PRIx64 " lstar %016" PRIx64 " sfmask %08" PRIx64 " xcr0 %" PRIx64 "\n", v->star,
		v->lstar, v->sfmask, v->xcr0);
	for (unsigned i = 0; i < 8; i++)
		fprintf(to, "dr%u %016" PRIx64 "%s", i, v->dr[i], i % 4 == 3 ? "\n" : " ");
	return GDB_STAY;
}

/* The page that the entry with this number answers for when asked with the tag, or false. */
static bool tag_page(u64 ntag, unsigned index, u64 *page)
{
	*page = 0 - ntag;
	return tlb_index(*page) == index && (ntag || index == 0);
}

static bool show_entry(struct gdb_server *s, FILE *to, const struct tlb_entry *entry, unsigned index)
{
	u64 read, write, exec;
	bool r = tag_page(entry->ntag_read, index, &read), w = tag_page(tlb_more(entry)->ntag_write, index, &write),
	     x = tag_page(tlb_more(entry)->ntag_exec, index, &exec);
	u64 page = r ? read : w ? write : exec;
	const struct ram *ram = &s->vm->ram;
	const u8 *host = (const u8 *)(entry->addend + page);

	if (!r && !w && !x)
		return false;
	fprintf(to, "%016" PRIx64 " ", page);
	if (host >= ram->host && host < ram->host + ram->size)
		fprintf(to, "-> %010" PRIx64, ram_gpa(ram, host));
	else
		fprintf(to, "-> %10s", "none");
	fprintf(to, " %c%c%c\n", r ? 'r' : '-', w ? 'w' : '-', x ? 'x' : '-');
	return true;
}

static enum gdb_outcome show_tlb(struct gdb_server *s, FILE *to, const char *argument)
{
	const struct view *view = s->vm->vcpu->view;
	unsigned shown = 0, more = 0;
	bool all = !strcmp(argument, "all");

	for (unsigned i = 0; view && i < TLB_SIZE; i++) {
		if (!index_set_has(&view->filled, i))
			continue;
		if (!all && shown == TLB_LINES)
			more++;
		else
			shown += show_entry(s, to, &view->tlb[i], i);
	}
	fprintf(to, "%u entries of the view in force", shown + more);
	fprintf(to, more ? ", %u not shown (tlb all)\n" : "\n", more);
	return GDB_STAY;
}

static enum gdb_outcome translate(struct gdb_server *s, FILE *to, const char *argument)
{
	char *end;
	u64 address = strtoull(argument, &end, 0), gpa;

	if (end == argument || *end)
		fputs("an address is needed\n", to);
	else if (!mmu_peek(s->vm->vcpu, address, &gpa))
		fputs("not mapped\n", to);
	else
		fprintf(to, "%#" PRIx64 " -> %#" PRIx64 "%s\n", address, gpa,
			ram_at(&s->vm->ram, gpa) ? "" : " (no memory)");
	return GDB_STAY;
}

static enum gdb_outcome set_physical(struct gdb_server *s, FILE *to, const char *argument)
{
	if (!strcmp(argument, "on") || !strcmp(argument, "off"))
		s->physical = !strcmp(argument, "on");
	fprintf(to, "memory is read and written at %s addresses\n", s->physical ? "physical" : "virtual");
	return GDB_STAY;
}

static enum gdb_outcome quit(struct gdb_server *s, FILE *to, const char *argument)
{
	(void)s;
	(void)argument;
	fputs("the run ends\n", to);
	return GDB_END;
}

static monitor_fn help;

static const struct {
	const char *name, *text;
	monitor_fn *execute;
} commands[] = {
	{"exits", "counters of the run", show_exits},
	{"registers", "segments, tables, system call and debug registers", show_registers},
	{"tlb", "software TLB of the view in force; 'tlb all' without limit", show_tlb},
	{"translate", "ADDRESS: where a virtual address lies", translate},
	{"phys", "on|off: memory commands take guest physical addresses", set_physical},
	{"quit", "end the run", quit},
	{"help", "this list", help},
};

static enum gdb_outcome help(struct gdb_server *s, FILE *to, const char *argument)
{
	(void)s;
	(void)argument;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "%-10s %s\n", commands[i].name, commands[i].text);
	return GDB_STAY;
}

/* As console output: 'O' and hexadecimal, in pieces. */
static void send_output(struct gdb_server *s, const char *text, size_t length)
{
	const size_t piece = (GDB_PACKET_MAX - 1) / 2;

	for (size_t at = 0; at < length; at += piece) {
		s->reply.length = 0;
		gdb_reply_text(&s->reply, "O");
		gdb_reply_hex(&s->reply, text + at, length - at < piece ? length - at : piece);
		gdb_link_send(&s->link, s->reply.text, s->reply.length);
	}
	s->reply.length = 0;
}

enum gdb_outcome gdb_monitor(struct gdb_server *s, const char *line)
{
	size_t word = strcspn(line, " \t");
	const char *argument = line + word + strspn(line + word, " \t");
	enum gdb_outcome outcome = GDB_STAY;
	char *text = NULL;
	bool found = false;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);

	if (!to)
		return GDB_STAY;
	for (size_t i = 0; i < ARRAY_SIZE(commands) && !found; i++) {
		found = strlen(commands[i].name) == word && !strncmp(line, commands[i].name, word);
		if (found)
			outcome = commands[i].execute(s, to, argument);
	}
	if (!found) {
		fprintf(to, "unknown: '%.*s'; there are\n", (int)word, line);
		help(s, to, "");
	}
	if (fclose(to) == 0)
		send_output(s, text, size);
	free(text);
	return outcome;
}
