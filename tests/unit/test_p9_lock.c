/* Locks: what the guest holds is held against others on the host, and nothing else. */
#include "test_p9_client.h"

enum { READ = P9_LOCK_READ, WRITE = P9_LOCK_WRITE, UNLOCK = P9_LOCK_UNLOCK };

/* The status. */
static u32 set(u32 fid, u32 process, u32 type, u64 start, u64 length)
{
	assert_int_equal(call(P9_TLOCK, "dbdqqds", fid, type, 0, start, length, process, "guest"), 0);

	u32 status = (u32)take_number(1);

	take_end();
	return status;
}

/* Somebody else on the host. */
static int host_fd;

static bool host_can(short type, off_t start, off_t length)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	assert_int_equal(fcntl(host_fd, F_OFD_GETLK, &lock), 0);
	return lock.l_type == F_UNLCK;
}

static bool host_set(short type, off_t start, off_t length)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	return fcntl(host_fd, F_OFD_SETLK, &lock) == 0;
}

static int setup(void **state)
{
	client_setup(state);
	host_write("file", "0123456789");
	host_fd = openat(client.share, "file", O_RDWR);
	for (u32 fid = 2; fid <= 3; fid++) {
		assert_int_equal(walk(ROOT, fid, "file"), 0);
		assert_int_equal(lopen(fid, P9_OPEN_RDWR), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	close(host_fd);
	return client_teardown(state);
}

static void against_the_host(void **state)
{
	(void)state;
	assert_int_equal(set(2, 1, WRITE, 10, 10), P9_LOCK_SUCCESS);
	assert_true(host_can(F_WRLCK, 0, 10));
	assert_false(host_can(F_RDLCK, 19, 1));
	assert_true(host_can(F_WRLCK, 20, 0));
	assert_int_equal(set(2, 1, READ, 10, 5), P9_LOCK_SUCCESS); /* weaker */
	assert_true(host_can(F_RDLCK, 10, 5));
	assert_false(host_can(F_WRLCK, 10, 5));
	assert_false(host_can(F_RDLCK, 15, 1));
	assert_int_equal(set(2, 1, UNLOCK, 0, 0), P9_LOCK_SUCCESS);
	assert_true(host_can(F_WRLCK, 0, 0));
	/* the other way round */
	assert_true(host_set(F_RDLCK, 100, 10));
	assert_int_equal(set(2, 1, WRITE, 0, 0), P9_LOCK_BLOCKED);
	assert_true(host_can(F_WRLCK, 0, 100)); /* nothing of it was left behind */
	assert_int_equal(set(2, 1, READ, 0, 0), P9_LOCK_SUCCESS);
	assert_int_equal(set(2, 1, WRITE, 50, 100), P9_LOCK_BLOCKED);
	assert_true(host_can(F_RDLCK, 50, 50));
	assert_false(host_can(F_WRLCK, 50, 50));
	assert_true(host_set(F_UNLCK, 0, 0));
	assert_int_equal(set(2, 1, WRITE, 50, 100), P9_LOCK_SUCCESS);
	assert_false(host_can(F_RDLCK, 50, 50));
	assert_true(host_can(F_RDLCK, 0, 50));
}

/* A request that makes one part stronger and another weaker, and fails: both stay as they were. */
static void all_or_nothing(void **state)
{
	(void)state;
	assert_int_equal(set(2, 1, WRITE, 0, 10), P9_LOCK_SUCCESS);
	assert_int_equal(set(2, 1, READ, 10, 10), P9_LOCK_SUCCESS);
	assert_true(host_set(F_WRLCK, 25, 1));
	assert_int_equal(set(2, 1, READ, 5, 25), P9_LOCK_BLOCKED);
	assert_false(host_can(F_RDLCK, 5, 5));
	assert_true(host_can(F_RDLCK, 10, 10));
	assert_true(host_can(F_WRLCK, 20, 5));
	assert_true(host_set(F_UNLCK, 0, 0));
	assert_int_equal(set(2, 1, READ, 5, 25), P9_LOCK_SUCCESS);
	assert_true(host_can(F_RDLCK, 5, 25));
	assert_false(host_can(F_RDLCK, 4, 1));
	assert_false(host_can(F_WRLCK, 29, 1));
	assert_true(host_can(F_WRLCK, 30, 0));
}

/* The guest is one owner: its own kernel keeps its programs apart. */
static void one_owner(void **state)
{
	(void)state;
	assert_int_equal(set(2, 1, WRITE, 0, 10), P9_LOCK_SUCCESS);
	assert_int_equal(set(3, 2, WRITE, 0, 10), P9_LOCK_SUCCESS);
	assert_int_equal(set(2, 1, UNLOCK, 0, 0), P9_LOCK_SUCCESS);
	assert_false(host_can(F_RDLCK, 0, 10)); /* the other still holds it */
	assert_int_equal(set(3, 2, READ, 0, 10), P9_LOCK_SUCCESS);
	assert_int_equal(set(2, 7, READ, 5, 10), P9_LOCK_SUCCESS);
	assert_int_equal(set(3, 2, UNLOCK, 0, 10), P9_LOCK_SUCCESS);
	assert_true(host_can(F_WRLCK, 0, 5));
	assert_false(host_can(F_WRLCK, 5, 1));
	/* a process that lets go in the middle */
	assert_int_equal(set(2, 7, UNLOCK, 7, 2), P9_LOCK_SUCCESS);
	assert_true(host_can(F_WRLCK, 7, 2));
	assert_false(host_can(F_WRLCK, 6, 1));
	assert_false(host_can(F_WRLCK, 9, 1));
	assert_int_equal(set(2, 8, UNLOCK, 0, 0), P9_LOCK_SUCCESS); /* not its own */
	assert_false(host_can(F_WRLCK, 5, 1));
}

static void closing(void **state)
{
	unsigned before = host_descriptors();

	(void)state;
	assert_int_equal(set(2, 1, WRITE, 0, 10), P9_LOCK_SUCCESS);
	assert_int_equal(set(3, 1, WRITE, 20, 10), P9_LOCK_SUCCESS);
	/* another descriptor of the same file is closed: fcntl(2) locks of ours would be gone */
	assert_int_equal(walk(ROOT, 4, "file"), 0);
	assert_int_equal(lopen(4, P9_OPEN_RDWR), 0);
	assert_int_equal(clunk(4), 0);
	assert_false(host_can(F_RDLCK, 0, 10));
	assert_int_equal(clunk(2), 0);
	assert_true(host_can(F_WRLCK, 0, 10));
	assert_false(host_can(F_RDLCK, 20, 10));
	start_session(65536);
	assert_true(host_can(F_WRLCK, 0, 0));
	assert_true(host_descriptors() <= before);
}

static void asking(void **state)
{
	char client_id[32];

	(void)state;
	assert_int_equal(set(2, 1, WRITE, 0, 10), P9_LOCK_SUCCESS);
	assert_true(host_set(F_RDLCK, 100, 10));
	for (unsigned known = 0; known < 2; known++) {
		assert_int_equal(call(P9_TGETLOCK, "dbqqds", 3, WRITE, (u64)0, (u64)100, 2, "guest"), 0);
		assert_int_equal(take_number(1), UNLOCK);
		assert_int_equal(take_number(8), 0);
		assert_int_equal(take_number(8), 100);
		assert_int_equal(take_number(4), 2);
		take_string(client_id, sizeof(client_id));
		assert_string_equal(client_id, "guest");
		take_end();
		assert_int_equal(call(P9_TGETLOCK, "dbqqds", 3, WRITE, (u64)0, (u64)0, 2, "guest"), 0);
		assert_int_equal(take_number(1), READ);
		assert_int_equal(take_number(8), 100);
		assert_int_equal(take_number(8), 10);
		assert_int_equal(call(P9_TGETLOCK, "dbqqds", 3, READ, (u64)0, (u64)0, 2, "guest"), 0);
		assert_int_equal(take_number(1), UNLOCK);
		assert_int_equal(set(2, 1, UNLOCK, 0, 0), P9_LOCK_SUCCESS); /* and with no locks of the guest's */
	}
}

static void bad_requests(void **state)
{
	(void)state;
	host_mkdir("dir");
	assert_int_equal(walk(ROOT, 4, "file"), 0);
	assert_int_equal(walk(ROOT, 5, "dir"), 0);
	assert_int_equal(lopen(5, P9_OPEN_RDONLY), 0);
	assert_int_equal(call(P9_TLOCK, "dbdqqds", 4, READ, 0, (u64)0, (u64)0, 1, "g"), EBADF);
	assert_int_equal(call(P9_TGETLOCK, "dbqqds", 4, READ, (u64)0, (u64)0, 1, "g"), EBADF);
	assert_int_equal(call(P9_TLOCK, "dbdqqds", 2, 3, 0, (u64)0, (u64)0, 1, "g"), EINVAL);
	assert_int_equal(call(P9_TGETLOCK, "dbqqds", 2, 77, (u64)0, (u64)0, 1, "g"), EINVAL);
	assert_int_equal(call(P9_TLOCK, "dbdqqds", 2, READ, 0, (u64)1 << 63, (u64)1, 1, "g"), EINVAL);
	assert_int_equal(call(P9_TLOCK, "dbdqqds", 2, READ, 0, (u64)1, ~(u64)0, 1, "g"), EINVAL);
	/* up to the last byte that there can be, and a length that reaches beyond */
	assert_int_equal(set(2, 1, WRITE, INT64_MAX, 1), P9_LOCK_SUCCESS);
	assert_int_equal(set(2, 1, WRITE, INT64_MAX - 5, INT64_MAX), P9_LOCK_SUCCESS);
	assert_true(host_can(F_WRLCK, 0, INT64_MAX - 5));
	assert_false(host_can(F_WRLCK, INT64_MAX - 5, 0));
	/* directories are the guest's own business */
	assert_int_equal(set(5, 1, WRITE, 0, 0), P9_LOCK_SUCCESS);
	assert_int_equal(set(5, 1, UNLOCK, 0, 0), P9_LOCK_SUCCESS);
}

static void too_many(void **state)
{
	u32 held = 0;

	(void)state;
	for (u32 i = 0; i < 5000; i++) {
		u32 status = set(2, 1, WRITE, i * 2, 1);

		if (status != P9_LOCK_SUCCESS) {
			assert_int_equal(status, P9_LOCK_ERROR);
			break;
		}
		held++;
	}
	assert_in_range(held, 100, 4000);
	assert_true(host_can(F_WRLCK, held * 2, 1));
	assert_false(host_can(F_WRLCK, held * 2 - 2, 1));
	assert_int_equal(set(2, 1, UNLOCK, 0, 0), P9_LOCK_SUCCESS);
	assert_int_equal(set(2, 1, WRITE, 0, 1), P9_LOCK_SUCCESS);
}

/* A file that is not ours to write can be locked to be read. */
static void read_only(void **state)
{
	(void)state;
	restart(true, 0);
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY), 0);
	assert_int_equal(set(2, 1, WRITE, 0, 10), P9_LOCK_SUCCESS);
	assert_true(host_can(F_RDLCK, 0, 10));
	assert_false(host_can(F_WRLCK, 0, 10));
}

