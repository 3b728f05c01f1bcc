#include "save_recording.h"

#include <stdlib.h>
#include <string.h>
#include <tcache.h>

#include "translate/fingerprint.h"

/* Chunks of the file, in memory. */
struct recording {
	struct tcache_executed *records;
	u8 *bytes;
	u64 *counts;
	struct tcache_recorded_page *pages;
	u64 record_count, byte_count, count_count, page_count;
};

/* Room for everything that is planned. -1: out of memory, or of what the file's numbers can say. */
static int recording_init(struct recording *recording, const struct plan *plan)
{
	u64 bytes = 0, counts = 0;
	size_t count = plan_count(plan);

	for (size_t i = 0; i < count; i++) {
		bytes += plan_at(plan, i)->length;
		counts += plan_at(plan, i)->count_count;
	}
	if (bytes > UINT32_MAX || counts > UINT32_MAX)
		return -1;
	recording->records = calloc(count + 1, sizeof(*recording->records));
	recording->bytes = malloc(bytes + 1);
	recording->counts = calloc(counts + 1, sizeof(*recording->counts));
	recording->pages = calloc(count + 1, sizeof(*recording->pages));
	return recording->records && recording->bytes && recording->counts && recording->pages ? 0 : -1;
}

static void recording_release(struct recording *recording)
{
	free(recording->records);
	free(recording->bytes);
	free(recording->counts);
	free(recording->pages);
}

/* 1 + number of the want's page, 0 if it is no template. Those of one page come together, more or less. */
static u32 add_page(struct recording *recording, const struct want *want)
{
	const struct tcache_recorded_page page = {{want->page[0], want->page[1]}};

	if (!want_is_template(want))
		return 0;
	if (!recording->page_count || memcmp(&recording->pages[recording->page_count - 1], &page, sizeof(page)) != 0)
		recording->pages[recording->page_count++] = page;
	return (u32)recording->page_count;
}

static void add(struct recording *recording, const struct want *want)
{
	recording->records[recording->record_count++] = (struct tcache_executed){
		.pc = want->pc,
		.mode = want->mode,
		.guest_length = want->length,
		.bytes_first = (u32)recording->byte_count,
		.count_first = (u32)recording->count_count,
		.count_count = want->count_count,
		.page = add_page(recording, want),
	};
	memcpy(recording->bytes + recording->byte_count, want->bytes, want->length);
	memcpy(recording->counts + recording->count_count, want->counts, want->count_count * sizeof(u64));
	recording->byte_count += want->length;
	recording->count_count += want->count_count;
}

static int write_file(const struct recording *recording, const struct store *store, const char *cpu, const char *path,
		      struct err *err)
{
	struct tcache_write_options options = {0};
	struct tcache_writer *writer;
	char error[512];

	translator_fingerprint(store, cpu, &options.fingerprint);
	if (tcache_writer_create(path, &options, &writer, error, sizeof(error)) != TCACHE_OK)
		return err_set(err, "%s", error);
	tcache_writer_chunk(writer, TCACHE_TYPE_executed, recording->records,
			    recording->record_count * sizeof(*recording->records));
	tcache_writer_chunk(writer, TCACHE_TYPE_guest, recording->bytes, recording->byte_count);
	tcache_writer_chunk(writer, TCACHE_TYPE_counts, recording->counts,
			    recording->count_count * sizeof(*recording->counts));
	tcache_writer_chunk(writer, TCACHE_TYPE_recorded_pages, recording->pages,
			    recording->page_count * sizeof(*recording->pages));
	if (tcache_writer_finish(writer, error, sizeof(error)) != TCACHE_OK)
		return err_set(err, "%s", error);
	return 0;
}

int save_recording(const struct plan *plan, const char *cpu, const char *path, struct err *err)
{
	struct recording recording = {0};
	int result = -1;

	if (recording_init(&recording, plan) < 0) {
		err_set(err, "cannot write '%s': too much was executed for the memory or for one recording", path);
	} else {
		for (size_t i = 0; i < plan_count(plan); i++) {
			if (plan_at(plan, i)->count_count)
				add(&recording, plan_at(plan, i));
		}
		result = write_file(&recording, plan_store(plan), cpu, path, err);
	}
	recording_release(&recording);
	return result;
}
