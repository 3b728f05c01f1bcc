/*
 * Fuzzes what a guest's driver can do to virtio devices: registers, configuration space, the contents of rings,
 * descriptors and requests. There are four devices: one that keeps chains and returns them when told, a disk that
 * answers when told, the source of entropy, and a console with a little input. The input is a list of operations, see
 *operation(). Guest memory has pages around it that nobody may touch.
 *
 * CTest runs it on random inputs (random_inputs.c). To let libFuzzer find its way, build by hand:
 *
 *	cmake -B build-fuzz -DCMAKE_C_COMPILER=clang -DAVANT_TESTS=OFF \
 *		-DCMAKE_C_FLAGS=-fsanitize=fuzzer-no-link,address,undefined
 *	cmake --build build-fuzz
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_virtio_ring.c \
 *		-Wl,--start-group build-fuzz/runtime/[a-z]*.a build-fuzz/cache-format/[a-z]*.a -Wl,--end-group \
 *		-lZydis -lsodium -lxxhash -lelf -llz4 -llzma -lzstd -lz -o fuzz_virtio_ring
 */
#include "dev/console.h"
#include "dev/platform.h"
#include "disk/disk.h"
#include "virtio/console.h"
#include "virtio/devices.h"
#include "virtio/transport.h"
#include "vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

#define RAM_SIZE   (1ULL << 20)
#define GUARD_SIZE (64ULL << 10)
#define AREA       0x1000ULL /* each device's queue and what its descriptors like to name */
#define AREA_SIZE  0x1000ULL
#define DISK_SIZE  (16ULL * DISK_SECTOR)
#define HELD_MAX   64
#define DEVICES    4

static struct vm vm;
static struct virtio_device *devices[DEVICES]; /* probe, disk, entropy, console */

struct input {
	const u8 *data;
	size_t size;
};

static u64 take(struct input *input, unsigned size)
{
	u64 value = 0;

	for (unsigned i = 0; i < size && input->size; i++, input->size--)
		value |= (u64)*input->data++ << 8 * i;
	return value;
}

/* --- the device that keeps chains --------------------------------------------------------------------------------- */

static struct virtio_device probe;
static struct virtio_chain held[HELD_MAX];
static unsigned held_count;
static u8 probe_config[16];

static void check_pieces(const struct iovec *iov, unsigned count, u64 bytes)
{
	u64 sum = 0;

	for (unsigned i = 0; i < count; i++) {
		const u64 at = (u64)((u8 *)iov[i].iov_base - vm.ram.host);

		CHECK(iov[i].iov_len && at < RAM_SIZE && iov[i].iov_len <= RAM_SIZE - at);
		sum += iov[i].iov_len;
	}
	CHECK(sum == bytes);
}

/* Takes chains while there is room for them. */
static void pop_all(void)
{
	while (held_count < HELD_MAX && virtio_pop(&probe, 0, &held[held_count])) {
		struct virtio_chain *chain = &held[held_count++];
		u8 bytes[300];

		CHECK(chain->out_count + chain->in_count <= VIRTIO_CHAIN_MAX);
		check_pieces(chain->out, chain->out_count, chain->out_bytes);
		check_pieces(chain->in, chain->in_count, chain->in_bytes);
		CHECK(virtio_copy_from(chain, 0, bytes, sizeof(bytes)) ==
		      (chain->out_bytes < sizeof(bytes) ? chain->out_bytes : sizeof(bytes)));
		virtio_copy_to(chain, bytes[0], bytes, sizeof(bytes));
	}
}

static void push_one(u32 written)
{
	struct virtio_chain last;

	if (!held_count)
		return;
	last = held[--held_count];
	virtio_push(&probe, 0, &last, written <= last.in_bytes ? written : (u32)last.in_bytes);
}

static void probe_kick(struct virtio_device *device, unsigned queue)
{
	CHECK(device->running && queue == 0);
	pop_all();
}

