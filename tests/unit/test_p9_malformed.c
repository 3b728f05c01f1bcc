/* Messages that are not what they say, or say what cannot be. Run with sanitizers for what they are worth. */
#include "test_p9_client.h"

/* One good message of each type, for fids made by prepare(): types, and formats of fields that put_sample() fills. */
static const u8 types[] = {
	P9_TSTATFS,  P9_TLOPEN,   P9_TLCREATE,   P9_TSYMLINK,     P9_TMKNOD,    P9_TRENAME,  P9_TREADLINK,
	P9_TGETATTR, P9_TSETATTR, P9_TXATTRWALK, P9_TXATTRCREATE, P9_TREADDIR,  P9_TFSYNC,   P9_TLOCK,
	P9_TGETLOCK, P9_TLINK,    P9_TMKDIR,     P9_TRENAMEAT,    P9_TUNLINKAT, P9_TVERSION, P9_TATTACH,
	P9_TFLUSH,   P9_TWALK,    P9_TREAD,      P9_TWRITE,       P9_TCLUNK,    P9_TREMOVE,
};

enum { DIR_FID = 2, FILE_FID, OPEN_FID, OPEN_DIR_FID, NEW_FID };

static void prepare(void)
{
	start_session(65536);
	unlinkat(client.share, "new", 0);
	unlinkat(client.share, "new", AT_REMOVEDIR);
	mkdirat(client.share, "dir", 0755);
	host_write("file", "text");
	host_write("open", "text");
	assert_int_equal(walk(ROOT, DIR_FID, "dir"), 0);
	assert_int_equal(walk(ROOT, FILE_FID, "file"), 0);
	assert_int_equal(walk(ROOT, OPEN_FID, "open"), 0);
	assert_int_equal(lopen(OPEN_FID, P9_OPEN_RDWR), 0);
	assert_int_equal(walk(ROOT, OPEN_DIR_FID, NULL), 0);
	assert_int_equal(lopen(OPEN_DIR_FID, P9_OPEN_RDONLY), 0);
}

static void put_sample(u8 type)
{
	begin(type);
	switch (type) {
	case P9_TSTATFS:
	case P9_TREADLINK:
	case P9_TCLUNK:
	case P9_TREMOVE:
		put("d", FILE_FID);
		break;
	case P9_TLOPEN:
		put("dd", FILE_FID, P9_OPEN_RDWR);
		break;
	case P9_TLCREATE:
		put("dsddd", DIR_FID, "new", P9_OPEN_RDWR, 0644, 0);
		break;
	case P9_TSYMLINK:
		put("dssd", ROOT, "new", "target", 0);
		break;
	case P9_TMKNOD:
		put("dsdddd", ROOT, "new", S_IFIFO | 0600, 0, 0, 0);
		break;
	case P9_TRENAME:
		put("dds", FILE_FID, DIR_FID, "new");
		break;
	case P9_TGETATTR:
		put("dq", FILE_FID, (u64)~0ULL);
		break;
	case P9_TSETATTR:
		put("dddddqqqqq", FILE_FID, 0x1ff, 0600, 0, 0, (u64)3, (u64)1, (u64)2, (u64)3, (u64)4);
		break;
	case P9_TXATTRWALK:
		put("dds", FILE_FID, NEW_FID, "user.a");
		break;
	case P9_TXATTRCREATE:
		put("dsqd", FILE_FID, "user.a", (u64)4, 0);
		break;
	case P9_TREADDIR:
		put("dqd", OPEN_DIR_FID, (u64)0, 4000);
		break;
	case P9_TFSYNC:
		put("dd", OPEN_FID, 1);
		break;
	case P9_TLOCK:
		put("dbdqqds", OPEN_FID, P9_LOCK_READ, 0, (u64)0, (u64)10, 1, "guest");
		break;
	case P9_TGETLOCK:
		put("dbqqds", OPEN_FID, P9_LOCK_READ, (u64)0, (u64)10, 1, "guest");
		break;
	case P9_TLINK:
		put("dds", ROOT, FILE_FID, "new");
		break;
	case P9_TMKDIR:
		put("dsdd", ROOT, "new", 0755, 0);
		break;
	case P9_TRENAMEAT:
		put("dsds", ROOT, "file", DIR_FID, "new");
		break;
	case P9_TUNLINKAT:
		put("dsd", ROOT, "file", 0);
		break;
	case P9_TVERSION:
		put("ds", 8192, "9P2000.L");
		break;
	case P9_TATTACH:
		put("ddssd", NEW_FID, P9_NO_FID, "user", "", 0);
		break;
	case P9_TFLUSH:
		put("w", 1);
		break;
	case P9_TWALK:
		put("ddwss", ROOT, NEW_FID, 2, "dir", "..");
		break;
	case P9_TREAD:
		put("dqd", OPEN_FID, (u64)0, 100);
		break;
	case P9_TWRITE:
		put("dqd", OPEN_FID, (u64)0, 4);
		put_bytes("data", 4);
		break;
	}
}

