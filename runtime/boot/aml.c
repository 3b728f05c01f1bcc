#include "boot/aml.h"

#include <string.h>

#include "util/err.h"

/* Opcodes (ACPI 6.4, 20.3). */
enum {
	NAME_OP = 0x08,
	BYTE_PREFIX = 0x0a,
	WORD_PREFIX = 0x0b,
	DWORD_PREFIX = 0x0c,
	SCOPE_OP = 0x10,
	BUFFER_OP = 0x11,
	PACKAGE_OP = 0x12,
	METHOD_OP = 0x14,
	EXT_PREFIX = 0x5b,
	ARG0_OP = 0x68,
	RETURN_OP = 0xa4,
	EXT_DEVICE_OP = 0x82,
};

/* Small resource descriptors: type in bits 3–6, length in bits 0–2 (ACPI 6.4, table 6.31). */
enum {
	RESOURCE_IRQ = 0x22,
	RESOURCE_IO = 0x47,
	RESOURCE_END = 0x79,
};

/* Large ones (6.4.3): a byte of type, two of length. */
enum {
	RESOURCE_MEMORY = 0x86, /* of 32 bits, fixed */
	RESOURCE_DWORD = 0x87,  /* address space descriptors */
	RESOURCE_WORD = 0x88,
};

/* What an address space descriptor is about, and its flags (6.4.3.5). */
enum { SPACE_MEMORY, SPACE_IO, SPACE_BUS };
#define SPACE_MIN_FIXED       0x04u
#define SPACE_MAX_FIXED       0x08u
#define SPACE_IO_ENTIRE_RANGE 0x03u
#define SPACE_MEMORY_WRITABLE 0x01u

#define ONE_BYTE_LENGTH_MAX 63 /* PkgLength: 6 bits in one byte, 12 bits in two (20.2.4) */
#define TWO_BYTE_LENGTH_MAX 4095

static void emit(struct aml *aml, u8 byte)
{
	if (aml->size == aml->capacity)
		BUG("AML does not fit into %llu bytes", (unsigned long long)aml->capacity);
	aml->data[aml->size++] = byte;
}

static void emit16(struct aml *aml, u16 value)
{
	emit(aml, (u8)value);
	emit(aml, (u8)(value >> 8));
}

static void emit32(struct aml *aml, u32 value)
{
	emit16(aml, (u16)value);
	emit16(aml, (u16)(value >> 16));
}

static void emit_text(struct aml *aml, const char *text)
{
	while (*text)
		emit(aml, (u8)*text++);
}

static void begin(struct aml *aml)
{
	if (aml->depth == AML_DEPTH)
		BUG("AML nests deeper than %d", AML_DEPTH);
	aml->open[aml->depth++] = aml->size;
	emit(aml, 0);
}

void aml_end(struct aml *aml)
{
	u64 at = aml->open[--aml->depth];
	u64 length = aml->size - at; /* PkgLength counts itself */

	if (length <= ONE_BYTE_LENGTH_MAX) {
		aml->data[at] = (u8)length;
		return;
	}
	length++;
	if (length > TWO_BYTE_LENGTH_MAX)
		BUG("AML object of %llu bytes", (unsigned long long)length);
	emit(aml, 0);
	memmove(aml->data + at + 2, aml->data + at + 1, aml->size - at - 2);
	aml->data[at] = (u8)(1 << 6 | (length & 0xf)); /* one more byte follows */
	aml->data[at + 1] = (u8)(length >> 4);
}

void aml_begin_scope(struct aml *aml, const char *name)
{
	emit(aml, SCOPE_OP);
	begin(aml);
	emit_text(aml, name);
}

void aml_begin_device(struct aml *aml, const char *name)
{
	emit(aml, EXT_PREFIX);
	emit(aml, EXT_DEVICE_OP);
	begin(aml);
	emit_text(aml, name);
}

void aml_begin_package(struct aml *aml, u8 count)
{
	emit(aml, PACKAGE_OP);
	begin(aml);
	emit(aml, count);
}

void aml_begin_method(struct aml *aml, const char *name, u8 arguments)
{
	emit(aml, METHOD_OP);
	begin(aml);
	emit_text(aml, name);
	emit(aml, arguments); /* not serialized */
}

