#include "debug/gdb_packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define INTERRUPT 0x03
#define ESCAPE    '}'
#define ESCAPED   0x20

static const char digits[] = "0123456789abcdef";

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

void gdb_link_open(struct gdb_link *link, int fd)
{
	memset(link, 0, sizeof(*link));
	link->fd = fd;
}

static void send_all(struct gdb_link *link, const void *bytes, size_t length)
{
	const u8 *at = bytes;

	while (length && !link->closed) {
		ssize_t n = send(link->fd, at, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			link->closed = true;
			return;
		}
		at += n;
		length -= (size_t)n;
	}
}

void gdb_link_send(struct gdb_link *link, const void *content, size_t length)
{
	const u8 *from = content;
	u8 frame[2 * GDB_PACKET_MAX + 4], sum = 0;
	size_t used = 0;

	if (length > GDB_PACKET_MAX)
		length = GDB_PACKET_MAX;
	frame[used++] = '$';
	for (size_t i = 0; i < length; i++) {
		if (from[i] && strchr("$#}*", from[i])) {
			frame[used++] = ESCAPE;
			frame[used++] = from[i] ^ ESCAPED;
		} else {
			frame[used++] = from[i];
		}
	}
	for (size_t i = 1; i < used; i++)
		sum = (u8)(sum + frame[i]);
	frame[used++] = '#';
	frame[used++] = (u8)digits[sum >> 4];
	frame[used++] = (u8)digits[sum & 15];
	send_all(link, frame, used);
}

/* Reads more input. False: there is none now, or no more at all. */
static bool refill(struct gdb_link *link)
{
	ssize_t n;

	do
		n = recv(link->fd, link->input, sizeof(link->input), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
		link->closed = true;
	link->input_at = 0;
	link->input_end = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static void begin_packet(struct gdb_link *link)
{
	link->state = GDB_CONTENT;
	link->length = 0;
	link->sum = 0;
	link->too_long = link->escaped = false;
}

static void add_content(struct gdb_link *link, u8 byte)
{
	link->sum = (u8)(link->sum + byte);
	if (byte == ESCAPE && !link->escaped) {
		link->escaped = true;
		return;
	}
	if (link->escaped)
		byte ^= ESCAPED;
	link->escaped = false;
	if (link->length == GDB_PACKET_MAX)
		link->too_long = true;
	else
		link->packet[link->length++] = byte;
}

/* The frame is complete; is the packet good? */
static bool end_packet(struct gdb_link *link, u8 last)
{
	int high = digit_value((char)link->check), low = digit_value((char)last);
	bool good = high >= 0 && low >= 0 && (high << 4 | low) == link->sum && !link->too_long;

	link->state = GDB_BETWEEN;
	link->packet[link->length] = 0;
	if (!link->no_ack)
		send_all(link, good ? "+" : "-", 1);
	return good;
}

static enum gdb_event take_byte(struct gdb_link *link, u8 byte)
{
	switch (link->state) {
	case GDB_BETWEEN:
		if (byte == INTERRUPT)
			return GDB_INTERRUPT;
		if (byte == '$')
			begin_packet(link);
		break; /* acknowledgements: TCP loses nothing, so nothing is ever sent again */
	case GDB_CONTENT:
		if (byte == '#')
			link->state = GDB_CHECK_1;
		else if (byte == '$')
			begin_packet(link);
		else
			add_content(link, byte);
		break;
	case GDB_CHECK_1:
		link->check = byte;
		link->state = GDB_CHECK_2;
		break;
	case GDB_CHECK_2:
		if (end_packet(link, byte))
			return GDB_PACKET;
		break;
	}
	return GDB_NOTHING;
}

enum gdb_event gdb_link_receive(struct gdb_link *link)
{
	while (link->input_at < link->input_end || (!link->closed && refill(link))) {
		enum gdb_event event = take_byte(link, link->input[link->input_at++]);

		if (event != GDB_NOTHING)
			return event;
	}
	return link->closed ? GDB_CLOSED : GDB_NOTHING;
}

void gdb_reply_bytes(struct gdb_reply *reply, const void *bytes, size_t length)
{
	size_t room = sizeof(reply->text) - reply->length;

	if (length > room)
		length = room;
	memcpy(reply->text + reply->length, bytes, length);
	reply->length += length;
}

void gdb_reply_text(struct gdb_reply *reply, const char *text)
{
	gdb_reply_bytes(reply, text, strlen(text));
}

void gdb_reply_hex(struct gdb_reply *reply, const void *bytes, size_t length)
{
	const u8 *from = bytes;

	for (size_t i = 0; i < length && reply->length + 2 <= sizeof(reply->text); i++) {
		reply->text[reply->length++] = digits[from[i] >> 4];
		reply->text[reply->length++] = digits[from[i] & 15];
	}
}

bool gdb_parse_number(const char **text, u64 *value)
{
	const char *at = *text;
	unsigned count = 0;
	int digit;

	*value = 0;
	while ((digit = digit_value(*at)) >= 0) {
		if (*value >> 60)
			return false;
		*value = *value << 4 | (u64)digit;
		at++;
		count++;
	}
	*text = at;
	return count > 0;
}

size_t gdb_parse_hex(const char *text, void *bytes, size_t room)
{
	u8 *to = bytes;
	size_t count = 0;

	while (count < room) {
		int high = digit_value(text[0]), low = high < 0 ? -1 : digit_value(text[1]);

		if (low < 0)
			break;
		to[count++] = (u8)(high << 4 | low);
		text += 2;
	}
	return count;
}
