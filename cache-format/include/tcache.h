/*
 * Translated-code caches: reading, checking, writing. FORMAT.md specifies the file, tcache_disk.h its structures.
 *
 * A fallible call returns a status; 0 is success. Messages are complete: they name the file and the reason, and are
 * always zero-terminated within the size given (512 is plenty; a NULL buffer of size 0 is allowed).
 *
 * A struct tcache serves one thread at a time. The library uses vector registers and (when opening) malloc: it must not
 * be called while a guest's vector registers are live in the host's.
 */
#ifndef TCACHE_H
#define TCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tcache_disk.h"

struct tcache;
struct tcache_writer;

/* constant, name for statistics */
#define TCACHE_STATUSES(X)                                                                                             \
	X(TCACHE_OK, "ok")                                                                                             \
	X(TCACHE_ERR_SYSTEM, "system-error") /* a system call failed: cannot open, read, map */                        \
	X(TCACHE_ERR_MEMORY, "out-of-memory")                                                                          \
	X(TCACHE_ERR_KIND, "not-a-regular-file")                                                                       \
	X(TCACHE_ERR_OWNER, "foreign-owned")                                                                           \
	X(TCACHE_ERR_MODE, "writable-by-others")                                                                       \
	X(TCACHE_ERR_MAGIC, "not-a-cache")                                                                             \
	X(TCACHE_ERR_VERSION, "format-version")                                                                        \
	X(TCACHE_ERR_TRUNCATED, "wrong-length")                                                                        \
	X(TCACHE_ERR_HEADER, "bad-header")                                                                             \
	X(TCACHE_ERR_FOOTER, "bad-footer")                                                                             \
	X(TCACHE_ERR_DIGEST, "damaged") /* bytes do not match their digest */                                          \
	X(TCACHE_ERR_SIGNATURE, "bad-signature")                                                                       \
	X(TCACHE_ERR_TOC, "bad-table-of-contents")                                                                     \
	X(TCACHE_ERR_UNKNOWN, "unknown-chunk")   /* critical, of unknown type or schema */                             \
	X(TCACHE_ERR_FINGERPRINT, "fingerprint") /* made for another translator, option set, host or guest CPU */      \
	X(TCACHE_ERR_RECORD, "bad-record")       /* contents that contradict FORMAT.md */                              \
	X(TCACHE_ERR_RANGE, "out-of-range")      /* the caller asked for what is not there */                          \
	X(TCACHE_ERR_LIMIT, "limit")                                                                                   \
	X(TCACHE_ERR_WRITE, "write-error")                                                                             \
	X(TCACHE_ERR_USAGE, "usage") /* calls in an order that makes no sense */

enum tcache_status {
#define X(constant, name) constant,
	TCACHE_STATUSES(X)
#undef X
		TCACHE_STATUS_COUNT
};

const char *tcache_status_name(enum tcache_status status);

/* ---- reading ---- */

#define TCACHE_TRUST (1u << 0) /* do not test owner and permissions */

/*
 * Opens and checks everything but the contents of chunks, which are checked page group by page group when they are
 * first asked for. Symbolic links are not followed. The owner must be root or the effective user, and nobody else may
 * have write permission; all tests are made on the opened descriptor. *out is set to NULL on failure.
 */
enum tcache_status tcache_open(const char *path, unsigned flags, struct tcache **out, char *error, size_t size);
/* The same on a descriptor, which stays the caller's and may be closed afterwards; name is used in messages. */
enum tcache_status tcache_open_fd(int fd, const char *name, unsigned flags, struct tcache **out, char *error,
				  size_t size);
/* NULL is allowed. What tcache_map_code() and tcache_map_cells() mapped stays mapped. */
void tcache_close(struct tcache *cache);

