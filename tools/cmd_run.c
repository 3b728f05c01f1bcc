/* avant run: builds a VM from the options, runs it on the terminal, reports how it ended. */
#include "auto_run.h"
#include "clerk.h"
#include "command.h"
#include "console/consoles.h"
#include "console/terminal.h"
#include "device_options.h"
#include "output.h"
#include "run_image.h"
#include "stats_json.h"

#include "cpu/cpu.h"
#include "debug/gdb_server.h"
#include "debug/trace.h"
#include "live/live.h"
#include "net/options.h"
#include "sandbox/sandbox.h"
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_MIN     (16ULL << 20)
#define MEMORY_MAX     (1ULL << 40)
#define MEMORY_UNIT    (2ULL << 20)
#define CODE_CACHE_MIN (2ULL << 20)

/* The sanitizers' own system calls are too many to name. */
#ifdef AVANT_SANITIZE
#define SANDBOX_DEFAULT "off"
#else
#define SANDBOX_DEFAULT "on"
#endif

struct run_options {
	struct vm_config config;
	struct net_config net;
	const char *cpu_name;
	struct consoles_options consoles;
	const char *stats_path;
	u64 smp;
	bool no_cache;
	bool auto_cache;
	bool sandbox;
	bool image;    /* the first disk is one that is booted from */
	bool snapshot; /* its writes are dropped */
};

#define FIELD(name) offsetof(struct run_options, config.name)

static int parse_engine(void *field, const char *text, struct err *err)
{
	static const char *const names[] = {"live", "aot", "interp", NULL};
	static const enum engine values[] = {ENGINE_LIVE, ENGINE_AOT, ENGINE_INTERP};
	int n = option_choice(names, text, err);

	if (n < 0)
		return -1;
	*(enum engine *)field = values[n];
	return 0;
}

static int parse_returns(void *field, const char *text, struct err *err)
{
	static const char *const names[] = {"host", "table", NULL};
	static const enum returns values[] = {RETURNS_HOST, RETURNS_TABLE};
	int n = option_choice(names, text, err);

	if (n < 0)
		return -1;
	*(enum returns *)field = values[n];
	return 0;
}

static int parse_clock(void *field, const char *text, struct err *err)
{
	static const char *const names[] = {"host", "instructions", NULL};
	static const enum clock_source values[] = {CLOCK_SOURCE_HOST, CLOCK_SOURCE_INSTRUCTIONS};
	int n = option_choice(names, text, err);

	if (n < 0)
		return -1;
	*(enum clock_source *)field = values[n];
	return 0;
}

static int parse_memory(void *field, const char *text, struct err *err)
{
	u64 value;

	if (option_size(&value, text, err) < 0)
		return -1;
	if (value < MEMORY_MIN || value > MEMORY_MAX || value % MEMORY_UNIT)
		return err_set(err, "'%s' is not between 16M and 1T in steps of 2M", text);
	*(u64 *)field = value;
	return 0;
}

static int parse_code_cache(void *field, const char *text, struct err *err)
{
	u64 value;

	if (option_size(&value, text, err) < 0)
		return -1;
	if (value < CODE_CACHE_MIN || value > LIVE_CODE_MAX || value % PAGE_SIZE)
		return err_set(err, "'%s' is not between 2M and %uM in steps of 4K", text,
			       (unsigned)(LIVE_CODE_MAX >> 20));
	*(u64 *)field = value;
	return 0;
}

static int parse_switch(void *field, const char *text, struct err *err)
{
	static const char *const names[] = {"off", "on", NULL};
	int n = option_choice(names, text, err);

	*(bool *)field = n == 1;
	return n < 0 ? -1 : 0;
}

/* The field is the whole structure: the option may be given several times. */
static int parse_cache(void *field, const char *text, struct err *err)
{
	struct run_options *run = field;
	struct vm_config *config = &run->config;

	if (!strcmp(text, "auto")) {
		run->auto_cache = true;
		return 0;
	}
	if (config->cache_count == VM_CACHES_MAX)
		return err_set(err, "at most %d caches can be used", VM_CACHES_MAX);
	config->caches[config->cache_count++] = text;
	return 0;
}

