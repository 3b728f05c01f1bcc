/* Opening, creating, reading and writing files; their attributes. */
#include "test_p9_client.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

static void pattern(u8 *to, u32 size, u32 seed)
{
	for (u32 i = 0; i < size; i++)
		to[i] = (u8)((i * 2654435761u + seed) >> 13);
}

static void reading_and_writing(void **state)
{
	static u8 data[50000], back[50000];

	(void)state;
	pattern(data, sizeof(data), 1);
	assert_int_equal(create(2, "file", P9_OPEN_RDWR | P9_OPEN_EXCL, 0640), 0);
	assert_int_equal(take_qid().path, host_stat("file").st_ino);
	assert_int_equal(take_number(4), 0);
	take_end();
	assert_int_equal(host_stat("file").st_mode, S_IFREG | 0640);
	for (client.scatter = 0; client.scatter < 5000; client.scatter = client.scatter * 3 + 1) {
		assert_int_equal(write_at(2, client.scatter, data, sizeof(data)), sizeof(data));
		memset(back, 0, sizeof(back));
		assert_int_equal(read_at(2, client.scatter, back, sizeof(back)), sizeof(back));
		assert_memory_equal(data, back, sizeof(data));
	}
	/* at the end, beyond it, nothing at all */
	client.scatter = 100;
	assert_int_equal(setattr(2, P9_SETATTR_SIZE, 0, 100), 0);
	assert_int_equal(read_at(2, 90, back, 100), 10);
	assert_int_equal(read_at(2, 100, back, 100), 0);
	assert_int_equal(read_at(2, 1000, back, 100), 0);
	assert_int_equal(read_at(2, 0, back, 0), 0);
	assert_int_equal(write_at(2, 0, back, 0), 0);
	/* a request for more than a message holds is answered with less */
	assert_int_equal(setattr(2, P9_SETATTR_SIZE, 0, 200000), 0);
	assert_int_equal(call(P9_TREAD, "dqd", 2, (u64)0, 100000), 0);
	assert_int_equal(take_number(4), 65536 - P9_READ_HEADER_SIZE);
	assert_int_equal(call(P9_TFSYNC, "dd", 2, 0), 0);
	assert_int_equal(call(P9_TFSYNC, "dd", 2, 1), 0);
	assert_int_equal(call(P9_TFSYNC, "dd", ROOT, 0), EBADF);
}

/* Everything between the smallest message and more than the largest. */
static void message_sizes(void **state)
{
	static const u32 sizes[] = {4096, 8192, 131072, 512000, 1 << 20, 1 << 21};
	u8 *data = malloc(1 << 20), *back = malloc(1 << 20);

	(void)state;
	pattern(data, 1 << 20, 7);
	client.in_room = 1 << 20;
	client.scatter = 5000;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		u32 msize = sizes[i] < 1 << 20 ? sizes[i] : 1 << 20, count = msize - P9_WRITE_HEADER_SIZE;
		struct attributes a;

		start_session(sizes[i]);
		assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0644), 0);
		assert_int_equal(write_at(2, 3, data, count), count);
		assert_int_equal(read_at(2, 3, back, count), count);
		assert_memory_equal(data, back, count);
		/* a good size for programs: a power of two that fits */
		assert_int_equal(getattr(2, &a), 0);
		assert_true(a.block_size >= 4096 / 2 && (a.block_size & (a.block_size - 1)) == 0);
		assert_true(a.block_size == 4096 || a.block_size + P9_WRITE_HEADER_SIZE <= msize);
		assert_true(a.block_size * 2 + P9_WRITE_HEADER_SIZE > msize);
	}
	free(data);
	free(back);
}

