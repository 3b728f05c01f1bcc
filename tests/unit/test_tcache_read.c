/* Reading caches: records, lazy checks, mapped code, and who may have written the file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../cache/sample.h"

static char directory[64];
static char path[128];
static char error[512];
static struct sample sample;

static int set_up(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/test-tcache-read-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/x.tcache", directory);
	sample_fill(&sample);
	return sample_write(path, &sample, false, error, sizeof(error)) ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(directory);
}

static struct tcache *must_open(unsigned flags)
{
	struct tcache *cache;

	if (tcache_open(path, flags, &cache, error, sizeof(error)))
		fail_msg("%s", error);
	return cache;
}

static void must_refuse(const char *name, unsigned flags, enum tcache_status status, const char *message)
{
	struct tcache *cache = (struct tcache *)&sample;
	char expected[512];

	snprintf(expected, sizeof(expected), "'%s': %s", name, message);
	assert_int_equal(tcache_open(name, flags, &cache, error, sizeof(error)), status);
	assert_null(cache);
	assert_string_equal(error, expected);
}

/* ---- contents ---- */

static void test_records(void **state)
{
	struct tcache *cache = must_open(0);

	(void)state;
#define SAME(name, field)                                                                                              \
	do {                                                                                                           \
		uint64_t n = sizeof(sample.field) / sizeof(sample.field[0]);                                           \
                                                                                                                       \
		assert_int_equal(tcache_##name##_count(cache), n);                                                     \
		assert_memory_equal(tcache_##name(cache, 0, n), sample.field, sizeof(sample.field));                   \
		assert_memory_equal(tcache_##name(cache, n - 1, 1), &sample.field[n - 1], sizeof(sample.field[0]));    \
		assert_non_null(tcache_##name(cache, n, 0));                                                           \
		assert_null(tcache_##name(cache, n, 1));                                                               \
		assert_null(tcache_##name(cache, 0, n + 1));                                                           \
		assert_null(tcache_##name(cache, n + 1, 0));                                                           \
		assert_null(tcache_##name(cache, 1, UINT64_MAX));                                                      \
		assert_null(tcache_##name(cache, UINT64_MAX, UINT64_MAX));                                             \
		assert_int_equal(tcache_last_status(cache), TCACHE_ERR_RANGE);                                         \
	} while (0)
	SAME(images, images);
	SAME(placement, placement);
	SAME(units, units);
	SAME(by_code, by_code);
	SAME(code, code);
	SAME(pcs, pcs);
	SAME(entries, entries);
	SAME(links, links);
	SAME(cells, cells);
	SAME(targets, targets);
	SAME(insns, insns);
	SAME(verdicts, verdicts);
	SAME(profile, profile);
	SAME(guest, guest);
	SAME(kernel, kernel);
	SAME(executed, executed);
	SAME(counts, counts);
	SAME(strings, strings);
	SAME(templates, templates);
	SAME(pages, pages);
	SAME(by_content, by_content);
	SAME(template_code, template_code);
	SAME(template_links, template_links);
	SAME(goals, goals);
	SAME(fixups, fixups);
	SAME(recorded_pages, recorded_pages);
#undef SAME
	assert_int_equal(tcache_log_count(cache), strlen(sample.log));
	assert_memory_equal(tcache_log(cache, 0, tcache_log_count(cache)), sample.log, strlen(sample.log));
	assert_int_equal(tcache_verify_all(cache), TCACHE_OK);
	assert_int_equal(tcache_header(cache)->created, 0);
	assert_string_equal(tcache_header(cache)->fingerprint.translator, "sample 1");
	assert_string_equal(tcache_name(cache), path);
	tcache_close(cache);
	tcache_close(NULL);
}

static void test_chunks(void **state)
{
	struct tcache *cache = must_open(0);
	uint64_t length;

	(void)state;
	assert_int_equal(tcache_chunk_count(cache), SAMPLE_CHUNKS);
	assert_null(tcache_toc(cache, SAMPLE_CHUNKS));
	assert_int_equal(tcache_find(cache, TCACHE_TYPE_kernel), SAMPLE_kernel);
	assert_int_equal(tcache_find(cache, TCACHE_FOURCC('N', 'O', 'N', 'E')), TCACHE_NO_CHUNK);
	assert_string_equal(tcache_type_text(TCACHE_TYPE_units), "unit index");
	assert_null(tcache_type_text(0));
	assert_memory_equal(tcache_chunk(cache, SAMPLE_kernel, &length), sample.kernel, sizeof(sample.kernel));
	assert_int_equal(length, sizeof(sample.kernel));
	tcache_forget(cache, SAMPLE_kernel);
	tcache_forget(cache, SAMPLE_CHUNKS);
	assert_memory_equal(tcache_range(cache, SAMPLE_kernel, 4990, 10), sample.kernel + 4990, 10);
	assert_null(tcache_range(cache, SAMPLE_kernel, 4990, 11));
	assert_null(tcache_range(cache, SAMPLE_kernel, UINT64_MAX, 2));
	assert_null(tcache_chunk(cache, SAMPLE_CHUNKS, &length));
	assert_int_equal(tcache_verify_range(cache, SAMPLE_kernel, 1, UINT64_MAX), TCACHE_ERR_RANGE);
	tcache_close(cache);
}

static unsigned threads(void)
{
	DIR *list = opendir("/proc/self/task");
	unsigned count = 0;

	for (struct dirent *entry; (entry = readdir(list));)
		count += entry->d_name[0] != '.';
	closedir(list);
	return count;
}

/* The thread that checks a chunk ahead is gone when nobody wants that chunk any more. */
static void test_ahead(void **state)
{
	const size_t size = 64 << 20;
	struct tcache_write_options options = {.fingerprint = sample_fingerprint()};
	uint8_t *kernel = malloc(size);
	struct tcache_writer *w;
	struct tcache *cache;

	(void)state;
	assert_non_null(kernel);
	memset(kernel, 'k', size);
	assert_int_equal(tcache_writer_create(path, &options, &w, error, sizeof(error)), TCACHE_OK);
	tcache_writer_chunk(w, TCACHE_TYPE_kernel, kernel, size);
	assert_int_equal(tcache_writer_finish(w, error, sizeof(error)), TCACHE_OK);
	cache = must_open(0);
	for (unsigned i = 0; i < 3; i++) {
		tcache_verify_ahead(cache, TCACHE_TYPE_kernel);
		if (i == 1)
			assert_memory_equal(tcache_range(cache, 0, 0, size), kernel, size);
		else
			tcache_forget(cache, 0);
		assert_int_equal(threads(), 1);
	}
	tcache_verify_ahead(cache, TCACHE_TYPE_kernel);
	tcache_close(cache);
	assert_int_equal(threads(), 1);
	free(kernel);
}

static void test_units(void **state)
{
	struct tcache *cache = must_open(0);
	struct tcache_unit_view view;

	(void)state;
	assert_int_equal(tcache_unit_view(cache, 3, &view), TCACHE_OK);
	assert_memory_equal(view.unit, &sample.units[3], sizeof(*view.unit));
	assert_memory_equal(view.code, sample.code, 40);
	assert_memory_equal(view.pcs, sample.pcs, 5 * sizeof(view.pcs[0]));
	assert_memory_equal(view.entries, sample.entries, 2 * sizeof(view.entries[0]));
	assert_memory_equal(view.links, sample.links, sizeof(view.links[0]));
	assert_memory_equal(view.cells, sample.cells, sizeof(view.cells[0]));
	assert_memory_equal(view.insns, sample.insns, sizeof(view.insns[0]));
	assert_memory_equal(view.guest, sample.guest, 11);
	assert_string_equal(view.name, "start");
	assert_false(tcache_unit_straddles(view.unit));
	assert_int_equal(tcache_unit_view(cache, 0, &view), TCACHE_OK);
	assert_string_equal(view.name, "");
	assert_memory_equal(view.guest, sample.guest + 11, 3);
	assert_int_equal(tcache_unit_view(cache, 2, &view), TCACHE_OK);
	assert_true(tcache_unit_straddles(view.unit));
	assert_int_equal(tcache_unit_view(cache, 4, &view), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_unit_view(cache, UINT32_MAX, &view), TCACHE_ERR_RANGE);
	tcache_close(cache);
}

static void must_find(struct tcache *cache, uint64_t pc, uint32_t want_first, uint32_t want_count)
{
	uint32_t first, count;

	assert_int_equal(tcache_unit_find(cache, pc, &first, &count), TCACHE_OK);
	assert_int_equal(count, want_count);
	assert_int_equal(first, want_first);
}

static void test_find(void **state)
{
	struct tcache *cache = must_open(0);
	uint32_t number;

	(void)state;
	must_find(cache, 0, 0, 0);
	must_find(cache, 0x40100f, 0, 0);
	must_find(cache, 0x401010, 0, 2);
	must_find(cache, 0x401011, 2, 0);
	must_find(cache, 0x401ffd, 2, 1);
	must_find(cache, 0xffffffff81000010, 3, 1);
	must_find(cache, UINT64_MAX, 4, 0);
	for (uint32_t i = 0; i < 4; i++) {
		const struct tcache_unit *u = &sample.units[i];

		assert_int_equal(tcache_unit_at_code(cache, u->code_offset, &number), TCACHE_OK);
		assert_int_equal(number, i);
		assert_int_equal(tcache_unit_at_code(cache, u->code_offset + u->code_length - 1, &number), TCACHE_OK);
		assert_int_equal(number, i);
	}
	assert_int_equal(tcache_unit_at_code(cache, 96, &number), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_unit_at_code(cache, UINT64_MAX, &number), TCACHE_ERR_RANGE);
	tcache_close(cache);
}

static void test_templates(void **state)
{
	struct tcache *cache = must_open(0);
	struct tcache_template_view view;

	(void)state;
	assert_int_equal(tcache_template_view(cache, 0, &view), TCACHE_OK);
	assert_memory_equal(view.record, &sample.templates[0], sizeof(*view.record));
	assert_memory_equal(view.code, sample.template_code, 96);
	assert_memory_equal(view.pcs, sample.pcs + 12, 3 * sizeof(view.pcs[0]));
	assert_memory_equal(view.links, sample.template_links, sizeof(view.links[0]));
	assert_memory_equal(view.goals, sample.goals, sizeof(view.goals[0]));
	assert_memory_equal(view.fixups, sample.fixups, 6 * sizeof(view.fixups[0]));
	assert_memory_equal(view.guest, sample.guest + 20, 14);
	assert_int_equal(tcache_template_view(cache, 2, &view), TCACHE_OK);
	assert_memory_equal(view.code, sample.template_code + 128, 32);
	assert_memory_equal(view.insns, &sample.insns[3], sizeof(view.insns[0]));
	assert_int_equal(tcache_template_view(cache, 3, &view), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_template_view(cache, UINT32_MAX, &view), TCACHE_ERR_RANGE);
	tcache_close(cache);
}

static void test_find_templates(void **state)
{
	static const uint64_t none[2] = {9, 2};
	const uint8_t *guest = sample.guest;
	struct tcache *cache = must_open(0);
	struct tcache_page_range range;
	uint32_t number;

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(tcache_page_find(cache, sample.pages[i].hash, &number), TCACHE_OK);
		assert_int_equal(number, i);
	}
	/* two that were executed, one that was not */
	assert_int_equal(tcache_page_templates(cache, 0, &range), TCACHE_OK);
	assert_int_equal(range.first, 0);
	assert_int_equal(range.cold, 2);
	assert_int_equal(range.end, 2);
	assert_int_equal(tcache_page_at(cache, 0, 2, 0x11, &number), TCACHE_OK);
	assert_int_equal(number, 1);
	assert_int_equal(tcache_page_at(cache, 0, 2, 0x21, &number), TCACHE_OK);
	assert_int_equal(number, 2);
	assert_int_equal(tcache_page_templates(cache, 1, &range), TCACHE_OK);
	assert_int_equal(range.first, 2);
	assert_int_equal(range.cold, 2);
	assert_int_equal(range.end, 3);
	assert_int_equal(tcache_page_find(cache, none, &number), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_page_templates(cache, 2, &range), TCACHE_ERR_RANGE);
	assert_int_equal(range.end, 0);
	assert_int_equal(tcache_template_find(cache, 0x10, 0x103, guest + 20, 17, &number), TCACHE_OK);
	assert_int_equal(number, 0);
	/* one that is shorter than eight bytes, with something behind it or nothing */
	assert_int_equal(tcache_template_find(cache, 0x20, 0x103, guest + 34, 3, &number), TCACHE_OK);
	assert_int_equal(number, 1);
	assert_int_equal(tcache_template_find(cache, 0x20, 0x103, (const uint8_t *)"\x0f\xa2\xc3xxxxxxxx", 11, &number),
			 TCACHE_OK);
	assert_int_equal(number, 1);
	assert_int_equal(tcache_template_find(cache, 0x20, 0x103, guest + 34, 2, &number), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_template_find(cache, 0x21, 0x103, guest + 34, 3, &number), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_template_find(cache, 0x20, 0x102, guest + 34, 3, &number), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_template_find(cache, 0x20, 0x103, guest + 34, 0, &number), TCACHE_ERR_RANGE);
	tcache_close(cache);
}

/* By bytes outside of holes, in one page and in two; what is in the holes does not matter. */
static void test_find_modules(void **state)
{
	uint8_t page[TCACHE_PAGE] = {0};
	struct tcache *cache = must_open(0);
	uint32_t cursor = 0, number = 9, end;

	(void)state;
	memcpy(page + 0x40, sample.guest + 37, 13);
	memcpy(page + 0x41, "\1\2\3\4", 4);
	memcpy(page + 0x60, sample.guest + 50, 3);
	assert_int_equal(tcache_module_find(cache, 0x40, 0x100, page + 0x40, 4096 - 0x40, &cursor, &number), TCACHE_OK);
	assert_int_equal(number, 0);
	assert_int_equal(tcache_module_find(cache, 0x40, 0x100, page + 0x40, 4096 - 0x40, &cursor, &number),
			 TCACHE_ERR_RANGE);
	for (uint32_t i = cursor = 0; i < 2; i++) {
		assert_int_equal(tcache_module_find(cache, 0x60, 0x100, page + 0x60, 3, &cursor, &number), TCACHE_OK);
		assert_int_equal(number, 1 + i);
	}
	assert_int_equal(tcache_module_find(cache, 0x60, 0x100, page + 0x60, 3, &cursor, &number), TCACHE_ERR_RANGE);
	/* elsewhere, too few bytes, another mode, another byte before, between and behind the holes */
	cursor = 0;
	assert_int_equal(tcache_module_find(cache, 0x41, 0x100, page + 0x40, 64, &cursor, &number), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_module_find(cache, 0x40, 0x100, page + 0x40, 12, &cursor, &number), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_module_find(cache, 0x40, 0x101, page + 0x40, 64, &cursor, &number), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_module_fits(cache, 0, 0x40, 0x100, page + 0x40, 13), TCACHE_OK);
	for (unsigned i = 0; i < 13; i++) {
		bool hole = (i >= 1 && i < 5) || (i >= 8 && i < 12);

		page[0x40 + i] ^= 0x80;
		cursor = 0;
		assert_int_equal(tcache_module_fits(cache, 0, 0x40, 0x100, page + 0x40, 13),
				 hole ? TCACHE_OK : TCACHE_ERR_RANGE);
		assert_int_equal(tcache_module_find(cache, 0x40, 0x100, page + 0x40, 13, &cursor, &number),
				 hole ? TCACHE_OK : TCACHE_ERR_RANGE);
		page[0x40 + i] ^= 0x80;
	}
	assert_int_equal(tcache_module_at(cache, 0, 0x60, &number, &end), TCACHE_OK);
	assert_int_equal(number, 1);
	assert_int_equal(end, 2);
	assert_int_equal(tcache_module_at(cache, 0, 0x50, &number, &end), TCACHE_OK);
	assert_int_equal(number, end);
	assert_int_equal(tcache_module_at(cache, 2, 0x50, &number, &end), TCACHE_ERR_RANGE);
	tcache_close(cache);
}

static void test_strings(void **state)
{
	struct tcache *cache = must_open(0);

	(void)state;
	assert_string_equal(tcache_string(cache, 0), "");
	assert_string_equal(tcache_string(cache, 1), "kernel-1");
	assert_string_equal(tcache_string(cache, 47), "");
	assert_null(tcache_string(cache, 48));
	assert_null(tcache_string(cache, UINT32_MAX));
	tcache_close(cache);
}

/* The longest string, one byte more, and one that runs into the end of the chunk. */
static void test_long_strings(void **state)
{
	struct tcache_write_options options = {.fingerprint = sample_fingerprint()};
	static char strings[20000];
	struct tcache_writer *writer;
	struct tcache *cache;

	(void)state;
	memset(strings, 'x', sizeof(strings));
	strings[0] = 0;
	strings[1 + TCACHE_MAX_STRING] = 0;
	assert_int_equal(tcache_writer_create(path, &options, &writer, error, sizeof(error)), TCACHE_OK);
	tcache_writer_chunk(writer, TCACHE_TYPE_strings, strings, sizeof(strings));
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	cache = must_open(0);
	assert_int_equal(strlen(tcache_string(cache, 1)), TCACHE_MAX_STRING);
	assert_null(tcache_string(cache, 2 + TCACHE_MAX_STRING));
	assert_int_equal(tcache_last_status(cache), TCACHE_ERR_RECORD);
	assert_null(tcache_string(cache, sizeof(strings) - 10));
	assert_int_equal(tcache_verify_all(cache), TCACHE_ERR_RECORD);
	tcache_close(cache);
}

static void test_unpacked(void **state)
{
	struct tcache *cache = must_open(0);
	const void *data;
	uint64_t length;

	(void)state;
	assert_int_equal(tcache_unpacked(cache, sample.images[0].digest, &data, &length), TCACHE_OK);
	assert_int_equal(length, sizeof(sample.kernel));
	assert_memory_equal(data, sample.kernel, length);
	assert_int_equal(tcache_unpacked(cache, sample.images[1].digest, &data, &length), TCACHE_ERR_RANGE);
	assert_null(data);
	tcache_close(cache);
}

static void test_no_chunks(void **state)
{
	struct tcache_write_options options = {.fingerprint = sample_fingerprint(), .created = 1234567890};
	struct tcache_unit_view view;
	struct tcache_writer *writer;
	struct tcache *cache;

	(void)state;
	assert_int_equal(tcache_writer_create(path, &options, &writer, error, sizeof(error)), TCACHE_OK);
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	cache = must_open(0);
	assert_int_equal(tcache_header(cache)->created, 1234567890);
	assert_int_equal(tcache_chunk_count(cache), 0);
	assert_int_equal(tcache_units_count(cache), 0);
	assert_non_null(tcache_units(cache, 0, 0));
	assert_null(tcache_units(cache, 0, 1));
	assert_int_equal(tcache_unit_view(cache, 0, &view), TCACHE_ERR_RANGE);
	must_find(cache, 0, 0, 0);
	assert_int_equal(tcache_code_size(cache), 0);
	assert_int_equal(tcache_map_code(cache, 0), TCACHE_ERR_RANGE);
	assert_int_equal(tcache_map_cells(cache, 0), TCACHE_ERR_RECORD);
	assert_null(tcache_place(cache));
	assert_int_equal(tcache_verify_all(cache), TCACHE_OK);
	tcache_close(cache);
}

/* ---- lazy checks ---- */

/* Damage in one page group is found when that group is asked for, and leaves the others usable. */
static void test_lazy(void **state)
{
	struct tcache_write_options options = {.fingerprint = sample_fingerprint()};
	static uint8_t data[3 * TCACHE_GROUP + 100];
	struct tcache_writer *writer;
	struct tcache *cache;
	uint64_t length;
	int fd;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(tcache_writer_create(path, &options, &writer, error, sizeof(error)), TCACHE_OK);
	tcache_writer_chunk(writer, TCACHE_TYPE_kernel, data, sizeof(data));
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "\xff\x00\xff", 3, TCACHE_PAGE + TCACHE_GROUP + 77), 3);
	close(fd);

	cache = must_open(0);
	assert_int_equal(tcache_toc(cache, 0)->group_count, 4);
	assert_memory_equal(tcache_range(cache, 0, 0, TCACHE_GROUP), data, TCACHE_GROUP);
	assert_null(tcache_range(cache, 0, 0, TCACHE_GROUP + 1));
	assert_int_equal(tcache_last_status(cache), TCACHE_ERR_DIGEST);
	assert_non_null(strstr(tcache_error(cache), "chunk KERN is damaged at file offset 8192 … 12287"));
	assert_null(tcache_range(cache, 0, 2 * TCACHE_GROUP - 1, 1));
	assert_memory_equal(tcache_range(cache, 0, 2 * TCACHE_GROUP, TCACHE_GROUP + 100), data + 2 * TCACHE_GROUP,
			    TCACHE_GROUP + 100);
	assert_null(tcache_chunk(cache, 0, &length));
	assert_int_equal(tcache_verify_all(cache), TCACHE_ERR_DIGEST);
	tcache_close(cache);
}

/* ---- code ---- */

static bool mapping_is(const void *address, const char *permissions)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], have[5];
	unsigned long start;
	bool found = false;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%*x %4s", &start, have) == 2 && start == (unsigned long)address)
			found = !strcmp(have, permissions);
	fclose(maps);
	return found;
}

static void test_place(void **state)
{
	struct tcache *cache = must_open(0);
	const struct tcache_placement *place;

	(void)state;
	assert_int_equal(tcache_insns_size(cache), 0);
	place = tcache_place(cache);
	assert_non_null(place);
	assert_memory_equal(place, sample.placement, sizeof(*place));
	assert_int_equal(tcache_code_size(cache), TCACHE_PAGE);
	assert_int_equal(tcache_cells_size(cache), TCACHE_PAGE);
	assert_int_equal(tcache_insns_size(cache), TCACHE_PAGE);
	tcache_close(cache);
}

static void *reserve(uint64_t address, size_t size)
{
	void *area = mmap((void *)address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_equal(area, (void *)address);
	return area;
}

static void must_be_in_use(struct tcache *cache, enum tcache_status status, const char *message)
{
	assert_int_equal(status, TCACHE_ERR_SYSTEM);
	if (!strstr(tcache_error(cache), message))
		fail_msg("%s", tcache_error(cache));
}

static void test_code(void **state)
{
	static const uint8_t answer[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
	struct tcache_write_options options = {.fingerprint = sample_fingerprint()};
	struct tcache_placement place = {
		.code_address = 0x60001000, .cells_address = 0x60000000, .insns_address = 0x60000000, .insn_size = 64};
	static uint8_t code[TCACHE_PAGE + 64];
	struct tcache_writer *writer;
	struct tcache *cache;
	int (*function)(void);
	uint8_t *area;

	(void)state;
	memcpy(code + TCACHE_PAGE, answer, sizeof(answer));
	assert_int_equal(tcache_writer_create(path, &options, &writer, error, sizeof(error)), TCACHE_OK);
	tcache_writer_chunk(writer, TCACHE_TYPE_placement, &place, sizeof(place));
	tcache_writer_chunk(writer, TCACHE_TYPE_code, code, sizeof(code));
	assert_int_equal(tcache_writer_finish(writer, error, sizeof(error)), TCACHE_OK);
	cache = must_open(0);
	assert_int_equal(tcache_code_size(cache), 2 * TCACHE_PAGE);
	area = reserve(0x60000000, 4 * TCACHE_PAGE);

	must_be_in_use(cache, tcache_map_code(cache, 0),
		       "code cannot be mapped: addresses 0x60001000 … 0x60002fff are in use, perhaps by another cache");
	assert_int_equal(tcache_map_code(cache, TCACHE_MAP_REPLACE), TCACHE_OK);
	assert_int_equal(tcache_map_cells(cache, 0), TCACHE_OK);
	assert_true(mapping_is(area + TCACHE_PAGE, "r-xs"));
	assert_true(mapping_is(area + 3 * TCACHE_PAGE, "---p"));
	/* the mapping outlives the cache */
	tcache_close(cache);
	*(void **)&function = area + 2 * TCACHE_PAGE;
	assert_int_equal(function(), 42);
	munmap(area, 4 * TCACHE_PAGE);

	cache = must_open(0);
	assert_int_equal(tcache_map_code(cache, 0), TCACHE_OK);
	assert_true(mapping_is(area + TCACHE_PAGE, "r-xs"));
	munmap(area + TCACHE_PAGE, tcache_code_size(cache));
	tcache_close(cache);
}

/* Cells may be written to, and the file does not change. */
static void test_cells(void **state)
{
	struct tcache *cache = must_open(0);
	volatile uint64_t *cells = reserve(sample.placement[0].cells_address, TCACHE_PAGE);
	int fd;

	(void)state;
	must_be_in_use(
		cache, tcache_map_cells(cache, 0),
		"cells cannot be mapped: addresses 0x50001000 … 0x50001fff are in use, perhaps by another cache");
	munmap((void *)cells, TCACHE_PAGE);
	assert_int_equal(tcache_map_cells(cache, 0), TCACHE_OK);
	assert_true(mapping_is((void *)cells, "rw-p"));
	assert_int_equal(cells[1], sample.cells[1]);
	assert_int_equal(cells[2], 0);
	cells[1] = 7;
	assert_int_equal(tcache_verify_all(cache), TCACHE_OK);
	tcache_close(cache);
	cache = must_open(0);
	assert_int_equal(*tcache_cells(cache, 1, 1), sample.cells[1]);
	assert_int_equal(tcache_map_cells(cache, TCACHE_MAP_REPLACE), TCACHE_OK);
	assert_int_equal(cells[1], sample.cells[1]);
	munmap((void *)cells, TCACHE_PAGE);
	tcache_close(cache);

	/* damaged cells are not mapped */
	cache = must_open(0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "", 1, (off_t)tcache_toc(cache, SAMPLE_cells)->offset), 1);
	close(fd);
	assert_int_equal(tcache_map_cells(cache, 0), TCACHE_ERR_DIGEST);
	assert_false(mapping_is((void *)cells, "rw-p"));
	tcache_close(cache);
}

/* ---- trust ---- */

static void test_permissions(void **state)
{
	char expected[128];

	(void)state;
	for (unsigned mode = 0; mode <= 0777; mode++) {
		struct tcache *cache;

		/* who is not root needs to be able to read it at all */
		if (geteuid() && !(mode & 0400))
			continue;
		assert_int_equal(chmod(path, mode), 0);
		if (mode & 022) {
			snprintf(expected, sizeof(expected), "can be written by others (mode %04o)", mode);
			must_refuse(path, 0, TCACHE_ERR_MODE, expected);
		} else {
			tcache_close(must_open(0));
		}
		cache = must_open(TCACHE_TRUST);
		tcache_close(cache);
	}
}

static void test_owner(void **state)
{
	(void)state;
	if (geteuid())
		skip();
	assert_int_equal(chmod(directory, 0755), 0);
	assert_int_equal(chown(path, 12345, 12345), 0);
	must_refuse(path, 0, TCACHE_ERR_OWNER, "belongs to user 12345, not to root or user 0");
	tcache_close(must_open(TCACHE_TRUST));
	/* root's own, and the effective user's own, are trusted; a third user's is not */
	assert_int_equal(seteuid(12345), 0);
	tcache_close(must_open(0));
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(seteuid(12345), 0);
	tcache_close(must_open(0));
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chown(path, 54321, 0), 0);
	assert_int_equal(seteuid(12345), 0);
	must_refuse(path, 0, TCACHE_ERR_OWNER, "belongs to user 54321, not to root or user 12345");
	assert_int_equal(seteuid(0), 0);
}

static void test_kinds(void **state)
{
	char other[160];

	(void)state;
	snprintf(other, sizeof(other), "%s/other", directory);
	assert_int_equal(symlink(path, other), 0);
	must_refuse(other, 0, TCACHE_ERR_KIND, "is a symbolic link, which is not followed");
	must_refuse(other, TCACHE_TRUST, TCACHE_ERR_KIND, "is a symbolic link, which is not followed");
	unlink(other);
	must_refuse(other, 0, TCACHE_ERR_SYSTEM, "cannot be opened: No such file or directory");
	/* nobody writes into it: opening must not wait */
	assert_int_equal(mkfifo(other, 0600), 0);
	must_refuse(other, 0, TCACHE_ERR_KIND, "is not a regular file");
	unlink(other);
	must_refuse(directory, 0, TCACHE_ERR_KIND, "is a directory");
	must_refuse("/dev/null", TCACHE_TRUST, TCACHE_ERR_KIND, "is not a regular file");
	assert_int_equal(truncate(path, 0), 0);
	must_refuse(path, 0, TCACHE_ERR_TRUNCATED, "is empty");
	/* messages fit in what is given for them, also in nothing */
	assert_int_equal(tcache_open(path, 0, (struct tcache **)&other, NULL, 0), TCACHE_ERR_TRUNCATED);
	assert_int_equal(tcache_open(path, 0, (struct tcache **)&other, error, 5), TCACHE_ERR_TRUNCATED);
	assert_int_equal(strlen(error), 4);
}

static void test_signature(void **state)
{
	uint8_t public_key[32], secret_key[TCACHE_SECRET_KEY_SIZE];
	struct tcache *cache = must_open(0);

	(void)state;
	sample_key(public_key, secret_key);
	assert_int_equal(tcache_check_signer(cache, public_key), TCACHE_ERR_SIGNATURE);
	assert_non_null(strstr(tcache_error(cache), ": is not signed"));
	tcache_close(cache);
	assert_int_equal(sample_write(path, &sample, true, error, sizeof(error)), TCACHE_OK);
	cache = must_open(0);
	assert_int_equal(tcache_header(cache)->group_digest, TCACHE_DIGEST_BLAKE2B);
	assert_int_equal(tcache_check_signer(cache, public_key), TCACHE_OK);
	assert_int_equal(tcache_verify_all(cache), TCACHE_OK);
	public_key[31] ^= 0x80;
	assert_int_equal(tcache_check_signer(cache, public_key), TCACHE_ERR_SIGNATURE);
	assert_non_null(strstr(tcache_error(cache), ": is signed by another key"));
	tcache_close(cache);
}

static void test_host_features(void **state)
{
	uint64_t have[2];

	(void)state;
	tcache_host_features(have);
	assert_int_equal(have[0] >> TCACHE_HOST_AVX2 & 1, !!__builtin_cpu_supports("avx2"));
	assert_int_equal(have[0] >> TCACHE_HOST_BMI2 & 1, !!__builtin_cpu_supports("bmi2"));
	assert_int_equal(have[0] >> TCACHE_HOST_POPCNT & 1, !!__builtin_cpu_supports("popcnt"));
	assert_int_equal(have[0] >> TCACHE_HOST_FMA & 1, !!__builtin_cpu_supports("fma"));
	assert_string_equal(tcache_host_feature_name(TCACHE_HOST_FSGSBASE), "fsgsbase");
	assert_null(tcache_host_feature_name(127));
	assert_null(tcache_host_feature_name(~0u));
	for (unsigned i = 0; tcache_host_feature_name(i); i++)
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(tcache_host_feature_name(i), tcache_host_feature_name(k));
}

/* Published values, so that keys made by one build are understood by the next. */
static void test_digests(void **state)
{
	static const uint8_t blake2b_abc[4] = {0xbd, 0xdd, 0x81, 0x3c};
	static const uint8_t empty_file[TCACHE_DIGEST_SIZE] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
							       0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f};
	uint8_t digest[TCACHE_DIGEST_SIZE];
	uint64_t hash[2];

	(void)state;
	tcache_digest("abc", 3, digest);
	assert_memory_equal(digest, blake2b_abc, sizeof(blake2b_abc));
	tcache_image_digest("", 0, digest);
	assert_memory_equal(digest, empty_file, sizeof(empty_file));
	tcache_hash("", 0, hash);
	assert_true(hash[0] == 0x6001c324468d497f && hash[1] == 0x99aa06d3014798d8);
	assert_string_equal(tcache_status_name(TCACHE_ERR_DIGEST), "damaged");
	assert_string_equal(tcache_status_name((enum tcache_status)1000), "unknown");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_records),       TEST(test_chunks),       TEST(test_ahead),          TEST(test_units),
		TEST(test_find),          TEST(test_templates),    TEST(test_find_templates), TEST(test_find_modules),
		TEST(test_strings),       TEST(test_long_strings), TEST(test_unpacked),       TEST(test_no_chunks),
		TEST(test_lazy),          TEST(test_place),        TEST(test_code),           TEST(test_cells),
		TEST(test_permissions),   TEST(test_owner),        TEST(test_kinds),          TEST(test_signature),
		TEST(test_host_features), TEST(test_digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
