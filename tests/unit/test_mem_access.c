/* Reads and writes of guest memory: crossing pages, MMIO, faults that change nothing, code pages, physical access. */
#include "test_mem_machine.h"

#define PAGE   0x7000000000ULL /* two mapped pages, then a hole */
#define FIRST  0x800000ULL     /* their frames, which do not adjoin */
#define SECOND 0x900000ULL
#define DEVICE 0xfee00000ULL

struct device {
	unsigned count;
	struct {
		u64 offset, value;
		unsigned size;
		bool write;
	} log[16];
};

static u64 device_read(void *opaque, u64 offset, unsigned size)
{
	struct device *device = opaque;

	device->log[device->count].offset = offset;
	device->log[device->count].size = size;
	device->log[device->count++].write = false;
	return 0x8877665544332211 >> (offset % 8 * 8);
}

static void device_write(void *opaque, u64 offset, unsigned size, u64 value)
{
	struct device *device = opaque;

	device->log[device->count].offset = offset;
	device->log[device->count].size = size;
	device->log[device->count].value = value;
	device->log[device->count++].write = true;
}

static const struct bus_ops device_ops = {.read = device_read, .write = device_write};
static struct device device;

static int setup(void **state)
{
	machine_setup(state);
	memset(&device, 0, sizeof(device));
	bus_add(&vm->mmio, DEVICE, 0x1000, &device_ops, &device, "test");
	set_cpl(3, false);
	map(cpu->cr3, PAGE, FIRST, ALL_ACCESS);
	map(cpu->cr3, PAGE + PAGE_SIZE, SECOND, ALL_ACCESS);
	return 0;
}

static u8 *at(u64 gpa)
{
	return ram_at(&vm->ram, gpa);
}

/* All lengths at all offsets around the border between the two pages, through cold and warm TLBs. */
static void test_lengths_and_offsets(void **state)
{
	u8 out[64], in[64];

	(void)state;
	for (unsigned length = 0; length <= 64; length++)
		for (unsigned before = 0; before <= 66; before++)
			for (unsigned warm = 0; warm < 2; warm++) {
				const u64 gva = PAGE + PAGE_SIZE - before;

				memset(at(FIRST), 0, PAGE_SIZE);
				memset(at(SECOND), 0, PAGE_SIZE);
				for (unsigned i = 0; i < length; i++)
					out[i] = (u8)(i + 1);
				if (!warm)
					mmu_flush_all(cpu);
				assert_int_equal(mem_write(cpu, gva, out, length, 0), EXEC_OK);
				for (int i = -1; i <= (int)length; i++) {
					const u64 offset = PAGE_SIZE - before + (u64)(s64)i;
					const u8 *byte = offset < PAGE_SIZE ? at(FIRST + offset)
									    : at(SECOND + offset - PAGE_SIZE);

					assert_int_equal(*byte, i >= 0 && i < (int)length ? i + 1 : 0);
				}
				if (!warm)
					mmu_flush_all(cpu);
				memset(in, 0xaa, sizeof(in));
				assert_int_equal(mem_read(cpu, gva, in, length, ACCESS_READ), EXEC_OK);
				assert_memory_equal(in, out, length);
				if (length < 64)
					assert_int_equal(in[length], 0xaa);
			}
}

static void test_many_pages(void **state)
{
	static u8 out[3 * PAGE_SIZE], in[3 * PAGE_SIZE];

	(void)state;
	map(cpu->cr3, PAGE + 2 * PAGE_SIZE, 0xa00000, ALL_ACCESS);
	map(cpu->cr3, PAGE + 3 * PAGE_SIZE, 0xb00000, ALL_ACCESS);
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (u8)(i * 7 + i / 256);
	assert_int_equal(mem_write(cpu, PAGE + 100, out, sizeof(out), 0), EXEC_OK);
	assert_int_equal(mem_read(cpu, PAGE + 100, in, sizeof(in), 0), EXEC_OK);
	assert_memory_equal(in, out, sizeof(in));
	assert_memory_equal(at(0xa00000), out + 2 * PAGE_SIZE - 100, PAGE_SIZE);
	assert_memory_equal(at(0xb00000), out + 3 * PAGE_SIZE - 100, 100);
}

