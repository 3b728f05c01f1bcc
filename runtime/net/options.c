#include "net/options.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"

#define WORD_MAX 128 /* longest value of a key */

/* Locally administered: in a network of its own the guest needs no address that is unique in the world. */
static const u8 default_mac[6] = {0x02, 0x41, 0x56, 0x41, 0x4e, 0x54};

socklen_t net_address_size(const union net_address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

char *net_address_format(const union net_address *address, char *text)
{
	char host[INET6_ADDRSTRLEN] = "";

	if (address->any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
		snprintf(text, NET_ADDRESS_TEXT_MAX, "[%s]:%u", host, ntohs(address->v6.sin6_port));
	} else {
		inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
		snprintf(text, NET_ADDRESS_TEXT_MAX, "%s:%u", host, ntohs(address->v4.sin_port));
	}
	return text;
}

static int parse_number(u64 *value, const char *text, u64 min, u64 max, const char *what, struct err *err)
{
	char *end;
	unsigned long long number = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || number < min || number > max)
		return err_set(err, "'%s' is not %s between %llu and %llu", text, what, (unsigned long long)min,
			       (unsigned long long)max);
	*value = number;
	return 0;
}

/* A numeric address of either family; the port is left alone. */
static int parse_address(union net_address *address, const char *text, struct err *err)
{
	if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
		address->any.sa_family = AF_INET;
		return 0;
	}
	if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
		address->any.sa_family = AF_INET6;
		return 0;
	}
	return err_set(err, "'%s' is not an IPv4 or IPv6 address", text);
}

static int parse_port(union net_address *address, const char *text, struct err *err)
{
	u64 port;

	if (parse_number(&port, text, 1, 65535, "a port", err) < 0)
		return -1;
	if (address->any.sa_family == AF_INET6)
		address->v6.sin6_port = htons((u16)port);
	else
		address->v4.sin_port = htons((u16)port);
	return 0;
}

/* [ADDRESS]:PORT, an IPv6 address in brackets. Without ADDRESS the family stays AF_UNSPEC. Takes the text apart. */
static int parse_endpoint(union net_address *address, char *text, struct err *err)
{
	char *colon = strrchr(text, ':'), *host = text;

	memset(address, 0, sizeof(*address));
	if (!colon)
		return err_set(err, "'%s' is not [ADDRESS]:PORT", text);
	*colon = '\0';
	if (*host == '[') {
		size_t length = strlen(host);

		if (host[length - 1] != ']')
			return err_set(err, "'%s' lacks a bracket", host);
		host[length - 1] = '\0';
		host++;
		if (parse_address(address, host, err) < 0)
			return -1;
		if (address->any.sa_family != AF_INET6)
			return err_set(err, "'%s' is not an IPv6 address", host);
	} else if (*host) {
		if (parse_address(address, host, err) < 0)
			return -1;
		if (address->any.sa_family != AF_INET)
			return err_set(err, "'%s' needs brackets", host);
	}
	return parse_port(address, colon + 1, err);
}

/* Whoever wants the world to reach the guest says so. */
static void set_loopback(union net_address *address, sa_family_t family)
{
	if (family == AF_INET6) {
		address->v6.sin6_family = AF_INET6;
		address->v6.sin6_addr = in6addr_loopback;
	} else {
		address->v4.sin_family = AF_INET;
		address->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	}
}

/* tcp|udp:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT */
static int parse_forward(struct net_config *config, char *text, struct err *err)
{
	struct net_forward *forward = &config->forwards[config->forward_count];
	char *dash = strrchr(text, '-');

	if (config->forward_count == NET_FORWARDS_MAX)
		return err_set(err, "at most %d ports can be forwarded", NET_FORWARDS_MAX);
	forward->udp = !strncmp(text, "udp:", 4);
	if (!forward->udp && strncmp(text, "tcp:", 4))
		return err_set(err, "'%s' begins with neither tcp: nor udp:", text);
	if (!dash)
		return err_set(err, "'%s' is not tcp|udp:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT", text);
	*dash = '\0';
	if (parse_endpoint(&forward->host, text + 4, err) < 0 || parse_endpoint(&forward->guest, dash + 1, err) < 0)
		return -1;

	/* what is not said is of the same family as the other end; the port lies at one place in both */
	sa_family_t host = forward->host.any.sa_family, guest = forward->guest.any.sa_family;

	if (host && guest && host != guest)
		return err_set(err, "the two ends of a forward must both be IPv4 or both IPv6");
	if (!host)
		set_loopback(&forward->host, guest);
	if (!guest)
		forward->guest.any.sa_family = forward->host.any.sa_family;
	if (forward->guest.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&forward->guest.v6.sin6_addr))
		return err_set(err, "an IPv6 forward needs the guest's address");
	config->forward_count++;
	return 0;
}

