#include "debug/perf_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "debug/symbols.h"
#include "util/err.h"
#include "vm.h"

struct perf_map {
	FILE *file;
	struct symbols *symbols; /* or NULL */
};

/* A name that others can guess, in a directory that others can write to: never follow what lies there. */
static FILE *create(const char *path)
{
	int fd;
	FILE *file;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return NULL;
	file = fdopen(fd, "w");
	if (!file)
		close(fd);
	return file;
}

int perf_map_open(const struct vm *vm, struct perf_map **result, struct err *err)
{
	const struct vm_config *config = &vm->config;
	struct perf_map *map;
	char path[64];

	*result = NULL;
	if (!config->perf_map)
		return 0;
	map = calloc(1, sizeof(*map));
	if (!map)
		return err_set(err, "out of memory");
	if (config->symbols_path) {
		map->symbols = symbols_load(config->symbols_path, err);
		if (!map->symbols) {
			free(map);
			return -1;
		}
	}
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	map->file = create(path);
	if (!map->file) {
		err_set(err, "cannot create '%s': %s", path, strerror(errno));
		perf_map_close(map);
		return -1;
	}
	*result = map;
	return 0;
}

void perf_map_close(struct perf_map *map)
{
	if (!map)
		return;
	if (map->file && fclose(map->file) != 0)
		warn("the map for perf is incomplete: %s", strerror(errno));
	symbols_free(map->symbols);
	free(map);
}

void perf_map_add(struct vm *vm, u64 host, u32 size, u64 pc)
{
	const struct perf_map *map = vm->perf_map;
	const char *name;
	u64 offset;

	if (!map)
		return;
	name = map->symbols ? symbols_find(map->symbols, pc, &offset) : NULL;
	if (name)
		fprintf(map->file, "%" PRIx64 " %" PRIx32 " %s+0x%" PRIx64 "\n", host, size, name, offset);
	else
		fprintf(map->file, "%" PRIx64 " %" PRIx32 " guest_%016" PRIx64 "\n", host, size, pc);
}
