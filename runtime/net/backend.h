/*
 * What a network card of the guest's is connected to. Packets are virtio-net headers (frame.h) with a frame behind
 * each, in both directions. All functions are called on the vCPU's thread and do not wait for anything.
 */
#ifndef AVANT_NET_BACKEND_H
#define AVANT_NET_BACKEND_H

#include <sys/uio.h>

#include "net/frame.h"
#include "util/types.h"

struct err;
struct net_config;
struct poller;

#define NET_PACKET_MAX (sizeof(struct net_header) + NET_FRAME_MAX)

struct net_backend {
	const struct net_backend_ops *ops;
	/* The card's: what wait() asked for is there. */
	void (*ready)(void *opaque);
	/* The card's: the network is gone for good (a message has been printed). Not called from within an operation.
	 */
	void (*lost)(void *opaque);
	void *opaque;
};

struct net_backend_ops {
	/* Takes a packet of `size` <= NET_PACKET_MAX bytes. False: no room now, wait() for it. */
	bool (*send)(struct net_backend *backend, const struct iovec *iov, unsigned count, u32 size);
	/*
	 * The next packet for the guest, or NULL. It stays until it is consumed; its bytes may change while they are
	 * read. At least a header.
	 */
	const u8 *(*peek)(struct net_backend *backend, u32 *size);
	void (*consume)(struct net_backend *backend, u32 size);
	/* Call after a batch of the above: the other side gets to know. */
	void (*flush)(struct net_backend *backend);
	/*
	 * ready() is to be called when there is a packet (`packets`), or room to send (`room`). False: that is so
	 * already, and it will not be called.
	 */
	bool (*wait)(struct net_backend *backend, bool packets, bool room);
	/* What the guest's driver can take (NET_OFFLOAD_*). */
	void (*set_offloads)(struct net_backend *backend, u32 offloads);
	/* Waits until the network is complete. 0, or -1 with a message in err, which is about the user's options. */
	int (*start)(struct net_backend *backend, struct err *err);
	void (*close)(struct net_backend *backend);
};

/*
 * Starts what --net user asks for: libslirp in a process of its own (process/). `config` must stay, and the poller,
 * which announces packets. NULL with a message in err.
 */
struct net_backend *net_user_open(const struct net_config *config, struct poller *poller, struct err *err);

#endif
