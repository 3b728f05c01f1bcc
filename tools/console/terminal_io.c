/*
 * The byte paths of the console. They run while the guest's vector registers are live in the host's, so this file is
 * compiled for general registers only and makes its system calls itself: libc's wrappers promise nothing about vectors.
 */
#include "console/terminal_internal.h"

#include "console/mark.h"
#include "console/raw_call.h"
#include "vm.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#define WRITE_WAIT_NS 100000000 /* between two looks at whether the run is to end */

static u64 monotonic_ns(void)
{
	struct timespec now;

	raw_call(__NR_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0, 0);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

/* Ends the run with an error; later output is dropped. */
static void output_fail(struct terminal *terminal, const char *message)
{
	terminal->output.failed = true;
	if (terminal->vm)
		vm_stop_error(terminal->vm, message);
}

/* Waits until the reader takes more. False: the run is to end and nobody reads, drop the rest. */
static bool wait_writable(struct terminal *terminal)
{
	struct terminal_output *output = &terminal->output;

	for (;;) {
		struct pollfd poll = {.fd = output->fd, .events = POLLOUT};
		struct timespec wait = {.tv_nsec = WRITE_WAIT_NS};

		if (raw_call(__NR_ppoll, (long)&poll, 1, (long)&wait, 0, 8) > 0)
			return true;
		if ((terminal->vm && terminal->vm->stop_requested) || monotonic_ns() >= output->give_up_ns) {
			output->failed = true;
			return false;
		}
	}
}

void terminal_flush(struct console *console)
{
	struct terminal *terminal = (struct terminal *)console;
	struct terminal_output *output = &terminal->output;
	u32 done = 0;

	while (done < output->used && !output->failed && wait_writable(terminal)) {
		long n = raw_call(__NR_write, output->fd, (long)(output->buffer + done), output->used - done, 0, 0);

		if (n > 0)
			done += (u32)n;
		else if (n == -EPIPE)
			output_fail(terminal, "nobody reads the console output any more (broken pipe)");
		else if (n == -ENOSPC || n == -EDQUOT || n == -EFBIG)
			output_fail(terminal, "cannot write the console output: the disk is full");
		else if (n != -EINTR && n != -EAGAIN)
			output_fail(terminal, "cannot write the console output: input/output error");
	}
	output->used = 0;
}

/*
 * A line at a time: whoever waits for a line sees it at once, and a guest that prints much pays one write for a line. A
 * prompt without a line end goes out when the guest goes idle.
 */
void terminal_put(struct console *console, u8 byte)
{
	struct terminal *terminal = (struct terminal *)console;
	struct terminal_output *output = &terminal->output;

	if (terminal->mark)
		mark_feed(terminal->mark, byte);
	output->buffer[output->used++] = byte;
	if (byte == '\n' || output->used == TERMINAL_BUFFER)
		terminal_flush(console);
}

u32 terminal_ring_room(const struct terminal_ring *ring)
{
	return TERMINAL_RING - (ring->head - __atomic_load_n(&ring->tail, __ATOMIC_SEQ_CST));
}

bool terminal_ring_add(struct terminal_ring *ring, u8 byte)
{
	if (!terminal_ring_room(ring))
		return false;
	ring->byte[ring->head % TERMINAL_RING] = byte;
	__atomic_store_n(&ring->head, ring->head + 1, __ATOMIC_RELEASE);
	return true;
}

int terminal_get(struct console *console)
{
	struct terminal *terminal = (struct terminal *)console;
	struct terminal_ring *ring = &terminal->ring;
	u32 used = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) - ring->tail;
	u8 byte;

	if (!used)
		return -1;
	byte = ring->byte[ring->tail % TERMINAL_RING];
	__atomic_store_n(&ring->tail, ring->tail + 1, __ATOMIC_SEQ_CST);
	if (used <= TERMINAL_RING / 2 && __atomic_load_n(&ring->wants_room, __ATOMIC_SEQ_CST)) {
		u64 one = 1;

		__atomic_store_n(&ring->wants_room, 0, __ATOMIC_SEQ_CST);
		raw_call(__NR_write, terminal->room_fd, (long)&one, sizeof(one), 0, 0);
	}
	return byte;
}
