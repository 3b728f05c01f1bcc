#include "programs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tcache.h>

#include "programs_internal.h"
#include "scan_image.h"
#include "x86/mode.h"

/* Ranks of code. */
#define RANK_RUN_PAGE 0u
#define RANK_FIRST    1u
#define NAMES_MAX     (1u << 18)
/* Bytes of host code that a byte of guest code becomes if all units of it are translated, as measured. */
#define EXPANSION     13u
/* Bytes of programs with fixed addresses that are kept for their symbols; there are hardly any. */
#define IMAGES_MOST   (64u << 20)

/* Of the room, modules get one part in so many: a distribution has more of them than anybody wants. */
#define MODULES_PART 4u
/* What so many need matters more than a command. */
#define NEEDED_LEAST 5u

/* Directories of what people and the system start, wherever the tree begins. */
static const char *const command_directories[] = {"bin/", "sbin/", "lib/systemd/"};

struct programs *programs_create(const struct recorded *recorded, struct err *err)
{
	struct programs *programs = calloc(1, sizeof(*programs));

	if (!programs)
		err_set(err, "out of memory");
	else
		programs->recorded = recorded;
	return programs;
}

void programs_destroy(struct programs *programs)
{
	if (!programs)
		return;
	for (u32 i = 0; i < programs->count; i++) {
		free(programs->program[i].name);
		free(programs->program[i].soname);
		free(programs->program[i].depends);
	}
	for (u32 i = 0; i < programs->name_count; i++)
		free(programs->name[i].text);
	for (u32 i = 0; i < programs->image_count; i++)
		image_release(&programs->image[i]);
	free(programs->program);
	free(programs->by_hash);
	free(programs->name);
	free(programs->by_name);
	free(programs->alias);
	free(programs->image);
	report_release(&programs->report);
	page_names_release(&programs->pages);
	for (unsigned i = 0; i < PROGRAM_FATES; i++)
		fates_release(&programs->fates[i]);
	free(programs);
}

int programs_no_memory(struct err *err)
{
	return err_set(err, "not enough memory for the list of programs");
}

/* --- names that are needed --------------------------------------------------------------------------------------- */

u32 *programs_find_name(const struct programs *programs, const char *text)
{
	u64 hash[2];

	tcache_hash((const u8 *)text, strlen(text), hash);
	u32 i = (u32)hash[0] & (programs->by_name_size - 1);

	while (programs->by_name[i] && strcmp(programs->name[programs->by_name[i] - 1].text, text) != 0)
		i = (i + 1) & (programs->by_name_size - 1);
	return &programs->by_name[i];
}

static int grow_names(struct programs *programs)
{
	u32 size = programs->by_name_size ? programs->by_name_size * 2 : 1024;
	struct name *name = realloc(programs->name, size / 2 * sizeof(*name));
	u32 *table = calloc(size, sizeof(*table));

	if (name)
		programs->name = name;
	if (!name || !table) {
		free(table);
		return -1;
	}
	free(programs->by_name);
	programs->by_name = table;
	programs->by_name_size = size;
	for (u32 i = 0; i < programs->name_count; i++)
		*programs_find_name(programs, name[i].text) = i + 1;
	return 0;
}

/* 1 + number of the name; 0: there are too many, or no memory for it (*failed). */
u32 programs_name_number(struct programs *programs, const char *text, bool *failed)
{
	u32 *place;

	*failed = false;
	place = programs->by_name_size ? programs_find_name(programs, text) : NULL;
	if (place && *place)
		return *place;
	if (programs->name_count == programs->by_name_size / 2) {
		if (programs->name_count >= NAMES_MAX)
			return 0;
		*failed = grow_names(programs) < 0;
		if (*failed)
			return 0;
	}
	place = programs_find_name(programs, text);
	char *copy = strdup(text);

	*failed = !copy;
	if (!copy)
		return 0;
	programs->name[programs->name_count] = (struct name){.text = copy};
	*place = ++programs->name_count;
	return *place;
}

int programs_need(struct programs *programs, const char *text)
{
	bool failed;
	u32 number = programs_name_number(programs, text, &failed);

	if (number)
		programs->name[number - 1].count++;
	return failed ? -1 : 0;
}

