/* The virtio console, as far as the loop sees it. */
#ifndef AVANT_VIRTIO_CONSOLE_H
#define AVANT_VIRTIO_CONSOLE_H

struct virtio_console;

/* The far end may have input, room for output, or another size. The guest's vector state has been put away. */
void virtio_console_poll(struct virtio_console *console);

#endif
