/*
 * Network card (virtio 1.2, 5.1). Packets go between the rings and a back end (net/backend.h) as they are: checksums
 * and segmentation are the back end's. What the guest wrote is copied there whole, and not looked at here.
 */
#include "virtio/virtio.h"

#include "net/backend.h"
#include "net/offload.h"
#include "net/options.h"
#include "util/err.h"
#include "virtio/devices.h"
#include "vm.h"

#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 256

enum queue { QUEUE_RECEIVE, QUEUE_SEND, QUEUE_CONTROL, QUEUES };

/* Feature bits (5.1.3). */
#define F_CSUM          BIT(0)
#define F_GUEST_CSUM    BIT(1)
#define F_MTU           BIT(3)
#define F_MAC           BIT(5)
#define F_GUEST_TSO4    BIT(7)
#define F_GUEST_TSO6    BIT(8)
#define F_HOST_TSO4     BIT(11)
#define F_HOST_TSO6     BIT(12)
#define F_MRG_RXBUF     BIT(15)
#define F_STATUS        BIT(16)
#define F_CTRL_VQ       BIT(17)
#define F_CTRL_RX       BIT(18)
#define F_CTRL_MAC_ADDR BIT(23)

#define STATUS_LINK_UP 1

/* Commands of the control queue: class, command (5.1.6.5). */
#define COMMAND(class, command) ((class) << 8 | (command))
#define COMMAND_PROMISCUOUS     COMMAND(0, 0)
#define COMMAND_ALL_MULTICAST   COMMAND(0, 1)
#define COMMAND_MAC_TABLE       COMMAND(1, 0)
#define COMMAND_MAC_ADDRESS     COMMAND(1, 1)
#define COMMAND_OK              0
#define COMMAND_FAILED          1

#define MAC_SIZE  6
#define TABLE_MAX 64 /* addresses of a kind; with more, all are accepted */

/* 5.1.4; what is behind the features that are offered. */
struct net_device_config {
	u8 mac[MAC_SIZE];
	u16 status, max_virtqueue_pairs, mtu;
} __attribute__((packed));

struct mac_table {
	u8 address[TABLE_MAX][MAC_SIZE];
	unsigned count;
	bool all; /* there were too many */
};

/* Which frames the driver wants. A driver that does not say gets all. */
struct filter {
	bool used;
	bool promiscuous, all_multicast;
	struct mac_table unicast, multicast; /* besides the card's own address, and broadcasts */
};

struct net {
	struct virtio_device device;
	struct net_device_config config;
	struct net_backend *backend;
	struct virtio_chain first, chain; /* of a packet; the others, and what is sent */
	struct filter filter;
	bool starved; /* a packet waits for buffers of the driver's */
	bool blocked; /* the driver's packets wait for the back end */
};

static struct net *net_of(struct virtio_device *device)
{
	return (struct net *)device;
}

/* --- which frames ------------------------------------------------------------------------------------------------ */

static bool table_has(const struct mac_table *table, const u8 *address)
{
	for (unsigned i = 0; i < table->count; i++)
		if (!memcmp(table->address[i], address, MAC_SIZE))
			return true;
	return table->all;
}

