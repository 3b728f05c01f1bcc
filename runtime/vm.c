#include "vm.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "ahead.h"
#include "boot/linux.h"
#include "cpu/cpu.h"
#include "debug/debugger.h"
#include "debug/perf_map.h"
#include "debug/trace.h"
#include "dev/console.h"
#include "dev/platform.h"
#include "interp/interp.h"
#include "live/aot.h"
#include "live/aot_module.h"
#include "live/live.h"
#include "live/record.h"
#include "loop.h"
#include "poller.h"
#include "util/bytes.h"
#include "virtio/devices.h"

#define CPU_LIMIT_CHECK_NS 100000000ULL

static struct vcpu *map_vcpu(struct err *err)
{
	void *at = mmap((void *)VCPU_ADDRESS, align_up(sizeof(struct vcpu), PAGE_SIZE), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == MAP_FAILED) {
		err_set(err, "cannot map the vCPU's state at %#lx: %s", VCPU_ADDRESS, strerror(errno));
		return NULL;
	}
	return at;
}

static void on_time_limit(void *opaque)
{
	struct vm *vm = opaque;
	char text[80];

	snprintf(text, sizeof(text), "the time limit of %g s was reached", vm->config.timeout_s);
	vm_stop_message(vm, EXIT_LIMIT, text);
}

static void on_cpu_check(void *opaque)
{
	struct vm *vm = opaque;
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	u64 used_ms = (u64)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
		      (u64)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;

	if (used_ms < vm->cpu_limit_ms) {
		timer_set(&vm->clock, &vm->cpu_timer, clock_ns(&vm->clock) + CPU_LIMIT_CHECK_NS);
		return;
	}
	char text[80];

	snprintf(text, sizeof(text), "the processor time limit of %g s was reached", vm->config.cpu_limit_s);
	vm_stop_message(vm, EXIT_LIMIT, text);
}

static void set_limits(struct vm *vm)
{
	const struct vm_config *config = &vm->config;

	timer_register(&vm->clock, &vm->limit_timer, on_time_limit, vm);
	timer_register(&vm->clock, &vm->cpu_timer, on_cpu_check, vm);
	if (config->timeout_s > 0)
		timer_set(&vm->clock, &vm->limit_timer, (u64)(config->timeout_s * 1e9));
	vm->cpu_limit_ms = (u64)(config->cpu_limit_s * 1e3);
	if (vm->cpu_limit_ms)
		timer_set(&vm->clock, &vm->cpu_timer, CPU_LIMIT_CHECK_NS);
}

/* A cache that cannot be used is no reason not to run, unless its use was demanded. */
static int open_caches(struct vm *vm, struct err *err)
{
	const struct vm_config *config = &vm->config;

	for (unsigned i = 0; i < config->cache_count; i++) {
		struct err why = ERR_INIT;

		if (aot_open(vm->live, config->caches[i], config->trust_cache, &why) == 0)
			continue;
		if (config->engine == ENGINE_AOT)
			return err_set(err, "%s", why.text);
		warn("%s; its code is translated at run time instead", why.text);
	}
	vm->stats.aot_units = aot_units(vm->live);
	vm->stats.aot_templates = aot_template_count(vm->live);
	vm->stats.aot_module_units = aot_modules_count(vm->live);
	live_flush(vm->live);
	return 0;
}

