/*
 * An offline store that is filled with units and written to a cache file: the memory it lies in has the addresses at
 * which `avant run` will map the file, so that code needs no relocation.
 */
#ifndef AVANT_AOT_BUILD_H
#define AVANT_AOT_BUILD_H

#include "plan.h"
#include "translate/store.h"

#define PLACES 2 /* caches that can be used together must have different places */

struct build_options {
	unsigned place;    /* 0 … PLACES - 1 */
	bool counted;      /* code that counts instructions, for --count and --clock instructions */
	bool exact_flags;  /* … for --trace-state */
	bool returns_host; /* --returns host */
	const char *guest_cpu;
};

struct build;
struct lifted;
struct translation;

struct build *build_create(const struct build_options *options, struct err *err);
void build_destroy(struct build *build);

struct store *build_store(struct build *build);
/* The work area of the last unit that was translated. */
const struct translation *build_translation(const struct build *build);
/* Bytes of host code made so far. */
u64 build_code(const struct build *build);

enum build_result { BUILD_OK, BUILD_SKIPPED, BUILD_FULL };

/*
 * Translates what is wanted by copying. BUILD_SKIPPED: the bytes do not scan to exactly this unit (a made-up
 * recording); BUILD_FULL: the place has no room for more.
 */
enum build_result build_copy(struct build *build, const struct want *want);

/* The same with its hot loops lifted. */
enum build_result build_lifted(struct build *build, const struct want *want, const struct lifted *lifted);

/*
 * Keeping translations of an older cache, before anything is translated. Code, cells, links and instruction records
 * stay where they are, because the code names them; so do the numbers of jump targets. What is not kept leaves gaps.
 */
struct tcache;
struct tcache_unit_view;
struct tcache_template_view;
struct tcache_module_view;

/* Was it made for this place, CPU and options? Also an empty place has room for it. 0, or -1 with a message in err. */
int build_check_cache(const struct build *build, struct tcache *cache, struct err *err);
/* Takes over what units share. The cache has been checked, and must stay open until build_write(). */
int build_keep_begin(struct build *build, struct tcache *cache, struct err *err);
/* Takes over a translation as it is. False: it takes what others have, as no cache of avant translate does; or no room.
 */
bool build_keep_unit(struct build *build, const struct want *want, const struct tcache_unit_view *view);
bool build_keep_template(struct build *build, const struct want *want, const struct tcache_template_view *view);
bool build_keep_module(struct build *build, const struct want *want, const struct tcache_module_view *view);
/* No more is kept. */
void build_keep_end(struct build *build);

/* An input that the cache shall name. */
struct build_image {
	const char *path;
	unsigned kind;    /* enum tcache_image_kind */
	const void *file; /* its contents, for the digest */
	u64 file_size;
	const void *data; /* what was unpacked from it and shall be kept, or NULL */
	u64 data_size;
};

/* The name of the code that is wanted and the offset in it, or NULL. */
typedef const char *build_namer(void *opaque, const struct want *want, u64 *offset);

/*
 * Writes all to a file. Returns 0, or -1 with a message in err; the file is complete or not there. `log` is kept in it.
 */
int build_write(struct build *build, const char *path, const struct build_image *images, unsigned image_count,
		build_namer *namer, void *opaque, const char *log, struct err *err);

#endif
