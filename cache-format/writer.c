/* Writing a cache: chunks one after the other, then the tables, then the header. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct tcache_writer {
	struct temp_file file;
	char *name;
	char message[512];
	struct report report;
	enum tcache_status status; /* of the first call that failed */
	struct tcache_header header;
	const uint8_t *secret_key;
	struct tcache_toc_entry toc[TCACHE_MAX_CHUNKS];
	struct tcache_group *groups;
	uint32_t group_room;
	bool open;       /* a chunk is */
	uint64_t offset; /* of buffer in the file */
	size_t fill;
	uint8_t buffer[TCACHE_GROUP];
	uint64_t written; /* bytes of the file; what follows, up to offset, is in the window */
	uint8_t window[TCACHE_HUGE];
};

static void copy_text(char *to, const char *from, size_t size)
{
	size_t length = strnlen(from, size - 1);

	memset(to, 0, size);
	memcpy(to, from, length);
}

static void start_header(struct tcache_writer *w, const struct tcache_write_options *options)
{
	struct tcache_header *h = &w->header;

	memcpy(h->magic, TCACHE_MAGIC, sizeof(h->magic));
	h->version = TCACHE_VERSION;
	h->header_size = TCACHE_HEADER_SIZE;
	h->flags = options->secret_key ? TCACHE_SIGNED : 0;
	h->group_digest = options->secret_key ? TCACHE_DIGEST_BLAKE2B : TCACHE_DIGEST_XXH3;
	h->page_size = TCACHE_PAGE;
	h->group_size = TCACHE_GROUP;
	h->fingerprint = options->fingerprint;
	copy_text(h->fingerprint.translator, options->fingerprint.translator, sizeof(h->fingerprint.translator));
	copy_text(h->fingerprint.guest_cpu, options->fingerprint.guest_cpu, sizeof(h->fingerprint.guest_cpu));
	h->created = options->created;
	w->secret_key = options->secret_key;
	w->offset = w->written = TCACHE_PAGE;
}

enum tcache_status tcache_writer_create(const char *path, const struct tcache_write_options *options,
					struct tcache_writer **out, char *error, size_t size)
{
	struct report caller = {.name = path, .text = error, .size = size};
	struct tcache_writer *w = calloc(1, sizeof(*w));
	enum tcache_status status;

	*out = NULL;
	if (w)
		w->name = strdup(path);
	if (!w || !w->name) {
		free(w);
		return tcache_fail(&caller, TCACHE_ERR_MEMORY, "out of memory");
	}
	status = tcache_digest_init(&caller);
	w->file.fd = w->file.dir = -1;
	if (!status)
		status = options->into_fd ? temp_adopt(&w->file, options->fd, &caller)
					  : temp_create(&w->file, path, options->named_temp, &caller);
	if (status) {
		tcache_writer_abort(w);
		return status;
	}
	w->report = (struct report){w->name, w->message, sizeof(w->message), NULL};
	w->file.report = w->report;
	start_header(w, options);
	*out = w;
	return TCACHE_OK;
}

static enum tcache_status fail(struct tcache_writer *w, enum tcache_status status, const char *text)
{
	w->status = status;
	return tcache_fail(&w->report, status, "cannot be written: %s", text);
}

/* Writes what is in the window. */
static enum tcache_status flush_window(struct tcache_writer *w)
{
	if (w->written < w->offset)
		w->status =
			temp_write(&w->file, w->window + w->written % TCACHE_HUGE, w->offset - w->written, w->written);
	w->written = w->offset;
	return w->status;
}

/* Appends to the file. What is written at once, file systems keep in one huge page. */
static enum tcache_status put(struct tcache_writer *w, const uint8_t *bytes, size_t size)
{
	while (size) {
		size_t at = w->offset % TCACHE_HUGE, part = TCACHE_HUGE - at < size ? TCACHE_HUGE - at : size;

		memcpy(w->window + at, bytes, part);
		w->offset += part;
		bytes += part;
		size -= part;
		if (at + part == TCACHE_HUGE && flush_window(w))
			return w->status;
	}
	return TCACHE_OK;
}

