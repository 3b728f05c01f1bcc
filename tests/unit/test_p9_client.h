/*
 * A client that speaks to the 9P server in raw messages, for its tests. The directory that is shared lies in one of its
 * own, beside a file that no guest may reach. Messages and replies are scattered over many small buffers.
 */
#ifndef AVANT_TESTS_TEST_P9_CLIENT_H
#define AVANT_TESTS_TEST_P9_CLIENT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "p9/p9.h"
#include "p9/protocol.h"
#include "util/err.h"

#define MESSAGE_MAX (1U << 21)
#define PIECES_MAX  700
#define SECRET      "nobody's business\n"

/* Memory is faster than a disk; a test that needs what tmpfs has not says another place. */
#ifndef TEST_PLACE
#define TEST_PLACE (access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm")
#endif

#define ROOT 1 /* the fid of the shared directory */

struct qid {
	u8 type;
	u32 version;
	u64 path;
};

static struct {
	struct p9_server *server;
	char base[64]; /* with share/ and secret in it */
	int share;     /* the shared directory, by the host */
	u8 *message, *reply;
	u32 size;       /* of the message so far */
	u32 reply_size; /* of the reply, and how much of it was taken apart */
	u32 taken;
	u32 in_room;       /* for the reply */
	unsigned scatter;  /* bytes in a piece, at most; 0: one piece */
	bool impatient;    /* what would wait is asked for twice, as by the device */
	unsigned waits;    /* how often that was */
	unsigned sequence; /* of a generator for their sizes */
} client;

/* --- messages ------------------------------------------------------------------------------------------------------
 */

static inline void put_bytes(const void *from, u32 size)
{
	assert_true(client.size + size <= MESSAGE_MAX);
	memcpy(client.message + client.size, from, size);
	client.size += size;
}

static inline void put_number(u64 value, u32 size)
{
	for (u32 i = 0; i < size; i++) {
		u8 byte = (u8)(value >> 8 * i);

		put_bytes(&byte, 1);
	}
}

static inline void patch_size(u32 size)
{
	for (u32 i = 0; i < 4; i++)
		client.message[i] = (u8)(size >> 8 * i);
}

/* b, w, d, q: 1, 2, 4, 8 bytes; s: a string. */
static inline void put_fields(const char *format, va_list args)
{
	for (; *format; format++)
		switch (*format) {
		case 's': {
			const char *text = va_arg(args, const char *);

			put_number(strlen(text), 2);
			put_bytes(text, (u32)strlen(text));
			break;
		}
		case 'q':
			put_number(va_arg(args, u64), 8);
			break;
		default:
			put_number(va_arg(args, unsigned), *format == 'b' ? 1 : *format == 'w' ? 2 : 4);
		}
}

static inline void begin(u8 type)
{
	client.size = 0;
	put_number(0, 4);
	put_number(type, 1);
	put_number(0x1234, 2);
}

static inline void put(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put_fields(format, args);
	va_end(args);
}

static inline u64 take_number(u32 size)
{
	u64 value = 0;

	assert_true(client.taken + size <= client.reply_size);
	for (u32 i = 0; i < size; i++)
		value |= (u64)client.reply[client.taken + i] << 8 * i;
	client.taken += size;
	return value;
}

static inline struct qid take_qid(void)
{
	u8 type = (u8)take_number(1);
	u32 version = (u32)take_number(4);

	return (struct qid){type, version, take_number(8)};
}

static inline void take_string(char *to, u32 size)
{
	u32 length = (u32)take_number(2);

	assert_true(length < size && client.taken + length <= client.reply_size);
	memcpy(to, client.reply + client.taken, length);
	to[length] = '\0';
	client.taken += length;
}

static inline void take_end(void)
{
	assert_int_equal(client.taken, client.reply_size);
}

static inline unsigned scatter(u8 *bytes, u32 size, struct iovec *pieces)
{
	unsigned count = 0;

	while (size) {
		u32 length = size;

		client.sequence = client.sequence * 1103515245 + 12345;
		if (client.scatter && count + 1 < PIECES_MAX)
			length = client.sequence / 65536 % (client.scatter + 1);
		if (length > size)
			length = size;
		pieces[count++] = (struct iovec){bytes, length};
		bytes += length;
		size -= length;
	}
	return count;
}

