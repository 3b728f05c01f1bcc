#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "boot/layout.h"
#include "boot/linux.h"
#include "cpu/vcpu.h"
#include "dev/platform.h"
#include "kernel_synth.h"
#include "vm.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

/* A machine of which only RAM and vCPU exist, and files for it to boot. */
struct machine {
	struct vm *vm;
	char kernel[32], initrd[32];
};

static void write_file(char *path, struct bytes in)
{
	int fd;

	strcpy(path, "/tmp/avant-boot-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, in.data, in.size), in.size);
	close(fd);
	free(in.data);
}

static u8 initrd_byte(u64 i)
{
	return (u8)(i * 11 + 5);
}

static struct bytes synth_initrd(u64 size)
{
	struct bytes initrd = bytes_of(size);

	for (u64 i = 0; i < size; i++)
		initrd.data[i] = initrd_byte(i);
	return initrd;
}

/* `kernel` is consumed. */
static struct machine machine_with(u64 memory, struct bytes kernel)
{
	struct machine m = {.vm = calloc(1, sizeof(*m.vm))};
	struct err err = ERR_INIT;

	m.vm->vcpu = aligned_alloc(64, align_up(sizeof(*m.vm->vcpu), 64));
	memset(m.vm->vcpu, 0xa5, sizeof(*m.vm->vcpu)); /* what boot leaves unset must not matter to these tests */
	assert_int_equal(ram_init(&m.vm->ram, memory, &err), 0);
	m.vm->config.memory = memory;
	write_file(m.kernel, kernel);
	return m;
}

static int boot(struct machine *m, struct err *err)
{
	m->vm->config.kernel_path = m->kernel;
	m->vm->config.initrd_path = m->initrd[0] ? m->initrd : NULL;
	return boot_linux(m->vm, err);
}

static void expect_boot(struct machine *m)
{
	struct err err = ERR_INIT;

	if (boot(m, &err))
		fail_msg("unexpected error: %s", err.text);
}

static void release(struct machine *m)
{
	unlink(m->kernel);
	if (m->initrd[0])
		unlink(m->initrd);
	ram_release(&m->vm->ram);
	free(m->vm->vcpu);
	free(m->vm);
}

static void expect_error(struct machine *m, const char *text)
{
	struct err err = ERR_INIT;

	assert_int_equal(boot(m, &err), -1);
	if (!strstr(err.text, text))
		fail_msg("expected \"%s\" in: %s", text, err.text);
	release(m);
}

static u8 *guest(const struct machine *m, u64 gpa, u64 length)
{
	u8 *p = ram_range(&m->vm->ram, gpa, length);

	assert_non_null(p);
	return p;
}

static const struct boot_params *params_of(const struct machine *m)
{
	return (const struct boot_params *)guest(m, m->vm->vcpu->gpr[RSI], sizeof(struct boot_params));
}

static void segments_are_placed(void **state)
{
	(void)state;
	for (unsigned packed = 0; packed < 2; packed++) {
		struct machine m = machine_with(64 * MIB, packed ? synth_kernel(&synth_packers[1]) : synth_elf());

		expect_boot(&m);
		for (u64 i = 0; i < SYNTH_CODE_SIZE; i++)
			assert_int_equal(*guest(&m, SYNTH_CODE + i, 1), synth_code_byte(i));
		for (u64 i = 0; i < SYNTH_DATA_MEMORY; i++)
			assert_int_equal(*guest(&m, SYNTH_DATA + i, 1), i < SYNTH_DATA_SIZE ? synth_data_byte(i) : 0);
		assert_int_equal(m.vm->vcpu->rip, SYNTH_ENTRY);
		release(&m);
	}
}

static void boot_params_are_filled(void **state)
{
	struct machine m = machine_with(64 * MIB, synth_kernel(&synth_packers[0]));
	const struct boot_params *params;

	(void)state;
	m.vm->config.append = "console=ttyS0 quiet";
	expect_boot(&m);
	params = params_of(&m);
	assert_int_equal(params->hdr.header, 0x53726448);
	assert_int_equal(params->hdr.version, 0x020f);
	assert_int_equal(params->hdr.kernel_alignment, 0x200000); /* from the image */
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_int_equal(params->hdr.setup_data, 0);
	assert_int_equal(params->sentinel, 0);
	assert_int_equal(params->hdr.ramdisk_size, 0);
	assert_int_equal(params->ext_cmd_line_ptr, 0);
	assert_string_equal((char *)guest(&m, params->hdr.cmd_line_ptr, 100), "console=ttyS0 quiet");
	assert_memory_equal(guest(&m, params->acpi_rsdp_addr, 8), "RSD PTR ", 8);
	release(&m);
}

static void expect_map(u64 memory, const struct boot_e820_entry *expected, unsigned count)
{
	struct machine m = machine_with(memory, synth_elf());
	const struct boot_params *params;

	expect_boot(&m);
	params = params_of(&m);
	assert_int_equal(params->e820_entries, count);
	assert_memory_equal(params->e820_table, expected, count * sizeof(*expected));
	assert_in_range(params->acpi_rsdp_addr, 0xe0000, 0xfffff); /* in the reserved part */
	release(&m);
}

static void memory_map_tells_the_ram(void **state)
{
	const struct boot_e820_entry map[] = {
		{0, 0x9fc00, 1},    {0x9fc00, 0x400, 2},          {0xe0000, 0x20000, 2},
		{MIB, 63 * MIB, 1}, {PCI_ECAM, PCI_ECAM_SIZE, 2},
	};

	(void)state;
	expect_map(64 * MIB, map, ARRAY_SIZE(map));
}

static void memory_above_the_hole_is_told(void **state)
{
	const struct boot_e820_entry map[] = {
		{0, 0x9fc00, 1},
		{0x9fc00, 0x400, 2},
		{0xe0000, 0x20000, 2},
		{MIB, RAM_LOW_END - MIB, 1},
		{PCI_ECAM, PCI_ECAM_SIZE, 2},
		{4 * GIB, GIB + 2 * MIB, 1},
	};

	(void)state;
	expect_map(4 * GIB + 2 * MIB, map, ARRAY_SIZE(map));
}

/* The 64-bit boot protocol: long mode, flat segments, IF clear, RSI. */
static void cpu_is_in_long_mode(void **state)
{
	struct machine m = machine_with(64 * MIB, synth_elf());
	const struct vcpu *v = m.vm->vcpu;
	const u64 *gdt;

	(void)state;
	expect_boot(&m);
	assert_int_equal(v->cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
	assert_int_equal(v->cr0 & (CR0_EM | CR0_TS | CR0_CD | CR0_NW), 0);
	assert_int_equal(v->cr4, CR4_PAE);
	assert_int_equal(v->efer, EFER_LME | EFER_LMA);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(vcpu_rflags(v), FLAG_FIXED);
	assert_int_equal(v->seg[SEG_CS].selector, 0x10);
	assert_int_equal(v->seg[SEG_CS].attr, 0xa09b);
	for (unsigned s = 0; s <= SEG_GS; s++) {
		assert_int_equal(v->seg[s].base, 0);
		assert_int_equal(v->seg[s].limit, 0xffffffff);
		if (s != SEG_CS) {
			assert_int_equal(v->seg[s].selector, 0x18);
			assert_int_equal(v->seg[s].attr, 0xc093);
		}
	}
	assert_int_equal(v->gs_base, 0);
	assert_int_equal(v->fs_base, 0);
	assert_int_equal(v->gdtr.limit, 31);
	gdt = (const u64 *)guest(&m, v->gdtr.base, 32);
	assert_int_equal(gdt[2], 0x00af9b000000ffff);
	assert_int_equal(gdt[3], 0x00cf93000000ffff);
	for (unsigned r = 0; r < GPR_COUNT; r++)
		assert_int_equal(v->gpr[r], r == RSI ? BOOT_PARAMS : 0);
	release(&m);
}

/* Walks the guest's tables as the processor would; only supervisor, writable, large pages are expected. */
static u64 walk(const struct machine *m, u64 gva)
{
	u64 table = m->vm->vcpu->cr3;

	for (int shift = 39; shift >= 21; shift -= 9) {
		u64 entry = *(const u64 *)guest(m, table + (gva >> shift & 511) * 8, 8);

		if (!(entry & 1))
			return UINT64_MAX;
		assert_int_equal(entry & 0xfff & ~0x80, 3);
		assert_int_equal(entry & 0x80, shift == 21 ? 0x80 : 0);
		table = entry & 0x000ffffffffff000;
	}
	assert_int_equal(table % (2 * MIB), 0);
	return table + gva % (2 * MIB);
}

static void four_gib_are_identity_mapped(void **state)
{
	struct machine m = machine_with(64 * MIB, synth_elf());

	(void)state;
	expect_boot(&m);
	for (u64 gva = 0; gva < 4 * GIB; gva += 2 * MIB)
		assert_int_equal(walk(&m, gva + 0x123456), gva + 0x123456);
	assert_int_equal(walk(&m, 4 * GIB), UINT64_MAX);
	assert_int_equal(walk(&m, 0xffffffff81000000), UINT64_MAX);
	release(&m);
}

static void expect_initrd(struct machine *m, u64 size, u64 top)
{
	const struct boot_params *params;
	const u8 *data;

	write_file(m->initrd, synth_initrd(size));
	expect_boot(m);
	params = params_of(m);
	assert_int_equal(params->hdr.ramdisk_size, size);
	assert_int_equal(params->ext_ramdisk_image, 0);
	assert_int_equal(params->ext_ramdisk_size, 0);
	assert_int_equal(params->hdr.ramdisk_image % 4096, 0);
	assert_true(params->hdr.ramdisk_image >= SYNTH_END);
	assert_in_range(params->hdr.ramdisk_image + size, top - 4095, top);
	data = guest(m, params->hdr.ramdisk_image, size);
	for (u64 i = 0; i < size; i++)
		assert_int_equal(data[i], initrd_byte(i));
	release(m);
}

static void initrd_lies_high_in_low_memory(void **state)
{
	struct machine m = machine_with(64 * MIB, synth_kernel(&synth_packers[3]));

	(void)state;
	expect_initrd(&m, 12345, 64 * MIB);
	m = machine_with(4 * GIB, synth_kernel(&synth_packers[3]));
	expect_initrd(&m, 12345, 2 * GIB);
}

static void initrd_addr_max_is_respected(void **state)
{
	struct bytes kernel = synth_kernel(&synth_packers[3]);
	struct machine m;

	(void)state;
	synth_header(kernel)->initrd_addr_max = 0x1ffffff;
	m = machine_with(64 * MIB, kernel);
	expect_initrd(&m, 12345, 0x2000000);

	kernel = synth_kernel(&synth_packers[3]);
	synth_header(kernel)->initrd_addr_max = 0xffffffff; /* higher than RAM and than this boot goes */
	m = machine_with(64 * MIB, kernel);
	expect_initrd(&m, 4096, 64 * MIB);
}

static void initrd_fits_exactly(void **state)
{
	u64 room = 32 * MIB - SYNTH_END; /* a whole number of pages */
	struct machine m = machine_with(32 * MIB, synth_elf());

	(void)state;
	expect_initrd(&m, room, 32 * MIB);
	m = machine_with(32 * MIB, synth_elf());
	write_file(m.initrd, synth_initrd(room + 1));
	expect_error(&m, "too little memory");
}

static void unreadable_initrd_is_named(void **state)
{
	struct machine m = machine_with(32 * MIB, synth_elf());

	(void)state;
	strcpy(m.initrd, "/nonexistent/initrd");
	expect_error(&m, "cannot open initrd '/nonexistent/initrd': No such file");
}

static void initrd_above_the_limit_is_refused(void **state)
{
	struct bytes kernel = synth_kernel(&synth_packers[3]);
	struct machine m;

	(void)state;
	synth_header(kernel)->initrd_addr_max = SYNTH_CODE;
	m = machine_with(64 * MIB, kernel);
	write_file(m.initrd, synth_initrd(4096));
	expect_error(&m, "kernel and initrd need");
}

static void too_little_memory_is_told(void **state)
{
	struct machine m = machine_with(18 * MIB, synth_elf());

	(void)state;
	expect_error(&m, "too little memory: the kernel needs 19 MiB, the guest has 18 MiB");
}

static void kernels_elsewhere_are_refused(void **state)
{
	struct bytes kernel = synth_elf();
	struct machine m;

	(void)state;
	synth_phdr(kernel, 1)->p_paddr = 0xff000;
	m = machine_with(64 * MIB, kernel);
	expect_error(&m, "the first MiB is taken");

	kernel = synth_elf();
	synth_phdr(kernel, 1)->p_paddr = 0xbffff000;
	m = machine_with(4 * GIB, kernel);
	expect_error(&m, "where no guest has memory");

	kernel = synth_elf();
	synth_phdr(kernel, 1)->p_paddr = 5 * GIB;
	m = machine_with(64 * MIB, kernel);
	expect_error(&m, "where no guest has memory");
}

static void command_line_has_a_limit(void **state)
{
	char text[SYNTH_CMDLINE_SIZE + 2];
	struct machine m = machine_with(64 * MIB, synth_kernel(&synth_packers[2]));

	(void)state;
	memset(text, 'a', sizeof(text));
	text[SYNTH_CMDLINE_SIZE] = 0;
	m.vm->config.append = text;
	expect_boot(&m);
	assert_string_equal((char *)guest(&m, params_of(&m)->hdr.cmd_line_ptr, sizeof(text)), text);
	release(&m);

	text[SYNTH_CMDLINE_SIZE] = 'a';
	text[SYNTH_CMDLINE_SIZE + 1] = 0;
	m = machine_with(64 * MIB, synth_kernel(&synth_packers[2]));
	m.vm->config.append = text;
	expect_error(&m, "has 101 bytes; this kernel takes 100");
}

/* A kernel that claims to take any length gets no more than there is room for. */
static void command_line_stays_in_its_room(void **state)
{
	struct bytes kernel = synth_kernel(&synth_packers[2]), text = bytes_of(200000);
	struct machine m;

	(void)state;
	memset(text.data, 'a', text.size - 1);
	synth_header(kernel)->cmdline_size = 0xffffffff;
	m = machine_with(64 * MIB, kernel);
	m.vm->config.append = (const char *)text.data;
	expect_error(&m, "has 199999 bytes; this kernel takes 65535");
	free(text.data);
}

static void missing_kernel_is_named(void **state)
{
	struct machine m = machine_with(64 * MIB, synth_elf());

	(void)state;
	unlink(m.kernel);
	expect_error(&m, "cannot open kernel '/tmp/avant-boot-");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_are_placed),
		cmocka_unit_test(boot_params_are_filled),
		cmocka_unit_test(memory_map_tells_the_ram),
		cmocka_unit_test(memory_above_the_hole_is_told),
		cmocka_unit_test(cpu_is_in_long_mode),
		cmocka_unit_test(four_gib_are_identity_mapped),
		cmocka_unit_test(initrd_lies_high_in_low_memory),
		cmocka_unit_test(initrd_addr_max_is_respected),
		cmocka_unit_test(initrd_fits_exactly),
		cmocka_unit_test(unreadable_initrd_is_named),
		cmocka_unit_test(initrd_above_the_limit_is_refused),
		cmocka_unit_test(too_little_memory_is_told),
		cmocka_unit_test(kernels_elsewhere_are_refused),
		cmocka_unit_test(command_line_has_a_limit),
		cmocka_unit_test(command_line_stays_in_its_room),
		cmocka_unit_test(missing_kernel_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
