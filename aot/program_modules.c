/* Kernel modules among the programs: whose they are, which of them guests load, what becomes of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tcache.h>

#include "programs_internal.h"

void programs_set_modules(struct programs *programs, const struct module_user *user)
{
	programs->user = user;
}

static int leave_module(struct programs *programs, const char *name, const char *reason, u64 code, struct err *err)
{
	programs->figures.modules++;
	programs->figures.code_modules += code;
	return fates_add(&programs->fates[PROGRAM_MODULE], name, reason, code) < 0 ? programs_no_memory(err) : 0;
}

/* The name of a module as others need it; those of another kernel are others. */
struct module_name {
	char text[128];
};

static struct module_name module_name(const char *name, size_t length, u32 kernel)
{
	struct module_name result;

	snprintf(result.text, sizeof(result.text), "%.*s.ko %u", (int)(length < 100 ? length : 100), name, kernel);
	return result;
}

/* The next of a list with commas between them; false at its end. *list is then behind it. */
static bool next_needed(const char **list, u32 kernel, struct module_name *name)
{
	size_t length;

	*list += strspn(*list, ",");
	length = strcspn(*list, ",");
	*name = module_name(*list, length, kernel);
	*list += length;
	return length;
}

static int note_module_needs(struct programs *programs, const struct program *program)
{
	const char *list = program->depends;
	struct module_name name;

	while (next_needed(&list, program->kernel, &name))
		if (programs_need(programs, name.text) < 0)
			return -1;
	return 0;
}

static int add_module(struct programs *programs, const char *name, const u64 hash[2], u64 code,
		      const struct module_info *info, u32 kernel, enum place place)
{
	struct module_name own = module_name(info->name, strlen(info->name), kernel);
	bool failed;
	u32 number = programs_name_number(programs, own.text, &failed);
	struct program *program = failed ? NULL : programs_add(programs, name, hash, code);

	if (!program)
		return -1;
	program->soname = strdup(own.text);
	program->depends = strdup(info->depends);
	program->kernel = kernel;
	program->module = true;
	program->place = place;
	if (number)
		programs->name[number - 1].module = programs->count;
	return program->soname && program->depends ? note_module_needs(programs, program) : -1;
}

static bool find_kernel(const struct module_user *user, const struct module_info *info, u32 *kernel)
{
	for (*kernel = 0; *kernel < user->kernel_count; ++*kernel)
		if (module_fits(info, user->kernel[*kernel]))
			return true;
	return false;
}

int programs_note_module(struct programs *programs, const char *name, const u64 hash[2], const u8 *data, u64 size,
			 bool early, struct err *err)
{
	const struct module_user *user = programs->user;
	struct program_summary summary;
	struct module_info info;
	struct err reason = ERR_INIT;
	u32 kernel;

	if (discover_summary(data, size, name, &summary, &reason) < 0)
		return programs_unusable(programs, name, reason.text, 0, err);
	if (!user)
		return leave_module(programs, name, NULL, summary.code, err);
	if (module_read_info(data, size, name, user->file_system, user->cpu, &info, &reason) < 0)
		return leave_module(programs, name, reason.text, summary.code, err);
	if (!find_kernel(user, &info, &kernel))
		return leave_module(programs, name, "made for another kernel", summary.code, err);
	if (programs->count == PROGRAMS_MAX)
		return leave_module(programs, name, "there are too many programs", summary.code, err);
	return add_module(programs, name, hash, summary.code, &info, kernel,
			  info.for_guests ? FOR_GUESTS
			  : early         ? EARLY_MODULE
					  : OTHER_MODULE) < 0
		       ? programs_no_memory(err)
		       : 0;
}

/* A few kilobytes may be hundreds of megabytes, in each of thousands of files. NULL with a message in err. */
static u8 *unpack(struct programs *programs, const char *name, const u8 *data, u64 size, u64 *unpacked, struct err *err)
{
	u8 *bytes;

	if (programs->unpacked > UNPACKED_MOST) {
		err_set(err, "'%s' is not unpacked: all compressed modules have more than %llu GiB", name,
			UNPACKED_MOST >> 30);
		return NULL;
	}
	bytes = module_unpack(data, size, name, unpacked, err);
	programs->unpacked += *unpacked;
	return bytes;
}

int programs_note_packed(struct programs *programs, const char *name, const u64 hash[2], const u8 *data, u64 size,
			 bool early, struct err *err)
{
	struct err reason = ERR_INIT;
	u64 unpacked;
	u8 *bytes = unpack(programs, name, data, size, &unpacked, &reason);
	int result = bytes ? programs_note_module(programs, name, hash, bytes, unpacked, early, err)
			   : programs_unusable(programs, name, reason.text, 0, err);

	free(bytes);
	return result;
}

/* --- between the rounds, and the second one --------------------------------------------------------------------------
 */

int programs_follow_modules(struct programs *programs)
{
	u32 *list = malloc((programs->count + 1ULL) * sizeof(*list)), count = 0;

	if (!list)
		return -1;
	for (u32 i = 0; i < programs->count; i++)
		if (programs->program[i].place == FOR_GUESTS)
			list[count++] = i;
	for (u32 i = 0; i < count; i++) {
		const char *needed = programs->program[list[i]].depends;
		struct module_name name;

		while (next_needed(&needed, programs->program[list[i]].kernel, &name)) {
			u32 at = *programs_find_name(programs, name.text);
			u32 module = at ? programs->name[at - 1].module : 0;

			if (!module || programs->program[module - 1].place == FOR_GUESTS)
				continue;
			programs->program[module - 1].place = FOR_GUESTS;
			list[count++] = module - 1;
		}
	}
	free(list);
	return 0;
}

static int use_module(struct programs *programs, struct program *program, const u8 *data, u64 size, struct err *err)
{
	const struct module_user *user = programs->user;
	struct err reason = ERR_INIT;
	struct module module;
	int result;

	if (discover_module(data, size, program->name, user->kernel[program->kernel], user->cpu, &module, &reason) < 0)
		return leave_module(programs, program->name, reason.text, program->code, err);
	programs->figures.modules_used++;
	programs->figures.code_modules_used += program->code;
	report_line(&programs->report, "'%s': kernel module, %llu bytes of code, %u entries, %u holes", program->name,
		    (unsigned long long)program->code, module.image.entry_count, module.hole_count);
	result = user->use(user->opaque, &module, program->rank, err);
	module_release(&module);
	return result;
}

int programs_scan_module(struct programs *programs, struct program *program, const u8 *data, u64 size, struct err *err)
{
	struct err reason = ERR_INIT;
	u8 *bytes;
	int result;

	program->scanned = true;
	if (!program->chosen)
		return leave_module(programs, program->name, "want of room", program->code, err);
	/* its own name may have been changed to be shown */
	if (size >= 4 && memcmp(data, "\177ELF", 4) == 0)
		return use_module(programs, program, data, size, err);
	bytes = unpack(programs, program->name, data, size, &size, &reason);
	result = bytes ? use_module(programs, program, bytes, size, err)
		       : leave_module(programs, program->name, reason.text, program->code, err);
	free(bytes);
	return result;
}
