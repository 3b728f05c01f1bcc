#include "boot/aml.h"

#include <string.h>

#include "util/err.h"

/* Opcodes (ACPI 6.4, 20.3). */
enum {
	NAME_OP = 0x08,
	BYTE_PREFIX = 0x0a,
	DWORD_PREFIX = 0x0c,
	SCOPE_OP = 0x10,
	BUFFER_OP = 0x11,
	PACKAGE_OP = 0x12,
	EXT_PREFIX = 0x5b,
	EXT_DEVICE_OP = 0x82,
};

/* Small resource descriptors: type in bits 3–6, length in bits 0–2 (ACPI 6.4, table 6.31). */
enum {
	RESOURCE_IRQ = 0x22,
	RESOURCE_IO = 0x47,
	RESOURCE_END = 0x79,
};

#define ONE_BYTE_LENGTH_MAX 63 /* PkgLength: 6 bits in one byte, 12 bits in two (20.2.4) */
#define TWO_BYTE_LENGTH_MAX 4095

static void emit(struct aml *aml, u8 byte)
{
	if (aml->size == aml->capacity)
		BUG("AML does not fit into %llu bytes", (unsigned long long)aml->capacity);
	aml->data[aml->size++] = byte;
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

void aml_name(struct aml *aml, const char *name)
{
	emit(aml, NAME_OP);
	emit_text(aml, name);
}

void aml_integer(struct aml *aml, u8 value)
{
	if (value > 1)
		emit(aml, BYTE_PREFIX);
	emit(aml, value); /* 0 and 1 are the opcodes ZeroOp and OneOp */
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
	emit(aml, 1);                      /* decodes 16 bits */
	for (unsigned i = 0; i < 2; i++) { /* lowest and highest base */
		emit(aml, (u8)port);
		emit(aml, (u8)(port >> 8));
	}
	emit(aml, 1); /* alignment */
	emit(aml, length);
}

void aml_irq(struct aml *aml, u8 irq)
{
	u16 mask = (u16)(1u << irq);

	emit(aml, RESOURCE_IRQ);
	emit(aml, (u8)mask);
	emit(aml, (u8)(mask >> 8));
}

void aml_end_resources(struct aml *aml)
{
	u64 contents = aml->open[aml->depth - 1] + 3; /* after length, prefix and size */

	emit(aml, RESOURCE_END);
	emit(aml, 0); /* checksum: 0 means "not computed" */
	aml->data[contents - 1] = (u8)(aml->size - contents);
	aml_end(aml);
}
