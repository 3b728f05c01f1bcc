/* More fids than descriptors. */
#include "test_p9_client.h"

#define LIMIT 128
#define FILES 1000

static void name_file(char *name, u32 i)
{
	sprintf(name, "dir%u/file%u", i % 10, i);
}

static void make_files(void)
{
	char name[64];

	for (u32 i = 0; i < 10; i++) {
		sprintf(name, "dir%u", i);
		host_mkdir(name);
	}
	for (u32 i = 0; i < FILES; i++) {
		name_file(name, i);
		host_write(name, name);
	}
}

static int walk_file(u32 i)
{
	char dir[16], name[16];

	sprintf(dir, "dir%u", i % 10);
	sprintf(name, "file%u", i);
	return call(P9_TWALK, "ddwss", ROOT, 100 + i, 2, dir, name);
}

static void expect_file(u32 fid, const char *expected)
{
	char text[64] = "";

	assert_int_equal(walk(fid, 50, NULL), 0);
	assert_int_equal(lopen(50, P9_OPEN_RDONLY), 0);
	assert_true(read_at(50, 0, text, sizeof(text)) >= 0);
	assert_string_equal(text, expected);
	assert_int_equal(clunk(50), 0);
}

static void more_fids_than_descriptors(void **state)
{
	unsigned before;
	char name[64];

	(void)state;
	make_files();
	restart(false, LIMIT);
	before = host_descriptors();
	for (u32 i = 0; i < FILES; i++) {
		assert_int_equal(walk_file(i), 0);
		assert_true(host_descriptors() <= before + LIMIT);
	}
	/* forwards, backwards, and the same few again and again */
	for (u32 i = 0; i < FILES; i++) {
		name_file(name, i);
		expect_file(100 + i, name);
	}
	for (u32 i = FILES; i-- > 0;) {
		name_file(name, i);
		expect_file(100 + i, name);
		name_file(name, i % 3);
		expect_file(100 + i % 3, name);
		assert_true(host_descriptors() <= before + LIMIT);
	}
	for (u32 i = 0; i < FILES; i++)
		assert_int_equal(clunk(100 + i), 0);
	assert_true(host_descriptors() <= before);
}

/* What the guest renames and removes is found, or still there, though its descriptor was closed. */
static void changes_to_closed_ones(void **state)
{
	struct attributes a;
	char name[64], dir[16], file[16];

	(void)state;
	make_files();
	restart(false, LIMIT);
	for (u32 i = 0; i < FILES; i++)
		assert_int_equal(walk_file(i), 0);
	for (u32 i = 0; i < 10; i++) {
		sprintf(dir, "dir%u", i);
		sprintf(name, "moved%u", i);
		assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, dir, ROOT, name), 0);
	}
	for (u32 i = 0; i < FILES; i++) {
		name_file(name, i);
		expect_file(100 + i, name);
	}
	/* removed, a few at a time: those stay open */
	for (u32 i = 0; i < 30; i++) {
		sprintf(dir, "moved%u", i % 10);
		sprintf(file, "file%u", i);
		assert_int_equal(walk(ROOT, 60, dir), 0);
		assert_int_equal(call(P9_TUNLINKAT, "dsd", 60, file, 0), 0);
		assert_int_equal(clunk(60), 0);
	}
	for (u32 i = 30; i < FILES; i++)
		assert_int_equal(getattr(100 + i, &a), 0);
	for (u32 i = 0; i < 30; i++) {
		name_file(name, i);
		assert_int_equal(getattr(100 + i, &a), 0);
		assert_int_equal(a.nlink, 0);
		expect_file(100 + i, name);
	}
}