static void opening(void **state)
{
	struct {
		u32 flags;
		bool reads, writes;
	} ways[] = {{P9_OPEN_RDONLY, true, false}, {P9_OPEN_WRONLY, false, true}, {P9_OPEN_RDWR, true, true}};
	char c = 'x';

	(void)state;
	host_mkdir("dir");
	assert_int_equal(symlinkat("file", client.share, "link"), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
		host_write("file", "text");
		assert_int_equal(walk(ROOT, 2, "file"), 0);
		assert_int_equal(read_at(2, 0, &c, 1), -EBADF);
		assert_int_equal(write_at(2, 0, &c, 1), -EBADF);
		assert_int_equal(lopen(2, ways[i].flags), 0);
		assert_int_equal(lopen(2, ways[i].flags), EINVAL);
		assert_int_equal(read_at(2, 0, &c, 1), ways[i].reads ? 1 : -EBADF);
		assert_int_equal(write_at(2, 0, &c, 1), ways[i].writes ? 1 : -EBADF);
		assert_int_equal(clunk(2), 0);
		/* cut off */
		assert_int_equal(walk(ROOT, 2, "file"), 0);
		assert_int_equal(lopen(2, ways[i].flags | P9_OPEN_TRUNC), 0);
		assert_int_equal(host_stat("file").st_size, 0);
		assert_int_equal(clunk(2), 0);
	}
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(lopen(2, P9_OPEN_ACCESS), EINVAL);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY | P9_OPEN_DIRECTORY), ENOTDIR);
	assert_int_equal(walk(ROOT, 3, "dir"), 0);
	assert_int_equal(lopen(3, P9_OPEN_RDWR), EISDIR);
	assert_int_equal(lopen(3, P9_OPEN_RDONLY | P9_OPEN_TRUNC), EISDIR);
	assert_int_equal(lopen(3, P9_OPEN_RDONLY | P9_OPEN_DIRECTORY), 0);
	assert_int_equal(read_at(3, 0, &c, 1), -EISDIR);
	assert_int_equal(write_at(3, 0, &c, 1), -EBADF);
	assert_int_equal(walk(ROOT, 4, "link"), 0);
	assert_int_equal(lopen(4, P9_OPEN_RDONLY), ELOOP);
	/* flags that mean nothing here: O_DIRECT, O_NONBLOCK, O_NOFOLLOW, … */
	assert_int_equal(lopen(2, P9_OPEN_RDWR | 040000 | 04000 | 0400000 | 0100000 | 0100 | 0400), 0);
	assert_int_equal(write_at(2, 1, &c, 1), 1);
}

/* What would block, or do something, if it were opened. */
static void special_files(void **state)
{
	struct attributes a;

	(void)state;
	assert_int_equal(mkfifoat(client.share, "fifo", 0600), 0);
	assert_int_equal(walk(ROOT, 2, "fifo"), 0);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY), EOPNOTSUPP);
	assert_int_equal(lopen(2, P9_OPEN_WRONLY), EOPNOTSUPP);
	assert_int_equal(setattr(2, P9_SETATTR_SIZE, 0, 0), EINVAL);
	assert_int_equal(create(3, "fifo", P9_OPEN_RDWR, 0644), EOPNOTSUPP);
	assert_int_equal(getattr(2, &a), 0);
	assert_int_equal(a.mode, S_IFIFO | 0600);
	if (mknodat(client.share, "null", S_IFCHR | 0600, makedev(1, 3)) == 0) {
		assert_int_equal(walk(ROOT, 4, "null"), 0);
		assert_int_equal(lopen(4, P9_OPEN_RDONLY), EOPNOTSUPP);
		assert_int_equal(create(5, "null", P9_OPEN_RDWR, 0644), EOPNOTSUPP);
		assert_int_equal(getattr(4, &a), 0);
		assert_int_equal(a.mode, S_IFCHR | 0600);
		assert_int_equal(a.rdev, 1 << 8 | 3);
	}
}