static void samples_are_good(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		int error;

		prepare();
		put_sample(types[i]);
		error = send_message();
		/* what needs a link, an attribute, a file system that has them */
		if (types[i] == P9_TREADLINK)
			assert_int_equal(error, EINVAL);
		else if (types[i] == P9_TXATTRWALK)
			assert_true(error == ENODATA || error == EOPNOTSUPP);
		else
			assert_int_equal(error, 0);
		unlinkat(client.share, "dir/new", 0);
	}
}

/* Cut off behind every byte, with a size that is right and one that is not; with bytes too many. */
static void cut_short(void **state)
{
	(void)state;
	client.scatter = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		prepare();
		put_sample(types[i]);

		u32 whole = client.size;

		for (u32 size = P9_HEADER_SIZE; size < whole; size++) {
			u8 *old = client.message;

			client.size = size;
			client.message = malloc(size); /* what lies behind it must not be read */
			memcpy(client.message, old, size);
			patch_size(size);
			/* Twrite's data may be cut at the cost of its count */
			assert_int_equal(finish(), EINVAL);
			if (types[i] != P9_TWRITE) {
				patch_size(whole);
				assert_int_equal(finish(), EINVAL);
			}
			free(client.message);
			client.message = old;
		}
		if (types[i] == P9_TWRITE)
			continue;
		client.size = whole;
		put("b", 0);
		assert_int_equal(send_message(), EINVAL);
	}
}

static void sizes_that_lie(void **state)
{
	static const u32 sizes[] = {0, 1, 6, 20, 0x7fffffff, 0x80000000, 0xffffffff};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		put_sample(P9_TVERSION);
		patch_size(sizes[i]);
		assert_int_equal(finish(), EINVAL);
	}
	/* more buffers than message is no fault */
	begin(P9_TFLUSH);
	put("w", 1);
	patch_size(client.size);
	put("qq", (u64)0, (u64)0);
	assert_int_equal(finish(), 0);
	/* larger than any message but Twrite */
	begin(P9_TSYMLINK);
	put("ds", ROOT, "new");
	put("ww", 60000, 0);
	while (client.size < 60025)
		put("b", 'x');
	assert_int_equal(send_message(), EMSGSIZE);
}

static void no_room(void **state)
{
	u32 needed;

	(void)state;
	/* nothing can be answered */
	client.size = 0;
	assert_int_equal(send_raw(), -1);
	put_sample(P9_TFLUSH);
	client.size = 6;
	assert_int_equal(send_raw(), -1);
	for (client.in_room = 0; client.in_room < P9_ERROR_SIZE; client.in_room++) {
		put_sample(P9_TFLUSH);
		patch_size(client.size);
		assert_int_equal(send_raw(), -1);
	}
	/* an error can */
	assert_int_equal(call(P9_TFLUSH, "w", 1), 0);
	assert_int_equal(call(P9_TGETATTR, "dq", ROOT, (u64)0), EMSGSIZE);
	client.in_room = 65536;
	prepare();
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		if (types[i] == P9_TREAD || types[i] == P9_TREADDIR)
			continue; /* they give less */
		client.in_room = 65536;
		prepare();
		put_sample(types[i]);
		needed = send_message() ? P9_ERROR_SIZE : client.reply_size;
		unlinkat(client.share, "dir/new", 0);
		for (client.in_room = P9_ERROR_SIZE; client.in_room < needed; client.in_room++) {
			u8 *old = client.reply;
			u32 room = client.in_room;

			client.in_room = 65536;
			prepare();
			put_sample(types[i]);
			client.in_room = room;
			client.reply = malloc(client.in_room);
			assert_int_equal(send_message(), EMSGSIZE);
			free(client.reply);
			client.reply = old;
			unlinkat(client.share, "dir/new", 0);
		}
	}
}