static void test_fault_on_second_page(void **state)
{
	const u64 hole = PAGE + 2 * PAGE_SIZE;
	u64 *first = pte_of(cpu->cr3, PAGE + PAGE_SIZE, 0), value = ~0ULL, before = *first;

	(void)state;
	memset(at(SECOND), 0x55, PAGE_SIZE);
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(mem_write(cpu, hole - 3, &value, 8, 0), EXEC_FAULT);
		assert_page_fault(hole, PFEC_USER | PFEC_WRITE);
		for (unsigned i = 0; i < PAGE_SIZE; i++)
			assert_int_equal(at(SECOND)[i], 0x55);
		if (!round)
			assert_int_equal(*first, before);
		assert_int_equal(mem_read(cpu, hole - 1, &value, 2, 0), EXEC_FAULT);
		assert_page_fault(hole, PFEC_USER);
		/* and again with the first page in the TLB */
		assert_int_equal(mem_write(cpu, hole - 8, &(u64){0x5555555555555555}, 8, 0), EXEC_OK);
	}

	/* read-only second page: a read may, a write may not */
	map(cpu->cr3, hole, FIRST, P | US);
	assert_int_equal(mem_read(cpu, hole - 4, &value, 8, 0), EXEC_OK);
	assert_int_equal(mem_write(cpu, hole - 4, &value, 8, 0), EXEC_FAULT);
	assert_page_fault(hole, PFEC_P | PFEC_USER | PFEC_WRITE);
	/* the first page's fault comes first */
	assert_int_equal(mem_read(cpu, PAGE - 5, &value, 8, 0), EXEC_FAULT);
	assert_page_fault(PAGE - 5, PFEC_USER);
	/* a read that will write asks for that permission now */
	assert_int_equal(mem_read(cpu, hole, &value, 4, ACCESS_READ | ACCESS_WRITE), EXEC_FAULT);
	assert_page_fault(hole, PFEC_P | PFEC_USER | PFEC_WRITE);
}

static void test_edges_of_the_address_space(void **state)
{
	u64 value = 0x0807060504030201, back;

	(void)state;
	set_cpl(0, false);
	map(cpu->cr3, 0x7ffffffff000, FIRST, P | RW);
	assert_int_equal(mem_read(cpu, 0x7ffffffffff8, &back, 8, 0), EXEC_OK);
	assert_int_equal(mem_write(cpu, 0x7ffffffffffc, &value, 8, 0), EXEC_FAULT);
	assert_int_equal(cpu->fault.vector, VEC_GP);
	assert_int_equal(cpu->fault.error, 0);

	/* addresses wrap */
	map(cpu->cr3, 0xfffffffffffff000, FIRST, P | RW);
	map(cpu->cr3, 0, SECOND, P | RW);
	assert_int_equal(mem_write(cpu, 0xfffffffffffffffd, &value, 8, 0), EXEC_OK);
	assert_int_equal(at(FIRST)[0xfff], 3);
	assert_int_equal(at(SECOND)[0], 4);
	assert_int_equal(mem_read(cpu, 0xfffffffffffffffd, &back, 8, 0), EXEC_OK);
	assert_int_equal(back, value);
}