/* Sends client.message as it is, in buffers of its size. The size of the reply, or -1. */
static inline s64 send_raw(void)
{
	static struct iovec out[PIECES_MAX], in[PIECES_MAX];
	struct p9_request request = {.out = out, .in = in};
	s64 size;

	request.out_count = scatter(client.message, client.size, out);
	request.in_count = scatter(client.reply, client.in_room, in);
	memset(client.reply, 0xaa, client.in_room);
	size = p9_handle(client.server, &request, !client.impatient);
	if (size == P9_WOULD_WAIT) {
		assert_true(client.impatient);
		client.waits++;
		size = p9_handle(client.server, &request, true);
	}
	client.reply_size = size < 0 ? 0 : (u32)size;
	client.taken = 0;
	assert_true(size <= (s64)client.in_room);
	return size;
}

/* Sends what was put together, as it is but for its size. 0 if the reply is one to the request, else the errno. */
static inline int finish(void)
{
	u8 type = client.message[4];

	assert_true(send_raw() >= P9_HEADER_SIZE);
	assert_int_equal(take_number(4), client.reply_size);

	u8 reply_type = (u8)take_number(1);

	assert_int_equal(take_number(2), 0x1234);
	if (reply_type == P9_RLERROR) {
		int error = (int)take_number(4);

		take_end();
		assert_in_range(error, 1, 4095);
		return error;
	}
	assert_int_equal(reply_type, type + 1);
	return 0;
}

static inline int send_message(void)
{
	patch_size(client.size);
	return finish();
}

static inline int call(u8 type, const char *format, ...)
{
	va_list args;

	begin(type);
	va_start(args, format);
	put_fields(format, args);
	va_end(args);
	return send_message();
}

/* --- requests that many tests make -----------------------------------------------------------------------------------
 */

#define U(x) ((unsigned)(x))

static inline int walk(u32 fid, u32 newfid, const char *name)
{
	return name ? call(P9_TWALK, "ddws", fid, newfid, 1, name) : call(P9_TWALK, "ddw", fid, newfid, 0);
}

static inline int lopen(u32 fid, u32 flags)
{
	return call(P9_TLOPEN, "dd", fid, flags);
}

static inline int clunk(u32 fid)
{
	return call(P9_TCLUNK, "d", fid);
}

/* Makes newfid a new file in the root, open. */
static inline int create(u32 newfid, const char *name, u32 flags, u32 mode)
{
	int error = walk(ROOT, newfid, NULL);

	if (!error)
		error = call(P9_TLCREATE, "dsddd", newfid, name, flags, mode, 0);
	if (error)
		clunk(newfid);
	return error;
}

/* How many bytes were written, or -errno. */
static inline s64 write_at(u32 fid, u64 offset, const void *data, u32 size)
{
	int error;

	begin(P9_TWRITE);
	put("dqd", fid, offset, size);
	put_bytes(data, size);
	error = send_message();
	return error ? -error : (s64)take_number(4);
}

/* How many bytes were read, or -errno. */
static inline s64 read_at(u32 fid, u64 offset, void *data, u32 size)
{
	int error = call(P9_TREAD, "dqd", fid, offset, size);
	u32 count;

	if (error)
		return -error;
	count = (u32)take_number(4);
	assert_true(count <= size);
	assert_int_equal(client.taken + count, client.reply_size);
	memcpy(data, client.reply + client.taken, count);
	return count;
}

struct attributes {
	u64 valid;
	struct qid qid;
	u32 mode, uid, gid;
	u64 nlink, rdev, size, block_size, blocks, seconds[4], nanoseconds[4], generation, data_version;
};

