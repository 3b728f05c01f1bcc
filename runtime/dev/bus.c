#include "dev/bus.h"

#include "util/err.h"

static u64 size_mask(unsigned size)
{
	return size >= 8 ? UINT64_MAX : BIT(8 * size) - 1;
}

/* Number of ranges whose base is at most `address`. */
static unsigned ranges_up_to(const struct bus *bus, u64 address)
{
	unsigned low = 0, high = bus->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (bus->range[middle].base <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static const struct bus_range *find(const struct bus *bus, u64 address)
{
	unsigned n = ranges_up_to(bus, address);
	const struct bus_range *range;

	if (n == 0)
		return NULL;
	range = &bus->range[n - 1];
	return address - range->base < range->length ? range : NULL;
}

void bus_add(struct bus *bus, u64 base, u64 length, const struct bus_ops *ops, void *device, const char *name)
{
	unsigned at = ranges_up_to(bus, base);

	if (length == 0 || base + length < base)
		BUG("bus range '%s' is empty or wraps", name);
	if (bus->count == BUS_MAX_RANGES)
		BUG("no room on the bus for '%s'", name);
	if (at > 0 && base - bus->range[at - 1].base < bus->range[at - 1].length)
		BUG("bus ranges '%s' and '%s' overlap", bus->range[at - 1].name, name);
	if (at < bus->count && bus->range[at].base - base < length)
		BUG("bus ranges '%s' and '%s' overlap", bus->range[at].name, name);
	for (unsigned i = bus->count; i > at; i--)
		bus->range[i] = bus->range[i - 1];
	bus->range[at] = (struct bus_range){base, length, ops, device, name};
	bus->count++;
}

bool bus_is_free(const struct bus *bus, u64 base, u64 length)
{
	unsigned at = ranges_up_to(bus, base);

	return length && base + length >= base && bus->count < BUS_MAX_RANGES &&
	       (at == 0 || base - bus->range[at - 1].base >= bus->range[at - 1].length) &&
	       (at == bus->count || bus->range[at].base - base >= length);
}

/* The size in which an access of `size` bytes at `offset` of the range reaches the device. */
static unsigned piece_size(const struct bus_range *range, u64 offset, unsigned size)
{
	if (size > range->length - offset)
		return 1;
	if (range->ops->widest && size > range->ops->widest)
		return range->ops->widest;
	return size;
}

u64 bus_read(struct bus *bus, u64 address, unsigned size)
{
	const struct bus_range *range = find(bus, address);
	u64 value = 0;
	unsigned piece;

	if (!range)
		return size_mask(size);
	piece = piece_size(range, address - range->base, size);
	if (piece == size) {
		if (!range->ops->read)
			return size_mask(size);
		return range->ops->read(range->device, address - range->base, size) & size_mask(size);
	}
	for (unsigned i = 0; i < size; i += piece)
		value |= bus_read(bus, address + i, piece) << (8 * i);
	return value;
}

void bus_write(struct bus *bus, u64 address, unsigned size, u64 value)
{
	const struct bus_range *range = find(bus, address);
	unsigned piece;

	if (!range)
		return;
	piece = piece_size(range, address - range->base, size);
	if (piece == size) {
		if (range->ops->write)
			range->ops->write(range->device, address - range->base, size, value & size_mask(size));
		return;
	}
	for (unsigned i = 0; i < size; i += piece)
		bus_write(bus, address + i, piece, value >> (8 * i));
}
