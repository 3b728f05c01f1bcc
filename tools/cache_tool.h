/* What the commands of the group `avant cache` share. */
#ifndef AVANT_TOOLS_CACHE_TOOL_H
#define AVANT_TOOLS_CACHE_TOOL_H

#include "command.h"
#include "tcache.h"

#include <jansson.h>

extern const struct command command_cache_info, command_cache_list, command_cache_dump, command_cache_disasm,
	command_cache_verify, command_cache_build;

/*
 * Opens a cache to look at it: whoever wrote it, its code will not run. NULL with a message on stderr if that fails.
 * tcache_close() is the caller's.
 */
struct tcache *cache_tool_open(const struct command *command, const char *path);
/* Says on stderr what the last call on this cache complained about; returns STATUS_ERROR. */
int cache_tool_failed(const struct command *command, const struct tcache *cache);

/* Text of a file as it may be shown on a terminal and put into JSON: no control characters, valid UTF-8. */
struct safe_text {
	char text[TCACHE_MAX_STRING + 1];
};

const char *safe_text(struct safe_text *safe, const char *raw, size_t length);
/* The string at this offset, "" if there is none. */
const char *cache_tool_string(struct tcache *cache, u32 offset, struct safe_text *safe);

/* Bytes in hexadecimal, at most TCACHE_DIGEST_SIZE. */
struct hex_text {
	char text[2 * TCACHE_DIGEST_SIZE + 1];
};

struct hex_text hex_text(const void *data, size_t size);
/* "IMGS", or hexadecimal if it is not printable. */
struct hex_text chunk_type_text(u32 type);

/* "lifted" or "copied", with ",cold"; "?" for what no good file has. */
const char *unit_kind_text(u32 flags);
/* "kernel", "module" … */
const char *image_kind_text(u32 kind);
/* The unit's name and the offset in it, "-" if it has none. */
const char *unit_name_text(struct tcache *cache, const struct tcache_unit *unit, struct safe_text *safe, char *text,
			   size_t size);
#define UNIT_NAME_SIZE (TCACHE_MAX_STRING + 16)

json_t *json_address(u64 address);
/* Numbers beyond what JSON readers take for an integer become the largest one. */
json_t *json_count(u64 count);

/*
 * An array of JSON values printed one a line as they come, so that a large cache needs no memory. Starts zeroed;
 * json_lines_end() prints at least the brackets.
 */
struct json_lines {
	bool begun;
};

void json_lines_add(struct json_lines *lines, json_t *value); /* takes the reference */
/* The place for a value that is printed by the caller. */
void json_lines_next(struct json_lines *lines);
void json_lines_end(struct json_lines *lines);

#endif