/* The message of the last call on this cache that failed; "" if none did. */
const char *tcache_error(const struct tcache *cache);
/* Its status. */
enum tcache_status tcache_last_status(const struct tcache *cache);
const char *tcache_name(const struct tcache *cache);
/* Checked, and unaffected by what happens to the file later. */
const struct tcache_header *tcache_header(const struct tcache *cache);
const struct tcache_footer *tcache_footer(const struct tcache *cache);

/*
 * Is it made for this translator, these options, this guest CPU model, and does the host have what the code needs?
 * want->host_features is what the host offers (tcache_host_features()).
 */
enum tcache_status tcache_check_fingerprint(struct tcache *cache, const struct tcache_fingerprint *want);
/* Is it signed by the holder of this Ed25519 key (32 bytes)? (That the signature is valid, opening has checked.) */
enum tcache_status tcache_check_signer(struct tcache *cache, const uint8_t *public_key);
/* The features of this host, as far as TCACHE_HOST_FEATURES names them. */
void tcache_host_features(uint64_t features[2]);
/* Name of a host feature bit, or NULL. */
const char *tcache_host_feature_name(unsigned bit);

/* ---- chunks ---- */

#define TCACHE_NO_CHUNK (~0u)

uint32_t tcache_chunk_count(const struct tcache *cache);
/* Entry of the table of contents, NULL beyond its end. Entries of ignored chunks are there too. */
const struct tcache_toc_entry *tcache_toc(const struct tcache *cache, uint32_t chunk);
/* Number of the first chunk of this type that this version understands, or TCACHE_NO_CHUNK. */
uint32_t tcache_find(const struct tcache *cache, uint32_t type);
/* Meaning of a known type ("unit index"), or NULL. */
const char *tcache_type_text(uint32_t type);

/* Checks the digests of all page groups that the range touches, as far as that has not been done before. */
enum tcache_status tcache_verify_range(struct tcache *cache, uint32_t chunk, uint64_t offset, uint64_t length);
/*
 * Begins to check the digests of the first chunk of this type in a thread, if it is large: whoever uses the chunk later
 * waits less. Nothing else changes by it, and it may fail silently. The thread ends at that use, in tcache_forget() or
 * in tcache_close(); it takes no signals.
 */
void tcache_verify_ahead(struct tcache *cache, uint32_t type);
/* Checks all digests, and all records against FORMAT.md and each other. */
enum tcache_status tcache_verify_all(struct tcache *cache);

/*
 * Verified bytes of a chunk, valid until tcache_close(); NULL (see tcache_error()) if damaged or out of range. The
 * pointer is to a shared read-only mapping. An empty range gives a pointer that must not be read.
 */
const void *tcache_range(struct tcache *cache, uint32_t chunk, uint64_t offset, uint64_t length);
/* A whole chunk. */
const void *tcache_chunk(struct tcache *cache, uint32_t chunk, uint64_t *length);
/*
 * Tells the kernel that the chunk's pages are not needed soon: they leave the process' resident set. Also ends the
 * thread that tcache_verify_ahead() has started for it, if nobody has used the chunk.
 */
void tcache_forget(struct tcache *cache, uint32_t chunk);

/* ---- records ---- */

/* Number of records in the chunk of this type; 0 if there is none. */
uint64_t tcache_record_count(const struct tcache *cache, uint32_t type);
/* Verified records first … first + count - 1; NULL (see tcache_error()) if damaged or out of range. */
const void *tcache_records(struct tcache *cache, uint32_t type, uint64_t first, uint64_t count);

/* For each known chunk type: tcache_units(cache, first, count), tcache_units_count(cache), and so on. */
#define X(name, fourcc, record, single, flags, schema, text)                                                           \
	static inline const record *tcache_##name(struct tcache *cache, uint64_t first, uint64_t count)                \
	{                                                                                                              \
		return (const record *)tcache_records(cache, fourcc, first, count);                                    \
	}                                                                                                              \
	static inline uint64_t tcache_##name##_count(const struct tcache *cache)                                       \
	{                                                                                                              \
		return tcache_record_count(cache, fourcc);                                                             \
	}
