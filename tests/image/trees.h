/* For tests: spaces made of directories that are filled with texts. */
#ifndef AVANT_TEST_IMAGE_TREES_H
#define AVANT_TEST_IMAGE_TREES_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/reader/boot.h"
#include "image/reader/directory.h"

struct test_space {
	struct space space;
	char folder[IMAGE_VOLUMES_MAX][32]; /* of each volume */
};

_Noreturn static inline void test_fail(const char *what)
{
	perror(what);
	abort();
}

/* A volume more; number: of the partition, 0 for none. */
static inline u32 test_add_volume(struct test_space *t, u32 number, const char *uuid, const char *label)
{
	u32 index = t->space.volumes.count++;
	struct volume *volume = &t->space.volumes.volume[index];
	int fd = -1;

	strcpy(t->folder[index], "/tmp/avant-test-XXXXXX");
	if (!mkdtemp(t->folder[index]) || (fd = open(t->folder[index], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		test_fail("folder");
	*volume = (struct volume){.number = number, .type = "ext4"};
	strcpy(volume->uuid, uuid);
	strcpy(volume->label, label);
	volume->tree = directory_open(fd, NULL);
	if (!volume->tree)
		test_fail("directory_open");
	t->space.volumes.format = number ? "gpt" : "disk";
	return index;
}

static inline void test_begin(struct test_space *t)
{
	memset(t, 0, sizeof(*t));
	t->space.volumes.fd = -1;
}

/* Writes a file, with the folders that it needs. */
static inline void test_write(struct test_space *t, u32 volume, const char *path, const char *text)
{
	char whole[512];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s%s", t->folder[volume], path);
	for (char *slash = strchr(whole + strlen(t->folder[volume]) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(whole, 0755);
		*slash = '/';
	}
	file = fopen(whole, "w");
	if (!file || fputs(text, file) < 0 || fclose(file))
		test_fail(whole);
}

static inline void test_link(struct test_space *t, u32 volume, const char *path, const char *target)
{
	char whole[512];

	snprintf(whole, sizeof(whole), "%s%s", t->folder[volume], path);
	if (symlink(target, whole) < 0)
		test_fail(whole);
}

static inline void test_end(struct test_space *t)
{
	for (u32 i = 0; i < t->space.volumes.count; i++) {
		char command[64];

		snprintf(command, sizeof(command), "rm -rf %s", t->folder[i]);
		if (system(command))
			test_fail(command);
	}
	space_close(&t->space);
}

#endif