/* Writes the page group in the buffer, zeros up to the end of its last page included, and notes its digest. */
static enum tcache_status flush_group(struct tcache_writer *w)
{
	size_t padded = pages_up(w->fill);

	if (!w->fill)
		return TCACHE_OK;
	if (w->header.group_count == TCACHE_MAX_GROUPS)
		return fail(w, TCACHE_ERR_LIMIT, "it would get too long");
	if (w->header.group_count == w->group_room) {
		uint32_t room = w->group_room ? w->group_room * 2 : 256;
		struct tcache_group *groups = realloc(w->groups, room * sizeof(*groups));

		if (!groups)
			return fail(w, TCACHE_ERR_MEMORY, "out of memory");
		w->groups = groups;
		w->group_room = room;
	}
	memset(w->buffer + w->fill, 0, padded - w->fill);
	tcache_group_digest(w->header.group_digest, w->buffer, padded, w->groups[w->header.group_count].digest);
	w->header.group_count++;
	w->fill = 0;
	return put(w, w->buffer, padded);
}

enum tcache_status tcache_writer_begin_other(struct tcache_writer *w, uint32_t type, uint32_t flags,
					     uint32_t element_size, uint32_t schema)
{
	const struct tcache_kind *kind = tcache_kind(type);

	if (w->status)
		return w->status;
	if (w->open || !element_size || (flags & ~TCACHE_CHUNK_FLAGS))
		return fail(w, TCACHE_ERR_USAGE, "a chunk is still open, or has impossible properties");
	if (w->header.chunk_count == TCACHE_MAX_CHUNKS)
		return fail(w, TCACHE_ERR_LIMIT, "it has too many chunks");
	for (uint32_t i = 0; kind && kind->single && i < w->header.chunk_count; i++)
		if (w->toc[i].type == type)
			return fail(w, TCACHE_ERR_USAGE, "the same chunk twice");
	w->toc[w->header.chunk_count++] = (struct tcache_toc_entry){
		.type = type,
		.flags = flags,
		.offset = w->offset,
		.element_size = element_size,
		.schema = schema,
		.first_group = w->header.group_count,
	};
	w->open = true;
	return TCACHE_OK;
}

enum tcache_status tcache_writer_begin(struct tcache_writer *w, uint32_t type)
{
	const struct tcache_kind *kind = tcache_kind(type);

	if (w->status)
		return w->status;
	if (!kind)
		return fail(w, TCACHE_ERR_USAGE, "a chunk of unknown type");
	return tcache_writer_begin_other(w, type, kind->flags, kind->element_size, kind->schema);
}

enum tcache_status tcache_writer_append(struct tcache_writer *w, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	if (w->status)
		return w->status;
	if (!w->open)
		return fail(w, TCACHE_ERR_USAGE, "bytes outside of a chunk");
	w->toc[w->header.chunk_count - 1].length += size;
	while (size) {
		size_t part = TCACHE_GROUP - w->fill < size ? TCACHE_GROUP - w->fill : size;

		memcpy(w->buffer + w->fill, bytes, part);
		w->fill += part;
		bytes += part;
		size -= part;
		if (w->fill == TCACHE_GROUP && flush_group(w))
			return w->status;
	}
	return TCACHE_OK;
}

enum tcache_status tcache_writer_end(struct tcache_writer *w)
{
	struct tcache_toc_entry *entry;