static int build(struct vm *vm, struct err *err)
{
	const struct vm_config *config = &vm->config;

	vm->vcpu = map_vcpu(err);
	if (!vm->vcpu)
		return -1;
	vm->vcpu->vm = vm;
	vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->wake_fd < 0)
		return err_set(err, "cannot create an eventfd: %s", strerror(errno));
	vm->poller = poller_create(vm, err);
	if (!vm->poller)
		return -1;
	vcpu_reset(vm->vcpu);
	if (ram_init(&vm->ram, config->memory, err) < 0)
		return -1;
	vm->ahead = ahead_create(vm);
	if (mmu_init(&vm->mmu, err) < 0 || clock_init(&vm->clock, config->clock, vm->vcpu, err) < 0 ||
	    platform_create(vm, err) < 0 || virtio_create_all(vm, err) < 0)
		return -1;
	vm->counted = config->clock == CLOCK_SOURCE_INSTRUCTIONS || config->count || config->trace_interval ||
		      config->stop_after;
	vm->interp = interp_create(vm, err);
	if (!vm->interp || live_signals_init(vm, err) < 0)
		return -1;
	if (config->engine != ENGINE_INTERP) {
		vm->live = live_create(vm, err);
		if (!vm->live)
			return -1;
		if (open_caches(vm, err) < 0)
			return -1;
	}
	if (trace_open(vm, &vm->tracer, err) < 0 || perf_map_open(vm, &vm->perf_map, err) < 0)
		return -1;
	if ((config->kernel_path || config->kernel) && boot_linux(vm, err) < 0)
		return -1;
	mmu_load_cr3(vm->vcpu, false);
	if (virtio_net_start(vm, err) < 0)
		return -1;
	return debugger_create(vm, &vm->debugger, err);
}

struct vm *vm_create(const struct vm_config *config, struct console *console, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		err_set(err, "out of memory");
		return NULL;
	}
	vm->config = *config;
	vm->console = console;
	vm->wake_fd = -1;
	if (build(vm, err) < 0) {
		vm_destroy(vm);
		return NULL;
	}
	vm->config.kernel = vm->config.initrd = NULL; /* the caller's, who may release them now */
	vm->config.append = NULL;
	set_limits(vm);
	if (console->attach(console, vm, err) < 0 ||
	    (config->virtio_console && config->virtio_console != console &&
	     config->virtio_console->attach(config->virtio_console, vm, err) < 0)) {
		vm_destroy(vm);
		return NULL;
	}
	return vm;
}

void vm_run(struct vm *vm)
{
	loop_run(vm);
}

int vm_write_recording(struct vm *vm, int fd, struct err *err)
{
	struct recorder *recorder = vm->live->recorder;

	recorder_harvest(recorder, false);
	recorder_harvest(recorder, true);
	return recorder_write(recorder, vm->live, fd, vm->config.record_path, err);
}

void vm_destroy(struct vm *vm)
{
	ahead_destroy(vm->ahead);
	debugger_destroy(vm);
	trace_close(vm->tracer);
	perf_map_close(vm->perf_map);
	live_destroy(vm->live);
	interp_destroy(vm->interp);
	virtio_destroy_all(vm);
	platform_destroy(vm);
	poller_destroy(vm->poller);
	clock_release(&vm->clock);
	mmu_release(&vm->mmu);
	ram_release(&vm->ram);
	if (vm->vcpu)
		munmap(vm->vcpu, align_up(sizeof(struct vcpu), PAGE_SIZE));
	if (vm->wake_fd >= 0)
		close(vm->wake_fd);
	free(vm->signal_stack);
	free(vm);
}

void vm_wake(struct vm *vm)
{
	u64 one = 1;

	vcpu_notify(vm->vcpu);
	if (__atomic_load_n(&vm->sleeping, __ATOMIC_SEQ_CST) && write(vm->wake_fd, &one, sizeof(one)) < 0)
		return; /* full: it is awake already */
}

void vm_sleep(struct vm *vm)
{
	struct pollfd wake[] = {{.fd = vm->wake_fd, .events = POLLIN}, {.fd = poller_fd(vm->poller), .events = POLLIN}};
	struct timespec timeout, *limit = NULL;
	u64 deadline = clock_next_deadline(&vm->clock), now = clock_ns(&vm->clock), drained;

	if (deadline != CLOCK_NEVER) {
		u64 wait = deadline > now ? deadline - now : 0;

		timeout =
			(struct timespec){.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
		limit = &timeout;
	}
	poller_park(vm->poller);
	__atomic_store_n(&vm->sleeping, true, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&vm->vcpu->event, __ATOMIC_SEQ_CST) && ppoll(wake, ARRAY_SIZE(wake), limit, NULL) > 0 &&
	    (wake[0].revents & POLLIN) && read(vm->wake_fd, &drained, sizeof(drained)) < 0)
		wake[0].revents = 0; /* somebody else's wake-up was drained with an earlier one */
	__atomic_store_n(&vm->sleeping, false, __ATOMIC_SEQ_CST);
}