static void probe_reset(struct virtio_device *device)
{
	CHECK(device->running);
	held_count = 0;
}

static void probe_config_written(struct virtio_device *device, u32 offset, u32 size)
{
	(void)device;
	CHECK(size && offset + size <= sizeof(probe_config));
}

static void probe_release(struct virtio_device *device)
{
	(void)device;
}

/* --- the disk ----------------------------------------------------------------------------------------------------- */

struct disk {
	u8 data[DISK_SIZE];
	struct disk_request *waiting;
	bool at_once;
};

static struct disk disk;

struct disk *disk_open(const struct disk_config *config, struct poller *poller, struct err *err)
{
	(void)config, (void)poller, (void)err;
	return &disk;
}

void disk_close(struct disk *closed)
{
	(void)closed;
}

static void answer(struct disk_request *request, int error)
{
	u64 at = request->offset;

	CHECK(request->offset <= DISK_SIZE && request->length <= DISK_SIZE - request->offset);
	CHECK(request->offset % DISK_SECTOR == 0 && request->length % DISK_SECTOR == 0);
	for (unsigned i = 0; i < request->iov_count && request->op <= DISK_WRITE; i++) {
		const struct iovec *iov = &request->iov[i];

		CHECK(iov->iov_len <= request->offset + request->length - at);
		if (request->op == DISK_READ)
			memcpy(iov->iov_base, disk.data + at, iov->iov_len);
		else
			memcpy(disk.data + at, iov->iov_base, iov->iov_len);
		at += iov->iov_len;
	}
	CHECK(request->op > DISK_WRITE || at == request->offset + request->length);
	request->done(request, error);
}

void disk_submit(struct disk *to, struct disk_request *request)
{
	if (to->at_once) {
		answer(request, 0);
		return;
	}
	request->next = to->waiting;
	to->waiting = request;
}

static void answer_one(int error)
{
	struct disk_request *request = disk.waiting;

	if (!request)
		return;
	disk.waiting = request->next;
	answer(request, error);
}

void disk_drain(struct disk *drained)
{
	while (drained->waiting)
		answer_one(0);
}

void disk_begin_batch(struct disk *batch)
{
	(void)batch;
}

void disk_end_batch(struct disk *batch)
{
	(void)batch;
}

u64 disk_size(const struct disk *asked)
{
	return sizeof(asked->data);
}

bool disk_readonly(const struct disk *asked)
{
	(void)asked;
	return false;
}

bool disk_can_discard(const struct disk *asked)
{
	(void)asked;
	return true;
}

/* --- the console's far end ---------------------------------------------------------------------------------------- */

static u64 put_bytes;
static unsigned input_left;

static void far_put(struct console *console, u8 byte)
{
	(void)console, (void)byte;
	put_bytes++;
}

static int far_get(struct console *console)
{
	(void)console;
	return input_left ? (int)(--input_left & 0xff) : -1;
}

static void far_flush(struct console *console)
{
	(void)console;
}

static bool far_full(struct console *console)
{
	(void)console;
	return put_bytes % 1000 > 900;
}

static bool far_size(struct console *console, u16 *columns, u16 *rows)
{
	(void)console;
	*columns = 80;
	*rows = 25;
	return true;
}

static struct console far = {.put = far_put, .get = far_get, .flush = far_flush, .full = far_full, .size = far_size};

/* --- the machine -------------------------------------------------------------------------------------------------- */

