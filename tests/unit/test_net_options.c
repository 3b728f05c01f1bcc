#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/options.h"
#include "util/err.h"

static struct net_config parsed(const char *text)
{
	struct net_config config;
	struct err err = ERR_INIT;

	if (net_config_parse(&config, text, &err) < 0)
		fail_msg("'%s': %s", text, err.text);
	return config;
}

/* The message must hold `part`, so that a user sees what is wrong. */
static void refused(const char *text, const char *part)
{
	struct net_config config;
	struct err err = ERR_INIT;

	if (net_config_parse(&config, text, &err) == 0)
		fail_msg("'%s' was taken", text);
	if (!strstr(err.text, part))
		fail_msg("'%s': '%s' does not say '%s'", text, err.text, part);
}

static void assert_forward(const struct net_forward *forward, bool udp, const char *host, const char *guest)
{
	char text[NET_ADDRESS_TEXT_MAX];

	assert_int_equal(forward->udp, udp);
	assert_string_equal(net_address_format(&forward->host, text), host);
	assert_string_equal(net_address_format(&forward->guest, text), guest);
}

static void test_kinds(void **state)
{
	(void)state;
	assert_int_equal(parsed("none").kind, NET_NONE);
	assert_int_equal(parsed("user").kind, NET_USER);
	refused("", "none of: none, user");
	refused("tap", "none of: none, user");
	refused("use", "none of: none, user");
	refused("username", "none of: none, user");
	refused("none,restrict", "takes no keys");
}

static void test_defaults(void **state)
{
	const struct net_config config = parsed("user");

	(void)state;
	assert_false(config.restricted);
	assert_false(config.has_mtu);
	assert_int_equal(config.mtu, 1500);
	assert_int_equal(ntohl(config.network.s_addr), 0x0a000200);
	assert_int_equal(ntohl(config.netmask.s_addr), 0xffffff00);
	assert_int_equal(config.resolver.any.sa_family, AF_UNSPEC);
	assert_int_equal(config.forward_count, 0);
	assert_int_equal(config.mac[0] & 3, 2); /* local, of one interface */
}

static void test_forwards(void **state)
{
	const struct net_config config = parsed("user,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp::5353-10.0.2.15:53,"
						"hostfwd=tcp:0.0.0.0:80-:8080,hostfwd=tcp:[::1]:443-[fec0::15]:4433,"
						"hostfwd=tcp::1-[fec0::15]:2");

	(void)state;
	assert_int_equal(config.forward_count, 5);
	assert_forward(&config.forwards[0], false, "127.0.0.1:2222", "0.0.0.0:22");
	assert_forward(&config.forwards[1], true, "127.0.0.1:5353", "10.0.2.15:53"); /* this machine only */
	assert_forward(&config.forwards[2], false, "0.0.0.0:80", "0.0.0.0:8080");
	assert_forward(&config.forwards[3], false, "[::1]:443", "[fec0::15]:4433");
	assert_forward(&config.forwards[4], false, "[::1]:1", "[fec0::15]:2");
}

