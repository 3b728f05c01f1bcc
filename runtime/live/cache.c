/* Memory of the code cache, its tables, and the life of units that needs more than general registers. */
#include "live/aot.h"
#include "live/aot_module.h"
#include "live/aot_template.h"
#include "live/clone.h"
#include "live/code_pages.h"
#include "live/guest_bytes.h"
#include "live/live.h"
#include "live/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "debug/perf_map.h"
#include "translate/module_code.h"
#include "translate/translate.h"
#include "vm.h"

void live_stub_helper(void);
void live_stub_interp(void);
void live_stub_tlb_miss(void);
void live_stub_window_miss(void);
void live_stub_jump_miss(void);
void live_stub_return_miss(void);
void live_stub_target_miss(void);
void live_stub_link(void);
void live_stub_poll(void);
void live_stub_budget(void);
void live_stub_underflow(void);
void live_stub_careful(void);
void live_stub_fill_read1(void);
void live_stub_fill_read2(void);
void live_stub_fill_read4(void);
void live_stub_fill_read8(void);
void live_stub_fill_read16(void);
void live_stub_fill_read32(void);
void live_stub_fill_write1(void);
void live_stub_fill_write2(void);
void live_stub_fill_write4(void);
void live_stub_fill_write8(void);
void live_stub_fill_write16(void);
void live_stub_fill_write32(void);
void live_stub_movs1(void);
void live_stub_movs4(void);
void live_stub_movs8(void);
void live_stub_stos1(void);
void live_stub_stos4(void);
void live_stub_stos8(void);
void live_stub_pushf(void);

/* Unless the user wants another size. */
#define CODE_SIZE_LEAST 0x4000000u
#define CODE_SIZE_MOST  0x10000000u

struct table {
	void **at;
	u64 bytes;
};

static u64 tables_size(const struct table *tables, unsigned count)
{
	u64 size = 0;

	for (unsigned i = 0; i < count; i++)
		size += align_up(tables[i].bytes, PAGE_SIZE);
	return size;
}

/* One mapping for tables, at `address` or where the kernel likes. NULL with a message in err. */
static void *map_tables(void *address, struct table *tables, unsigned count, u64 *size, struct err *err)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (address ? MAP_FIXED_NOREPLACE : 0);
	u8 *memory, *at;

	*size = tables_size(tables, count);
	memory = at = mmap(address, *size, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (memory == MAP_FAILED) {
		err_set(err, "cannot map the translation tables: %s", strerror(errno));
		return NULL;
	}
	for (unsigned i = 0; i < count; i++) {
		*tables[i].at = at;
		at += align_up(tables[i].bytes, PAGE_SIZE);
	}
	return memory;
}

/* Splits the metadata regions into tables; how many elements a byte of code needs at most is measured.
 * Generated code names those of the first region by abs32. */
static int carve_tables(struct live *live, struct err *err)
{
	struct store *store = &live->store;
	u64 size = live->code_size - live->code_size / 4; /* clones keep the rest */

	/* bound units of caches take records, too, however small the code cache is */
	store->unit_max = (u32)(size / 160) + AOT_UNITS_MAX;
	store->pc_max = (u32)(size / 16);
	store->entry_max = (u32)(size / 96) + 4 * AOT_UNITS_MAX;
	store->landing_max = store->entry_max;
	store->link_max = (u32)(size / 64);
	store->insn_max = (u32)(size / 320);
	store->counter_max = store->recording ? (u32)(size / 64) : 0;
	store->target_max = TARGET_SIZE;
	store->bound_first = store->unit_max;
	live->form_insn_max = (u32)(live->code_size / 320);
	live->form_counter_max = store->recording ? (u32)(live->code_size / 64) : 0;
	struct table named[] = {
		{(void **)&store->counters, store->counter_max * sizeof(u64)},
		{(void **)&store->insns, store->insn_max * sizeof(struct insn)},
		{(void **)&live->form_insns, live->form_insn_max * sizeof(struct insn)},
		{(void **)&live->form_counters, live->form_counter_max * sizeof(u64)},
	};
	struct table others[] = {
		{(void **)&store->units, (store->unit_max + clones_unit_max(live->code_size)) * sizeof(struct unit)},
		{(void **)&store->pcs, store->pc_max * sizeof(struct pc_entry)},
		{(void **)&store->entries, store->entry_max * sizeof(struct entry)},
		{(void **)&store->landings, store->landing_max * sizeof(u32)},
		{(void **)&store->links, store->link_max * sizeof(struct link)},
		{(void **)&store->targets, TARGET_SIZE * sizeof(struct target)},
		{(void **)&store->target_hash, sizeof(u32) << TARGET_HASH_BITS},
		{(void **)&live->copied, AOT_UNITS_MAX * sizeof(u32)},
		{(void **)&live->hash, sizeof(u32) << ENTRY_HASH_BITS},
		{(void **)&live->frame_head, live->frame_count * sizeof(u32)},
		{(void **)&live->frame_drops, live->frame_count * sizeof(u32)},
	};

	if (tables_size(named, ARRAY_SIZE(named)) > LIVE_META_MAX)
		return err_set(err, "a code cache of %llu MiB is too large", (unsigned long long)live->code_size >> 20);
	live->named = map_tables((void *)LIVE_META_ADDRESS, named, ARRAY_SIZE(named), &live->named_size, err);
	if (!live->named)
		return -1;
	live->meta = map_tables(NULL, others, ARRAY_SIZE(others), &live->meta_size, err);
	return live->meta ? 0 : -1;
}

