/* Patching of kernels: each kind of site, with the bytes that Linux writes. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "synth_image.h"

#define REPLACEMENT 0x2000u /* in the code segment */
#define ERMS        (9 * 32 + 9)
#define XENPV       (8 * 32 + 16)
#define LA57        (16 * 32 + 16)

/* An ELF with one section, a table at DATA. */
static struct elf_part part;
static struct elf_file elf = {.section = &part, .section_count = 1};

static void section(const char *name, u64 size)
{
	part = (struct elf_part){.name = name, .type = SHT_PROGBITS, .address = DATA, .size = size};
}

struct alt {
	u32 place, replacement;
	u16 feature;
	u8 length, replacement_length;
};

static void put_older(struct image *image, const struct alt *alts, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		u8 *entry = image->segment[1].bytes + 12 * i;

		put32(entry, (u32)(CODE + alts[i].place - (DATA + 12 * i)));
		put32(entry + 4, (u32)(CODE + alts[i].replacement - (DATA + 12 * i + 4)));
		memcpy(entry + 8, &alts[i].feature, 2);
		entry[10] = alts[i].length;
		entry[11] = alts[i].replacement_length;
	}
	section(".altinstructions", 12 * count);
}

/* Bit 15 of the feature says "not", bit 14 that it is a direct call. */
static void put_newer(struct image *image, const struct alt *alts, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		u8 *entry = image->segment[1].bytes + 14 * i;
		u16 feature = alts[i].feature & 0x3fff;

		put32(entry, (u32)(CODE + alts[i].place - (DATA + 14 * i)));
		put32(entry + 4, (u32)(CODE + alts[i].replacement - (DATA + 14 * i + 4)));
		memcpy(entry + 8, &feature, 2);
		entry[10] = (u8)((alts[i].feature >> 15 & 1) | (alts[i].feature >> 14 & 1) << 1);
		entry[12] = alts[i].length;
		entry[13] = alts[i].replacement_length;
	}
	section(".altinstructions", 14 * count);
}

#define EXPECT(image, at, ...)                                                                                         \
	do {                                                                                                           \
		const u8 wanted[] = {__VA_ARGS__};                                                                     \
		assert_memory_equal((image)->segment[0].bytes + (at), wanted, sizeof(wanted));                         \
	} while (0)

#define PUT(image, at, ...)                                                                                            \
	do {                                                                                                           \
		const u8 given[] = {__VA_ARGS__};                                                                      \
		synth_code(image, at, given, sizeof(given));                                                           \
	} while (0)

static void test_older_alternatives(void **state)
{
	const struct alt alts[] = {
		{0x00, REPLACEMENT, ERMS, 6, 5},                  /* a call: relocated, one byte of padding */
		{0x10, REPLACEMENT + 0x10, ERMS, 8, 5},           /* a jump near enough for two bytes */
		{0x20, REPLACEMENT + 0x20, XENPV, 4, 3},          /* not chosen: only its padding is made better */
		{0x30, REPLACEMENT + 0x20, 0x8000 | XENPV, 5, 3}, /* chosen because the feature is not there */
		{0x40, REPLACEMENT, ERMS, 9, 0},                  /* nothing instead */
	};
	struct image image;

	(void)state;
	synth_image(&image);
	PUT(&image, 0x20, 0xc3, 0x90, 0x90, 0x90);
	PUT(&image, REPLACEMENT, 0xe8, 0x00, 0x01, 0x00, 0x00);        /* call REPLACEMENT + 0x105 */
	PUT(&image, REPLACEMENT + 0x10, 0xe9, 0x3b, 0xe0, 0xff, 0xff); /* jmp 0x50 */
	PUT(&image, REPLACEMENT + 0x20, 0x0f, 0xae, 0xe8);
	put_older(&image, alts, ARRAY_SIZE(alts));
	kernel_patch(&image, &elf, NULL);
	EXPECT(&image, 0x00, 0xe8, 0x00, 0x21, 0x00, 0x00, 0x90);
	EXPECT(&image, 0x10, 0xeb, 0x3e, 0x0f, 0x1f, 0x00, 0x0f, 0x1f, 0x00, 0xcc);
	EXPECT(&image, 0x20, 0xc3, 0x0f, 0x1f, 0x00, 0xcc);
	EXPECT(&image, 0x30, 0x0f, 0xae, 0xe8, 0x66, 0x90, 0xcc);
	EXPECT(&image, 0x40, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00, 0x90, 0xcc);
	image_release(&image);
}