static void test_bad_forwards(void **state)
{
	char many[8192] = "user";

	(void)state;
	refused("user,hostfwd=", "neither tcp: nor udp:");
	refused("user,hostfwd=sctp::1-:2", "neither tcp: nor udp:");
	refused("user,hostfwd=tcp:", "HOSTPORT-[GUESTADDR]:GUESTPORT");
	refused("user,hostfwd=tcp::22", "HOSTPORT-[GUESTADDR]:GUESTPORT");
	refused("user,hostfwd=tcp:-:22", "'' is not [ADDRESS]:PORT");
	refused("user,hostfwd=tcp:2222-:22", "'2222' is not [ADDRESS]:PORT");
	refused("user,hostfwd=tcp::0-:22", "'0' is not a port");
	refused("user,hostfwd=tcp::65536-:22", "'65536' is not a port");
	refused("user,hostfwd=tcp::+1-:22", "'+1' is not a port");
	refused("user,hostfwd=tcp::1x-:22", "'1x' is not a port");
	refused("user,hostfwd=tcp::1-:", "'' is not a port");
	refused("user,hostfwd=tcp:localhost:1-:2", "'localhost' is not an IPv4 or IPv6 address");
	refused("user,hostfwd=tcp:1.2.3:1-:2", "'1.2.3' is not an IPv4 or IPv6 address");
	refused("user,hostfwd=tcp:::1:1-:2", "needs brackets");
	refused("user,hostfwd=tcp:[::1:1-:2", "lacks a bracket");
	refused("user,hostfwd=tcp:[:1-:2", "lacks a bracket");
	refused("user,hostfwd=tcp:[]:1-:2", "'' is not an IPv4 or IPv6 address");
	refused("user,hostfwd=tcp:[1.2.3.4]:1-:2", "is not an IPv6 address");
	refused("user,hostfwd=tcp:[::1]:1-1.2.3.4:2", "both be IPv4 or both IPv6");
	refused("user,hostfwd=tcp:[::1]:1-:2", "needs the guest's address");
	for (int i = 0; i <= NET_FORWARDS_MAX; i++)
		strcat(many, ",hostfwd=tcp::1-:2");
	refused(many, "at most 64 ports");
}

static void test_addresses(void **state)
{
	struct net_config config = parsed("user,mac=52:54:00:aB:cd:ef,net=192.168.76.0/27,dns=10.1.1.1");

	(void)state;
	assert_memory_equal(config.mac, ((const u8[]){0x52, 0x54, 0x00, 0xab, 0xcd, 0xef}), 6);
	assert_int_equal(ntohl(config.network.s_addr), 0xc0a84c00);
	assert_int_equal(ntohl(config.netmask.s_addr), 0xffffffe0);
	assert_int_equal(config.resolver.any.sa_family, AF_INET);
	config = parsed("user,dns=2001:db8::1");
	assert_int_equal(config.resolver.any.sa_family, AF_INET6);
	refused("user,mac=52:54:00:ab:cd", "not an Ethernet address");
	refused("user,mac=52:54:00:ab:cd:ef:", "not an Ethernet address");
	refused("user,mac=52:54:00:ab:cd:e", "not an Ethernet address");
	refused("user,mac=01:00:00:00:00:01", "not the address of one interface");
	refused("user,mac=00:00:00:00:00:00", "not the address of one interface");
	refused("user,net=10.0.0.0", "is not ADDRESS/BITS");
	refused("user,net=10.0.0.1/24", "not the address of a network of 24 bits");
	refused("user,net=10.0.0.0/28", "between 8 and 27");
	refused("user,net=10.0.0.0/0", "between 8 and 27");
	refused("user,net=fec0::/64", "is not an IPv4 address");
	refused("user,dns=resolver", "'resolver' is not an IPv4 or IPv6 address");
	refused("user,dns=", "'' is not an IPv4 or IPv6 address");
}

static void test_others(void **state)
{
	struct net_config config = parsed("user,restrict,hostname=a-guest.example,mtu=65520");

	(void)state;
	assert_true(config.restricted);
	assert_string_equal(config.hostname, "a-guest.example");
	assert_true(config.has_mtu);
	assert_int_equal(config.mtu, 65520);
	refused("user,restrict=1", "takes no value");
	refused("user,hostname=", "1 to 32 characters");
	refused("user,hostname=123456789012345678901234567890123", "1 to 32 characters");
	refused("user,hostname=a b", "not a host name");
	refused("user,mtu=1279", "between 1280 and 65520");
	refused("user,mtu=65521", "between 1280 and 65520");
	refused("user,mtu", "has no value");
	refused("user,", "has no value, or is not known");
	refused("user,smb=/", "is none of: hostfwd");
	refused("user,hostname=0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789012345678901234567890123456789",
		"is too long");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_forwards),
		cmocka_unit_test(test_bad_forwards), cmocka_unit_test(test_addresses), cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
