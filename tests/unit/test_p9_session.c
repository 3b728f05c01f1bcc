/* Versions, attaching, walking, fids. */
#include "test_p9_client.h"

static void version_reply(u32 msize, const char *version, u32 expected_msize, const char *expected)
{
	char text[32];

	assert_int_equal(call(P9_TVERSION, "ds", msize, version), 0);
	assert_int_equal(take_number(4), expected_msize);
	take_string(text, sizeof(text));
	assert_string_equal(text, expected);
	take_end();
}

static void versions(void **state)
{
	(void)state;
	version_reply(8192, "9P2000.L", 8192, "9P2000.L");
	version_reply(4096, "9P2000.L", 4096, "9P2000.L");
	version_reply(0xffffffff, "9P2000.L", 1 << 20, "9P2000.L");
	assert_int_equal(call(P9_TVERSION, "ds", 4095, "9P2000.L"), EMSGSIZE);
	version_reply(8192, "9P2000", 8192, "unknown");
	version_reply(8192, "9P2000.u", 8192, "unknown");
	version_reply(8192, "", 8192, "unknown");
	version_reply(8192, "a version whose name is longer than any that there is or ever will be", 8192, "unknown");
	/* no session: nothing else is answered */
	assert_int_equal(call(P9_TATTACH, "ddssd", 7, P9_NO_FID, "", "", 0), EPROTO);
	assert_int_equal(walk(ROOT, 2, NULL), EPROTO);
}

static void a_version_ends_the_session(void **state)
{
	unsigned before = host_descriptors();

	(void)state;
	assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0644), 0);
	assert_int_equal(walk(ROOT, 3, "file"), 0);
	version_reply(8192, "9P2000.L", 8192, "9P2000.L");
	assert_int_equal(host_descriptors(), before);
	assert_int_equal(clunk(2), EBADF);
	assert_int_equal(walk(ROOT, 2, NULL), EBADF);
}

static void attaching(void **state)
{
	struct attributes root, again;

	(void)state;
	host_mkdir("a");
	host_mkdir("a/b");
	host_write("a/file", "");
	assert_int_equal(symlinkat("a", client.share, "link"), 0);
	assert_int_equal(getattr(ROOT, &root), 0);
	assert_int_equal(call(P9_TATTACH, "ddssd", ROOT, P9_NO_FID, "", "", 0), EBADF); /* in use */
	assert_int_equal(call(P9_TATTACH, "ddssd", P9_NO_FID, P9_NO_FID, "", "", 0), EBADF);
	assert_int_equal(call(P9_TATTACH, "ddssd", 2, ROOT, "", "", 0), EBADF); /* an afid */
	assert_int_equal(call(P9_TATTACH, "ddssd", 2, P9_NO_FID, "", "/", 0), 0);
	assert_int_equal(getattr(2, &again), 0);
	assert_int_equal(again.qid.path, root.qid.path);
	assert_int_equal(call(P9_TATTACH, "ddssd", 3, P9_NO_FID, "", "/a//b", 0), 0);
	assert_int_equal(take_qid().path, host_stat("a/b").st_ino);
	assert_int_equal(call(P9_TATTACH, "ddssd", 4, P9_NO_FID, "", "a/..", 0), EINVAL);
	assert_int_equal(call(P9_TATTACH, "ddssd", 4, P9_NO_FID, "", "..", 0), EINVAL);
	assert_int_equal(call(P9_TATTACH, "ddssd", 4, P9_NO_FID, "", "a/file", 0), ENOTDIR);
	assert_int_equal(call(P9_TATTACH, "ddssd", 4, P9_NO_FID, "", "link", 0), ENOTDIR);
	assert_int_equal(call(P9_TATTACH, "ddssd", 4, P9_NO_FID, "", "nothing", 0), ENOENT);
	assert_int_equal(clunk(4), EBADF);
}