/* The field is the whole structure. */
static int parse_image(void *field, const char *text, struct err *err)
{
	struct run_options *run = field;

	if (run->image)
		return err_set(err, "only one image can be booted; other disks are given by --disk");
	run->image = true;
	return option_image(&run->config, text, err);
}

static int parse_smp(void *field, const char *text, struct err *err)
{
	u64 value;

	if (option_count(&value, text, err) < 0 || value == 0)
		return err_set(err, "'%s' is not a number of processors", text);
	if (value > 1)
		return err_set(err, "only one processor is supported so far, not %s", text);
	*(u64 *)field = value;
	return 0;
}

static int parse_mark(void *field, const char *text, struct err *err)
{
	if (!*text || strlen(text) > MARK_MAX)
		return err_set(err, "the text must have 1 to %d bytes", MARK_MAX);
	*(const char **)field = text;
	return 0;
}

/* One ",key=N" of --trace-state. */
static int parse_trace_key(struct vm_config *config, const char *key, const char *value, struct err *err)
{
	const struct {
		const char *key;
		u64 *field;
	} keys[] = {
		{"interval", &config->trace_interval},
		{"from", &config->trace_from},
		{"ram", &config->trace_ram},
	};

	if (!strcmp(key, "insn")) {
		config->trace_insn = !strcmp(value, "1");
		return config->trace_insn || !strcmp(value, "0") ? 0 : err_set(err, "insn must be 0 or 1");
	}
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strcmp(key, keys[i].key))
			return option_count(keys[i].field, value, err);
	return err_set(err, "'%s' is none of: interval, from, ram, insn", key);
}

static int parse_trace_keys(struct vm_config *config, char *text, struct err *err)
{
	for (char *next, *key = text; key; key = next) {
		char *value;

		next = strchr(key, ',');
		if (next)
			*next++ = '\0';
		value = strchr(key, '=');
		if (!value)
			return err_set(err, "'%s' has no value", key);
		*value++ = '\0';
		if (parse_trace_key(config, key, value, err) < 0)
			return -1;
	}
	return config->trace_interval ? 0 : err_set(err, "the interval must be greater than 0");
}

/*
 * FILE[,key=N]...; the field is the whole configuration because several members are set. Takes the argument apart where
 * it is: the configuration refers to its beginning.
 */
static int parse_trace_state(void *field, const char *text, struct err *err)
{
	struct vm_config *config = field;
	char *comma = strchr((char *)text, ',');

	config->trace_interval = TRACE_INTERVAL;
	config->trace_ram = TRACE_RAM;
	config->trace_path = text;
	if (comma)
		*comma++ = '\0';
	if (!*text)
		return err_set(err, "a file name is needed");
	return comma ? parse_trace_keys(config, comma, err) : 0;
}

static int parse_gdb(void *field, const char *text, struct err *err)
{
	struct gdb_address address;

	*(const char **)field = text;
	return gdb_address_parse(text, &address, err);
}

