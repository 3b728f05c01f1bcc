#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "boot/kernel_image.h"
#include "kernel_synth.h"

#define NAME "test-kernel"

static void expect_segments(const struct kernel_image *image)
{
	assert_int_equal(image->segment_count, 2);
	assert_int_equal(image->segment[0].paddr, SYNTH_CODE);
	assert_int_equal(image->segment[0].filesz, SYNTH_CODE_SIZE);
	assert_int_equal(image->segment[0].memsz, SYNTH_CODE_SIZE);
	assert_int_equal(image->segment[1].paddr, SYNTH_DATA);
	assert_int_equal(image->segment[1].filesz, SYNTH_DATA_SIZE);
	assert_int_equal(image->segment[1].memsz, SYNTH_DATA_MEMORY);
	for (u64 i = 0; i < SYNTH_CODE_SIZE; i++)
		assert_int_equal(image->segment[0].data[i], synth_code_byte(i));
	for (u64 i = 0; i < SYNTH_DATA_SIZE; i++)
		assert_int_equal(image->segment[1].data[i], synth_data_byte(i));
	assert_int_equal(image->start, SYNTH_CODE);
	assert_int_equal(image->end, SYNTH_END);
	assert_int_equal(image->entry, SYNTH_ENTRY);
}

static void expect_good(struct bytes in, struct kernel_image *image)
{
	struct err err = ERR_INIT;

	if (kernel_image_parse(in.data, in.size, NAME, NULL, image, &err))
		fail_msg("unexpected error: %s", err.text);
}

/* Fails, naming the file and saying `text`; leaves nothing to release. Frees the input. */
static void expect_error(struct bytes in, const char *text)
{
	struct err err = ERR_INIT;
	struct kernel_image image;

	assert_int_equal(kernel_image_parse(in.data, in.size, NAME, NULL, &image, &err), -1);
	if (!strstr(err.text, text) || !strstr(err.text, "'" NAME "'"))
		fail_msg("expected \"%s\" and the name in: %s", text, err.text);
	assert_null(image.unpacked.data);
	assert_null(image.file);
	free(in.data);
}

static struct bytes bytes_from(const void *data, u64 size)
{
	struct bytes out = bytes_of(size);

	memcpy(out.data, data, size);
	return out;
}

/* --- good ones --------------------------------------------------------------------------------------------------- */

static void elf_is_read(void **state)
{
	struct bytes elf = synth_elf();
	struct kernel_image image;
	struct setup_header header;

	(void)state;
	expect_good(elf, &image);
	expect_segments(&image);
	assert_ptr_equal(image.elf, elf.data);
	assert_int_equal(image.elf_size, elf.size);
	assert_true(image.setup_size <= sizeof(image.setup));
	memcpy(&header, image.setup, sizeof(header));
	assert_int_equal(header.header, 0x53726448);
	assert_int_equal(header.boot_flag, 0xaa55);
	assert_true(header.version >= 0x020a);
	assert_int_equal(header.initrd_addr_max, 0x7fffffff);
	assert_int_equal(header.cmdline_size, 2047);
	kernel_image_release(&image);
	free(elf.data);
}

static void virtual_entry_is_translated(void **state)
{
	struct bytes elf = synth_elf();
	struct kernel_image image;

	(void)state;
	synth_ehdr(elf)->e_entry = SYNTH_VIRTUAL + SYNTH_ENTRY;
	expect_good(elf, &image);
	assert_int_equal(image.entry, SYNTH_ENTRY);
	kernel_image_release(&image);
	free(elf.data);
}

/* A per-CPU segment lies at virtual address 0: a physical entry must not be looked up there. */
static void physical_entry_comes_first(void **state)
{
	struct bytes elf = synth_elf();
	struct kernel_image image;

	(void)state;
	synth_phdr(elf, 1)->p_vaddr = SYNTH_ENTRY & ~0xffULL;
	expect_good(elf, &image);
	assert_int_equal(image.entry, SYNTH_ENTRY);
	kernel_image_release(&image);
	free(elf.data);
}

static void bzimage_is_unpacked(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(synth_packers); i++) {
		struct bytes elf = synth_elf(), kernel = synth_kernel(&synth_packers[i]);
		struct kernel_image image;

		expect_good(kernel, &image);
		expect_segments(&image);
		assert_int_equal(image.elf_size, elf.size);
		assert_memory_equal(image.elf, elf.data, elf.size);
		assert_int_equal(image.setup_size, 0x26c - 0x1f1);
		assert_memory_equal(image.setup, kernel.data + 0x1f1, image.setup_size);
		kernel_image_release(&image);
		free(elf.data);
		free(kernel.data);
	}
}

