#include "dev/tsc_frequency.h"

#include "dev/scale.h"
#include "util/err.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define SANE_MIN_KHZ 100000ULL
#define SANE_MAX_KHZ 20000000ULL

static bool sane(u64 khz)
{
	return khz >= SANE_MIN_KHZ && khz <= SANE_MAX_KHZ;
}

/*
 * The kernel tells user space how to convert TSC to nanoseconds in the page it maps for a performance event
 * (perf_event_open(2), cap_user_time). A dummy software event is enough and needs no privilege.
 */
static u64 khz_from_kernel(void)
{
	struct perf_event_attr attr;
	const struct perf_event_mmap_page *page;
	u64 khz = 0;
	long size = sysconf(_SC_PAGESIZE);
	int fd;

	memset(&attr, 0, sizeof(attr));
	attr.size = sizeof(attr);
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_DUMMY;
	attr.exclude_kernel = 1;
	attr.exclude_hv = 1;
	fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return 0;
	page = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	if (page != MAP_FAILED) {
		if (page->cap_user_time && page->time_mult && page->time_shift <= 40)
			khz = ((1000000ULL << page->time_shift) + page->time_mult / 2) / page->time_mult;
		munmap((void *)page, (size_t)size);
	}
	close(fd);
	return khz;
}

/* SDM vol. 2A, CPUID leaf 15h: TSC = crystal (ECX, in Hz) * EBX / EAX. Leaf 16h alone is nominal: too coarse. */
static u64 khz_from_cpuid(void)
{
	unsigned eax, ebx, ecx, edx;

	if (!__get_cpuid_count(0x15, 0, &eax, &ebx, &ecx, &edx) || !eax || !ebx || !ecx)
		return 0;
	return ((u64)ecx * ebx / eax + 500) / 1000;
}

struct sample {
	u64 tsc, ns;
};

/* A clock reading between two TSC readings that are as close as several tries can get them. */
static int take_sample(struct sample *sample)
{
	u64 best = UINT64_MAX;

	for (int i = 0; i < 20; i++) {
		struct timespec now;
		u64 before = host_tsc(), after;

		if (clock_gettime(CLOCK_MONOTONIC_RAW, &now) != 0)
			return -1;
		after = host_tsc();
		if (after - before < best) {
			best = after - before;
			sample->tsc = before + best / 2;
			sample->ns = (u64)now.tv_sec * NS_PER_SECOND + (u64)now.tv_nsec;
		}
	}
	return 0;
}

static u64 measure_khz(long duration_ns)
{
	struct timespec wait = {0, duration_ns};
	struct sample from = {0}, to = {0};

	if (take_sample(&from) != 0)
		return 0;
	/* An early return does no harm: what counts is the time that really went by. */
	nanosleep(&wait, NULL);
	if (take_sample(&to) != 0 || to.ns <= from.ns || to.tsc <= from.tsc)
		return 0;
	return scale(to.tsc - from.tsc, 1000000, to.ns - from.ns);
}

/*
 * What the host's clocks run at, as far as it is being corrected (by NTP, say): its TSC may be off by some parts in
 * 10^5, which the host knows, and a guest would have to find out again.
 */
static u64 corrected(u64 khz)
{
	struct timex now = {0};
	s64 parts; /* of 2^16 * 10^6 */

	if (adjtimex(&now) < 0)
		return khz;
	parts = now.freq + ((s64)now.tick * sysconf(_SC_CLK_TCK) - 1000000) * 65536;
	return (u64)((s64)khz - (s64)khz * parts / (65536 * 1000000LL));
}

static u64 find_khz(struct err *err)
{
	u64 khz = khz_from_kernel();

	if (sane(khz))
		return khz;
	khz = khz_from_cpuid();
	if (sane(khz)) {
		u64 measured = measure_khz(2000000);
		u64 off = measured > khz ? measured - khz : khz - measured;

		if (off < khz / 2000)
			return khz;
	}
	khz = measure_khz(20000000);
	if (!sane(khz))
		return err_set(err, "cannot measure the host's time-stamp counter (found %llu kHz)",
			       (unsigned long long)khz),
		       0;
	return khz;
}

u64 host_tsc_khz(struct err *err)
{
	u64 khz = find_khz(err);

	return khz ? corrected(khz) : 0;
}