static void build_ram(void)
{
	u8 *at = mmap(NULL, RAM_SIZE + 2 * GUARD_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(at != MAP_FAILED);
	vm.ram.host = at + GUARD_SIZE;
	CHECK(mprotect(vm.ram.host, RAM_SIZE, PROT_READ | PROT_WRITE) == 0);
	vm.ram.size = vm.ram.low = RAM_SIZE;
	vm.ram.frames = calloc(1, RAM_SIZE >> PAGE_SHIFT);
	CHECK(vm.ram.frames);
}

static void build(void)
{
	static const struct virtio_ops ops = {
		.name = "probe",
		.id = VIRTIO_ID_CONSOLE,
		.queue_count = 1,
		.queue_size = 64,
		.config_size = sizeof(probe_config),
		.reset = probe_reset,
		.kick = probe_kick,
		.config_written = probe_config_written,
		.release = probe_release,
	};
	static const struct vm_disk config = {.config.path = "disk"};
	static struct vcpu vcpu;

	vcpu.vm = &vm;
	vm.vcpu = &vcpu;
	build_ram();
	CHECK(clock_init(&vm.clock, CLOCK_SOURCE_INSTRUCTIONS, &vcpu, NULL) == 0);
	CHECK(platform_create(&vm, NULL) == 0);
	probe = (struct virtio_device){.ops = &ops, .vm = &vm, .config = probe_config};
	CHECK(virtio_add(&probe, NULL) == 0);
	CHECK(virtio_blk_create(&vm, &config, NULL) == 0);
	devices[1] = vm.virtio;
	CHECK(virtio_rng_create(&vm, NULL) == 0);
	devices[2] = vm.virtio;
	CHECK(virtio_console_create(&vm, &far, NULL) == 0);
	devices[3] = vm.virtio;
	devices[0] = &probe;
	for (unsigned i = 0; i < HELD_MAX; i++)
		CHECK(virtio_chain_init(&held[i]) == 0);
}

static u64 bar_address(const struct virtio_device *device, unsigned bar)
{
	u32 address;

	memcpy(&address, device->transport->pci.config + PCI_BAR0 + 4 * (u64)bar, 4);
	return address;
}

static u64 ecam(const struct virtio_device *device)
{
	return PCI_ECAM + ((u64)device->transport->pci.slot << 15);
}

static void config_write(const struct virtio_device *device, u64 offset, unsigned size, u64 value)
{
	bus_write(&vm.mmio, ecam(device) + offset, size, value);
}

/* Every input finds the machine like this. */
static void power_on(void)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		struct pci_device *pci = &devices[i]->transport->pci;

		config_write(devices[i], PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		config_write(devices[i], PCI_BAR0, 4, PCI_MMIO_BASE + 0x10000ULL * i);
		config_write(devices[i], PCI_BAR0 + 4, 4, PCI_MMIO_BASE + 0x10000ULL * i + 0x8000);
		config_write(devices[i], pci->msix.capability + 2u, 2, 0);
		bus_write(&vm.mmio, bar_address(devices[i], 0) + 20, 1, 0);
	}
	memset(vm.ram.host, 0, AREA + DEVICES * AREA_SIZE);
	memset(vm.ram.frames, 0, RAM_SIZE >> PAGE_SHIFT);
	disk.at_once = false;
	put_bytes = 0;
	input_left = 300;
	CHECK(!disk.waiting && !held_count);
}

/* What a good driver does, for the fuzzer has better things to find out. */
static void bring_up(unsigned n, u64 features, unsigned size)
{
	const u64 registers = bar_address(devices[n], 0), area = AREA + n * AREA_SIZE;
	const u64 addresses[3] = {area, area + 0x400, area + 0x500};

	features |= VIRTIO_F_VERSION_1;
	bus_write(&vm.mmio, registers + 20, 1, 0);
	bus_write(&vm.mmio, registers + 20, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		bus_write(&vm.mmio, registers + 8, 4, i);
		bus_write(&vm.mmio, registers + 12, 4, features >> 32 * i);
	}
	bus_write(&vm.mmio, registers + 20, 1, STATUS_FEATURES_OK);
	/* all queues have the same memory */
	for (unsigned queue = 0; queue < devices[n]->ops->queue_count; queue++) {
		bus_write(&vm.mmio, registers + 22, 2, queue);
		bus_write(&vm.mmio, registers + 24, 2, size);
		for (unsigned i = 0; i < 3; i++)
			bus_write(&vm.mmio, registers + 32 + 8 * i, 8, addresses[i]);
		bus_write(&vm.mmio, registers + 28, 2, 1);
	}
	bus_write(&vm.mmio, registers + 20, 1, STATUS_DRIVER_OK);
}