static u32 needed_by(const struct programs *programs, const char *text)
{
	u32 place = programs->by_name_size ? *programs_find_name(programs, text) : 0;

	return place ? programs->name[place - 1].count : 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* --- first round ------------------------------------------------------------------------------------------------- */

u32 *programs_find(const struct programs *programs, const u64 hash[2])
{
	u32 i = (u32)hash[0] & (programs->by_hash_size - 1);

	while (programs->by_hash[i] && memcmp(programs->program[programs->by_hash[i] - 1].hash, hash, 16) != 0)
		i = (i + 1) & (programs->by_hash_size - 1);
	return &programs->by_hash[i];
}

static int grow_programs(struct programs *programs)
{
	u32 room = programs->room ? programs->room * 2 : 512;
	struct program *program = realloc(programs->program, room * sizeof(*program));
	u32 *table = calloc(room * 2, sizeof(*table));

	if (program)
		programs->program = program;
	if (!program || !table) {
		free(table);
		return -1;
	}
	free(programs->by_hash);
	programs->room = room;
	programs->by_hash = table;
	programs->by_hash_size = room * 2;
	for (u32 i = 0; i < programs->count; i++)
		*programs_find(programs, program[i].hash) = i + 1;
	return 0;
}

struct program *programs_add(struct programs *programs, const char *name, const u64 hash[2], u64 code)
{
	struct program *program;

	if (programs->count == programs->room && grow_programs(programs) < 0)
		return NULL;
	program = &programs->program[programs->count];
	*program = (struct program){
		.hash = {hash[0], hash[1]}, .name = printable_copy(name), .code = code, .number = programs->count};
	*programs_find(programs, hash) = ++programs->count;
	return program->name ? program : NULL;
}

static int note_needs(struct programs *programs, const struct program_summary *summary)
{
	if (summary->interpreter && programs_need(programs, base_name(summary->interpreter)) < 0)
		return -1;
	for (u32 i = 0; i < summary->needed_count; i++)
		if (programs_need(programs, base_name(summary->needed[i])) < 0)
			return -1;
	return 0;
}

static bool is_command(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(command_directories); i++) {
		const char *found = strstr(name, command_directories[i]);

		if (found && (found == name || found[-1] == '/') &&
		    !strchr(found + strlen(command_directories[i]), '/'))
			return true;
	}
	return false;
}

/* Notes the pages that recordings have seen running, as the page cache has them: with zeros behind the file's end. */
static int note_pages(struct programs *programs, const struct program_summary *summary, const u8 *data, u64 size,
		      bool *run)
{
	struct page_name name = {.program = programs->count};
	u8 page[PAGE_SIZE];

	for (u32 i = 0; i < summary->text_count && recorded_has_pages(programs->recorded); i++) {
		u64 end = summary->text[i].offset + summary->text[i].size;

		for (u64 at = PAGE_BASE(summary->text[i].offset); at < end; at += PAGE_SIZE) {
			u64 there = size - at < PAGE_SIZE ? size - at : PAGE_SIZE;

			memcpy(page, data + at, there);
			memset(page + there, 0, PAGE_SIZE - there);
			tcache_hash(page, PAGE_SIZE, name.hash);
			if (!recorded_page(programs->recorded, name.hash))
				continue;
			name.offset = at;
			*run = true;
			if (page_names_add(&programs->pages, &name) < 0)
				return -1;
		}
	}
	return 0;
}

/* Was the program's first unit executed in a recording, if its addresses are fixed? */
static bool has_run(const struct recorded *recorded, const struct program_summary *summary)
{
	return summary->entry_left && recorded_unit(recorded, NULL, summary->entry, MODE_LINUX_USER,
						    summary->entry_bytes, summary->entry_left);
}

static int add_program(struct programs *programs, const char *name, const u64 hash[2],
		       const struct program_summary *summary, bool run)
{
	struct program *program = programs_add(programs, name, hash, summary->code);

	if (!program)
		return -1;
	program->soname = printable_copy(summary->soname ? summary->soname : base_name(name));
	program->place = run ? SEEN_RUNNING : is_command(name) ? COMMAND : OTHER;
	return program->soname ? note_needs(programs, summary) : -1;
}

int programs_unusable(struct programs *programs, const char *name, const char *reason, u64 code, struct err *err)
{
	char *text = printable_copy(reason);

	programs->figures.unusable++;
	if (text)
		report_line(&programs->report, "not translated: %s", text);
	free(text);
	return fates_add(&programs->fates[PROGRAM_UNUSABLE], name, reason, code) < 0 ? programs_no_memory(err) : 0;
}

