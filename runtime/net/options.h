/* What --net says: which network the guest gets, and with what addresses. */
#ifndef AVANT_NET_OPTIONS_H
#define AVANT_NET_OPTIONS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "util/types.h"

struct err;

#define NET_FORWARDS_MAX 64
#define NET_HOSTNAME_MAX 32 /* what libslirp's DHCP server takes */
#define NET_MTU_DEFAULT  1500
#define NET_MTU_MIN      1280 /* IPv6 needs as much (RFC 8200, 5) */
#define NET_MTU_MAX      65520

enum net_kind { NET_NONE, NET_USER };

union net_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* A port of the host's that leads to one of the guest's. Both addresses are of one family. */
struct net_forward {
	bool udp;
	union net_address host, guest; /* guest: the unspecified address is the one that DHCP gave to the guest */
};

struct net_config {
	enum net_kind kind;
	bool restricted; /* the guest reaches nothing but what forwards connect it to */
	bool has_mtu;    /* the guest is told about it (VIRTIO_NET_F_MTU) */
	u16 mtu;
	u8 mac[6];
	struct in_addr network, netmask;     /* IPv4 */
	union net_address resolver;          /* who answers the guest's DNS queries; AF_UNSPEC: the host's resolver */
	char hostname[NET_HOSTNAME_MAX + 1]; /* for DHCP; empty: none */
	unsigned forward_count;
	struct net_forward forwards[NET_FORWARDS_MAX];
	const char *text;    /* what was parsed, the caller's */
	const char *program; /* the network process's, or NULL: avant-net beside this program */
};

/* "none", or "user[,KEY[=VALUE]]…". 0, or -1 with a message in err. `text` must stay as long as the configuration. */
int net_config_parse(struct net_config *config, const char *text, struct err *err);

#define NET_ADDRESS_TEXT_MAX 64

/* "127.0.0.1:80" or "[::1]:80". Returns `text`, which has room for NET_ADDRESS_TEXT_MAX bytes. */
char *net_address_format(const union net_address *address, char *text);

/* Bytes of the address for bind() and its like. */
socklen_t net_address_size(const union net_address *address);

#endif