static void write_ram(struct input *input, u64 address)
{
	for (unsigned left = (unsigned)take(input, 1) % 64; left && address < RAM_SIZE; left--)
		vm.ram.host[address++] = (u8)take(input, 1);
}

/* One descriptor; addresses of 16 bits are in RAM, others anywhere. */
static void write_descriptor(struct input *input, unsigned n)
{
	const u64 kind = take(input, 1);
	u8 *at = vm.ram.host + AREA + n * AREA_SIZE + 16 * (kind & 31);
	const u64 address = take(input, kind & 0x80 ? 8 : 2);
	const u32 length = (u32)take(input, kind & 0x40 ? 4 : 1);
	const u16 flags = (u16)(take(input, 1) & 7), next = (u16)(take(input, 1) & 0x23);

	memcpy(at, &address, 8);
	memcpy(at + 8, &length, 4);
	memcpy(at + 12, &flags, 2);
	memcpy(at + 14, &next, 2);
}

static void offer(unsigned n, u16 head)
{
	u8 *at = vm.ram.host + AREA + n * AREA_SIZE + 0x400;
	u16 index;

	memcpy(&index, at + 2, 2);
	for (unsigned size = 1; size <= 64; size *= 2) /* whatever the queue's size is */
		memcpy(at + 4 + 2 * (index % size), &head, 2);
	index++;
	memcpy(at + 2, &index, 2);
}

/* A chain that the disk takes for a request, or nearly one. */
static void write_request(struct input *input, unsigned n)
{
	const u32 type = (u32)take(input, 1) % 16;
	const u64 sector = take(input, 1) % 20, kind = take(input, 1), at = 0x8000 + 0x1000 * take(input, 1);
	const u64 size = kind & 0xc0 ? kind % 4 * 512 : kind * 16;
	u8 *table = vm.ram.host + AREA + n * AREA_SIZE;
	const bool in = type == 0 || type == 8;
	const struct {
		u64 address;
		u32 length;
		u16 flags, next;
	} chain[3] = {
		{at % RAM_SIZE, 16, 1, 1},
		{(at + 16) % RAM_SIZE, (u32)size, in ? 3 : 1, 2},
		{0x7000, 1 + kind / 4 % 2, 2, 0},
	};

	memcpy(vm.ram.host + at % RAM_SIZE, &type, 4);
	memcpy(vm.ram.host + at % RAM_SIZE + 8, &sector, 8);
	memcpy(table, chain, sizeof(chain));
	offer(n, 0);
}

/* All messages of the device are sent, as the vector that the input says. */
static void enable_msix(struct input *input, unsigned n)
{
	const struct pci_device *pci = &devices[n]->transport->pci;
	const u64 table = bar_address(devices[n], 1);

	for (unsigned i = 0; i < pci->msix.count; i++) {
		bus_write(&vm.mmio, table + 16 * i, 4, MMIO_LAPIC);
		bus_write(&vm.mmio, table + 16 * i + 8, 4, take(input, 1));
		bus_write(&vm.mmio, table + 16 * i + 12, 4, 0);
	}
	config_write(devices[n], pci->msix.capability + 2u, 2, take(input, 2) | 0x8000);
	bus_write(&vm.mmio, MMIO_LAPIC + 0xf0, 4, 0x1ff);
}

/* An access through the window in configuration space. */
static void use_window(struct input *input, unsigned n)
{
	const unsigned at = devices[n]->transport->access_capability;

	config_write(devices[n], at + 4, 1, take(input, 1) % 8);
	config_write(devices[n], at + 8, 4, take(input, 2));
	config_write(devices[n], at + 12, 4, take(input, 1) % 8);
	bus_read(&vm.mmio, ecam(devices[n]) + at + 16, 4);
	config_write(devices[n], at + 16, 4, take(input, 4));
}

