/*
 * Memory that will be wanted soon is made ready by a thread. The host clears each page when it is touched first, and
 * where it is a virtual machine itself, its own host has to find memory as well: four milliseconds for 2 MiB, a tenth
 * of what a boot takes. What will be touched is known: Linux begins with the end of its memory, and goes on from the
 * beginning.
 */
#ifndef AVANT_AHEAD_H
#define AVANT_AHEAD_H

#include "util/types.h"

struct vm;
struct ahead;

/* The size of a huge page. Whatever is asked for begins and ends at a multiple. */
#define AHEAD_PAGE 0x200000u

/*
 * Starts the thread, unless the host has but one processor, and asks for what every kernel touches. NULL: there is
 * none, which makes all slower, not wrong. To be called when vm->ram is there.
 */
struct ahead *ahead_create(struct vm *vm);
/* Before any memory that was asked for is released. */
void ahead_destroy(struct ahead *ahead);

/* The kernel is in place, up to this guest physical address: memory of the guest's from there on is made ready piece by
 * piece, as it is used up. */
void ahead_boot(struct vm *vm, u64 kernel_end);
/* Memory was used that lies so near to the end of what is ready (ram->ahead_due) that it must go on. */
void ahead_go_on(struct vm *vm);

/* Touches private memory, as it will be written to. With `ahead` NULL nothing happens. */
void ahead_touch(struct ahead *ahead, u8 *at, u64 length);
/* Makes huge pages of shared memory (Linux 6.1), now if `ahead` is NULL. */
void ahead_collapse(struct ahead *ahead, u8 *at, u64 length);

#endif
