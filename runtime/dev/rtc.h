/* MC146818 real-time clock with 128 bytes of CMOS RAM at ports 0x70 and 0x71. */
#ifndef AVANT_DEV_RTC_H
#define AVANT_DEV_RTC_H

struct vm;
struct rtc;

#define RTC_CENTURY 0x32 /* CMOS byte of the century, for the FADT */

/* NULL: out of memory. vm->irqchip and vm->clock must exist. It starts with the clock's wall time, UTC. */
struct rtc *rtc_create(struct vm *vm);
void rtc_destroy(struct rtc *rtc);

#endif