void aml_return_argument(struct aml *aml, u8 argument)
{
	emit(aml, RETURN_OP);
	emit(aml, (u8)(ARG0_OP + argument));
}

void aml_name(struct aml *aml, const char *name)
{
	emit(aml, NAME_OP);
	emit_text(aml, name);
}

void aml_integer(struct aml *aml, u32 value)
{
	if (value <= 0xff) {
		if (value > 1) /* 0 and 1 are the opcodes ZeroOp and OneOp */
			emit(aml, BYTE_PREFIX);
		emit(aml, (u8)value);
	} else if (value <= 0xffff) {
		emit(aml, WORD_PREFIX);
		emit16(aml, (u16)value);
	} else {
		emit(aml, DWORD_PREFIX);
		emit32(aml, value);
	}
}

static u8 hex_digit(char c)
{
	return (u8)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_eisa_id(struct aml *aml, const char *id)
{
	/* three letters of 5 bits, big-endian, then four hexadecimal digits (ACPI 6.4, 19.3.4) */
	u16 vendor = (u16)((id[0] - '@') << 10 | (id[1] - '@') << 5 | (id[2] - '@'));

	emit(aml, DWORD_PREFIX);
	emit(aml, (u8)(vendor >> 8));
	emit(aml, (u8)vendor);
	emit(aml, (u8)(hex_digit(id[3]) << 4 | hex_digit(id[4])));
	emit(aml, (u8)(hex_digit(id[5]) << 4 | hex_digit(id[6])));
}

void aml_begin_resources(struct aml *aml)
{
	emit(aml, BUFFER_OP);
	begin(aml);
	emit(aml, BYTE_PREFIX);
	emit(aml, 0); /* the buffer's size, known at the end */
}

void aml_io(struct aml *aml, u16 port, u8 length)
{
	emit(aml, RESOURCE_IO);
	emit(aml, 1);                    /* decodes 16 bits */
	for (unsigned i = 0; i < 2; i++) /* lowest and highest base */
		emit16(aml, port);
	emit(aml, 1); /* alignment */
	emit(aml, length);
}

void aml_irq(struct aml *aml, u8 irq)
{
	u16 mask = (u16)(1u << irq);

	emit(aml, RESOURCE_IRQ);
	emit16(aml, mask);
}

void aml_memory(struct aml *aml, u32 base, u32 length)
{
	emit(aml, RESOURCE_MEMORY);
	emit16(aml, 9);
	emit(aml, SPACE_MEMORY_WRITABLE);
	emit32(aml, base);
	emit32(aml, length);
}

/* A range of 16-bit numbers: granularity, first, last, offset of the translation, length. */
static void word_window(struct aml *aml, u8 space, u8 flags, u16 first, u16 last)
{
	emit(aml, RESOURCE_WORD);
	emit16(aml, 13);
	emit(aml, space);
	emit(aml, SPACE_MIN_FIXED | SPACE_MAX_FIXED);
	emit(aml, flags);
	emit16(aml, 0);
	emit16(aml, first);
	emit16(aml, last);
	emit16(aml, 0);
	emit16(aml, (u16)(last - first + 1));
}

void aml_bus_numbers(struct aml *aml, u16 first, u16 last)
{
	word_window(aml, SPACE_BUS, 0, first, last);
}

void aml_port_window(struct aml *aml, u16 first, u16 last)
{
	word_window(aml, SPACE_IO, SPACE_IO_ENTIRE_RANGE, first, last);
}

void aml_memory_window(struct aml *aml, u32 first, u32 last)
{
	emit(aml, RESOURCE_DWORD);
	emit16(aml, 23);
	emit(aml, SPACE_MEMORY);
	emit(aml, SPACE_MIN_FIXED | SPACE_MAX_FIXED);
	emit(aml, SPACE_MEMORY_WRITABLE);
	emit32(aml, 0);
	emit32(aml, first);
	emit32(aml, last);
	emit32(aml, 0);
	emit32(aml, last - first + 1);
}

void aml_end_resources(struct aml *aml)
{
	u64 contents = aml->open[aml->depth - 1] + 3; /* after length, prefix and size */

	emit(aml, RESOURCE_END);
	emit(aml, 0); /* checksum: 0 means "not computed" */
	aml->data[contents - 1] = (u8)(aml->size - contents);
	aml_end(aml);
}
