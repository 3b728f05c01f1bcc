/* In the manner of fsx: one file, several descriptors, everything that reads and changes it, compared with memory. */
#include "check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_MAX (1 << 20)
#define NAME     "random-io"

struct state {
	unsigned random;
	unsigned char model[FILE_MAX], buffer[FILE_MAX];
	size_t size;
	int fd;
	int maps; /* the file is mapped, too */
};

static unsigned next(struct state *s)
{
	s->random = s->random * 1103515245 + 12345;
	return s->random >> 8;
}

/* Mostly small, sometimes large, often at the edge of a page. */
static size_t length(struct state *s)
{
	switch (next(s) % 4) {
	case 0:
		return next(s) % 100 + 1;
	case 1:
		return 4096 * (next(s) % 4) + next(s) % 3 + 1;
	case 2:
		return next(s) % 20000 + 1;
	default:
		return next(s) % 200000 + 1;
	}
}

static size_t position(struct state *s, size_t limit)
{
	size_t at = limit ? next(s) % limit : 0;

	return next(s) % 3 ? at : at & ~(size_t)4095;
}

static void grow(struct state *s, size_t size)
{
	if (size <= s->size)
		return;
	memset(s->model + s->size, 0, size - s->size);
	s->size = size;
}

static void do_write(struct state *s)
{
	size_t n = length(s), at = position(s, FILE_MAX - n), half = n / 3;
	struct iovec parts[2] = {{s->buffer, half}, {s->buffer + half, n - half}};

	for (size_t i = 0; i < n; i++)
		s->buffer[i] = (unsigned char)next(s);
	CHECK(pwritev(s->fd, parts, 2, (off_t)at) == (ssize_t)n);
	grow(s, at + n);
	memcpy(s->model + at, s->buffer, n);
}

static void do_append(struct state *s)
{
	size_t n = length(s);
	int fd;

	if (s->size + n > FILE_MAX)
		return;
	fd = open(NAME, O_WRONLY | O_APPEND);
	CHECK(fd >= 0);
	for (size_t i = 0; i < n; i++)
		s->buffer[i] = (unsigned char)next(s);
	CHECK(write(fd, s->buffer, n) == (ssize_t)n);
	CHECK(close(fd) == 0);
	memcpy(s->model + s->size, s->buffer, n);
	s->size += n;
}

static void compare(const struct state *s, const unsigned char *data, size_t at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (data[i] != s->model[at + i]) {
			fprintf(stderr, "byte %zu of %zu is %#x, not %#x\n", at + i, s->size, data[i],
				s->model[at + i]);
			exit(1);
		}
}

static void do_read(struct state *s, int fd)
{
	size_t n = length(s), at = position(s, FILE_MAX - n);
	size_t there = at >= s->size ? 0 : s->size - at < n ? s->size - at : n;

	CHECK(pread(fd, s->buffer, n, (off_t)at) == (ssize_t)there);
	compare(s, s->buffer, at, there);
}

static void do_read_again(struct state *s)
{
	int fd = open(NAME, O_RDONLY);

	CHECK(fd >= 0);
	do_read(s, fd);
	CHECK(close(fd) == 0);
}

static void do_truncate(struct state *s)
{
	size_t size = position(s, FILE_MAX);

	if (next(s) % 2)
		CHECK(ftruncate(s->fd, (off_t)size) == 0);
	else
		CHECK(truncate(NAME, (off_t)size) == 0);
	grow(s, size);
	s->size = size;
}

static void do_size(struct state *s)
{
	struct stat a, b;

	CHECK(fstat(s->fd, &a) == 0 && stat(NAME, &b) == 0);
	CHECK((size_t)a.st_size == s->size && (size_t)b.st_size == s->size && a.st_ino == b.st_ino);
}

static void do_map(struct state *s)
{
	size_t at, n;
	unsigned char *map;
	int write = next(s) % 2;

	if (!s->size || !s->maps)
		return;
	at = position(s, s->size) & ~(size_t)4095;
	n = s->size - at < 50000 ? s->size - at : next(s) % 50000 + 1;
	map = mmap(NULL, n, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, s->fd, (off_t)at);
	CHECK(map != MAP_FAILED);
	compare(s, map, at, n);
	if (write) {
		for (size_t i = 0; i < n; i += 97)
			map[i] = s->model[at + i] = (unsigned char)next(s);
		CHECK(msync(map, n, MS_SYNC) == 0);
	}
	CHECK(munmap(map, n) == 0);
}

static void do_reopen(struct state *s)
{
	CHECK(next(s) % 2 == 0 || fsync(s->fd) == 0);
	CHECK(close(s->fd) == 0);
	s->fd = open(NAME, O_RDWR);
	CHECK(s->fd >= 0);
}

void check_random_io(unsigned seed, unsigned operations, int maps)
{
	struct state *s = calloc(1, sizeof(*s));

	CHECK(s);
	s->random = seed;
	s->maps = maps;
	s->fd = open(NAME, O_RDWR | O_CREAT | O_EXCL, 0644);
	CHECK(s->fd >= 0);
	while (operations--)
		switch (next(s) % 10) {
		case 0:
		case 1:
		case 2:
			do_write(s);
			break;
		case 3:
		case 4:
			do_read(s, s->fd);
			break;
		case 5:
			do_read_again(s);
			break;
		case 6:
			do_truncate(s);
			break;
		case 7:
			do_append(s);
			break;
		case 8:
			do_map(s);
			do_size(s);
			break;
		default:
			do_reopen(s);
		}
	CHECK(pread(s->fd, s->buffer, FILE_MAX, 0) == (ssize_t)s->size);
	compare(s, s->buffer, 0, s->size);
	CHECK(close(s->fd) == 0 && unlink(NAME) == 0);
	free(s);
}
