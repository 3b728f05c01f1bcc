/* Memory of the code cache, its tables, and the life of units that needs more than general registers. */
#include "live/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "debug/perf_map.h"
#include "live/translate.h"
#include "vm.h"

void live_stub_helper(void);
void live_stub_interp(void);
void live_stub_tlb_miss(void);
void live_stub_window_miss(void);
void live_stub_jump_miss(void);
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
void live_stub_fill_write1(void);
void live_stub_fill_write2(void);
void live_stub_fill_write4(void);
void live_stub_fill_write8(void);

#define TABLE_ADD(name, type)                                                                                          \
	type *cache_add_##name(struct live *live)                                                                      \
	{                                                                                                              \
		return live->name##_count < live->name##_max ? &live->name##s[live->name##_count++] : NULL;            \
	}

TABLE_ADD(pc, struct pc_entry)
TABLE_ADD(link, struct link)
TABLE_ADD(insn, struct insn)

/* There is room: no unit has more landings than entries, of which there are as many at most. */
void cache_add_landing(struct live *live, u32 code)
{
	if (live->landing_count < live->landing_max)
		live->landings[live->landing_count++] = code;
}

bool cache_add_entry(struct live *live, u32 unit, u64 pc, u32 code)
{
	if (live->entry_count == live->entry_max)
		return false;
	live->entries[live->entry_count] = (struct entry){.pc = pc, .unit = unit, .code = code};
	live->entry_count++;
	return true;
}

u32 cache_target(struct live *live, u64 pc)
{
	u32 found = live_find_target(live, pc);

	if (found || live->target_count == TARGET_SIZE)
		return found;
	u32 *head = &live->target_hash[(pc * 0x9e3779b97f4a7c15ULL) >> (64 - TARGET_HASH_BITS)];

	live->targets[live->target_count] = (struct target){.pc = pc, .next = *head};
	*head = live->target_count;
	return live->target_count++;
}

/* Splits the metadata region into tables; how many elements a byte of code needs at most is measured (README). */
static int carve_tables(struct live *live, struct err *err)
{
	u64 size = live->size;

	live->unit_max = (u32)(size / 160);
	live->pc_max = (u32)(size / 16);
	live->entry_max = (u32)(size / 96);
	live->landing_max = live->entry_max;
	live->link_max = (u32)(size / 64);
	live->insn_max = (u32)(size / 320);
	struct {
		void **table;
		u64 bytes;
	} tables[] = {
		{(void **)&live->units, live->unit_max * sizeof(struct unit)},
		{(void **)&live->pcs, live->pc_max * sizeof(struct pc_entry)},
		{(void **)&live->entries, live->entry_max * sizeof(struct entry)},
		{(void **)&live->landings, live->landing_max * sizeof(u32)},
		{(void **)&live->links, live->link_max * sizeof(struct link)},
		{(void **)&live->insns, live->insn_max * sizeof(struct insn)},
		{(void **)&live->targets, TARGET_SIZE * sizeof(struct target)},
		{(void **)&live->target_hash, sizeof(u32) << TARGET_HASH_BITS},
		{(void **)&live->hash, sizeof(u32) << ENTRY_HASH_BITS},
		{(void **)&live->frame_head, live->frame_count * sizeof(u32)},
	};
	u64 total = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
		total += align_up(tables[i].bytes, PAGE_SIZE);
	if (total > LIVE_META_MAX)
		return err_set(err, "a code cache of %llu MiB is too large", (unsigned long long)size >> 20);
	u8 *at = mmap((void *)LIVE_META_ADDRESS, total, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == MAP_FAILED)
		return err_set(err, "cannot map the translation tables at %#lx: %s", LIVE_META_ADDRESS,
			       strerror(errno));
	live->meta_size = total;
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		*tables[i].table = at;
		at += align_up(tables[i].bytes, PAGE_SIZE);
	}
	return 0;
}

