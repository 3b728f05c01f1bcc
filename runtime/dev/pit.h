/* Intel 8254 programmable interval timer, and port 0x61 (system control port B) that gates its channel 2. */
#ifndef AVANT_DEV_PIT_H
#define AVANT_DEV_PIT_H

struct vm;
struct pit;

#define PIT_HZ 1193182ULL

/* NULL: out of memory. vm->irqchip must exist. */
struct pit *pit_create(struct vm *vm);
void pit_destroy(struct pit *pit);

#endif
