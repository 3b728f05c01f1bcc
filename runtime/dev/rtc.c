/*
 * Motorola MC146818 (data sheet ADI-856). The time is an origin plus the clock; registers are computed when read.
 * Interrupt flags are found by comparing the last look with now, so the timer runs only for enabled interrupts whose
 * flag the guest has taken.
 */
#include "dev/rtc.h"

#include "dev/bus.h"
#include "dev/irqchip.h"
#include "dev/platform.h"
#include "dev/scale.h"
#include "vm.h"

#include <stdlib.h>

enum reg {
	REG_SECONDS,
	REG_SECONDS_ALARM,
	REG_MINUTES,
	REG_MINUTES_ALARM,
	REG_HOURS,
	REG_HOURS_ALARM,
	REG_WEEKDAY,
	REG_DAY,
	REG_MONTH,
	REG_YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
};

#define CMOS_SIZE 128

#define A_UPDATE        0x80 /* an update of the time registers is near */
#define A_DIVIDER       0x70
#define A_DIVIDER_RESET 0x60 /* 11x */
#define A_RATE          0x0f
#define A_DEFAULT       0x26 /* 32.768 kHz, 1024 Hz */
#define B_SET           0x80
#define B_PERIODIC      0x40
#define B_ALARM         0x20
#define B_UPDATE        0x10
#define B_BINARY        0x04
#define B_24H           0x02
#define C_IRQ           0x80
#define C_PERIODIC      0x40
#define C_ALARM         0x20
#define C_UPDATE        0x10
#define D_VALID         0x80

#define CRYSTAL_HZ       32768ULL
#define UPDATE_NOTICE_NS 244000 /* UIP is set that long before the update */
#define ALARM_ANY        0xc0   /* an alarm byte of C0h–FFh matches always */
#define SECONDS_PER_DAY  86400

struct rtc {
	struct vm *vm;
	struct timer timer;
	u8 index;
	u8 cmos[CMOS_SIZE];
	bool running;
	s64 origin;   /* while running: seconds since 1970 at clock 0, and … */
	u64 phase_ns; /* … how far into that second; kept while stopped */
	u64 seen_ns;  /* flags are up to date to here */
};

/* --- calendar ---------------------------------------------------------------------------------------------------- */

struct date {
	s64 year;
	u32 month, day; /* from 1 */
};

/* Days from 1970-01-01 to a date, counting in years that begin in March. */
static s64 days_from_date(const struct date *date)
{
	s64 year = date->year - (date->month <= 2), era;
	u32 month = (date->month + 9) % 12, year_of_era, day_of_year;

	era = (year >= 0 ? year : year - 399) / 400;
	year_of_era = (u32)(year - era * 400);
	day_of_year = (153 * month + 2) / 5 + date->day - 1;
	return era * 146097 + (s64)(year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year) - 719468;
}

static void date_from_days(s64 days, struct date *date)
{
	s64 era;
	u32 day_of_era, year_of_era, day_of_year, month;

	days += 719468;
	era = (days >= 0 ? days : days - 146096) / 146097;
	day_of_era = (u32)(days - era * 146097);
	year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	month = (5 * day_of_year + 2) / 153;
	date->day = day_of_year - (153 * month + 2) / 5 + 1;
	date->month = month < 10 ? month + 3 : month - 9;
	date->year = (s64)year_of_era + era * 400 + (date->month <= 2);
}

/* --- formats of the registers ------------------------------------------------------------------------------------ */

