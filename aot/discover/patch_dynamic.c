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

/* --- static calls ---------------------------------------------------------------------------------------------------
 */

/*
 * Static calls that boot code redirects. `to` NULL: to nothing. The KVM clock; preemption as Debian configures it
 * (PREEMPT_DYNAMIC, voluntary unless the command line says otherwise: sched_dynamic_update()); bugs.c's flush; the
 * x2APIC driver, since 6.6. Of modules: what they choose by the processor's features.
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
	{"__SCK__aesni_ctr_enc_tfm", "aesni_ctr_enc_avx_tfm"},
	{"__SCK__bpf_arch_pred_flush", "bpf_arch_ibpb"},
	{"__SCK__x86_idle", "default_idle"},
	{"__SCK__apic_call_eoi", "native_apic_msr_eoi"},
	{"__SCK__apic_call_native_eoi", "native_apic_msr_eoi"},
	{"__SCK__apic_call_icr_read", "native_x2apic_icr_read"},
	{"__SCK__apic_call_icr_write", "native_x2apic_icr_write"},
	{"__SCK__apic_call_read", "native_apic_msr_read"},
	{"__SCK__apic_call_write", "native_apic_msr_write"},
	{"__SCK__apic_call_send_IPI", "x2apic_send_IPI"},
	{"__SCK__apic_call_send_IPI_all", "x2apic_send_IPI_all"},
	{"__SCK__apic_call_send_IPI_allbutself", "x2apic_send_IPI_allbutself"},
	{"__SCK__apic_call_send_IPI_mask", "x2apic_send_IPI_mask"},
	{"__SCK__apic_call_send_IPI_mask_allbutself", "x2apic_send_IPI_mask_allbutself"},
	{"__SCK__apic_call_send_IPI_self", "x2apic_send_IPI_self"},
};

static u64 called(const struct patcher *p, u64 key)
{
	const u8 *function = patch_data(p, key, 8);

	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		if (patch_find(p, calls[i].key) == key && (!calls[i].to || patch_find(p, calls[i].to)))
			return calls[i].to ? patch_find(p, calls[i].to) : 0;
	return function ? get64(function) : 0;
}

static void redirect(const struct patcher *p, u64 place, u64 function, bool tail, u8 *bytes)
{
	static const u8 clear_eax[] = {0x2e, 0x2e, 0x2e, 0x31, 0xc0}, ret[] = {0xc3, 0xcc, 0xcc, 0xcc, 0xcc};

	if (tail && bytes[0] == 0x0f && (bytes[1] & 0xf0) == 0x80) {
		if (!function)
			function = patch_find(p, "__static_call_return");
		put32(bytes + 2, (u32)(function - place - 6));
		patch_distance(p, place + 2, function);
		return;
	}
	patch_plain(p, place, 5);
	if (!function) {
		if (tail)
			memcpy(bytes, ret, 5);
		else
			put_nops(bytes, 5);
		return;
	}
	if (!tail && function == patch_find(p, "__static_call_return0")) {
		memcpy(bytes, clear_eax, 5);
		return;
	}
	bytes[0] = tail ? OP_JMP32 : OP_CALL;
	put32(bytes + 1, (u32)(function - place - 5));
	patch_distance(p, place + 1, function);
}

/* The trampoline of a static call that is redirected: a jump, marked by what follows it. */
static void patch_trampolines(struct patcher *p)
{
	static const u8 mark[] = {0x0f, 0xb9, 0xcc};
	char name[80] = "__SCT__";

	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		u64 place, function = calls[i].to ? patch_find(p, calls[i].to) : 0;
		u8 *bytes;

		strcpy(name + 7, calls[i].key + 7);
		place = patch_find(p, name);
		bytes = image_write_at(p->image, place, 8);
		if (place && bytes && (function || !calls[i].to) && memcmp(bytes + 5, mark, 3) == 0)
			redirect(p, place, function, true, bytes);
	}
}

