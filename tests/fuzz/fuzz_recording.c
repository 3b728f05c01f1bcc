/*
 * Fuzzes what avant translate reads of recordings, and what it makes of them: plan, units, a cache, which is
 * retranslated and compared. The first byte of the input: bit 0: the digests are made right before reading (otherwise
 * hardly anything behind them would ever be reached); bits 1 to 3: options; the rest is the file. Build by hand, after
 * `cmake --build build` (for translator_version.h):
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Icache-format/include -Iruntime -Iaot \
 *		-Ibuild/runtime tests/fuzz/fuzz_recording.c aot/build.c aot/plan.c aot/plan_scan.c aot/retranslate.c \
 *		aot/template_set.c aot/unit_records.c runtime/translate/[a-z]*.c runtime/x86/[a-z]*.c
 *runtime/util/[a-z]*.c \ cache-format/[a-z]*.c -lZydis -lsodium -lxxhash -o fuzz_recording
 *
 * A corpus to start from: recordings of the small guests (avant run --record), each behind a byte of 1.
 */
#include <fcntl.h>
#include <unistd.h>

#include "../cache/sample.h"
#include "build.h"
#include "lift/place.h"
#include "plan.h"
#include "retranslate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing is lifted here: LLVM is not linked. */
void lift_parts_init(struct lift_parts *parts, const struct lifted *lifted, bool whole)
{
	(void)parts, (void)lifted, (void)whole;
	abort();
}

static void complain(void *opaque, const struct retranslated *found)
{
	static const char *const kinds[] = {"unit", "template", "module unit"};

	(void)opaque;
	fprintf(stderr, "%s %u at %#llx: %s\n", kinds[found->kind], found->number, (unsigned long long)found->pc,
		found->what);
	abort();
}

/* What was made of it must be a good cache, and come out the same again. */
static void check_cache(struct build *build)
{
	char path[64];
	struct retranslation result;
	struct err err = ERR_INIT;
	struct tcache *cache;
	char error[512] = "";

	snprintf(path, sizeof(path), "/dev/shm/fuzz_recording.%d.tcache", (int)getpid());
	if (build_write(build, path, NULL, 0, NULL, NULL, "", &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	build_destroy(build);
	if (tcache_open(path, 0, &cache, error, sizeof(error)) || tcache_verify_all(cache)) {
		fprintf(stderr, "%s%s\n", error, error[0] ? "" : tcache_error(cache));
		abort();
	}
	if (tcache_units_count(cache) + tcache_templates_count(cache) &&
	    retranslate(cache, complain, NULL, &result, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	tcache_close(cache);
}

static void use(const char *path, unsigned bits)
{
	const struct build_options options = {
		.returns_host = !(bits & 2), .counted = bits & 4, .exact_flags = bits & 8, .guest_cpu = "fuzz"};
	struct err err = ERR_INIT;
	struct build *build = build_create(&options, &err);
	struct plan *plan = build ? plan_create(build_store(build), &err) : NULL;

	if (!plan)
		abort();
	if (plan_add_recording(plan, path, &err) < 0 && !err.text[0])
		abort();
	for (size_t i = 0; i < plan_count(plan); i++) {
		const struct want *want = plan_at(plan, i);

		if (build_copy(build, want) == BUILD_SKIPPED)
			abort(); /* what is planned has been scanned */
	}
	check_cache(build);
	plan_destroy(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64];
	struct bytes bytes;
	unsigned bits;
	int fd;

	if (!size)
		return 0;
	bits = *data;
	bytes = bytes_new(size - 1);
	memcpy(bytes.data, data + 1, size - 1);
	if (bits & 1 && bytes.size >= TCACHE_PAGE) {
		struct tcache_header *h = bytes_header(&bytes);

		h->length = bytes.size;
		/* no input holds a signature that fits */
		h->flags &= ~TCACHE_SIGNED;
		bytes_seal(&bytes);
	}
	snprintf(path, sizeof(path), "/dev/shm/fuzz_recording.%d", (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, bytes.data, bytes.size) != (ssize_t)bytes.size)
		abort();
	close(fd);
	free(bytes.data);
	use(path, bits);
	return 0;
}
