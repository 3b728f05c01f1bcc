/* avant-read-image: the process that reads images. It begins with two descriptors (protocol.h) and nothing else. */
#include <errno.h>
#include <locale.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/protocol.h"
#include "image/reader/confine.h"
#include "image/reader/server.h"
#include "image/wire.h"

/* Exit statuses, for the client's message. */
enum { ENDED = 0, CANNOT_BEGIN = 10, CANNOT_CONFINE = 11, CANNOT_TALK = 12 };

static int send_reply(const struct wire *reply, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {reply->data, reply->at};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&message) = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof(fd));
	}
	do
		n = sendmsg(PROTOCOL_SOCKET_FD, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)reply->at ? 0 : -1;
}

static int serve(struct server *server)
{
	static u8 request_data[PROTOCOL_REQUEST_MAX], reply_data[PROTOCOL_REPLY_MAX];

	for (;;) {
		ssize_t n = recv(PROTOCOL_SOCKET_FD, request_data, sizeof(request_data), 0);
		struct wire request = {.data = request_data}, reply = {.data = reply_data, .size = sizeof(reply_data)};
		int fd, result;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? CANNOT_TALK : ENDED;
		request.size = (u32)n;
		fd = server_answer(server, &request, &reply);
		result = send_reply(&reply, fd);
		if (fd >= 0)
			close(fd);
		if (result < 0)
			return CANNOT_TALK;
	}
}

int main(void)
{
	struct server *server;
	struct stat st;

	if (fstat(PROTOCOL_IMAGE_FD, &st) < 0)
		return CANNOT_BEGIN;
	setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive takes names apart by it; any other will do for ASCII */
	server = server_create(PROTOCOL_IMAGE_FD, S_ISDIR(st.st_mode));
	if (!server)
		return CANNOT_BEGIN;
	if (confine(PROTOCOL_IMAGE_FD, S_ISDIR(st.st_mode)) < 0)
		return CANNOT_CONFINE;
	return serve(server);
}