TCACHE_CHUNKS(X)
#undef X

/* The string at this offset, NULL if there is none. Offset 0 is the empty string, also without a string chunk. */
const char *tcache_string(struct tcache *cache, uint32_t offset);

/* A unit with all that belongs to it, verified and in bounds. */
struct tcache_unit_view {
	const struct tcache_unit *unit;
	const uint8_t *code;
	const struct tcache_pc *pcs;
	const struct tcache_entry *entries;
	const struct tcache_link *links;
	const uint64_t *cells; /* one for each link, as in the file */
	const struct tcache_insn *insns;
	const uint8_t *guest; /* unit->guest_length bytes, or NULL: the file does not have them */
	const char *name;
};

enum tcache_status tcache_unit_view(struct tcache *cache, uint32_t number, struct tcache_unit_view *view);
/* Only what running it takes: insns, guest and name stay NULL, and their pages are not touched. */
enum tcache_status tcache_unit_run_view(struct tcache *cache, uint32_t number, struct tcache_unit_view *view);
/* The units that begin at this guest address: numbers *first … *first + *count - 1. None is no error. */
enum tcache_status tcache_unit_find(struct tcache *cache, uint64_t pc, uint32_t *first, uint32_t *count);
/* The unit whose code holds this offset in CODE: *number; TCACHE_ERR_RANGE if there is none. */
enum tcache_status tcache_unit_at_code(struct tcache *cache, uint64_t offset, uint32_t *number);
/* Do the unit's guest bytes reach into a second page? */
static inline bool tcache_unit_straddles(const struct tcache_unit *unit)
{
	return unit->pc % TCACHE_PAGE + unit->guest_length > TCACHE_PAGE;
}

/*
 * The TCACHE_LINK_SITE bytes at a link's site: a jump or call through the cell at this address, or straight to what is
 * `distance` bytes from their end. Setting one form keeps what it is, a jump or a call.
 */
void tcache_site_set_cell(uint8_t *site, uint32_t cell);
void tcache_site_set_direct(uint8_t *site, uint32_t distance);
bool tcache_site_is_cell(const uint8_t *site, uint32_t cell);
bool tcache_site_is_direct(const uint8_t *site, uint32_t distance);

/* A template with all that belongs to it, verified and in bounds. */
struct tcache_template_view {
	const struct tcache_template *record;
	const uint8_t *code;
	const struct tcache_pc *pcs;
	const struct tcache_entry *entries;
	const struct tcache_insn *insns;
	const struct tcache_template_link *links;
	const struct tcache_goal *goals;
	const uint32_t *fixups;
	const uint8_t *guest;
};

enum tcache_status tcache_template_view(struct tcache *cache, uint32_t number, struct tcache_template_view *view);
/* The page with this hash: *number; TCACHE_ERR_RANGE if there is none. */
enum tcache_status tcache_page_find(struct tcache *cache, const uint64_t hash[2], uint32_t *number);
/* A page's templates: numbers from `first` on those that were executed, and from `cold` to before `end` the others. */
struct tcache_page_range {
	uint32_t first, cold, end;
};

/* The page must exist. Without damage all numbers in the range are those of templates. */
enum tcache_status tcache_page_templates(struct tcache *cache, uint32_t page, struct tcache_page_range *range);
/* The first template from number `from` to before `end`, in the order of offsets, that is not before this offset. */
enum tcache_status tcache_page_at(struct tcache *cache, uint32_t from, uint32_t end, uint32_t offset, uint32_t *number);
/*
 * Some executed template for these guest bytes, of which `length` are there: *number; TCACHE_ERR_RANGE if there is
 * none.
 */
enum tcache_status tcache_template_find(struct tcache *cache, uint32_t offset, uint32_t mode, const uint8_t *bytes,
					size_t length, uint32_t *number);