/* What the host changes is not taken for what it was. */
static void changes_by_the_host(void **state)
{
	struct attributes a;
	unsigned found = 0, gone = 0;
	char name[64];

	(void)state;
	make_files();
	restart(false, LIMIT);
	for (u32 i = 0; i < FILES; i++)
		assert_int_equal(walk_file(i), 0);
	for (u32 i = 0; i < FILES; i++) {
		name_file(name, i);
		assert_int_equal(renameat(client.share, name, client.share, "kept"), 0);
		if (i % 2)
			host_write(name, "another");
	}
	for (u32 i = 0; i < FILES; i++) {
		int error = getattr(100 + i, &a);

		if (!error) { /* its descriptor was open */
			found++;
			assert_int_not_equal(a.size, 7);
		} else {
			gone++;
			assert_int_equal(error, i % 2 ? ESTALE : ENOENT);
		}
	}
	assert_true(found < LIMIT && gone > FILES - LIMIT);
}

static void open_files_are_bounded(void **state)
{
	unsigned before, opened = 0;

	(void)state;
	make_files();
	restart(false, LIMIT);
	before = host_descriptors();
	for (u32 i = 0; i < FILES; i++) {
		int error = walk_file(i);

		if (!error)
			error = lopen(100 + i, P9_OPEN_RDONLY);
		if (error) {
			assert_int_equal(error, EMFILE);
			clunk(100 + i);
			break;
		}
		opened++;
	}
	assert_in_range(opened, LIMIT / 4, LIMIT);
	assert_true(host_descriptors() <= before + LIMIT);
	/* those that are open work; when one is closed, another can be opened */
	for (u32 i = 0; i < opened; i++)
		assert_int_equal(call(P9_TREAD, "dqd", 100 + i, (u64)0, 10), 0);
	for (u32 i = 0; i < opened; i++)
		assert_int_equal(clunk(100 + i), 0);
	assert_int_equal(walk_file(opened), 0);
	assert_int_equal(lopen(100 + opened, P9_OPEN_RDONLY), 0);
}

/* Bottom up: nftw(3) cannot. */
static void remove_chain(u32 depth)
{
	int fd = dup(client.share), other;

	for (u32 i = 0; i < depth; i++, fd = other) {
		other = openat(fd, "d", O_PATH);
		close(fd);
	}
	for (u32 i = 0; i < depth; i++, fd = other) {
		other = openat(fd, "..", O_PATH);
		close(fd);
		assert_int_equal(unlinkat(other, "d", AT_REMOVEDIR), 0);
	}
	close(fd);
}

/* Deeper than a path can be, so deep that recursion would be noticed; and every level known to the server. */
static void deep_trees(void **state)
{
	const u32 depth = 3000;
	struct attributes a;

	(void)state;
	restart(false, LIMIT);
	assert_int_equal(walk(ROOT, 100, NULL), 0);
	for (u32 i = 0; i < depth; i++) {
		assert_int_equal(call(P9_TMKDIR, "dsdd", 100 + i, "d", 0755, 0), 0);
		assert_int_equal(walk(100 + i, 101 + i, "d"), 0);
	}
	assert_int_equal(getattr(100 + depth / 2, &a), 0);
	assert_int_equal(getattr(100 + depth, &a), 0);
	assert_int_equal(getattr(101, &a), 0);
	/* everything below hangs on the deepest one */
	for (u32 i = 1; i < depth; i++)
		assert_int_equal(clunk(100 + i), 0);
	assert_int_equal(walk(100 + depth, 50, ".."), 0);
	for (u32 i = 0; i < 20; i++)
		assert_int_equal(walk(50, 50, ".."), 0);
	assert_int_equal(getattr(50, &a), 0);
	assert_int_equal(a.nlink, 3);
	assert_int_equal(clunk(100 + depth), 0);
	assert_int_equal(clunk(50), 0);
	remove_chain(depth);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		P9_TEST(more_fids_than_descriptors),
		P9_TEST(changes_to_closed_ones),
		P9_TEST(changes_by_the_host),
		P9_TEST(open_files_are_bounded),
		P9_TEST(deep_trees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
