/*
 * Port and MMIO buses. A device owns its state and sees offsets relative to its range; it knows neither the vCPU nor
 * who accesses it. Devices are compiled for general registers only.
 */
#ifndef AVANT_DEV_BUS_H
#define AVANT_DEV_BUS_H

#include "util/types.h"

struct bus_ops {
	/* Size is 1, 2, 4 or 8 bytes; the value is zero-extended. NULL read: all ones. NULL write: ignored. */
	u64 (*read)(void *device, u64 offset, unsigned size);
	void (*write)(void *device, u64 offset, unsigned size, u64 value);
	unsigned widest; /* wider accesses are split, lowest address first; 0: the device takes any size */
};

struct bus_range {
	u64 base, length;
	const struct bus_ops *ops;
	void *device;
	const char *name;
};

#define BUS_MAX_RANGES 64

struct bus {
	struct bus_range range[BUS_MAX_RANGES]; /* by ascending base */
	unsigned count;
};

/* Adds a range. Overlap or overflow is a fault of ours (BUG). `name` is not copied. */
void bus_add(struct bus *bus, u64 base, u64 length, const struct bus_ops *ops, void *device, const char *name);

/* Could [base, base + length) be added? */
bool bus_is_free(const struct bus *bus, u64 base, u64 length);

/*
 * Accesses whose first byte hits nothing read as all ones and are ignored when written; one that runs over the end of
 * a range is done byte by byte.
 */
u64 bus_read(struct bus *bus, u64 address, unsigned size);
void bus_write(struct bus *bus, u64 address, unsigned size, u64 value);

#endif
