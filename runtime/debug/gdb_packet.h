/*
 * Framing of the gdb remote protocol ("Overview" in the appendix "gdb Remote Serial Protocol" of gdb's manual): packets
 * with checksums, acknowledgements, escapes, and the lone byte that interrupts the target. On a socket; what is in the
 * packets is gdb_command.c's.
 */
#ifndef AVANT_DEBUG_GDB_PACKET_H
#define AVANT_DEBUG_GDB_PACKET_H

#include "util/types.h"

#define GDB_PACKET_MAX 0x4000u /* bytes of a packet's content, unescaped; announced as PacketSize */

enum gdb_event {
	GDB_NOTHING,   /* nothing complete has come yet */
	GDB_PACKET,    /* link->packet */
	GDB_INTERRUPT, /* Ctrl-C */
	GDB_CLOSED,    /* the other side has gone, or nothing can be sent any more */
};

struct gdb_link {
	int fd;
	bool no_ack; /* QStartNoAckMode was agreed on */
	bool closed;
	size_t length;                 /* of packet */
	u8 packet[GDB_PACKET_MAX + 1]; /* followed by a 0 */
	u8 input[4096];
	size_t input_at, input_end;
	enum { GDB_BETWEEN, GDB_CONTENT, GDB_CHECK_1, GDB_CHECK_2 } state;
	bool too_long, escaped;
	u8 sum, check;
};

void gdb_link_open(struct gdb_link *link, int fd);

/* Reads what has come, without waiting. */
enum gdb_event gdb_link_receive(struct gdb_link *link);

/* Has something been read that gdb_link_receive() has not looked at yet? */
static inline bool gdb_link_has_input(const struct gdb_link *link)
{
	return link->input_at < link->input_end;
}

/* Sends a packet; errors show with the next receive. At most GDB_PACKET_MAX bytes. */
void gdb_link_send(struct gdb_link *link, const void *content, size_t length);

/* A packet under construction: what does not fit is dropped. */
struct gdb_reply {
	char text[GDB_PACKET_MAX];
	size_t length;
};

void gdb_reply_text(struct gdb_reply *reply, const char *text);
void gdb_reply_bytes(struct gdb_reply *reply, const void *bytes, size_t length); /* as they are */
void gdb_reply_hex(struct gdb_reply *reply, const void *bytes, size_t length);   /* two digits each */

/* Hexadecimal number at *text, which is moved behind it. False: there is none, or it has more than 64 bits. */
bool gdb_parse_number(const char **text, u64 *value);
/* Two digits for each byte. How many bytes there were, at most `room`. */
size_t gdb_parse_hex(const char *text, void *bytes, size_t room);

#endif