static const struct option_spec options[] = {
	{.help = "Guest"},
	{"image", "FILE[,KEY]...",
	 "disk image to boot, the first disk: kernel, initrd\nand command line are found in it; keys as of --disk",
	 NULL, parse_image, 0},
	{"snapshot", NULL, "drop what is written to the image at the end", NULL, NULL,
	 offsetof(struct run_options, snapshot)},
	{"kernel", "FILE", "bzImage or ELF vmlinux to boot; instead of the\nimage's, with its initrd", NULL,
	 option_text, FIELD(kernel_path)},
	{"initrd", "FILE", "initial RAM file system", NULL, option_text, FIELD(initrd_path)},
	{"append", "TEXT", "kernel command line, instead of the image's", NULL, option_text, FIELD(append)},
	{.help = "Machine"},
	{"memory", "SIZE", "guest memory", "512M", parse_memory, FIELD(memory)},
	{"cpu", "MODEL", "processor the guest sees; 'help' lists them", "default", option_text,
	 offsetof(struct run_options, cpu_name)},
	{"smp", "N", "number of processors; only 1 so far", "1", parse_smp, offsetof(struct run_options, smp)},
	{"rtc", "on|off",
	 "on: a CMOS clock as well, which Linux sets its time\nby, to half a second; off: KVM's clock, exactly", "off",
	 parse_switch, FIELD(rtc)},
	{"debug-exit", NULL, "a write of n to port 0xf4 ends the run with\nexit status 2n+1", NULL, NULL,
	 FIELD(debug_exit)},
	{.help = "Devices"},
	{"disk", "FILE[,KEY]...",
	 "a disk: a raw file, block device or NBD URI; keys:\nreadonly, snapshot (writes are dropped at the end),\n"
	 "serial=TEXT, format=raw; may be given several times",
	 NULL, option_disk, offsetof(struct run_options, config)},
	{"share", "DIR,tag=TAG[,KEY]...",
	 "a directory in the guest: mount -t 9p -o\ntrans=virtio,version=9p2000.L TAG /mnt; keys:\nreadonly; may be "
	 "given several times",
	 NULL, option_share, offsetof(struct run_options, config)},
	{"net", "none|user[,KEY]...",
	 "user: a network behind this host's; keys:\nhostfwd=tcp|udp:[HOSTADDR]:PORT-[GUESTADDR]:PORT,\nrestrict (only "
	 "forwarded ports), mac=, net=CIDR, dns=,\nhostname=, mtu=",
	 "none", option_net, offsetof(struct run_options, net)},
	{"serial", "WHERE",
	 "the serial port: stdio (default), none, pty,\nunix:PATH (a socket) or file:PATH (output alone)", NULL,
	 option_serial, offsetof(struct run_options, consoles)},
	{"console", "virtio[:WHERE]",
	 "a virtio console, hvc0 in the guest; WHERE as for\n--serial; without it, in place of the serial port", NULL,
	 option_console, offsetof(struct run_options, consoles)},
	{.help = "Protection"},
	{"sandbox", "on|off",
	 "on: give up all rights and most system calls before\nthe guest starts; off: a guest that breaks out can do\n"
	 "what you can",
	 SANDBOX_DEFAULT, parse_switch, offsetof(struct run_options, sandbox)},
	{.help = "Translations"},
	{"cache", "FILE|auto",
	 "use the translations in FILE (avant translate);\nmay be given several times; auto: one that is made\n"
	 "from each run for the next",
	 NULL, parse_cache, 0},
	{"no-cache", NULL, "use none after all", NULL, NULL, offsetof(struct run_options, no_cache)},
	{"trust-cache", NULL, "use caches whoever owns them and may write to them", NULL, NULL, FIELD(trust_cache)},
	{"record", "FILE", "record what is executed, for avant translate\n--profile", NULL, option_text,
	 FIELD(record_path)},
	{.help = "Limits"},
	{"timeout", "SECONDS", "end the run after this much time", NULL, option_seconds, FIELD(timeout_s)},
	{"cpu-time-limit", "SECONDS", "end the run after this much processor time", NULL, option_seconds,
	 FIELD(cpu_limit_s)},
	{.help = "Reports"},
	{"stats", "FILE", "write figures of the run as JSON when it ends", NULL, option_text,
	 offsetof(struct run_options, stats_path)},
	{"count", NULL,
	 "count executed instructions, by engine and mode, in\nthe statistics; caches must be made with --counted",
	 NULL, NULL, FIELD(count)},
	{"mark", "TEXT", "note in the statistics when the guest first prints\nTEXT (mark_ms)", NULL, parse_mark,
	 FIELD(mark)},
	{.help = "Execution"},
	{"engine", "NAME",
	 "live: caches, and translation at run time; aot:\nthe same, but a cache that cannot be used is an\nerror; "
	 "interp: one instruction at a time, slow",
	 "live", parse_engine, FIELD(engine)},
	{"returns", "HOW", "returns of translated code: host (the processor's\npredictor) or table", "host",
	 parse_returns, FIELD(returns)},
	{"code-cache", "SIZE",
	 "memory for live translations, 2M to 384M; default: a\nquarter of the guest's memory, 64M to 256M", NULL,
	 parse_code_cache, FIELD(code_cache_size)},
	{.help = "Finding errors"},
	{"clock", "SOURCE", "guest time: host, or instructions (a function of\nexecuted instructions, repeatable)",
	 "host", parse_clock, FIELD(clock)},
	{"trace-state", "FILE[,KEY=N]...",
	 "write hashes of the guest's state to FILE, a line\nevery interval=N instructions (default 100K) after\n"
	 "the first from=N; RAM in one of ram=N lines\n(default 64, 0: never); insn=1: with instructions;\nneeds "
	 "--clock instructions",
	 NULL, parse_trace_state, offsetof(struct run_options, config)},
	{"stop-after", "N", "end the run after N instructions; needs\n--clock instructions", NULL, option_count,
	 FIELD(stop_after)},
	{"gdb", "[HOST]:PORT",
	 "wait for gdb to connect there before the guest\nstarts; without HOST from this machine only", NULL, parse_gdb,
	 FIELD(gdb)},
	{"perf-map", NULL, "write /tmp/perf-PID.map, from which perf(1) names\ntranslated code", NULL, NULL,
	 FIELD(perf_map)},
	{"symbols", "FILE",
	 "names of the guest kernel's code for --perf-map\nand --trace-state: System.map or kallsyms", NULL,
	 option_text, FIELD(symbols_path)},
	{0},
};

