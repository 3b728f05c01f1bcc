/*
 * What the kernel switches while it runs: static keys (jump or no-operation), static calls (whom to call) and function
 * tracing (off). The image holds the initial state; two tables here say what differs on our machine once it has booted.
 */
#include "internal.h"

#define KEY_ENTRY  16u /* struct jump_entry: s32 code, s32 target, s64 key, relative to themselves */
#define CALL_ENTRY 8u  /* struct static_call_site: s32 place, s32 key */
#define OP_CALL    0xe8u
#define OP_JMP32   0xe9u
#define OP_JMP8    0xebu

/* --- static calls --------------------------------------------------------------------------------------------------- */

/*
 * Static calls that boot code redirects. `to` NULL: to nothing. The KVM clock; preemption as Debian configures it
 * (PREEMPT_DYNAMIC, voluntary unless the command line says otherwise: sched_dynamic_update()); bugs.c's flush.
 */
static const struct {
	const char *key, *to;
} calls[] = {
	{"__SCK__pv_sched_clock", "kvm_sched_clock_read"},
	{"__SCK__cond_resched", "__cond_resched"},
	{"__SCK__might_resched", "__cond_resched"},
	{"__SCK__preempt_schedule", NULL},
	{"__SCK__preempt_schedule_notrace", NULL},
	{"__SCK__irqentry_exit_cond_resched", NULL},
	{"__SCK__bpf_arch_pred_flush", "bpf_arch_ibpb"},
};

static u64 called(const struct image *image, u64 key)
{
	const u8 *function = image_at(image, key, 8);

	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		if (image_find(image, calls[i].key) == key && (!calls[i].to || image_find(image, calls[i].to)))
			return calls[i].to ? image_find(image, calls[i].to) : 0;
	return function ? get64(function) : 0;
}

static void redirect(const struct image *image, u64 place, u64 function, bool tail, u8 *bytes)
{
	static const u8 clear_eax[] = {0x2e, 0x2e, 0x2e, 0x31, 0xc0}, ret[] = {0xc3, 0xcc, 0xcc, 0xcc, 0xcc};

	if (tail && bytes[0] == 0x0f && (bytes[1] & 0xf0) == 0x80) {
		if (!function)
			function = image_find(image, "__static_call_return");
		put32(bytes + 2, (u32)(function - place - 6));
		return;
	}
	if (!function) {
		if (tail)
			memcpy(bytes, ret, 5);
		else
			put_nops(bytes, 5);
		return;
	}
	if (!tail && function == image_find(image, "__static_call_return0")) {
		memcpy(bytes, clear_eax, 5);
		return;
	}
	bytes[0] = tail ? OP_JMP32 : OP_CALL;
	put32(bytes + 1, (u32)(function - place - 5));
}

/* The trampoline of a static call that is redirected: a jump, marked by what follows it. */
static void patch_trampolines(struct image *image)
{
	static const u8 mark[] = {0x0f, 0xb9, 0xcc};
	char name[64] = "__SCT__";

	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		u64 place, function = calls[i].to ? image_find(image, calls[i].to) : 0;
		u8 *bytes;

		strcpy(name + 7, calls[i].key + 7);
		place = image_find(image, name);
		bytes = image_write_at(image, place, 8);
		if (place && bytes && (function || !calls[i].to) && memcmp(bytes + 5, mark, 3) == 0)
			redirect(image, place, function, true, bytes);
	}
}

void patch_static_calls(struct image *image, const struct elf_file *elf)
{
	struct table table;
	u32 count = 0;

	patch_trampolines(image);
	if (!find_table(image, elf, ".static_call_sites", "__start_static_call_sites", "__stop_static_call_sites",
			&table)) {
		report_line(&image->report, "static calls: not found");
		return;
	}
	for (u64 at = 0; at + CALL_ENTRY <= table.size; at += CALL_ENTRY) {
		u64 place = table_relative(&table, at), key = table_relative(&table, at + 4);
		u8 *bytes = image_write_at(image, place, 6);

		if (!bytes || !image_is_code(image, place) || !image_at(image, key & ~3ULL, 8))
			continue;
		redirect(image, place, called(image, key & ~3ULL), key & 1, bytes);
		count++;
	}
	report_line(&image->report, "static calls: %u of %llu sites", count,
		    (unsigned long long)(table.size / CALL_ENTRY));
}