int programs_note(struct programs *programs, const char *name, const u8 *data, u64 size, bool early, struct err *err)
{
	struct program_summary summary;
	struct err reason = ERR_INIT;
	u64 hash[2];
	bool run;

	tcache_hash(data, size, hash);
	if (programs->count && *programs_find(programs, hash)) {
		programs->figures.copies++;
		return 0;
	}
	if (module_is_packed(name, data, size))
		return programs_note_packed(programs, name, hash, data, size, early, err);
	if (discover_summary(data, size, name, &summary, &reason) < 0)
		return programs_unusable(programs, name, reason.text, 0, err);
	if (summary.module)
		return programs_note_module(programs, name, hash, data, size, early, err);
	if (programs->count == PROGRAMS_MAX) {
		err_set(&reason, "'%s' is one too many: only %u programs are looked at", name, PROGRAMS_MAX);
		return programs_unusable(programs, name, reason.text, summary.code, err);
	}
	run = has_run(programs->recorded, &summary);
	if (note_pages(programs, &summary, data, size, &run) < 0 ||
	    add_program(programs, name, hash, &summary, run) < 0)
		return programs_no_memory(err);
	return 0;
}

int programs_note_script(struct programs *programs, const char *interpreter, struct err *err)
{
	return programs_need(programs, base_name(interpreter)) < 0 ? programs_no_memory(err) : 0;
}

int programs_note_link(struct programs *programs, const char *name, const char *target, struct err *err)
{
	struct alias alias;
	bool failed, failed_too;

	if (strcmp(base_name(name), base_name(target)) == 0)
		return 0;
	alias.name = programs_name_number(programs, base_name(name), &failed);
	alias.target = programs_name_number(programs, base_name(target), &failed_too);
	if (failed || failed_too)
		return programs_no_memory(err);
	if (!alias.name || !alias.target)
		return 0;
	if (programs->alias_count == programs->alias_room) {
		u32 room = programs->alias_room ? programs->alias_room * 2 : 256;
		struct alias *grown = realloc(programs->alias, room * sizeof(*grown));

		if (!grown)
			return programs_no_memory(err);
		programs->alias = grown;
		programs->alias_room = room;
	}
	programs->alias[programs->alias_count++] = alias;
	return 0;
}

/* --- order ------------------------------------------------------------------------------------------------------- */

/* What is needed by another name is needed: python3 is python3.11. Two steps: alternatives are links to links. */
static void follow_aliases(struct programs *programs)
{
	for (unsigned step = 0; step < 2; step++) {
		for (u32 i = 0; i < programs->alias_count; i++) {
			struct name *name = &programs->name[programs->alias[i].name - 1];

			if (name != &programs->name[programs->alias[i].target - 1])
				programs->name[programs->alias[i].target - 1].count += name->count;
			name->count = 0;
		}
	}
}

/* By the name that others need it by, and by the file's, to which links to it have been followed. */
static u32 needed_by_all(const struct programs *programs, const struct program *program)
{
	const char *file = base_name(program->name);
	u32 count = needed_by(programs, program->soname);

	return strcmp(program->soname, file) == 0 ? count : count + needed_by(programs, file);
}

static int compare(const void *left, const void *right)
{
	const struct program *a = *(const struct program *const *)left, *b = *(const struct program *const *)right;

	if (a->place != b->place)
		return a->place < b->place ? -1 : 1;
	if (a->place != NEEDED_BY_MANY && a->place != OTHER && a->place != OTHER_MODULE && a->code != b->code)
		return a->code < b->code ? -1 : 1;
	if (a->needed_by != b->needed_by)
		return a->needed_by > b->needed_by ? -1 : 1;
	if (a->place == OTHER_MODULE && a->code != b->code)
		return a->code < b->code ? -1 : 1;
	return a->number < b->number ? -1 : 1;
}

int programs_choose(struct programs *programs, u64 room, struct err *err)
{
	struct program **order = malloc((programs->count + 1ULL) * sizeof(*order));
	u64 sum = 0, modules = 0;
	bool any = false; /* there is a program */

	if (!order || programs_follow_modules(programs) < 0) {
		free(order);
		return programs_no_memory(err);
	}
	page_names_sort(&programs->pages);
	follow_aliases(programs);
	for (u32 i = 0; i < programs->count; i++) {
		struct program *program = order[i] = &programs->program[i];

		program->needed_by = needed_by_all(programs, program);
		if (program->needed_by >= NEEDED_LEAST && !program->module)
			program->place = NEEDED_BY_MANY;
	}
	qsort(order, programs->count, sizeof(*order), compare);
	for (u32 i = 0; i < programs->count; i++) {
		struct program *program = order[i];
		u64 bytes = program->code * EXPANSION;

		program->rank = (u16)(RANK_FIRST + i);
		if (program->module) {
			program->chosen = modules + bytes <= room / MODULES_PART && sum + bytes <= room;
			modules += program->chosen ? bytes : 0;
			sum += program->chosen ? bytes : 0;
		} else {
			sum += bytes;
			program->chosen = sum <= room || !any;
			any = true;
		}
	}
	free(order);
	return 0;
}

