/* Extended attributes. Skipped where the file system has none. */
#define TEST_PLACE "/tmp"
#include "test_p9_client.h"

#include <sys/xattr.h>

static void need_xattrs(void)
{
	int fd = openat(client.share, "probe", O_RDWR | O_CREAT, 0600);
	int result = fsetxattr(fd, "user.probe", "x", 1, 0);

	close(fd);
	if (result < 0 && errno == EOPNOTSUPP)
		skip();
}

static int set(u32 fid, const char *name, const void *value, u32 size, u32 flags)
{
	int error = walk(fid, 90, NULL);

	if (!error)
		error = call(P9_TXATTRCREATE, "dsqd", 90, name, (u64)size, flags);
	if (error) {
		clunk(90);
		return error;
	}
	for (u32 done = 0; done < size;) {
		u32 part = size - done < 30000 ? size - done : 30000;

		assert_int_equal(write_at(90, done, (const u8 *)value + done, part), part);
		done += part;
	}
	return clunk(90);
}

/* The size of an attribute's value, or of the list of names; or -errno. */
static s64 get(u32 fid, const char *name, void *value, u32 size)
{
	int error = call(P9_TXATTRWALK, "dds", fid, 91, name);
	u64 whole;

	if (error)
		return -error;
	whole = take_number(8);
	assert_true(whole <= size);
	for (u64 done = 0; done < whole;) {
		s64 part = read_at(91, done, (u8 *)value + done, 30000);

		assert_true(part > 0);
		done += (u64)part;
	}
	assert_int_equal(read_at(91, whole, value, 10), 0);
	assert_int_equal(clunk(91), 0);
	return (s64)whole;
}

static void setting_and_getting(void **state)
{
	static u8 value[3000], back[70000];

	(void)state;
	need_xattrs();
	host_write("file", "");
	host_mkdir("dir");
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(walk(ROOT, 3, "dir"), 0);
	for (u32 i = 0; i < sizeof(value); i++)
		value[i] = (u8)(i * 7);
	for (u32 fid = 2; fid <= 3; fid++) {
		assert_int_equal(get(fid, "user.a", back, sizeof(back)), -ENODATA);
		assert_int_equal(set(fid, "user.a", "one", 3, 0), 0);
		assert_int_equal(get(fid, "user.a", back, sizeof(back)), 3);
		assert_memory_equal(back, "one", 3);
		assert_int_equal(set(fid, "user.a", "two", 3, XATTR_CREATE), EEXIST);
		assert_int_equal(set(fid, "user.b", "two", 3, XATTR_REPLACE), ENODATA);
		assert_int_equal(set(fid, "user.a", value, sizeof(value), XATTR_REPLACE), 0);
		assert_int_equal(get(fid, "user.a", back, sizeof(back)), sizeof(value));
		assert_memory_equal(back, value, sizeof(value));
		/* nothing: a value, or none any more */
		assert_int_equal(set(fid, "user.c", "", 0, 0), 0);
		assert_int_equal(get(fid, "user.c", back, sizeof(back)), 0);
		assert_int_equal(get(fid, "", back, sizeof(back)), 14);
		assert_true(!memcmp(back, "user.a\0user.c\0", 14) || !memcmp(back, "user.c\0user.a\0", 14));
		assert_int_equal(set(fid, "user.c", "", 0, XATTR_REPLACE), 0);
		assert_int_equal(get(fid, "user.c", back, sizeof(back)), -ENODATA);
		assert_int_equal(get(fid, "", back, sizeof(back)), 7);
	}
}