static u8 encode(const struct rtc *rtc, u32 value)
{
	return (u8)(rtc->cmos[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static u32 decode(const struct rtc *rtc, u8 value)
{
	return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static u8 encode_hour(const struct rtc *rtc, u32 hour)
{
	u8 afternoon = hour >= 12 ? 0x80 : 0;

	if (rtc->cmos[REG_B] & B_24H)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) | afternoon;
}

static u32 decode_hour(const struct rtc *rtc, u8 value)
{
	u32 hour;

	if (rtc->cmos[REG_B] & B_24H)
		return decode(rtc, value);
	hour = decode(rtc, value & 0x7f) % 12;
	return value & 0x80 ? hour + 12 : hour;
}

/* --- time -------------------------------------------------------------------------------------------------------- */

static u64 now_ns(const struct rtc *rtc)
{
	return clock_ns(&rtc->vm->clock);
}

/* Seconds since 1970 at clock time `ns`. */
static s64 seconds_at(const struct rtc *rtc, u64 ns)
{
	return rtc->origin + (s64)((ns + rtc->phase_ns) / NS_PER_SECOND);
}

/* The clock time at which second `seconds` begins. */
static u64 start_of(const struct rtc *rtc, s64 seconds)
{
	return (u64)(seconds - rtc->origin) * NS_PER_SECOND - rtc->phase_ns;
}

static void store_time(struct rtc *rtc, s64 seconds)
{
	s64 days = seconds / SECONDS_PER_DAY;
	u32 rest;
	struct date date;

	if (seconds % SECONDS_PER_DAY < 0)
		days--;
	rest = (u32)(seconds - days * SECONDS_PER_DAY);
	date_from_days(days, &date);
	rtc->cmos[REG_SECONDS] = encode(rtc, rest % 60);
	rtc->cmos[REG_MINUTES] = encode(rtc, rest / 60 % 60);
	rtc->cmos[REG_HOURS] = encode_hour(rtc, rest / 3600);
	rtc->cmos[REG_WEEKDAY] = encode(rtc, (u32)((days % 7 + 11) % 7) + 1); /* 1970-01-01 was a Thursday, 5 */
	rtc->cmos[REG_DAY] = encode(rtc, date.day);
	rtc->cmos[REG_MONTH] = encode(rtc, date.month);
	rtc->cmos[REG_YEAR] = encode(rtc, (u32)(date.year % 100));
	rtc->cmos[RTC_CENTURY] = encode(rtc, (u32)(date.year / 100));
}

/* Nonsense in the registers gives some time, not an error. */
static s64 load_time(const struct rtc *rtc)
{
	struct date date = {
		.year = (s64)decode(rtc, rtc->cmos[RTC_CENTURY]) * 100 + decode(rtc, rtc->cmos[REG_YEAR]),
		.month = (decode(rtc, rtc->cmos[REG_MONTH]) + 11) % 12 + 1,
		.day = decode(rtc, rtc->cmos[REG_DAY]),
	};

	return days_from_date(&date) * SECONDS_PER_DAY + decode_hour(rtc, rtc->cmos[REG_HOURS]) * 3600 +
	       decode(rtc, rtc->cmos[REG_MINUTES]) * 60 + decode(rtc, rtc->cmos[REG_SECONDS]);
}

static bool is_time(unsigned reg)
{
	return reg == REG_SECONDS || reg == REG_MINUTES || reg == REG_HOURS ||
	       (reg >= REG_WEEKDAY && reg <= REG_YEAR) || reg == RTC_CENTURY;
}

static bool divider_runs(const struct rtc *rtc)
{
	return (rtc->cmos[REG_A] & A_DIVIDER_RESET) != A_DIVIDER_RESET;
}

static bool should_run(const struct rtc *rtc)
{
	return !(rtc->cmos[REG_B] & B_SET) && divider_runs(rtc);
}

/* Brings the time registers up to date. */
static void sample_time(struct rtc *rtc)
{
	if (rtc->running)
		store_time(rtc, seconds_at(rtc, now_ns(rtc)));
}

/* The time registers are the time from now on. */
static void set_time(struct rtc *rtc)
{
	rtc->origin = 0;
	rtc->origin = load_time(rtc) - seconds_at(rtc, now_ns(rtc));
}

/* --- interrupts -------------------------------------------------------------------------------------------------- */

/* The periodic interrupt comes each 2^shift crystal ticks; -1: never. */
static int periodic_shift(const struct rtc *rtc)
{
	int rate = rtc->cmos[REG_A] & A_RATE;

	if (rate == 0 || !divider_runs(rtc))
		return -1;
	return rate <= 2 ? rate + 6 : rate - 1;
}

static u64 crystal_ticks(const struct rtc *rtc, u64 ns)
{
	return scale(ns + rtc->phase_ns, CRYSTAL_HZ, NS_PER_SECOND);
}

static bool alarm_byte_matches(const struct rtc *rtc, unsigned reg, u32 value)
{
	u8 alarm = rtc->cmos[reg];

	if (alarm >= ALARM_ANY)
		return true;
	return (reg == REG_HOURS_ALARM ? decode_hour(rtc, alarm) : decode(rtc, alarm)) == value;
}

#define NO_ALARM INT64_MAX

/* An alarm byte like 99 never matches. */
static bool alarm_byte_possible(const struct rtc *rtc, unsigned reg)
{
	u32 value = 0;

	while (value < 60 && !alarm_byte_matches(rtc, reg, value))
		value++;
	return value < 60;
}

/* The next second after `after` that matches the alarm, or NO_ALARM. */
static s64 next_alarm(const struct rtc *rtc, s64 after)
{
	s64 first = after + 1, days = first / SECONDS_PER_DAY;
	u32 rest;

	if (first % SECONDS_PER_DAY < 0)
		days--;
	rest = (u32)(first - days * SECONDS_PER_DAY);
	if (!alarm_byte_possible(rtc, REG_SECONDS_ALARM) || !alarm_byte_possible(rtc, REG_MINUTES_ALARM))
		return NO_ALARM;
	/* Hours of two days, and below only what matches: at most a few hundred comparisons. */
	for (u32 hour = rest / 3600; hour < 48; hour++) {
		if (!alarm_byte_matches(rtc, REG_HOURS_ALARM, hour % 24))
			continue;
		for (u32 minute = 0; minute < 60; minute++) {
			if (hour * 3600 + minute * 60 + 59 < rest ||
			    !alarm_byte_matches(rtc, REG_MINUTES_ALARM, minute))
				continue;
			for (u32 second = 0; second < 60; second++) {
				u32 at = hour * 3600 + minute * 60 + second;

				if (at >= rest && alarm_byte_matches(rtc, REG_SECONDS_ALARM, second))
					return days * SECONDS_PER_DAY + at;
			}
		}
	}
	return NO_ALARM;
}

/* Sets the flags of everything that happened since the last look, and raises the line for what is enabled. */
static void catch_up(struct rtc *rtc)
{
	u64 now = now_ns(rtc), seen = rtc->seen_ns;
	int shift = periodic_shift(rtc);
	u8 *flags = &rtc->cmos[REG_C];

	if (now <= seen)
		return;
	rtc->seen_ns = now;
	if (shift >= 0 && crystal_ticks(rtc, seen) >> shift != crystal_ticks(rtc, now) >> shift)
		*flags |= C_PERIODIC;
	if (rtc->running && seconds_at(rtc, seen) != seconds_at(rtc, now)) {
		*flags |= C_UPDATE;
		if (next_alarm(rtc, seconds_at(rtc, seen)) <= seconds_at(rtc, now))
			*flags |= C_ALARM;
	}
}

static void update_line(struct rtc *rtc)
{
	u8 enabled = rtc->cmos[REG_B] & (B_PERIODIC | B_ALARM | B_UPDATE); /* the bits are the same in B and C */
	bool line = rtc->cmos[REG_C] & enabled;

	rtc->cmos[REG_C] = (rtc->cmos[REG_C] & (u8)~C_IRQ) | (line ? C_IRQ : 0);
	irqchip_set_line(rtc->vm->irqchip, GSI_RTC, line);
}

static void arm(struct rtc *rtc)
{
	u8 wanted = rtc->cmos[REG_B] & (u8)~rtc->cmos[REG_C];
	u64 deadline = CLOCK_NEVER, at;
	int shift = periodic_shift(rtc);

	if ((wanted & B_PERIODIC) && shift >= 0) {
		u64 next = ((crystal_ticks(rtc, rtc->seen_ns) >> shift) + 1) << shift;

		at = scale_up(next, NS_PER_SECOND, CRYSTAL_HZ) - rtc->phase_ns;
		if (at < deadline)
			deadline = at;
	}
	if (rtc->running && (wanted & B_UPDATE)) {
		at = start_of(rtc, seconds_at(rtc, rtc->seen_ns) + 1);
		if (at < deadline)
			deadline = at;
	}
	if (rtc->running && (wanted & B_ALARM)) {
		s64 alarm = next_alarm(rtc, seconds_at(rtc, rtc->seen_ns));

		at = alarm != NO_ALARM ? start_of(rtc, alarm) : CLOCK_NEVER;
		if (at < deadline)
			deadline = at;
	}
	timer_set(&rtc->vm->clock, &rtc->timer, deadline);
}

static void settle(struct rtc *rtc)
{
	catch_up(rtc);
	update_line(rtc);
	arm(rtc);
}

static void timer_fired(void *opaque)
{
	settle(opaque);
}

/* --- ports ------------------------------------------------------------------------------------------------------- */

/* After a change of A or B: the time stops or goes on. */
static void start_or_stop(struct rtc *rtc, bool divider_ran)
{
	bool run = should_run(rtc);

	/* Half a second after the divider is released comes the first update. */
	if (divider_runs(rtc) && !divider_ran)
		rtc->phase_ns = (NS_PER_SECOND + NS_PER_SECOND / 2 - now_ns(rtc) % NS_PER_SECOND) % NS_PER_SECOND;
	if (run && !rtc->running)
		set_time(rtc);
	rtc->running = run;
}

static void write_cmos(struct rtc *rtc, unsigned reg, u8 value)
{
	bool divider_ran = divider_runs(rtc);

	catch_up(rtc);
	sample_time(rtc);
	switch (reg) {
	case REG_A:
		rtc->cmos[REG_A] = value & (u8)~A_UPDATE;
		start_or_stop(rtc, divider_ran);
		break;
	case REG_B:
		if (value & B_SET)
			value &= (u8)~B_UPDATE;
		rtc->cmos[REG_B] = value;
		start_or_stop(rtc, divider_ran);
		break;
	case REG_C:
	case REG_D:
		break;
	default:
		rtc->cmos[reg] = value;
		if (rtc->running && is_time(reg))
			set_time(rtc);
		break;
	}
	settle(rtc);
}

static u8 read_cmos(struct rtc *rtc, unsigned reg)
{
	u8 value;

	if (is_time(reg))
		sample_time(rtc);
	switch (reg) {
	case REG_A:
		value = rtc->cmos[REG_A];
		if (rtc->running && (now_ns(rtc) + rtc->phase_ns) % NS_PER_SECOND >= NS_PER_SECOND - UPDATE_NOTICE_NS)
			value |= A_UPDATE;
		return value;
	case REG_C:
		catch_up(rtc);
		update_line(rtc);
		value = rtc->cmos[REG_C];
		rtc->cmos[REG_C] = 0;
		settle(rtc);
		return value;
	default:
		return rtc->cmos[reg];
	}
}

static u64 port_read(void *device, u64 offset, unsigned size)
{
	struct rtc *rtc = device;

	(void)size;
	return offset == 1 ? read_cmos(rtc, rtc->index) : 0xff;
}

static void port_write(void *device, u64 offset, unsigned size, u64 value)
{
	struct rtc *rtc = device;

	(void)size;
	if (offset == 1)
		write_cmos(rtc, rtc->index, (u8)value);
	else
		rtc->index = value & (CMOS_SIZE - 1); /* bit 7 would mask NMIs, of which there are none to mask */
}

struct rtc *rtc_create(struct vm *vm)
{
	static const struct bus_ops ops = {.read = port_read, .write = port_write, .widest = 1};
	struct rtc *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return NULL;
	rtc->vm = vm;
	rtc->origin = vm->clock.boot_epoch;
	rtc->phase_ns = vm->clock.boot_nsec;
	rtc->seen_ns = now_ns(rtc);
	rtc->running = true;
	rtc->cmos[REG_A] = A_DEFAULT;
	rtc->cmos[REG_B] = B_24H;
	rtc->cmos[REG_D] = D_VALID;
	timer_register(&vm->clock, &rtc->timer, timer_fired, rtc);
	bus_add(&vm->ports, PORT_RTC, 2, &ops, rtc, "rtc");
	return rtc;
}

void rtc_destroy(struct rtc *rtc)
{
	free(rtc);
}
