/*
 * Fuzzes the reader of translated-code caches. The first byte of the input chooses whether the digests are made right
 * before reading (otherwise hardly anything behind them would ever be reached); the rest is the file. Build by hand:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Icache-format/include tests/fuzz/fuzz_tcache.c \
 *		cache-format/[a-z]*.c -lsodium -lxxhash -o fuzz_tcache
 *
 * A corpus to start from: FUZZ_TCACHE_SEED=FILE makes the program write its sample cache there first.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "../cache/sample.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

/* Every byte that was promised must be readable. */
static void touch(const void *data, uint64_t size)
{
	const uint8_t *bytes = data;

	if (!bytes)
		abort();
	for (uint64_t i = 0; i < size; i++)
		sink = bytes[i];
}

static void use_unit(struct tcache *cache, uint32_t number)
{
	struct tcache_unit_view view;
	uint32_t first, count;

	if (tcache_unit_view(cache, number, &view)) {
		if (!tcache_error(cache)[0])
			abort();
		return;
	}
	touch(view.code, view.unit->code_length);
	touch(view.pcs, view.unit->pc_count * sizeof(*view.pcs));
	touch(view.entries, view.unit->entry_count * sizeof(*view.entries));
	touch(view.links, view.unit->link_count * sizeof(*view.links));
	touch(view.cells, view.unit->link_count * sizeof(*view.cells));
	touch(view.insns, view.unit->insn_count * sizeof(*view.insns));
	touch(view.name, strlen(view.name) + 1);
	if (view.guest)
		touch(view.guest, view.unit->guest_length);
	for (uint32_t i = 0; i < view.unit->pc_count; i++)
		if (view.pcs[i].code >= view.unit->code_length || view.pcs[i].guest >= view.unit->guest_length)
			abort();
	for (uint32_t i = 0; i < view.unit->entry_count; i++)
		if (view.entries[i].code >= view.unit->code_length || view.entries[i].guest >= view.unit->guest_length)
			abort();
	for (uint32_t i = 0; i < view.unit->link_count; i++)
		if (view.links[i].cold >= view.unit->code_length)
			abort();
	if (tcache_unit_find(cache, view.unit->pc, &first, &count))
		abort();
}

static void use_template(struct tcache *cache, uint32_t number)
{
	struct tcache_template_view view;
	const struct tcache_template *t;
	uint32_t fixups = 0, links = 0, found;

	if (tcache_template_view(cache, number, &view)) {
		if (!tcache_error(cache)[0])
			abort();
		return;
	}
	t = view.record;
	touch(view.code, t->code_length);
	touch(view.pcs, t->pc_count * sizeof(*view.pcs));
	touch(view.entries, t->entry_count * sizeof(*view.entries));
	touch(view.insns, t->insn_count * sizeof(*view.insns));
	touch(view.links, t->link_count * sizeof(*view.links));
	touch(view.goals, t->goal_count * sizeof(*view.goals));
	touch(view.guest, t->guest_length);
	for (unsigned kind = 0; kind < TCACHE_FIXUP_KINDS; kind++)
		for (uint32_t i = 0; i < t->fixup_count[kind]; i++)
			if (view.fixups[fixups++] > t->code_length - (kind <= TCACHE_FIXUP_MINUS ? 8 : 4))
				abort();
	for (uint32_t i = 0; i < t->link_count; i++)
		links += view.links[i].patch > t->code_length - 4;
	for (uint32_t i = 0; i < t->goal_count; i++)
		links += view.goals[i].number > t->code_length - 4 || view.goals[i].entry > t->code_length - 4;
	/* all of them are four bytes or more apart */
	if (links || (t->link_count + 2ull * t->goal_count + fixups) * 4 > t->code_length ||
	    t->insn_count > t->instruction_count)
		abort();
	for (uint32_t i = 0; i < t->entry_count; i++)
		if (view.entries[i].guest >= t->guest_length || view.entries[i].code >= t->code_length)
			abort();
	if (!tcache_template_find(cache, t->offset, t->mode, view.guest, t->guest_length, &found) &&
	    found >= tcache_templates_count(cache))
		abort();
}

