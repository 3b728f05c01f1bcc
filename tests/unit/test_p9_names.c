/* Entries of directories: made, renamed, removed; and what becomes of fids meanwhile. */
#include "test_p9_client.h"

static u64 walked_qid(u32 fid, const char *name)
{
	assert_int_equal(walk(ROOT, fid, name), 0);
	take_number(2);
	return take_qid().path;
}

static void making(void **state)
{
	char target[5000];

	(void)state;
	assert_int_equal(call(P9_TMKDIR, "dsdd", ROOT, "dir", 0750, 0), 0);
	assert_int_equal(take_qid().path, host_stat("dir").st_ino);
	take_end();
	assert_int_equal(host_stat("dir").st_mode, S_IFDIR | 0750);
	assert_int_equal(call(P9_TMKDIR, "dsdd", ROOT, "dir", 0750, 0), EEXIST);
	assert_int_equal(walk(ROOT, 2, "dir"), 0);
	assert_int_equal(call(P9_TSYMLINK, "dssd", 2, "link", "/etc/../anything", 0), 0);
	assert_int_equal(take_qid().type, P9_QID_SYMLINK);
	assert_int_equal(walk(2, 3, "link"), 0);
	assert_int_equal(call(P9_TREADLINK, "d", 3), 0);
	take_string(target, sizeof(target));
	assert_string_equal(target, "/etc/../anything");
	take_end();
	assert_int_equal(call(P9_TREADLINK, "d", 2), EINVAL);
	/* the longest target, and one that is longer */
	memset(target, 'x', sizeof(target));
	target[4095] = '\0';
	assert_int_equal(call(P9_TSYMLINK, "dssd", 2, "long", target, 0), 0);
	target[4095] = 'x';
	target[4096] = '\0';
	assert_int_equal(call(P9_TSYMLINK, "dssd", 2, "longer", target, 0), ENAMETOOLONG);
	assert_int_equal(call(P9_TSYMLINK, "dssd", 2, "empty", "", 0), ENOENT);
	/* nodes: names without a device behind them only */
	assert_int_equal(call(P9_TMKNOD, "dsdddd", 2, "fifo", S_IFIFO | 0600, 0, 0, 0), 0);
	assert_int_equal(host_stat("dir/fifo").st_mode, S_IFIFO | 0600);
	assert_int_equal(call(P9_TMKNOD, "dsdddd", 2, "socket", S_IFSOCK | 0600, 0, 0, 0), 0);
	assert_int_equal(host_stat("dir/socket").st_mode, S_IFSOCK | 0600);
	assert_int_equal(call(P9_TMKNOD, "dsdddd", 2, "file", S_IFREG | 0600, 0, 0, 0), 0);
	assert_int_equal(host_stat("dir/file").st_mode, S_IFREG | 0600);
	assert_int_equal(call(P9_TMKNOD, "dsdddd", 2, "plain", 0640, 0, 0, 0), 0);
	assert_int_equal(host_stat("dir/plain").st_mode, S_IFREG | 0640);
	assert_int_equal(call(P9_TMKNOD, "dsdddd", 2, "null", S_IFCHR | 0600, 1, 3, 0), EPERM);
	assert_int_equal(call(P9_TMKNOD, "dsdddd", 2, "disk", S_IFBLK | 0600, 8, 0, 0), EPERM);
	assert_int_equal(call(P9_TMKNOD, "dsdddd", 2, "what", S_IFDIR | 0600, 0, 0, 0), EINVAL);
	assert_int_equal(call(P9_TMKNOD, "dsdddd", 2, "what", 0170000 | 0600, 0, 0, 0), EINVAL);
	assert_false(host_has("dir/null") || host_has("dir/disk") || host_has("dir/what"));
}

