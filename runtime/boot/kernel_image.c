#include "boot/kernel_image.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <gelf.h>
#include <libelf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/blob.h"

#define BOOT_FLAG_OFFSET    0x1feu
#define JUMP_OFFSET         0x200u
#define MAGIC_OFFSET        0x202u
#define BOOT_FLAG           0xaa55
#define SETUP_MAGIC         0x53726448u /* "HdrS" */
#define PROTOCOL_MIN        0x020a      /* 2.10: the last of the fields used here, init_size, exists */
#define PROTOCOL_XLOADFLAGS 0x020c      /* 2.12 says whether the kernel is a 64-bit one */
#define SECTOR              512u

/* What people pass by mistake, for the message. */
static const struct {
	const char *magic, *text;
} familiar[] = {
	{"!<arch>", "an archive, perhaps a Debian package"},
	{"070701", "a cpio archive, perhaps an initramfs"},
	{"#!", "a script"},
	{"MZ", "an EFI or DOS program without a Linux setup header"},
	{"PK\3\4", "a zip archive"},
	{"QFI\xfb", "a qcow2 disk image"},
};

static int not_a_kernel(const u8 *data, u64 size, const char *name, struct err *err)
{
	const char *format = payload_format(data, size);

	if (size == 0)
		return err_set(err, "'%s' is not a kernel: the file is empty", name);
	if (format)
		return err_set(err, "'%s' is not a kernel: found %s compressed data, perhaps an initramfs", name,
			       format);
	for (unsigned i = 0; i < ARRAY_SIZE(familiar); i++) {
		size_t length = strlen(familiar[i].magic);

		if (size >= length && !memcmp(data, familiar[i].magic, length))
			return err_set(err, "'%s' is not a kernel: found %s", name, familiar[i].text);
	}
	if (size < SECTOR)
		return err_set(err, "'%s' is not a kernel: it has only %llu bytes", name, (unsigned long long)size);
	return err_set(
		err,
		"'%s' is not a kernel: neither a bzImage nor an ELF file (it starts with bytes %02x %02x %02x %02x)",
		name, data[0], data[1], data[2], data[3]);
}

static bool is_elf(const u8 *data, u64 size)
{
	return size >= SELFMAG && !memcmp(data, ELFMAG, SELFMAG);
}

static bool is_bzimage(const u8 *data, u64 size)
{
	u16 flag;
	u32 magic;

	if (size < MAGIC_OFFSET + sizeof(magic))
		return false;
	memcpy(&flag, data + BOOT_FLAG_OFFSET, sizeof(flag));
	memcpy(&magic, data + MAGIC_OFFSET, sizeof(magic));
	return flag == BOOT_FLAG && magic == SETUP_MAGIC;
}

/* --- ELF ------------------------------------------------------------------------------------------------------- */

static int add_segment(struct kernel_image *image, const GElf_Phdr *ph, const char *name, struct err *err)
{
	if (ph->p_filesz > ph->p_memsz)
		return err_set(err, "'%s' is damaged: a segment is larger in the file than in memory", name);
	if (ph->p_paddr + ph->p_memsz < ph->p_paddr)
		return err_set(err, "'%s' is damaged: a segment wraps around the end of memory", name);
	if (ph->p_offset > image->elf_size || ph->p_filesz > image->elf_size - ph->p_offset)
		return err_set(err, "'%s' is truncated: a segment of %llu bytes at offset %llu lies beyond its end",
			       name, (unsigned long long)ph->p_filesz, (unsigned long long)ph->p_offset);
	if (ph->p_memsz == 0)
		return 0;
	if (image->segment_count == KERNEL_MAX_SEGMENTS)
		return err_set(err, "'%s' has more than %d segments", name, KERNEL_MAX_SEGMENTS);
	if (image->segment_count == 0 || ph->p_paddr < image->start)
		image->start = ph->p_paddr;
	if (ph->p_paddr + ph->p_memsz > image->end)
		image->end = ph->p_paddr + ph->p_memsz;
	image->segment[image->segment_count++] = (struct kernel_segment){
		.paddr = ph->p_paddr,
		.data = image->elf + ph->p_offset,
		.filesz = ph->p_filesz,
		.memsz = ph->p_memsz,
		.writable = ph->p_flags & PF_W,
		.data_from = ph->p_filesz,
	};
	return 0;
}

/*
 * Linux links its entry as a physical address; others give the virtual one. Physical first: the per-CPU segment of a
 * kernel has virtual address 0 and must not catch a physical entry.
 */
static bool find_entry(struct kernel_image *image, Elf *elf, size_t headers, u64 entry)
{
	GElf_Phdr ph;

	for (unsigned i = 0; i < image->segment_count; i++)
		if (entry - image->segment[i].paddr < image->segment[i].filesz) {
			image->entry = entry;
			return true;
		}
	for (size_t i = 0; i < headers; i++)
		if (gelf_getphdr(elf, (int)i, &ph) && ph.p_type == PT_LOAD && entry - ph.p_vaddr < ph.p_filesz) {
			image->entry = ph.p_paddr + (entry - ph.p_vaddr);
			return true;
		}
	return false;
}

