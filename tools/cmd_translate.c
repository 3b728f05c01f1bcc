/* avant translate: the build step. Linked into a program of its own, because LLVM is large. */
#include "command.h"

#include "build.h"
#include "lift_units.h"
#include "loop_heads.h"
#include "plan.h"
#include "progress.h"
#include "save_recording.h"
#include "scan_image.h"

#include "boot/file.h"
#include "boot/kernel_image.h"
#include "cpu/cpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tcache.h>
#include <unistd.h>

#define PROFILES_MAX   16
#define UNSEEN_DEFAULT (64ULL << 20)

struct translate_options {
	const char *kernel_path, *initrd_path, *output, *save_profile;
	const char *profiles[PROFILES_MAX];
	unsigned profile_count;
	const char *cpu_name;
	u64 place;
	u64 unseen; /* bytes */
	u64 jobs, budget;
	bool counted, exact_flags, table, only_recorded, copy;
};

#define FIELD(name) offsetof(struct translate_options, name)

/* The field is the whole structure: the option may be given several times. */
static int parse_profile(void *field, const char *text, struct err *err)
{
	struct translate_options *options = field;

	if (options->profile_count == PROFILES_MAX)
		return err_set(err, "at most %d recordings can be used", PROFILES_MAX);
	options->profiles[options->profile_count++] = text;
	return 0;
}

static int parse_place(void *field, const char *text, struct err *err)
{
	if (option_count(field, text, err) < 0 || *(u64 *)field >= PLACES)
		return err_set(err, "'%s' is not a number from 0 to %d", text, PLACES - 1);
	return 0;
}

static const struct option_spec option_specs[] = {
	{.help = "Output"},
	{"output", "FILE", "the cache to write (required); also -o", NULL, option_text, FIELD(output)},
	{"cpu", "MODEL", "processor that guests will see, as in avant run", "default", option_text, FIELD(cpu_name)},
	{"place", "N", "0 or 1: caches that are to be used together must\nhave different places", "0", parse_place,
	 FIELD(place)},
	{.help = "Input"},
	{"kernel", "FILE", "bzImage or ELF vmlinux", NULL, option_text, FIELD(kernel_path)},
	{"initrd", "FILE", "initial RAM file system: its programs are scanned", NULL, option_text, FIELD(initrd_path)},
	{"profile", "FILE", "recording of avant run --record; may be given\nseveral times", NULL, parse_profile, 0},
	{"save-profile", "FILE", "write what all recordings hold together as one\nrecording", NULL, option_text,
	 FIELD(save_profile)},
	{"unseen", "SIZE",
	 "host code for what no recording has seen; default:\n64M with a recording, otherwise as much as there "
	 "is\nroom for",
	 NULL, option_size, FIELD(unseen)},
	{"only-recorded", NULL, "translate only what was executed in a recording", NULL, NULL, FIELD(only_recorded)},
	{.help = "Work"},
	{"jobs", "N", "threads that LLVM runs in; default: one for each\nprocessor", NULL, option_count, FIELD(jobs)},
	{"budget", "MINUTES", "processor time for LLVM, estimated: the hottest\nloops are lifted, the rest is copied",
	 "5", option_count, FIELD(budget)},
	{"copy", NULL, "lift nothing: copy all code", NULL, NULL, FIELD(copy)},
	{.help = "Finding errors"},
	{"counted", NULL, "make code that counts instructions, for runs with\n--count or --clock instructions", NULL,
	 NULL, FIELD(counted)},
	{"exact-flags", NULL, "make code that keeps all flags, for runs with\n--trace-state", NULL, NULL,
	 FIELD(exact_flags)},
	{"returns-table", NULL, "make code for runs with --returns table", NULL, NULL, FIELD(table)},
	{0},
};

struct job {
	const struct translate_options *options;
	struct plan *plan;
	struct build *build;
	struct kernel_image kernel;
	struct image linked, patched; /* the kernel before and after it has patched itself */
	struct archive_programs programs;
	u8 *kernel_file;
	u64 kernel_size;
	struct lift_units *lift;
	struct progress progress;
	u64 units, lifted; /* translated, and those of them with lifted loops */
	u64 left_out;      /* no room, or more than --unseen */
	u64 skipped;       /* recorded bytes that are not one unit */
};

static int read_file(const char *path, const char *what, u8 **data, u64 *size, struct err *err)
{
	int fd = file_open(path, what, size, err), result;

	if (fd < 0)
		return -1;
	*data = malloc(*size + 1);
	result = *data ? file_read(fd, *data, *size, path, what, err)
		       : err_set(err, "not enough memory to read '%s'", path);
	close(fd);
	return result;
}

