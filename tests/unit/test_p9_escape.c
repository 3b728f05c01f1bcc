/* Attempts to get at what lies outside the shared directory; teardown looks whether the file there is as it was. */
#include "test_p9_client.h"

#include <pthread.h>
#include <stdatomic.h>

static void check_not_outside(u32 fid)
{
	struct attributes a;

	if (getattr(fid, &a) == 0) {
		assert_int_not_equal(a.qid.path, host_stat("..").st_ino);
		assert_int_not_equal(a.qid.path, host_stat("../secret").st_ino);
	}
}

/* Every request that takes a name or a fid, on a name that leads out. It must act within the directory, or fail. */
static void try_everything(u32 dir, const char *name)
{
	char text[64] = "";

	if (walk(dir, 50, name) == 0) {
		check_not_outside(50);
		if (walk(50, 51, "secret") == 0)
			check_not_outside(51);
		clunk(51);
		call(P9_TUNLINKAT, "dsd", 50, "secret", 0);
		call(P9_TRENAMEAT, "dsds", 50, "secret", 50, "renamed");
		call(P9_TMKDIR, "dsdd", 50, "made", 0777, 0);
		call(P9_TLINK, "dds", 50, 50, "linked");
		setattr(50, P9_SETATTR_MODE, 0777, 0);
		setattr(50, P9_SETATTR_SIZE, 0, 0);
		if (lopen(50, P9_OPEN_RDONLY) == 0 && read_at(50, 0, text, sizeof(text)) >= 0)
			assert_string_not_equal(text, SECRET);
		clunk(50);
	}
	if (walk(dir, 52, NULL) == 0) {
		if (call(P9_TLCREATE, "dsddd", 52, name, P9_OPEN_RDWR | P9_OPEN_TRUNC, 0666, 0) == 0)
			write_at(52, 0, "written by the guest", 20);
		clunk(52);
	}
	call(P9_TMKDIR, "dsdd", dir, name, 0777, 0);
	call(P9_TMKNOD, "dsdddd", dir, name, S_IFREG | 0666, 0, 0, 0);
	call(P9_TSYMLINK, "dssd", dir, name, "x", 0);
	call(P9_TRENAMEAT, "dsds", dir, name, dir, "renamed");
	call(P9_TRENAMEAT, "dsds", dir, "renamed", dir, name);
	call(P9_TUNLINKAT, "dsd", dir, name, 0);
	assert_int_equal(host_stat("../secret").st_mode & 07777, 0600);
	assert_false(host_has("../made") || host_has("../linked") || host_has("../renamed"));
}

static void links(void **state)
{
	static const char *const targets[] = {
		"..",
		"../secret",
		"/",
		"/proc/self/root",
		"/proc/self/cwd",
		"/dev/fd",
		"/proc/self/fd/0",
		"dir/..",
		"dir/../../secret",
		"./.././secret",
		"loop",
		"//",
		".",
	};
	char path[128];

	(void)state;
	host_mkdir("dir");
	for (unsigned i = 0; i <= ARRAY_SIZE(targets); i++) {
		snprintf(path, sizeof(path), "%s/secret", client.base);
		assert_int_equal(symlinkat(i < ARRAY_SIZE(targets) ? targets[i] : path, client.share, "link"), 0);
		try_everything(ROOT, "link");
		unlinkat(client.share, "link", 0);
		/* made by the guest itself */
		assert_int_equal(
			call(P9_TSYMLINK, "dssd", ROOT, "link", i < ARRAY_SIZE(targets) ? targets[i] : path, 0), 0);
		try_everything(ROOT, "link");
		unlinkat(client.share, "link", 0);
		/* in the middle of a walk */
		assert_int_equal(symlinkat(i < ARRAY_SIZE(targets) ? targets[i] : path, client.share, "link"), 0);
		assert_int_equal(call(P9_TWALK, "ddwsss", ROOT, 60, 3, "link", "share", "dir"), 0);
		assert_int_equal(take_number(2), 1);
		assert_int_equal(clunk(60), EBADF);
		unlinkat(client.share, "link", 0);
	}
}

