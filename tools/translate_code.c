#include "translate_code.h"

#include <stdlib.h>
#include <tcache.h>

#include "boot/kernel_image.h"
#include "cpu/cpu.h"
#include "programs.h"
#include "scan_image.h"

struct kernel {
	const struct input_file *file;
	struct kernel_image image;
	struct image linked, patched; /* before and after it has patched itself */
};

#define FILE_SYSTEMS 32

struct code {
	struct kernel kernel[INPUTS_MAX + 1];
	unsigned kernel_count;
	struct recorded *recorded;
	struct programs *programs; /* NULL before code_scan() */
	struct module_user modules;
	const struct image *patched[INPUTS_MAX + 1]; /* kernels whose modules can be read */
	const char *file_system[FILE_SYSTEMS];
	struct report archives; /* about initramfs files */
};

struct code *code_read(const struct inputs *inputs, struct err *err)
{
	struct code *code = calloc(1, sizeof(*code));

	if (!code) {
		err_set(err, "out of memory");
		return NULL;
	}
	for (unsigned i = 0; i < inputs_kernel_count(inputs); i++) {
		const struct input_file *file = inputs_kernel(inputs, i);
		struct kernel *kernel = &code->kernel[code->kernel_count];
		struct err reason = ERR_INIT;

		kernel->file = file;
		if (kernel_image_parse(file->data, file->size, file->name, NULL, &kernel->image, &reason) == 0) {
			code->kernel_count++;
		} else if (file->found) {
			warn("%s", reason.text);
		} else {
			*err = reason;
			code_destroy(code);
			return NULL;
		}
	}
	return code;
}

void code_destroy(struct code *code)
{
	if (!code)
		return;
	for (unsigned i = 0; i < code->kernel_count; i++) {
		image_release(&code->kernel[i].linked);
		image_release(&code->kernel[i].patched);
		kernel_image_release(&code->kernel[i].image);
	}
	programs_destroy(code->programs);
	recorded_destroy(code->recorded);
	report_release(&code->archives);
	free(code);
}

/* --- scanning ---------------------------------------------------------------------------------------------------- */

/*
 * Kernel code as it will be when the kernel has booted goes before code as linked, if there is no room for both. If
 * recordings have seen kernels running, what they have not seen of them is worth least of all.
 */
static int scan_kernel(struct kernel *kernel, struct plan *plan, const struct recorded *recorded,
		       const struct code_options *o, struct err *err)
{
	const struct scan_ranks ranks = {.image = o->may_be_others ? UINT16_MAX : 0};
	struct kernel_options patched = {.cpu = cpu_model_find(o->cpu), .patch = true}, linked = {.cpu = patched.cpu};
	struct err why = ERR_INIT;

	if (discover_kernel(&kernel->image, &patched, &kernel->patched, &why) < 0) {
		/* not Linux as it is known here: what has been executed can be translated all the same, without names
		 */
		if (!o->may_be_others && !kernel->file->found)
			return err_set(err, "cannot scan '%s': %s", kernel->file->name, why.text);
		if (!o->only_names)
			warn("'%s' is not scanned: %s", kernel->file->name, why.text);
		return 0;
	}
	if (o->only_names)
		return 0;
	if (plan_add_image(plan, &kernel->patched, recorded, ranks, err) < 0 ||
	    discover_kernel(&kernel->image, &linked, &kernel->linked, err) < 0)
		return -1;
	return plan_add_image(plan, &kernel->linked, recorded, ranks, err);
}

/* One round over all programs. */
struct round {
	struct programs *programs;
	struct plan *plan; /* NULL: no units are added */
	bool early;        /* files of an initramfs */
};

static int note_program(void *opaque, const char *name, const u8 *data, u64 size, struct err *err)
{
	struct round *round = opaque;

	return programs_note(round->programs, name, data, size, round->early, err);
}

static int scan_program(void *opaque, const char *name, const u8 *data, u64 size, struct err *err)
{
	struct round *round = opaque;

	return programs_scan(round->programs, round->plan, name, data, size, err);
}

static int note_script(void *opaque, const char *interpreter, struct err *err)
{
	struct round *round = opaque;

	return programs_note_script(round->programs, interpreter, err);
}

static int note_link(void *opaque, const char *name, const char *target, struct err *err)
{
	struct round *round = opaque;

	return programs_note_link(round->programs, name, target, err);
}