/* A module's unit with all that belongs to it, verified and in bounds. */
struct tcache_module_view {
	const struct tcache_module_unit *record;
	const uint8_t *code;
	const struct tcache_pc *pcs;
	const struct tcache_entry *entries;
	const struct tcache_insn *insns;
	const struct tcache_module_fixup *fixups;
	const uint8_t *guest;  /* with the holes filled */
	const uint16_t *holes; /* of its page */
	uint32_t hole_count;
	uint32_t jumps; /* fix-ups that are jumps */
};

enum tcache_status tcache_module_view(struct tcache *cache, uint32_t number, struct tcache_module_view *view);
/*
 * Is the unit, by its bytes outside of holes and its mode, one for the guest's bytes at this offset in a page, of which
 * `length` are there? No is TCACHE_ERR_RANGE.
 */
enum tcache_status tcache_module_fits(struct tcache *cache, uint32_t number, uint32_t offset, uint32_t mode,
				      const uint8_t *bytes, size_t length);
/*
 * A unit of any page that fits: *number; TCACHE_ERR_RANGE if there is none. *cursor is at first 0, and makes the next
 * call go on behind what was found.
 */
enum tcache_status tcache_module_find(struct tcache *cache, uint32_t offset, uint32_t mode, const uint8_t *bytes,
				      size_t length, uint32_t *cursor, uint32_t *number);
/* The units of a page that begin at this offset: numbers *first … *end - 1. None is no error. */
enum tcache_status tcache_module_at(struct tcache *cache, uint32_t page, uint32_t offset, uint32_t *first,
				    uint32_t *end);
/* The key of a unit with these guest bytes (holes filled), of a page with these holes. */
struct tcache_module_key tcache_module_key_of(const struct tcache_module_unit *unit, uint32_t number,
					      const uint8_t *guest, const uint16_t *holes, uint32_t hole_count);
/* The order of modules' units in a file, of their pages, and of keys (qsort). */
int tcache_module_compare(const void *a, const void *b);
int tcache_module_page_compare(const void *a, const void *b);
int tcache_module_key_compare(const void *a, const void *b);
/* The order of templates in a file, of executed ones in TBYC, and of pages (qsort). */
int tcache_template_compare(const void *a, const void *b);
int tcache_template_compare_content(const void *a, const void *b);
int tcache_page_compare(const void *a, const void *b);
/* The order of units in a file (qsort). */
int tcache_unit_compare(const void *a, const void *b);
/*
 * What was unpacked from the image file with this digest: *data and *length. TCACHE_ERR_RANGE if the cache does not
 * hold it.
 */
enum tcache_status tcache_unpacked(struct tcache *cache, const uint8_t digest[TCACHE_DIGEST_SIZE], const void **data,
				   uint64_t *length);

/* ---- placement ---- */

/*
 * Where the areas of this cache lie, checked: inside TCACHE_AREA_BEGIN … TCACHE_AREA_END, without overlap; and whether
 * the chunks that describe units are there as a whole. NULL (see tcache_error()) if not, or if it holds no code. Valid
 * until tcache_close().
 */
const struct tcache_placement *tcache_place(struct tcache *cache);

/* Bytes that each area takes: whole pages, 0 if there is nothing in it. */
uint64_t tcache_code_size(const struct tcache *cache);
uint64_t tcache_cells_size(const struct tcache *cache);
/* That for decoded instructions, which the caller maps itself. Only after tcache_place() succeeded, otherwise 0. */
uint64_t tcache_insns_size(const struct tcache *cache);

#define TCACHE_MAP_REPLACE (1u << 0) /* the caller owns the address range, and what is mapped there may go */

/*
 * Maps the code at its address, readable and executable, shared by all processes. Nothing in it is verified by that:
 * before a unit is entered it must have been looked up by tcache_unit_view(). Fails if the range is in use (without
 * TCACHE_MAP_REPLACE) or the file system is mounted noexec.
 */
