/* A reader of images that breaks the protocol. How is the first word of the image. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "image/image.h"
#include "image/protocol.h"
#include "image/wire.h"

static char mode[32];

static bool is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void put_entry(struct wire *reply)
{
	wire_put_text(reply, "a/b");
	wire_put_u32(reply, IMAGE_FILE);
	for (unsigned i = 0; i < 6; i++)
		wire_put_u32(reply, 1);
	for (unsigned i = 0; i < 3; i++)
		wire_put_u64(reply, 5);
	wire_put_text(reply, "");
}

static void put_next(struct wire *reply)
{
	wire_put_u32(reply, 0);
	wire_put_u32(reply, is("empty-next") ? 0 : is("many-next") ? UINT32_MAX : 1);
	if (!is("empty-next"))
		put_entry(reply);
}

/* Replies to OPEN with a file of 8 bytes, in one way or another. Returns the descriptor to send, or -1. */
static int put_open(struct wire *reply)
{
	int pipes[2], fd = -1;

	wire_put_u64(reply, is("large") ? UINT64_MAX : is("sum") ? 9 : 8);
	wire_put_u32(reply, is("pipe") || is("memory") || is("no-descriptor") || is("shrunk"));
	wire_put_u32(reply, is("count") ? UINT32_MAX : 1);
	wire_put_u64(reply, is("beyond") ? 1 << 20 : is("wrap") ? UINT64_MAX - 4 : 0);
	wire_put_u64(reply, is("length") ? UINT64_MAX : 8);
	if (is("more"))
		wire_put_u32(reply, 1);
	if (is("pipe") && pipe(pipes) == 0)
		fd = pipes[0];
	if (is("memory") || is("unasked") || is("shrunk"))
		fd = memfd_create("x", 0);
	if (is("memory") && write(fd, "in memor", 8) != 8)
		exit(1);
	return fd;
}

static void send_reply(const struct wire *reply, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {reply->data, reply->at};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&message) = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof(fd));
	}
	if (sendmsg(PROTOCOL_SOCKET_FD, &message, MSG_NOSIGNAL) < 0)
		exit(1);
}

static int answer(u32 op, struct wire *reply)
{
	wire_put_u32(reply, 0);
	if (is("short"))
		return -1;
	if (op == PROTOCOL_OPEN)
		return put_open(reply);
	if (op == PROTOCOL_NEXT)
		put_next(reply);
	if (op == PROTOCOL_STAT)
		put_entry(reply);
	if (op == PROTOCOL_INFO) {
		wire_put_text(reply, "disk");
		wire_put_u32(reply, is("root") ? 5 : IMAGE_TREE);
		wire_put_u32(reply, is("volumes") ? 1000 : 0);
	}
	if (op == PROTOCOL_BOOT)
		wire_put_text(reply, "and no more");
	return -1;
}

int main(void)
{
	static u8 request_data[PROTOCOL_REQUEST_MAX], reply_data[PROTOCOL_REPLY_MAX];
	ssize_t n = pread(PROTOCOL_IMAGE_FD, mode, sizeof(mode) - 1, 0);

	mode[n > 0 ? strcspn(mode, "\n") : 0] = '\0';
	if (is("exit"))
		return 9;
	while ((n = recv(PROTOCOL_SOCKET_FD, request_data, sizeof(request_data), 0)) > 0) {
		struct wire request = {.data = request_data, .size = (u32)n};
		struct wire reply = {.data = reply_data, .size = sizeof(reply_data)};
		u32 op = wire_get_u32(&request);

		if (is("die"))
			abort();
		if (is("error"))
			wire_put_u32(&reply, 1), wire_put_text(&reply, "bad \033[2J name");
		else if (is("garbage"))
			memset(reply_data, 0xa5, reply.at = 100);
		else {
			int fd = answer(op, &reply);

			send_reply(&reply, fd);
			continue;
		}
		send_reply(&reply, -1);
	}
	return 0;
}