static void use_module(struct tcache *cache, uint32_t number)
{
	struct tcache_module_view view;
	const struct tcache_module_unit *u;
	uint32_t jumps = 0, landings = 0, cursor = 0, found, end;
	enum tcache_status status;

	if (tcache_module_view(cache, number, &view)) {
		if (!tcache_error(cache)[0])
			abort();
		return;
	}
	u = view.record;
	touch(view.code, u->code_length);
	touch(view.pcs, u->pc_count * sizeof(*view.pcs));
	touch(view.entries, u->entry_count * sizeof(*view.entries));
	touch(view.insns, u->insn_count * sizeof(*view.insns));
	touch(view.fixups, u->fixup_count * sizeof(*view.fixups));
	touch(view.holes, view.hole_count * sizeof(*view.holes));
	touch(view.guest, u->guest_length);
	for (uint32_t i = 0; i < u->entry_count; i++)
		if (view.entries[i].code + 5 > u->code_length || view.entries[i].guest >= u->guest_length)
			abort();
	for (uint32_t i = 0; i < u->fixup_count; i++) {
		const struct tcache_module_fixup *f = &view.fixups[i];
		uint32_t size = f->kind == TCACHE_MODULE_WIDE ? 8 : f->kind == TCACHE_MODULE_LANDING ? 5 : 4;

		jumps += f->kind == TCACHE_MODULE_JUMP || f->kind == TCACHE_MODULE_JUMP_SAVED;
		landings += f->kind == TCACHE_MODULE_LANDING;
		if (f->at + size > u->code_length || f->kind >= TCACHE_MODULE_KINDS || f->from >= TCACHE_MODULE_FROMS)
			abort();
		if (f->from && TCACHE_MODULE_FIELD_AT(f->value) + TCACHE_MODULE_FIELD_BEHIND(f->value) +
					       (f->from == TCACHE_MODULE_FROM_WIDE ? 8 : 4) >
				       u->guest_length)
			abort();
	}
	if (jumps != view.jumps || u->body_offset + 5 > u->code_length || u->saved_offset + 5 > u->code_length)
		abort();
	/* room is made for no more of them */
	if (landings > u->instruction_count || u->insn_count > u->instruction_count)
		abort();
	/* its own bytes fit */
	if (tcache_module_fits(cache, number, u->offset, u->mode, view.guest, u->guest_length) == TCACHE_ERR_RANGE)
		abort();
	for (unsigned i = 0; i < 16; i++) {
		status = tcache_module_find(cache, u->offset, u->mode, view.guest, u->guest_length, &cursor, &found);
		if (status)
			break;
		if (found >= tcache_module_units_count(cache))
			abort();
	}
	if (!tcache_module_at(cache, u->page, u->offset, &found, &end) &&
	    (found > end || end > tcache_module_units_count(cache)))
		abort();
}

static void use_page(struct tcache *cache, uint32_t number)
{
	const struct tcache_page *page = tcache_pages(cache, number, 1);
	struct tcache_page_range range;
	uint32_t found;

	if (!page)
		return;
	if (!tcache_page_find(cache, page->hash, &found) && found >= tcache_pages_count(cache))
		abort();
	if (tcache_page_templates(cache, number, &range)) {
		if (range.end)
			abort();
		return;
	}
	if (range.first > range.cold || range.cold > range.end || range.end > tcache_templates_count(cache))
		abort();
	for (uint32_t i = range.first; i < range.end && i < range.first + 64; i++)
		use_template(cache, i);
	if (!tcache_page_at(cache, range.first, range.end, 100, &found) && (found < range.first || found > range.end))
		abort();
}

static bool area_valid(uint64_t start, uint64_t size)
{
	return start >= TCACHE_AREA_BEGIN && start <= TCACHE_AREA_END && size <= TCACHE_AREA_END - start;
}