static void creating(void **state)
{
	char c;

	(void)state;
	assert_int_equal(create(2, "file", P9_OPEN_WRONLY, 0600), 0);
	assert_int_equal(write_at(2, 0, "abc", 3), 3);
	/* there already */
	assert_int_equal(create(3, "file", P9_OPEN_RDWR | P9_OPEN_EXCL, 0600), EEXIST);
	assert_int_equal(create(3, "file", P9_OPEN_RDWR, 0644), 0);
	assert_int_equal(read_at(3, 2, &c, 1), 1);
	assert_int_equal(c, 'c');
	assert_int_equal(host_stat("file").st_mode & 07777, 0600);
	assert_int_equal(create(4, "file", P9_OPEN_RDWR | P9_OPEN_TRUNC, 0644), 0);
	assert_int_equal(read_at(3, 2, &c, 1), 0);
	/* a link is not followed, not even to a file that is not there */
	assert_int_equal(symlinkat("../new", client.share, "link"), 0);
	assert_int_equal(create(5, "link", P9_OPEN_RDWR, 0644), ELOOP);
	assert_int_equal(create(5, "link", P9_OPEN_RDWR | P9_OPEN_EXCL, 0644), EEXIST);
	assert_false(host_has("../new"));
	host_mkdir("dir");
	assert_int_equal(create(5, "dir", P9_OPEN_RDONLY, 0644), EISDIR);
	/* in what is no directory; with a fid that is a file now */
	assert_int_equal(walk(ROOT, 6, "file"), 0);
	assert_int_equal(call(P9_TLCREATE, "dsddd", 6, "new", P9_OPEN_RDWR, 0644, 0), ENOTDIR);
	assert_int_equal(call(P9_TLCREATE, "dsddd", 2, "new", P9_OPEN_RDWR, 0644, 0), EINVAL);
	assert_int_equal(create(7, "new", P9_OPEN_ACCESS, 0644), EINVAL);
	assert_false(host_has("new"));
}

/* Permission bits are those that the client asks for, but for the two that would give rights away. */
static void modes(void **state)
{
	static const u32 umasks[] = {0, 022, 077, 0777};
	struct attributes a;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(umasks); i++) {
		u32 before = umask(umasks[i]);

		restart(false, 0);
		assert_int_equal(create(2, "file", P9_OPEN_RDWR, 07767), 0);
		assert_int_equal(call(P9_TMKDIR, "dsdd", ROOT, "dir", 07775, 0), 0);
		assert_int_equal(call(P9_TMKNOD, "dsdddd", ROOT, "fifo", S_IFIFO | 07666, 0, 0, 0), 0);
		umask(before);
		assert_int_equal(host_stat("file").st_mode & 07777, 01767);
		assert_int_equal(host_stat("dir").st_mode & 07777, 01775);
		assert_int_equal(host_stat("fifo").st_mode & 07777, 01666);
		assert_int_equal(setattr(2, P9_SETATTR_MODE, 06755, 0), 0);
		assert_int_equal(host_stat("file").st_mode & 07777, 0755);
		assert_int_equal(walk(ROOT, 3, "dir"), 0);
		assert_int_equal(setattr(3, P9_SETATTR_MODE, 07700, 0), 0);
		assert_int_equal(host_stat("dir").st_mode & 07777, 03700);
		assert_int_equal(getattr(3, &a), 0);
		assert_int_equal(a.mode, S_IFDIR | 03700);
		unlinkat(client.share, "file", 0);
		unlinkat(client.share, "fifo", 0);
		unlinkat(client.share, "dir", AT_REMOVEDIR);
	}
	/* a directory made in one that hands on its group does so, too */
	restart(false, 0);
	host_mkdir("group");
	assert_int_equal(fchmodat(client.share, "group", 02755, 0), 0);
	assert_int_equal(walk(ROOT, 5, "group"), 0);
	assert_int_equal(call(P9_TMKDIR, "dsdd", 5, "inner", 0777, 0), 0);
	assert_int_equal(host_stat("group/inner").st_mode & 07777, 02777);
	/* not through a link */
	host_write("file", "");
	assert_int_equal(fchmodat(client.share, "file", 0600, 0), 0);
	assert_int_equal(symlinkat("file", client.share, "link"), 0);
	assert_int_equal(walk(ROOT, 4, "link"), 0);
	assert_int_equal(setattr(4, P9_SETATTR_MODE, 0777, 0), EOPNOTSUPP);
	assert_int_equal(host_stat("file").st_mode & 07777, 0600);
}

