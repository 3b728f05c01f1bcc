/* The byte paths of a channel, called while the guest's vector registers are live: general registers only. */
#include "console/channel_internal.h"

#include "console/mark.h"
#include "cpu/vcpu.h"
#include "vm.h"

static u32 used(const struct channel_ring *ring)
{
	return ring->head - ring->tail;
}

bool console_channel_full(struct console *console)
{
	const struct channel *channel = (const struct channel *)console;

	return channel->connected && used(&channel->output) >= CHANNEL_RING - CHANNEL_SLACK;
}

void console_channel_put(struct console *console, u8 byte)
{
	struct channel *channel = (struct channel *)console;
	struct channel_ring *ring = &channel->output;

	if (channel->mark)
		mark_feed(channel->mark, byte);
	if (channel->choice.kind == CONSOLE_NONE)
		return;
	if (used(ring) == CHANNEL_RING) {
		if (channel->connected)
			return;
		ring->tail++;
	}
	ring->byte[ring->head++ % CHANNEL_RING] = byte;
	/* the loop calls flush(), also when the guest goes idle */
	if (channel->connected && channel->vm && (byte == '\n' || used(ring) % CHANNEL_SLACK == 0))
		vcpu_notify(channel->vm->vcpu);
}

int console_channel_get(struct console *console)
{
	struct channel *channel = (struct channel *)console;
	int byte;

	if (channel->input_at == channel->input_end)
		return -1;
	byte = channel->input[channel->input_at++];
	if (channel->stalled && channel->input_at == channel->input_end)
		vcpu_notify(channel->vm->vcpu); /* flush() lets more in */
	return byte;
}
