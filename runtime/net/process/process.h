/*
 * The network process (program avant-net): libslirp, fed from a channel (channel.h). It parses what a hostile guest and
 * the world send, so it is a process that has nothing: no files, no memory of the guest's, few system calls.
 *
 * The VMM starts it with descriptors 3 to 6 as below and the argument of --net. It answers with one message, then
 * packets flow until the VMM closes its end of the control socket.
 */
#ifndef AVANT_NET_PROCESS_H
#define AVANT_NET_PROCESS_H

#include "net/channel.h"
#include "net/options.h"
#include "util/err.h"
#include "util/types.h"

enum process_descriptor {
	PROCESS_CONTROL = 3, /* SOCK_SEQPACKET; its end is the end */
	PROCESS_MEMORY = 4,  /* of the channel */
	PROCESS_WAKE_PEER = 5,
	PROCESS_WAKE_ME = 6,
};

/* The first and only message. An error has text behind it. */
#define PROCESS_READY 'R'
#define PROCESS_ERROR 'E'

struct user_net; /* libslirp and what it needs */

/* NULL with a message in err. */
struct user_net *user_net_create(const struct net_config *config, struct channel *channel, struct err *err);

/* Carries packets until the control socket is closed. */
void user_net_run(struct user_net *net, int control);

/*
 * Reads the host's resolver, or makes up one from the configuration: what libslirp will find in /etc/resolv.conf. A
 * descriptor, or -1 with a message in err.
 */
int resolver_open(const struct net_config *config, struct err *err);

/*
 * From now on the process can do nothing but exchange packets on sockets of the Internet, which it may only open if the
 * guest is not restricted. Opening /etc/resolv.conf gives `resolver`; other files cannot be opened. 0, or -1 with a
 * message in err.
 */
int confine(bool restricted, int resolver, struct err *err);

#endif