static void what_there_is_not(void **state)
{
	(void)state;
	assert_int_equal(call(P9_TAUTH, "dssd", 2, "user", "", 0), EOPNOTSUPP);
	for (unsigned type = 0; type < 256; type++) {
		bool known = false;

		switch (type) {
		case P9_TSTATFS:
		case P9_TLOPEN:
		case P9_TLCREATE:
		case P9_TSYMLINK:
		case P9_TMKNOD:
		case P9_TRENAME:
		case P9_TREADLINK:
		case P9_TGETATTR:
		case P9_TSETATTR:
		case P9_TXATTRWALK:
		case P9_TXATTRCREATE:
		case P9_TREADDIR:
		case P9_TFSYNC:
		case P9_TLOCK:
		case P9_TGETLOCK:
		case P9_TLINK:
		case P9_TMKDIR:
		case P9_TRENAMEAT:
		case P9_TUNLINKAT:
		case P9_TVERSION:
		case P9_TAUTH:
		case P9_TATTACH:
		case P9_TFLUSH:
		case P9_TWALK:
		case P9_TREAD:
		case P9_TWRITE:
		case P9_TCLUNK:
		case P9_TREMOVE:
			known = true;
		}
		if (!known)
			assert_int_equal(call((u8)type, "d", ROOT), EOPNOTSUPP);
	}
	/* whatever the tag, in use or not: everything was answered */
	assert_int_equal(call(P9_TFLUSH, "w", 0x1234), 0);
	assert_int_equal(call(P9_TFLUSH, "w", 77), 0);
	take_end();
}

static void walking(void **state)
{
	struct qid qid;

	(void)state;
	host_mkdir("a");
	host_mkdir("a/b");
	host_write("a/b/c", "text");
	/* several at once; as far as it goes; not at all */
	assert_int_equal(call(P9_TWALK, "ddwsss", ROOT, 2, 3, "a", "b", "c"), 0);
	assert_int_equal(take_number(2), 3);
	qid = take_qid();
	assert_int_equal(qid.type, P9_QID_DIRECTORY);
	assert_int_equal(qid.path, host_stat("a").st_ino);
	take_qid();
	qid = take_qid();
	assert_int_equal(qid.type, P9_QID_FILE);
	assert_int_equal(qid.path, host_stat("a/b/c").st_ino);
	assert_int_not_equal(qid.version, 0);
	take_end();
	assert_int_equal(call(P9_TWALK, "ddwsss", ROOT, 3, 3, "a", "nothing", "c"), 0);
	assert_int_equal(take_number(2), 1);
	take_qid();
	take_end();
	assert_int_equal(clunk(3), EBADF);
	assert_int_equal(call(P9_TWALK, "ddwsss", ROOT, 3, 3, "nothing", "b", "c"), ENOENT);
	/* through a file */
	assert_int_equal(walk(2, 3, "c"), ENOTDIR);
	/* the same file, one more fid */
	assert_int_equal(walk(2, 3, NULL), 0);
	assert_int_equal(take_number(2), 0);
	take_end();
	assert_int_equal(clunk(2), 0);
	assert_int_equal(clunk(2), EBADF);
	assert_int_equal(lopen(3, P9_OPEN_RDONLY), 0);
	/* fid and newfid alike */
	assert_int_equal(walk(ROOT, 4, NULL), 0);
	assert_int_equal(walk(4, 4, "a"), 0);
	assert_int_equal(walk(4, 4, "nothing"), ENOENT);
	assert_int_equal(walk(4, 4, "b"), 0);
	assert_int_equal(walk(4, 5, "c"), 0);
	/* newfid in use; no fid; NOFID; an open one moves nowhere, but can be walked from */
	assert_int_equal(walk(4, 5, "c"), EBADF);
	assert_int_equal(walk(77, 78, "c"), EBADF);
	assert_int_equal(walk(4, P9_NO_FID, "c"), EBADF);
	assert_int_equal(walk(3, 3, NULL), EINVAL);
	assert_int_equal(walk(3, 6, NULL), 0);
}