static int read_inputs(struct job *job, struct err *err)
{
	const struct translate_options *options = job->options;

	if (options->kernel_path &&
	    (read_file(options->kernel_path, "kernel", &job->kernel_file, &job->kernel_size, err) < 0 ||
	     kernel_image_parse(job->kernel_file, job->kernel_size, options->kernel_path, NULL, &job->kernel, err) < 0))
		return -1;
	for (unsigned i = 0; i < options->profile_count; i++) {
		if (plan_add_recording(job->plan, options->profiles[i], err) < 0)
			return -1;
	}
	if (options->save_profile && save_recording(job->plan, options->cpu_name, options->save_profile, err) < 0)
		return -1;
	return plan_add_loop_heads(job->plan, HOT_COUNT, err);
}

/* Kernel code as it will be when the kernel has booted goes before code as linked, if there is no room for both. */
static int scan_kernel(struct job *job, struct err *err)
{
	const struct translate_options *o = job->options;
	struct kernel_options patched = {.cpu = cpu_model_find(o->cpu_name), .patch = true},
			      linked = {.cpu = patched.cpu};
	struct err why = ERR_INIT;

	if (!o->kernel_path)
		return 0;
	if (discover_kernel(&job->kernel, &patched, &job->patched, &why) < 0) {
		/* not Linux as it is known here: what has been executed can be translated all the same, without names
		 */
		if (!o->profile_count)
			return err_set(err, "cannot scan '%s': %s", o->kernel_path, why.text);
		if (!o->only_recorded)
			warn("'%s' is not scanned: %s", o->kernel_path, why.text);
		return 0;
	}
	if (o->only_recorded)
		return 0;
	if (plan_add_image(job->plan, &job->patched, err) < 0 ||
	    discover_kernel(&job->kernel, &linked, &job->linked, err) < 0)
		return -1;
	return plan_add_image(job->plan, &job->linked, err);
}

static int scan_programs(struct job *job, struct err *err)
{
	const struct translate_options *o = job->options;

	if (!o->initrd_path)
		return 0;
	if (discover_archive(o->initrd_path, &job->programs, err) < 0) /* for names, if nothing else */
		return -1;
	for (u32 i = 0; i < job->programs.count && !o->only_recorded; i++) {
		if (plan_add_image(job->plan, &job->programs.program[i].image, err) < 0)
			return -1;
	}
	return 0;
}

/* The name of code, by whichever image has it. */
static const char *name_of(void *opaque, const struct want *want, u64 *offset)
{
	const struct job *job = opaque;
	u64 pc = want->pc;
	const char *name;

	if (want_is_template(want))
		return NULL;
	name = image_symbol(&job->patched, pc, offset);

	for (u32 i = 0; !name && i < job->programs.count; i++) {
		if (job->programs.program[i].verdict == PROGRAM_FIXED)
			name = image_symbol(&job->programs.program[i].image, pc, offset);
	}
	return name;
}

static void show_progress(void *opaque, size_t done)
{
	progress_show(opaque, done);
}

static int lift_loops(struct job *job, struct err *err)
{
	const struct translate_options *o = job->options;
	struct lift_rule rule = {.least = LIFT_LEAST, .most = o->copy ? 0 : o->budget * LIFT_PER_MINUTE};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned jobs = o->jobs ? (unsigned)o->jobs : processors > 0 ? (unsigned)processors : 1;
	int result;

	job->lift = lift_units_choose(job->plan, &rule, err);
	if (!job->lift)
		return -1;
	if (!lift_units_count(job->lift))
		return 0;
	progress_begin(&job->progress, "lifting", lift_units_count(job->lift));
	result = lift_units_compile(job->lift, jobs, show_progress, &job->progress, err);
	progress_end(&job->progress, lift_units_count(job->lift));
	return result;
}

static enum build_result translate_one(struct job *job, size_t number)
{
	const struct want *want = plan_at(job->plan, number);
	const struct lifted *lifted = lift_units_result(job->lift, number);

	return lifted ? build_lifted(job->build, want, lifted) : build_copy(job->build, want);
}

static void translate_heat(struct job *job, enum heat heat, u64 limit)
{
	for (size_t i = 0; i < plan_count(job->plan); i++) {
		const struct want *want = plan_at(job->plan, i);

		if (want_heat(want) != heat)
			continue;
		if (build_code(job->build) >= limit) {
			job->left_out++;
			continue;
		}
		switch (translate_one(job, i)) {
		case BUILD_OK:
			job->units++;
			job->lifted += lift_units_result(job->lift, i) != NULL;
			break;
		case BUILD_SKIPPED:
			job->skipped++;
			break;
		case BUILD_FULL:
			job->left_out++;
			break;
		}
	}
}

static void translate_all(struct job *job)
{
	const struct translate_options *o = job->options;

	for (enum heat heat = HOT; heat < HEATS; heat++) {
		u64 unseen = o->unseen ? o->unseen : o->profile_count ? UNSEEN_DEFAULT : UINT64_MAX / 2;

		translate_heat(job, heat, heat == UNSEEN ? build_code(job->build) + unseen : UINT64_MAX);
	}
}

