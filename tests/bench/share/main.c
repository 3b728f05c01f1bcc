/*
 * What a shared directory costs its guest: share_bench DIRECTORY MILLISECONDS. The directory has been prepared by
 * share.py: "large", 64 MiB; "small/0" … "small/1999", 4 KiB each; "many", 10,000 empty files; "deep/a/b/c/d/file".
 * Prints "ROW name microseconds" for each row: the median of five samples of one operation.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES     5
#define LARGE       (64 << 20)
#define SMALL_FILES 2000
#define MANY_FILES  10000

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			printf("FAIL %s line %d\n", #condition, __LINE__);                                             \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

static char *buffer;
static unsigned counter; /* of operations, so that each is another one */
static int fd;

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void open_large_to_read(void)
{
	fd = open("large", O_RDONLY);
	CHECK(fd >= 0);
}

static void open_new(void)
{
	fd = open("new", O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && ftruncate(fd, LARGE) == 0);
}

static void close_file(void)
{
	CHECK(close(fd) == 0);
}

static void close_new(void)
{
	close_file();
	CHECK(unlink("new") == 0);
}

/* The client's cache, if it has one, does not know this part of the file: otherwise who is faster hits it sooner. */
static void forget(off_t at, off_t size)
{
	CHECK(posix_fadvise(fd, at, size, POSIX_FADV_DONTNEED) == 0);
}

/* What was written has reached the server, though not its disk. */
static void hand_over(off_t at, off_t size)
{
	CHECK(sync_file_range(fd, at, size,
			      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == 0);
}

static off_t next_1m(void)
{
	return (off_t)(counter++ % (LARGE >> 20)) << 20;
}

static void read_1m(void)
{
	off_t at = next_1m();

	forget(at, 1 << 20);
	CHECK(pread(fd, buffer, 1 << 20, at) == 1 << 20);
}

static void write_1m(void)
{
	off_t at = next_1m();

	CHECK(pwrite(fd, buffer, 1 << 20, at) == 1 << 20);
	hand_over(at, 1 << 20);
}

static off_t anywhere(void)
{
	return (off_t)(counter++ * 2654435761U % (LARGE / 4096)) * 4096;
}

static void read_4k(void)
{
	off_t at = anywhere();

	forget(at, 4096);
	CHECK(pread(fd, buffer, 4096, at) == 4096);
}

static void write_4k(void)
{
	off_t at = anywhere();

	CHECK(pwrite(fd, buffer, 4096, at) == 4096);
	hand_over(at, 4096);
}

static void write_100(void)
{
	off_t at = anywhere();

	CHECK(pwrite(fd, buffer, 100, at) == 100);
	hand_over(at, 100);
}

static void stat_deep(void)
{
	struct stat st;

	CHECK(stat("deep/a/b/c/d/file", &st) == 0 && st.st_size == 4);
}

static void stat_missing(void)
{
	struct stat st;

	CHECK(stat("deep/nothing", &st) == -1);
}

static void read_small(void)
{
	char name[32];
	int file;

	snprintf(name, sizeof(name), "small/%u", counter++ * 7919 % SMALL_FILES);
	file = open(name, O_RDONLY);
	CHECK(file >= 0 && read(file, buffer, 8192) == 4096 && close(file) == 0);
}

static void make_small(void)
{
	int file = open("new", O_WRONLY | O_CREAT | O_EXCL, 0600);

	CHECK(file >= 0 && write(file, buffer, 1000) == 1000 && close(file) == 0 && unlink("new") == 0);
}

static void rename_file(void)
{
	static const char *const names[] = {"deep/x", "deep/a/y"};

	CHECK(rename(names[counter % 2], names[(counter + 1) % 2]) == 0);
	counter++;
}

static void make_to_rename(void)
{
	counter = 0;
	CHECK(close(open("deep/x", O_CREAT | O_RDWR, 0600)) == 0);
}

static void remove_renamed(void)
{
	unlink("deep/x");
	unlink("deep/a/y");
}

static void list_many(void)
{
	DIR *dir = opendir("many");
	unsigned count = 0;

	CHECK(dir);
	while (readdir(dir))
		count++;
	CHECK(closedir(dir) == 0 && count == MANY_FILES + 2);
}

/* Pages of a file that is mapped: the caching client reads them, the other one maps privately. */
static void map_1m(void)
{
	off_t at = next_1m();
	volatile char *map;
	int sum = 0;

	forget(at, 1 << 20);
	map = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE, fd, at);
	CHECK(map != MAP_FAILED);
	for (unsigned i = 0; i < 1 << 20; i += 4096)
		sum += map[i];
	(void)sum;
	CHECK(munmap((void *)(unsigned long)map, 1 << 20) == 0);
}

static const struct row {
	const char *name;
	void (*prepare)(void), (*run)(void), (*finish)(void);
} rows[] = {
	{"read_1m", open_large_to_read, read_1m, close_file},
	{"write_1m", open_new, write_1m, close_new},
	{"read_4k", open_large_to_read, read_4k, close_file},
	{"write_4k", open_new, write_4k, close_new},
	{"write_100", open_new, write_100, close_new},
	{"map_1m", open_large_to_read, map_1m, close_file},
	{"stat_deep", NULL, stat_deep, NULL},
	{"stat_missing", NULL, stat_missing, NULL},
	{"read_small_file", NULL, read_small, NULL},
	{"make_small_file", NULL, make_small, NULL},
	{"rename", make_to_rename, rename_file, remove_renamed},
	{"list_10000", NULL, list_many, NULL},
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* At least once, and for at least so long; µs for one operation. */
static double sample(const struct row *row, double least_us)
{
	double began = now_us(), passed;
	unsigned count = 0;

	do {
		row->run();
		count++;
		passed = now_us() - began;
	} while (passed < least_us);
	return passed / count;
}

int main(int argc, char **argv)
{
	double samples[SAMPLES];

	CHECK(argc == 3 && chdir(argv[1]) == 0);
	buffer = malloc(1 << 20);
	CHECK(buffer);
	memset(buffer, 'x', 1 << 20);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		counter = 0;
		if (row->prepare)
			row->prepare();
		row->run(); /* the first one may be another matter */
		for (unsigned n = 0; n < SAMPLES; n++)
			samples[n] = sample(row, atof(argv[2]) * 1e3);
		if (row->finish)
			row->finish();
		qsort(samples, SAMPLES, sizeof(samples[0]), compare);
		printf("ROW %s %.3f\n", row->name, samples[SAMPLES / 2]);
		fflush(stdout);
	}
	printf("END\n");
	return 0;
}