static void links(void **state)
{
	(void)state;
	host_write("file", "text");
	host_mkdir("dir");
	assert_int_equal(symlinkat("../secret", client.share, "link"), 0);
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(walk(ROOT, 3, "dir"), 0);
	assert_int_equal(walk(ROOT, 4, "link"), 0);
	assert_int_equal(call(P9_TLINK, "dds", 3, 2, "other"), 0);
	take_end();
	assert_int_equal(host_stat("dir/other").st_ino, host_stat("file").st_ino);
	assert_int_equal(call(P9_TLINK, "dds", 3, 2, "other"), EEXIST);
	assert_int_equal(call(P9_TLINK, "dds", 2, 2, "other"), ENOTDIR);
	assert_int_equal(call(P9_TLINK, "dds", 3, 3, "directory"), EPERM);
	/* of a link: the link, not what it leads to */
	assert_int_equal(call(P9_TLINK, "dds", 3, 4, "link"), 0);
	assert_true(S_ISLNK(host_stat("dir/link").st_mode));
	/* of what has lost its last name */
	assert_int_equal(create(5, "gone", P9_OPEN_RDWR, 0600), 0);
	assert_int_equal(unlinkat(client.share, "gone", 0), 0);
	assert_int_equal(call(P9_TLINK, "dds", 3, 5, "back"), ENOENT);
}

/* No request makes an entry of another directory than the one that it names. */
static void illegal_names(void **state)
{
	static const char *const names[] = {"", ".", "..", "/", "a/b", "../x", "/tmp/avant-p9-x", "x/"};
	char longest[300];

	(void)state;
	host_write("file", "text");
	host_mkdir("a");
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(walk(ROOT, 3, "a"), 0);
	memset(longest, 'x', sizeof(longest));
	longest[256] = '\0';
	for (unsigned i = 0; i <= ARRAY_SIZE(names); i++) {
		const char *name = i < ARRAY_SIZE(names) ? names[i] : longest;
		int expected = !*name ? ENOENT : name == longest ? ENAMETOOLONG : EINVAL;

		assert_int_equal(create(4, name, P9_OPEN_RDWR, 0600), expected);
		assert_int_equal(call(P9_TMKDIR, "dsdd", 3, name, 0755, 0), expected);
		assert_int_equal(call(P9_TSYMLINK, "dssd", 3, name, "target", 0), expected);
		assert_int_equal(call(P9_TMKNOD, "dsdddd", 3, name, S_IFIFO | 0600, 0, 0, 0), expected);
		assert_int_equal(call(P9_TLINK, "dds", 3, 2, name), expected);
		assert_int_equal(call(P9_TRENAME, "dds", 2, 3, name), expected);
		assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "file", 3, name), expected);
		assert_int_equal(call(P9_TRENAMEAT, "dsds", 3, name, 3, "b"), expected);
		assert_int_equal(call(P9_TUNLINKAT, "dsd", 3, name, 0), expected);
		assert_int_equal(call(P9_TUNLINKAT, "dsd", 3, name, P9_UNLINK_DIRECTORY), expected);
	}
	longest[255] = '\0';
	assert_int_equal(call(P9_TMKDIR, "dsdd", 3, longest, 0755, 0), 0);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", 3, longest, P9_UNLINK_DIRECTORY), 0);
	/* any other byte is part of a name */
	assert_int_equal(call(P9_TMKDIR, "dsdd", 3, "\x01\xff\n *\\\"..", 0755, 0), 0);
	assert_true(host_has("a/\x01\xff\n *\\\".."));
}

