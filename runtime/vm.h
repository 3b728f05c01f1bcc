/*
 * A virtual machine: its configuration, its parts, and how it ends. The main path is vm_create → vm_run → vm_destroy
 * (vm.c); everything below hangs off struct vm, there is no other global state.
 */
#ifndef AVANT_VM_H
#define AVANT_VM_H

#include "dev/bus.h"
#include "dev/clock.h"
#include "dev/irqchip.h"
#include "disk/disk.h"
#include "mem/mem.h"
#include "p9/p9.h"
#include "util/err.h"
#include "util/types.h"

struct blob;
struct cpu_model;
struct console;
struct boot_timer;
struct net_config;
struct poller;

enum engine { ENGINE_LIVE, ENGINE_INTERP, ENGINE_AOT };
enum returns { RETURNS_HOST, RETURNS_TABLE };

#define VM_CACHES_MAX 4
#define VM_DISKS_MAX  16

struct vm_disk {
	struct disk_config config;
	const char *serial; /* at most 20 bytes, or NULL */
};

#define VM_SHARES_MAX    8
#define VM_SHARE_TAG_MAX 63 /* bytes */

/* A directory of the host's in the guest. */
struct vm_share {
	struct p9_config config;
	const char *tag; /* what the guest mounts it by: 1 to VM_SHARE_TAG_MAX bytes */
};

struct vm_config {
	const char *kernel_path;            /* or NULL: nothing is loaded, the vCPU is as after reset (tests) */
	const char *initrd_path;            /* or NULL */
	const struct blob *kernel, *initrd; /* instead of the paths: opened already; or NULL */
	const char *append;                 /* kernel command line, or NULL */
	u64 memory;                         /* bytes */
	const struct cpu_model *cpu;
	enum engine engine;
	enum returns returns;
	enum clock_source clock;
	bool rtc;            /* the guest is told of the CMOS clock */
	u64 code_cache_size; /* bytes; 0: a quarter of the memory, 64 to 256 MiB */
	const char *caches[VM_CACHES_MAX];
	unsigned cache_count;
	bool trust_cache;        /* whoever owns the caches */
	const char *record_path; /* record what is executed in this file, or NULL */
	bool debug_exit;         /* port 0xf4 ends the run */
	bool count;              /* count executed instructions by engine and mode */
	u64 stop_after;          /* stop after so many instructions, 0: never (counted modes) */
	u64 trace_interval;      /* instructions between two lines of trace, 0: none */
	u64 trace_from;          /* instruction count of the first line; 0: that of the interval */
	u64 trace_ram;           /* one in so many lines has a hash of RAM, 0: none */
	bool trace_insn;         /* lines end with the instruction that is next */
	const char *trace_path;
	bool perf_map;                 /* /tmp/perf-PID.map */
	const char *symbols_path;      /* names of kernel code, or NULL */
	const char *gdb;               /* [HOST]:PORT to wait for gdb at, or NULL */
	double timeout_s, cpu_limit_s; /* 0: none */
	const char *mark;              /* console text whose first appearance is timed, or NULL */
	struct vm_disk disks[VM_DISKS_MAX];
	unsigned disk_count;
	struct vm_share shares[VM_SHARES_MAX];
	unsigned share_count;
	const struct net_config *net;   /* or NULL: no network */
	struct console *virtio_console; /* the far end of a virtio console, or NULL: there is none */
};

/* Why the run ended. */
enum exit_reason {
	EXIT_RUNNING,
	EXIT_POWER_OFF,
	EXIT_RESET, /* the guest asked for a reset */
	EXIT_TRIPLE_FAULT,
	EXIT_DEBUG, /* debug-exit port; status in exit_code */
	EXIT_LIMIT, /* --timeout, --cpu-time-limit, stop_after */
	EXIT_USER,  /* Ctrl-A X or a signal */
	EXIT_ERROR, /* exit_message says what this VMM cannot do */
};

/* Counters, printed by --stats. One line each in stats.def: field, JSON name. */
struct vm_stats {
#define STAT(field) u64 field;
#include "stats.def"
#undef STAT
};

struct vm {
	struct vm_config config;
	struct ram ram;
	struct ahead *ahead; /* or NULL */
	struct mmu mmu;
	struct bus ports, mmio;
	struct clock clock;
	struct irqchip *irqchip;
	struct vcpu *vcpu;
	struct uart *uart;
	struct rtc *rtc;
	struct pit *pit;
	struct acpi_pm *pm;
	struct pci *pci;
	struct virtio_device *virtio; /* all of them, by next */
	struct boot_timer *boot_timer;
	struct console *console;               /* of the serial port */
	struct virtio_console *virtio_console; /* or NULL */
	struct live *live;                     /* the live engine's code cache and tables */
	struct interp *interp;                 /* decode cache of the single-instruction path */
	struct vm_stats stats;
	void *signal_stack;
	bool counted;              /* v->icount and v->budget are exact */
	struct tracer *tracer;     /* or NULL */
	struct debugger *debugger; /* or NULL */
	struct perf_map *perf_map; /* or NULL */
	struct timer limit_timer, cpu_timer;
	u64 cpu_limit_ms;
	struct poller *poller;
	int wake_fd;           /* eventfd that ends vm_sleep() */
	bool sleeping;         /* … which is under way */
	enum exit_reason exit; /* set with vm_stop() */
	int exit_code;
	char exit_message[256];
	volatile int power_button;   /* set by any thread, then vm_wake(): pressed; ends the run if the guest does not
					listen */
	volatile int stop_requested; /* set by any thread, then vm_wake(): the loop ends the run with EXIT_USER */
};

/* Builds the machine and loads the guest. NULL with a message in err. */
struct vm *vm_create(const struct vm_config *config, struct console *console, struct err *err);

/* Runs until the guest or the user ends it; vm->exit says why. */
void vm_run(struct vm *vm);

/* Writes the recording that vm->config.record_path asks for into `fd`. 0, or -1 with a message in err that names the
 * path. */
int vm_write_recording(struct vm *vm, int fd, struct err *err);

void vm_destroy(struct vm *vm);

/* Ends the run at the next opportunity. Callable from devices and helpers (general registers only, vCPU thread). */
void vm_stop(struct vm *vm, enum exit_reason reason, int code);

/* The same with a message that says more than the reason does. */
void vm_stop_message(struct vm *vm, enum exit_reason reason, const char *message);
void vm_stop_error(struct vm *vm, const char *message); /* with EXIT_ERROR */

/* Input has come, or stop_requested was set: the loop looks at it soon, also if the guest is halted. Any thread. */
void vm_wake(struct vm *vm);

/* Sleeps until the next timer is due or vm_wake() is called. */
void vm_sleep(struct vm *vm);

/* The vCPU's interrupt line changed: recompute it from the controllers. Called by irqchip. */
void vm_set_irq_line(struct vm *vm, bool asserted);

#endif
