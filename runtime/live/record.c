#include "live/record.h"

#include <stdlib.h>
#include <string.h>
#include <tcache.h>

#include "cpu/cpu.h"
#include "live/live.h"
#include "translate/fingerprint.h"
#include "vm.h"

/* A growing array of bytes. */
struct buffer {
	u8 *data;
	u64 size, room;
};

/* A translation whose counters run. */
struct pending {
	u64 *counters;
	u32 record;
	bool lasting; /* after a flush of the code cache, too */
};

struct recorder {
	struct buffer records, bytes, counts; /* struct tcache_executed, guest bytes, u64 */
	struct buffer pending;                /* struct pending */
	struct buffer pages;                  /* struct tcache_recorded_page */
	u32 *table;                           /* open hash of the records: 1 + number, or 0 */
	u64 table_size;                       /* a power of two */
	u32 *page_table;                      /* the same of the pages */
	u64 page_table_size;
	bool full; /* out of memory, or of what the file's numbers can say: said when writing */
};

struct recorder *recorder_create(struct err *err)
{
	struct recorder *recorder = calloc(1, sizeof(*recorder));

	if (!recorder)
		err_set(err, "out of memory");
	return recorder;
}

void recorder_destroy(struct recorder *recorder)
{
	if (!recorder)
		return;
	free(recorder->records.data);
	free(recorder->bytes.data);
	free(recorder->counts.data);
	free(recorder->pending.data);
	free(recorder->pages.data);
	free(recorder->table);
	free(recorder->page_table);
	free(recorder);
}

/* Room for so many bytes more, zeroed; NULL if memory is short. */
static void *extend(struct recorder *recorder, struct buffer *buffer, u64 size)
{
	if (buffer->size + size > buffer->room) {
		u64 room = (buffer->size + size) * 2 + PAGE_SIZE;
		u8 *data = buffer->size + size <= UINT32_MAX ? realloc(buffer->data, room) : NULL;

		if (!data) {
			recorder->full = true;
			return NULL;
		}
		buffer->data = data;
		buffer->room = room;
	}
	u8 *at = buffer->data + buffer->size;

	memset(at, 0, size);
	buffer->size += size;
	return at;
}

static struct tcache_executed *records_of(const struct recorder *recorder)
{
	return (struct tcache_executed *)recorder->records.data;
}

static u64 record_count(const struct recorder *recorder)
{
	return recorder->records.size / sizeof(struct tcache_executed);
}

static bool is_record_of(const struct recorder *recorder, u32 number, const struct unit *unit, u32 page,
			 const u8 *bytes)
{
	const struct tcache_executed *record = &records_of(recorder)[number];

	return record->pc == unit->pc && record->page == page && record->mode == unit->mode &&
	       record->guest_length == unit->guest_bytes && record->count_count == unit->counters_count &&
	       !memcmp(recorder->bytes.data + record->bytes_first, bytes, unit->guest_bytes);
}

static u64 hash_of(u64 pc, u32 mode, const u8 *bytes, unsigned length)
{
	u64 hash[2];

	tcache_hash(bytes, length, hash);
	return (pc ^ (u64)mode << 32 ^ hash[0]) * 0x9e3779b97f4a7c15ULL >> 16;
}

/* The place of the unit's record in the table; it is free if there is none yet. */
static u32 *find(const struct recorder *recorder, const struct unit *unit, u32 page, const u8 *bytes)
{
	u64 i = hash_of(unit->pc, unit->mode, bytes, unit->guest_bytes) & (recorder->table_size - 1);

	while (recorder->table[i] && !is_record_of(recorder, recorder->table[i] - 1, unit, page, bytes))
		i = (i + 1) & (recorder->table_size - 1);
	return &recorder->table[i];
}

/* At most half of the table is used. */
static bool grow_table(struct recorder *recorder)
{
	u64 size = recorder->table_size ? recorder->table_size * 2 : 8192;
	u32 *table = calloc(size, sizeof(*table));

	if (!table)
		return false;
	for (u32 n = 0; n < record_count(recorder); n++) {
		const struct tcache_executed *record = &records_of(recorder)[n];
		u64 i = hash_of(record->pc, record->mode, recorder->bytes.data + record->bytes_first,
				record->guest_length) &
			(size - 1);

		while (table[i])
			i = (i + 1) & (size - 1);
		table[i] = n + 1;
	}
	free(recorder->table);
	recorder->table = table;
	recorder->table_size = size;
	return true;
}

/* Number of the unit's record plus 1, a new one if it was never seen; 0 and recorder->full if there is no room. */
static u32 enter(struct recorder *recorder, const struct unit *unit, u32 page, const u8 *bytes)
{
	struct tcache_executed *record;
	u8 *to;
	u32 *place;

	if (record_count(recorder) * 2 >= recorder->table_size && !grow_table(recorder)) {
		recorder->full = true;
		return 0;
	}
	place = find(recorder, unit, page, bytes);
	if (*place)
		return *place;
	to = extend(recorder, &recorder->bytes, unit->guest_bytes);
	if (!to || (unit->counters_count && !extend(recorder, &recorder->counts, unit->counters_count * sizeof(u64))))
		return 0;
	record = extend(recorder, &recorder->records, sizeof(*record));
	if (!record)
		return 0;
	memcpy(to, bytes, unit->guest_bytes);
	*record = (struct tcache_executed){.pc = unit->pc,
					   .mode = unit->mode,
					   .guest_length = unit->guest_bytes,
					   .bytes_first = (u32)(recorder->bytes.size - unit->guest_bytes),
					   .count_first =
						   (u32)(recorder->counts.size / sizeof(u64) - unit->counters_count),
					   .count_count = unit->counters_count,
					   .page = page};
	*place = (u32)record_count(recorder);
	return *place;
}

