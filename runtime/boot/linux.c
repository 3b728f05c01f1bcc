#include "boot/linux.h"

#include <asm/bootparam.h>
#include <string.h>
#include <unistd.h>

#include "ahead.h"
#include "boot/acpi.h"
#include "boot/blob.h"
#include "boot/kernel_image.h"
#include "boot/layout.h"
#include "boot/long_mode.h"
#include "dev/platform.h"
#include "live/aot.h"
#include "mem/mem.h"
#include "vm.h"

#define LOADER_UNDEFINED 0xff          /* type_of_loader: none of those with a number of their own */
#define INITRD_TOP       0x80000000ULL /* boot.rst: no kernel before 3.8 takes an initrd above 2 GiB, and nobody needs it */

#define HUGE_PAGE (2ULL << 20)

enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

typedef unsigned long long ull; /* for printf */

static u64 mib_up(u64 bytes)
{
	return align_up(bytes, 1 << 20) >> 20;
}

/*
 * Puts a segment's bytes into the guest's memory; constants by mapping what a cache has unpacked, if they come from
 * there. Code and variables are written to soon (a kernel patches nearly every page of its code), and so are the gaps
 * between sections: copying to huge pages is cheaper then than a fault for each page.
 */
static void fill_segment(const struct vm *vm, const struct kernel_segment *segment, u8 *to)
{
	u64 from = align_up(segment->paddr + segment->data_from, HUGE_PAGE) - segment->paddr;
	u64 end = ((segment->paddr + segment->filesz) & ~(HUGE_PAGE - 1)) - segment->paddr;

	if (!vm->live || segment->writable || from >= end ||
	    !aot_map_unpacked(vm->live, segment->data + from, end - from, to + from))
		from = end = 0;
	/* the rest, up to memsz, is zero already: RAM is fresh, and writing to it would only use up host memory */
	memcpy(to, segment->data, from);
	memcpy(to + end, segment->data + end, segment->filesz - end);
}

static int place_kernel(const struct vm *vm, const struct kernel_image *image, const char *path, struct err *err)
{
	const struct ram *ram = &vm->ram;

	if (image->start < BOOT_MIB)
		return err_set(err, "kernel '%s' wants to lie at 0x%llx; the first MiB is taken by boot data", path,
			       (ull)image->start);
	if (image->end > RAM_LOW_END)
		return err_set(err, "kernel '%s' wants to lie up to 0x%llx, where no guest has memory", path,
			       (ull)image->end);
	if (image->end > ram->low)
		return err_set(err, "too little memory: the kernel needs %llu MiB, the guest has %llu MiB",
			       (ull)mib_up(image->end), (ull)(ram->size >> 20));
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct kernel_segment *segment = &image->segment[i];
		u8 *to = ram_range(ram, segment->paddr, segment->memsz);

		if (!to)
			return err_set(err, "kernel '%s' has a segment at 0x%llx, where the guest has no memory", path,
				       (ull)segment->paddr);
		fill_segment(vm, segment, to);
	}
	return 0;
}

static int place_cmdline(const struct ram *ram, struct boot_params *params, const char *text, struct err *err)
{
	size_t length = strlen(text), most = params->hdr.cmdline_size;

	if (most > BOOT_CMDLINE_ROOM - 1)
		most = BOOT_CMDLINE_ROOM - 1;
	if (length > most)
		return err_set(err, "the kernel command line has %zu bytes; this kernel takes %zu", length, most);
	memcpy(ram_range(ram, BOOT_CMDLINE, length + 1), text, length + 1);
	params->hdr.cmd_line_ptr = BOOT_CMDLINE;
	params->ext_cmd_line_ptr = 0;
	return 0;
}

/* As high as allowed: the kernel unpacks into the memory below. */
static int place_initrd(const struct ram *ram, struct boot_params *params, u64 kernel_end, const struct blob *initrd,
			struct err *err)
{
	u64 top = params->hdr.initrd_addr_max + 1ULL, size = initrd->size, address;