/* Kernels export the trampoline, not the key, where modules may only call: a table leads from one to the other. */
static u64 key_of(const struct patcher *p, u64 key)
{
	struct table table;

	if (!find_table(p->kernel, NULL, NULL, "__start_static_call_tramp_key", "__stop_static_call_tramp_key", &table))
		return key;
	for (u64 at = 0; p->image != p->kernel && at + CALL_ENTRY <= table.size; at += CALL_ENTRY)
		if (table_relative(&table, at) == key)
			return table_relative(&table, at + 4);
	return key;
}

void patch_static_calls(struct patcher *p)
{
	struct image *image = p->image;
	struct table table;
	u32 count = 0;

	patch_trampolines(p);
	if (!find_table(image, p->elf, ".static_call_sites", "__start_static_call_sites", "__stop_static_call_sites",
			&table)) {
		report_line(&image->report, "static calls: not found");
		return;
	}
	for (u64 at = 0; at + CALL_ENTRY <= table.size; at += CALL_ENTRY) {
		u64 place = table_relative(&table, at), flags = table_relative(&table, at + 4), key;
		u8 *bytes = image_write_at(image, place, 6);

		key = key_of(p, flags & ~3ULL);
		if (!bytes || !image_is_code(image, place) || !patch_data(p, key, 8))
			continue;
		redirect(p, place, called(p, key), flags & 1, bytes);
		count++;
	}
	report_line(&image->report, "static calls: %u of %llu sites", count,
		    (unsigned long long)(table.size / CALL_ENTRY));
}

/* --- static keys ----------------------------------------------------------------------------------------------------
 */

/*
 * The state of keys that boot code switches, when a shell runs: found by comparing with a booted guest
 * (tests/discover/kernel-bytes.py). Some are switched early (clock), some after a while (crng_is_ready). A kernel that
 * lacks one is none the worse. `offset`: in an array of keys.
 */
static const struct {
	const char *key;
	u32 offset;
	bool on;
} states[] = {
	{"__crypto_boot_test_finished", 0, true},
	{"__sched_clock_stable", 0, true},
	{"__use_tsc", 0, true},
	{"blake2s_use_ssse3", 0, true},
	{"bpf_pred_flush_enabled", 0, true},
	{"check_pages_enabled", 0, true},
	{"cr_pinning", 0, true},
	{"crc64_rocksoft_fallback", 0, false},
	{"crct10dif_fallback", 0, false},
	{"crng_is_ready", 0, true},
	{"crypto_boot_test_finished", 0, true},
	{"deferred_pages", 0, false},
	{"gcm_use_avx", 0, true},
	{"gcm_use_avx2", 0, true},
	{"nf_hooks_needed", (2 * 5 + 4) * 16, true},  /* IPv4, after routing: security modules */
	{"nf_hooks_needed", (10 * 5 + 4) * 16, true}, /* IPv6 */
	{"sched_clock_running", 0, true},
	{"switch_mm_cond_ibpb", 0, true},
	{"tc_skip_wrapper", 0, true},
	{"timers_migration_enabled", 0, true},
	{"timers_nohz_active", 0, true},
	{"virt_spin_lock_key", 0, false},
};

/* Was it on when the image was made? A key begins with a count, in .bss zero. */
static bool was_on(const struct patcher *p, u64 key)
{
	const u8 *count = patch_data(p, key, 4);

	return count && get32(count) != 0;
}

static bool is_on(const struct patcher *p, u64 key)
{
	for (unsigned i = 0; i < ARRAY_SIZE(states); i++) {
		u64 base = patch_find(p, states[i].key);

		if (base && base + states[i].offset == key)
			return states[i].on;
	}
	return was_on(p, key);
}

/*
 * Is the code at the place not as it has to be? A kernel's is as its keys are at first. A module's is for a key of the
 * type that it was declared as, whatever the kernel has done with it since: the entry says when it jumps.
 */