static const struct tcache_recorded_page *pages_of(const struct recorder *recorder)
{
	return (const struct tcache_recorded_page *)recorder->pages.data;
}

static u64 page_count(const struct recorder *recorder)
{
	return recorder->pages.size / sizeof(struct tcache_recorded_page);
}

/* The place of the page in its table; it is free if the page is new. */
static u32 *find_page(const struct recorder *recorder, const struct tcache_recorded_page *page)
{
	u64 i = page->hash[0] & (recorder->page_table_size - 1);

	while (recorder->page_table[i] &&
	       memcmp(&pages_of(recorder)[recorder->page_table[i] - 1], page, sizeof(*page)) != 0)
		i = (i + 1) & (recorder->page_table_size - 1);
	return &recorder->page_table[i];
}

static bool grow_page_table(struct recorder *recorder)
{
	u64 size = recorder->page_table_size ? recorder->page_table_size * 2 : 1024;
	u32 *table = calloc(size, sizeof(*table));

	if (!table)
		return false;
	free(recorder->page_table);
	recorder->page_table = table;
	recorder->page_table_size = size;
	for (u32 n = 0; n < page_count(recorder); n++)
		*find_page(recorder, &pages_of(recorder)[n]) = n + 1;
	return true;
}

/* The number of this page plus 1; 0 if memory is short. */
static u32 enter_page(struct recorder *recorder, const u8 *page)
{
	struct tcache_recorded_page record, *added;
	u32 *place;

	if (page_count(recorder) * 2 >= recorder->page_table_size && !grow_page_table(recorder)) {
		recorder->full = true;
		return 0;
	}
	tcache_hash(page, PAGE_SIZE, record.hash);
	place = find_page(recorder, &record);
	if (*place)
		return *place;
	added = extend(recorder, &recorder->pages, sizeof(record));
	if (!added)
		return 0;
	*added = record;
	*place = (u32)page_count(recorder);
	return *place;
}

/* What was dropped and is translated again, as after a flush, is the same record: its counts are added up. */
void recorder_add(struct recorder *recorder, const struct unit *unit, u64 *counters, const u8 *bytes, const u8 *page)
{
	struct pending *pending;
	u32 record, page_number = 0;

	if (recorder->full || (page && !(page_number = enter_page(recorder, page))))
		return;
	record = enter(recorder, unit, page_number, bytes);
	if (!record || !unit->counters_count)
		return;
	pending = extend(recorder, &recorder->pending, sizeof(*pending));
	if (pending)
		*pending = (struct pending){.counters = counters, .record = record - 1, .lasting = page};
}

void recorder_harvest(struct recorder *recorder, bool lasting)
{
	struct pending *pending = (struct pending *)recorder->pending.data;
	u64 count = recorder->pending.size / sizeof(*pending), kept = 0;
	u64 *counts = (u64 *)recorder->counts.data;

	for (u64 i = 0; i < count; i++) {
		const struct tcache_executed *record = &records_of(recorder)[pending[i].record];

		if (pending[i].lasting != lasting) {
			pending[kept++] = pending[i];
			continue;
		}
		for (u32 k = 0; k < record->count_count; k++)
			counts[record->count_first + k] += pending[i].counters[k];
	}
	recorder->pending.size = kept * sizeof(*pending);
}

int recorder_write(struct recorder *recorder, const struct live *live, int fd, const char *path, struct err *err)
{
	struct tcache_write_options options = {.into_fd = true, .fd = fd};
	struct tcache_writer *writer;
	char error[512];

	translator_fingerprint(&live->store, cpu_model_name(live->vm->config.cpu), &options.fingerprint);
	if (recorder->full)
		return err_set(err, "cannot write '%s': too much was executed for the memory or for one recording",
			       path);
	if (tcache_writer_create(path, &options, &writer, error, sizeof(error)) != TCACHE_OK)
		return err_set(err, "%s", error);
	tcache_writer_chunk(writer, TCACHE_TYPE_executed, recorder->records.data, recorder->records.size);
	tcache_writer_chunk(writer, TCACHE_TYPE_guest, recorder->bytes.data, recorder->bytes.size);
	tcache_writer_chunk(writer, TCACHE_TYPE_counts, recorder->counts.data, recorder->counts.size);
	tcache_writer_chunk(writer, TCACHE_TYPE_recorded_pages, recorder->pages.data, recorder->pages.size);
	if (tcache_writer_finish(writer, error, sizeof(error)) != TCACHE_OK)
		return err_set(err, "%s", error);
	return 0;
}