static bool is_wanted(const struct net *net, const u8 *destination)
{
	static const u8 broadcast[MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const struct filter *filter = &net->filter;

	if (!filter->used || filter->promiscuous)
		return true;
	if (destination[0] & 1)
		return filter->all_multicast || !memcmp(destination, broadcast, MAC_SIZE) ||
		       table_has(&filter->multicast, destination);
	return !memcmp(destination, net->config.mac, MAC_SIZE) || table_has(&filter->unicast, destination);
}

/* --- to the guest ------------------------------------------------------------------------------------------------ */

/* May the driver be shown this header? The back end may have made it for the driver before this one. */
static bool is_agreed(const struct net *net, const struct net_header *header)
{
	const u64 features = net->device.features;

	if (header->flags && !(features & F_GUEST_CSUM))
		return false;
	switch (header->gso_type) {
	case NET_GSO_NONE:
		return true;
	case NET_GSO_TCPV4:
		return features & F_GUEST_TSO4;
	case NET_GSO_TCPV6:
		return features & F_GUEST_TSO6;
	default:
		return false;
	}
}

static void unpop(struct net *net, unsigned count)
{
	while (count--)
		virtio_unpop(&net->device, QUEUE_RECEIVE);
}

/*
 * Writes a packet to as many buffers as it takes (5.1.6.4). False: there are not enough, now. A packet that cannot be
 * delivered at all is lost, as on a wire.
 */
static bool deliver(struct net *net, const u8 *packet, u32 size)
{
	const bool mergeable = net->device.features & F_MRG_RXBUF;
	unsigned count = 0;
	u16 buffers;

	for (u32 done = 0; done < size; count++) {
		struct virtio_chain *chain = count ? &net->chain : &net->first;
		u64 part;

		if (!virtio_pop(&net->device, QUEUE_RECEIVE, chain)) {
			unpop(net, count);
			return false;
		}
		if (chain->in_bytes < sizeof(struct net_header)) {
			virtio_broken(&net->device, "a receive buffer of %llu bytes",
				      (unsigned long long)chain->in_bytes);
			return true;
		}
		if (!mergeable && chain->in_bytes < size) {
			unpop(net, 1);
			return true;
		}
		part = virtio_copy_to(chain, 0, packet + done, size - done);
		virtio_fill(&net->device, QUEUE_RECEIVE, chain, (u32)part, count);
		done += (u32)part;
	}
	buffers = (u16)count;
	virtio_copy_to(&net->first, offsetof(struct net_header, num_buffers), &buffers, sizeof(buffers));
	virtio_flush(&net->device, QUEUE_RECEIVE, count);
	return true;
}

/* A packet of the back end's: is it for the driver? Its bytes may change meanwhile, which can harm the guest alone. */
static bool is_for_driver(const struct net *net, const u8 *packet, u32 size)
{
	struct net_header header;

	if (!net->device.running || size < sizeof(header) + NET_ETHERNET_SIZE)
		return false;
	memcpy(&header, packet, sizeof(header));
	return is_agreed(net, &header) && is_wanted(net, packet + sizeof(header));
}

static void receive_all(struct net *net)
{
	struct net_backend *backend = net->backend;
	const u8 *packet;
	u32 size;

	while (!net->starved && (packet = backend->ops->peek(backend, &size))) {
		if (is_for_driver(net, packet, size) && !deliver(net, packet, size))
			net->starved = true;
		else
			backend->ops->consume(backend, size);
	}
	virtio_notify(&net->device, QUEUE_RECEIVE);
}

/* --- from the guest ---------------------------------------------------------------------------------------------- */

static void send_all(struct net *net)
{
	struct virtio_chain *chain = &net->chain;

	net->blocked = false;
	while (virtio_pop(&net->device, QUEUE_SEND, chain)) {
		/* what is longer than any frame is lost; the driver gets its buffers back all the same */
		if (chain->out_bytes <= NET_PACKET_MAX &&
		    !net->backend->ops->send(net->backend, chain->out, chain->out_count, (u32)chain->out_bytes)) {
			virtio_unpop(&net->device, QUEUE_SEND);
			net->blocked = true;
			break;
		}
		virtio_push(&net->device, QUEUE_SEND, chain, 0);
	}
	virtio_notify(&net->device, QUEUE_SEND);
}

/* Both directions, until each waits for somebody else. */
static void pump(struct net *net)
{
	struct net_backend *backend = net->backend;

	do {
		send_all(net);
		receive_all(net);
		backend->ops->flush(backend);
	} while (!backend->ops->wait(backend, !net->starved, net->blocked));
}

static void on_ready(void *opaque)
{
	pump(opaque);
}

static void on_lost(void *opaque)
{
	struct net *net = opaque;

	net->config.status &= (u16)~STATUS_LINK_UP;
	virtio_config_changed(&net->device);
	/* what the driver still sends goes nowhere, but it gets its buffers back */
	pump(net);
}

/* --- the control queue ------------------------------------------------------------------------------------------- */

/* The command's data, copied out of the chain. */
struct command_data {
	const struct virtio_chain *chain;
	u64 offset;
};

static bool take(struct command_data *data, void *to, u64 size)
{
	if (virtio_copy_from(data->chain, data->offset, to, size) != size)
		return false;
	data->offset += size;
	return true;
}

static bool take_switch(struct command_data *data, bool *to)
{
	u8 on;

	if (!take(data, &on, sizeof(on)))
		return false;
	*to = on;
	return true;
}

static bool take_table(struct command_data *data, struct mac_table *table)
{
	u32 count;

	if (!take(data, &count, sizeof(count)))
		return false;
	table->count = count < TABLE_MAX ? count : TABLE_MAX;
	table->all = count > TABLE_MAX;
	if (!take(data, table->address, (u64)table->count * MAC_SIZE))
		return false;
	data->offset += (u64)(count - table->count) * MAC_SIZE;
	return true;
}

static bool take_tables(struct net *net, struct command_data *data)
{
	struct mac_table unicast, multicast;

	if (!take_table(data, &unicast) || !take_table(data, &multicast))
		return false;
	net->filter.unicast = unicast;
	net->filter.multicast = multicast;
	return true;
}

static bool obey(struct net *net, struct command_data *data)
{
	u8 command[2];

	if (!take(data, command, sizeof(command)))
		return false;
	net->filter.used = true;
	switch (COMMAND(command[0], command[1])) {
	case COMMAND_PROMISCUOUS:
		return take_switch(data, &net->filter.promiscuous);
	case COMMAND_ALL_MULTICAST:
		return take_switch(data, &net->filter.all_multicast);
	case COMMAND_MAC_TABLE:
		return take_tables(net, data);
	case COMMAND_MAC_ADDRESS:
		return take(data, net->config.mac, sizeof(net->config.mac));
	default:
		return false;
	}
}

static void control(struct net *net)
{
	struct virtio_chain *chain = &net->chain;

	while (virtio_pop(&net->device, QUEUE_CONTROL, chain)) {
		struct command_data data = {.chain = chain};
		const u8 answer = obey(net, &data) ? COMMAND_OK : COMMAND_FAILED;

		virtio_push(&net->device, QUEUE_CONTROL, chain, (u32)virtio_copy_to(chain, 0, &answer, sizeof(answer)));
	}
	virtio_notify(&net->device, QUEUE_CONTROL);
}

/* --- the device -------------------------------------------------------------------------------------------------- */

static u32 agreed_offloads(u64 features)
{
	return (features & F_GUEST_CSUM ? NET_OFFLOAD_CSUM : 0) | (features & F_GUEST_TSO4 ? NET_OFFLOAD_TSO4 : 0) |
	       (features & F_GUEST_TSO6 ? NET_OFFLOAD_TSO6 : 0);
}

static void start(struct virtio_device *device)
{
	struct net *net = net_of(device);

	net->backend->ops->set_offloads(net->backend, agreed_offloads(device->features));
	pump(net);
}

/* No buffer is held between two calls: there is nothing to wait for. */
static void reset(struct virtio_device *device)
{
	struct net *net = net_of(device);

	net->filter = (struct filter){.used = false};
	net->starved = net->blocked = false;
	net->backend->ops->set_offloads(net->backend, 0);
}

static void kick(struct virtio_device *device, unsigned queue)
{
	struct net *net = net_of(device);

	if (queue == QUEUE_CONTROL) {
		control(net);
		return;
	}
	if (queue == QUEUE_RECEIVE)
		net->starved = false;
	pump(net);
}

static void release(struct virtio_device *device)
{
	struct net *net = net_of(device);

	if (net->backend)
		net->backend->ops->close(net->backend);
	virtio_chain_release(&net->first);
	virtio_chain_release(&net->chain);
	free(net);
}

static const struct virtio_ops ops = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000,
	.queue_count = QUEUES,
	.queue_size = QUEUE_SIZE,
	.config_size = sizeof(struct net_device_config),
	.start = start,
	.reset = reset,
	.kick = kick,
	.release = release,
};