/* Random requests of three processes on two fids against a model, byte for byte. */
static void model(void **state)
{
	u8 held[2][3][64] = {0};
	unsigned random = 7;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		random = random * 1103515245 + 12345;

		u32 fid = random >> 8 & 1, process = (random >> 10) % 3, type = (random >> 13) % 3;
		u32 start = random >> 16 & 63, length = (random >> 22) % (64 - start) + 1;

		assert_int_equal(set(2 + fid, process, type, start, length), P9_LOCK_SUCCESS);
		for (u32 i = start; i < start + length; i++)
			held[fid][process][i] = type == UNLOCK ? 0 : type == READ ? 1 : 2;
		for (u32 i = 0; i < 64; i++) {
			u8 most = 0;

			for (unsigned k = 0; k < 6; k++)
				if (held[k / 3][k % 3][i] > most)
					most = held[k / 3][k % 3][i];
			assert_int_equal(host_can(F_RDLCK, i, 1), most < 2);
			assert_int_equal(host_can(F_WRLCK, i, 1), most < 1);
		}
	}
}

#define LOCK_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOCK_TEST(against_the_host), LOCK_TEST(all_or_nothing), LOCK_TEST(one_owner),
		LOCK_TEST(closing),          LOCK_TEST(asking),         LOCK_TEST(bad_requests),
		LOCK_TEST(too_many),         LOCK_TEST(read_only),      LOCK_TEST(model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
