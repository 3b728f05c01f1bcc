#include "cache_tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct tcache *cache_tool_open(const struct command *command, const char *path)
{
	struct tcache *cache;
	char error[512];

	if (tcache_open(path, TCACHE_TRUST, &cache, error, sizeof(error)))
		command_error(command, "%s", error);
	return cache;
}

int cache_tool_failed(const struct command *command, const struct tcache *cache)
{
	return command_error(command, "%s", tcache_error(cache));
}

/* Bytes of the UTF-8 character at `raw` if it is one that may be shown, else 0. */
static size_t printable(const u8 *raw, size_t length)
{
	static const u32 least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t size = raw[0] < 0x80 ? 1 : raw[0] < 0xe0 ? 2 : raw[0] < 0xf0 ? 3 : 4;
	u32 code;

	if (size == 1)
		return raw[0] >= ' ' && raw[0] != 0x7f;
	if (raw[0] < 0xc2 || raw[0] > 0xf4 || size > length)
		return 0;
	code = raw[0] & (0x7fu >> size);
	for (size_t i = 1; i < size; i++) {
		if ((raw[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (raw[i] & 0x3f);
	}
	/* overlong forms, C1 control characters, surrogates, bidirectional overrides, beyond Unicode */
	if (code < least[size] || code < 0xa0 || (code >= 0xd800 && code < 0xe000) ||
	    (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code > 0x10ffff)
		return 0;
	return size;
}

const char *safe_text(struct safe_text *safe, const char *raw, size_t length)
{
	size_t used = 0, at = 0;

	while (at < length) {
		size_t size = printable((const u8 *)raw + at, length - at);

		if (used + (size ? size : 1) >= sizeof(safe->text))
			break;
		if (size)
			memcpy(safe->text + used, raw + at, size);
		else
			safe->text[used] = '?';
		used += size ? size : 1;
		at += size ? size : 1;
	}
	safe->text[used] = '\0';
	return safe->text;
}

const char *cache_tool_string(struct tcache *cache, u32 offset, struct safe_text *safe)
{
	const char *raw = tcache_string(cache, offset);

	return safe_text(safe, raw ? raw : "", raw ? strlen(raw) : 0);
}

struct hex_text hex_text(const void *data, size_t size)
{
	const u8 *bytes = data;
	struct hex_text hex = {""};

	for (size_t i = 0; i < size && i < TCACHE_DIGEST_SIZE; i++)
		snprintf(hex.text + 2 * i, 3, "%02x", bytes[i]);
	return hex;
}

struct hex_text chunk_type_text(u32 type)
{
	struct hex_text name = {""};

	for (int i = 0; i < 4; i++) {
		name.text[i] = (char)(type >> 8 * i);
		if (name.text[i] <= ' ' || name.text[i] > '~') {
			snprintf(name.text, sizeof(name.text), "%08x", type);
			break;
		}
	}
	return name;
}

/* "0x…" */
static struct hex_text address_text(u64 address)
{
	struct hex_text hex;

	snprintf(hex.text, sizeof(hex.text), "0x%" PRIx64, address);
	return hex;
}

const char *unit_kind_text(u32 flags)
{
	static const char *const names[TCACHE_UNIT_FLAGS + 1] = {
		[TCACHE_UNIT_LIFTED] = "lifted",
		[TCACHE_UNIT_COPIED] = "copied",
		[TCACHE_UNIT_LIFTED | TCACHE_UNIT_COLD] = "lifted,cold",
		[TCACHE_UNIT_COPIED | TCACHE_UNIT_COLD] = "copied,cold",
	};

	return flags < ARRAY_SIZE(names) && names[flags] ? names[flags] : "?";
}

const char *image_kind_text(u32 kind)
{
	static const char *const names[TCACHE_IMAGE_KINDS] = {
		[TCACHE_IMAGE_KERNEL] = "kernel",   [TCACHE_IMAGE_MODULE] = "module",
		[TCACHE_IMAGE_PROGRAM] = "program", [TCACHE_IMAGE_INITRAMFS] = "initramfs",
		[TCACHE_IMAGE_PROFILE] = "profile",
	};

	return kind < ARRAY_SIZE(names) && names[kind] ? names[kind] : "?";
}

const char *unit_name_text(struct tcache *cache, const struct tcache_unit *unit, struct safe_text *safe, char *text,
			   size_t size)
{
	const char *name = cache_tool_string(cache, unit->name, safe);

	if (!*name)
		snprintf(text, size, "-");
	else if (unit->name_offset)
		snprintf(text, size, "%s+0x%x", name, unit->name_offset);
	else
		snprintf(text, size, "%s", name);
	return text;
}

json_t *json_address(u64 address)
{
	return json_string(address_text(address).text);
}

json_t *json_count(u64 count)
{
	return json_integer(count > INT64_MAX ? INT64_MAX : (json_int_t)count);
}

void json_lines_next(struct json_lines *lines)
{
	fputs(lines->begun ? ",\n" : "[\n", stdout);
	lines->begun = true;
}

void json_lines_add(struct json_lines *lines, json_t *value)
{
	json_lines_next(lines);
	json_dumpf(value, stdout, 0);
	json_decref(value);
}

void json_lines_end(struct json_lines *lines)
{
	fputs(lines->begun ? "\n]" : "[]", stdout);
}
