/*
 * Fuzzes the 9P server, with a directory to serve, a file beside it that no message may reach, and links to that file
 * within. The input is a sequence of messages: a byte that says how the buffers are cut, two bytes of length, and the
 * message's type and body; size and tag are made right, unless bit 7 of the first byte says that the size is in the
 *body. Messages that make a session and walk to what there is come first, so that fids 1 to 9 mean something. Build by
 *hand:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_p9.c \
 *		runtime/p9/[a-z]*.c runtime/util/[a-z]*.c -lxxhash -o fuzz_p9
 *
 * Run it as a user without rights; -close_fd_mask and -jobs are of use, -fork makes a directory for each process.
 */
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
int LLVMFuzzerInitialize(int *argc, char ***argv);

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

	char entries[4096];
	ssize_t n = syscall(217 /* getdents64 */, fd, entries, sizeof(entries));
	unsigned count = 0;

	for (ssize_t at = 0; at < n; at += *(u16 *)(void *)(entries + at + 16))
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

	snprintf(path, sizeof(path), "%s%s", base, all ? "" : "/share");
	for (int i = 0; i < 3 && nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS); i++) {
		/* a directory that the guest has closed */
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

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct rlimit limit = {FILE_MAX, FILE_MAX};
	struct p9_config config = {.descriptors = 128};
	struct err err = ERR_INIT;
	char path[128];
	int fd;

	(void)argc, (void)argv;
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
	return 0;
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
	reply = p9_handle(server, &request);
	check(reply <= (s64)room, "a reply larger than its buffers");
	if (reply < 0)
		return;
	check(reply >= P9_HEADER_SIZE && !memcmp(in_buffer, &(u32){(u32)reply}, 4), "a reply that lies about its size");
	check(in_buffer[4] == P9_RLERROR || in_buffer[4] == out_buffer[4] + 1, "a reply to something else");
	check(!memcmp(in_buffer + 5, out_buffer + 5, 2), "a reply with another tag");
}

static void send_message(const u8 *body, u32 length, u8 how)
{
	static const u32 rooms[] = {65536, 4096, 200, 11, 16, 65536, 65536, 0};
	u32 size = length + 6;

	memcpy(out_buffer + 4, body, 1);
	memset(out_buffer + 5, 0x5a, 2);
	memcpy(out_buffer + 7, body + 1, length - 1);
	memcpy(out_buffer, &size, 4);
	if (how & 0x80 && length >= 5)
		memcpy(out_buffer, body + 1, 4);
	exchange(size, how & 15 ? (how & 15) * 7 : 0, rooms[how >> 4 & 7]);
}

static void send_text(const char *text, u32 length)
{
	send_message((const u8 *)text, length, 0);
}

#define SEND(text) send_text(text, sizeof(text) - 1)

/* What the messages of the input find: a tree, and fids 1 to 9. */
static void prepare(void)
{
	int share = openat(base_fd, "share", O_RDONLY | O_DIRECTORY), fd;

	fchmod(share, 0755);
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
	prepare();
	while (size > 3) {
		u8 how = data[0];
		u32 length = data[1] | (u32)data[2] << 8;

		data += 3;
		size -= 3;
		if (length > size)
			length = (u32)size;
		if (length)
			send_message(data, length, how);
		data += length;
		size -= length;
	}
	p9_reset(server);
	check_outside();
	empty(false);
	return 0;
}
