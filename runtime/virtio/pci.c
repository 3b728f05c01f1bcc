/*
 * virtio over PCI, modern only (virtio 1.2, 4.1): the registers. They are reached while the guest's vector state is in
 * the host's registers, so this file is compiled for general registers only; the device's own code is ordinary C and
 * runs between begin_ordinary() and end_ordinary().
 */
#include "virtio/transport.h"

#include "cpu/vcpu.h"
#include "util/bytes.h"
#include "vm.h"

#define VENDOR_VIRTIO   0x1af4u
#define DEVICE_MODERN   0x1040u /* + virtio_id */
#define SUBSYSTEM_PLAIN 0x1100u /* 0x40 or above says nothing of the device (4.1.2.1) */

/* BAR 0: a page for each structure; BAR 1: MSI-X. */
enum { BAR_REGISTERS, BAR_MSIX };
#define REGION_SIZE   PAGE_SIZE
#define REGION_COMMON 0u
#define REGION_ISR    1u
#define REGION_CONFIG 2u
#define REGION_NOTIFY 3u
#define REGION_COUNT  4u

#define NOTIFY_MULTIPLIER 4u

/* The common configuration structure (4.1.4.3), without what belongs to features that are not offered. */
enum {
	COMMON_DEVICE_FEATURE_SELECT = 0,
	COMMON_DEVICE_FEATURE = 4,
	COMMON_DRIVER_FEATURE_SELECT = 8,
	COMMON_DRIVER_FEATURE = 12,
	COMMON_CONFIG_VECTOR = 16,
	COMMON_QUEUE_COUNT = 18,
	COMMON_STATUS = 20,
	COMMON_GENERATION = 21,
	COMMON_QUEUE_SELECT = 22,
	COMMON_QUEUE_SIZE = 24,
	COMMON_QUEUE_VECTOR = 26,
	COMMON_QUEUE_ENABLE = 28,
	COMMON_QUEUE_NOTIFY_OFF = 30,
	COMMON_QUEUE_ADDRESS = 32, /* three of 64 bits */
	COMMON_SIZE = 56,
};

/* Numbers of the structures in capabilities (4.1.4). */
enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_ISR = 3, CFG_DEVICE = 4, CFG_ACCESS = 5 };

/* Offsets in such a capability. */
enum { CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_DATA = 16, CAP_SIZE = 16 };

/* Ordinary C may use vector registers: the guest's are put away for it, and come back if they were there. */
static bool begin_ordinary(struct virtio_transport *t)
{
	struct vcpu *v = t->device->vm->vcpu;
	const bool loaded = v->fpu_loaded;

	vcpu_fpu_lend(v);
	return loaded;
}

static void end_ordinary(struct virtio_transport *t, bool loaded)
{
	if (loaded)
		vcpu_fpu_get(t->device->vm->vcpu);
}

/* --- interrupts -------------------------------------------------------------------------------------------------- */

void transport_interrupt(struct virtio_transport *t, u16 vector, u8 isr)
{
	t->device->vm->stats.virtio_interrupts++;
	t->figures.interrupts++;
	if (msix_enabled(&t->pci.msix)) {
		msix_raise(&t->pci, vector); /* NO_VECTOR is beyond the table */
		return;
	}
	t->isr |= isr;
	pci_set_line(&t->pci, true);
}

static u8 take_isr(struct virtio_transport *t)
{
	const u8 isr = t->isr;

	t->isr = 0;
	pci_set_line(&t->pci, false);
	return isr;
}

/* --- status ------------------------------------------------------------------------------------------------------ */

static u64 offered_features(const struct virtio_transport *t)
{
	return t->device->offered | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
}

static void clear_registers(struct virtio_transport *t)
{
	t->device_feature_select = t->driver_feature_select = 0;
	t->driver_features = 0;
	t->config_vector = NO_VECTOR;
	t->queue_select = 0;
	t->status = 0;
	t->broken = false;
	take_isr(t);
	for (unsigned i = 0; i < t->queue_count; i++) {
		struct virtio_queue *queue = &t->queue[i];

		bytes_zero(queue, sizeof(*queue));
		queue->size = t->device->ops->queue_size;
		queue->vector = NO_VECTOR;
	}
}

void transport_reset(struct virtio_transport *t)
{
	struct virtio_device *device = t->device;

	if (device->running && device->ops->reset)
		device->ops->reset(device);
	device->running = false;
	device->features = 0;
	clear_registers(t);
}