/* Larger than an LZ4 block, with relocations after the ELF. */
static void long_payload_is_unpacked(void **state)
{
	struct bytes elf = synth_elf(), whole = bytes_of(17 << 20);

	(void)state;
	for (u64 i = elf.size; i < whole.size; i += 97)
		whole.data[i] = (u8)(i >> 8);
	memcpy(whole.data, elf.data, elf.size);
	for (unsigned i = 0; i < ARRAY_SIZE(synth_packers); i++) {
		struct bytes packed = synth_packers[i].pack(whole);
		struct bytes kernel = synth_bzimage(packed, (u32)whole.size);
		struct kernel_image image;

		expect_good(kernel, &image);
		expect_segments(&image);
		assert_int_equal(image.elf_size, whole.size);
		assert_memory_equal(image.elf, whole.data, whole.size);
		kernel_image_release(&image);
		free(packed.data);
		free(kernel.data);
	}
	free(whole.data);
	free(elf.data);
}

static void setup_sects_zero_means_four(void **state)
{
	struct bytes kernel = synth_kernel(&synth_packers[0]);
	struct kernel_image image;

	(void)state;
	synth_header(kernel)->setup_sects = 0;
	synth_header(kernel)->payload_offset = 0;
	/* (4 + 1) * 512 = 0xa00: move the payload there */
	kernel.data = realloc(kernel.data, kernel.size + 0x100);
	memmove(kernel.data + 0xa00, kernel.data + SYNTH_PAYLOAD, kernel.size - SYNTH_PAYLOAD);
	kernel.size += 0x100;
	expect_good(kernel, &image);
	expect_segments(&image);
	kernel_image_release(&image);
	free(kernel.data);
}

/* Protocols before 2.12 have no flag for 64-bit kernels; the ELF tells. */
static void old_protocol_without_xloadflags(void **state)
{
	struct bytes kernel = synth_kernel(&synth_packers[3]);
	struct kernel_image image;

	(void)state;
	synth_header(kernel)->version = 0x020a;
	synth_header(kernel)->xloadflags = 0;
	expect_good(kernel, &image);
	kernel_image_release(&image);
	free(kernel.data);
}

/* --- not kernels ------------------------------------------------------------------------------------------------- */

static void other_files_are_named(void **state)
{
	static const struct {
		const char *data;
		u64 size;
		const char *text;
	} cases[] = {
		{"", 0, "the file is empty"},
		{"x", 1, "only 1 bytes"},
		{"!<arch>\ndebian-binary", 21, "Debian package"},
		{"070701000", 9, "initramfs"},
		{"\x1f\x8b\x08\0\0\0", 6, "found gzip compressed data"},
		{"\xfd"
		 "7zXZ\0\0",
		 7, "found xz compressed data"},
		{"#!/bin/sh\n", 10, "a script"},
		{"MZ\0\0", 4, "EFI or DOS"},
	};
	struct bytes text = bytes_of(5000);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		expect_error(bytes_from(cases[i].data, cases[i].size), cases[i].text);
	memset(text.data, 'a', text.size);
	expect_error(text, "neither a bzImage nor an ELF file (it starts with bytes 61 61 61 61)");
}

static void wrong_elf_files_are_refused(void **state)
{
	struct bytes elf;

	(void)state;
	elf = synth_elf();
	elf.data[EI_CLASS] = ELFCLASS32;
	expect_error(elf, "32-bit kernel");
	elf = synth_elf();
	synth_ehdr(elf)->e_machine = EM_AARCH64;
	expect_error(elf, "another processor");
	elf = synth_elf();
	synth_ehdr(elf)->e_type = ET_REL;
	expect_error(elf, "not an executable");
	elf = synth_elf();
	synth_phdr(elf, 2)->p_type = PT_INTERP;
	expect_error(elf, "ordinary program");
	elf = synth_elf();
	synth_phdr(elf, 0)->p_type = synth_phdr(elf, 1)->p_type = PT_NOTE;
	expect_error(elf, "without anything to load");
	elf = synth_elf();
	synth_ehdr(elf)->e_entry = SYNTH_CODE + SYNTH_CODE_SIZE;
	expect_error(elf, "entry point");
	elf = synth_elf();
	synth_ehdr(elf)->e_entry = SYNTH_DATA + SYNTH_DATA_SIZE; /* in memory, but not in the file */
	expect_error(elf, "entry point");
}