static void test_newer_alternatives(void **state)
{
	const struct alt alts[] = {
		{0x00, REPLACEMENT, ERMS, 7, 5},                          /* call, relocated */
		{0x10, REPLACEMENT + 0x10, ERMS, 8, 5},                   /* jump made short: breakpoints behind it */
		{0x20, REPLACEMENT + 0x20, LA57, 12, 0},                  /* not chosen; long padding is jumped over */
		{0x40, REPLACEMENT + 0x30, 0x4000 | (3 * 32 + 21), 6, 5}, /* ALWAYS: call *pointer made direct */
		{0x50, REPLACEMENT + 0x40, ERMS, 7, 7},                   /* rip-relative operand */
		{0x60, REPLACEMENT + 0x50, 0x8000 | XENPV, 4, 4},         /* a jump within the replacement stays */
	};
	struct image image;

	(void)state;
	synth_image(&image);
	memset(image.segment[0].bytes + 0x20, 0x90, 12);
	PUT(&image, REPLACEMENT, 0xe8, 0x00, 0x01, 0x00, 0x00);
	PUT(&image, REPLACEMENT + 0x10, 0xe9, 0x3b, 0xe0, 0xff, 0xff);
	PUT(&image, REPLACEMENT + 0x30, 0xe8, 0x00, 0x00, 0x00, 0x00);
	PUT(&image, 0x40, 0xff, 0x15, 0xba, 0x08, 0x00, 0x01); /* call *0x800(DATA) */
	synth_data64(&image, 0x900, CODE + 0x200);
	PUT(&image, REPLACEMENT + 0x40, 0x48, 0x8b, 0x05, 0xb9, 0xdf, 0xff, 0xff); /* mov 0(CODE),%rax */
	PUT(&image, REPLACEMENT + 0x50, 0x75, 0x00, 0x0f, 0x0b);
	put_newer(&image, alts, ARRAY_SIZE(alts));
	kernel_patch(&image, &elf, NULL);
	EXPECT(&image, 0x00, 0xe8, 0x00, 0x21, 0x00, 0x00, 0x66, 0x90, 0xcc);
	EXPECT(&image, 0x10, 0xeb, 0x3e, 0xcc, 0xcc, 0xcc, 0x0f, 0x1f, 0x00, 0xcc);
	EXPECT(&image, 0x20, 0xeb, 0x0a, 0xcc, 0xcc);
	EXPECT(&image, 0x40, 0xe8, 0xbb, 0x01, 0x00, 0x00, 0x90);
	EXPECT(&image, 0x50, 0x48, 0x8b, 0x05, 0xa9, 0xff, 0xff, 0xff);
	EXPECT(&image, 0x60, 0x75, 0x00, 0x0f, 0x0b);
	image_release(&image);
}

/* Entries that point anywhere: the layout is not recognized, or they are left out. Nothing outside is written. */
static void test_hostile_alternatives(void **state)
{
	struct image image;

	(void)state;
	srand(2);
	for (unsigned round = 0; round < 2000; round++) {
		synth_image(&image);
		for (unsigned i = 0; i < 48; i++)
			image.segment[1].bytes[i] = (u8)rand();
		for (unsigned i = 0; i < 4 && round % 2; i++) { /* most of them sound */
			put32(image.segment[1].bytes + 12 * i,
			      (u32)(CODE + CODE_SIZE - (u32)(rand() % 300) - DATA - 12 * i));
			put32(image.segment[1].bytes + 12 * i + 4,
			      (u32)(CODE + CODE_SIZE - (u32)(rand() % 300) - DATA));
		}
		section(".altinstructions", 48);
		kernel_patch(&image, &elf, NULL);
		image_release(&image);
	}
}

static void set_symbols(struct image *image, struct collector *symbols)
{
	struct err err = ERR_INIT;

	assert_int_equal(image_set_symbols(image, symbols, &err), 0);
}