static void operation(struct input *input)
{
	const u64 code = take(input, 1);
	const unsigned n = (unsigned)(code >> 5) % DEVICES;
	struct virtio_device *device = devices[n];
	const u64 registers = bar_address(device, 0);
	u64 offset;
	unsigned size;

	switch (code & 0x1f) {
	case 0: /* a register, often one of the common structure */
	case 1:
		size = 1u << take(input, 1) % 4;
		offset = take(input, 1);
		bus_write(&vm.mmio, registers + (code & 1 ? offset % 64 : offset * 0x40), size, take(input, size));
		break;
	case 2:
		size = 1u << take(input, 1) % 4;
		bus_read(&vm.mmio, registers + take(input, 2) % 0x4000, size);
		break;
	case 3:
		offset = take(input, 1);
		size = 1u << take(input, 1) % 4;
		config_write(device, offset, size, take(input, size));
		break;
	case 4:
		bus_read(&vm.mmio, ecam(device) + take(input, 1), 1u << take(input, 1) % 4);
		break;
	case 5:
		offset = take(input, 2) % MSIX_BAR_SIZE;
		size = 1u << take(input, 1) % 4;
		bus_write(&vm.mmio, bar_address(device, 1) + offset, size, take(input, size));
		break;
	case 6:
		bus_write(&vm.mmio, (u32)take(input, 4), 4, take(input, 4));
		break;
	case 7:
		offset = take(input, 1);
		bring_up(n, offset % 4 * VIRTIO_F_INDIRECT_DESC | (offset & 0x80 ? device->offered : 0),
			 1u << take(input, 1) % 8);
		break;
	case 8:
		offset = take(input, 4);
		bring_up(n, offset | take(input, 1) << 32, (unsigned)take(input, 1));
		break;
	case 9:
		write_ram(input, AREA + n * AREA_SIZE + take(input, 2) % AREA_SIZE);
		break;
	case 10:
		write_ram(input, take(input, 3) % RAM_SIZE);
		break;
	case 11:
	case 12:
	case 13:
		write_descriptor(input, n);
		break;
	case 14:
	case 15:
		offer(n, (u16)take(input, 1));
		break;
	case 16:
	case 17:
		bus_write(&vm.mmio, registers + 0x3000 + 4 * (code & 1), 2, code & 1);
		break;
	case 18:
		push_one((u32)take(input, 2));
		break;
	case 19:
		virtio_unpop(&probe, 0);
		held_count -= held_count > 0;
		break;
	case 20:
		for (unsigned i = 0; i < held_count; i++)
			virtio_fill(&probe, 0, &held[i], 1, i);
		virtio_flush(&probe, 0, held_count);
		held_count = 0;
		break;
	case 21:
		virtio_notify(device, 0);
		break;
	case 22:
		virtio_config_changed(device);
		break;
	case 23:
		pop_all();
		virtio_console_poll(vm.virtio_console);
		break;
	case 24:
		answer_one(code & 0x20 ? 5 : 0);
		break;
	case 25:
		disk.at_once = code & 0x20;
		break;
	case 26:
		write_request(input, n);
		break;
	case 27:
		vm.ram.frames[take(input, 1)] |= FRAME_CODE;
		break;
	case 28:
		enable_msix(input, n);
		break;
	case 29:
		if (take(input, 1) == 0)
			virtio_broken(device, "the fuzzer says so");
		break;
	case 30:
		use_window(input, n);
		break;
	default:
		config_write(device, PCI_COMMAND, 2, take(input, 1));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	if (!vm.vcpu)
		build();
	power_on();
	while (input.size)
		operation(&input);
	/* nothing is left to touch guest memory when all is reset */
	power_on();
	return 0;
}
