/* What the virtio tests share: a machine with RAM on both sides of the hole, a device that does nothing, a driver. */
#ifndef AVANT_TEST_VIRTIO_MACHINE_H
#define AVANT_TEST_VIRTIO_MACHINE_H

#include "dev/platform.h"
#include "mem/mem.h"
#include "virtio/devices.h"
#include "virtio/transport.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* BAR 0: pages of the structures. */
#define COMMON 0x0000u
#define ISR    0x1000u
#define CONFIG 0x2000u
#define NOTIFY 0x3000u

#define HIGH_SIZE (4ULL << 20)

#define ACKNOWLEDGED (STATUS_ACKNOWLEDGE | STATUS_DRIVER)

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

/* Where the driver of the tests has things: queue n's areas, tables, data. */
#define QUEUE_AREA(n) (0x100000ULL + 0x10000 * (n))
#define DESCRIPTORS   0x0u
#define AVAILABLE     0x8000u
#define USED          0xa000u
#define TABLE         0x200000ULL
#define DATA          0x300000ULL

static struct vm *vm;

static struct probe {
	struct virtio_device device;
	u8 config[10];
	unsigned starts, resets, kicks, config_writes;
	u32 written_offset, written_size;
	unsigned last_kick;
	void (*on_kick)(struct probe *probe, unsigned queue);
} probe;

static struct virtio_device *device; /* the one under test */
static struct virtio_chain chain;
static unsigned queue_size; /* the queues have so many entries */

static void probe_start(struct virtio_device *started)
{
	assert_ptr_equal(started, device);
	assert_true(device->running);
	probe.starts++;
}

static void probe_reset(struct virtio_device *reset)
{
	assert_ptr_equal(reset, device);
	probe.resets++;
}

static void probe_kick(struct virtio_device *kicked, unsigned queue)
{
	assert_ptr_equal(kicked, device);
	assert_false(vm->vcpu->fpu_loaded);
	probe.kicks++;
	probe.last_kick = queue;
	if (probe.on_kick)
		probe.on_kick(&probe, queue);
}

static void probe_config_written(struct virtio_device *written, u32 offset, u32 size)
{
	assert_ptr_equal(written, device);
	probe.config_writes++;
	probe.written_offset = offset;
	probe.written_size = size;
}

static void probe_release(struct virtio_device *released)
{
	assert_ptr_equal(released, device);
}

static const struct virtio_ops probe_ops = {
	.name = "probe",
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x078000,
	.queue_count = 2,
	.queue_size = 256,
	.config_size = sizeof(probe.config),
	.start = probe_start,
	.reset = probe_reset,
	.kick = probe_kick,
	.config_written = probe_config_written,
	.release = probe_release,
};

/* A machine without devices. */
static inline void machine_build(void)
{
	struct err err = ERR_INIT;

	vm = calloc(1, sizeof(*vm));
	vm->vcpu = aligned_alloc(64, align_up(sizeof(struct vcpu), 64));
	memset(vm->vcpu, 0, sizeof(*vm->vcpu));
	vm->vcpu->vm = vm;
	assert_int_equal(clock_init(&vm->clock, CLOCK_SOURCE_INSTRUCTIONS, vm->vcpu, &err), 0);
	assert_int_equal(platform_create(vm, &err), 0);
	assert_int_equal(ram_init(&vm->ram, RAM_LOW_END + HIGH_SIZE, NULL), 0);
	assert_int_equal(virtio_chain_init(&chain), 0);
	queue_size = 8;
}

static inline void become_master(void)
{
	device->transport->pci.config[PCI_COMMAND] |= PCI_COMMAND_MASTER;
}

/* The probe is in it. */
static inline int virtio_setup(void **state)
{
	(void)state;
	machine_build();
	memset(&probe, 0, sizeof(probe));
	device = &probe.device;
	device->ops = &probe_ops;
	device->vm = vm;
	device->config = probe.config;
	device->offered = BIT(0) | BIT(40);
	assert_int_equal(virtio_add(device, NULL), 0);
	become_master();
	return 0;
}

