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

struct recorder {
	struct buffer records, bytes, counts; /* struct tcache_executed, guest bytes, u64 */
	u64 harvested;                        /* records whose counters have been taken */
	bool full;                            /* out of memory: said when writing */
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
	free(recorder);
}

/* Room for so many bytes more, zeroed; NULL if memory is short. */
static void *extend(struct recorder *recorder, struct buffer *buffer, u64 size)
{
	if (buffer->size + size > buffer->room) {
		u64 room = (buffer->size + size) * 2 + PAGE_SIZE;
		u8 *data = realloc(buffer->data, room);

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

/* The counters' numbers wait in the counts' place until they are harvested. */
void recorder_add(struct recorder *recorder, const struct unit *unit, const u8 *bytes)
{
	struct tcache_executed *record;
	u64 *counts;
	u8 *to;

	if (recorder->full)
		return;
	to = extend(recorder, &recorder->bytes, unit->guest_bytes);
	counts = extend(recorder, &recorder->counts, unit->counters_count * sizeof(u64));
	record = extend(recorder, &recorder->records, sizeof(*record));
	if (!to || !counts || !record)
		return;
	memcpy(to, bytes, unit->guest_bytes);
	*record = (struct tcache_executed){.pc = unit->pc,
					   .mode = unit->mode,
					   .guest_length = unit->guest_bytes,
					   .bytes_first = (u32)(recorder->bytes.size - unit->guest_bytes),
					   .count_first =
						   (u32)(recorder->counts.size / sizeof(u64) - unit->counters_count),
					   .count_count = unit->counters_count};
	if (unit->counters_count)
		*counts = unit->counters;
}

void recorder_harvest(struct recorder *recorder, const struct live *live)
{
	const struct tcache_executed *records = (const struct tcache_executed *)recorder->records.data;
	u64 count = recorder->records.size / sizeof(*records);
	u64 *counts = (u64 *)recorder->counts.data;

	for (u64 i = recorder->harvested; i < count; i++) {
		u64 first;

		if (!records[i].count_count)
			continue;
		first = counts[records[i].count_first];
		memcpy(counts + records[i].count_first, live->store.counters + first,
		       records[i].count_count * sizeof(u64));
	}
	recorder->harvested = count;
}

int recorder_write(struct recorder *recorder, const struct live *live, const char *path, struct err *err)
{
	struct tcache_write_options options = {0};
	struct tcache_writer *writer;

	translator_fingerprint(&live->store, cpu_model_name(live->vm->config.cpu), &options.fingerprint);
	char error[256];

	if (recorder->full)
		return err_set(err, "cannot write '%s': recording ran out of memory", path);
	if (tcache_writer_create(path, &options, &writer, error, sizeof(error)) != TCACHE_OK)
		return err_set(err, "%s", error);
	tcache_writer_chunk(writer, TCACHE_TYPE_executed, recorder->records.data, recorder->records.size);
	tcache_writer_chunk(writer, TCACHE_TYPE_guest, recorder->bytes.data, recorder->bytes.size);
	tcache_writer_chunk(writer, TCACHE_TYPE_counts, recorder->counts.data, recorder->counts.size);
	if (tcache_writer_finish(writer, error, sizeof(error)) != TCACHE_OK)
		return err_set(err, "%s", error);
	return 0;
}
