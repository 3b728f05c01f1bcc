/*
 * Fuzzes the 9P server, with a directory to serve, a file beside it that no message may reach, and links to that file
 * within. The input is a sequence of messages, each a byte that says how buffers are cut and whether the message comes
 * as it is or is made of fields: a type, and for each field a byte that selects a value or says that one comes. Those
 * that make a session and walk to what there is are sent first, so that fids 1 to 9 mean something. Build by hand:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_p9.c \
 *		runtime/p9/[a-z]*.c runtime/util/[a-z]*.c -lxxhash -o fuzz_p9
 *
 * Run it as a user without rights; -close_fd_mask and -jobs are of use, -fork makes a directory for each process.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "p9/p9.h"
#include "p9/protocol.h"
#include "util/err.h"

#define SECRET      "nobody's business\n"
#define BUFFER_SIZE 70000
#define PIECES      64
#define FILE_MAX    (1 << 20)

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static char base[64];
static int base_fd = -1;
static struct p9_server *server;
static u8 out_buffer[BUFFER_SIZE], in_buffer[BUFFER_SIZE];

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_p9: %s\n", what);
	abort();
}

/* What lies outside is as it was: nothing more, nothing less, nothing else. */
static void check_outside(void)
{
	char text[sizeof(SECRET)] = "";
	int fd = openat(base_fd, "secret", O_RDONLY);
	struct stat st;

	check(fd >= 0 && read(fd, text, sizeof(text)) == sizeof(SECRET) - 1 && !strcmp(text, SECRET),
	      "the file outside");
	check(!fstat(fd, &st) && st.st_nlink == 1 && (st.st_mode & 07777) == 0600, "its attributes");
	close(fd);
	check(!fstat(base_fd, &st) && st.st_nlink == 3, "the directories outside");
	/* two names besides "." and "..": a third would be seen by its size or link count, or here */
	fd = openat(base_fd, ".", O_RDONLY | O_DIRECTORY);

	char entries[4096] __attribute__((aligned(8)));
	ssize_t n = getdents64(fd, entries, sizeof(entries));
	unsigned count = 0;

	for (ssize_t at = 0; at < n; at += ((struct dirent64 *)(void *)(entries + at))->d_reclen)
		count++;
	check(count == 4, "the entries outside");
	close(fd);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type;
	return ftw->level ? remove(path) : 0;
}

static void empty(bool all)
{
	char path[128];

	fchmodat(base_fd, "share", 0755, 0); /* the guest may have closed it, as any directory in it */
	snprintf(path, sizeof(path), "%s%s", base, all ? "" : "/share");
	for (int i = 0; i < 3 && nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS); i++) {
		char command[200];

		snprintf(command, sizeof(command), "chmod -R u+rwx %s", path);
		check(system(command) == 0, "cannot empty the directory");
	}
}

static void at_exit(void)
{
	p9_destroy(server);
	check_outside();
	empty(true);
	rmdir(base);
}

static void start(void)
{
	struct rlimit limit = {FILE_MAX, FILE_MAX};
	struct p9_config config = {.descriptors = 128};
	struct err err = ERR_INIT;
	char path[128];
	int fd;

	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	strcpy(base, "/dev/shm/fuzz-p9-XXXXXX");
	check(mkdtemp(base), "cannot make a directory");
	base_fd = open(base, O_RDONLY | O_DIRECTORY);
	fd = openat(base_fd, "secret", O_WRONLY | O_CREAT, 0600);
	check(write(fd, SECRET, sizeof(SECRET) - 1) == sizeof(SECRET) - 1, "cannot write");
	close(fd);
	check(!mkdirat(base_fd, "share", 0755), "cannot make a directory");
	snprintf(path, sizeof(path), "%s/share", base);
	config.path = path;
	server = p9_create(&config, &err);
	check(server, err.text);
	atexit(at_exit);
}

/* --- messages ------------------------------------------------------------------------------------------------------
 */

static unsigned cut(u8 *buffer, u32 size, unsigned step, struct iovec *pieces)
{
	unsigned count = 0;

	while (size) {
		u32 length = step && step < size && count + 1 < PIECES ? step : size;

		pieces[count++] = (struct iovec){buffer, length};
		buffer += length;
		size -= length;
	}
	return count;
}