/*
 * Two views of one shared anonymous mapping: W^X without a page that is both. (Not a memfd: perf takes symbols from a
 * perf map for anonymous memory only.)
 */
static int map_code(struct live *live, struct err *err)
{
	live->code_room =
		mmap(NULL, live->code_size + CODE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (live->code_room == MAP_FAILED)
		return err_set(err, "cannot create the code cache: %s", strerror(errno));
	live->store.code_rw =
		mmap((void *)align_up((u64)live->code_room, CODE_PAGE), live->code_size, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	if (live->store.code_rw == MAP_FAILED)
		return err_set(err, "cannot create the code cache: %s", strerror(errno));
	u8 *at = mmap((void *)LIVE_CODE_ADDRESS, live->code_size, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == MAP_FAILED)
		return err_set(err, "cannot map the code cache at %#lx: %s", LIVE_CODE_ADDRESS, strerror(errno));
	live->store.code = at;
	/* an old size of 0 duplicates a shared mapping (mremap(2)) */
	if (mremap(live->store.code_rw, 0, live->code_size, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED ||
	    mprotect(at, live->code_size, PROT_READ | PROT_EXEC) < 0)
		return err_set(err, "cannot map the code cache twice: %s", strerror(errno));
	return 0;
}

static void set_stubs(struct vcpu *v)
{
	v->stub[STUB_HELPER] = (void *)live_stub_helper;
	v->stub[STUB_INTERP] = (void *)live_stub_interp;
	v->stub[STUB_TLB_MISS] = (void *)live_stub_tlb_miss;
	v->stub[STUB_WINDOW_MISS] = (void *)live_stub_window_miss;
	v->stub[STUB_JUMP_MISS] = (void *)live_stub_jump_miss;
	v->stub[STUB_RETURN_MISS] = (void *)live_stub_return_miss;
	v->stub[STUB_TARGET_MISS] = (void *)live_stub_target_miss;
	v->stub[STUB_LINK] = (void *)live_stub_link;
	v->stub[STUB_POLL] = (void *)live_stub_poll;
	v->stub[STUB_BUDGET] = (void *)live_stub_budget;
	v->stub[STUB_CAREFUL] = (void *)live_stub_careful;
	v->stub[STUB_FILL_READ + 0] = (void *)live_stub_fill_read1;
	v->stub[STUB_FILL_READ + 1] = (void *)live_stub_fill_read2;
	v->stub[STUB_FILL_READ + 2] = (void *)live_stub_fill_read4;
	v->stub[STUB_FILL_READ + 3] = (void *)live_stub_fill_read8;
	v->stub[STUB_FILL_READ + 4] = (void *)live_stub_fill_read16;
	v->stub[STUB_FILL_READ + 5] = (void *)live_stub_fill_read32;
	v->stub[STUB_FILL_WRITE + 0] = (void *)live_stub_fill_write1;
	v->stub[STUB_FILL_WRITE + 1] = (void *)live_stub_fill_write2;
	v->stub[STUB_FILL_WRITE + 2] = (void *)live_stub_fill_write4;
	v->stub[STUB_FILL_WRITE + 3] = (void *)live_stub_fill_write8;
	v->stub[STUB_FILL_WRITE + 4] = (void *)live_stub_fill_write16;
	v->stub[STUB_FILL_WRITE + 5] = (void *)live_stub_fill_write32;
	v->stub[STUB_MOVS1] = (void *)live_stub_movs1;
	v->stub[STUB_MOVS4] = (void *)live_stub_movs4;
	v->stub[STUB_MOVS8] = (void *)live_stub_movs8;
	v->stub[STUB_STOS1] = (void *)live_stub_stos1;
	v->stub[STUB_STOS4] = (void *)live_stub_stos4;
	v->stub[STUB_STOS8] = (void *)live_stub_stos8;
	v->stub[STUB_PUSHF] = (void *)live_stub_pushf;
}

/* Two stacks with an unmapped page below each; the top word of each is the sentinel. */
static int map_predictions(struct err *err)
{
	u8 *at = mmap((void *)PREDICTION_ADDRESS, 2 * PREDICTION_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == MAP_FAILED)
		return err_set(err, "cannot map the return prediction stacks at %#lx: %s", PREDICTION_ADDRESS,
			       strerror(errno));
	for (unsigned i = 0; i < 2; i++) {
		u8 *bottom = at + i * PREDICTION_SIZE;
		void (**sentinel)(void) = (void (**)(void))(bottom + PREDICTION_SIZE - 16);

		*sentinel = live_stub_underflow;
		if (mprotect(bottom, PREDICTION_GUARD, PROT_NONE) < 0)
			return err_set(err, "cannot protect the return prediction stacks: %s", strerror(errno));
	}
	return 0;
}

/*
 * Code takes some twenty times the guest's bytes. What a desktop's compiler executes is 5 MB; in a code cache that is
 * too small for what goes round and round everything is made again each time.
 */
static u64 default_code_size(u64 memory)
{
	u64 size = memory / 4 / PAGE_SIZE * PAGE_SIZE;

	return size < CODE_SIZE_LEAST ? CODE_SIZE_LEAST : size > CODE_SIZE_MOST ? CODE_SIZE_MOST : size;
}

struct live *live_create(struct vm *vm, struct err *err)
{
	struct live *live = calloc(1, sizeof(*live));

	if (live)
		live->translation = translation_create();
	if (!live || !live->translation) {
		free(live);
		err_set(err, "out of memory");
		return NULL;
	}
	live->vm = vm;
	live->code_size =
		vm->config.code_cache_size ? vm->config.code_cache_size : default_code_size(vm->config.memory);
	live->frame_count = vm->ram.size >> PAGE_SHIFT;
	live->store.bmi2 = __builtin_cpu_supports("bmi2");
	live->store.counted = vm->clock.source == CLOCK_SOURCE_INSTRUCTIONS || vm->config.count;
	live->store.exact_flags = vm->config.trace_interval != 0;
	live->store.returns_host = vm->config.returns == RETURNS_HOST;
	live->store.origin = ORIGIN_LIVE;
	live->store.recording = vm->config.record_path != NULL;
	live->store.code_rw = live->store.code = live->code_room = MAP_FAILED;
	if (live->store.recording) {
		live->recorder = recorder_create(err);
		if (!live->recorder) {
			live_destroy(live);
			return NULL;
		}
	}
	if (carve_tables(live, err) < 0 || clones_create(live, err) < 0 || map_code(live, err) < 0 ||
	    map_predictions(err) < 0) {
		live_destroy(live);
		return NULL;
	}
	set_stubs(vm->vcpu);
	mmu_set_target_miss(&vm->mmu, (void *)live_stub_target_miss);
	live_flush(live);
	return live;
}

void live_destroy(struct live *live)
{
	if (!live)
		return;
	if (live->code_room != MAP_FAILED)
		munmap(live->code_room, live->code_size + CODE_PAGE);
	if (live->store.code != MAP_FAILED)
		munmap(live->store.code, live->code_size);
	clones_destroy(live);
	if (live->named)
		munmap(live->named, live->named_size);
	if (live->meta)
		munmap(live->meta, live->meta_size);
	munmap((void *)PREDICTION_ADDRESS, 2 * PREDICTION_SIZE);
	for (unsigned i = 0; i < live->aot_count; i++) {
		aot_templates_destroy(live->aot_templates[i]);
		aot_close(live->aot[i]);
	}
	aot_modules_destroy(live->modules);
	recorder_destroy(live->recorder);
	translation_destroy(live->translation);
	free(live);
}

static void forget_frames(struct live *live, const struct unit *unit)
{
	live_forget_frame(live, unit->gpa);
	if (unit->gpa_next != NO_FRAME)
		live_forget_frame(live, unit->gpa_next);
}

void live_flush(struct live *live)
{
	struct vm *vm = live->vm;
	struct emitter e = {live->store.code_rw, live->store.code_rw, live->store.code_rw + CACHE_FIRST_OFFSET, false};

	/* dropped ones too: a frame's chain may hold units that were dropped through their other frame */
	for (u32 i = 1; i < live->store.unit_count; i++)
		forget_frames(live, &live->store.units[i]);
	for (u32 i = live->store.bound_first; i < live->store.unit_max; i++)
		forget_frames(live, &live->store.units[i]);
	aot_unbind_all(live);
	live->store.bound_first = live->store.unit_max;
	live->copied_count = 0;
	if (live->recorder)
		recorder_harvest(live->recorder, false);
	clones_flush(live);
	memset(live->hash, 0, sizeof(u32) << ENTRY_HASH_BITS);
	memset(live->store.target_hash, 0, sizeof(u32) << TARGET_HASH_BITS);
	live->store.target_count = 1;
	live->store.unit_count = live->store.pc_count = live->store.entry_count = live->store.link_count =
		live->store.insn_count = live->store.landing_count = live->store.counter_count = 1;
	aot_number_targets(live);
	live->targets_kept = live->store.target_count;
	live->store.used = CACHE_FIRST_OFFSET;
	live->generation++;
	emit_jmp_mem(&e, ADDRESS_ABS(&vm->vcpu->stub[STUB_JUMP_MISS]));
	e.at = live->store.code_rw + CACHE_STALE_LANDING;
	emit_store(&e, ADDRESS_ABS(&vm->vcpu->rip), HOST_R10);
	emit_jmp_mem(&e, ADDRESS_ABS(&vm->vcpu->stub[STUB_JUMP_MISS]));
	live_reset_predictions(vm->vcpu, false);
	vm->stats.cache_flushes++;
}

/* --- translation of one unit ------------------------------------------------------------------------------------- */

static void chain_frame(struct live *live, u32 number, unsigned which, u64 gpa)
{
	struct ram *ram = &live->vm->ram;
	const u8 *host = ram_at(ram, gpa);
	u32 *head = &live->frame_head[(u64)(host - ram->host) >> PAGE_SHIFT];

	live->store.units[number].next_frame[which] = *head;
	*head = number;
	mmu_protect_frame(live->vm->vcpu, gpa);
}

static void publish(struct live *live, u32 number)
{
	struct unit *unit = &live->store.units[number];

	chain_frame(live, number, 0, unit->gpa);
	if (unit->gpa_next != NO_FRAME)
		chain_frame(live, number, 1, unit->gpa_next);
	for (u32 i = unit->entries; i < unit->entries + unit->entries_count; i++) {
		u32 *head = &live->hash[live_entry_hash(live->store.entries[i].pc)];

		live->store.entries[i].next = *head;
		*head = i;
	}
}

/* Scans at v->rip; *next is the frame of the following page if the first instruction reaches into it. */
static bool scan_here(struct vcpu *v, struct scan *scan, u64 gpa, u32 mode, u64 *next, bool *fault)
{
	struct live *live = v->vm->live;
	const u8 *bytes = ram_at(&v->vm->ram, gpa);
	unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(gpa));
	struct scan_options options = translate_scan_options(&live->store, mode);
	u8 joined[2 * INSN_MAX];

	*next = NO_FRAME;
	if (!bytes)
		return false;
	if (scan_unit(scan, v->rip, bytes, in_page, in_page, &options) == 0)
		return true;
	if (mmu_fetch(v, v->rip + in_page, next) != EXEC_OK) {
		*fault = true;
		return false;
	}
	const u8 *rest = ram_at(&v->vm->ram, *next);

	if (!rest)
		return false;
	memcpy(joined, bytes, in_page);
	memcpy(joined + in_page, rest, INSN_MAX);
	return scan_unit(scan, v->rip, joined, in_page + INSN_MAX, in_page, &options) == 0;
}

static u64 host_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

static u64 frame_number(const struct live *live, u64 gpa)
{
	const struct ram *ram = &live->vm->ram;

	return (u64)(ram_at(ram, gpa) - ram->host) >> PAGE_SHIFT;
}

/* No translation has been made from the frame at gpa, which is RAM, so far. */
static bool is_fresh(const struct live *live, u64 gpa)
{
	u64 frame = frame_number(live, gpa);

	return !live->frame_head[frame] && !live->frame_drops[frame];
}

/* Code that is rewritten all the time is not worth templates. */
#define DROPS_MAX 8

static bool may_clone(const struct vcpu *v, u64 gpa, u32 mode)
{
	const struct live *live = v->vm->live;

	return fixup_moves(v->rip, mode) && ram_at(&v->vm->ram, gpa) && !live->lift &&
	       live_frame_drops(live, frame_number(live, gpa)) <= DROPS_MAX;
}

static u32 clone_here(struct vcpu *v, u64 gpa, u32 mode)
{
	u64 start = host_ns(CLOCK_MONOTONIC);
	u32 number = clones_make(v, gpa, mode);

	v->vm->stats.clone_ns += host_ns(CLOCK_MONOTONIC) - start;
	return number;
}

/* How many units may be bound at once? All of them go each time that their page is written to. */
static unsigned bind_most(const struct live *live, u64 gpa)
{
	return ram_at(&live->vm->ram, gpa) && live_frame_drops(live, frame_number(live, gpa)) > DROPS_MAX
		       ? 1
		       : AOT_TOGETHER;
}

/* A unit of a cache, if one of them has it. */
static u32 bind_here(struct vcpu *v, u64 gpa, u32 mode)
{
	struct live *live = v->vm->live;
	u64 start = host_ns(CLOCK_MONOTONIC);
	u32 numbers[AOT_TOGETHER];
	bool full;
	unsigned most = bind_most(live, gpa), count = aot_bind(v, gpa, mode, numbers, most, &full);

	if (full) {
		live_flush(live);
		count = aot_bind(v, gpa, mode, numbers, most, &full);
	}
	/* a page that has been patched will be again; careful translations are for one access, and go on to others */
	if (count && !(mode & MODE_CAREFUL) && is_fresh(live, gpa))
		count += aot_bind_page(v, gpa, mode, numbers + count, AOT_TOGETHER - count);
	for (unsigned i = 0; i < count; i++) {
		const struct unit *unit = &live->store.units[numbers[i]];

		publish(live, numbers[i]);
		perf_map_add(v->vm, (u64)live->store.code + unit->code, unit->code_end - unit->code, unit->pc);
	}
	if (!(mode & MODE_CAREFUL)) /* those lead to units without it */
		aot_link_page(live, numbers, count);
	v->vm->stats.aot_bind_ns += host_ns(CLOCK_MONOTONIC) - start;
	return count ? numbers[0] : UNIT_NONE;
}

/* Code that is rewritten is not looked for either. */
static bool may_be_module(const struct vcpu *v, u64 gpa, u32 mode)
{
	const struct live *live = v->vm->live;

	return live->modules && module_may_be(v->rip, mode) && !(mode & MODE_CAREFUL) && ram_at(&v->vm->ram, gpa) &&
	       live_frame_drops(live, frame_number(live, gpa)) <= DROPS_MAX;
}

/* The same of a kernel module, which may be anywhere. */
static u32 module_here(struct vcpu *v, u64 gpa, u32 mode)
{
	struct live *live = v->vm->live;
	u64 start = host_ns(CLOCK_MONOTONIC);
	u32 number = aot_modules_make(v, gpa, mode);

	if (number != UNIT_NONE) {
		const struct unit *unit = &live->store.units[number];

		publish(live, number);
		perf_map_add(v->vm, (u64)live->store.code + unit->code, unit->code_end - unit->code, unit->pc);
	}
	v->vm->stats.aot_bind_ns += host_ns(CLOCK_MONOTONIC) - start;
	return number;
}

/* One attempt; UNIT_NONE if something is full. */
static u32 translate_once(struct live *live, u32 mode)
{
	struct translation *t = live->translation;
	const struct translate_parts *parts = NULL;

	code_pages_want(live, live->store.used, live->store.used + CODE_PAGE, live->store.size);
	if (live->lift && !(mode & MODE_CAREFUL))
		parts = live->lift(translation_scan(t), &live->store, mode);
	return translate_unit_with(t, &live->store, mode, parts);
}

static u32 translate_here(struct vcpu *v, u64 gpa, u32 mode, bool *fault)
{
	struct live *live = v->vm->live;
	struct vm_stats *stats = &v->vm->stats;
	u64 next, start = host_ns(CLOCK_THREAD_CPUTIME_ID);

	if (!scan_here(v, translation_scan(live->translation), gpa, mode, &next, fault))
		return UNIT_NONE;
	u32 number = translate_once(live, mode);

	while (number == UNIT_NONE && clones_yield(live))
		number = translate_once(live, mode);
	if (number == UNIT_NONE) {
		live_flush(live);
		number = translate_once(live, mode);
	}
	if (number == UNIT_NONE)
		return UNIT_NONE;
	struct unit *unit = &live->store.units[number];

	unit->gpa = gpa;
	unit->gpa_next = next;
	publish(live, number);
	perf_map_add(v->vm, (u64)live->store.code + unit->code, unit->code_end - unit->code, unit->pc);
	stats->units_translated++;
	stats->instructions_translated += unit->instructions;
	stats->code_bytes += unit->code_end - unit->code;
	stats->translate_ns += host_ns(CLOCK_THREAD_CPUTIME_ID) - start;
	if (live->recorder) {
		u8 joined[GUEST_BYTES_MAX];

		recorder_add(live->recorder, unit, live->store.counters + unit->counters,
			     guest_bytes(v, gpa, unit->guest_bytes, joined, &next), NULL);
	}
	return number;
}

/* A unit for v->rip, from a cache or translated now. */
static u32 make_unit(struct vcpu *v, u64 gpa, bool careful, bool *fault)
{
	u32 mode = vcpu_mode(v) | (careful ? MODE_CAREFUL : 0), number = UNIT_NONE;

	vcpu_fpu_put(v);
	if (v->vm->live->aot_count)
		number = bind_here(v, gpa, mode);
	if (number == UNIT_NONE && may_be_module(v, gpa, mode))
		number = module_here(v, gpa, mode);
	if (number == UNIT_NONE && may_clone(v, gpa, mode))
		number = clone_here(v, gpa, mode);
	return number != UNIT_NONE ? number : translate_here(v, gpa, mode, fault);
}

static void *translate_and_look_up(struct vcpu *v, bool careful, const struct missed *missed, bool *fault)
{
	u64 gpa;

	*fault = mmu_fetch(v, v->rip, &gpa) != EXEC_OK;
	if (*fault)
		return NULL;
	u64 clone_flushes = v->vm->stats.clone_flushes; /* they give numbers of targets other meanings */
	u32 number = make_unit(v, gpa, careful, fault);

	if (number == UNIT_NONE)
		return NULL;
	if (missed->target && v->vm->stats.clone_flushes == clone_flushes)
		live_note_target(v, missed->target, number, missed->saved);
	return careful ? v->vm->live->store.code + v->vm->live->store.units[number].code : live_note_unit(v, number);
}

void *live_find(struct vcpu *v, bool *fault)
{
	struct live *live = v->vm->live;
	struct missed missed = live->missed;
	void *code = NULL;

	live->missed.yes = false;
	if (!missed.yes || missed.pc != v->rip) {
		missed = (struct missed){0};
		code = live_lookup(v);
	}
	*fault = false;
	return code ? code : translate_and_look_up(v, false, &missed, fault);
}

void *live_find_careful(struct vcpu *v, bool *fault)
{
	const struct missed none = {0};
	void *code = live_lookup_careful(v);

	*fault = false;
	return code ? code : translate_and_look_up(v, true, &none, fault);
}

/* Where small pieces of code go that belong to a unit: they must last as long as it does. */
static bool begin_piece(struct live *live, u32 owner, struct emitter *e)
{
	struct store *store = &live->store;

	if (is_clone(live, owner))
		return clones_begin_piece(live, e);
	*e = (struct emitter){store->code_rw, store->code_rw + store->used, store->code_rw + store->size, false};
	return true;
}

static void end_piece(struct live *live, u32 owner, const struct emitter *e)
{
	if (is_clone(live, owner))
		clones_end_piece(live, e);
	else
		live->store.used = align_up(store_offset(&live->store, e->at), 16);
}

/*
 * A jump to the target straight from this unit is not possible: it reaches into the next page, whose mapping may
 * change, or it may go before the unit does. A piece of code that goes through the jump table; its offset, or 0 if
 * there is no room.
 */
static u32 emit_table_jump(struct live *live, u32 owner, u64 target, bool saved)
{
	struct translation *t = live->translation;

	t->v = live->vm->vcpu;
	t->store = &live->store;
	if (!begin_piece(live, owner, &t->e))
		return 0;
	u32 at = store_offset(&live->store, t->e.at);

	t->flags_saved = saved;
	translate_need_flags(t, R9);
	translate_goto_far(t, target, false);
	if (t->e.overflow)
		return 0;
	end_piece(live, owner, &t->e);
	return at;
}

static bool is_clone_link(u32 number)
{
	return number >= CLONE_FIRST_LINK && number < AOT_FIRST_LINK;
}

static struct link link_at(const struct live *live, u32 number)
{
	if (number >= AOT_FIRST_LINK)
		return aot_link(live, number);
	return is_clone_link(number) ? clone_link(live, number) : live->store.links[number];
}

static void complete_link(struct live *live, u32 number, const struct link *link, u32 code)
{
	struct store *store = &live->store;

	if (number >= AOT_FIRST_LINK)
		aot_set_link(live, number, (u64)(uintptr_t)store->code + code);
	else
		emit_patch(store->code_rw + link->patch, store->code_rw + code);
}

/* The unit at v->rip that a jump from a unit of its page leads to. */
static u32 linked_unit(struct vcpu *v, u32 from)
{
	const struct live *live = v->vm->live;
	u64 gpa;
	u32 to = UNIT_NONE;

	/* a clone that is older will be gone earlier; it is made again */
	if (is_clone(live, from) && mmu_fetch(v, v->rip, &gpa) == EXEC_OK)
		to = clones_find(v, gpa, true, vcpu_mode(v), clone_age(live, from)).unit;
	if (to != UNIT_NONE)
		return to;
	to = live_lookup_unit(v);
	return to != UNIT_NONE && is_clone(live, from) && is_clone(live, to) ? UNIT_NONE : to;
}

/* May a jump lead straight from one to the other, both units of one page and mode? */
static bool may_link(const struct live *live, u32 from, u32 to)
{
	if (live->store.units[to].gpa_next != NO_FRAME)
		return false;
	if (!is_clone(live, to))
		return true;
	return is_clone(live, from) && clone_age(live, to) >= clone_age(live, from) && clones_agree(live, from, to);
}

void live_take_link(struct vcpu *v, u32 number)
{
	struct live *live = v->vm->live;
	u64 generation = live->generation, gpa;
	struct link link = link_at(live, number);
	bool fault;

	v->rip = link.target;
	u32 to = linked_unit(v, link.unit);

	if (to == UNIT_NONE && mmu_fetch(v, v->rip, &gpa) == EXEC_OK)
		to = make_unit(v, gpa, false, &fault);
	if (to == UNIT_NONE || link.unit == UNIT_NONE || live->generation != generation)
		return;
	const struct unit *from = &live->store.units[link.unit], *unit = &live->store.units[to];

	if (from->dropped || PAGE_BASE(unit->gpa) != PAGE_BASE(from->gpa) || unit->mode != (from->mode & ~MODE_CAREFUL))
		return;
	bool direct = may_link(live, link.unit, to);

	if (is_clone_link(number))
		clone_note_link(live, number, to, direct);
	u32 code = !direct      ? emit_table_jump(live, link.unit, link.target, link.saved)
		   : link.saved ? unit->saved
				: unit->body;

	if (code)
		complete_link(live, number, &link, code);
}