static void use_place(struct tcache *cache)
{
	const struct tcache_placement *p = tcache_place(cache);

	if (!p)
		return;
	if (!area_valid(p->code_address, tcache_code_size(cache)) ||
	    !area_valid(p->cells_address, tcache_cells_size(cache)) ||
	    !area_valid(p->insns_address, tcache_insns_size(cache)))
		abort();
	if (tcache_code_size(cache) && !tcache_map_code(cache, 0)) {
		touch((void *)p->code_address, tcache_code_size(cache));
		munmap((void *)p->code_address, tcache_code_size(cache));
	}
	if (tcache_cells_size(cache) && !tcache_map_cells(cache, 0)) {
		memset((void *)p->cells_address, 1, tcache_cells_size(cache));
		munmap((void *)p->cells_address, tcache_cells_size(cache));
	}
}

static void use(struct tcache *cache)
{
	struct tcache_fingerprint want = sample_fingerprint();
	uint32_t units = (uint32_t)tcache_units_count(cache);
	uint64_t length;

	tcache_check_fingerprint(cache, &want);
	for (uint32_t i = 0; i < tcache_chunk_count(cache); i++) {
		const void *chunk = tcache_chunk(cache, i, &length);

		if (chunk)
			touch(chunk, length);
	}
	for (uint32_t i = 0; i < units && i < 64; i++)
		use_unit(cache, i);
	for (uint32_t i = 0; i < tcache_templates_count(cache) && i < 64; i++)
		use_template(cache, i);
	for (uint32_t i = 0; i < tcache_pages_count(cache) && i < 64; i++)
		use_page(cache, i);
	for (uint32_t i = 0; i < tcache_module_units_count(cache) && i < 64; i++)
		use_module(cache, i);
	use_place(cache);
	for (uint64_t pc = 0x401000; pc < 0x402000; pc += 16) {
		uint32_t first, count;

		if (!tcache_unit_find(cache, pc, &first, &count) && (first > units || count > units - first))
			abort();
	}
	for (unsigned offset = 0; offset < 100; offset += 7) {
		uint32_t number;

		if (!tcache_unit_at_code(cache, offset, &number) && number >= units)
			abort();
	}
	for (uint32_t i = 0; i < tcache_images_count(cache); i++) {
		const struct tcache_image *image = tcache_images(cache, i, 1);
		const void *data;

		if (image && !tcache_unpacked(cache, image->digest, &data, &length))
			touch(data, length);
	}
	if (tcache_verify_all(cache) && !tcache_error(cache)[0])
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *seed = getenv("FUZZ_TCACHE_SEED");
	static struct sample sample;
	char error[512], cache_path[4096];
	struct bytes bytes;
	FILE *file;

	(void)argc;
	(void)argv;
	if (!seed)
		return 0;
	sample_fill(&sample);
	snprintf(cache_path, sizeof(cache_path), "%s.tcache", seed);
	if (sample_write(cache_path, &sample, false, error, sizeof(error))) {
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
	bytes = bytes_read(cache_path);
	unlink(cache_path);
	file = fopen(seed, "wb");
	if (!file || fputc(1, file) == EOF || fwrite(bytes.data, 1, bytes.size, file) != bytes.size || fclose(file)) {
		perror(seed);
		exit(1);
	}
	free(bytes.data);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[512] = "";
	struct bytes bytes;
	struct tcache *cache;
	bool seal;
	int fd;

	if (!size)
		return 0;
	seal = *data & 1;
	bytes = bytes_new(size - 1);
	memcpy(bytes.data, data + 1, size - 1);
	if (seal && bytes.size >= TCACHE_PAGE) {
		struct tcache_header *h = bytes_header(&bytes);

		h->length = bytes.size;
		/* no input holds a signature that fits */
		h->flags &= ~TCACHE_SIGNED;
		bytes_seal(&bytes);
	}
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || write(fd, bytes.data, bytes.size) != (ssize_t)bytes.size)
		abort();
	if (!tcache_open_fd(fd, "fuzz", TCACHE_TRUST, &cache, error, sizeof(error))) {
		use(cache);
		tcache_close(cache);
	} else if (cache || !error[0]) {
		abort();
	}
	close(fd);
	free(bytes.data);
	return 0;
}
