/* avant check: what this host offers, one line each. Each check is one function in one table. */
#include "command.h"

#include "cpu/cpu.h"
#include "live/live.h"

#include <cpuid.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE 2 /* Linux, Documentation/arch/x86/x86_64/fsgs.rst */
#endif

#define LOW_END AOT_END

struct check_options {
	bool json;
};

enum verdict { CHECK_OK, CHECK_MISSING, CHECK_NOTE };

static const char *const verdict_names[] = {"ok", "missing", "note"};

struct finding {
	enum verdict verdict;
	char name[48];
	char detail[160];
};

static void find(struct finding *finding, enum verdict verdict, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void find(struct finding *finding, enum verdict verdict, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(finding->detail, sizeof(finding->detail), format, args);
	va_end(args);
	finding->verdict = verdict;
}

static void check_processor(struct finding *finding)
{
	u32 brand[13] = {0};
	u32 vendor[4] = {0};
	u32 leaves;
	const char *name;

	__cpuid(0, leaves, vendor[0], vendor[2], vendor[1]);
	__cpuid(0x80000000, leaves, brand[0], brand[0], brand[0]);
	brand[0] = 0;
	for (u32 i = 0; leaves >= 0x80000004 && i < 3; i++)
		__cpuid(0x80000002 + i, brand[4 * i], brand[4 * i + 1], brand[4 * i + 2], brand[4 * i + 3]);
	name = (const char *)brand;
	find(finding, CHECK_OK, "%s, %s", (const char *)vendor, name + strspn(name, " "));
}

static void check_linux(struct finding *finding)
{
	struct utsname name;
	unsigned major = 0, minor = 0;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		find(finding, CHECK_MISSING, "version unknown; 5.15 or later is needed");
	else if (major < 5 || (major == 5 && minor < 15))
		find(finding, CHECK_MISSING, "%s; 5.15 or later is needed", name.release);
	else
		find(finding, CHECK_OK, "%s", name.release);
}

static void check_fsgsbase(struct finding *finding)
{
	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)
		find(finding, CHECK_OK, "usable by programs");
	else
		find(finding, CHECK_MISSING,
		     "not usable by programs (old processor, or kernel booted with nofsgsbase)");
}

/* x86-64-v3 as the psABI defines it (x86-64 ABI, 3.1.1): leaf, register and bit of each feature. */
static const struct {
	const char *name;
	u32 leaf;
	u8 reg; /* 0–3: eax, ebx, ecx, edx */
	u8 bit;
} v3_features[] = {
	{"cx16", 1, 2, 13},         {"popcnt", 1, 2, 23}, {"sse3", 1, 2, 0},     {"sse4.1", 1, 2, 19},
	{"sse4.2", 1, 2, 20},       {"ssse3", 1, 2, 9},   {"avx", 1, 2, 28},     {"avx2", 7, 1, 5},
	{"bmi1", 7, 1, 3},          {"bmi2", 7, 1, 8},    {"f16c", 1, 2, 29},    {"fma", 1, 2, 12},
	{"movbe", 1, 2, 22},        {"xsave", 1, 2, 26},  {"osxsave", 1, 2, 27}, {"lzcnt", 0x80000001, 2, 5},
	{"lahf", 0x80000001, 2, 0},
};

static void check_features(struct finding *finding)
{
	char missing[128] = "";

	for (size_t i = 0; i < ARRAY_SIZE(v3_features); i++) {
		u32 r[4] = {0};

		__get_cpuid_count(v3_features[i].leaf, 0, &r[0], &r[1], &r[2], &r[3]);
		if (!(r[v3_features[i].reg] >> v3_features[i].bit & 1)) {
			strncat(missing, " ", sizeof(missing) - strlen(missing) - 1);
			strncat(missing, v3_features[i].name, sizeof(missing) - strlen(missing) - 1);
		}
	}
	if (missing[0])
		find(finding, CHECK_NOTE, "the processor lacks%s: a smaller guest model is needed (--cpu)", missing);
	else
		find(finding, CHECK_OK, "BMI2, XSAVE, AVX2 and the rest");
}

/* The guest's vector state is kept with XSAVE. */
static void check_xsave(struct finding *finding)
{
	u32 a, b, c = 0, d;

	__get_cpuid(1, &a, &b, &c, &d);
	if (c & bit_OSXSAVE)
		find(finding, CHECK_OK, "usable by programs");
	else
		find(finding, CHECK_MISSING, "not usable by programs (old processor, or kernel booted with noxsave)");
}

static void check_tsc(struct finding *finding)
{
	u32 a, b, c, d = 0;

	__get_cpuid(0x80000007, &a, &b, &c, &d);
	if (d & BIT(8))
		find(finding, CHECK_OK, "invariant");
	else
		find(finding, CHECK_NOTE, "not invariant by CPUID: guest time may run unevenly");
}