static inline int virtio_teardown(void **state)
{
	(void)state;
	virtio_chain_release(&chain);
	virtio_destroy_all(vm);
	ram_release(&vm->ram);
	platform_destroy(vm);
	clock_release(&vm->clock);
	free(vm->vcpu);
	free(vm);
	return 0;
}

/* --- the driver -------------------------------------------------------------------------------------------------- */

static inline u64 bar0(void)
{
	const u8 *at = device->transport->pci.config + PCI_BAR0;

	return (u64)at[0] | (u64)at[1] << 8 | (u64)at[2] << 16 | (u64)at[3] << 24;
}

static inline u64 get(u32 offset, unsigned size)
{
	return bus_read(&vm->mmio, bar0() + offset, size);
}

static inline void set(u32 offset, unsigned size, u64 value)
{
	bus_write(&vm->mmio, bar0() + offset, size, value);
}

static inline u8 status(void)
{
	return (u8)get(COMMON + 20, 1);
}

static inline void set_status(u8 value)
{
	set(COMMON + 20, 1, value);
}

static inline void accept_features(u64 features)
{
	for (unsigned i = 0; i < 2; i++) {
		set(COMMON + 8, 4, i);
		set(COMMON + 12, 4, (u32)(features >> 32 * i));
	}
}

static inline void set_queue(unsigned n, u64 descriptors, u64 available, u64 used, unsigned size)
{
	const u64 address[3] = {descriptors, available, used};

	set(COMMON + 22, 2, n);
	set(COMMON + 24, 2, size);
	for (unsigned i = 0; i < 3; i++)
		set(COMMON + 32 + 8 * i, 8, address[i]);
	set(COMMON + 26, 2, n + 1);
	set(COMMON + 28, 2, 1);
}

/* Brings the device up with both queues. */
static inline void start_driver(u64 features)
{
	set_status(ACKNOWLEDGED);
	accept_features(features | VIRTIO_F_VERSION_1);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK);
	assert_int_equal(status(), ACKNOWLEDGED | STATUS_FEATURES_OK);
	for (unsigned n = 0; n < device->ops->queue_count; n++)
		set_queue(n, QUEUE_AREA(n) + DESCRIPTORS, QUEUE_AREA(n) + AVAILABLE, QUEUE_AREA(n) + USED, queue_size);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	assert_int_equal(status(), ACKNOWLEDGED | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

static inline bool is_broken(void)
{
	return status() & STATUS_NEEDS_RESET;
}

static inline void *guest(u64 gpa)
{
	return ram_at(&vm->ram, gpa);
}

static inline void descriptor_at(u64 table, unsigned n, u64 address, u32 length, u16 flags, u16 next)
{
	u8 *at = guest(table + 16 * (u64)n);

	memcpy(at, &address, 8);
	memcpy(at + 8, &length, 4);
	memcpy(at + 12, &flags, 2);
	memcpy(at + 14, &next, 2);
}

static inline void descriptor(unsigned n, u64 address, u32 length, u16 flags, u16 next)
{
	descriptor_at(QUEUE_AREA(0) + DESCRIPTORS, n, address, length, flags, next);
}

static inline u16 *available_word(unsigned n)
{
	return guest(QUEUE_AREA(0) + AVAILABLE + 2 * (u64)n);
}

/* Makes the chain at `head` available; `used_event` is kept. */
static inline void offer(u16 head)
{
	u16 *index = available_word(1);

	*available_word(2 + *index % queue_size) = head;
	++*index;
}

static inline u16 *used_word(unsigned n)
{
	return guest(QUEUE_AREA(0) + USED + 2 * (u64)n);
}

static inline u16 used_index(void)
{
	return *used_word(1);
}

/* Entry n of the used ring: head and length. */
static inline u32 *used_entry(unsigned n)
{
	return guest(QUEUE_AREA(0) + USED + 4 + 8 * (u64)(n % queue_size));
}

static inline u16 *used_event(void)
{
	return available_word(2 + queue_size);
}

static inline u16 *avail_event(void)
{
	return guest(QUEUE_AREA(0) + USED + 4 + 8 * (u64)queue_size);
}

static inline bool pop(void)
{
	return virtio_pop(device, 0, &chain);
}

#endif
