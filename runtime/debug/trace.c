#include "debug/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "debug/gdb_registers.h"
#include "debug/symbols.h"
#include "interp/interp.h"
#include "mem/mem.h"
#include "vm.h"
#include "x86/insn.h"

struct tracer {
	FILE *file;
	struct symbols *symbols; /* or NULL */
	u64 interval, stop_after, ram;
	bool insn;
	u64 next; /* instruction count of the next line */
	u64 lines;
};

static int open_files(struct tracer *tracer, const struct vm_config *config, struct err *err)
{
	if (config->symbols_path) {
		tracer->symbols = symbols_load(config->symbols_path, err);
		if (!tracer->symbols)
			return -1;
	}
	tracer->file = fopen(config->trace_path, "we");
	if (!tracer->file)
		return err_set(err, "cannot create '%s': %s", config->trace_path, strerror(errno));
	return 0;
}

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
	tracer->ram = config->trace_ram;
	tracer->insn = config->trace_insn;
	tracer->next = config->trace_from ? config->trace_from : tracer->interval ? tracer->interval : UINT64_MAX;
	if (config->trace_path && open_files(tracer, config, err) < 0) {
		trace_close(tracer);
		return -1;
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
	symbols_free(tracer->symbols);
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

/* What is at rip, without the side effects of a fetch. */
static void write_next(struct tracer *tracer, struct vcpu *v)
{
	u8 bytes[INSN_MAX];
	unsigned count = 0;
	struct insn insn;
	char text[128];
	u64 pc = interp_pc(v), gpa, offset;

	for (; count < sizeof(bytes); count++) {
		const u8 *at = mmu_peek(v, pc + count, &gpa) ? ram_at(&v->vm->ram, gpa) : NULL;

		if (!at)
			break;
		bytes[count] = *at;
	}
	if (insn_decode_code(&insn, bytes, count, interp_code(v)) < 0)
		snprintf(text, sizeof(text), "(not readable)");
	else
		insn_format(&insn, v->rip, text, sizeof(text));
	const char *name = tracer->symbols ? symbols_find(tracer->symbols, v->rip, &offset) : NULL;

	if (name)
		fprintf(tracer->file, " %s+0x%" PRIx64, name, offset);
	fprintf(tracer->file, " : %s", text);
}

static void write_line(struct tracer *tracer, struct vcpu *v)
{
	u64 vectors = hash_words(0, v->xsave + 160, 16 * 16);

	fprintf(tracer->file,
		"%" PRIu64 " rip=%016" PRIx64 " flags=%06" PRIx64 " cr3=%010" PRIx64 " regs=%016" PRIx64
		" xmm=%016" PRIx64,
		v->icount, v->rip, vcpu_rflags(v), v->cr3, hash_registers(v), vectors);
	if (tracer->ram && tracer->lines++ % tracer->ram == 0)
		fprintf(tracer->file, " ram=%016" PRIx64, hash_words(0, v->vm->ram.host, v->vm->ram.size));
	if (tracer->insn)
		write_next(tracer, v);
	fputc('\n', tracer->file);
}

/* All registers, one a line, most significant digits first. */
static void write_registers(struct tracer *tracer, struct vcpu *v)
{
	u8 bytes[GDB_REGISTER_BYTES];

	fprintf(tracer->file, "end %" PRIu64, v->icount);
	write_next(tracer, v);
	fputc('\n', tracer->file);
	for (unsigned n = 0; n < gdb_register_count(); n++) {
		gdb_register_read(v, n, bytes);
		fprintf(tracer->file, "  %-10s ", gdb_register_name(n));
		for (unsigned i = gdb_register_size(n); i-- > 0;)
			fprintf(tracer->file, "%02x", bytes[i]);
		fputc('\n', tracer->file);
	}
}

static void stop(struct tracer *tracer, struct vcpu *v)
{
	char text[80];

	if (tracer->file && v->vm->exit == EXIT_RUNNING)
		write_registers(tracer, v);
	snprintf(text, sizeof(text), "the limit of %" PRIu64 " instructions was reached", tracer->stop_after);
	vm_stop_message(v->vm, EXIT_LIMIT, text);
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
		stop(tracer, v);
	v->event = 1;
}
