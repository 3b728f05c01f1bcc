/*
 * Emits ACPI Machine Language (ACPI 6.4, chapter 20) into a buffer. Only what this machine's DSDT needs. Objects that
 * contain others are opened by aml_begin_*() and closed by aml_end(), which works out the length; they nest.
 */
#ifndef AVANT_BOOT_AML_H
#define AVANT_BOOT_AML_H

#include "util/types.h"

#define AML_DEPTH 8

struct aml {
	u8 *data;
	u64 size, capacity;  /* bytes; exceeding the capacity is a fault of ours (BUG) */
	u64 open[AML_DEPTH]; /* where the lengths of the open objects are */
	unsigned depth;
};

void aml_begin_scope(struct aml *aml, const char *name); /* names have 4 characters, relative to what is open */
void aml_begin_device(struct aml *aml, const char *name);
void aml_begin_package(struct aml *aml, u8 count);
void aml_begin_method(struct aml *aml, const char *name, u8 arguments);
void aml_end(struct aml *aml);

void aml_name(struct aml *aml, const char *name); /* Name (name, the object emitted next) */
void aml_integer(struct aml *aml, u32 value);
void aml_eisa_id(struct aml *aml, const char *id);      /* "PNP0501" */
void aml_return_argument(struct aml *aml, u8 argument); /* Return (ArgN) */

/* A resource template: aml_begin_resources(), descriptors (ACPI 6.4, 6.4.2), aml_end_resources(). */
void aml_begin_resources(struct aml *aml);
void aml_io(struct aml *aml, u16 port, u8 length);      /* fixed ports, 16 bits decoded */
void aml_irq(struct aml *aml, u8 irq);                  /* edge, active high, exclusive */
void aml_memory(struct aml *aml, u32 base, u32 length); /* fixed, read and write */
/* What a bridge passes on (6.4.3.5): numbers, both ends included. */
void aml_bus_numbers(struct aml *aml, u16 first, u16 last);
void aml_port_window(struct aml *aml, u16 first, u16 last);
void aml_memory_window(struct aml *aml, u32 first, u32 last); /* not prefetchable, not cached, read and write */
void aml_end_resources(struct aml *aml);

#endif