static void removing(void **state)
{
	struct attributes a;

	(void)state;
	host_mkdir("dir");
	host_write("dir/file", "text");
	assert_int_equal(walk(ROOT, 2, "dir"), 0);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, "dir", 0), EISDIR);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, "dir", P9_UNLINK_DIRECTORY), ENOTEMPTY);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, "dir", 0x100), EINVAL);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", 2, "file", P9_UNLINK_DIRECTORY), ENOTDIR);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", 2, "nothing", 0), ENOENT);
	assert_int_equal(walk(2, 3, "file"), 0);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", 3, "x", 0), ENOTDIR);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", 2, "file", 0), 0);
	assert_int_equal(getattr(3, &a), 0);
	assert_int_equal(a.nlink, 0);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, "dir", P9_UNLINK_DIRECTORY), 0);
	/* in a directory that is not there any more */
	assert_int_equal(create(4, "x", P9_OPEN_RDWR, 0600), 0);
	assert_int_equal(call(P9_TMKDIR, "dsdd", 2, "x", 0755, 0), ENOENT);
	assert_int_equal(walk(2, 5, "x"), ENOENT);
	assert_int_equal(walk(2, 5, ".."), ESTALE);
	/* by fid */
	assert_int_equal(walk(ROOT, 6, NULL), 0);
	assert_int_equal(call(P9_TREMOVE, "d", 6), EBUSY); /* the root */
	assert_int_equal(clunk(6), EBADF);
	assert_int_equal(call(P9_TREMOVE, "d", 4), 0);
	assert_false(host_has("x"));
	assert_int_equal(clunk(4), EBADF);
	host_mkdir("empty");
	assert_int_equal(walk(ROOT, 7, "empty"), 0);
	assert_int_equal(call(P9_TREMOVE, "d", 7), 0);
	assert_false(host_has("empty"));
	assert_int_equal(call(P9_TREMOVE, "d", 3), ENOENT); /* has no name any more */
}

/* A fid whose name is another file's by now: that file stays. */
static void removing_what_was_replaced(void **state)
{
	(void)state;
	host_write("file", "old");
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(walk(ROOT, 3, "file"), 0);
	assert_int_equal(renameat(client.share, "file", client.share, "kept"), 0);
	host_write("file", "new");
	assert_int_equal(call(P9_TREMOVE, "d", 2), ENOENT);
	assert_int_equal(call(P9_TRENAME, "dds", 3, ROOT, "moved"), ENOENT);
	host_expect("file", "new");
	host_expect("kept", "old");
}

static void renaming(void **state)
{
	struct attributes a;

	(void)state;
	host_mkdir("a");
	host_mkdir("b");
	host_write("a/file", "text");
	assert_int_equal(walk(ROOT, 2, "a"), 0);
	assert_int_equal(walk(ROOT, 3, "b"), 0);
	assert_int_equal(walk(2, 4, "file"), 0);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", 2, "file", 3, "other"), 0);
	take_end();
	host_expect("b/other", "text");
	assert_int_equal(call(P9_TRENAMEAT, "dsds", 2, "file", 3, "other"), ENOENT);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", 4, "file", 3, "other"), ENOTDIR);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", 3, "other", 4, "file"), ENOTDIR);
	/* the fid goes along: its name is known where it is now */
	assert_int_equal(call(P9_TRENAME, "dds", 4, ROOT, "third"), 0);
	host_expect("third", "text");
	assert_int_equal(walk(4, 5, NULL), 0);
	assert_int_equal(call(P9_TREMOVE, "d", 5), 0);
	assert_false(host_has("third"));
	/* the root has no name */
	assert_int_equal(call(P9_TRENAME, "dds", ROOT, 3, "root"), EBUSY);
	/* onto something */
	host_write("one", "1");
	host_write("two", "2");
	assert_int_equal(walk(ROOT, 6, "one"), 0);
	assert_int_equal(walk(ROOT, 7, "two"), 0);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "one", ROOT, "two"), 0);
	host_expect("two", "1");
	assert_int_equal(getattr(7, &a), 0);
	assert_int_equal(a.nlink, 0);
	assert_int_equal(call(P9_TRENAME, "dds", 7, ROOT, "x"), ENOENT);
	assert_int_equal(call(P9_TRENAME, "dds", 6, ROOT, "x"), 0);
	host_expect("x", "1");
	/* onto itself, and onto another link to itself: nothing happens */
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "x", ROOT, "x"), 0);
	assert_int_equal(linkat(client.share, "x", client.share, "y", 0), 0);
	assert_int_equal(walk(ROOT, 8, "y"), 0);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "x", ROOT, "y"), 0);
	assert_true(host_has("x") && host_has("y"));
	assert_int_equal(call(P9_TREMOVE, "d", 8), 0);
	assert_true(host_has("x") && !host_has("y"));
}

