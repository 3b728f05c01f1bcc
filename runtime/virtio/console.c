/*
 * Console (virtio 1.2, 5.3) with one port: bytes in both directions, the size of the host's terminal, and emergency
 * writes, which need no queue.
 */
#include "virtio/console.h"

#include "dev/console.h"
#include "util/err.h"
#include "virtio/devices.h"
#include "virtio/virtio.h"
#include "vm.h"

#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 64

enum { RECEIVE_QUEUE, TRANSMIT_QUEUE, QUEUES };

#define FEATURE_SIZE            BIT(0)
#define FEATURE_EMERGENCY_WRITE BIT(2)

/* The configuration (5.3.4). */
#define CONFIG_COLUMNS   0
#define CONFIG_ROWS      2
#define CONFIG_EMERGENCY 8
#define CONFIG_BYTES     12

/* So much is copied out of a chain at a time. */
#define PIECE 4096

struct virtio_console {
	struct virtio_device device;
	struct virtio_chain chain;
	struct console *far;
	bool blocked;        /* output waits in the queue: there was no room for it */
	int held;            /* input for which there was no buffer, or -1 */
	u16 columns, rows;   /* that the driver was told */
	bool kicked[QUEUES]; /* since the driver started */
	u8 config[CONFIG_BYTES];
};

/* --- output ------------------------------------------------------------------------------------------------------- */

static void put_chain(struct virtio_console *console)
{
	u8 piece[PIECE];
	u64 size;

	for (u64 at = 0; (size = virtio_copy_from(&console->chain, at, piece, sizeof(piece))); at += size)
		for (u64 i = 0; i < size; i++)
			console->far->put(console->far, piece[i]);
}

/* What the far end has no room for stays in the queue: a driver that waits for it loses nothing. */
static void transmit(struct virtio_console *console)
{
	struct console *far = console->far;

	console->blocked = far->full && far->full(far);
	while (!console->blocked && virtio_pop(&console->device, TRANSMIT_QUEUE, &console->chain)) {
		put_chain(console);
		virtio_push(&console->device, TRANSMIT_QUEUE, &console->chain, 0);
		console->blocked = far->full && far->full(far);
	}
	far->flush(far);
	virtio_notify(&console->device, TRANSMIT_QUEUE);
}

/* --- input -------------------------------------------------------------------------------------------------------- */

static bool has_input(struct virtio_console *console)
{
	if (console->held < 0)
		console->held = console->far->get(console->far);
	return console->held >= 0;
}

/* Fills a chain with what there is. */
static u32 fill(struct virtio_console *console)
{
	const struct virtio_chain *chain = &console->chain;
	u32 filled = 0;

	for (unsigned i = 0; i < chain->in_count; i++) {
		u8 *to = chain->in[i].iov_base;

		for (u64 k = 0; k < chain->in[i].iov_len && has_input(console); k++) {
			to[k] = (u8)console->held;
			console->held = -1;
			filled++;
		}
	}
	return filled;
}

static void receive(struct virtio_console *console)
{
	struct virtio_device *device = &console->device;

	if (!has_input(console))
		return;
	while (has_input(console) && virtio_pop(device, RECEIVE_QUEUE, &console->chain)) {
		if (!console->chain.in_bytes) {
			virtio_broken(device, "a buffer for input without room");
			return;
		}
		virtio_push(device, RECEIVE_QUEUE, &console->chain, fill(console));
	}
	virtio_notify(device, RECEIVE_QUEUE);
}

/* --- size --------------------------------------------------------------------------------------------------------- */

/* Whether it is another one than before. */
static bool take_size(struct virtio_console *console)
{
	struct console *far = console->far;
	u16 columns, rows;

	if (!far->size || !far->size(far, &columns, &rows) || (columns == console->columns && rows == console->rows))
		return false;
	console->columns = columns;
	console->rows = rows;
	memcpy(console->config + CONFIG_COLUMNS, &columns, sizeof(columns));
	memcpy(console->config + CONFIG_ROWS, &rows, sizeof(rows));
	return true;
}

/* --- the device --------------------------------------------------------------------------------------------------- */

void virtio_console_poll(struct virtio_console *console)
{
	if (take_size(console) && (console->device.features & FEATURE_SIZE))
		virtio_config_changed(&console->device);
	if (console->device.running && console->blocked)
		transmit(console);
	else
		console->far->flush(console->far);
	if (console->device.running)
		receive(console);
}

static void start(struct virtio_device *device)
{
	struct virtio_console *console = (struct virtio_console *)device;

	memset(console->kicked, 0, sizeof(console->kicked));
}

/*
 * Linux' driver reads the size only when it is told that it has changed, and not before it has set up its port. There
 * is no sign of that: it offers buffers shortly before, and has output afterwards.
 */
static void tell_size(struct virtio_console *console, unsigned queue)
{
	if (!console->kicked[queue] && (console->device.features & FEATURE_SIZE))
		virtio_config_changed(&console->device);
	console->kicked[queue] = true;
}

static void kick(struct virtio_device *device, unsigned queue)
{
	struct virtio_console *console = (struct virtio_console *)device;

	tell_size(console, queue);
	if (queue == TRANSMIT_QUEUE)
		transmit(console);
	else
		receive(console);
}

/* A byte for whoever is there, also before the queues are (5.3.5, 5.3.6.1). */
static void config_written(struct virtio_device *device, u32 offset, u32 size)
{
	struct virtio_console *console = (struct virtio_console *)device;

	if (offset != CONFIG_EMERGENCY || !size)
		return;
	console->far->put(console->far, console->config[CONFIG_EMERGENCY]);
	console->far->flush(console->far);
}

static void release(struct virtio_device *device)
{
	struct virtio_console *console = (struct virtio_console *)device;

	device->vm->virtio_console = NULL;
	virtio_chain_release(&console->chain);
	free(console);
}

int virtio_console_create(struct vm *vm, struct console *far, struct err *err)
{
	static const struct virtio_ops ops = {
		.name = "virtio-console",
		.id = VIRTIO_ID_CONSOLE,
		.pci_class = 0x078000,
		.queue_count = QUEUES,
		.queue_size = QUEUE_SIZE,
		.config_size = CONFIG_BYTES,
		.start = start,
		.kick = kick,
		.config_written = config_written,
		.release = release,
	};
	struct virtio_console *console = calloc(1, sizeof(*console));

	if (!console || virtio_chain_init(&console->chain) < 0) {
		free(console);
		return err_set(err, "out of memory for '%s'", ops.name);
	}
	console->device.ops = &ops;
	console->device.vm = vm;
	console->device.config = console->config;
	console->far = far;
	console->held = -1;
	console->device.offered = FEATURE_EMERGENCY_WRITE | (take_size(console) ? FEATURE_SIZE : 0);
	if (virtio_add(&console->device, err) < 0) {
		virtio_chain_release(&console->chain);
		free(console);
		return -1;
	}
	vm->virtio_console = console;
	return 0;
}