/*
 * Two views of one shared anonymous mapping: W^X without a page that is both. (Not a memfd: perf takes symbols from a
 * perf map for anonymous memory only.)
 */
static int map_code(struct live *live, struct err *err)
{
	live->code_rw =
		mmap(NULL, live->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (live->code_rw == MAP_FAILED)
		return err_set(err, "cannot create the code cache: %s", strerror(errno));
	u8 *at = mmap((void *)LIVE_CODE_ADDRESS, live->size, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (at == MAP_FAILED)
		return err_set(err, "cannot map the code cache at %#lx: %s", LIVE_CODE_ADDRESS, strerror(errno));
	live->code = at;
	/* an old size of 0 duplicates a shared mapping (mremap(2)) */
	if (mremap(live->code_rw, 0, live->size, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED ||
	    mprotect(at, live->size, PROT_READ | PROT_EXEC) < 0)
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
	v->stub[STUB_TARGET_MISS] = (void *)live_stub_target_miss;
	v->stub[STUB_LINK] = (void *)live_stub_link;
	v->stub[STUB_POLL] = (void *)live_stub_poll;
	v->stub[STUB_BUDGET] = (void *)live_stub_budget;
	v->stub[STUB_CAREFUL] = (void *)live_stub_careful;
	v->stub[STUB_FILL_READ + 0] = (void *)live_stub_fill_read1;
	v->stub[STUB_FILL_READ + 1] = (void *)live_stub_fill_read2;
	v->stub[STUB_FILL_READ + 2] = (void *)live_stub_fill_read4;
	v->stub[STUB_FILL_READ + 3] = (void *)live_stub_fill_read8;
	v->stub[STUB_FILL_WRITE + 0] = (void *)live_stub_fill_write1;
	v->stub[STUB_FILL_WRITE + 1] = (void *)live_stub_fill_write2;
	v->stub[STUB_FILL_WRITE + 2] = (void *)live_stub_fill_write4;
	v->stub[STUB_FILL_WRITE + 3] = (void *)live_stub_fill_write8;
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

struct live *live_create(struct vm *vm, struct err *err)
{
	struct live *live = calloc(1, sizeof(*live));

	if (live)
		live->translation = malloc(sizeof(struct translation) + sizeof(struct scan));
	if (!live || !live->translation) {
		free(live);
		err_set(err, "out of memory");
		return NULL;
	}
	live->vm = vm;
	live->size = vm->config.code_cache_size;
	live->frame_count = vm->ram.size >> PAGE_SHIFT;
	live->bmi2 = __builtin_cpu_supports("bmi2");
	live->counted = vm->clock.source == CLOCK_SOURCE_INSTRUCTIONS || vm->config.count;
	live->exact_flags = vm->config.trace_interval != 0;
	live->returns_host = vm->config.returns == RETURNS_HOST;
	live->code_rw = live->code = MAP_FAILED;
	if (carve_tables(live, err) < 0 || map_code(live, err) < 0 || map_predictions(err) < 0) {
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
	if (live->code_rw != MAP_FAILED)
		munmap(live->code_rw, live->size);
	if (live->code != MAP_FAILED)
		munmap(live->code, live->size);
	if (live->meta_size)
		munmap((void *)LIVE_META_ADDRESS, live->meta_size);
	munmap((void *)PREDICTION_ADDRESS, 2 * PREDICTION_SIZE);
	free(live->translation);
	free(live);
}

void live_flush(struct live *live)
{
	struct vm *vm = live->vm;
	struct emitter e = {live->code_rw, live->code_rw, live->code_rw + CACHE_FIRST_OFFSET, false};

	/* dropped ones too: a frame's chain may hold units that were dropped through their other frame */
	for (u32 i = 1; i < live->unit_count; i++) {
		live_forget_frame(live, live->units[i].gpa);
		if (live->units[i].gpa_next != NO_FRAME)
			live_forget_frame(live, live->units[i].gpa_next);
	}
	live->dropped_code = true;
	memset(live->hash, 0, sizeof(u32) << ENTRY_HASH_BITS);
	memset(live->target_hash, 0, sizeof(u32) << TARGET_HASH_BITS);
	live->target_count = 1;
	live->unit_count = live->pc_count = live->entry_count = live->link_count = live->insn_count =
		live->landing_count = 1;
	live->used = CACHE_FIRST_OFFSET;
	live->generation++;
	emit_jmp_mem(&e, ADDRESS_ABS(&vm->vcpu->stub[STUB_JUMP_MISS]));
	e.at = live->code_rw + CACHE_STALE_LANDING;
	emit_store(&e, ADDRESS_ABS(&vm->vcpu->rip), HOST_R10);
	emit_jmp_mem(&e, ADDRESS_ABS(&vm->vcpu->stub[STUB_JUMP_MISS]));
	mmu_clear_jumps(vm->vcpu);
	live_reset_predictions(vm->vcpu, true);
	live_reset_predictions(vm->vcpu, false);
	vm->stats.cache_flushes++;
}

/* --- translation of one unit ------------------------------------------------------------------------------------- */

static void chain_frame(struct live *live, u32 number, unsigned which, u64 gpa)
{
	struct ram *ram = &live->vm->ram;
	const u8 *host = ram_at(ram, gpa);
	u32 *head = &live->frame_head[(u64)(host - ram->host) >> PAGE_SHIFT];

	live->units[number].next_frame[which] = *head;
	*head = number;
	mmu_protect_frame(live->vm->vcpu, gpa);
}

static void publish(struct live *live, u32 number)
{
	struct unit *unit = &live->units[number];

	chain_frame(live, number, 0, unit->gpa);
	if (unit->gpa_next != NO_FRAME)
		chain_frame(live, number, 1, unit->gpa_next);
	for (u32 i = unit->entries; i < unit->entries + unit->entries_count; i++) {
		u32 *head = &live->hash[live_entry_hash(live->entries[i].pc)];

		live->entries[i].next = *head;
		*head = i;
	}
}

/* A careful translation covers what its window would have, and little more. */
#define CAREFUL_MAX 24

/* Scans at v->rip; *next is the frame of the following page if the first instruction reaches into it. */
static bool scan_here(struct vcpu *v, struct scan *scan, u64 gpa, bool careful, u64 *next, bool *fault)
{
	struct live *live = v->vm->live;
	const u8 *bytes = ram_at(&v->vm->ram, gpa);
	unsigned in_page = (unsigned)(PAGE_SIZE - PAGE_OFFSET(gpa));
	struct scan_options options = {!live->returns_host, live->exact_flags, careful ? CAREFUL_MAX : SCAN_MAX};
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

/* One attempt; 0 if something is full. */
static u32 try_translate(struct vcpu *v, struct scan *scan, u64 gpa, bool careful, u64 next)
{
	struct live *live = v->vm->live;
	struct translation *t = live->translation;

	if (live->unit_count == live->unit_max || live->used + PAGE_SIZE > live->size)
		return UNIT_NONE;
	u32 number = live->unit_count;
	struct unit *unit = &live->units[number];

	*unit = (struct unit){.pc = v->rip,
			      .gpa = gpa,
			      .gpa_next = next,
			      .mode = live_mode(v) | (careful ? MODE_CAREFUL : 0),
			      .code = (u32)live->used,
			      .pcs = live->pc_count,
			      .entries = live->entry_count,
			      .landings = live->landing_count,
			      .instructions = (u16)scan->count,
			      .guest_bytes = (u16)scan->bytes};
	t->v = v;
	t->live = live;
	t->scan = scan;
	t->careful = careful;
	t->unit = number;
	t->e = (struct emitter){live->code_rw, live->code_rw + live->used, live->code_rw + live->size, false};
	t->ended = false;
	t->branch_count = t->cold_count = 0;
	if (careful || !live->lift || !live->lift(t, unit))
		translate_emit(t, unit);
	if (t->e.overflow)
		return UNIT_NONE;
	unit->code_end = cache_offset(live, t->e.at);
	unit->pcs_count = live->pc_count - unit->pcs;
	unit->entries_count = live->entry_count - unit->entries;
	unit->landings_count = live->landing_count - unit->landings;
	live->used = align_up(unit->code_end, 16);
	live->unit_count++;
	return number;
}

static u64 clock_host_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

static u32 translate_here(struct vcpu *v, u64 gpa, bool careful, bool *fault)
{
	struct live *live = v->vm->live;
	struct vm_stats *stats = &v->vm->stats;
	struct scan *scan = (struct scan *)(live->translation + 1);
	u64 next, start;

	vcpu_fpu_put(v);
	start = clock_host_ns();
	if (!scan_here(v, scan, gpa, careful, &next, fault))
		return UNIT_NONE;
	u32 number = try_translate(v, scan, gpa, careful, next);

	if (number == UNIT_NONE) {
		live_flush(live);
		number = try_translate(v, scan, gpa, careful, next);
	}
	if (number == UNIT_NONE)
		return UNIT_NONE;
	publish(live, number);
	perf_map_add(v->vm, (u64)live->code + live->units[number].code,
		     live->units[number].code_end - live->units[number].code, live->units[number].pc);
	stats->units_translated++;
	stats->instructions_translated += scan->count;
	stats->code_bytes += live->units[number].code_end - live->units[number].code;
	stats->translate_ns += clock_host_ns() - start;
	return number;
}

static void *translate_and_look_up(struct vcpu *v, bool careful, bool *fault)
{
	u64 gpa;

	*fault = mmu_fetch(v, v->rip, &gpa) != EXEC_OK;
	if (*fault || translate_here(v, gpa, careful, fault) == UNIT_NONE)
		return NULL;
	return careful ? live_lookup_careful(v) : live_lookup(v);
}

void *live_find(struct vcpu *v, bool *fault)
{
	void *code = live_lookup(v);

	*fault = false;
	return code ? code : translate_and_look_up(v, false, fault);
}

void *live_find_careful(struct vcpu *v, bool *fault)
{
	void *code = live_lookup_careful(v);

	*fault = false;
	return code ? code : translate_and_look_up(v, true, fault);
}

/*
 * The target reaches into the next page, whose mapping may change: a jump straight there would miss that. Patches the
 * exit to a piece of code that goes through the jump table.
 */
static void link_through_table(struct vcpu *v, const struct link *link)
{
	struct live *live = v->vm->live;
	struct translation *t = live->translation;

	t->v = v;
	t->live = live;
	t->e = (struct emitter){live->code_rw + live->used, live->code_rw + live->used, live->code_rw + live->size,
				false};
	translate_goto_far(t, link->target, false);
	if (t->e.overflow)
		return;
	emit_patch(live->code_rw + link->patch, t->e.start);
	live->used = align_up(cache_offset(live, t->e.at), 16);
}

void live_take_link(struct vcpu *v, u32 number)
{
	struct live *live = v->vm->live;
	struct link link = live->links[number];
	u64 generation = live->generation, gpa;
	bool fault;

	v->rip = link.target;
	u32 to = live_lookup_unit(v);

	if (to == UNIT_NONE && mmu_fetch(v, v->rip, &gpa) == EXEC_OK)
		to = translate_here(v, gpa, false, &fault);
	if (to == UNIT_NONE || live->generation != generation)
		return;
	const struct unit *from = &live->units[link.unit], *unit = &live->units[to];

	if (from->dropped || PAGE_BASE(unit->gpa) != PAGE_BASE(from->gpa) || unit->mode != (from->mode & ~MODE_CAREFUL))
		return;
	if (unit->gpa_next == NO_FRAME)
		emit_patch(live->code_rw + link.patch, live->code_rw + unit->body);
	else
		link_through_table(v, &link);
}