static void test_retpolines(void **state)
{
	struct collector symbols = {0};
	struct image image;

	(void)state;
	synth_image(&image);
	collect(&symbols, CODE + 0x1000, ENTRY_SYMBOL, "__x86_indirect_thunk_array");
	set_symbols(&image, &symbols);
	PUT(&image, 0x00, 0xe8, 0xfb, 0x0f, 0x00, 0x00);       /* call thunk of rax */
	PUT(&image, 0x10, 0xe9, 0x4b, 0x11, 0x00, 0x00);       /* jmp thunk of r11 */
	PUT(&image, 0x20, 0x2e, 0xe8, 0x3a, 0x11, 0x00, 0x00); /* cs call thunk of r11 */
	PUT(&image, 0x30, 0x0f, 0x84, 0x2a, 0x10, 0x00, 0x00); /* je thunk of rbx */
	PUT(&image, 0x40, 0xe8, 0x3b, 0x10, 0x00, 0x00);       /* call thunk of rsp: never */
	for (unsigned i = 0; i < 5; i++)
		synth_data32(&image, 4 * i, CODE + 0x10 * i - (DATA + 4 * i));
	section(".retpoline_sites", 20);
	kernel_patch(&image, &elf, NULL);
	EXPECT(&image, 0x00, 0xff, 0xd0, 0x0f, 0x1f, 0x00, 0xcc);
	EXPECT(&image, 0x10, 0x41, 0xff, 0xe3, 0xcc, 0x90, 0xcc);
	EXPECT(&image, 0x20, 0x41, 0xff, 0xd3, 0x0f, 0x1f, 0x00, 0xcc);
	EXPECT(&image, 0x30, 0x75, 0x04, 0xff, 0xe3, 0xcc, 0x90, 0xcc);
	EXPECT(&image, 0x40, 0xe8, 0x3b, 0x10, 0x00, 0x00);
	image_release(&image);
}

static void test_returns(void **state)
{
	struct collector symbols = {0};
	struct image image;

	(void)state;
	synth_image(&image);
	collect(&symbols, CODE + 0x1000, ENTRY_SYMBOL, "__x86_return_thunk");
	set_symbols(&image, &symbols);
	PUT(&image, 0x00, 0xe9, 0xfb, 0x0f, 0x00, 0x00);
	PUT(&image, 0x10, 0xe9, 0xfb, 0x0f, 0x00, 0x00); /* elsewhere */
	synth_data32(&image, 0, CODE - DATA);
	synth_data32(&image, 4, CODE + 0x10 - (DATA + 4));
	synth_data32(&image, 8, CODE + CODE_SIZE - 3 - (DATA + 8)); /* reaches out of the segment */
	section(".return_sites", 12);
	kernel_patch(&image, &elf, NULL);
	EXPECT(&image, 0x00, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc);
	EXPECT(&image, 0x10, 0xe9, 0xfb, 0x0f, 0x00, 0x00);
	image_release(&image);
}

static void test_paravirt(void **state)
{
	struct collector symbols = {0};
	struct image image;

	(void)state;
	synth_image(&image);
	collect(&symbols, DATA + 0x800, 0, "pv_ops");
	collect(&symbols, CODE + 0x100, ENTRY_SYMBOL, "_paravirt_nop");
	collect(&symbols, CODE + 0x200, ENTRY_SYMBOL, "native_io_delay");
	collect(&symbols, CODE + 0x300, ENTRY_SYMBOL, "kvm_io_delay");
	set_symbols(&image, &symbols);
	synth_data64(&image, 0x800, CODE + 0x100);
	synth_data64(&image, 0x808, CODE + 0x200);
	synth_data64(&image, 0x810, CODE + 0x400);
	for (unsigned i = 0; i < 3; i++) {
		synth_data64(&image, 16 * i, CODE + 0x10 * i);
		image.segment[1].bytes[16 * i + 8] = (u8)i;
		image.segment[1].bytes[16 * i + 9] = 7;
	}
	section(".parainstructions", 48);
	kernel_patch(&image, &elf, NULL);
	EXPECT(&image, 0x00, 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00, 0xcc);
	EXPECT(&image, 0x10, 0xe8, 0xeb, 0x02, 0x00, 0x00, 0x66, 0x90, 0xcc);
	EXPECT(&image, 0x20, 0xe8, 0xdb, 0x03, 0x00, 0x00, 0x66, 0x90, 0xcc);
	image_release(&image);
}