/* What the host keeps for itself is not seen and not set. */
static void other_name_spaces(void **state)
{
	static const char *const names[] = {"security.capability",
					    "security.selinux",
					    "trusted.a",
					    "system.posix_acl_access",
					    "user",
					    "system.posix_acl_default",
					    "a",
					    "USER.a"};
	char back[1000];

	(void)state;
	need_xattrs();
	host_write("file", "");
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	if (geteuid() == 0) {
		int fd = openat(client.share, "file", O_RDONLY);

		fsetxattr(fd, "trusted.a", "x", 1, 0);
		close(fd);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(set(2, names[i], "x", 1, 0), EOPNOTSUPP);
		assert_int_equal(get(2, names[i], back, sizeof(back)), -EOPNOTSUPP);
	}
	assert_int_equal(get(2, "", back, sizeof(back)), 0);
	/* nor on what is neither a file nor a directory */
	assert_int_equal(symlinkat("file", client.share, "link"), 0);
	assert_int_equal(walk(ROOT, 3, "link"), 0);
	assert_int_equal(set(3, "user.a", "x", 1, 0), EOPNOTSUPP);
	assert_int_equal(get(3, "user.a", back, sizeof(back)), -EOPNOTSUPP);
	assert_int_equal(mkfifoat(client.share, "fifo", 0600), 0);
	assert_int_equal(walk(ROOT, 4, "fifo"), 0);
	assert_int_equal(get(4, "", back, sizeof(back)), -EOPNOTSUPP);
}

static void half_written(void **state)
{
	char back[16];

	(void)state;
	need_xattrs();
	host_write("file", "");
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 2, "user.a", (u64)8, 0), 0);
	assert_int_equal(write_at(2, 0, "1234", 4), 4);
	assert_int_equal(write_at(2, 5, "1", 1), -EINVAL);     /* leaves a hole */
	assert_int_equal(write_at(2, 0, "1", 1), -EINVAL);     /* again */
	assert_int_equal(write_at(2, 4, "12345", 5), -EINVAL); /* too much */
	assert_int_equal(write_at(2, ~0ULL, "1", 1), -EINVAL);
	assert_int_equal(read_at(2, 0, back, 4), -EBADF);
	assert_int_equal(lopen(2, P9_OPEN_RDWR), EINVAL);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 2, "user.a", (u64)8, 0), EINVAL);
	assert_int_equal(walk(2, 3, NULL), EINVAL);
	assert_int_equal(clunk(2), EINVAL); /* not all of it came */
	assert_int_equal(clunk(2), EBADF);
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(get(2, "user.a", back, sizeof(back)), -ENODATA);
	/* one that is read is not written to */
	assert_int_equal(set(2, "user.a", "value", 5, 0), 0);
	assert_int_equal(call(P9_TXATTRWALK, "dds", 2, 3, "user.a"), 0);
	assert_int_equal(write_at(3, 0, "x", 1), -EBADF);
	assert_int_equal(call(P9_TXATTRWALK, "dds", 2, 3, "user.a"), EBADF); /* in use */
	/* the end of a session is no clunk */
	assert_int_equal(walk(2, 4, NULL), 0);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 4, "user.b", (u64)0, 0), 0);
	start_session(65536);
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(get(2, "user.b", back, sizeof(back)), -ENODATA);
}

static void bounds(void **state)
{
	char name[300] = "user.";
	u32 opened = 0;

	(void)state;
	need_xattrs();
	host_write("file", "");
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(walk(ROOT, 3, "file"), 0);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 3, "user.a", (u64)65537, 0), E2BIG);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 3, "user.a", ~(u64)0, 0), E2BIG);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 3, "user.a", (u64)5, 4), EINVAL);
	memset(name + 5, 'x', 255 - 5);
	assert_int_equal(set(2, name, "x", 1, 0), 0);
	name[255] = 'x';
	assert_int_equal(set(2, name, "x", 1, 0), ENAMETOOLONG);
	/* so many at a time */
	for (u32 i = 0; i < 1000; i++) {
		int error = call(P9_TXATTRWALK, "dds", 2, 1000 + i, "");

		if (error) {
			assert_int_equal(error, ENFILE);
			break;
		}
		opened++;
	}
	assert_in_range(opened, 10, 500);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 3, "user.a", (u64)5, 0), ENFILE);
	assert_int_equal(clunk(1000), 0);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 3, "user.a", (u64)5, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		P9_TEST(setting_and_getting),
		P9_TEST(other_name_spaces),
		P9_TEST(half_written),
		P9_TEST(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