/* Sections are optional: who takes them away gets a kernel that starts more slowly. */
static void find_data(struct kernel_image *image, Elf *elf)
{
	u64 end[KERNEL_MAX_SEGMENTS] = {0};
	bool found[KERNEL_MAX_SEGMENTS] = {0};
	GElf_Shdr sh;

	for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section));) {
		if (!gelf_getshdr(section, &sh) || !(sh.sh_flags & SHF_ALLOC) || sh.sh_type == SHT_NOBITS)
			continue;
		for (unsigned i = 0; i < image->segment_count; i++) {
			u64 offset = sh.sh_offset - (u64)(image->segment[i].data - image->elf);

			if (offset >= image->segment[i].filesz || sh.sh_size > image->segment[i].filesz - offset)
				continue;
			found[i] = true;
			if (sh.sh_flags & SHF_EXECINSTR && offset + sh.sh_size > end[i])
				end[i] = offset + sh.sh_size;
		}
	}
	for (unsigned i = 0; i < image->segment_count; i++)
		if (found[i])
			image->segment[i].data_from = end[i];
}

static int read_elf(struct kernel_image *image, Elf *elf, const char *name, struct err *err)
{
	GElf_Ehdr eh;
	GElf_Phdr ph;
	size_t headers;

	if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &eh))
		return err_set(err, "'%s' is truncated or damaged: its ELF header is not valid", name);
	if (eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_machine != EM_X86_64)
		return err_set(err, "'%s' is an ELF file for another processor (machine %u), not for x86-64", name,
			       eh.e_machine);
	if (eh.e_type != ET_EXEC && eh.e_type != ET_DYN)
		return err_set(err, "'%s' is not a kernel: an ELF file, but not an executable (type %u)", name,
			       eh.e_type);
	if (elf_getphdrnum(elf, &headers))
		return err_set(err, "'%s' is truncated or damaged: its program headers cannot be read", name);
	for (size_t i = 0; i < headers; i++) {
		if (!gelf_getphdr(elf, (int)i, &ph))
			return err_set(err, "'%s' is truncated or damaged: its program headers cannot be read", name);
		if (ph.p_type == PT_INTERP)
			return err_set(err, "'%s' is not a kernel but an ordinary program", name);
		if (ph.p_type == PT_LOAD && add_segment(image, &ph, name, err))
			return -1;
	}
	if (image->segment_count == 0)
		return err_set(err, "'%s' is not a kernel: an ELF file without anything to load", name);
	if (!find_entry(image, elf, headers, eh.e_entry))
		return err_set(err, "'%s' has its entry point (0x%llx) outside of its code", name,
			       (unsigned long long)eh.e_entry);
	find_data(image, elf);
	return 0;
}

static int parse_elf(struct kernel_image *image, const char *name, struct err *err)
{
	Elf *elf;
	int result;

	if (image->elf_size > EI_CLASS && image->elf[EI_CLASS] == ELFCLASS32)
		return err_set(err, "'%s' is a 32-bit kernel; only 64-bit x86 kernels run here", name);
	if (elf_version(EV_CURRENT) == EV_NONE)
		return err_set(err, "libelf is too old: %s", elf_errmsg(-1));
	/* libelf asks for a writable buffer but does not write to one that it only reads from */
	elf = elf_memory((char *)image->elf, image->elf_size);
	if (!elf)
		return err_set(err, "'%s' is truncated or damaged: %s", name, elf_errmsg(-1));
	result = read_elf(image, elf, name, err);
	elf_end(elf);
	return result;
}

/* What a bzImage of the same kernel would say. */
static void make_setup_header(struct kernel_image *image)
{
	const struct setup_header header = {
		.boot_flag = BOOT_FLAG,
		.jump = 0xeb | (SETUP_HEADER_OFFSET + sizeof(header) - MAGIC_OFFSET) << 8,
		.header = SETUP_MAGIC,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047, /* COMMAND_LINE_SIZE - 1 */
		.pref_address = image->start,
		.init_size = (u32)(image->end - image->start),
	};

	memcpy(image->setup, &header, sizeof(header));
	image->setup_size = sizeof(header);
}

/* --- bzImage --------------------------------------------------------------------------------------------------- */