static void log_report(FILE *log, const char *name, const struct report *report)
{
	if (report->text)
		fprintf(log, "--- %s\n%s", name, report->text);
}

/* The build log: what was found, what was not, and what became of it. The caller frees it; NULL: out of memory. */
static char *make_log(const struct job *job)
{
	char *text = NULL;
	size_t size;
	FILE *log = open_memstream(&text, &size);

	if (!log)
		return NULL;
	log_report(log, "kernel, patched", &job->patched.report);
	log_report(log, "kernel, as linked", &job->linked.report);
	log_report(log, "initrd", &job->programs.report);
	for (u32 i = 0; i < job->programs.count; i++)
		log_report(log, job->programs.program[i].image.name, &job->programs.program[i].image.report);
	fprintf(log,
		"--- units\n%zu planned, %llu translated, %llu of these with lifted loops, %llu left out, %llu not "
		"valid\n",
		plan_count(job->plan), (unsigned long long)job->units, (unsigned long long)job->lifted,
		(unsigned long long)job->left_out, (unsigned long long)job->skipped);
	if (fclose(log) == 0)
		return text;
	free(text);
	return NULL;
}

static int write_cache(struct job *job, struct err *err)
{
	const struct translate_options *options = job->options;
	struct build_image kernel = {.path = options->kernel_path,
				     .kind = TCACHE_IMAGE_KERNEL,
				     .file = job->kernel_file,
				     .file_size = job->kernel_size};
	char *log = make_log(job);
	int result;

	if (!log)
		return err_set(err, "out of memory");
	if (job->kernel.unpacked.data) {
		kernel.data = job->kernel.elf;
		kernel.data_size = job->kernel.elf_size;
	}
	result =
		build_write(job->build, options->output, &kernel, options->kernel_path ? 1 : 0, name_of, job, log, err);
	free(log);
	return result;
}

static int run_job(struct job *job, struct err *err)
{
	const struct translate_options *options = job->options;
	struct build_options build_options = {.place = (unsigned)options->place,
					      .counted = options->counted,
					      .exact_flags = options->exact_flags,
					      .returns_host = !options->table,
					      .guest_cpu = cpu_model_name(cpu_model_find(options->cpu_name))};

	job->build = build_create(&build_options, err);
	if (!job->build)
		return -1;
	job->plan = plan_create(build_store(job->build), err);
	if (!job->plan || read_inputs(job, err) < 0 || scan_kernel(job, err) < 0 || scan_programs(job, err) < 0 ||
	    lift_loops(job, err) < 0)
		return -1;
	translate_all(job);
	return write_cache(job, err);
}

/* The cache has its name only when it is complete: there is nothing to take back. */
static void on_interrupt(int number)
{
	static const char text[] = "\navant translate: interrupted\n";
	ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)number;
	(void)written;
	_exit(STATUS_ERROR);
}

static void catch_interrupts(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_interrupt};

	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		sigaction(numbers[i], &action, NULL);
}

static int translate_main(const struct command *command, void *parsed)
{
	struct translate_options *options = parsed;
	struct job job = {.options = options};
	struct err err = ERR_INIT;
	int status = STATUS_OK;

	catch_interrupts();
	if (!options->kernel_path && !options->initrd_path && !options->profile_count)
		return command_usage_error(command, "--kernel, --initrd or --profile is needed");
	if (options->save_profile && !options->profile_count)
		return command_usage_error(command, "--save-profile needs --profile");
	if (!options->output)
		return command_usage_error(command, "--output is needed");
	if (!cpu_model_find(options->cpu_name))
		return command_usage_error(command, "--cpu: unknown model '%s'; 'avant run --cpu help' lists them",
					   options->cpu_name);
	if (run_job(&job, &err) < 0)
		status = command_error(command, "%s", err.text);
	else
		printf("%s: %llu units, %llu of them with lifted loops; %llu left out\n", options->output,
		       (unsigned long long)job.units, (unsigned long long)job.lifted, (unsigned long long)job.left_out);
	lift_units_destroy(job.lift);
	build_destroy(job.build);
	plan_destroy(job.plan);
	archive_programs_release(&job.programs);
	image_release(&job.linked);
	image_release(&job.patched);
	kernel_image_release(&job.kernel);
	free(job.kernel_file);
	return status;
}

const struct command command_translate = {
	.name = "translate",
	.summary = "translate a guest ahead of time",
	.usage = "--kernel FILE -o CACHE [OPTION]...",
	.text = "Translates the code of a guest into a cache file, with which avant run starts faster.\n",
	.examples = "  avant run --kernel vmlinuz --initrd initrd.img --record boot.rec\n"
		    "  avant translate --kernel vmlinuz --initrd initrd.img --profile boot.rec \\\n"
		    "      -o debian.tcache\n"
		    "  avant run --kernel vmlinuz --initrd initrd.img --cache debian.tcache\n",
	.options = option_specs,
	.letters = "o",
	.options_size = sizeof(struct translate_options),
	.main = translate_main,
};