static void test_mmio(void **state)
{
	static const struct {
		u64 offset;
		unsigned length, pieces, size[8];
	} cases[] = {
		{0x20, 1, 1, {1}},       {0x20, 4, 1, {4}}, {0x28, 8, 1, {8}},          {0x24, 8, 2, {4, 4}},
		{0x21, 4, 3, {1, 2, 1}}, {0x22, 2, 1, {2}}, {0x23, 8, 4, {1, 4, 2, 1}}, {0x40, 16, 2, {8, 8}},
	};
	u8 out[16], in[16];

	(void)state;
	set_cpl(0, false);
	map(cpu->cr3, PAGE + 0x10000, DEVICE, P | RW);
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (u8)(0x11 * (i % 8 + 1));
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 offset = cases[i].offset;

		device.count = 0;
		assert_int_equal(mem_write(cpu, PAGE + 0x10000 + offset, out, cases[i].length, 0), EXEC_OK);
		assert_int_equal(device.count, cases[i].pieces);
		for (unsigned n = 0, done = 0; n < cases[i].pieces; done += cases[i].size[n++]) {
			u64 expected = 0;

			memcpy(&expected, out + done, cases[i].size[n]);
			assert_true(device.log[n].write);
			assert_int_equal(device.log[n].offset, offset + done);
			assert_int_equal(device.log[n].size, cases[i].size[n]);
			assert_int_equal(device.log[n].value, expected);
		}
		device.count = 0;
		memset(in, 0xee, sizeof(in));
		assert_int_equal(mem_read(cpu, PAGE + 0x10000 + offset, in, cases[i].length, 0), EXEC_OK);
		assert_int_equal(device.count, cases[i].pieces);
		for (unsigned b = 0; b < cases[i].length; b++)
			assert_int_equal(in[b], 0x11 * ((offset + b) % 8 + 1));
	}
	/* half RAM, half device; and a fault behind it reaches no device */
	map(cpu->cr3, PAGE + 0xf000, FIRST, P | RW);
	device.count = 0;
	assert_int_equal(mem_write(cpu, PAGE + 0xfffe, out, 4, 0), EXEC_OK);
	assert_int_equal(at(FIRST)[0xffe], 0x11);
	assert_int_equal(device.count, 1);
	assert_int_equal(device.log[0].value, 0x4433);
	device.count = 0;
	assert_int_equal(mem_read(cpu, PAGE + 0x10ffe, in, 4, 0), EXEC_FAULT);
	assert_int_equal(mem_write(cpu, PAGE + 0x10ffe, in, 4, 0), EXEC_FAULT);
	assert_int_equal(device.count, 0);
	/* where there is nothing: ones */
	map(cpu->cr3, PAGE + 0x12000, 0xd0000000, P | RW);
	assert_int_equal(mem_read(cpu, PAGE + 0x12000, in, 8, 0), EXEC_OK);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(in[i], 0xff);
}

static void test_code_pages(void **state)
{
	u8 bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	(void)state;
	assert_int_equal(mem_write(cpu, PAGE, bytes, 8, 0), EXEC_OK);
	assert_int_equal(machine.smc_calls, 0);
	mmu_protect_frame(cpu, FIRST);
	assert_int_equal(mem_read(cpu, PAGE, bytes, 8, 0), EXEC_OK);
	assert_int_equal(machine.smc_calls, 0);
	bytes[0] = 99;
	assert_int_equal(mem_write(cpu, PAGE + 0x10, bytes, 3, 0), EXEC_OK);
	assert_int_equal(machine.smc_calls, 1);
	assert_int_equal(machine.smc_gpa, FIRST + 0x10);
	assert_int_equal(machine.smc_length, 3);
	assert_int_equal(machine.smc_old, 0); /* called before the bytes change */
	assert_int_equal(at(FIRST)[0x10], 99);
	assert_int_equal(mem_write(cpu, PAGE + 0x10, bytes, 3, 0), EXEC_OK);
	assert_int_equal(machine.smc_calls, 1);

	/* only the part on the code page is told, and nothing when the write faults */
	mmu_protect_frame(cpu, SECOND);
	assert_int_equal(mem_write(cpu, PAGE + PAGE_SIZE - 2, bytes, 8, 0), EXEC_OK);
	assert_int_equal(machine.smc_calls, 2);
	assert_int_equal(machine.smc_gpa, SECOND);
	assert_int_equal(machine.smc_length, 6);
	mmu_protect_frame(cpu, SECOND);
	assert_int_equal(mem_write(cpu, PAGE + 2 * PAGE_SIZE - 2, bytes, 8, 0), EXEC_FAULT);
	assert_int_equal(machine.smc_calls, 2);

	/* devices write code, too */
	mmu_protect_frame(cpu, FIRST + PAGE_SIZE);
	assert_int_equal(phys_write(vm, FIRST + PAGE_SIZE - 4, bytes, 8), 0);
	assert_int_equal(machine.smc_calls, 3);
	assert_int_equal(machine.smc_gpa, FIRST + PAGE_SIZE);
	assert_int_equal(machine.smc_length, 4);
	assert_memory_equal(at(FIRST + PAGE_SIZE - 4), bytes, 8);
}

