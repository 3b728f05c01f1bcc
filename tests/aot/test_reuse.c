/* What is kept of an older cache is as it was there; a file that is damaged or made up is refused, or does no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "../cache/sample.h"
#include "cpu/cpu.h"
#include "retranslate.h"
#include "reuse.h"
#include "translate/translate.h"
#include "x86/mode.h"

#define PC 0xffffffff81000000ULL

/* push rbx; mov rax,[rdi]; call +0x20; rdpmc; add [rsi],rax; jnz +0x40; pop rbx; ret */
static const u8 kernel_code[] = {0x53, 0x48, 0x8b, 0x07, 0xe8, 0x20, 0,    0,    0,
				 0x0f, 0x33, 0x48, 0x01, 0x06, 0x75, 0x40, 0x5b, 0xc3};
/* jmp +0x10000 */
static const u8 far_jump[] = {0xe9, 0, 0, 1, 0};
/* inc rcx; movd xmm0, ecx; ret */
static const u8 user_code[] = {0x48, 0xff, 0xc1, 0x66, 0x0f, 0x6e, 0xc1, 0xc3};
/* lea rax,[rip+9]; cpuid; jnz to itself; jmp +0x2000 */
static const u8 program[] = {0x48, 0x8d, 0x05, 9, 0, 0, 0, 0x0f, 0xa2, 0x75, 0xf5, 0xe9, 0, 0x20, 0, 0};

static const u64 page[2] = {11, 12};

/* Of a kernel module: call hole; mov rax,[rip+hole]; rdpmc; jnz to itself; ret - cpuid; jz +8; ret */
static const u8 module_code[PAGE_SIZE] = {0xe8, 0x5a, 0x5a, 0x5a, 0x5a, 0x48, 0x8b, 0x05, 0x5a, 0x5a, 0x5a,
					  0x5a, 0x0f, 0x33, 0x75, 0xf0, 0xc3, 0x0f, 0xa2, 0x74, 8,    0xc3};
static const u16 module_holes[] = {1, 8};

/* What can be planned, by letter. */
static const struct {
	char letter;
	u64 pc;
	u32 mode;
	const u8 *bytes;
	unsigned length;
	const u64 *page;
} parts[] = {
	{'a', PC, 0, kernel_code, sizeof(kernel_code), NULL},
	{'b', PC + 0x100, 0, far_jump, sizeof(far_jump), NULL},
	{'c', 0x401000, MODE_USER | MODE_OSFXSR, user_code, sizeof(user_code), NULL},
	{'d', PC + 0x200, 0, kernel_code, sizeof(kernel_code), NULL},
	{'e', PC + 0x300, 0, far_jump, sizeof(far_jump), NULL},
	{'t', 0x7f0000000100, MODE_USER, program, sizeof(program), page},
	{'u', 0x7f0000000200, MODE_USER, program, sizeof(program), page},
};

static char old_path[] = "/tmp/test_reuse_oldXXXXXX", new_path[] = "/tmp/test_reuse_newXXXXXX";

static void plan_part(struct plan *plan, const struct store *store, unsigned i, u64 count)
{
	static struct scan scan;
	struct scan_options options = translate_scan_options(store, parts[i].mode);
	const u64 counts[] = {count, count, count, count};
	struct err err = ERR_INIT;
	int result;

	assert_int_equal(scan_unit(&scan, parts[i].pc, parts[i].bytes, parts[i].length, parts[i].length, &options), 0);
	if (count)
		result = plan_add_counted(plan, &scan, parts[i].mode, parts[i].bytes, parts[i].page, counts, 4, &err);
	else
		result = plan_add(plan, &scan, parts[i].mode, parts[i].bytes, parts[i].page, 0, &err);
	assert_int_equal(result, 0);
}

/* The module's first unit or its second. */
static void plan_module(struct plan *plan, const struct store *store, bool second)
{
	static struct scan scan;
	struct scan_options options = translate_scan_options(store, 0);
	const struct module_page *holes = plan_module_page(plan, module_code, module_holes, 2);
	const unsigned at = second ? 17 : 0, length = second ? 5 : 17;
	struct err err = ERR_INIT;

	assert_non_null(holes);
	assert_int_equal(scan_unit(&scan, TCACHE_MODULE_BASE + at, module_code + at, length, length, &options), 0);
	assert_int_equal(plan_add_module(plan, &scan, 0, module_code + at, holes, 0, &err), 0);
}