static int list_models(void)
{
	const struct cpu_model *model;

	for (unsigned i = 0; (model = cpu_model_at(i)); i++)
		printf("%-16s %s\n", cpu_model_name(model), cpu_model_describe(model));
	return command_finish_output(STATUS_OK);
}

/* Looks at what the single options cannot see. Returns 0 or an exit status. */
static int check_options(const struct command *command, struct run_options *run)
{
	struct vm_config *config = &run->config;
	struct err err = ERR_INIT;

	if (!config->kernel_path && !run->image)
		return command_usage_error(command, "--image or --kernel is needed");
	if (run->snapshot && !run->image)
		return command_usage_error(command, "--snapshot needs --image; disks have a key of that name");
	if (run->snapshot && config->disks[0].config.readonly)
		return command_usage_error(command, "--snapshot: nothing is written to a read-only image");
	config->disks[0].config.snapshot |= run->snapshot;
	if (config->clock != CLOCK_SOURCE_INSTRUCTIONS && (config->trace_path || config->stop_after))
		return command_usage_error(command, "--trace-state and --stop-after need --clock instructions");
	if (consoles_options_settle(&run->consoles, &err) < 0)
		return command_usage_error(command, "%s", err.text);
	if (run->no_cache) {
		config->cache_count = 0;
		run->auto_cache = false;
	}
	config->net = run->net.kind == NET_NONE ? NULL : &run->net;
	if (config->record_path && (config->cache_count || run->auto_cache))
		return command_usage_error(command,
					   "--record needs a run without caches: what they serve is not recorded");
	if (run->auto_cache && config->cache_count)
		return command_usage_error(command, "--cache auto cannot be used together with other caches");
	if (run->auto_cache && config->engine == ENGINE_INTERP)
		return command_usage_error(command, "--cache auto needs the live engine");
	if (config->record_path && config->engine == ENGINE_INTERP)
		return command_usage_error(command, "--record needs the live engine");
	if (config->trust_cache && config->cache_count)
		warn("caches are used whoever owns them and may write to them");
	config->cpu = cpu_model_find(run->cpu_name);
	if (!config->cpu)
		return command_usage_error(command, "--cpu: unknown model '%s'; '--cpu help' lists them",
					   run->cpu_name);
	if (cpu_model_check_host(config->cpu, &err) < 0)
		return command_error(command, "%s", err.text);
	if (run->stats_path && output_check(run->stats_path, &err) < 0)
		return command_error(command, "--stats: %s", err.text);
	if (config->record_path && output_check(config->record_path, &err) < 0)
		return command_error(command, "--record: %s", err.text);
	return 0;
}

static u64 clock_now_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