static void test_fetch_access(void **state)
{
	u64 value;

	(void)state;
	map(cpu->cr3, PAGE + 0x8000, FIRST, P | US | NX);
	assert_int_equal(mem_read(cpu, PAGE + 0x8000, &value, 8, ACCESS_READ), EXEC_OK);
	assert_int_equal(mem_read(cpu, PAGE + 0x8000, &value, 8, ACCESS_EXEC), EXEC_FAULT);
	assert_page_fault(PAGE + 0x8000, PFEC_P | PFEC_USER | PFEC_FETCH);
	assert_int_equal(mem_read(cpu, PAGE + 2 * PAGE_SIZE - 4, &value, 8, ACCESS_EXEC), EXEC_FAULT);
	assert_page_fault(PAGE + 2 * PAGE_SIZE, PFEC_USER | PFEC_FETCH);
	assert_int_equal(mem_read(cpu, PAGE + 2 * PAGE_SIZE - 4, &value, 4, ACCESS_EXEC), EXEC_OK);
}

static void test_system_accesses(void **state)
{
	u64 value = 1;

	(void)state;
	map(cpu->cr3, 0xffffffff80000000, FIRST, P | RW);
	set_cpl(3, true);
	assert_int_equal(mem_write(cpu, 0xffffffff80000000, &value, 8, 0), EXEC_FAULT);
	assert_int_equal(mem_write(cpu, 0xffffffff80000000, &value, 8, ACCESS_SYSTEM), EXEC_OK);
	assert_int_equal(mem_write(cpu, 0xffffffff80000000, &value, 8, 0), EXEC_FAULT);
	assert_int_equal(mem_write(cpu, PAGE, &value, 8, ACCESS_SYSTEM), EXEC_FAULT);
	assert_page_fault(PAGE, PFEC_P | PFEC_WRITE);
	assert_int_equal(mem_write(cpu, PAGE, &value, 8, 0), EXEC_OK);
	/* at CPL 0 as if at CPL 3 */
	set_cpl(0, false);
	assert_int_equal(mem_read(cpu, PAGE, &value, 8, ACCESS_USER), EXEC_OK);
	assert_int_equal(mem_read(cpu, PAGE, &value, 8, 0), EXEC_FAULT);
	assert_int_equal(mem_read(cpu, 0xffffffff80000000, &value, 8, ACCESS_USER), EXEC_FAULT);
	assert_page_fault(0xffffffff80000000, PFEC_P | PFEC_USER);
}

static void test_physical(void **state)
{
	const u64 size = vm->ram.size;
	u8 byte = 7, buffer[16] = {0};

	(void)state;
	assert_int_equal(phys_write(vm, size - 1, &byte, 1), 0);
	assert_int_equal(phys_read(vm, size - 16, buffer, 16), 0);
	assert_int_equal(buffer[15], 7);
	assert_int_equal(phys_write(vm, size - 1, buffer, 2), -1);
	assert_int_equal(phys_read(vm, size - 1, buffer, 2), -1);
	assert_int_equal(phys_read(vm, size, buffer, 1), -1);
	assert_int_equal(phys_read(vm, DEVICE, buffer, 4), -1);
	assert_int_equal(phys_read(vm, ~0ULL - 3, buffer, 16), -1);
	assert_int_equal(phys_read(vm, 0x1000, buffer, ~0ULL), -1);
	assert_int_equal(phys_read(vm, size, buffer, 0), 0);
	assert_int_equal(device.count, 0);
}

#define MEM_TEST(f) cmocka_unit_test_setup_teardown(f, setup, machine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEM_TEST(test_lengths_and_offsets),
		MEM_TEST(test_many_pages),
		MEM_TEST(test_fault_on_second_page),
		MEM_TEST(test_edges_of_the_address_space),
		MEM_TEST(test_mmio),
		MEM_TEST(test_code_pages),
		MEM_TEST(test_fetch_access),
		MEM_TEST(test_system_accesses),
		MEM_TEST(test_physical),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