static void test_locks(void **state)
{
	struct image image;

	(void)state;
	synth_image(&image);
	PUT(&image, 0x00, 0xf0, 0x48, 0xff, 0x00);
	PUT(&image, 0x10, 0x48);
	synth_data32(&image, 0, CODE - DATA);
	synth_data32(&image, 4, CODE + 0x10 - (DATA + 4)); /* no lock there */
	synth_data32(&image, 8, 0);
	section(".smp_locks", 12);
	kernel_patch(&image, &elf, NULL);
	EXPECT(&image, 0x00, 0x3e, 0x48, 0xff, 0x00);
	EXPECT(&image, 0x10, 0x48);
	image_release(&image);
}

/* Tables that two symbols delimit. */
static void test_dynamic(void **state)
{
	struct collector symbols = {0};
	struct image image;

	(void)state;
	synth_image(&image);
	section("none", 0);
	collect(&symbols, DATA, 0, "__start_static_call_sites");
	collect(&symbols, DATA + 24, 0, "__stop_static_call_sites");
	collect(&symbols, DATA + 0x40, 0, "__start___jump_table");
	collect(&symbols, DATA + 0x70, 0, "__stop___jump_table");
	collect(&symbols, DATA + 0x80, 0, "__start_mcount_loc");
	collect(&symbols, DATA + 0x88, 0, "__stop_mcount_loc");
	collect(&symbols, DATA + 0x800, 0, "__SCK__something");
	collect(&symbols, DATA + 0x810, 0, "__SCK__preempt_schedule");
	collect(&symbols, DATA + 0x820, 0, "__use_tsc");
	collect(&symbols, DATA + 0x830, 0, "some_key");
	collect(&symbols, CODE + 0x300, ENTRY_SYMBOL, "__fentry__");
	set_symbols(&image, &symbols);
	/* a call, a tail call to nothing, and one that boot code redirects to nothing */
	synth_data64(&image, 0x800, CODE + 0x400);
	synth_data64(&image, 0x810, CODE + 0x400);
	synth_data32(&image, 0, CODE - DATA);
	synth_data32(&image, 4, DATA + 0x800 - (DATA + 4));
	synth_data32(&image, 8, CODE + 0x10 - (DATA + 8));
	synth_data32(&image, 12, DATA + 0x808 + 1 - (DATA + 12));
	synth_data32(&image, 16, CODE + 0x20 - (DATA + 16));
	synth_data32(&image, 20, DATA + 0x810 - (DATA + 20));
	/* keys: off in the image and switched on, at a jump and a no-operation; one that stays */
	PUT(&image, 0x30, 0xeb, 0x0e);
	PUT(&image, 0x40, 0x0f, 0x1f, 0x44, 0x00, 0x00);
	PUT(&image, 0x50, 0x66, 0x90);
	for (unsigned i = 0; i < 3; i++) {
		u64 at = 0x40 + 16 * i;

		synth_data32(&image, at, CODE + 0x30 + 0x10 * i - (DATA + at));
		synth_data32(&image, at + 4, CODE + 0x100 - (DATA + at + 4));
		synth_data64(&image, at + 8, (i < 2 ? DATA + 0x820 : DATA + 0x830) - (DATA + at + 8));
	}
	PUT(&image, 0x60, 0xe8, 0x9b, 0x02, 0x00, 0x00);
	synth_data64(&image, 0x80, CODE + 0x60);
	kernel_patch(&image, &elf, NULL);
	EXPECT(&image, 0x00, 0xe8, 0xfb, 0x03, 0x00, 0x00);
	EXPECT(&image, 0x10, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc);
	EXPECT(&image, 0x20, 0x0f, 0x1f, 0x44, 0x00, 0x00);
	EXPECT(&image, 0x30, 0x66, 0x90);
	EXPECT(&image, 0x40, 0xe9, 0xbb, 0x00, 0x00, 0x00);
	EXPECT(&image, 0x50, 0x66, 0x90);
	EXPECT(&image, 0x60, 0x0f, 0x1f, 0x44, 0x00, 0x00);
	image_release(&image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_older_alternatives),
		cmocka_unit_test(test_newer_alternatives),
		cmocka_unit_test(test_hostile_alternatives),
		cmocka_unit_test(test_retpolines),
		cmocka_unit_test(test_returns),
		cmocka_unit_test(test_paravirt),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_dynamic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