enum tcache_status tcache_map_code(struct tcache *cache, unsigned flags);
/*
 * Verifies the digests of the cells and maps them at their address, readable and writable, private. Fails if the range
 * is in use, as above. Without cells there is nothing to map: success.
 */
enum tcache_status tcache_map_cells(struct tcache *cache, unsigned flags);

/*
 * Maps bytes of the file that another function has returned (and checked) a second time, over what is mapped at `to`;
 * private, readable and writable. TCACHE_ERR_RANGE if they are none of this file's, or if one of data, size and `to` is
 * not a multiple of the page size.
 */
enum tcache_status tcache_map_copy(struct tcache *cache, const void *data, uint64_t size, void *to);

/* ---- digests ---- */

/* BLAKE2b-256: identity of option sets. */
void tcache_digest(const void *data, size_t size, uint8_t digest[TCACHE_DIGEST_SIZE]);
/*
 * XXH3-128 in canonical form, then 16 zero bytes: identity of image files. It is computed at each launch, and whoever
 * made two files with one digest would only have the one started that the cache knows.
 */
void tcache_image_digest(const void *data, size_t size, uint8_t digest[TCACHE_DIGEST_SIZE]);
/* XXH3-128 (low half, high half): keys of units and pages. */
void tcache_hash(const void *data, size_t size, uint64_t hash[2]);

/* ---- writing ---- */

struct tcache_write_options {
	struct tcache_fingerprint fingerprint; /* bytes after the texts' ends are cleared */
	uint64_t created;                      /* 0: reproducible */
	const uint8_t *secret_key;             /* Ed25519, 64 bytes as libsodium has it: sign; or NULL */
	bool named_temp; /* do not use O_TMPFILE: for tests, and what happens anyway where it is not supported */
	bool into_fd;    /* write into `fd`, which stays the caller's; the path is for messages alone */
	int fd;
};

/*
 * Starts a file that appears under its name, complete, when tcache_writer_finish() succeeds; until then an existing
 * file stays as it is, and if the process dies nothing is left (on file systems without O_TMPFILE: a file ".tcache-…"
 * in the same directory). The options are copied, the key is not.
 */
enum tcache_status tcache_writer_create(const char *path, const struct tcache_write_options *options,
					struct tcache_writer **out, char *error, size_t size);
/* Starts a chunk of a known type. Errors are remembered: it is enough to look at what tcache_writer_finish() says. */
enum tcache_status tcache_writer_begin(struct tcache_writer *writer, uint32_t type);
/* Starts a chunk that need not be in the table. */
enum tcache_status tcache_writer_begin_other(struct tcache_writer *writer, uint32_t type, uint32_t flags,
					     uint32_t element_size, uint32_t schema);
enum tcache_status tcache_writer_append(struct tcache_writer *writer, const void *data, size_t size);
enum tcache_status tcache_writer_end(struct tcache_writer *writer);
/* begin, append, end. */
enum tcache_status tcache_writer_chunk(struct tcache_writer *writer, uint32_t type, const void *data, size_t size);
/* Bytes of a huge page of the host's, in which file systems may keep what is read, written and mapped. */
#define TCACHE_HUGE 0x200000u
/* The next chunk begins at a multiple of TCACHE_HUGE: there is a chunk of zeros before it. */
enum tcache_status tcache_writer_align(struct tcache_writer *writer);
/* Chunks begun so far: the number that the next one will have. */
uint32_t tcache_writer_chunk_count(const struct tcache_writer *writer);
/* Publishes and frees the writer. On failure nothing is left behind, and an existing file is as it was. */
enum tcache_status tcache_writer_finish(struct tcache_writer *writer, char *error, size_t size);
/* Drops everything and frees the writer. NULL is allowed. */
void tcache_writer_abort(struct tcache_writer *writer);

#endif