/* The parts with these letters; behind a digit, executed so often. Also the module's units, m and n. */
static struct plan *make_plan(const struct store *store, const char *letters)
{
	struct err err = ERR_INIT;
	struct plan *plan = plan_create(store, &err);
	u64 count = 0;

	assert_non_null(plan);
	for (; *letters; letters++) {
		if (*letters <= '9')
			count = (u64)(*letters - '0');
		if (*letters == 'm' || *letters == 'n')
			plan_module(plan, store, *letters == 'n');
		for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
			if (parts[i].letter == *letters)
				plan_part(plan, store, i, count);
	}
	return plan;
}

static void bytes_write(const struct bytes *file, const char *path)
{
	FILE *out = fopen(path, "wb");

	assert_non_null(out);
	assert_int_equal(fwrite(file->data, 1, file->size, out), file->size);
	assert_int_equal(fclose(out), 0);
}

static struct build_options usual(void)
{
	return (struct build_options){.returns_host = true, .guest_cpu = cpu_model_name(cpu_model_at(0))};
}

static const char *name_part(void *opaque, const struct want *want, u64 *offset)
{
	*offset = want->pc & 0xff;
	return opaque;
}

/*
 * Writes `path` with what is planned, kept from `from` (or NULL) as far as it is there. Returns how much was kept, -1
 * with a message in err if `from` is refused.
 */
static int make_cache(const struct build_options *options, const char *letters, const char *path, const char *from,
		      const char *name, struct err *err)
{
	struct build *build = build_create(options, err);
	struct reuse *reuse = NULL;
	struct plan *plan;
	int kept = 0;
	u64 unseen;

	assert_non_null(build);
	plan = make_plan(build_store(build), letters);
	if (from) {
		reuse = reuse_open(from, build, err);
		if (!reuse || reuse_match(reuse, plan, err) < 0 || reuse_keep(reuse, plan, build, &unseen, err) < 0)
			kept = -1;
		else
			kept = (int)reuse_count(reuse, REUSE_COPIED) + (int)reuse_count(reuse, REUSE_LIFTED);
	}
	for (size_t i = 0; kept >= 0 && i < plan_count(plan); i++)
		if (!reuse_kind(reuse, i))
			assert_int_equal(build_copy(build, plan_at(plan, i)), BUILD_OK);
	if (kept >= 0)
		assert_int_equal(build_write(build, path, NULL, 0, name ? name_part : NULL, (void *)name, "", err), 0);
	reuse_close(reuse);
	plan_destroy(plan);
	build_destroy(build);
	return kept;
}

static void no_difference(void *opaque, const struct retranslated *difference)
{
	(void)opaque;
	fail_msg("unit %u: %s", difference->number, difference->what);
}

static struct tcache *open_good(const char *path)
{
	struct tcache *cache;
	char error[512] = "";

	tcache_open(path, 0, &cache, error, sizeof(error));
	assert_string_equal(error, "");
	tcache_verify_all(cache);
	assert_string_equal(tcache_error(cache), "");
	return cache;
}

/* It is what the translator would make of its guest bytes. */
static void check_sound(const char *path, u64 units)
{
	struct tcache *cache = open_good(path);
	struct retranslation result;
	struct err err = ERR_INIT;

	assert_int_equal(retranslate(cache, no_difference, NULL, &result, &err), 0);
	assert_int_equal(result.equal, units);
	tcache_close(cache);
}

static void check_equal_files(void)
{
	struct bytes a = bytes_read(old_path), b = bytes_read(new_path);

	assert_int_equal(a.size, b.size);
	assert_memory_equal(a.data, b.data, a.size);
	free(a.data);
	free(b.data);
}

static void test_unchanged(void **state)
{
	static const struct build_options variants[] = {
		{.returns_host = true},
		{.returns_host = false, .place = 1},
		{.returns_host = true, .counted = true, .exact_flags = true},
	};
	struct err err = ERR_INIT;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(variants); i++) {
		struct build_options options = variants[i];

		options.guest_cpu = cpu_model_name(cpu_model_at(0));
		assert_int_equal(make_cache(&options, "5at0bcunm", old_path, NULL, "name", &err), 0);
		assert_int_equal(make_cache(&options, "5at0bcunm", new_path, old_path, "name", &err), 7);
		check_equal_files();
	}
}

