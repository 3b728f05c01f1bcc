/* Opening: who may have written the file, and the parts that are checked at once. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* A cache is native code: whoever can write it can run what he likes in our name. */
static enum tcache_status check_trust(const struct stat *st, unsigned flags, const struct report *report)
{
	if (!S_ISREG(st->st_mode))
		return tcache_fail(report, TCACHE_ERR_KIND, "is %s",
				   S_ISDIR(st->st_mode) ? "a directory" : "not a regular file");
	if (flags & TCACHE_TRUST)
		return TCACHE_OK;
	if (st->st_uid && st->st_uid != geteuid())
		return tcache_fail(report, TCACHE_ERR_OWNER, "belongs to user %u, not to root or user %u",
				   (unsigned)st->st_uid, (unsigned)geteuid());
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return tcache_fail(report, TCACHE_ERR_MODE, "can be written by others (mode %04o)",
				   (unsigned)st->st_mode & 07777);
	return TCACHE_OK;
}

static enum tcache_status read_all(int fd, uint8_t *data, uint64_t size, uint64_t offset, const struct report *report)
{
	while (size) {
		ssize_t got = pread(fd, data, size, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return tcache_fail(report, TCACHE_ERR_SYSTEM, "cannot be read: %s", strerror(errno));
		if (!got)
			return tcache_fail(report, TCACHE_ERR_TRUNCATED, "became shorter while it was read");
		data += got;
		offset += (uint64_t)got;
		size -= (uint64_t)got;
	}
	return TCACHE_OK;
}

static enum tcache_status load_fixed_parts(struct tcache *cache, uint64_t file_size)
{
	const struct report *report = &cache->report;
	uint64_t bytes;
	enum tcache_status status;

	cache->head = calloc(1, TCACHE_PAGE);
	if (!cache->head)
		return tcache_fail(report, TCACHE_ERR_MEMORY, "out of memory");
	status = read_all(cache->fd, cache->head, file_size < TCACHE_PAGE ? file_size : TCACHE_PAGE, 0, report);
	if (!status)
		status = tcache_check_head(cache->head, file_size, report);
	if (status)
		return status;
	cache->header = (const struct tcache_header *)cache->head;

	bytes = cache->header->length - cache->header->tail;
	cache->tail = malloc(bytes);
	cache->verified = calloc(1, cache->header->group_count / 8 + 1);
	if (!cache->tail || !cache->verified)
		return tcache_fail(report, TCACHE_ERR_MEMORY, "out of memory");
	status = read_all(cache->fd, cache->tail, bytes, cache->header->tail, report);
	if (!status)
		status = tcache_check_footer(cache->head, cache->tail, report);
	if (!status)
		status = tcache_check_toc(cache->head, cache->tail, report);
	cache->toc = (const struct tcache_toc_entry *)cache->tail;
	cache->groups = (const struct tcache_group *)(cache->toc + cache->header->chunk_count);
	cache->footer = (const struct tcache_footer *)(cache->tail + bytes - sizeof(struct tcache_footer));
	if (!status && !tcache_find_all(cache))
		return tcache_fail(report, TCACHE_ERR_MEMORY, "out of memory");
	return status;
}

static enum tcache_status load(struct tcache *cache, int fd, unsigned flags)
{
	const struct report *report = &cache->report;
	enum tcache_status status;
	struct stat st;
	void *map;

	status = tcache_digest_init(report);
	if (status)
		return status;
	cache->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (cache->fd < 0 || fstat(cache->fd, &st))
		return tcache_fail(report, TCACHE_ERR_SYSTEM, "cannot be examined: %s", strerror(errno));
	status = check_trust(&st, flags, report);
	if (!status)
		status = load_fixed_parts(cache, (uint64_t)st.st_size);
	if (status)
		return status;
	map = mmap(NULL, cache->header->tail, PROT_READ, MAP_SHARED, cache->fd, 0);
	if (map == MAP_FAILED)
		return tcache_fail(report, TCACHE_ERR_SYSTEM, "cannot be mapped: %s", strerror(errno));
	madvise(map, cache->header->tail, MADV_HUGEPAGE); /* a wish */
	cache->map = map;
	return TCACHE_OK;
}

enum tcache_status tcache_open_fd(int fd, const char *name, unsigned flags, struct tcache **out, char *error,
				  size_t size)
{
	struct report caller = {.name = name, .text = error, .size = size};
	struct tcache *cache = calloc(1, sizeof(*cache));
	enum tcache_status status;

	*out = NULL;
	if (cache)
		cache->name = strdup(name);
	if (!cache || !cache->name) {
		free(cache);
		return tcache_fail(&caller, TCACHE_ERR_MEMORY, "out of memory");
	}
	cache->fd = -1;
	cache->report = caller;
	status = load(cache, fd, flags);
	if (status) {
		tcache_close(cache);
		return status;
	}
	cache->report = (struct report){cache->name, cache->message, sizeof(cache->message), &cache->last};
	*out = cache;
	return TCACHE_OK;
}

enum tcache_status tcache_open(const char *path, unsigned flags, struct tcache **out, char *error, size_t size)
{
	struct report report = {.name = path, .text = error, .size = size};
	enum tcache_status status;
	int fd;

	*out = NULL;
	/* O_NONBLOCK: a FIFO must not make us wait for a writer */
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ELOOP)
		return tcache_fail(&report, TCACHE_ERR_KIND, "is a symbolic link, which is not followed");
	if (fd < 0)
		return tcache_fail(&report, TCACHE_ERR_SYSTEM, "cannot be opened: %s", strerror(errno));
	status = tcache_open_fd(fd, path, flags, out, error, size);
	close(fd);
	return status;
}

void tcache_close(struct tcache *cache)
{
	if (!cache)
		return;
	tcache_stop_ahead(cache, TCACHE_NO_CHUNK);
	if (cache->map)
		munmap((void *)cache->map, cache->header->tail);
	if (cache->fd >= 0)
		close(cache->fd);
	free(cache->verified);
	free(cache->found);
	free(cache->tail);
	free(cache->head);
	free(cache->name);
	free(cache);
}

const char *tcache_error(const struct tcache *cache)
{
	return cache->message;
}

enum tcache_status tcache_last_status(const struct tcache *cache)
{
	return cache->last;
}

const char *tcache_name(const struct tcache *cache)
{
	return cache->name;
}

const struct tcache_header *tcache_header(const struct tcache *cache)
{
	return cache->header;
}

const struct tcache_footer *tcache_footer(const struct tcache *cache)
{
	return cache->footer;
}