	if (top > INITRD_TOP)
		top = INITRD_TOP;
	if (top > ram->low)
		top = ram->low;
	kernel_end = align_up(kernel_end, PAGE_SIZE);
	if (size > INITRD_TOP || kernel_end + size > top)
		return err_set(
			err, "too little memory: kernel and initrd need %llu MiB below 0x%llx, the guest has %llu MiB",
			(ull)mib_up(kernel_end + size), (ull)top, (ull)(ram->size >> 20));
	address = PAGE_BASE(top - size);
	if (address < kernel_end)
		return err_set(err, "too little memory: the initrd '%s' would overlap the kernel", initrd->name);
	params->hdr.ramdisk_image = (u32)address;
	params->hdr.ramdisk_size = (u32)size;
	params->ext_ramdisk_image = (u32)(address >> 32);
	params->ext_ramdisk_size = (u32)(size >> 32);
	return size ? blob_read(initrd, 0, ram_range(ram, address, size), size, err) : 0;
}

static int load_initrd(const struct vm *vm, struct boot_params *params, u64 kernel_end, struct err *err)
{
	struct blob file;
	int result;

	if (vm->config.initrd)
		return place_initrd(&vm->ram, params, kernel_end, vm->config.initrd, err);
	if (!vm->config.initrd_path)
		return 0;
	if (blob_open(&file, vm->config.initrd_path, "initrd", err) < 0)
		return -1;
	result = place_initrd(&vm->ram, params, kernel_end, &file, err);
	blob_release(&file);
	return result;
}

static void add_range(struct boot_params *params, u64 start, u64 end, enum e820_type type)
{
	if (start < end)
		params->e820_table[params->e820_entries++] =
			(struct boot_e820_entry){.addr = start, .size = end - start, .type = type};
}

static void fill_memory_map(const struct ram *ram, struct boot_params *params)
{
	add_range(params, 0, BOOT_LOW_RAM_END, E820_RAM);
	add_range(params, BOOT_LOW_RAM_END, BOOT_EBDA_END, E820_RESERVED);
	add_range(params, BOOT_ACPI, BOOT_MIB, E820_RESERVED);
	add_range(params, BOOT_MIB, ram->low, E820_RAM);
	add_range(params, PCI_ECAM, PCI_ECAM + PCI_ECAM_SIZE, E820_RESERVED);
	add_range(params, RAM_HIGH_BASE, RAM_HIGH_BASE + (ram->size - ram->low), E820_RAM);
}

static int load(struct vm *vm, const struct kernel_image *image, struct err *err)
{
	const struct vm_config *config = &vm->config;
	const struct ram *ram = &vm->ram;
	struct boot_params *params;

	if (place_kernel(vm, image, config->kernel ? config->kernel->name : config->kernel_path, err))
		return -1;
	/* place_kernel() has seen to it that the whole first MiB is RAM */
	params = (struct boot_params *)ram_range(ram, BOOT_PARAMS, sizeof(*params));
	memset(params, 0, sizeof(*params));
	memcpy((u8 *)params + SETUP_HEADER_OFFSET, image->setup, image->setup_size);
	params->hdr.type_of_loader = LOADER_UNDEFINED;
	params->hdr.loadflags = LOADED_HIGH;
	params->hdr.ramdisk_image = 0;
	params->hdr.ramdisk_size = 0;
	params->hdr.setup_data = 0; /* a pointer: not to be believed from a file */
	if (place_cmdline(ram, params, config->append ? config->append : "", err))
		return -1;
	if (load_initrd(vm, params, image->end, err))
		return -1;
	fill_memory_map(ram, params);
	params->acpi_rsdp_addr = acpi_build(ram_range(ram, BOOT_ACPI, BOOT_MIB - BOOT_ACPI), BOOT_ACPI,
					    BOOT_MIB - BOOT_ACPI, vm->config.rtc);
	boot_enter_long_mode(vm, image->entry, BOOT_PARAMS);
	ahead_boot(vm, image->end);
	return 0;
}

static const u8 *find_unpacked(void *opaque, const u8 *file, u64 size, u64 *unpacked_size)
{
	const struct vm *vm = opaque;

	return aot_unpacked(vm->live, file, size, unpacked_size);
}

int boot_linux(struct vm *vm, struct err *err)
{
	const struct kernel_keeper keeper = {find_unpacked, vm},
				   *used = vm->live && vm->live->aot_count ? &keeper : NULL;
	struct kernel_image image;
	int result;

	if (vm->config.kernel ? kernel_image_load_blob(vm->config.kernel, used, &image, err)
			      : kernel_image_load(vm->config.kernel_path, used, &image, err))
		return -1;
	result = load(vm, &image, err);
	kernel_image_release(&image);
	if (vm->live)
		aot_forget_unpacked(vm->live);
	return result;
}