static void renaming_directories(void **state)
{
	struct attributes a;
	u64 inner;

	(void)state;
	host_mkdir("a");
	host_mkdir("a/b");
	host_mkdir("a/b/c");
	host_mkdir("empty");
	host_mkdir("full");
	host_write("full/file", "");
	inner = host_stat("a/b/c").st_ino;
	assert_int_equal(call(P9_TWALK, "ddwsss", ROOT, 2, 3, "a", "b", "c"), 0);
	assert_int_equal(walk(ROOT, 3, "a"), 0);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "a", 2, "d"), EINVAL); /* into itself */
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "a", ROOT, "full"), ENOTEMPTY);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", 3, "b", ROOT, "empty"), 0);
	/* open, with fids below */
	assert_int_equal(create(4, "x", P9_OPEN_RDWR, 0600), 0);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "x", 2, "x"), 0);
	assert_int_equal(walk(2, 5, ".."), 0);
	take_number(2);
	assert_int_equal(take_qid().path, host_stat("empty").st_ino);
	assert_int_equal(walk(5, 6, ".."), 0);
	take_number(2);
	assert_int_equal(take_qid().path, host_stat(".").st_ino);
	assert_int_equal(getattr(2, &a), 0);
	assert_int_equal(a.qid.path, inner);
	assert_int_equal(call(P9_TREMOVE, "d", 4), 0);
	assert_false(host_has("empty/c/x"));
}

/*
 * The host turns a tree inside out so that, for what the fids know, a rename of the guest's makes a directory the child
 * of its own child.
 */
static void no_circles(void **state)
{
	struct attributes a;

	(void)state;
	host_mkdir("d");
	host_mkdir("d/e");
	assert_int_equal(walk(ROOT, 2, "d"), 0);
	assert_int_equal(walk(2, 3, "e"), 0);
	assert_int_equal(renameat(client.share, "d/e", client.share, "e"), 0);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "d", 3, "f"), 0);
	assert_true(host_has("e/f"));
	assert_int_equal(walk(2, 4, ".."), 0);
	assert_int_equal(getattr(4, &a), 0);
	assert_int_equal(a.qid.path, host_stat("e").st_ino);
	assert_int_equal(walk(4, 5, ".."), ESTALE); /* where that is, nobody knows any more */
	assert_int_equal(walk(3, 6, "f"), 0);
	assert_int_equal(call(P9_TREMOVE, "d", 6), 0);
	assert_false(host_has("e/f"));
}

/* A name that was renamed away is free, and what takes it is another file. */
static void names_are_used_again(void **state)
{
	u64 first, second;

	(void)state;
	assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0600), 0);
	first = host_stat("file").st_ino;
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "file", ROOT, "old"), 0);
	assert_int_equal(create(3, "file", P9_OPEN_RDWR, 0600), 0);
	second = host_stat("file").st_ino;
	assert_int_not_equal(first, second);
	assert_int_equal(walked_qid(4, "file"), second);
	assert_int_equal(walked_qid(5, "old"), first);
	assert_int_equal(call(P9_TREMOVE, "d", 2), 0);
	assert_true(host_has("file") && !host_has("old"));
	assert_int_equal(call(P9_TREMOVE, "d", 4), 0);
	assert_false(host_has("file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		P9_TEST(making),
		P9_TEST(links),
		P9_TEST(illegal_names),
		P9_TEST(removing),
		P9_TEST(removing_what_was_replaced),
		P9_TEST(renaming),
		P9_TEST(renaming_directories),
		P9_TEST(no_circles),
		P9_TEST(names_are_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
