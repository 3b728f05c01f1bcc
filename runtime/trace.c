#include "trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm.h"

/* One line in so many also hashes all of RAM. */
#define LINES_PER_RAM_HASH 64

struct tracer {
	FILE *file;
	u64 interval, stop_after;
	u64 next; /* instruction count of the next line */
	u64 lines;
};

int trace_open(struct vm *vm, struct tracer **result, struct err *err)
{
	const struct vm_config *config = &vm->config;

	*result = NULL;
	if (!config->trace_interval && !config->stop_after)
		return 0;
	struct tracer *tracer = calloc(1, sizeof(*tracer));

	if (!tracer)
		return err_set(err, "out of memory");
	tracer->interval = config->trace_interval;
	tracer->stop_after = config->stop_after;
	tracer->next = tracer->interval ? tracer->interval : UINT64_MAX;
	if (config->trace_path) {
		tracer->file = fopen(config->trace_path, "w");
		if (!tracer->file) {
			free(tracer);
			return err_set(err, "cannot create '%s': %s", config->trace_path, strerror(errno));
		}
	}
	*result = tracer;
	return 0;
}

void trace_close(struct tracer *tracer)
{
	if (!tracer)
		return;
	if (tracer->file && fclose(tracer->file) != 0)
		warn("the trace is incomplete: %s", strerror(errno));
	free(tracer);
}

void trace_limit_budget(struct tracer *tracer, struct vcpu *v)
{
	u64 next = tracer->next;

	if (tracer->stop_after && tracer->stop_after < next)
		next = tracer->stop_after;
	s64 left = next > v->icount ? (s64)(next - v->icount) : 0;

	if (left < v->budget)
		v->budget = left;
}

static u64 hash_words(u64 hash, const void *data, u64 bytes)
{
	const u64 *word = data;

	for (u64 i = 0; i < bytes / 8; i++) {
		hash = (hash ^ word[i]) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 29;
	}
	return hash;
}

static u64 hash_registers(const struct vcpu *v)
{
	u64 extra[] = {v->rip,
		       vcpu_rflags(v),
		       v->cr0,
		       v->cr2,
		       v->cr3,
		       v->cr4,
		       v->efer,
		       v->cpl,
		       v->gs_base,
		       v->fs_base,
		       v->kernel_gs_base,
		       v->seg[SEG_CS].selector,
		       v->seg[SEG_SS].selector};
	u64 hash = hash_words(0, v->gpr, sizeof(v->gpr));

	return hash_words(hash, extra, sizeof(extra));
}

static void write_line(struct tracer *tracer, struct vcpu *v)
{
	u64 vectors = hash_words(0, v->xsave + 160, 16 * 16);

	fprintf(tracer->file, "%" PRIu64 " rip=%016" PRIx64 " regs=%016" PRIx64 " xmm=%016" PRIx64, v->icount, v->rip,
		hash_registers(v), vectors);
	if (tracer->lines++ % LINES_PER_RAM_HASH == 0)
		fprintf(tracer->file, " ram=%016" PRIx64, hash_words(0, v->vm->ram.host, v->vm->ram.size));
	fputc('\n', tracer->file);
}

void trace_step(struct tracer *tracer, struct vcpu *v)
{
	vcpu_fpu_put(v);
	if (v->icount >= tracer->next) {
		tracer->next += tracer->interval;
		if (tracer->file)
			write_line(tracer, v);
	}
	if (tracer->stop_after && v->icount >= tracer->stop_after)
		vm_stop(v->vm, EXIT_LIMIT, 0);
	v->event = 1;
}