static void set_config(struct net *net, const struct net_config *config)
{
	net->device.offered = F_CSUM | F_GUEST_CSUM | F_MAC | F_GUEST_TSO4 | F_GUEST_TSO6 | F_HOST_TSO4 | F_HOST_TSO6 |
			      F_MRG_RXBUF | F_STATUS | F_CTRL_VQ | F_CTRL_RX | F_CTRL_MAC_ADDR;
	if (config->has_mtu)
		net->device.offered |= F_MTU;
	memcpy(net->config.mac, config->mac, MAC_SIZE);
	net->config.status = STATUS_LINK_UP;
	net->config.max_virtqueue_pairs = 1;
	net->config.mtu = config->mtu;
	net->device.config = (u8 *)&net->config;
}

int virtio_net_create(struct vm *vm, const struct net_config *config, struct err *err)
{
	struct net *net = calloc(1, sizeof(*net));

	if (!net || virtio_chain_init(&net->first) < 0 || virtio_chain_init(&net->chain) < 0) {
		err_set(err, "out of memory for '%s'", ops.name);
		goto fail;
	}
	net->device.ops = &ops;
	net->device.vm = vm;
	set_config(net, config);
	net->backend = net_user_open(config, vm->poller, err);
	if (!net->backend)
		goto fail;
	net->backend->ready = on_ready;
	net->backend->lost = on_lost;
	net->backend->opaque = net;
	if (virtio_add(&net->device, err) < 0)
		goto fail;
	return 0;
fail:
	if (net)
		release(&net->device);
	return -1;
}

int virtio_net_start(struct vm *vm, struct err *err)
{
	for (struct virtio_device *device = vm->virtio; device; device = device->next) {
		struct net *net = net_of(device);

		if (device->ops == &ops && net->backend->ops->start(net->backend, err) < 0)
			return -1;
	}
	return 0;
}