static void counts_that_lie(void **state)
{
	char text[16];

	(void)state;
	prepare();
	for (unsigned i = 0; i < 4; i++) {
		static const u32 counts[] = {5, 0x7fffffff, 0xfffffff0, 0xffffffff};

		begin(P9_TWRITE);
		put("dqd", OPEN_FID, (u64)0, counts[i]);
		put_bytes("data", 4);
		assert_int_equal(send_message(), EINVAL);
		/* to read, as much as there is room is meant */
		assert_int_equal(call(P9_TREAD, "dqd", OPEN_FID, (u64)0, counts[i]), 0);
		assert_int_equal(take_number(4), 4);
		assert_int_equal(call(P9_TREADDIR, "dqd", OPEN_DIR_FID, (u64)0, counts[i] | 64), 0);
	}
	host_expect("open", "text");
	/* an older client does not count data into the size */
	begin(P9_TWRITE);
	put("dqd", OPEN_FID, (u64)0, 4);
	put_bytes("data", 4);
	patch_size(P9_WRITE_HEADER_SIZE);
	assert_int_equal(finish(), 0);
	host_expect("open", "data");
	/* offsets beyond any file */
	assert_int_equal(read_at(OPEN_FID, 1ULL << 63, text, 1), -EINVAL);
	assert_int_equal(read_at(OPEN_FID, ~0ULL, text, 16), -EINVAL);
	assert_int_equal(write_at(OPEN_FID, 1ULL << 63, text, 1), -EINVAL);
	assert_int_equal(write_at(OPEN_FID, ~0ULL, text, 16), -EINVAL);
	assert_true(write_at(OPEN_FID, INT64_MAX, text, 16) < 0);
	assert_int_equal(read_at(OPEN_FID, INT64_MAX - 16, text, 16), 0);
	assert_true(setattr(OPEN_FID, P9_SETATTR_SIZE, 0, 1ULL << 63) != 0);
	assert_int_equal(call(P9_TREADDIR, "dqd", OPEN_DIR_FID, (u64)1 << 63, 4000), EINVAL);
	/* names: a count that is larger than what follows, the largest there is */
	begin(P9_TWALK);
	put("ddw", ROOT, NEW_FID, 16);
	put("s", "dir");
	assert_int_equal(send_message(), EINVAL);
	begin(P9_TWALK);
	put("ddww", ROOT, NEW_FID, 1, 0xffff);
	put_bytes("dir", 3);
	assert_int_equal(send_message(), EINVAL);
}

/* Fids of every kind in requests for every other: an error or not, but never more than that. */
static void fids_of_other_kinds(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		for (u32 fid = 0; fid <= NEW_FID + 1; fid++) {
			prepare();
			walk(ROOT, NEW_FID + 1, "file");
			call(P9_TXATTRCREATE, "dsqd", NEW_FID + 1, "user.b", (u64)4, 0);
			put_sample(types[i]);
			if (types[i] == P9_TVERSION || types[i] == P9_TFLUSH)
				continue;
			client.message[P9_HEADER_SIZE] = (u8)fid;
			if (fid == 0 && types[i] != P9_TATTACH)
				assert_int_equal(send_message(), EBADF);
			else
				send_message();
			unlinkat(client.share, "dir/new", 0);
		}
}

/* Random bytes behind headers of every type, with fids that exist now and then. */
static void noise(void **state)
{
	unsigned random = 1;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		if (round % 200 == 0)
			prepare();
		put_sample(types[round % ARRAY_SIZE(types)]);
		for (unsigned n = round / 200 % 4 + 1; n; n--) {
			random = random * 1103515245 + 12345;

			u32 at = P9_HEADER_SIZE + random / 256 % (client.size - P9_HEADER_SIZE);

			client.message[at] = (u8)(random >> 24);
		}
		send_message();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		P9_TEST(samples_are_good), P9_TEST(cut_short),           P9_TEST(sizes_that_lie), P9_TEST(no_room),
		P9_TEST(counts_that_lie),  P9_TEST(fids_of_other_kinds), P9_TEST(noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