/* A program that runs with its owner's rights must not get the guest's contents and keep them. */
static void privileges_go_with_writing(void **state)
{
	static const u32 flags[] = {P9_OPEN_WRONLY, P9_OPEN_RDWR, P9_OPEN_RDWR | P9_OPEN_APPEND, P9_OPEN_TRUNC};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		host_write("program", "text");
		assert_int_equal(fchmodat(client.share, "program", 06755, 0), 0);
		assert_int_equal(walk(ROOT, 2, "program"), 0);
		assert_int_equal(walk(ROOT, 3, "program"), 0);
		assert_int_equal(lopen(2, P9_OPEN_RDONLY), 0);
		assert_int_equal(host_stat("program").st_mode & 07777, 06755);
		assert_int_equal(lopen(3, flags[i]), 0);
		if (flags[i] != P9_OPEN_TRUNC)
			assert_int_equal(write_at(3, 0, "evil", 4), 4);
		assert_int_equal(host_stat("program").st_mode & 07777, 0755);
		assert_int_equal(clunk(2), 0);
		assert_int_equal(clunk(3), 0);
	}
	assert_int_equal(fchmodat(client.share, "program", 06755, 0), 0);
	assert_int_equal(walk(ROOT, 4, "program"), 0);
	assert_int_equal(setattr(4, P9_SETATTR_SIZE, 0, 100), 0);
	assert_int_equal(host_stat("program").st_mode & 07777, 0755);
}

static void appending(void **state)
{
	char text[8] = "";

	(void)state;
	host_write("log", "one");
	assert_int_equal(walk(ROOT, 2, "log"), 0);
	assert_int_equal(lopen(2, P9_OPEN_RDWR | P9_OPEN_APPEND), 0);
	assert_int_equal(write_at(2, 0, "two", 3), 3);
	host_write("log", "1"); /* somebody on the host cuts it off */
	assert_int_equal(write_at(2, 6, "three", 5), 5);
	assert_int_equal(read_at(2, 0, text, sizeof(text)), 6);
	assert_string_equal(text, "1three");
}

static void large_and_sparse(void **state)
{
	const u64 far = 5ULL << 30;
	struct attributes a;
	char c = 1;

	(void)state;
	assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0644), 0);
	assert_int_equal(write_at(2, far, "x", 1), 1);
	assert_int_equal(getattr(2, &a), 0);
	assert_int_equal(a.size, far + 1);
	assert_true(a.blocks * 512 < 1 << 20);
	assert_int_equal(read_at(2, far / 2, &c, 1), 1);
	assert_int_equal(c, 0);
	assert_int_equal(read_at(2, far, &c, 1), 1);
	assert_int_equal(c, 'x');
	assert_int_equal(setattr(2, P9_SETATTR_SIZE, 0, far * 2), 0);
	assert_int_equal(host_stat("file").st_size, far * 2);
}

static void removed_but_open(void **state)
{
	struct attributes a;
	char text[8];

	(void)state;
	assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0644), 0);
	assert_int_equal(walk(2, 3, NULL), 0);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, "file", 0), 0);
	assert_false(host_has("file"));
	assert_int_equal(write_at(2, 0, "data", 4), 4);
	assert_int_equal(getattr(2, &a), 0);
	assert_int_equal(a.nlink, 0);
	assert_int_equal(a.size, 4);
	/* also the fid that was not open, which had no descriptor of its own */
	assert_int_equal(getattr(3, &a), 0);
	assert_int_equal(setattr(3, P9_SETATTR_SIZE, 0, 3), 0);
	assert_int_equal(lopen(3, P9_OPEN_RDONLY), 0);
	assert_int_equal(read_at(3, 0, text, sizeof(text)), 3);
	assert_int_equal(setattr(2, P9_SETATTR_MODE, 0600, 0), 0);
	assert_int_equal(walk(3, 4, ".."), ESTALE);
}

