/*
 * The benchmark guest's frame: as PID 1 it mounts what it needs, takes its options from the kernel command line and
 * powers the machine off at the end; otherwise it is an ordinary program with the same rows.
 */
#include "bench.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

static const struct group groups[] = {
	{"integer", rows_integer}, {"codec", rows_codec},   {"call", rows_call},     {"library", rows_library},
	{"float", rows_float},     {"memory", rows_memory}, {"system", rows_system}, {"process", rows_process},
};
enum { GROUPS = sizeof(groups) / sizeof(groups[0]) };

struct options {
	char rows[1024]; /* comma separated names of rows and groups, "all" or "none" */
	struct effort effort;
};

static bool is_init(void)
{
	return getpid() == 1;
}

static void take_mount(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL))
		printf("INFO mount_failed %s\n", where);
}

/* What a booted system would have done before: file systems, a console, quiet kernel messages. */
static void init_scene(void)
{
	int console;

	take_mount("proc", "/proc");
	take_mount("sysfs", "/sys");
	take_mount("devtmpfs", "/dev");
	take_mount("tmpfs", "/dev/shm");
	console = open("/dev/console", O_RDWR);
	if (console >= 0) {
		dup2(console, 0);
		dup2(console, 1);
		dup2(console, 2);
		if (console > 2)
			close(console);
	}
	klogctl(8, NULL, 1); /* SYSLOG_ACTION_CONSOLE_LEVEL: no kernel message may cut a line of ours in two */
}

static void init_power_off(void)
{
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static bool in_list(const char *list, const char *word)
{
	size_t length = strlen(word);

	while (*list) {
		size_t item = strcspn(list, ",");

		if (item == length && !memcmp(list, word, length))
			return true;
		list += item + (list[item] == ',');
	}
	return false;
}

static bool option_set(struct options *options, const char *name, const char *value)
{
	if (!strcmp(name, "rows"))
		snprintf(options->rows, sizeof(options->rows), "%s", value);
	else if (!strcmp(name, "reps"))
		options->effort.repetitions = (unsigned)strtoul(value, NULL, 10);
	else if (!strcmp(name, "ms"))
		options->effort.sample_ns = strtoull(value, NULL, 10) * 1000000;
	else
		return false;
	return true;
}

/* avant.rows=, avant.reps= and avant.ms= on the kernel command line: names with a dot are not handed to init. */
static void options_from_kernel(struct options *options)
{
	char line[4096], *word, *rest = NULL;
	FILE *file = fopen("/proc/cmdline", "r");

	if (!file)
		return;
	if (fgets(line, sizeof(line), file)) {
		for (word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
			char *equals = strchr(word, '=');

			if (strncmp(word, "avant.", 6) || !equals)
				continue;
			*equals = 0;
			option_set(options, word + 6, equals + 1);
		}
	}
	fclose(file);
}

static void list_rows(void)
{
	for (int i = 0; i < GROUPS; i++)
		for (const struct row *row = groups[i].rows; row->name; row++)
			printf("%s %s %s\n", groups[i].name, row->name, row->unit);
}

static int usage(FILE *to)
{
	fprintf(to, "usage: bench [--list] [--rows NAMES] [--reps N] [--ms MILLISECONDS]\n"
		    "NAMES: rows and groups separated by commas, \"all\" (default) or \"none\"\n");
	return 2;
}

/* Returns -1 to go on, else an exit status. */
static int options_from_arguments(struct options *options, int argc, char **argv)
{
	for (int i = 1; i < argc; i += 2) {
		if (!strcmp(argv[i], "--list")) {
			list_rows();
			return 0;
		}
		if (!strcmp(argv[i], "--help")) {
			usage(stdout);
			return 0;
		}
		if (strncmp(argv[i], "--", 2) || i + 1 >= argc || !option_set(options, argv[i] + 2, argv[i + 1]))
			return usage(stderr);
	}
	return -1;
}

static void print_file_line(const char *name, const char *path)
{
	char line[256];
	FILE *file = fopen(path, "r");

	if (!file)
		return;
	if (fgets(line, sizeof(line), file))
		printf("INFO %s %s%s", name, line, strchr(line, '\n') ? "" : "\n");
	fclose(file);
}

static void print_scene(void)
{
	struct utsname name;

	if (!uname(&name))
		printf("INFO kernel %s\n", name.release);
	print_file_line("aslr", "/proc/sys/kernel/randomize_va_space");
	print_file_line("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
}

static int run_rows(const struct options *options)
{
	bool all = in_list(options->rows, "all");
	int failed = 0;

	for (int i = 0; i < GROUPS; i++) {
		bool whole = all || in_list(options->rows, groups[i].name);

		for (const struct row *row = groups[i].rows; row->name; row++)
			if (whole || in_list(options->rows, row->name))
				failed += !harness_measure(row, &options->effort);
	}
	return failed;
}

int main(int argc, char **argv)
{
	struct options options = {.rows = "all",
				  .effort = {.repetitions = 5, .sample_ns = 20000000, .row_ns = 3000000000}};
	int failed, status;

	/* The exec rows start this program with this argument: nothing may come before it. */
	if (argc > 1 && !strcmp(argv[1], "--exit"))
		return 0;
	if (is_init())
		init_scene();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (is_init()) {
		options_from_kernel(&options);
	} else {
		status = options_from_arguments(&options, argc, argv);
		if (status >= 0)
			return status;
	}
	printf("BENCH BEGIN %" PRIu64 "\n", harness_now());
	print_scene();
	failed = run_rows(&options);
	printf("BENCH END %" PRIu64 "\n", harness_now());
	if (is_init())
		init_power_off();
	return failed != 0;
}