static void bad_segments_are_refused(void **state)
{
	struct bytes elf;

	(void)state;
	elf = synth_elf();
	synth_phdr(elf, 1)->p_offset = elf.size + 1;
	expect_error(elf, "truncated");
	elf = synth_elf();
	synth_phdr(elf, 1)->p_offset = ~0ULL;
	expect_error(elf, "truncated");
	elf = synth_elf();
	synth_phdr(elf, 1)->p_offset++;
	expect_error(elf, "truncated");
	elf = synth_elf();
	synth_phdr(elf, 1)->p_filesz = SYNTH_DATA_MEMORY + 1;
	expect_error(elf, "larger in the file than in memory");
	elf = synth_elf();
	synth_phdr(elf, 1)->p_paddr = ~0ULL - 10;
	expect_error(elf, "wraps");
	elf = synth_elf();
	synth_ehdr(elf)->e_phnum = 5000;
	expect_error(elf, "program headers");
}

static void too_many_segments_are_refused(void **state)
{
	unsigned count = KERNEL_MAX_SEGMENTS + 1;
	struct bytes small = synth_elf(), elf = bytes_of(small.size + count * sizeof(Elf64_Phdr));

	(void)state;
	memcpy(elf.data, small.data, small.size);
	for (unsigned i = 0; i < count; i++)
		*((Elf64_Phdr *)(elf.data + small.size - small.size % 8) + i) = *synth_phdr(small, 0);
	synth_ehdr(elf)->e_phoff = small.size - small.size % 8;
	synth_ehdr(elf)->e_phnum = (u16)count;
	free(small.data);
	expect_error(elf, "more than 32 segments");
}

/* --- bad bzImages ------------------------------------------------------------------------------------------------ */

static void bad_setup_headers_are_refused(void **state)
{
	struct bytes kernel;

	(void)state;
	kernel = synth_kernel(&synth_packers[0]);
	synth_header(kernel)->version = 0x0209;
	expect_error(kernel, "boot protocol 2.09; at least 2.10");
	kernel = synth_kernel(&synth_packers[0]);
	synth_header(kernel)->xloadflags = 0;
	expect_error(kernel, "32-bit kernel");
	kernel = synth_kernel(&synth_packers[0]);
	synth_header(kernel)->jump = 0x60eb;
	expect_error(kernel, "setup header is too short");
	kernel = synth_kernel(&synth_packers[0]);
	synth_header(kernel)->payload_length = 0;
	expect_error(kernel, "no payload");
	kernel = synth_kernel(&synth_packers[0]);
	synth_header(kernel)->payload_length = ~0u;
	expect_error(kernel, "truncated");
	kernel = synth_kernel(&synth_packers[0]);
	synth_header(kernel)->payload_offset = ~0u;
	expect_error(kernel, "truncated");
	kernel = synth_kernel(&synth_packers[0]);
	synth_header(kernel)->setup_sects = 255;
	expect_error(kernel, "truncated");
	kernel = synth_kernel(&synth_packers[0]);
	synth_header(kernel)->payload_offset += 1;
	synth_header(kernel)->payload_length -= 1;
	expect_error(kernel, "unknown format");
}

static void unsupported_compression_is_named(void **state)
{
	static const struct {
		const char *magic, *text;
	} cases[] = {
		{"BZh91AY&", "bzip2, which is not supported"},
		{"\x5d\0\0\0\x04", "lzma, which is not supported"},
		{"\x89LZO\0\r\n", "lzo, which is not supported"},
		{"\x11\x22\x33\x44", "starts with bytes 11 22 33 44"},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bytes kernel = synth_kernel(&synth_packers[0]);

		memcpy(kernel.data + SYNTH_PAYLOAD, cases[i].magic, 4);
		expect_error(kernel, cases[i].text);
	}
}

static void damaged_payloads_are_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(synth_packers); i++) {
		struct bytes kernel = synth_kernel(&synth_packers[i]);

		synth_header(kernel)->payload_length -= 30;
		expect_error(kernel, "payload is damaged or truncated");
	}
}

static void payload_must_be_a_kernel(void **state)
{
	struct bytes text = bytes_from("hello, this is text and no kernel", 33), packed = synth_gzip(text);
	struct bytes elf = synth_elf(), packed32;

	(void)state;
	expect_error(synth_bzimage(packed, 33), "not an ELF file");
	elf.data[EI_CLASS] = ELFCLASS32;
	packed32 = synth_gzip(elf);
	expect_error(synth_bzimage(packed32, (u32)elf.size), "32-bit kernel");
	free(text.data);
	free(packed.data);
	free(elf.data);
	free(packed32.data);
}

static void output_is_bounded(void **state)
{
	struct bytes zeros = bytes_of(9 << 20);

	(void)state;
	zeros.data[0] = 1;
	for (unsigned i = 0; i < ARRAY_SIZE(synth_packers); i++) {
		struct bytes packed = synth_packers[i].pack(zeros);
		struct payload out;
		struct err err = ERR_INIT;

		assert_string_equal(payload_format(packed.data, packed.size), synth_packers[i].name);
		assert_int_equal(payload_unpack(packed.data, packed.size, zeros.size, &out, &err), 0);
		assert_int_equal(out.size, zeros.size);
		payload_release(&out);
		for (u64 less = 1; less < zeros.size; less = less * 8 + 1000) {
			assert_int_equal(payload_unpack(packed.data, packed.size, zeros.size - less, &out, &err), -1);
			assert_non_null(strstr(err.text, "more than the permitted size"));
			assert_null(out.data);
		}
		free(packed.data);
	}
	free(zeros.data);
}