static void exchange(u32 size, unsigned step, u32 room)
{
	struct iovec out[PIECES], in[PIECES];
	struct p9_request request = {.out = out, .in = in};
	s64 reply;

	request.out_count = cut(out_buffer, size, step, out);
	request.in_count = cut(in_buffer, room, step, in);
	reply = p9_handle(server, &request, step % 2);
	if (reply == P9_WOULD_WAIT)
		reply = p9_handle(server, &request, true);
	check(reply <= (s64)room, "a reply larger than its buffers");
	if (reply < 0)
		return;
	check(reply >= P9_HEADER_SIZE && !memcmp(in_buffer, &(u32){(u32)reply}, 4), "a reply that lies about its size");
	check(in_buffer[4] == P9_RLERROR || in_buffer[4] == out_buffer[4] + 1, "a reply to something else");
	check(!memcmp(in_buffer + 5, out_buffer + 5, 2), "a reply with another tag");
}

/* What is left of the input: all zeros behind its end. */
struct input {
	const u8 *at, *end;
};

static u8 take(struct input *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

/* Fields of each type of message: b, w, d, q: numbers of 1, 2, 4, 8 bytes; f: a fid; s: a string; *: data. */
static const struct {
	u8 type;
	const char *fields;
} messages[] = {
	{P9_TSTATFS, "f"},      {P9_TLOPEN, "fd"},         {P9_TLCREATE, "fsddd"},
	{P9_TSYMLINK, "fssd"},  {P9_TMKNOD, "fsdddd"},     {P9_TRENAME, "ffs"},
	{P9_TREADLINK, "f"},    {P9_TGETATTR, "fq"},       {P9_TSETATTR, "fddddqqqqq"},
	{P9_TXATTRWALK, "ffs"}, {P9_TXATTRCREATE, "fsqd"}, {P9_TREADDIR, "fqd"},
	{P9_TFSYNC, "fd"},      {P9_TLOCK, "fbdqqds"},     {P9_TGETLOCK, "fbqqds"},
	{P9_TLINK, "ffs"},      {P9_TMKDIR, "fsdd"},       {P9_TRENAMEAT, "fsfs"},
	{P9_TUNLINKAT, "fsd"},  {P9_TVERSION, "ds"},       {P9_TAUTH, "fssd"},
	{P9_TATTACH, "ffssd"},  {P9_TFLUSH, "w"},          {P9_TWALK, "ffws"},
	{P9_TWALK, "ffwss"},    {P9_TWALK, "ffwssss"},     {P9_TREAD, "fqd"},
	{P9_TWRITE, "fqd*"},    {P9_TCLUNK, "f"},          {P9_TREMOVE, "f"},
	{P9_TWALK, "ffw"},
};

static u32 put(u32 size, const void *from, u32 length)
{
	if (size + length > BUFFER_SIZE)
		return size;
	memcpy(out_buffer + size, from, length);
	return size + length;
}

static u32 put_number(u32 size, u32 length, struct input *input)
{
	static const u64 values[] = {
		0,
		1,
		2,
		3,
		4,
		5,
		8,
		9,
		15,
		0644,
		0100644,
		0x200,
		4096,
		65536,
		INT64_MAX,
		INT64_MAX - 1,
		~0ULL,
		1ULL << 63,
		1ULL << 31,
		0x7fffffff,
		1000000000,
		999999999,
		UTIME_NOW,
		UTIME_OMIT,
		0x1ff,
		06777,
		P9_OPEN_RDWR | P9_OPEN_TRUNC,
		P9_OPEN_RDWR | P9_OPEN_APPEND,
		S_IFCHR | 0666,
		S_IFIFO | 0666,
		16,
		17,
	};
	u8 choice = take(input);
	u64 value = 0;

	if (choice < 128)
		value = values[choice % ARRAY_SIZE(values)];
	else
		for (u32 i = 0; i < length; i++)
			value |= (u64)take(input) << 8 * i;
	return put(size, &value, length);
}

static u32 put_string(u32 size, struct input *input)
{
	static const char *const names[] = {
		"d",
		"e",
		"f",
		"l",
		"u",
		"p",
		"n",
		"m",
		"..",
		".",
		"",
		"../secret",
		"secret",
		"/",
		"share",
		"d/e",
		"user.a",
		"user.b",
		"security.capability",
		P9_VERSION,
		"/d/e",
	};
	u8 choice = take(input);
	char text[300];
	u16 length;

	if (choice < 128) {
		const char *name = names[choice % ARRAY_SIZE(names)];

		length = (u16)strlen(name);
		memcpy(text, name, length);
	} else if (choice < 140) {
		length = (u16)(250 + choice - 128);
		memset(text, 'x', length);
	} else {
		length = choice & 15;
		for (u16 i = 0; i < length; i++)
			text[i] = (char)take(input);
	}
	size = put(size, &length, 2);
	return put(size, text, length);
}

static u32 put_field(u32 size, char field, struct input *input)
{
	u32 number;

	switch (field) {
	case 'f':
		number = take(input);
		number = number == 255 ? P9_NO_FID : number % 12;
		return put(size, &number, 4);
	case 's':
		return put_string(size, input);
	case '*':
		return put(size, "some data to be written", take(input) % 24);
	default:
		return put_number(size, field == 'b' ? 1 : field == 'w' ? 2 : field == 'd' ? 4 : 8, input);
	}
}

static u32 put_message(struct input *input)
{
	u8 which = take(input) % ARRAY_SIZE(messages);
	u32 size = P9_HEADER_SIZE;
	u16 names;

	out_buffer[4] = messages[which].type;
	for (const char *field = messages[which].fields; *field; field++)
		size = put_field(size, *field, input);
	if (out_buffer[4] == P9_TWALK) { /* the number of names, mostly right */
		names = (u16)(strlen(messages[which].fields) - 3);
		if (take(input) < 250)
			memcpy(out_buffer + P9_HEADER_SIZE + 8, &names, 2);
	}
	return size;
}

static u32 put_raw(struct input *input)
{
	u8 length = take(input);

	out_buffer[4] = take(input);
	for (u32 i = 0; i < length; i++)
		out_buffer[P9_HEADER_SIZE + i] = take(input);
	return P9_HEADER_SIZE + length;
}

enum { RAW = 1, LYING = 2, SCATTERED = 4 };

static void send_message(struct input *input)
{
	static const u32 rooms[] = {65536, 65536, 4096, 200, 65536, 16, 11, 0};
	u8 how = take(input);
	u32 size = (how & 15) == RAW ? put_raw(input) : put_message(input), given = size;

	if ((how & 15) == LYING)
		given += take(input) - 100U;
	memcpy(out_buffer, &given, 4);
	memset(out_buffer + 5, 0x5a, 2);
	exchange(size, how & SCATTERED ? size % 50 + 1 : 0, rooms[how >> 5 & 7]);
}

static void send_text(const char *text, u32 length)
{
	u32 size = length + 6;

	memcpy(out_buffer, &size, 4);
	out_buffer[4] = (u8)text[0];
	memset(out_buffer + 5, 0x5a, 2);
	memcpy(out_buffer + P9_HEADER_SIZE, text + 1, length - 1);
	exchange(size, 0, 65536);
}

#define SEND(text) send_text(text, sizeof(text) - 1)

/* What the messages of the input find: a tree, and fids 1 to 9. */
static void prepare(void)
{
	int share = openat(base_fd, "share", O_RDONLY | O_DIRECTORY), fd;

	mkdirat(share, "d", 0755);
	mkdirat(share, "d/e", 0755);
	fd = openat(share, "f", O_WRONLY | O_CREAT, 0644);
	check(write(fd, "contents\n", 9) == 9, "cannot write");
	close(fd);
	symlinkat("../secret", share, "l");
	symlinkat("..", share, "u");
	mkfifoat(share, "p", 0600);
	close(share);
	SEND("\x64\x00\x00\x01\x00\x08\x00" P9_VERSION);
	SEND("\x68\x01\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0");
	SEND("\x6e\x01\0\0\0\x02\0\0\0\x01\0\x01\0d");
	SEND("\x6e\x02\0\0\0\x03\0\0\0\x01\0\x01\0e");
	SEND("\x6e\x01\0\0\0\x04\0\0\0\x01\0\x01\0f");
	SEND("\x6e\x01\0\0\0\x05\0\0\0\x01\0\x01\0f");
	SEND("\x6e\x01\0\0\0\x06\0\0\0\x01\0\x01\0l");
	SEND("\x6e\x01\0\0\0\x07\0\0\0\x01\0\x01\0u");
	SEND("\x6e\x01\0\0\0\x08\0\0\0\x01\0\x01\0p");
	SEND("\x6e\x01\0\0\0\x09\0\0\0\0\0");
	SEND("\x0c\x05\0\0\0\x02\0\0\0");
	SEND("\x0c\x09\0\0\0\0\0\0\0");
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input input = {data, data + size};

	if (!server)
		start();
	prepare();
	while (input.at < input.end)
		send_message(&input);
	p9_reset(server);
	check_outside();
	empty(false);
	return 0;
}