static void start_device(struct virtio_transport *t)
{
	struct virtio_device *device = t->device;

	device->running = true;
	if (device->ops->start)
		device->ops->start(device);
}

/*
 * Bits are only ever added, but for 0, which is a reset. FEATURES_OK sticks if the features do (3.1.1); a device
 * without it does not start.
 */
static void write_status(struct virtio_transport *t, u8 value)
{
	const bool loaded = begin_ordinary(t);

	if (value == 0) {
		transport_reset(t);
	} else {
		if ((value & STATUS_FEATURES_OK) && !(t->status & STATUS_FEATURES_OK)) {
			if ((t->driver_features & VIRTIO_F_VERSION_1) && !(t->driver_features & ~offered_features(t)))
				t->device->features = t->driver_features;
			else
				value &= (u8)~STATUS_FEATURES_OK;
		}
		t->status |= value & (u8)~STATUS_NEEDS_RESET;
		if ((t->status & STATUS_DRIVER_OK) && (t->status & STATUS_FEATURES_OK) && !t->device->running &&
		    !t->broken)
			start_device(t);
	}
	end_ordinary(t, loaded);
}

/* --- the common configuration ------------------------------------------------------------------------------------ */

static struct virtio_queue *selected(struct virtio_transport *t)
{
	return t->queue_select < t->queue_count ? &t->queue[t->queue_select] : NULL;
}

static u32 feature_word(u64 features, u32 select)
{
	return select < 2 ? (u32)(features >> 32 * select) : 0;
}

/* The aligned word at `offset` of what there is for each queue. A queue that is not there has size 0 (4.1.4.3). */
static u32 queue_word(struct virtio_transport *t, u64 offset)
{
	const struct virtio_queue *queue = selected(t);

	if (!queue)
		return 0;
	switch (offset) {
	case COMMON_QUEUE_SIZE:
		return queue->size | (u32)queue->vector << 16;
	case COMMON_QUEUE_ENABLE:
		return queue->enabled | (u32)t->queue_select << 16;
	default:
		offset -= COMMON_QUEUE_ADDRESS;
		return (u32)(queue->address[offset / 8] >> 8 * (offset % 8));
	}
}

static u32 common_word(struct virtio_transport *t, u64 offset)
{
	switch (offset) {
	case COMMON_DEVICE_FEATURE_SELECT:
		return t->device_feature_select;
	case COMMON_DEVICE_FEATURE:
		return feature_word(offered_features(t), t->device_feature_select);
	case COMMON_DRIVER_FEATURE_SELECT:
		return t->driver_feature_select;
	case COMMON_DRIVER_FEATURE:
		return feature_word(t->driver_features, t->driver_feature_select);
	case COMMON_CONFIG_VECTOR:
		return t->config_vector | (u32)t->queue_count << 16;
	case COMMON_STATUS:
		return t->status | (u32)t->generation << 8 | (u32)t->queue_select << 16;
	default:
		return queue_word(t, offset);
	}
}

static void write_driver_features(struct virtio_transport *t, u32 value)
{
	const u32 select = t->driver_feature_select;

	if (select >= 2 || (t->status & STATUS_FEATURES_OK)) /* they are settled */
		return;
	t->driver_features = (t->driver_features & ~(0xffffffffULL << 32 * select)) | (u64)value << 32 * select;
}

/* What the table does not have is no vector (4.1.5.1.2.1). */
static u16 valid_vector(const struct virtio_transport *t, u64 value)
{
	return value < t->pci.msix.count ? (u16)value : NO_VECTOR;
}

static void enable_queue(struct virtio_transport *t, struct virtio_queue *queue)
{
	const bool loaded = begin_ordinary(t);

	queue->enabled = true;
	ring_start(t->device, t->queue_select);
	end_ordinary(t, loaded);
}

static void write_queue(struct virtio_transport *t, u64 offset, unsigned size, u64 value)
{
	struct virtio_queue *queue = selected(t);

	if (!queue)
		return;
	if (offset >= COMMON_QUEUE_ADDRESS && offset < COMMON_SIZE && size == 4) {
		u64 *address = &queue->address[(offset - COMMON_QUEUE_ADDRESS) / 8];
		const unsigned shift = 8 * (offset % 8);

		*address = (*address & ~(0xffffffffULL << shift)) | value << shift;
	} else if (size != 2) {
		return;
	} else if (offset == COMMON_QUEUE_SIZE) {
		queue->size = (u16)value;
	} else if (offset == COMMON_QUEUE_VECTOR) {
		queue->vector = valid_vector(t, value);
	} else if (offset == COMMON_QUEUE_ENABLE && value == 1 && !queue->enabled) {
		enable_queue(t, queue);
	}
}