static int parse_mac(u8 *mac, const char *text, struct err *err)
{
	int used = 0;
	u8 bytes[6];

	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
		   &bytes[5], &used) != 6 ||
	    text[used] || used != 17)
		return err_set(err, "'%s' is not an Ethernet address such as 02:00:00:00:00:01", text);
	if (bytes[0] & 1 || !(bytes[0] | bytes[1] | bytes[2] | bytes[3] | bytes[4] | bytes[5]))
		return err_set(err, "'%s' is not the address of one interface", text);
	memcpy(mac, bytes, sizeof(bytes));
	return 0;
}

/* The network has room for the addresses that are handed out: .2 the host, .3 the resolver, .15 and up the guests. */
static int parse_network(struct net_config *config, char *text, struct err *err)
{
	char *slash = strchr(text, '/');
	struct in_addr network;
	u64 bits = 0;

	if (!slash)
		return err_set(err, "'%s' is not ADDRESS/BITS", text);
	*slash = '\0';
	if (inet_pton(AF_INET, text, &network) != 1)
		return err_set(err, "'%s' is not an IPv4 address", text);
	if (parse_number(&bits, slash + 1, 8, 27, "a number of bits", err) < 0)
		return -1;
	config->netmask.s_addr = htonl(~0U << (32 - bits));
	if (network.s_addr & ~config->netmask.s_addr)
		return err_set(err, "'%s' is not the address of a network of %llu bits", text,
			       (unsigned long long)bits);
	config->network = network;
	return 0;
}

static int parse_hostname(struct net_config *config, const char *text, struct err *err)
{
	size_t length = strlen(text);

	if (!length || length > NET_HOSTNAME_MAX)
		return err_set(err, "a host name has 1 to %d characters", NET_HOSTNAME_MAX);
	if (strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") != length)
		return err_set(err, "'%s' is not a host name", text);
	memcpy(config->hostname, text, length + 1);
	return 0;
}

static int parse_mtu(struct net_config *config, const char *text, struct err *err)
{
	u64 mtu = 0;

	if (parse_number(&mtu, text, NET_MTU_MIN, NET_MTU_MAX, "an MTU", err) < 0)
		return -1;
	config->has_mtu = true;
	config->mtu = (u16)mtu;
	return 0;
}

/* One KEY or KEY=VALUE; `value` is NULL for the former. */
static int parse_key(struct net_config *config, const char *key, char *value, struct err *err)
{
	if (!strcmp(key, "restrict")) {
		config->restricted = true;
		return value ? err_set(err, "restrict takes no value") : 0;
	}
	if (!value)
		return err_set(err, "'%s' has no value, or is not known", key);
	if (!strcmp(key, "hostfwd"))
		return parse_forward(config, value, err);
	if (!strcmp(key, "mac"))
		return parse_mac(config->mac, value, err);
	if (!strcmp(key, "net"))
		return parse_network(config, value, err);
	if (!strcmp(key, "dns"))
		return parse_address(&config->resolver, value, err);
	if (!strcmp(key, "hostname"))
		return parse_hostname(config, value, err);
	if (!strcmp(key, "mtu"))
		return parse_mtu(config, value, err);
	return err_set(err, "'%s' is none of: hostfwd, restrict, mac, net, dns, hostname, mtu", key);
}

static int parse_keys(struct net_config *config, const char *text, struct err *err)
{
	char word[WORD_MAX];

	while (*text == ',') {
		size_t length = strcspn(++text, ",");
		char *value;

		if (length >= sizeof(word))
			return err_set(err, "'%.20s...' is too long", text);
		memcpy(word, text, length);
		word[length] = '\0';
		text += length;
		value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		if (parse_key(config, word, value, err) < 0)
			return -1;
	}
	return 0;
}

int net_config_parse(struct net_config *config, const char *text, struct err *err)
{
	size_t length = strcspn(text, ",");

	*config = (struct net_config){.mtu = NET_MTU_DEFAULT, .text = text};
	memcpy(config->mac, default_mac, sizeof(default_mac));
	inet_pton(AF_INET, "10.0.2.0", &config->network);
	inet_pton(AF_INET, "255.255.255.0", &config->netmask);
	if (length == 4 && !strncmp(text, "none", 4))
		return text[length] ? err_set(err, "'none' takes no keys") : 0;
	if (length != 4 || strncmp(text, "user", 4) != 0)
		return err_set(err, "'%.*s' is none of: none, user", (int)length, text);
	config->kind = NET_USER;
	return parse_keys(config, text + length, err);
}
