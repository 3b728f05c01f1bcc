/*
 * libslirp asks /etc/resolv.conf who answers DNS queries, again and again. In the sandbox it finds this copy there:
 * what the file said when the guest started, or what the user said.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "net/process/process.h"

#define RESOLVER_MAX 16384

static size_t made_up(const union net_address *address, char *text, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "";
	const void *at = address->any.sa_family == AF_INET6 ? (const void *)&address->v6.sin6_addr
							    : (const void *)&address->v4.sin_addr;

	inet_ntop(address->any.sa_family, at, host, sizeof(host));
	return (size_t)snprintf(text, size, "nameserver %s\n", host);
}

/* Without the file there are no answers, as for other programs of the host's. */
static size_t of_host(char *text, size_t size)
{
	int fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	ssize_t length = 0;

	if (fd < 0)
		return 0;
	length = read(fd, text, size);
	close(fd);
	return length > 0 ? (size_t)length : 0;
}

int resolver_open(const struct net_config *config, struct err *err)
{
	char text[RESOLVER_MAX];
	size_t size = config->resolver.any.sa_family ? made_up(&config->resolver, text, sizeof(text))
						     : of_host(text, sizeof(text));
	int fd = memfd_create("resolver", MFD_CLOEXEC);

	if (fd < 0 || write(fd, text, size) != (ssize_t)size) {
		err_set(err, "cannot keep the address of the resolver: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}