static int read_setup_header(struct kernel_image *image, const u8 *data, u64 size, const char *name, struct err *err)
{
	/* boot.rst: the header ends where the jump over it leads */
	u64 end = MAGIC_OFFSET + data[JUMP_OFFSET + 1];
	struct setup_header header;

	if (size < offsetof(struct boot_params, hdr.version) + sizeof(header.version))
		return err_set(err, "'%s' is truncated: it ends within its setup header", name);
	memcpy(&header.version, data + offsetof(struct boot_params, hdr.version), sizeof(header.version));
	if (header.version < PROTOCOL_MIN)
		return err_set(err, "'%s' has boot protocol %u.%02u; at least %u.%02u is needed", name,
			       header.version >> 8, header.version & 0xff, PROTOCOL_MIN >> 8, PROTOCOL_MIN & 0xff);
	if (end < offsetof(struct boot_params, hdr.init_size) + sizeof(header.init_size))
		return err_set(err, "'%s' is damaged: its setup header is too short", name);
	if (end > size)
		return err_set(err, "'%s' is truncated: it ends within its setup header", name);
	if (end > SETUP_HEADER_END)
		end = SETUP_HEADER_END;
	image->setup_size = (unsigned)(end - SETUP_HEADER_OFFSET);
	memcpy(image->setup, data + SETUP_HEADER_OFFSET, image->setup_size);
	return 0;
}

static int unpack_bzimage(struct kernel_image *image, const u8 *data, u64 size, const char *name,
			  const struct kernel_keeper *keeper, struct err *err)
{
	struct setup_header header = {0};
	struct err reason = ERR_INIT;
	u64 payload;

	memcpy(&header, image->setup, image->setup_size < sizeof(header) ? image->setup_size : sizeof(header));
	if (header.version >= PROTOCOL_XLOADFLAGS && !(header.xloadflags & XLF_KERNEL_64))
		return err_set(err, "'%s' is a 32-bit kernel; only 64-bit x86 kernels run here", name);
	payload = ((header.setup_sects ? header.setup_sects : 4) + 1) * SECTOR + (u64)header.payload_offset;
	if (header.payload_length == 0)
		return err_set(err, "'%s' has no payload: it speaks the Linux boot protocol but holds no Linux kernel",
			       name);
	if (payload + header.payload_length > size)
		return err_set(err, "'%s' is truncated: its payload ends at byte %llu, the file at byte %llu", name,
			       (unsigned long long)(payload + header.payload_length), (unsigned long long)size);
	if (keeper)
		image->elf = keeper->find(keeper->opaque, data, size, &image->elf_size);
	if (image->elf)
		return 0;
	if (payload_unpack(data + payload, header.payload_length, KERNEL_MAX_SIZE, &image->unpacked, &reason))
		return err_set(err, "cannot unpack kernel '%s': %s", name, reason.text);
	if (!is_elf(image->unpacked.data, image->unpacked.size))
		return err_set(err, "cannot unpack kernel '%s': its payload is not an ELF file", name);
	image->elf = image->unpacked.data;
	image->elf_size = image->unpacked.size;
	return 0;
}

/* --- both ------------------------------------------------------------------------------------------------------ */

int kernel_image_parse(const u8 *data, u64 size, const char *name, const struct kernel_keeper *keeper,
		       struct kernel_image *image, struct err *err)
{
	*image = (struct kernel_image){0};
	if (is_elf(data, size)) {
		image->elf = data;
		image->elf_size = size;
		if (parse_elf(image, name, err))
			goto fail;
		make_setup_header(image);
		return 0;
	}
	if (!is_bzimage(data, size)) {
		not_a_kernel(data, size, name, err);
		goto fail;
	}
	if (read_setup_header(image, data, size, name, err) || unpack_bzimage(image, data, size, name, keeper, err) ||
	    parse_elf(image, name, err))
		goto fail;
	return 0;
fail:
	kernel_image_release(image);
	return -1;
}

int kernel_image_load_blob(const struct blob *file, const struct kernel_keeper *keeper, struct kernel_image *image,
			   struct err *err)
{
	const u8 *data;
	int result;

	*image = (struct kernel_image){0};
	if (file->size > KERNEL_MAX_SIZE)
		return err_set(err, "'%s' is too large for a kernel: %llu MiB", file->name,
			       (unsigned long long)(file->size >> 20));
	/* mapped, not read: with a cache nothing but its digest is wanted of a bzImage */
	data = blob_map(file, err);
	if (!data)
		return -1;
	result = kernel_image_parse(data, file->size, file->name, keeper, image, err);
	if (image->elf == data) {
		image->file = data;
		image->file_size = file->size;
	} else if (file->size) {
		munmap((void *)data, file->size);
	}
	return result;
}

int kernel_image_load(const char *path, const struct kernel_keeper *keeper, struct kernel_image *image, struct err *err)
{
	struct blob file;
	int result;

	*image = (struct kernel_image){0};
	if (blob_open(&file, path, "kernel", err) < 0)
		return -1;
	result = kernel_image_load_blob(&file, keeper, image, err);
	blob_release(&file);
	return result;
}

void kernel_image_release(struct kernel_image *image)
{
	payload_release(&image->unpacked);
	if (image->file)
		munmap((void *)image->file, image->file_size);
	*image = (struct kernel_image){0};
}