/* Fields are written in their own width, those of 64 bits by halves (4.1.3.1). All else changes nothing. */
static void common_write(struct virtio_transport *t, u64 offset, unsigned size, u64 value)
{
	if (offset >= COMMON_QUEUE_SIZE)
		write_queue(t, offset, size, value);
	else if (offset == COMMON_DEVICE_FEATURE_SELECT && size == 4)
		t->device_feature_select = (u32)value;
	else if (offset == COMMON_DRIVER_FEATURE_SELECT && size == 4)
		t->driver_feature_select = (u32)value;
	else if (offset == COMMON_DRIVER_FEATURE && size == 4)
		write_driver_features(t, (u32)value);
	else if (offset == COMMON_CONFIG_VECTOR && size == 2)
		t->config_vector = valid_vector(t, value);
	else if (offset == COMMON_STATUS && size == 1)
		write_status(t, (u8)value);
	else if (offset == COMMON_QUEUE_SELECT && size == 2)
		t->queue_select = (u16)value;
}

/* --- the device's configuration ---------------------------------------------------------------------------------- */

static u64 config_read(const struct virtio_device *device, u64 offset, unsigned size)
{
	u64 value = 0;

	for (unsigned i = 0; i < size && offset + i < device->ops->config_size; i++)
		value |= (u64)device->config[offset + i] << 8 * i;
	return value;
}

static void config_write(struct virtio_transport *t, u64 offset, unsigned size, u64 value)
{
	struct virtio_device *device = t->device;
	bool loaded;

	if (!device->ops->config_written || offset + size > device->ops->config_size)
		return;
	bytes_copy(device->config + offset, &value, size);
	loaded = begin_ordinary(t);
	device->ops->config_written(device, (u32)offset, size);
	end_ordinary(t, loaded);
}

/* --- BAR 0 ------------------------------------------------------------------------------------------------------- */

static void kick(struct virtio_transport *t, u64 number)
{
	struct virtio_device *device = t->device;
	struct virtio_ring *ring;
	bool loaded;

	if (number >= t->queue_count || !device->running || t->broken || !t->queue[number].ring.live)
		return;
	device->vm->stats.virtio_kicks++;
	t->figures.kicks++;
	ring = &t->queue[number].ring;
	ring->allowance = ring->size;
	loaded = begin_ordinary(t);
	device->ops->kick(device, (unsigned)number);
	end_ordinary(t, loaded);
	ring->allowance = ANY_ALLOWANCE;
}

static u64 registers_read(void *opaque, u64 offset, unsigned size)
{
	struct virtio_transport *t = opaque;
	const u64 at = offset % REGION_SIZE;

	switch (offset / REGION_SIZE) {
	case REGION_COMMON:
		return at < COMMON_SIZE ? common_word(t, at & ~3ULL) >> 8 * (at % 4) : 0;
	case REGION_ISR:
		return at == 0 ? take_isr(t) : 0;
	case REGION_CONFIG:
		return config_read(t->device, at, size);
	default:
		return 0;
	}
}

static void registers_write(void *opaque, u64 offset, unsigned size, u64 value)
{
	struct virtio_transport *t = opaque;
	const u64 at = offset % REGION_SIZE;

	switch (offset / REGION_SIZE) {
	case REGION_COMMON:
		common_write(t, at, size, value);
		break;
	case REGION_CONFIG:
		config_write(t, at, size, value);
		break;
	case REGION_NOTIFY:
		kick(t, at / NOTIFY_MULTIPLIER); /* each queue has an address of its own: the value says the same */
		break;
	default:
		break;
	}
}

/* --- the window in configuration space (4.1.4.9) ------------------------------------------------------------------ */

struct access {
	u8 bar;
	u32 offset, length;
	u8 *data;
};

static struct access access_of(struct pci_device *pci, unsigned capability)
{
	u8 *at = pci->config + capability;
	struct access access = {.bar = at[CAP_BAR], .data = at + CAP_DATA};