static void attributes(void **state)
{
	struct attributes a, b;
	struct stat st;

	(void)state;
	host_write("file", "hello");
	assert_int_equal(linkat(client.share, "file", client.share, "other", 0), 0);
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(walk(ROOT, 3, "other"), 0);
	assert_int_equal(getattr(2, &a), 0);
	assert_int_equal(getattr(3, &b), 0);
	st = host_stat("file");
	assert_int_equal(a.qid.path, b.qid.path);
	assert_int_equal(a.qid.path, st.st_ino);
	assert_true(a.valid & P9_GETATTR_BASIC);
	assert_int_equal(a.mode, st.st_mode);
	assert_int_equal(a.uid, st.st_uid);
	assert_int_equal(a.gid, st.st_gid);
	assert_int_equal(a.nlink, 2);
	assert_int_equal(a.size, 5);
	assert_int_equal(a.blocks, st.st_blocks);
	assert_int_equal(a.seconds[1], st.st_mtim.tv_sec);
	assert_int_equal(a.nanoseconds[1], st.st_mtim.tv_nsec);
	assert_int_equal(a.seconds[2], st.st_ctim.tv_sec);
	assert_int_equal(a.nanoseconds[2], st.st_ctim.tv_nsec);
	assert_true(a.generation < 1ULL << 32); /* Linux compares with 32 bits */
	/* a change shows in the version */
	assert_int_equal(setattr(2, P9_SETATTR_SIZE, 0, 4), 0);
	assert_int_equal(getattr(3, &b), 0);
	assert_int_not_equal(a.qid.version, b.qid.version);
	assert_int_equal(a.generation, b.generation);
}

static void times(void **state)
{
	struct stat st;

	(void)state;
	host_write("file", "");
	assert_int_equal(symlinkat("file", client.share, "link"), 0);
	assert_int_equal(walk(ROOT, 2, "link"), 0); /* a link's own times */
	assert_int_equal(
		setattr(2, P9_SETATTR_ATIME | P9_SETATTR_ATIME_SET | P9_SETATTR_MTIME | P9_SETATTR_MTIME_SET, 0, 0), 0);
	st = host_stat("link");
	assert_int_equal(st.st_atim.tv_sec, 1);
	assert_int_equal(st.st_atim.tv_nsec, 2);
	assert_int_equal(st.st_mtim.tv_sec, 3);
	assert_int_equal(st.st_mtim.tv_nsec, 4);
	assert_true(host_stat("file").st_mtim.tv_sec > 100);
	assert_int_equal(setattr(2, P9_SETATTR_MTIME, 0, 0), 0); /* now */
	st = host_stat("link");
	assert_int_equal(st.st_atim.tv_sec, 1);
	assert_true(st.st_mtim.tv_sec > 100);
	/* values that mean something else to utimensat(2) */
	assert_int_equal(call(P9_TSETATTR, "dddddqqqqq", 2, P9_SETATTR_ATIME | P9_SETATTR_ATIME_SET, 0, 0, 0, (u64)0,
			      (u64)5, (u64)UTIME_NOW, (u64)5, (u64)5),
			 EINVAL);
	assert_int_equal(call(P9_TSETATTR, "dddddqqqqq", 2, P9_SETATTR_MTIME | P9_SETATTR_MTIME_SET, 0, 0, 0, (u64)0,
			      (u64)5, (u64)5, (u64)5, (u64)1 << 32),
			 EINVAL);
	assert_int_equal(host_stat("link").st_atim.tv_sec, 1);
}