/* Says on stderr what is worth saying and gives the exit status. */
static int report_end(const struct command *command, const struct vm *vm, const struct terminal *terminal)
{
	int number = terminal_stop_signal(terminal);

	switch (vm->exit) {
	case EXIT_POWER_OFF:
		return STATUS_OK;
	case EXIT_RESET:
		fputs("avant run: the guest reset\n", stderr);
		return STATUS_RESET;
	case EXIT_TRIPLE_FAULT:
		fputs("avant run: the guest reset by a triple fault\n", stderr);
		return STATUS_RESET;
	case EXIT_DEBUG:
		return vm->exit_code & 0xff;
	case EXIT_LIMIT:
		fprintf(stderr, "avant run: %s\n", vm->exit_message[0] ? vm->exit_message : "a limit was reached");
		return STATUS_LIMIT;
	case EXIT_USER:
		if (!number) {
			fprintf(stderr, "avant run: %s\n",
				vm->exit_message[0] ? vm->exit_message : "ended by Ctrl-A X");
			return STATUS_OK;
		}
		fprintf(stderr, "avant run: ended by signal: %s\n", strsignal(number));
		return STATUS_SIGNAL + number;
	case EXIT_ERROR:
		return command_error(command, "%s", vm->exit_message);
	case EXIT_RUNNING:
		break;
	}
	BUG("the run ended without a reason");
}

/* Files that are written when the run has ended. */
enum output { OUTPUT_STATS, OUTPUT_RECORDING, OUTPUTS };

/* One run and what belongs to it. */
struct running {
	const struct command *command;
	struct run_options *options;
	struct run_image found;
	struct auto_run automatic;
	struct consoles consoles;
	const char *outputs[OUTPUTS];
	struct clerk clerk;
};

static int write_stats(const struct running *running, const struct vm *vm, struct err *err)
{
	u64 mark_ns = consoles_mark_ns(&running->consoles);
	struct run_times times = {
		.wall_ns = clock_now_ns(CLOCK_MONOTONIC) - command_start_ns(),
		.cpu_ns = clock_now_ns(CLOCK_PROCESS_CPUTIME_ID),
		.mark_ns = mark_ns ? mark_ns - command_start_ns() : 0,
	};
	char *text = stats_json_text(vm, &times);
	int result = text ? clerk_write(&running->clerk, OUTPUT_STATS, text, strlen(text), err)
			  : err_set(err, "out of memory");

	free(text);
	return result;
}

static int write_recording(struct vm *vm, void *opaque, struct err *err)
{
	const struct running *running = opaque;
	int fd = memfd_create("recording", MFD_CLOEXEC), result;

	if (fd < 0)
		return err_set(err, "cannot create a file in memory: %s", strerror(errno));
	result = vm_write_recording(vm, fd, err);
	if (result == 0)
		result = clerk_write_fd(&running->clerk, OUTPUT_RECORDING, fd, err);
	close(fd);
	return result;
}

/* What was asked for is written. Returns the exit status, which is that of the run if that was an error. */
static int write_outputs(struct running *running, struct vm *vm, int status)
{
	struct err err = ERR_INIT;
	bool failed = false;

	if (running->options->stats_path && write_stats(running, vm, &err) < 0) {
		command_error(running->command, "--stats: %s", err.text);
		failed = true;
	}
	if (running->automatic.on) {
		auto_run_end(&running->automatic, vm, write_recording, running);
	} else if (running->outputs[OUTPUT_RECORDING] && write_recording(vm, running, &err) < 0) {
		command_error(running->command, "--record: %s", err.text);
		failed = true;
	}
	return failed && status == STATUS_OK ? STATUS_ERROR : status;
}

static int enter_sandbox(const struct run_options *run, struct err *err)
{
	const struct vm_config *config = &run->config;
	struct sandbox_folder folders[VM_SHARES_MAX];
	struct sandbox_config sandbox = {
		.parts = (config->disk_count ? SANDBOX_DISK : 0) | (config->share_count ? SANDBOX_SHARE : 0) |
			 (config->gdb ? SANDBOX_SOCKET | SANDBOX_LISTEN : 0) | (config->net ? SANDBOX_NETWORK : 0) |
			 consoles_sandbox_parts(&run->consoles),
		.folders = folders,
		.folder_count = config->share_count,
		.at_end = terminal_restore,
	};

	for (unsigned i = 0; i < config->disk_count; i++)
		sandbox.parts |= disk_is_remote(config->disks[i].config.path) ? SANDBOX_SOCKET : 0;
	for (unsigned i = 0; i < config->share_count; i++)
		folders[i] = (struct sandbox_folder){.path = config->shares[i].config.path,
						     .readonly = config->shares[i].config.readonly};
	return sandbox_enter(&sandbox, err);
}

