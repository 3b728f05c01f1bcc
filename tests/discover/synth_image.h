/* Small images for tests: one executable segment at CODE, one of data at DATA. */
#ifndef AVANT_TESTS_SYNTH_IMAGE_H
#define AVANT_TESTS_SYNTH_IMAGE_H

#include <stdlib.h>
#include <string.h>

#include "discover/internal.h"

#define CODE      0xffffffff81000000ULL
#define CODE_SIZE 0x3000u
#define DATA      0xffffffff82000000ULL
#define DATA_SIZE 0x1000u

static inline void synth_image(struct image *image)
{
	*image = (struct image){.kernel = true, .name = strdup("synthetic")};
	image->segment = calloc(2, sizeof(*image->segment));
	image->segment_count = 2;
	image->segment[0] = (struct image_segment){CODE, CODE_SIZE, malloc(CODE_SIZE), true, false};
	image->segment[1] = (struct image_segment){DATA, DATA_SIZE, calloc(1, DATA_SIZE), false, true};
	memset(image->segment[0].bytes, 0xcc, CODE_SIZE);
	image->code = calloc(1, sizeof(*image->code));
	image->code_count = 1;
	image->code[0] = (struct code_range){CODE, CODE_SIZE, false};
}

static inline void synth_code(struct image *image, u64 at, const void *bytes, u64 size)
{
	memcpy(image->segment[0].bytes + at, bytes, size);
}

static inline void synth_data32(struct image *image, u64 at, u64 value)
{
	put32(image->segment[1].bytes + at, (u32)value);
}

static inline void synth_data64(struct image *image, u64 at, u64 value)
{
	memcpy(image->segment[1].bytes + at, &value, 8);
}

#endif