/* --- static keys ---------------------------------------------------------------------------------------------------- */

/*
 * Keys that boot code switches, found by comparing with a booted guest (tests/discover/kernel-bytes.py), when a shell
 * runs. Some are switched early (clock), some after a while (crng_is_ready). A kernel that lacks one is none the worse.
 */
static const struct {
	const char *key;
	u32 offset; /* in an array of keys */
} toggled[] = {
	{"__sched_clock_stable", 0},
	{"__use_tsc", 0},
	{"blake2s_use_ssse3", 0},
	{"bpf_pred_flush_enabled", 0},
	{"cr_pinning", 0},
	{"crct10dif_fallback", 0},
	{"crc64_rocksoft_fallback", 0},
	{"crng_is_ready", 0},
	{"crypto_boot_test_finished", 0},
	{"deferred_pages", 0},
	{"nf_hooks_needed", (2 * 5 + 4) * 16},  /* IPv4, after routing: security modules */
	{"nf_hooks_needed", (10 * 5 + 4) * 16}, /* IPv6 */
	{"sched_clock_running", 0},
	{"switch_mm_cond_ibpb", 0},
	{"timers_migration_enabled", 0},
	{"timers_nohz_active", 0},
	{"virt_spin_lock_key", 0},
};

static bool is_toggled(const struct image *image, u64 key)
{
	for (unsigned i = 0; i < ARRAY_SIZE(toggled); i++)
		if (image_find(image, toggled[i].key) + toggled[i].offset == key)
			return true;
	return false;
}

/* From one state to the other. */
static bool toggle(u64 place, u64 target, u8 *bytes)
{
	static const u8 nop2[] = {0x66, 0x90}, nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
	s64 distance = (s64)(target - place);

	if (bytes[0] == OP_JMP8) {
		memcpy(bytes, nop2, 2);
	} else if (bytes[0] == OP_JMP32) {
		memcpy(bytes, nop5, 5);
	} else if (memcmp(bytes, nop2, 2) == 0 && distance - 2 == (s8)(distance - 2)) {
		bytes[0] = OP_JMP8;
		bytes[1] = (u8)(distance - 2);
	} else if (memcmp(bytes, nop5, 5) == 0) {
		bytes[0] = OP_JMP32;
		put32(bytes + 1, (u32)(distance - 5));
	} else {
		return false;
	}
	return true;
}

void patch_static_keys(struct image *image, const struct elf_file *elf)
{
	struct table table;
	u32 count = 0;

	if (!find_table(image, elf, "__jump_table", "__start___jump_table", "__stop___jump_table", &table)) {
		report_line(&image->report, "static keys: not found");
		return;
	}
	for (u64 at = 0; at + KEY_ENTRY <= table.size; at += KEY_ENTRY) {
		u64 place = table_relative(&table, at), target = table_relative(&table, at + 4);
		u64 key = (table.address + at + 8 + get64(table.bytes + at + 8)) & ~3ULL;
		u8 *bytes = image_write_at(image, place, 5);

		if (bytes && image_is_code(image, place) && is_toggled(image, key))
			count += toggle(place, target, bytes);
	}
	report_line(&image->report, "static keys: %u of %llu places are switched during boot", count,
		    (unsigned long long)(table.size / KEY_ENTRY));
}

/* --- tracing -------------------------------------------------------------------------------------------------------- */

void patch_tracing(struct image *image, const struct elf_file *elf)
{
	u64 tracer = image_find(image, "__fentry__");
	struct table table;
	u32 count = 0;

	if (!find_table(image, elf, "__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc", &table) || !tracer) {
		report_line(&image->report, "function tracing: not found");
		return;
	}
	for (u64 at = 0; at + 8 <= table.size; at += 8) {
		u64 place = get64(table.bytes + at);
		u8 *bytes = image_write_at(image, place, 5);

		if (!bytes || !image_is_code(image, place) || bytes[0] != OP_CALL ||
		    place + 5 + (u64)(s64)(s32)get32(bytes + 1) != tracer)
			continue;
		put_nops(bytes, 5);
		count++;
	}
	report_line(&image->report, "function tracing: %u of %llu calls switched off", count,
		    (unsigned long long)(table.size / 8));
}