static struct tcache_unit_view unit_at(struct tcache *cache, u64 pc)
{
	struct tcache_unit_view view;
	u32 first, count;

	assert_int_equal(tcache_unit_find(cache, pc, &first, &count), TCACHE_OK);
	assert_int_equal(count, 1);
	assert_int_equal(tcache_unit_view(cache, first, &view), TCACHE_OK);
	return view;
}

static void check_same_unit(struct tcache *a, struct tcache *b, u64 pc)
{
	struct tcache_unit_view x = unit_at(a, pc), y = unit_at(b, pc);

	assert_int_equal(x.unit->code_offset, y.unit->code_offset);
	assert_int_equal(x.unit->code_length, y.unit->code_length);
	assert_int_equal(x.unit->link_first, y.unit->link_first);
	assert_int_equal(x.unit->insn_first, y.unit->insn_first);
	assert_memory_equal(x.code, y.code, x.unit->code_length);
}

static void test_changed(void **state)
{
	struct build_options options = usual();
	struct err err = ERR_INIT;
	struct tcache *a, *b;

	(void)state;
	/* in front of what stays something goes: a gap in everything that has a place */
	assert_int_equal(make_cache(&options, "dtamnbcu", old_path, NULL, NULL, &err), 0);
	assert_int_equal(make_cache(&options, "ebcaun", new_path, old_path, NULL, &err), 5);
	check_sound(new_path, 6);
	a = open_good(old_path);
	b = open_good(new_path);
	check_same_unit(a, b, PC);
	check_same_unit(a, b, PC + 0x100);
	check_same_unit(a, b, 0x401000);
	assert_true(unit_at(b, PC + 0x300).unit->code_offset >= tcache_code_count(a));
	assert_int_equal(tcache_units_count(b), 4);
	assert_int_equal(tcache_templates_count(b), 1);
	assert_int_equal(tcache_module_units_count(b), 1);
	assert_true(tcache_template_code_count(b) < tcache_template_code_count(a));
	tcache_close(a);
	tcache_close(b);
	/* and back */
	assert_int_equal(make_cache(&options, "dtamnbcu", old_path, new_path, NULL, &err), 5);
	check_sound(old_path, 8);
}

static void test_nothing_kept(void **state)
{
	struct build_options options = usual();
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(make_cache(&options, "at", old_path, NULL, NULL, &err), 0);
	assert_int_equal(make_cache(&options, "", new_path, old_path, NULL, &err), 0);
	check_sound(new_path, 0);
	/* and of nothing */
	assert_int_equal(make_cache(&options, "at", old_path, new_path, NULL, &err), 0);
	check_sound(old_path, 2);
}

/* A recording of now counts, else what is known of before. */
static void test_executions(void **state)
{
	struct build_options options = usual();
	struct err err = ERR_INIT;
	struct tcache_unit_view view;
	struct tcache *cache;

	(void)state;
	assert_int_equal(make_cache(&options, "5abt0ce", old_path, NULL, "old", &err), 0);
	assert_int_equal(make_cache(&options, "7ac0bet", new_path, old_path, NULL, &err), 5);
	cache = open_good(new_path);
	view = unit_at(cache, PC);
	assert_int_equal(view.unit->executions, 7);
	assert_false(view.unit->flags & TCACHE_UNIT_COLD);
	assert_string_equal(view.name, "old");
	view = unit_at(cache, PC + 0x100);
	assert_int_equal(view.unit->executions, 5);
	assert_false(view.unit->flags & TCACHE_UNIT_COLD);
	view = unit_at(cache, 0x401000);
	assert_int_equal(view.unit->executions, 7);
	assert_false(view.unit->flags & TCACHE_UNIT_COLD);
	view = unit_at(cache, PC + 0x300);
	assert_int_equal(view.unit->executions, 0);
	assert_true(view.unit->flags & TCACHE_UNIT_COLD);
	assert_int_equal(tcache_templates(cache, 0, 1)->executions, 5);
	assert_int_equal(tcache_by_content_count(cache), 1);
	tcache_close(cache);
	/* names of now go before those of before */
	assert_int_equal(make_cache(&options, "a", new_path, old_path, "new", &err), 1);
	cache = open_good(new_path);
	assert_string_equal(unit_at(cache, PC).name, "new");
	tcache_close(cache);
}