	bytes_copy(&access.offset, at + CAP_OFFSET, 4);
	bytes_copy(&access.length, at + CAP_LENGTH, 4);
	return access;
}

static bool access_is_valid(const struct access *access)
{
	return (access->length == 1 || access->length == 2 || access->length == 4) &&
	       access->offset % access->length == 0;
}

/* Does an access to configuration space touch the window's data? */
static bool touches_data(const struct virtio_transport *t, unsigned offset, unsigned size)
{
	const unsigned data = t->access_capability + CAP_DATA;

	return offset < data + 4 && data < offset + size;
}

static void window_reading(struct pci_device *pci, unsigned offset, unsigned size)
{
	struct virtio_transport *t = pci->bar[BAR_REGISTERS].opaque;
	struct access access = access_of(pci, t->access_capability);
	u64 value;

	if (touches_data(t, offset, size) && access_is_valid(&access) &&
	    pci_bar_read(pci, access.bar, access.offset, access.length, &value))
		bytes_copy(access.data, &value, access.length);
}

static void window_written(struct pci_device *pci, unsigned offset, unsigned size)
{
	struct virtio_transport *t = pci->bar[BAR_REGISTERS].opaque;
	struct access access = access_of(pci, t->access_capability);
	u64 value = 0;

	if (!touches_data(t, offset, size) || !access_is_valid(&access))
		return;
	bytes_copy(&value, access.data, access.length);
	pci_bar_write(pci, access.bar, access.offset, access.length, value);
}

/* --- building ---------------------------------------------------------------------------------------------------- */

/* A capability that says where a structure is; `more` is what follows, 4 bytes or none. */
static unsigned add_structure(struct virtio_transport *t, u8 type, u32 region, u32 length, const u32 *more)
{
	const unsigned size = more ? CAP_SIZE + 4 : CAP_SIZE;
	const u32 offset = region * (u32)REGION_SIZE;
	u8 content[CAP_SIZE + 4 - 2] = {0};

	content[0] = (u8)size;
	content[1] = type;
	content[CAP_BAR - 2] = BAR_REGISTERS;
	bytes_copy(content + CAP_OFFSET - 2, &offset, 4);
	bytes_copy(content + CAP_LENGTH - 2, &length, 4);
	if (more)
		bytes_copy(content + CAP_DATA - 2, more, 4);
	return pci_device_capability(&t->pci, PCI_CAP_VENDOR, content, size);
}

static void add_structures(struct virtio_transport *t)
{
	const u32 multiplier = NOTIFY_MULTIPLIER, no_data = 0;

	add_structure(t, CFG_COMMON, REGION_COMMON, COMMON_SIZE, NULL);
	add_structure(t, CFG_NOTIFY, REGION_NOTIFY, t->queue_count * NOTIFY_MULTIPLIER, &multiplier);
	add_structure(t, CFG_ISR, REGION_ISR, 1, NULL);
	if (t->device->ops->config_size)
		add_structure(t, CFG_DEVICE, REGION_CONFIG, t->device->ops->config_size, NULL);
	t->access_capability = add_structure(t, CFG_ACCESS, 0, 0, &no_data);
	t->pci.writable[t->access_capability + CAP_BAR] = 0xff;
	bytes_set(t->pci.writable + t->access_capability + CAP_OFFSET, 0xff, 4 + 4 + 4);
}

void transport_init(struct virtio_transport *t)
{
	static const struct bus_ops registers = {.read = registers_read, .write = registers_write, .widest = 4};
	const struct virtio_ops *ops = t->device->ops;
	const struct pci_identity identity = {
		.vendor = VENDOR_VIRTIO,
		.device = (u16)(DEVICE_MODERN + ops->id),
		.revision = 1,
		.class_code = ops->pci_class,
		.subsystem_vendor = VENDOR_VIRTIO,
		.subsystem = SUBSYSTEM_PLAIN,
	};

	pci_device_init(&t->pci, ops->name, &identity);
	pci_device_bar(&t->pci, BAR_REGISTERS, REGION_COUNT * (u32)REGION_SIZE, &registers, t);
	msix_init(&t->pci, t->queue_count + 1u, BAR_MSIX);
	add_structures(t);
	t->pci.config_reading = window_reading;
	t->pci.config_written = window_written;
	clear_registers(t);
}