static void names(void **state)
{
	static const char *const bad[] = {"..",          "../secret", "../../etc", "/",
					  "/etc/passwd", "dir/../..", "./..",      "..\\secret"};

	(void)state;
	host_mkdir("dir");
	assert_int_equal(walk(ROOT, 2, "dir"), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		try_everything(ROOT, bad[i]);
	assert_int_equal(call(P9_TWALK, "ddwsss", 2, 3, 3, "..", "..", "secret"), 0);
	assert_int_equal(take_number(2), 2); /* from the root to the root */
}

/* A directory that was moved out of the tree by the host, with a fid in it: no way up from there. */
static void moved_out(void **state)
{
	(void)state;
	host_mkdir("dir");
	host_mkdir("dir/inner");
	assert_int_equal(call(P9_TWALK, "ddwss", ROOT, 2, 2, "dir", "inner"), 0);
	assert_int_equal(renameat(client.share, "dir/inner", client.share, "../inner"), 0);
	assert_int_equal(walk(2, 3, ".."), 0);
	assert_int_not_equal(walk(3, 4, "secret"), 0);
	assert_int_equal(walk(3, 4, ".."), 0);
	assert_int_not_equal(walk(4, 5, "secret"), 0);
	try_everything(2, "..");
	try_everything(2, "../secret");
}

/* --- a host that swaps what the guest walks through ----------------------------------------------------------------
 */

static atomic_bool stop;

/* "dir" is now a directory, now a link to what is outside. */
static void *swap(void *opaque)
{
	(void)opaque;
	while (!stop) {
		renameat2(client.share, "dir", client.share, "other", RENAME_EXCHANGE);
		sched_yield();
	}
	return NULL;
}

static void races(void **state)
{
	pthread_t thread;
	char text[64];
	unsigned inside = 0, refused = 0;

	(void)state;
	host_mkdir("dir");
	host_write("dir/secret", "the guest's own\n");
	assert_int_equal(symlinkat("..", client.share, "other"), 0);
	stop = false;
	assert_int_equal(pthread_create(&thread, NULL, swap, NULL), 0);
	for (unsigned i = 0; i < 20000; i++) {
		/* in one request */
		if (call(P9_TWALK, "ddwss", ROOT, 2, 2, "dir", "secret") == 0 && take_number(2) == 2) {
			inside++;
			check_not_outside(2);
			if (lopen(2, P9_OPEN_RDWR) == 0) {
				memset(text, 0, sizeof(text));
				assert_true(read_at(2, 0, text, sizeof(text)) >= 0);
				assert_string_equal(text, "the guest's own\n");
			}
		} else {
			refused++;
		}
		clunk(2);
		/* in several */
		if (walk(ROOT, 3, "dir") == 0) {
			if (walk(3, 4, "secret") == 0)
				check_not_outside(4);
			call(P9_TMKDIR, "dsdd", 3, "made", 0777, 0);
			call(P9_TUNLINKAT, "dsd", 3, "made", P9_UNLINK_DIRECTORY);
			call(P9_TRENAMEAT, "dsds", 3, "secret", 3, "moved");
			call(P9_TRENAMEAT, "dsds", 3, "moved", 3, "secret");
			clunk(4);
		}
		if (walk(3, 5, NULL) == 0)
			call(P9_TLCREATE, "dsddd", 5, "created", P9_OPEN_RDWR, 0666, 0);
		clunk(5);
		clunk(3);
		assert_false(host_has("../made") || host_has("../moved") || host_has("../created"));
	}
	stop = true;
	pthread_join(thread, NULL);
	/* the test is one only if it saw both */
	assert_true(inside > 100 && refused > 100);
}

/* The same to fids whose descriptors were closed, so that they are looked for by their names again. */
static void races_with_closed_descriptors(void **state)
{
	pthread_t thread;
	char name[32];

	(void)state;
	host_mkdir("dir");
	host_write("dir/secret", "the guest's own\n");
	assert_int_equal(symlinkat("..", client.share, "other"), 0);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "dir/%u", i);
		host_write(name, "");
	}
	restart(false, 128);
	assert_int_equal(walk(ROOT, 2, "dir"), 0);
	assert_int_equal(walk(2, 3, "secret"), 0);
	stop = false;
	assert_int_equal(pthread_create(&thread, NULL, swap, NULL), 0);
	for (unsigned round = 0; round < 100; round++) {
		for (u32 i = 0; i < 150; i++) {
			snprintf(name, sizeof(name), "%u", i);
			walk(2, 100 + i, name);
		}
		check_not_outside(3);
		check_not_outside(2);
		call(P9_TMKDIR, "dsdd", 2, "made", 0777, 0);
		call(P9_TUNLINKAT, "dsd", 2, "made", P9_UNLINK_DIRECTORY);
		assert_false(host_has("../made"));
		for (u32 i = 0; i < 150; i++)
			clunk(100 + i);
	}
	stop = true;
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		P9_TEST(links),
		P9_TEST(names),
		P9_TEST(moved_out),
		P9_TEST(races),
		P9_TEST(races_with_closed_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
