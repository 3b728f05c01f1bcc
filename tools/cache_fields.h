/*
 * The records of a cache, field by field, so that one piece of code can print them all. Follows tcache_disk.h: a field
 * that is not here does not appear in `avant cache dump`.
 */
#ifndef AVANT_TOOLS_CACHE_FIELDS_H
#define AVANT_TOOLS_CACHE_FIELDS_H

#include "tcache_disk.h"
#include "util/types.h"

enum field_form {
	FIELD_COUNT,   /* unsigned decimal */
	FIELD_SIGNED,  /* signed decimal */
	FIELD_ADDRESS, /* 0x… */
	FIELD_BYTES,   /* hexadecimal, as the bytes lie */
	FIELD_HASH,    /* two words, high and low, as one number */
	FIELD_STRING,  /* offset in STRS, printed as what is there */
	FIELD_TEXT,    /* characters up to the first zero */
};

struct field {
	const char *name; /* NULL ends a list */
	u16 offset;
	u16 size;
	enum field_form form;
};

/* The fields of the records of a chunk; NULL: bytes or text. */
const struct field *cache_fields(u32 type);

extern const struct field cache_header_fields[], cache_footer_fields[];

/* Value of a number field. */
u64 cache_field_value(const struct field *field, const void *record);

#endif
