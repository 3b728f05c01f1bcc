/*
 * Changes bytes of a cache: poke_cache FILE CHUNK OFFSET HEX [seal]
 * With `seal` the digests are made right again, as somebody would who wants to be believed.
 */
#include "sample.h"

int main(int argc, char **argv)
{
	struct bytes file;
	FILE *out;

	if (argc < 5 || strlen(argv[2]) != 4) {
		fprintf(stderr, "usage: poke_cache FILE CHUNK OFFSET HEX [seal]\n");
		return 2;
	}
	file = bytes_read(argv[1]);
	for (uint32_t i = 0; i < bytes_header(&file)->chunk_count; i++) {
		const struct tcache_toc_entry *entry = &bytes_toc(&file)[i];
		uint64_t offset = strtoull(argv[3], NULL, 0), size = strlen(argv[4]) / 2;

		if (memcmp(&entry->type, argv[2], 4) != 0)
			continue;
		if (offset > entry->length || size > entry->length - offset) {
			fprintf(stderr, "poke_cache: the chunk has %llu bytes\n", (unsigned long long)entry->length);
			return 1;
		}
		for (uint64_t n = 0; n < size; n++) {
			unsigned byte;

			if (sscanf(argv[4] + 2 * n, "%2x", &byte) != 1)
				return 2;
			file.data[entry->offset + offset + n] = (uint8_t)byte;
		}
		if (argc > 5)
			bytes_seal(&file);
		out = fopen(argv[1], "wb");
		if (!out || fwrite(file.data, 1, file.size, out) != file.size || fclose(out)) {
			perror(argv[1]);
			return 1;
		}
		free(file.data);
		return 0;
	}
	fprintf(stderr, "poke_cache: no such chunk\n");
	return 1;
}
