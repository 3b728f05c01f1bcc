/* The guest bytes that a translation is made from, or compared with. */
#ifndef AVANT_LIVE_GUEST_BYTES_H
#define AVANT_LIVE_GUEST_BYTES_H

#include "cpu/vcpu.h"
#include "translate/store.h"

#define GUEST_BYTES_MAX (2 * PAGE_SIZE)

/*
 * `length` bytes at v->rip, whose physical address is gpa: a pointer into guest memory, or to `joined` if they reach
 * into the next page, whose frame is *next then (else NO_FRAME). NULL if not all of them are RAM that may be executed;
 * no fault is recorded that counts.
 */
const u8 *guest_bytes(struct vcpu *v, u64 gpa, unsigned length, u8 joined[GUEST_BYTES_MAX], u64 *next);

#endif
