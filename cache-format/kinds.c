/* The table of chunk types. */
#include <stdio.h>

#include "internal.h"

static const struct tcache_kind kinds[] = {
#define X(name, fourcc, record, one, toc_flags, version, meaning)                                                      \
	{.type = fourcc,                                                                                               \
	 .element_size = sizeof(record),                                                                               \
	 .flags = toc_flags,                                                                                           \
	 .schema = version,                                                                                            \
	 .single = one,                                                                                                \
	 .text = meaning},
	TCACHE_CHUNKS(X)
#undef X
};

const uint32_t tcache_kind_count = sizeof(kinds) / sizeof(kinds[0]);

enum {
#define X(name, ...) NUMBER_##name,
	TCACHE_CHUNKS(X)
#undef X
};

uint32_t tcache_kind_number(uint32_t type)
{
	switch (type) {
#define X(name, fourcc, ...)                                                                                           \
	case fourcc:                                                                                                   \
		return NUMBER_##name;
		TCACHE_CHUNKS(X)
#undef X
	default:
		return tcache_kind_count;
	}
}

const struct tcache_kind *tcache_kind(uint32_t type)
{
	uint32_t number = tcache_kind_number(type);

	return number < tcache_kind_count ? &kinds[number] : NULL;
}

bool tcache_understood(const struct tcache_toc_entry *entry)
{
	const struct tcache_kind *kind = tcache_kind(entry->type);

	return kind && kind->schema == entry->schema && kind->element_size == entry->element_size;
}

const char *tcache_type_text(uint32_t type)
{
	const struct tcache_kind *kind = tcache_kind(type);

	return kind ? kind->text : NULL;
}

struct type_name tcache_type_name(uint32_t type)
{
	struct type_name name;
	bool printable = true;

	for (int i = 0; i < 4; i++) {
		name.text[i] = (char)(type >> 8 * i);
		printable &= name.text[i] > ' ' && name.text[i] < 127;
	}
	name.text[4] = 0;
	if (!printable)
		snprintf(name.text, sizeof(name.text), "%08x", type);
	return name;
}
