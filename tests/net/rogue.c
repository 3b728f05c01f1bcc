/*
 * In place of the network process: one that somebody has taken over. The host name in its argument says what it does
 * once it has said that it is ready.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/process/process.h"

int main(int argc, char **argv)
{
	const char ready[512] = {PROCESS_READY}, *how = argc > 1 ? strrchr(argv[1], '=') + 1 : "";
	const u64 one = 1;
	struct channel channel;
	u8 *raw = mmap(NULL, 4096 + 2UL * CHANNEL_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, PROCESS_MEMORY, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (raw == MAP_FAILED ||
	    channel_open(&channel, CHANNEL_PROCESS, PROCESS_MEMORY, PROCESS_WAKE_PEER, PROCESS_WAKE_ME, NULL) < 0)
		return 1;
	if (send(PROCESS_CONTROL, ready, sizeof(ready), 0) < 0)
		return 1;
	if (!strcmp(how, "head"))
		*(u32 *)(raw + 128) = 0x80000000;
	if (!strcmp(how, "size")) {
		*(u32 *)(raw + 4096 + CHANNEL_RING_SIZE) = 0xfffffff8;
		*(u32 *)(raw + 128) = 64;
	}
	if (!strcmp(how, "short") && channel_reserve(&channel, 3))
		channel_commit(&channel, 3);
	if (!strcmp(how, "exits"))
		return 3;
	if (!strcmp(how, "call"))
		raise(SIGSYS);
	if (write(PROCESS_WAKE_PEER, &one, sizeof(one)) < 0)
		return 1;
	for (;;)
		pause();
}