static inline int getattr(u32 fid, struct attributes *a)
{
	int error = call(P9_TGETATTR, "dq", fid, (u64)~0ULL);

	*a = (struct attributes){0};
	if (error)
		return error;
	a->valid = take_number(8);
	a->qid = take_qid();
	a->mode = (u32)take_number(4);
	a->uid = (u32)take_number(4);
	a->gid = (u32)take_number(4);
	a->nlink = take_number(8);
	a->rdev = take_number(8);
	a->size = take_number(8);
	a->block_size = take_number(8);
	a->blocks = take_number(8);
	for (unsigned i = 0; i < 4; i++) {
		a->seconds[i] = take_number(8);
		a->nanoseconds[i] = take_number(8);
	}
	a->generation = take_number(8);
	a->data_version = take_number(8);
	take_end();
	return 0;
}

static inline int setattr(u32 fid, u32 valid, u32 mode, u64 size)
{
	return call(P9_TSETATTR,
		    "ddddd"
		    "q"
		    "qqqq",
		    fid, valid, mode, 12345, 12345, size, (u64)1, (u64)2, (u64)3, (u64)4);
}

/* --- the host ------------------------------------------------------------------------------------------------------
 */

static inline void host_write(const char *name, const char *text)
{
	int fd = openat(client.share, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static inline void host_expect(const char *name, const char *text)
{
	char buffer[4096];
	int fd = openat(client.share, name, O_RDONLY);
	ssize_t size;

	assert_true(fd >= 0);
	size = read(fd, buffer, sizeof(buffer) - 1);
	assert_true(size >= 0);
	buffer[size] = '\0';
	assert_string_equal(buffer, text);
	close(fd);
}

static inline bool host_has(const char *name)
{
	return faccessat(client.share, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static inline struct stat host_stat(const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(client.share, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static inline void host_mkdir(const char *name)
{
	assert_int_equal(mkdirat(client.share, name, 0755), 0);
}

static inline unsigned host_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 4096; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* --- life ----------------------------------------------------------------------------------------------------------
 */

static inline void start_server(bool readonly, u32 descriptors)
{
	char path[128];
	struct p9_config config = {.path = path, .readonly = readonly, .descriptors = descriptors};
	struct err err = ERR_INIT;

	snprintf(path, sizeof(path), "%s/share", client.base);
	client.server = p9_create(&config, &err);
	if (!client.server)
		fail_msg("%s", err.text);
}

static inline void start_session(u32 msize)
{
	char version[32];

	assert_int_equal(call(P9_TVERSION, "ds", msize, "9P2000.L"), 0);
	assert_true(take_number(4) <= msize);
	take_string(version, sizeof(version));
	assert_string_equal(version, "9P2000.L");
	assert_int_equal(call(P9_TATTACH, "ddssd", ROOT, P9_NO_FID, "user", "", 0), 0);
	assert_int_equal(take_qid().type, P9_QID_DIRECTORY);
}

/* With other settings. */
static inline void restart(bool readonly, u32 descriptors)
{
	p9_destroy(client.server);
	start_server(readonly, descriptors);
	start_session(65536);
}

static inline int client_setup(void **state)
{
	char path[128];
	int fd;

	(void)state;
	memset(&client, 0, sizeof(client));
	snprintf(client.base, sizeof(client.base), "%s/avant-p9-XXXXXX", TEST_PLACE);
	assert_non_null(mkdtemp(client.base));
	snprintf(path, sizeof(path), "%s/secret", client.base);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, SECRET, strlen(SECRET)), strlen(SECRET));
	close(fd);
	snprintf(path, sizeof(path), "%s/share", client.base);
	assert_int_equal(mkdir(path, 0755), 0);
	client.share = open(path, O_RDONLY | O_DIRECTORY);
	client.message = malloc(MESSAGE_MAX);
	client.reply = malloc(MESSAGE_MAX);
	client.in_room = 65536;
	client.scatter = 300;
	start_server(false, 0);
	start_session(65536);
	return 0;
}

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline int client_teardown(void **state)
{
	char buffer[64] = "", path[128];
	int fd;

	(void)state;
	p9_destroy(client.server);
	snprintf(path, sizeof(path), "%s/secret", client.base);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, buffer, sizeof(buffer)), strlen(SECRET));
	assert_string_equal(buffer, SECRET);
	close(fd);
	close(client.share);
	free(client.message);
	free(client.reply);
	return nftw(client.base, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

#define P9_TEST(function) cmocka_unit_test_setup_teardown(function, client_setup, client_teardown)

#endif