	if (w->status)
		return w->status;
	if (!w->open)
		return fail(w, TCACHE_ERR_USAGE, "no chunk is open");
	entry = &w->toc[w->header.chunk_count - 1];
	if (entry->length % entry->element_size)
		return fail(w, TCACHE_ERR_USAGE, "a chunk is not a whole number of records");
	if (entry->type == TCACHE_TYPE_code && entry->length > TCACHE_MAX_CODE)
		return fail(w, TCACHE_ERR_LIMIT, "too much code");
	if (entry->element_size > 1 && entry->length / entry->element_size > UINT32_MAX)
		return fail(w, TCACHE_ERR_LIMIT, "too many records");
	if (flush_group(w))
		return w->status;
	entry->group_count = w->header.group_count - entry->first_group;
	w->open = false;
	return TCACHE_OK;
}

enum tcache_status tcache_writer_chunk(struct tcache_writer *w, uint32_t type, const void *data, size_t size)
{
	tcache_writer_begin(w, type);
	tcache_writer_append(w, data, size);
	return tcache_writer_end(w);
}

enum tcache_status tcache_writer_align(struct tcache_writer *w)
{
	static const uint8_t zeros[TCACHE_PAGE];

	tcache_writer_begin(w, TCACHE_TYPE_padding);
	/* an empty chunk takes no room */
	for (uint64_t at = w->offset; at % TCACHE_HUGE; at += sizeof(zeros))
		tcache_writer_append(w, zeros, sizeof(zeros));
	return tcache_writer_end(w);
}

uint32_t tcache_writer_chunk_count(const struct tcache_writer *w)
{
	return w->header.chunk_count;
}

static void make_footer(const struct tcache_writer *w, const uint8_t *head, uint8_t *tail, uint64_t bytes)
{
	struct tcache_footer *footer = (struct tcache_footer *)(tail + bytes - sizeof(*footer));

	memcpy(footer->magic, TCACHE_FOOTER_MAGIC, sizeof(footer->magic));
	footer->length = w->header.length;
	footer->version = w->header.version;
	tcache_root_digest(head, tail, bytes, footer->digest);
	if (w->secret_key)
		tcache_sign(footer, w->secret_key);
}

static enum tcache_status write_fixed_parts(struct tcache_writer *w)
{
	struct tcache_header *h = &w->header;
	uint64_t bytes = tail_size(h->chunk_count, h->group_count);
	size_t toc_size = h->chunk_count * sizeof(w->toc[0]);
	uint8_t head[TCACHE_PAGE] = {0};
	uint8_t *tail = calloc(1, bytes);

	if (!tail)
		return fail(w, TCACHE_ERR_MEMORY, "out of memory");
	if (flush_window(w)) {
		free(tail);
		return w->status;
	}
	h->tail = w->offset;
	h->length = h->tail + bytes;
	memcpy(head, h, sizeof(*h));
	memcpy(tail, w->toc, toc_size);
	if (h->group_count)
		memcpy(tail + toc_size, w->groups, h->group_count * sizeof(w->groups[0]));
	make_footer(w, head, tail, bytes);
	if (h->length > TCACHE_MAX_LENGTH)
		fail(w, TCACHE_ERR_LIMIT, "it would get too long");
	else
		w->status = tcache_check_head(head, h->length, &w->report);
	if (!w->status)
		w->status = temp_write(&w->file, tail, bytes, h->tail);
	if (!w->status)
		w->status = temp_write(&w->file, head, sizeof(head), 0);
	free(tail);
	return w->status;
}

enum tcache_status tcache_writer_finish(struct tcache_writer *w, char *error, size_t size)
{
	enum tcache_status status;

	if (!w->status && w->open)
		fail(w, TCACHE_ERR_USAGE, "a chunk is still open");
	if (!w->status)
		write_fixed_parts(w);
	if (!w->status)
		w->status = temp_publish(&w->file);
	status = w->status;
	if (status && size) {
		size_t length = strnlen(w->message, size - 1);

		memcpy(error, w->message, length);
		error[length] = 0;
	}
	tcache_writer_abort(w);
	return status;
}

void tcache_writer_abort(struct tcache_writer *w)
{
	if (!w)
		return;
	temp_release(&w->file);
	free(w->groups);
	free(w->name);
	free(w);
}
