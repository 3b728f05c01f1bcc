/* Tiny kernels for tests: an ELF with a code and a data segment, and a bzImage around any payload. */
#ifndef AVANT_TESTS_KERNEL_SYNTH_H
#define AVANT_TESTS_KERNEL_SYNTH_H

#include <asm/bootparam.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "util/types.h"

struct bytes {
	u8 *data; /* from malloc, exactly `size` bytes: AddressSanitizer sees every read beyond */
	u64 size;
};

#define SYNTH_CODE         0x1000000ULL
#define SYNTH_CODE_SIZE    0x300ULL
#define SYNTH_DATA         0x1200000ULL
#define SYNTH_DATA_SIZE    0x123ULL
#define SYNTH_DATA_MEMORY  0x5000ULL
#define SYNTH_END          (SYNTH_DATA + SYNTH_DATA_MEMORY)
#define SYNTH_ENTRY        (SYNTH_CODE + 0x40)
#define SYNTH_VIRTUAL      0xffffffff80000000ULL
#define SYNTH_CMDLINE_SIZE 100
#define SYNTH_PAYLOAD      0x900u /* file offset: (setup_sects 3 + 1) * 512 + payload_offset 0x100 */

static inline struct bytes bytes_of(u64 size)
{
	return (struct bytes){calloc(1, size ? size : 1), size};
}

static inline u8 synth_code_byte(u64 i)
{
	return (u8)(i * 7 + 1);
}

static inline u8 synth_data_byte(u64 i)
{
	return (u8)(i * 5 + 3);
}

static inline Elf64_Ehdr *synth_ehdr(struct bytes elf)
{
	return (Elf64_Ehdr *)elf.data;
}

static inline Elf64_Phdr *synth_phdr(struct bytes elf, unsigned n)
{
	return (Elf64_Phdr *)(elf.data + sizeof(Elf64_Ehdr)) + n;
}

/* Three program headers: code, data, a note. The entry is physical, as Linux' is. */
static inline struct bytes synth_elf(void)
{
	u64 code_offset = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr), data_offset = code_offset + SYNTH_CODE_SIZE;
	struct bytes elf = bytes_of(data_offset + SYNTH_DATA_SIZE);

	*synth_ehdr(elf) = (Elf64_Ehdr){
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = SYNTH_ENTRY,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3,
	};
	*synth_phdr(elf, 0) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_X,
		.p_offset = code_offset,
		.p_vaddr = SYNTH_VIRTUAL + SYNTH_CODE,
		.p_paddr = SYNTH_CODE,
		.p_filesz = SYNTH_CODE_SIZE,
		.p_memsz = SYNTH_CODE_SIZE,
	};
	*synth_phdr(elf, 1) = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_W,
		.p_offset = data_offset,
		.p_vaddr = SYNTH_VIRTUAL + SYNTH_DATA,
		.p_paddr = SYNTH_DATA,
		.p_filesz = SYNTH_DATA_SIZE,
		.p_memsz = SYNTH_DATA_MEMORY,
	};
	*synth_phdr(elf, 2) = (Elf64_Phdr){.p_type = PT_NOTE};
	for (u64 i = 0; i < SYNTH_CODE_SIZE; i++)
		elf.data[code_offset + i] = synth_code_byte(i);
	for (u64 i = 0; i < SYNTH_DATA_SIZE; i++)
		elf.data[data_offset + i] = synth_data_byte(i);
	return elf;
}

/* --- compression ------------------------------------------------------------------------------------------------ */

static inline struct bytes synth_gzip(struct bytes in)
{
	struct bytes out = bytes_of(in.size + in.size / 8 + 200);
	z_stream z = {.next_in = in.data, .avail_in = (uInt)in.size, .next_out = out.data, .avail_out = (uInt)out.size};

	deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
	deflate(&z, Z_FINISH);
	out.size = z.total_out;
	deflateEnd(&z);
	return out;
}

static inline struct bytes synth_xz(struct bytes in)
{
	struct bytes out = bytes_of(lzma_stream_buffer_bound(in.size));
	size_t size = 0;

	lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, NULL, in.data, in.size, out.data, &size, out.size);
	out.size = size;
	return out;
}

/* Legacy frame: magic, then blocks of 8 MiB, each after its packed size. */
static inline struct bytes synth_lz4(struct bytes in)
{
	const u64 block = 8 << 20;
	struct bytes out = bytes_of((u64)LZ4_compressBound((int)in.size) + in.size / block * 64 + 64);
	u64 size = 4;

	memcpy(out.data, "\x02\x21\x4c\x18", 4);
	for (u64 at = 0; at < in.size; at += block) {
		int n = (int)(in.size - at < block ? in.size - at : block);
		u32 packed = (u32)LZ4_compress_default((const char *)in.data + at, (char *)out.data + size + 4, n,
						       (int)(out.size - size - 4));

		memcpy(out.data + size, &packed, 4);
		size += 4 + packed;
	}
	out.size = size;
	return out;
}

static inline struct bytes synth_zstd(struct bytes in)
{
	struct bytes out = bytes_of(ZSTD_compressBound(in.size));

	out.size = ZSTD_compress(out.data, out.size, in.data, in.size, 3);
	return out;
}

static const struct synth_packer {
	const char *name;
	struct bytes (*pack)(struct bytes in);
} synth_packers[] = {{"gzip", synth_gzip}, {"xz", synth_xz}, {"lz4", synth_lz4}, {"zstd", synth_zstd}};

/* --- bzImage ---------------------------------------------------------------------------------------------------- */

static inline struct setup_header *synth_header(struct bytes image)
{
	return (struct setup_header *)(image.data + offsetof(struct boot_params, hdr));
}

/* A bzImage of protocol 2.15 around packed data, to which 4 bytes of unpacked size are appended as Linux does. */
static inline struct bytes synth_bzimage(struct bytes packed, u32 unpacked_size)
{
	struct bytes image = bytes_of(SYNTH_PAYLOAD + packed.size + 4);

	memcpy(image.data, "MZ", 2);
	*synth_header(image) = (struct setup_header){
		.setup_sects = 3,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* over the header, to 0x26c */
		.header = 0x53726448,
		.version = 0x020f,
		.type_of_loader = 0x77,
		.loadflags = LOADED_HIGH,
		.setup_data = 0x1234,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = SYNTH_CMDLINE_SIZE,
		.payload_offset = 0x100,
		.payload_length = (u32)packed.size + 4,
		.pref_address = SYNTH_CODE,
		.init_size = 0x300000,
	};
	memcpy(image.data + SYNTH_PAYLOAD, packed.data, packed.size);
	memcpy(image.data + SYNTH_PAYLOAD + packed.size, &unpacked_size, 4);
	return image;
}

/* The bzImage of synth_elf() with the given compression. */
static inline struct bytes synth_kernel(const struct synth_packer *packer)
{
	struct bytes elf = synth_elf(), packed = packer->pack(elf), image = synth_bzimage(packed, (u32)elf.size);

	free(packed.data);
	free(elf.data);
	return image;
}

#endif
