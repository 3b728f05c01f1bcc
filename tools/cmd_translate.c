/* avant translate: the build step. Linked into a program of its own, because LLVM is large. */
#include "command.h"

#include "account.h"
#include "build.h"
#include "interrupts.h"
#include "lift_units.h"
#include "loop_heads.h"
#include "plan.h"
#include "progress.h"
#include "save_recording.h"
#include "scan_module.h"
#include "translate_code.h"
#include "translate_inputs.h"
#include "translate_report.h"
#include "translate_reuse.h"

#include "cpu/cpu.h"
#include "translate/translate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tcache.h>
#include <unistd.h>

#define PROFILES_MAX  16
/* Bytes of host code. What a kernel never ran in a recording is hardly wanted; of an image's programs any may be. */
#define UNSEEN_KERNEL (64ULL << 20)
#define UNSEEN_MOST   (512ULL << 20)

struct translate_options {
	struct input_paths paths;
	const char *output, *save_profile, *reuse, *report;
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

static int add_image(struct input_paths *paths, const char *path, bool tree, struct err *err)
{
	if (paths->image_count == INPUTS_MAX)
		return err_set(err, "at most %d images and trees can be used", INPUTS_MAX);
	paths->image[paths->image_count].path = path;
	paths->image[paths->image_count++].tree = tree;
	return 0;
}

static int parse_image(void *field, const char *text, struct err *err)
{
	return add_image(field, text, false, err);
}

static int parse_root(void *field, const char *text, struct err *err)
{
	return add_image(field, text, true, err);
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
	{"report", "FILE", "write what was not lifted, by frequency, and why, as\nJSON (aot/README.md)", NULL,
	 option_text, FIELD(report)},
	{.help = "Input"},
	{"image", "FILE",
	 "disk image: the kernel that it boots, its initramfs,\nits programs; may be given several times", NULL,
	 parse_image, FIELD(paths)},
	{"root", "PATH", "the same for a directory or an archive (tar, cpio …)", NULL, parse_root, FIELD(paths)},
	{"kernel", "FILE", "bzImage or ELF vmlinux; instead of those of images", NULL, option_text,
	 FIELD(paths.kernel)},
	{"initrd", "FILE", "initial RAM file system: its programs are scanned", NULL, option_text, FIELD(paths.initrd)},
	{"profile", "FILE", "recording of avant run --record; may be given\nseveral times", NULL, parse_profile, 0},
	{"save-profile", "FILE", "write what all recordings hold together as one\nrecording", NULL, option_text,
	 FIELD(save_profile)},
	{"reuse", "FILE",
	 "existing cache: what is in it and still wanted is\nkept byte for byte; it must be made for the same\n"
	 "place, CPU and options",
	 NULL, option_text, FIELD(reuse)},
	{"unseen", "SIZE",
	 "host code for what no recording has seen; default:\n64M with a recording but no image, otherwise 512M", NULL,
	 option_size, FIELD(unseen)},
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
	struct inputs *inputs;
	struct plan *plan;
	struct build *build;
	struct code *code;
	struct lift_units *lift;
	struct account *account; /* NULL without --report */
	struct sources sources;  /* existing caches */
	struct progress progress;
	u64 units, lifted; /* translated or kept, and those of them with lifted loops */
	u64 kept;
	u64 unseen;      /* bytes of host code for what no recording has seen */
	u64 left_out;    /* no room, or more than --unseen */
	u64 crowded_out; /* … though it was executed, and something else is kept */
	u64 skipped;     /* recorded bytes that are not one unit */
};

static int read_recordings(struct job *job, struct err *err)
{
	const struct translate_options *options = job->options;

	for (unsigned i = 0; i < options->profile_count; i++) {
		if (plan_add_recording(job->plan, options->profiles[i], err) < 0)
			return -1;
	}
	if (options->save_profile && save_recording(job->plan, options->cpu_name, options->save_profile, err) < 0)
		return -1;
	return plan_add_loop_heads(job->plan, HOT_COUNT, err);
}

/* Bytes of host code for what no recording has seen. */
static u64 unseen_limit(const struct translate_options *o)
{
	return o->unseen ? o->unseen : o->profile_count && !o->paths.image_count ? UNSEEN_KERNEL : UNSEEN_MOST;
}

static int use_module(void *plan, const struct module *module, u16 rank, struct err *err)
{
	return plan_add_module_image(plan, module, rank, err);
}

static int scan(struct job *job, struct err *err)
{
	const struct translate_options *o = job->options;
	const struct code_options options = {.cpu = o->cpu_name,
					     .only_names = o->only_recorded,
					     .may_be_others = o->profile_count,
					     .room = unseen_limit(o),
					     .use_module = use_module};

	return code_scan(job->code, job->inputs, job->plan, &options, err);
}

static const char *name_of(void *opaque, const struct want *want, u64 *offset)
{
	return code_symbol(opaque, want, offset);
}

static bool show_progress(void *opaque, size_t done)
{
	progress_show(opaque, done);
	return !interrupts_noted();
}

static bool is_lifted_already(void *opaque, size_t number)
{
	return reuse_kind(opaque, number) == REUSE_LIFTED;
}

static int lift_loops(struct job *job, struct err *err)
{
	const struct translate_options *o = job->options;
	struct lift_rule rule = {.least = LIFT_LEAST,
				 .most = o->copy ? 0 : o->budget * LIFT_PER_MINUTE,
				 .have = is_lifted_already,
				 .opaque = job->sources.used};
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
	if (!interrupts_noted())
		progress_end(&job->progress, lift_units_count(job->lift));
	return result;
}

/* What is lifted now is not kept as it was copied; with --copy nothing is kept that was lifted. */
static void leave_others(struct job *job)
{
	struct reuse *reuse = job->sources.used;

	for (size_t i = 0; i < plan_count(job->plan); i++) {
		if (lift_units_result(job->lift, i) || (job->options->copy && reuse_kind(reuse, i) == REUSE_LIFTED))
			reuse_leave(reuse, i);
	}
}

static int keep(struct job *job, struct err *err)
{
	struct reuse *reuse = job->sources.used;

	if (!reuse)
		return 0;
	leave_others(job);
	/* its numbers of jump targets would be taken for nothing */
	if (!reuse_count(reuse, REUSE_LIFTED) && !reuse_count(reuse, REUSE_COPIED))
		return 0;
	if (reuse_keep(reuse, job->plan, job->build, &job->unseen, err) < 0)
		return -1;
	job->lifted = reuse_count(reuse, REUSE_LIFTED);
	job->units = job->kept = job->lifted + reuse_count(reuse, REUSE_COPIED);
	return 0;
}

static enum build_result translate_one(struct job *job, size_t number)
{
	const struct want *want = plan_at(job->plan, number);
	const struct lifted *lifted = lift_units_result(job->lift, number);