/* Every shorter file is refused, and nothing beyond its end is read. */
static void every_truncation_is_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i <= ARRAY_SIZE(synth_packers); i++) {
		struct bytes whole = i < ARRAY_SIZE(synth_packers) ? synth_kernel(&synth_packers[i]) : synth_elf();

		for (u64 size = 0; size < whole.size; size++)
			expect_error(bytes_from(whole.data, size), "");
		free(whole.data);
	}
}

/* Any bit may be wrong: read or refused, never a crash, and what is read lies inside the image. */
static void flipped_bits_do_no_harm(void **state)
{
	(void)state;
	for (unsigned i = 0; i <= ARRAY_SIZE(synth_packers); i++) {
		struct bytes in = i < ARRAY_SIZE(synth_packers) ? synth_kernel(&synth_packers[i]) : synth_elf();
		unsigned refused = 0;

		for (u64 bit = 0; bit < in.size * 8; bit++) {
			struct kernel_image image;
			struct err err = ERR_INIT;
			u64 sum = 0;

			in.data[bit / 8] ^= (u8)(1 << bit % 8);
			if (kernel_image_parse(in.data, in.size, NAME, NULL, &image, &err)) {
				refused++;
				assert_true(err.text[0]);
			}
			for (unsigned s = 0; s < image.segment_count; s++)
				for (u64 b = 0; b < image.segment[s].filesz; b += 64)
					sum += image.segment[s].data[b];
			assert_true(sum < in.size * 256 * 256);
			kernel_image_release(&image);
			in.data[bit / 8] ^= (u8)(1 << bit % 8);
		}
		assert_true(refused > 32);
		free(in.data);
	}
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static void write_file(char *path, struct bytes in)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, in.data, in.size), in.size);
	close(fd);
}

static void files_are_loaded(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char path[] = "/tmp/avant-kernel-XXXXXX";
		struct bytes in = i ? synth_kernel(&synth_packers[2]) : synth_elf();
		struct kernel_image image;
		struct err err = ERR_INIT;

		write_file(path, in);
		assert_int_equal(kernel_image_load(path, NULL, &image, &err), 0);
		unlink(path);
		expect_segments(&image);
		kernel_image_release(&image);
		assert_null(image.elf);
		free(in.data);
	}
}

static void unreadable_files_are_named(void **state)
{
	static const struct {
		const char *path, *text;
	} cases[] = {
		{"/nonexistent/kernel", "cannot open kernel '/nonexistent/kernel': No such file or directory"},
		{"/tmp", "kernel '/tmp' is a directory"},
		{"/dev/null", "kernel '/dev/null' is a device or pipe"},
	};
	char path[] = "/tmp/avant-kernel-XXXXXX";
	struct bytes empty = bytes_of(0);
	struct kernel_image image;
	struct err err = ERR_INIT;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(kernel_image_load(cases[i].path, NULL, &image, &err), -1);
		assert_non_null(strstr(err.text, cases[i].text));
	}
	write_file(path, empty);
	assert_int_equal(kernel_image_load(path, NULL, &image, &err), -1);
	unlink(path);
	assert_non_null(strstr(err.text, "the file is empty"));
	assert_non_null(strstr(err.text, path));
	free(empty.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elf_is_read),
		cmocka_unit_test(virtual_entry_is_translated),
		cmocka_unit_test(physical_entry_comes_first),
		cmocka_unit_test(bzimage_is_unpacked),
		cmocka_unit_test(long_payload_is_unpacked),
		cmocka_unit_test(setup_sects_zero_means_four),
		cmocka_unit_test(old_protocol_without_xloadflags),
		cmocka_unit_test(other_files_are_named),
		cmocka_unit_test(wrong_elf_files_are_refused),
		cmocka_unit_test(bad_segments_are_refused),
		cmocka_unit_test(too_many_segments_are_refused),
		cmocka_unit_test(bad_setup_headers_are_refused),
		cmocka_unit_test(unsupported_compression_is_named),
		cmocka_unit_test(damaged_payloads_are_refused),
		cmocka_unit_test(payload_must_be_a_kernel),
		cmocka_unit_test(output_is_bounded),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(flipped_bits_do_no_harm),
		cmocka_unit_test(files_are_loaded),
		cmocka_unit_test(unreadable_files_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