static bool is_switched(const struct patcher *p, u64 key, const u8 *bytes)
{
	bool jumps = bytes[0] == OP_JMP8 || bytes[0] == OP_JMP32;

	if (p->image == p->kernel)
		return is_on(p, key & ~3ULL) != was_on(p, key & ~3ULL);
	return jumps != (is_on(p, key & ~3ULL) != (key & 1));
}

/* From one state to the other. */
static bool toggle(const struct patcher *p, u64 place, u64 target, u8 *bytes)
{
	static const u8 nop2[] = {0x66, 0x90}, nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
	s64 distance = (s64)(target - place);

	if (bytes[0] == OP_JMP8) {
		memcpy(bytes, nop2, 2);
	} else if (bytes[0] == OP_JMP32) {
		memcpy(bytes, nop5, 5);
		patch_plain(p, place, 5);
	} else if (memcmp(bytes, nop2, 2) == 0 && distance - 2 == (s8)(distance - 2)) {
		bytes[0] = OP_JMP8;
		bytes[1] = (u8)(distance - 2);
	} else if (memcmp(bytes, nop5, 5) == 0) {
		bytes[0] = OP_JMP32;
		put32(bytes + 1, (u32)(distance - 5));
		patch_distance(p, place + 1, target);
	} else {
		return false;
	}
	return true;
}

void patch_static_keys(struct patcher *p)
{
	struct image *image = p->image;
	struct table table;
	u32 count = 0;

	if (!find_table(image, p->elf, "__jump_table", "__start___jump_table", "__stop___jump_table", &table)) {
		report_line(&image->report, "static keys: not found");
		return;
	}
	for (u64 at = 0; at + KEY_ENTRY <= table.size; at += KEY_ENTRY) {
		u64 place = table_relative(&table, at), target = table_relative(&table, at + 4);
		u64 key = table.address + at + 8 + get64(table.bytes + at + 8);
		u8 *bytes = image_write_at(image, place, 5);

		if (bytes && image_is_code(image, place) && is_switched(p, key, bytes))
			count += toggle(p, place, target, bytes);
	}
	report_line(&image->report, "static keys: %u of %llu places are switched during boot", count,
		    (unsigned long long)(table.size / KEY_ENTRY));
}

/* --- constants
 * -------------------------------------------------------------------------------------------------------- */

/*
 * Since 6.11: immediates that boot code fills in, listed by a section for each constant. What depends on the size of
 * memory (the dentry hash) is left.
 */
static const struct {
	const char *section;
	u64 value;
} constants[] = {
	{"runtime_ptr_USER_PTR_MAX", 0x7ffffffff000}, /* TASK_SIZE_MAX with four levels of page tables */
};

void patch_constants(struct patcher *p)
{
	struct image *image = p->image;
	struct table table;

	for (unsigned i = 0; i < ARRAY_SIZE(constants); i++) {
		if (!find_table(image, p->elf, constants[i].section, NULL, NULL, &table))
			continue;
		for (u64 at = 0; at + 4 <= table.size; at += 4) {
			u64 place = table_relative(&table, at);
			u8 *bytes = image_write_at(image, place, 8);

			if (bytes && image_is_code(image, place))
				memcpy(bytes, &constants[i].value, 8);
		}
		report_line(&image->report, "%s: %llu places", constants[i].section,
			    (unsigned long long)(table.size / 4));
	}
}

/* --- tracing --------------------------------------------------------------------------------------------------------
 */

void patch_tracing(struct patcher *p)
{
	struct image *image = p->image;
	u64 tracer = patch_find(p, "__fentry__");
	struct table table;
	u32 count = 0;

	if (!find_table(image, p->elf, "__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc", &table) || !tracer) {
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
		patch_plain(p, place, 5);
		count++;
	}
	report_line(&image->report, "function tracing: %u of %llu calls switched off", count,
		    (unsigned long long)(table.size / 8));
}