/* --- second round ------------------------------------------------------------------------------------------------ */

/* Keeps the image for its symbols if it has addresses that mean something. */
static int keep_image(struct programs *programs, struct image *image)
{
	struct image *grown;
	u64 bytes = 0;

	for (u32 i = 0; i < image->segment_count; i++)
		bytes += image->segment[i].size;
	if (image->moves || programs->image_bytes + bytes > IMAGES_MOST) {
		image_release(image);
		return 0;
	}
	grown = realloc(programs->image, (programs->image_count + 1ULL) * sizeof(*grown));
	if (!grown) {
		image_release(image);
		return -1;
	}
	programs->image = grown;
	grown[programs->image_count++] = *image;
	programs->image_bytes += bytes;
	return 0;
}

static int scan(struct programs *programs, struct program *program, struct plan *plan, const u8 *data, u64 size,
		struct err *err)
{
	enum program_verdict verdict;
	struct err reason = ERR_INIT;
	struct image image;
	size_t before = plan ? plan_count(plan) : 0;

	program->scanned = true;
	if (discover_program(data, size, program->name, &image, &verdict, &reason) < 0)
		return programs_unusable(programs, program->name, reason.text, program->code, err);
	program->independent = verdict == PROGRAM_INDEPENDENT;
	programs->figures.independent += program->independent;
	programs->figures.fixed += !program->independent;
	if (plan) {
		if (plan_add_image(plan, &image, programs->recorded, (struct scan_ranks){program->rank, RANK_RUN_PAGE},
				   err) < 0) {
			image_release(&image);
			return -1;
		}
		programs->figures.scanned++;
		programs->figures.code_scanned += program->code;
		report_line(&programs->report, "'%s': %s, %llu bytes of code, %u entries, %zu units", program->name,
			    program->independent ? "position independent" : "fixed addresses",
			    (unsigned long long)program->code, image.entry_count, plan_count(plan) - before);
	}
	return keep_image(programs, &image) < 0 ? programs_no_memory(err) : 0;
}

int programs_scan(struct programs *programs, struct plan *plan, const char *name, const u8 *data, u64 size,
		  struct err *err)
{
	u64 hash[2];
	u32 number;

	(void)name;
	if (!programs->count)
		return 0;
	tcache_hash(data, size, hash);
	number = *programs_find(programs, hash);
	if (!number || programs->program[number - 1].scanned)
		return 0;
	struct program *program = &programs->program[number - 1];

	if (program->module)
		return plan ? programs_scan_module(programs, program, data, size, err) : 0;
	if (program->chosen || !plan)
		return scan(programs, program, plan, data, size, err);
	program->scanned = true;
	programs->figures.left_out++;
	programs->figures.code_left_out += program->code;
	report_line(&programs->report, "'%s': left out for want of room, %llu bytes of code", program->name,
		    (unsigned long long)program->code);
	return fates_add(&programs->fates[PROGRAM_LEFT_OUT], program->name, NULL, program->code) < 0
		       ? programs_no_memory(err)
		       : 0;
}

const char *programs_symbol(const struct programs *programs, u64 pc, u64 *offset)
{
	const char *name = NULL;

	for (u32 i = 0; !name && i < programs->image_count; i++)
		name = image_symbol(&programs->image[i], pc, offset);
	return name;
}

const char *programs_page(const struct programs *programs, const u64 page[2], u64 *offset)
{
	const struct page_name *found = page_names_find(&programs->pages, page);

	if (!found)
		return NULL;
	*offset = found->offset;
	return programs->program[found->program].name;
}

struct programs_figures programs_figures(const struct programs *programs)
{
	return programs->figures;
}

const struct fates *programs_fates(const struct programs *programs, enum program_fate fate)
{
	return &programs->fates[fate];
}

struct report *programs_report(struct programs *programs)
{
	return &programs->report;
}
