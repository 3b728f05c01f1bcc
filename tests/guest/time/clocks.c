/* For each line of input: CLOCK_REALTIME and CLOCK_MONOTONIC, in nanoseconds. Static, for a guest. */
#include <stdio.h>
#include <time.h>

static long long now_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(void)
{
	char line[64];

	puts("CLOCKS READY");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		const long long real = now_ns(CLOCK_REALTIME), monotonic = now_ns(CLOCK_MONOTONIC);

		printf("CLOCKS %lld %lld\n", real, monotonic);
		fflush(stdout);
	}
	return 0;
}