static void check_refused(const struct build_options *options, const char *why)
{
	struct err err = ERR_INIT;

	assert_int_equal(make_cache(options, "at", new_path, old_path, NULL, &err), -1);
	assert_non_null(strstr(err.text, old_path));
	if (!strstr(err.text, why))
		fail_msg("not '%s' but '%s'", why, err.text);
}

static void test_refused(void **state)
{
	struct build_options options = usual(), other = options;
	struct err err = ERR_INIT;
	struct bytes file;

	(void)state;
	assert_int_equal(make_cache(&options, "at", old_path, NULL, NULL, &err), 0);
	other.place = 1;
	check_refused(&other, "was made for --place 0, this is 1");
	other = options;
	other.counted = true;
	check_refused(&other, "other options");
	other = options;
	other.guest_cpu = "another";
	check_refused(&other, "guest CPU");
	file = bytes_read(old_path);
	bytes_header(&file)->fingerprint.host_features[0] |= 1 << TCACHE_HOST_AVX;
	bytes_seal(&file);
	bytes_write(&file, old_path);
	check_refused(&options, "'avx'");
	bytes_header(&file)->fingerprint.translator[0] ^= 1;
	bytes_seal(&file);
	bytes_write(&file, old_path);
	check_refused(&options, "made by translator");
	free(file.data);
}

/* Whatever is in the file, with digests that are right: it is refused, or the new cache is in order. */
static void test_forged(void **state)
{
	static const u32 chunks[] = {TCACHE_TYPE_units,     TCACHE_TYPE_by_code, TCACHE_TYPE_pcs,
				     TCACHE_TYPE_entries,   TCACHE_TYPE_links,   TCACHE_TYPE_cells,
				     TCACHE_TYPE_targets,   TCACHE_TYPE_insns,   TCACHE_TYPE_placement,
				     TCACHE_TYPE_templates, TCACHE_TYPE_pages,   TCACHE_TYPE_template_links,
				     TCACHE_TYPE_goals,     TCACHE_TYPE_fixups,  TCACHE_TYPE_strings};
	struct build_options options = usual();
	struct err err = ERR_INIT;
	unsigned taken = 0, refused = 0;
	struct bytes file;

	(void)state;
	assert_int_equal(make_cache(&options, "abtu", old_path, NULL, "name", &err), 0);
	file = bytes_read(old_path);
	for (u32 i = 0; i < bytes_header(&file)->chunk_count; i++) {
		const struct tcache_toc_entry entry = bytes_toc(&file)[i];
		bool listed = false;

		for (unsigned n = 0; n < ARRAY_SIZE(chunks); n++)
			listed |= chunks[n] == entry.type;
		for (u64 at = 0; listed && at < entry.length; at++) {
			u8 *byte = file.data + entry.offset + at, before = *byte;

			*byte ^= at % 3 ? 1 : 0xff;
			bytes_seal(&file);
			bytes_write(&file, old_path);
			if (make_cache(&options, "abtu", new_path, old_path, NULL, &err) < 0)
				refused++;
			else {
				tcache_close(open_good(new_path));
				taken++;
			}
			*byte = before;
		}
	}
	free(file.data);
	/* both happens: units for other addresses or other guest bytes are not kept, records out of bounds are refused
	 */
	assert_true(taken > 20 && refused > 100);
}

static int make_paths(void **state)
{
	int a = mkstemp(old_path), b = mkstemp(new_path);

	(void)state;
	return a < 0 || b < 0 || close(a) < 0 || close(b) < 0 ? -1 : 0;
}

static int remove_paths(void **state)
{
	(void)state;
	return unlink(old_path) < 0 || unlink(new_path) < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unchanged),  cmocka_unit_test(test_changed), cmocka_unit_test(test_nothing_kept),
		cmocka_unit_test(test_executions), cmocka_unit_test(test_refused), cmocka_unit_test(test_forged),
	};

	return cmocka_run_group_tests(tests, make_paths, remove_paths);
}