static int walk(struct inputs *inputs, const struct input_visitor *visitor, struct round *round, struct report *report,
		struct err *err)
{
	round->early = true;
	for (unsigned i = 0; i < inputs_initrd_count(inputs); i++) {
		const struct input_file *file = inputs_initrd(inputs, i);
		struct err reason = ERR_INIT;
		int result =
			discover_archive(file->data, file->size, file->name, visitor->program, round, report, &reason);

		if (result < 0 && !file->found) {
			*err = reason;
			return -1;
		}
		if (result < 0 && report)
			warn("%s", reason.text);
	}
	round->early = false;
	return inputs_walk(inputs, visitor, round, err);
}

/* Modules of all kernels that could be scanned; the plan takes what is found in them. */
static void set_modules(struct code *code, const struct inputs *inputs, struct plan *plan,
			const struct code_options *options)
{
	if (!options->use_module || options->only_names)
		return;
	code->modules = (struct module_user){.kernel = code->patched,
					     .cpu = cpu_model_find(options->cpu),
					     .file_system = code->file_system,
					     .use = options->use_module,
					     .opaque = plan};
	for (unsigned i = 0; i < code->kernel_count; i++)
		if (code->kernel[i].patched.symbol_count)
			code->patched[code->modules.kernel_count++] = &code->kernel[i].patched;
	inputs_file_systems(inputs, code->file_system, FILE_SYSTEMS);
	programs_set_modules(code->programs, &code->modules);
}

int code_scan(struct code *code, struct inputs *inputs, struct plan *plan, const struct code_options *options,
	      struct err *err)
{
	static const struct input_visitor first = {note_program, note_script, note_link},
					  second = {.program = scan_program};
	struct round round = {.plan = options->only_names ? NULL : plan};

	code->recorded = recorded_create(plan, err);
	code->programs = code->recorded ? programs_create(code->recorded, err) : NULL;
	if (!code->programs)
		return -1;
	round.programs = code->programs;
	for (unsigned i = 0; i < code->kernel_count; i++)
		if (scan_kernel(&code->kernel[i], plan, code->recorded, options, err) < 0)
			return -1;
	set_modules(code, inputs, plan, options);
	if (walk(inputs, &first, &round, &code->archives, err) < 0 ||
	    programs_choose(code->programs, options->room, err) < 0)
		return -1;
	return walk(inputs, &second, &round, NULL, err);
}

/* --- results ----------------------------------------------------------------------------------------------------- */

const char *code_symbol(const struct code *code, const struct want *want, u64 *offset)
{
	const char *name = NULL;

	if (want_moves(want))
		return NULL;
	for (unsigned i = 0; !name && i < code->kernel_count; i++)
		name = image_symbol(&code->kernel[i].patched, want->pc, offset);
	return name ? name : programs_symbol(code->programs, want->pc, offset);
}

static void log_report(FILE *log, const char *name, const struct report *report)
{
	if (report->text)
		fprintf(log, "--- %s\n%s", name, report->text);
}

void code_log(struct code *code, FILE *log)
{
	for (unsigned i = 0; i < code->kernel_count; i++) {
		log_report(log, "kernel, patched", &code->kernel[i].patched.report);
		log_report(log, "kernel, as linked", &code->kernel[i].linked.report);
	}
	log_report(log, "initrd", &code->archives);
	log_report(log, "programs", programs_report(code->programs));
	code_summary(code, log);
}

unsigned code_images(const struct code *code, struct build_image *images)
{
	for (unsigned i = 0; i < code->kernel_count; i++) {
		const struct kernel *kernel = &code->kernel[i];

		images[i] = (struct build_image){.path = kernel->file->name,
						 .kind = TCACHE_IMAGE_KERNEL,
						 .file = kernel->file->data,
						 .file_size = kernel->file->size};
		if (kernel->image.unpacked.data) {
			images[i].data = kernel->image.elf;
			images[i].data_size = kernel->image.elf_size;
		}
	}
	return code->kernel_count;
}

const struct programs *code_programs(const struct code *code)
{
	return code->programs;
}

void code_summary(const struct code *code, FILE *to)
{
	struct programs_figures f = programs_figures(code->programs);

	if (f.scanned + f.left_out)
		fprintf(to,
			"%llu programs and libraries with %.1f MB of code scanned; %llu with %.1f MB left out for "
			"want of room\n",
			(unsigned long long)f.scanned, (double)f.code_scanned / 1e6, (unsigned long long)f.left_out,
			(double)f.code_left_out / 1e6);
	if (f.modules_used)
		fprintf(to, "%llu kernel modules with %.1f MB of code scanned\n", (unsigned long long)f.modules_used,
			(double)f.code_modules_used / 1e6);
	if (f.modules)
		fprintf(to, "%llu kernel modules are left to live translation\n", (unsigned long long)f.modules);
	if (f.unusable)
		fprintf(to, "%llu ELF files cannot be used: for another processor, damaged, or no programs\n",
			(unsigned long long)f.unusable);
}
