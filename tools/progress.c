#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BAR_WIDTH   30
#define REDRAW_NS   100000000ULL
#define LINE_STEP   10 /* percent between two lines */
#define LINE_MIN_NS 2000000000ULL

static u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

void progress_begin(struct progress *progress, const char *what, u64 total)
{
	*progress = (struct progress){
		.what = what, .total = total, .start_ns = now_ns(), .terminal = isatty(STDERR_FILENO)};
	progress->shown_ns = progress->start_ns;
}

static void draw(const struct progress *progress, u64 done, double seconds)
{
	double rate = seconds > 0 ? (double)done / seconds : 0;
	unsigned filled = progress->total ? (unsigned)(BAR_WIDTH * done / progress->total) : BAR_WIDTH;
	unsigned left = rate > 0 ? (unsigned)((double)(progress->total - done) / rate + 0.5) : 0;
	char bar[BAR_WIDTH + 1];

	memset(bar, '#', filled);
	memset(bar + filled, '.', BAR_WIDTH - filled);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r%s [%s] %llu/%llu, %.0f units/s, %u:%02u left ", progress->what, bar,
		(unsigned long long)done, (unsigned long long)progress->total, rate, left / 60, left % 60);
	fflush(stderr);
}

void progress_show(struct progress *progress, u64 done)
{
	u64 now = now_ns();
	double seconds = (double)(now - progress->start_ns) / 1e9;
	unsigned percent = progress->total ? (unsigned)(100 * done / progress->total) : 100;

	if (progress->terminal) {
		if (now - progress->shown_ns < REDRAW_NS)
			return;
		draw(progress, done, seconds);
	} else {
		if (percent < progress->shown_percent + LINE_STEP || now - progress->shown_ns < LINE_MIN_NS)
			return;
		fprintf(stderr, "%s: %llu of %llu units, %.0f units/s\n", progress->what, (unsigned long long)done,
			(unsigned long long)progress->total, (double)done / seconds);
	}
	progress->shown_percent = percent;
	progress->shown_ns = now;
}

void progress_end(struct progress *progress, u64 done)
{
	double seconds = (double)(now_ns() - progress->start_ns) / 1e9;

	if (progress->terminal) {
		draw(progress, done, seconds);
		fputc('\n', stderr);
	}
}
