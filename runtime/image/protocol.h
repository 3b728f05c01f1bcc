/*
 * What client.c and reader/server.c say to each other, over a SOCK_SEQPACKET socket: the client sends one request and
 * waits for one reply. A request is an operation (u32) and its arguments; a reply begins with a status (u32): 0, and
 *the results follow, or anything else, and a text says what is wrong. Numbers are the host's.
 *
 * A place in the image is a volume (u32; IMAGE_TREE: the root file system with what its fstab mounts) and a path.
 *
 *	operation   arguments                     results
 *	INFO        -                             format, size, root volume, number of volumes, then of each: number,
 *	                                          offset, size, readable, type, label, uuid, partuuid, partition label,
 *	                                          mount point, note
 *	STAT        place, follow                 an entry
 *	OPEN        place, most bytes             size, has a descriptor, number of pieces, of each: offset, length. The
 *	                                          pieces lie in the descriptor that comes with the reply, or in the
 *image if none does; an offset of PROTOCOL_HOLE means zeros WALK        place, depth                  - NEXT        -
 *is the end, number of entries, these BOOT        -                             title, source, why, command line,
 *kernel (place), number of initramfs files, these (places), number of notes, these
 *
 * An entry: path, kind, mode, uid, gid, links, device major, minor, identity, size, time, target.
 */
#ifndef AVANT_IMAGE_PROTOCOL_H
#define AVANT_IMAGE_PROTOCOL_H

#include "util/types.h"

enum protocol_op {
	PROTOCOL_INFO = 1,
	PROTOCOL_STAT,
	PROTOCOL_OPEN,
	PROTOCOL_WALK,
	PROTOCOL_NEXT,
	PROTOCOL_BOOT,
};

#define PROTOCOL_REQUEST_MAX (16u << 10)  /* bytes of a message */
#define PROTOCOL_REPLY_MAX   (128u << 10) /* below what a socket takes without being asked (net.core.wmem_default) */
#define PROTOCOL_PIECES_MAX  4096u        /* of a file; what has more comes as a copy */
#define PROTOCOL_HOLE        UINT64_MAX

/* Descriptors that the reading process begins with. */
#define PROTOCOL_SOCKET_FD 3
#define PROTOCOL_IMAGE_FD  4

#endif
