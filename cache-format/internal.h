/* What the files of this library share. */
#ifndef TCACHE_INTERNAL_H
#define TCACHE_INTERNAL_H

#include <signal.h>

#include "tcache.h"

/* Where a message goes. */
struct report {
	const char *name; /* of the file */
	char *text;       /* may be NULL if size is 0 */
	size_t size;
	enum tcache_status *last; /* the status is left here too, unless NULL */
};

/* Writes "'NAME': …" and returns status. */
enum tcache_status tcache_fail(const struct report *report, enum tcache_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A line of TCACHE_CHUNKS. */
struct tcache_kind {
	uint32_t type;
	uint32_t element_size;
	uint32_t flags;
	uint32_t schema;
	bool single;
	const char *text;
};

/* NULL if the type is not known. */
const struct tcache_kind *tcache_kind(uint32_t type);
/* The entry is one that this version understands. */
bool tcache_understood(const struct tcache_toc_entry *entry);

/* "UNIT", or hexadecimal if it is not printable. */
struct type_name {
	char text[12];
};

struct type_name tcache_type_name(uint32_t type);

struct ahead;

struct tcache {
	char *name;
	char message[512];
	enum tcache_status last; /* belongs to message */
	struct report report;
	/* header page, and everything from the table of contents to the end of the file: private copies */
	uint8_t *head;
	uint8_t *tail;
	const struct tcache_header *header;
	const struct tcache_toc_entry *toc;
	const struct tcache_group *groups;
	uint32_t *found; /* by kind: its first chunk that is understood, or TCACHE_NO_CHUNK */
	const struct tcache_footer *footer;
	uint8_t *verified;   /* bit n: group n matched its digest */
	const uint8_t *map;  /* chunks: file offsets 0 … header->tail */
	struct ahead *ahead; /* a chunk that is being checked by a thread, or NULL */
	int fd;              /* for tcache_map_code() and tcache_map_cells() */
	bool placed;         /* placement was checked */
	struct tcache_placement placement;
};

/* Number of a type in the table of kinds, tcache_kind_count if unknown. */
uint32_t tcache_kind_number(uint32_t type);
extern const uint32_t tcache_kind_count;
/* Notes where chunks are, for tcache_find(). */
bool tcache_find_all(struct tcache *cache);

static inline uint64_t pages_up(uint64_t size)
{
	return (size + TCACHE_PAGE - 1) & ~(uint64_t)(TCACHE_PAGE - 1);
}

/* Page groups of a chunk of this length. */
static inline uint64_t groups_of(uint64_t length)
{
	return (pages_up(length) + TCACHE_GROUP - 1) / TCACHE_GROUP;
}

/* Bytes of the tail up to and including the footer, in whole pages. */
static inline uint64_t tail_size(uint64_t chunks, uint64_t groups)
{
	return pages_up(chunks * sizeof(struct tcache_toc_entry) + groups * sizeof(struct tcache_group) +
			sizeof(struct tcache_footer));
}

/* Nothing but zeros? */
bool tcache_zero(const void *data, size_t size);

#define FAIL_RECORD(cache, ...) tcache_fail(&(cache)->report, TCACHE_ERR_RECORD, __VA_ARGS__)

/* Returns from the function, with what a comparison returns, if they differ. */
#define COMPARE(a, b)                                                                                                  \
	do {                                                                                                           \
		if ((a) != (b))                                                                                        \
			return (a) < (b) ? -1 : 1;                                                                     \
	} while (0)

/* units.c: all records of units against FORMAT.md and each other. */
enum tcache_status tcache_check_units(struct tcache *cache);
/* units.c: parts that templates have as well. */
enum tcache_status tcache_check_pcs(struct tcache *cache, const struct tcache_pc *pcs, uint32_t count,
				    uint32_t code_length, uint32_t guest_length, const char *what, uint32_t number);
enum tcache_status tcache_check_entries(struct tcache *cache, const struct tcache_entry *entries, uint32_t count,
					uint32_t code_length, uint32_t guest_length, const char *what, uint32_t number);
enum tcache_status tcache_check_insns(struct tcache *cache, const struct tcache_insn *insns, uint64_t first,
				      uint64_t count);
/* templates.c: the same for templates and pages. */
enum tcache_status tcache_check_templates(struct tcache *cache);
/* modules.c: the same for code of kernel modules. */
enum tcache_status tcache_check_modules(struct tcache *cache);
/* placement.c: the placement, if there is one or must be one. */
enum tcache_status tcache_check_placement(struct tcache *cache);

/* ahead.c: ends tcache_verify_ahead()'s thread when this chunk is wanted. */
void tcache_join_ahead(struct tcache *cache, uint32_t chunk);
/* The same when this chunk, or with TCACHE_NO_CHUNK any, is not wanted. */
void tcache_stop_ahead(struct tcache *cache, uint32_t chunk);

/* layout.c: the fixed parts, in memory. Pure functions: no file, no state. */

/* The header page (size: valid bytes of it, rest zero) of a file of file_size bytes. */
enum tcache_status tcache_check_head(const uint8_t head[TCACHE_PAGE], uint64_t file_size, const struct report *report);
/* Digest and signature over both; then the footer's fields. `head` was checked, `tail` has the size it promises. */
enum tcache_status tcache_check_footer(const uint8_t *head, const uint8_t *tail, const struct report *report);
/* The table of contents. */
enum tcache_status tcache_check_toc(const uint8_t *head, const uint8_t *tail, const struct report *report);
/* The footer's digest as it should be. */
void tcache_root_digest(const uint8_t *head, const uint8_t *tail, uint64_t tail_bytes,
			uint8_t digest[TCACHE_DIGEST_SIZE]);

/* digest.c */
#define TCACHE_SECRET_KEY_SIZE 64u

enum tcache_status tcache_digest_init(const struct report *report);
/* Digest of a page group: kind is TCACHE_DIGEST_…. */
void tcache_group_digest(uint32_t kind, const void *data, size_t size, uint8_t digest[TCACHE_DIGEST_SIZE]);
/* BLAKE2b-256 of two pieces. */
void tcache_digest2(const void *a, size_t a_size, const void *b, size_t b_size, uint8_t digest[TCACHE_DIGEST_SIZE]);
bool tcache_signature_valid(const struct tcache_footer *footer);
void tcache_sign(struct tcache_footer *footer, const uint8_t secret_key[TCACHE_SECRET_KEY_SIZE]);

/* temp.c: a file that gets its name at the end. */
struct temp_file {
	int fd;
	int dir;
	bool named;
	char name[32];    /* temporary name in dir, if it has one */
	const char *base; /* final name in dir; points into path */
	char *path;
	struct report report;
	bool holds_signals; /* of the thread that created the file; the same must release it */
	sigset_t signals_before;
};

enum tcache_status temp_create(struct temp_file *file, const char *path, bool named, const struct report *report);
/* A file that somebody else names: publishing does nothing. The descriptor stays the caller's. */
enum tcache_status temp_adopt(struct temp_file *file, int fd, const struct report *report);
/* Writes all of it or fails. */
enum tcache_status temp_write(struct temp_file *file, const void *data, size_t size, uint64_t offset);
/* Makes it durable and visible. */
enum tcache_status temp_publish(struct temp_file *file);
/* Closes and, if it was not published, removes it. */
void temp_release(struct temp_file *file);

#endif