static void walking_up(void **state)
{
	u64 root = host_stat(".").st_ino;

	(void)state;
	host_mkdir("a");
	host_mkdir("a/b");
	assert_int_equal(call(P9_TWALK, "ddwssssss", ROOT, 2, 6, "a", "b", "..", "..", "..", ".."), 0);
	assert_int_equal(take_number(2), 6);
	take_qid();
	take_qid();
	assert_int_equal(take_qid().path, host_stat("a").st_ino);
	for (int i = 0; i < 3; i++)
		assert_int_equal(take_qid().path, root);
	/* a directory that is now elsewhere: up is where the guest came from */
	assert_int_equal(call(P9_TWALK, "ddwss", ROOT, 3, 2, "a", "b"), 0);
	assert_int_equal(renameat(client.share, "a/b", client.share, "../moved"), 0);
	assert_int_equal(walk(3, 4, ".."), 0);
	take_number(2);
	assert_int_equal(take_qid().path, host_stat("a").st_ino);
}

static void names_of_nothing(void **state)
{
	char name[300];

	(void)state;
	host_mkdir("a");
	assert_int_equal(walk(ROOT, 2, ""), ENOENT);
	assert_int_equal(walk(ROOT, 2, "."), EINVAL);
	assert_int_equal(walk(ROOT, 2, "/"), EINVAL);
	assert_int_equal(walk(ROOT, 2, "a/"), EINVAL);
	assert_int_equal(walk(ROOT, 2, "../secret"), EINVAL);
	assert_int_equal(walk(ROOT, 2, "/etc"), EINVAL);
	memset(name, 'x', sizeof(name));
	name[255] = '\0';
	host_write(name, "long");
	assert_int_equal(walk(ROOT, 2, name), 0);
	name[255] = 'x';
	name[256] = '\0';
	assert_int_equal(walk(ROOT, 3, name), ENAMETOOLONG);
	/* a zero byte in a name */
	begin(P9_TWALK);
	put("ddww", ROOT, 3, 1, 2);
	put_bytes("a", 2);
	assert_int_equal(send_message(), EINVAL);
	/* as many as fit, and one more */
	begin(P9_TWALK);
	put("ddw", ROOT, 3, 16);
	for (int i = 0; i < 16; i++)
		put("s", i % 2 ? ".." : "a");
	assert_int_equal(send_message(), 0);
	assert_int_equal(take_number(2), 16);
	begin(P9_TWALK);
	put("ddw", ROOT, 4, 17);
	for (int i = 0; i < 17; i++)
		put("s", i % 2 ? ".." : "a");
	assert_int_equal(send_message(), EINVAL);
}

/* A name that is another file by now, as the host made it. */
static void replaced_by_the_host(void **state)
{
	struct attributes a;
	char text[8];

	(void)state;
	host_write("file", "old");
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(linkat(client.share, "file", client.share, "kept", 0),
			 0); /* so that its number is not used again */
	assert_int_equal(unlinkat(client.share, "file", 0), 0);
	host_write("file", "newer");
	assert_int_equal(walk(ROOT, 3, "file"), 0);
	assert_int_equal(getattr(2, &a), 0);
	assert_int_equal(a.size, 3);
	assert_int_equal(getattr(3, &a), 0);
	assert_int_equal(a.size, 5);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY), 0);
	assert_int_equal(read_at(2, 0, text, sizeof(text)), 3);
	assert_memory_equal(text, "old", 3);
	/* and gone */
	assert_int_equal(unlinkat(client.share, "file", 0), 0);
	assert_int_equal(walk(ROOT, 4, "file"), ENOENT);
	assert_int_equal(getattr(3, &a), 0);
	assert_int_equal(a.nlink, 0);
}

static void many_fids(void **state)
{
	struct attributes a;

	(void)state;
	for (u32 i = 0; i < 20000; i++)
		assert_int_equal(walk(ROOT, 1000 + i * 7919, NULL), 0);
	for (u32 i = 0; i < 20000; i += 2)
		assert_int_equal(clunk(1000 + i * 7919), 0);
	for (u32 i = 0; i < 20000; i++)
		assert_int_equal(getattr(1000 + i * 7919, &a), i % 2 ? 0 : EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		P9_TEST(versions),         P9_TEST(a_version_ends_the_session),
		P9_TEST(attaching),        P9_TEST(what_there_is_not),
		P9_TEST(walking),          P9_TEST(walking_up),
		P9_TEST(names_of_nothing), P9_TEST(replaced_by_the_host),
		P9_TEST(many_fids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