static int run_vm(struct running *running)
{
	struct consoles *consoles = &running->consoles;
	struct err err = ERR_INIT;
	struct vm *vm;
	int status;

	running->options->config.virtio_console = consoles->virtio_far;
	vm = vm_create(&running->options->config, consoles->serial_far, &err);
	run_image_release(&running->found);
	if (!vm)
		return command_error(running->command, "%s", err.text);
	consoles_start(consoles, vm);
	if (running->options->sandbox && enter_sandbox(running->options, &err) < 0) {
		consoles_stop(consoles);
		vm_destroy(vm);
		return command_error(running->command, "%s; --sandbox off runs the guest without it", err.text);
	}
	vm_run(vm);
	consoles_stop(consoles);
	status = write_outputs(running, vm, report_end(running->command, vm, consoles->terminal));
	vm_destroy(vm);
	return status;
}

/* Processes that are to be there when the run ends; from now on nothing may start any. */
static int start_processes(struct running *running, struct err *err)
{
	struct run_options *run = running->options;
	const struct socket_name *sockets = running->consoles.sockets;

	if (run->auto_cache && auto_run_begin(&running->automatic, &run->config, err) < 0) {
		warn("no automatic cache is used: %s", err->text);
		*err = (struct err)ERR_INIT;
	}
	running->outputs[OUTPUT_STATS] = run->stats_path;
	running->outputs[OUTPUT_RECORDING] = run->config.record_path;
	if (!run->stats_path && !run->config.record_path && !sockets[0].path && !sockets[1].path)
		return 0;
	return clerk_start(&running->clerk, running->outputs, OUTPUTS, sockets, err);
}

/* The kernel is at hand: everything else. */
static int run_found(struct running *running)
{
	struct run_options *run = running->options;
	struct consoles *consoles = &running->consoles;
	struct err err = ERR_INIT;
	int status;

	running->clerk.socket = -1;
	if (consoles_open_channels(consoles, &run->consoles, run->config.mark, &err) < 0)
		return command_error(running->command, "%s", err.text);
	if (start_processes(running, &err) < 0 ||
	    consoles_open_terminal(consoles, &run->consoles, command_start_ns(), run->config.timeout_s, &err) < 0)
		status = command_error(running->command, "%s", err.text);
	else
		status = run_vm(running);
	consoles_release(consoles);
	clerk_release(&running->clerk);
	return status;
}

static int run_main(const struct command *command, void *parsed)
{
	struct run_options *run = parsed;
	struct running running = {.command = command, .options = run};
	struct err err = ERR_INIT;
	int status;

	if (!strcmp(run->cpu_name, "help"))
		return list_models();
	status = check_options(command, run);
	if (status)
		return status;
	if (run->image && run_image_find(&running.found, &run->config, &err) < 0)
		status = command_error(command, "%s", err.text);
	else
		status = run_found(&running);
	run_image_release(&running.found);
	return status;
}

const struct command command_run = {
	.name = "run",
	.summary = "run a guest on this terminal",
	.usage = "{--image FILE | --kernel FILE} [OPTION]...",
	.text = "Boots a guest and connects its serial port to standard input and output.\n"
		"At a terminal Ctrl-A X quits, Ctrl-A A sends a Ctrl-A, Ctrl-A H helps.\n",
	.examples = "  avant run --image debian.img --memory 1G\n"
		    "  avant run --kernel vmlinuz --initrd initrd.img --append console=ttyS0\n"
		    "  avant run --kernel vmlinuz --initrd initrd.img --memory 1G --timeout 60 \\\n"
		    "      --append 'console=ttyS0 panic=-1' --stats stats.json --mark login: </dev/null\n"
		    "\nExit status: 0 the guest powered off, or Ctrl-A X; 1 an error of avant's; 2 usage;\n"
		    "3 the guest reset; 4 a limit was reached; 128+n ended by signal n.\n",
	.options = options,
	.options_size = sizeof(struct run_options),
	.main = run_main,
};