static void check_low_memory(struct finding *finding)
{
	void *want = (void *)VCPU_ADDRESS;
	size_t length = LOW_END - VCPU_ADDRESS;
	void *got =
		mmap(want, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (got != MAP_FAILED)
		munmap(got, length);
	if (got == want)
		find(finding, CHECK_OK, "0x%lx to 0x%lx can be reserved", VCPU_ADDRESS, LOW_END);
	else
		find(finding, CHECK_MISSING, "0x%lx to 0x%lx cannot be reserved (ulimit -v, or already in use)",
		     VCPU_ADDRESS, LOW_END);
}

/* Writes a function through one mapping of the memfd and runs it through the other. */
static bool run_through_two_views(int fd)
{
	static const u8 code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax,42; ret */
	u8 *rw = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	u8 *rx = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	bool result = false;

	if (rw != MAP_FAILED && rx != MAP_FAILED) {
		int (*function)(void) = (int (*)(void))(uintptr_t)rx;

		memcpy(rw, code, sizeof(code));
		result = function() == 42;
	}
	if (rw != MAP_FAILED)
		munmap(rw, PAGE_SIZE);
	if (rx != MAP_FAILED)
		munmap(rx, PAGE_SIZE);
	return result;
}

static void check_two_views(struct finding *finding)
{
	int fd = memfd_create("avant-check", MFD_CLOEXEC);
	bool result = fd >= 0 && !ftruncate(fd, PAGE_SIZE) && run_through_two_views(fd);

	if (fd >= 0)
		close(fd);
	if (result)
		find(finding, CHECK_OK, "a memfd can be mapped writable and executable side by side");
	else
		find(finding, CHECK_MISSING, "a memfd cannot be mapped writable and executable side by side");
}

static void check_timer(struct finding *finding)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	struct itimerspec time = {.it_value.tv_nsec = 1000000};
	struct timespec wait = {.tv_sec = 1};
	bool arrived = false;
	sigset_t set, old;
	timer_t timer;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, &old);
	if (!timer_create(CLOCK_MONOTONIC, &event, &timer)) {
		arrived = !timer_settime(timer, 0, &time, NULL) && sigtimedwait(&set, NULL, &wait) == SIGALRM;
		timer_delete(timer);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (arrived)
		find(finding, CHECK_OK, "a POSIX timer's signal arrives");
	else
		find(finding, CHECK_MISSING, "a POSIX timer's signal does not arrive");
}

static void check_huge_pages(struct finding *finding)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
	FILE *file = fopen(path, "re");
	char line[80] = "", *start, *end;

	if (file) {
		if (!fgets(line, sizeof(line), file))
			line[0] = '\0';
		fclose(file);
	}
	start = strchr(line, '[');
	end = start ? strchr(start, ']') : NULL;
	if (!end) {
		find(finding, CHECK_NOTE, "policy unknown");
		return;
	}
	*end = '\0';
	if (!strcmp(start + 1, "never"))
		find(finding, CHECK_NOTE, "never: guest memory is slower to get, all else is the same");
	else
		find(finding, CHECK_OK, "%s", start + 1);
}

static void check_kvm(struct finding *finding)
{
	find(finding, CHECK_NOTE, "/dev/kvm is %s; avant does not need it",
	     access("/dev/kvm", F_OK) ? "absent" : "present");
}

/* Can a guest see this processor here? */
static void check_model(struct finding *finding, const struct cpu_model *model)
{
	struct err err = ERR_INIT;

	snprintf(finding->name, sizeof(finding->name), "cpu model %s", cpu_model_name(model));
	if (cpu_model_check_host(model, &err) < 0)
		find(finding, CHECK_NOTE, "not available: %s", err.text);
	else
		find(finding, CHECK_OK, "available%s",
		     model == cpu_model_find("default") ? " (used unless --cpu is given)" : "");
}

/* One model is enough. */
static void check_some_model(struct finding *finding)
{
	const struct cpu_model *model;
	struct err err = ERR_INIT;
	unsigned available = 0;

	for (unsigned i = 0; (model = cpu_model_at(i)); i++)
		available += !cpu_model_check_host(model, &err);
	if (available)
		find(finding, CHECK_OK, "%u available", available);
	else
		find(finding, CHECK_MISSING, "none available");
}

static const struct {
	const char *name;
	void (*check)(struct finding *finding);
} checks[] = {
	{"processor", check_processor},
	{"linux", check_linux},
	{"fsgsbase", check_fsgsbase},
	{"xsave", check_xsave},
	{"x86-64-v3", check_features},
	{"tsc", check_tsc},
	{"low memory", check_low_memory},
	{"code mappings", check_two_views},
	{"timer signals", check_timer},
	{"huge pages", check_huge_pages},
	{"kvm", check_kvm},
	{"cpu models", check_some_model},
};

static void report(const struct finding *finding, json_t *list)
{
	if (list)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", finding->name, "status",
						      verdict_names[finding->verdict], "detail", finding->detail));
	else
		printf("%-8s %-26s %s\n", verdict_names[finding->verdict], finding->name, finding->detail);
}

static int check_main(const struct command *command, void *parsed)
{
	const struct check_options *options = parsed;
	json_t *list = options->json ? json_array() : NULL;
	const struct cpu_model *model;
	bool usable = true;

	(void)command;
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		struct finding finding = {0};

		snprintf(finding.name, sizeof(finding.name), "%s", checks[i].name);
		checks[i].check(&finding);
		usable &= finding.verdict != CHECK_MISSING;
		report(&finding, list);
	}
	for (unsigned i = 0; (model = cpu_model_at(i)); i++) {
		struct finding finding = {0};

		check_model(&finding, model);
		report(&finding, list);
	}
	if (list) {
		json_t *object = json_pack("{s:b, s:o}", "usable", usable, "checks", list);

		json_dumpf(object, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(object);
	}
	return command_finish_output(usable ? STATUS_OK : STATUS_ERROR);
}

static const struct option_spec options[] = {
	{.help = "Options"},
	{"json", NULL, "print a JSON object instead of lines", NULL, NULL, offsetof(struct check_options, json)},
	{0},
};

const struct command command_check = {
	.name = "check",
	.summary = "say what this host offers and what is missing",
	.usage = "[OPTION]...",
	.text = "Looks at everything avant needs of the host, one line each: 'ok', 'missing' (avant\n"
		"cannot run guests here) or 'note' (good to know, nothing is lost).\n",
	.examples = "  avant check\n"
		    "  avant check --json\n"
		    "\nExit status: 0 nothing is missing; 1 something is; 2 usage.\n",
	.options = options,
	.options_size = sizeof(struct check_options),
	.main = check_main,
};