/* Owners stay; it is no error, and ctime moves as it would. */
static void owners(void **state)
{
	struct stat before, after;

	(void)state;
	host_write("file", "");
	before = host_stat("file");
	usleep(20000);
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(setattr(2, P9_SETATTR_UID | P9_SETATTR_GID | P9_SETATTR_CTIME, 0, 0), 0);
	after = host_stat("file");
	assert_int_equal(before.st_uid, after.st_uid);
	assert_int_equal(before.st_gid, after.st_gid);
	assert_int_not_equal(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
	/* nor has who creates a say */
	assert_int_equal(walk(ROOT, 3, NULL), 0);
	assert_int_equal(call(P9_TLCREATE, "dsddd", 3, "new", P9_OPEN_RDWR, 0644, 54321), 0);
	assert_int_equal(host_stat("new").st_uid, geteuid());
	assert_int_not_equal(host_stat("new").st_gid, 54321);
}

static void limits_of_the_host(void **state)
{
	struct rlimit old, low = {1 << 20, RLIM_INFINITY};
	char c = 0;

	(void)state;
	assert_int_equal(create(2, "file", P9_OPEN_RDWR, 0644), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(write_at(2, 2 << 20, &c, 1), -EFBIG);
	assert_int_equal(setattr(2, P9_SETATTR_SIZE, 0, 2 << 20), EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(write_at(2, 2 << 20, &c, 1), 1);
}

static void file_system(void **state)
{
	(void)state;
	assert_int_equal(call(P9_TSTATFS, "d", ROOT), 0);
	assert_int_equal(take_number(4), P9_STATFS_TYPE);
	assert_true(take_number(4) >= 512);
	assert_true(take_number(8) > 0);
	for (int i = 0; i < 5; i++)
		take_number(8);
	assert_int_equal(take_number(4), 255);
	take_end();
}

static void read_only(void **state)
{
	char text[8];
	struct attributes a;

	(void)state;
	host_write("file", "text");
	host_mkdir("dir");
	restart(true, 0);
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(walk(ROOT, 3, "dir"), 0);
	assert_int_equal(lopen(2, P9_OPEN_RDWR), EROFS);
	assert_int_equal(lopen(2, P9_OPEN_WRONLY), EROFS);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY | P9_OPEN_TRUNC), EROFS);
	assert_int_equal(create(4, "new", P9_OPEN_RDONLY, 0644), EROFS);
	assert_int_equal(call(P9_TSYMLINK, "dssd", ROOT, "new", "file", 0), EROFS);
	assert_int_equal(call(P9_TMKNOD, "dsdddd", ROOT, "new", S_IFIFO | 0600, 0, 0, 0), EROFS);
	assert_int_equal(call(P9_TMKDIR, "dsdd", ROOT, "new", 0755, 0), EROFS);
	assert_int_equal(call(P9_TLINK, "dds", ROOT, 2, "new"), EROFS);
	assert_int_equal(call(P9_TRENAME, "dds", 2, ROOT, "new"), EROFS);
	assert_int_equal(call(P9_TRENAMEAT, "dsds", ROOT, "file", ROOT, "new"), EROFS);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, "file", 0), EROFS);
	assert_int_equal(call(P9_TXATTRCREATE, "dsqd", 2, "user.a", (u64)1, 0), EROFS);
	for (u32 valid = 1; valid <= P9_SETATTR_MTIME_SET; valid *= 2)
		assert_int_equal(setattr(2, valid, 0600, 0), EROFS);
	assert_int_equal(walk(ROOT, 5, "file"), 0);
	assert_int_equal(call(P9_TREMOVE, "d", 5), EROFS);
	assert_int_equal(clunk(5), EBADF); /* it is gone all the same */
	assert_int_equal(lopen(2, P9_OPEN_RDONLY), 0);
	assert_int_equal(read_at(2, 0, text, sizeof(text)), 4);
	assert_int_equal(write_at(2, 0, text, 4), -EBADF);
	assert_int_equal(getattr(2, &a), 0);
	assert_int_equal(call(P9_TFSYNC, "dd", 2, 0), 0);
	host_expect("file", "text");
	assert_false(host_has("new"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		P9_TEST(reading_and_writing),
		P9_TEST(message_sizes),
		P9_TEST(opening),
		P9_TEST(special_files),
		P9_TEST(creating),
		P9_TEST(modes),
		P9_TEST(privileges_go_with_writing),
		P9_TEST(appending),
		P9_TEST(large_and_sparse),
		P9_TEST(removed_but_open),
		P9_TEST(attributes),
		P9_TEST(times),
		P9_TEST(owners),
		P9_TEST(limits_of_the_host),
		P9_TEST(file_system),
		P9_TEST(read_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