	return lifted ? build_lifted(job->build, want, lifted) : build_copy(job->build, want);
}

static int account_for(struct job *job, size_t number, enum build_result result, struct err *err)
{
	const struct translation *t = build_translation(job->build);

	if (!job->account)
		return 0;
	if (result == BUILD_OK)
		return account_translated(job->account, number, t->scan, t->handed,
					  lift_units_result(job->lift, number), err);
	account_left(job->account, number, result == BUILD_FULL ? LEFT_NO_ROOM : LEFT_NO_TEMPLATE);
	return 0;
}

/* After an interruption only what LLVM has made still gets its place: that takes no time, and would be lost. */
static bool is_done(const struct job *job, size_t number)
{
	return reuse_kind(job->sources.used, number) || (interrupts_noted() && !lift_units_result(job->lift, number));
}

static int translate_wanted(struct job *job, size_t number, struct err *err)
{
	enum build_result result = translate_one(job, number);

	switch (result) {
	case BUILD_OK:
		job->units++;
		job->lifted += lift_units_result(job->lift, number) != NULL;
		break;
	case BUILD_SKIPPED:
		job->skipped++;
		break;
	case BUILD_FULL:
		job->left_out++;
		job->crowded_out += job->kept && plan_at(job->plan, number)->count_count;
		break;
	}
	return account_for(job, number, result, err);
}

static int translate_heat(struct job *job, enum heat heat, struct err *err)
{
	for (size_t i = 0; i < plan_count(job->plan); i++) {
		if (want_heat(plan_at(job->plan, i)) == heat && !is_done(job, i) && translate_wanted(job, i, err) < 0)
			return -1;
	}
	return 0;
}

/* What nobody has seen, by rank, until there is enough of it. */
static int translate_unseen(struct job *job, struct err *err)
{
	u64 limit = unseen_limit(job->options);
	size_t count, *order = plan_unseen(job->plan, &count);
	int result = 0;

	if (!order)
		return err_set(err, "out of memory");
	for (size_t i = 0; i < count && result == 0; i++) {
		u64 before = build_code(job->build);

		if (is_done(job, order[i]))
			continue;
		if (job->unseen >= limit) {
			job->left_out++;
			if (job->account)
				account_left(job->account, order[i], LEFT_UNSEEN_LIMIT);
		} else {
			result = translate_wanted(job, order[i], err);
		}
		job->unseen += build_code(job->build) - before;
	}
	free(order);
	return result;
}

static int translate_all(struct job *job, struct err *err)
{
	if (job->options->report) {
		job->account = account_create(job->plan, job->lift, err);
		if (!job->account)
			return -1;
	}
	for (size_t i = 0; job->account && i < plan_count(job->plan); i++)
		if (reuse_kind(job->sources.used, i))
			account_kept(job->account, i);
	if (translate_heat(job, HOT, err) < 0 || translate_heat(job, WARM, err) < 0)
		return -1;
	return translate_unseen(job, err);
}

/* The build log: what was found, what was not, and what became of it. The caller frees it; NULL: out of memory. */
static char *make_log(const struct job *job)
{
	char *text = NULL;
	size_t size;
	FILE *log = open_memstream(&text, &size);

	if (!log)
		return NULL;
	if (*inputs_notes(job->inputs))
		fprintf(log, "--- images\n%s", inputs_notes(job->inputs));
	code_log(job->code, log);
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

static int write_report(struct job *job, struct err *err)
{
	const struct report_input input = {.account = job->account,
					   .plan = job->plan,
					   .programs = code_programs(job->code),
					   .profiles = job->options->profile_count,
					   .namer = name_of,
					   .opaque = job->code};

	return job->options->report ? translate_report_write(&input, job->options->report, err) : 0;
}

static int write_cache(struct job *job, const char *path, struct err *err)
{
	struct build_image images[INPUTS_MAX + 1];
	unsigned count = code_images(job->code, images);
	char *log = make_log(job);
	int result;

	if (!log)
		return err_set(err, "out of memory");
	result = build_write(job->build, path, images, count, name_of, job->code, log, err);
	free(log);
	return result;
}

/* The result, or as much of it as there is. */
static int write_result(struct job *job, struct err *err)
{
	struct err why = ERR_INIT;

	interrupts_note(false);
	if (!interrupts_noted()) {
		if (write_cache(job, job->options->output, err) < 0 || write_report(job, err) < 0)
			return -1;
		sources_done(&job->sources);
		return 0;
	}
	if (write_cache(job, job->sources.partial_path, &why) < 0)
		return err_set(err, "interrupted, and what is done is lost: %s", why.text);
	return err_set(err, "interrupted: what is done is in '%s'; the same command goes on from there",
		       job->sources.partial_path);
}

static int run_job(struct job *job, struct err *err)
{
	const struct translate_options *options = job->options;
	struct build_options build_options = {.place = (unsigned)options->place,
					      .counted = options->counted,
					      .exact_flags = options->exact_flags,
					      .returns_host = !options->table,
					      .guest_cpu = cpu_model_name(cpu_model_find(options->cpu_name))};

	/* minutes later would be too late to find out */
	if (options->report && translate_report_check(options->report, err) < 0)
		return -1;
	job->inputs = inputs_open(&options->paths, err);
	if (!job->inputs)
		return -1;
	job->code = code_read(job->inputs, err);
	if (!job->code)
		return -1;
	job->build = build_create(&build_options, err);
	if (!job->build)
		return -1;
	if (sources_open(&job->sources, options->reuse, options->output, job->build, err) < 0)
		return -1;
	job->plan = plan_create(build_store(job->build), err);
	if (!job->plan || read_recordings(job, err) < 0 || scan(job, err) < 0 ||
	    sources_match(&job->sources, job->plan, err) < 0)
		return -1;
	/* until here there is nothing to keep; a cache has its name only when it is complete */
	interrupts_note(true);
	if (lift_loops(job, err) < 0 || keep(job, err) < 0 || translate_all(job, err) < 0)
		return -1;
	return write_result(job, err);
}

static void say_result(const struct job *job)
{
	fputs(inputs_notes(job->inputs), stderr);
	if (job->crowded_out)
		warn("%llu units that were executed have no room beside what is kept; without it they may have",
		     (unsigned long long)job->crowded_out);
	code_summary(job->code, stdout);
	printf("%s: %llu units, ", job->options->output, (unsigned long long)job->units);
	if (job->sources.used)
		printf("%llu of them kept from '%s', ", (unsigned long long)job->kept, reuse_path(job->sources.used));
	printf("%llu of them with lifted loops; %llu left out\n", (unsigned long long)job->lifted,
	       (unsigned long long)job->left_out);
}

static int translate_main(const struct command *command, void *parsed)
{
	struct translate_options *options = parsed;
	struct job job = {.options = options};
	struct err err = ERR_INIT;
	int status = STATUS_OK;

	interrupts_catch("avant translate");
	if (!options->paths.kernel && !options->paths.initrd && !options->paths.image_count && !options->profile_count)
		return command_usage_error(command, "--image, --root, --kernel, --initrd or --profile is needed");
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
		say_result(&job);
	account_destroy(job.account);
	lift_units_destroy(job.lift);
	build_destroy(job.build);
	sources_close(&job.sources);
	plan_destroy(job.plan);
	code_destroy(job.code);
	inputs_close(job.inputs);
	return status;
}

const struct command command_translate = {
	.name = "translate",
	.summary = "translate a guest ahead of time",
	.usage = "--image FILE|--kernel FILE -o CACHE [OPTION]...",
	.text = "Translates the code of a guest into a cache file, with which avant run starts faster.\n",
	.examples = "  avant translate --image debian.img -o debian.tcache\n"
		    "  avant run --image debian.img --cache debian.tcache\n"
		    "  avant run --kernel vmlinuz --initrd initrd.img --record boot.rec\n"
		    "  avant translate --kernel vmlinuz --initrd initrd.img --profile boot.rec \\\n"
		    "      -o debian.tcache\n"
		    "  avant run --kernel vmlinuz --initrd initrd.img --cache debian.tcache\n",
	.options = option_specs,
	.letters = "o",
	.options_size = sizeof(struct translate_options),
	.main = translate_main,
};
