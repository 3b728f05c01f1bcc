/*
 * Fuzzes the client of the process that reads images with replies that nobody would send: messages of up to 255 bytes,
 *each after a byte that is its length. Build by hand, for example:
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iruntime tests/fuzz/fuzz_image_client.c \
 *		runtime/image/wire.c runtime/boot/blob.c runtime/boot/file.c runtime/util/err.c -o fuzz_image_client
 */
#include "image/client.c" /* for its structure */

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u64 touched;

static void touch(const char *text)
{
	touched += strlen(text);
}

static int visit(void *opaque, const struct image_entry *entry)
{
	(void)opaque;
	touch(entry->path);
	touch(entry->target);
	return entry->kind >= IMAGE_KINDS;
}

static void ask(struct image *image, unsigned which)
{
	const struct image_info *info;
	struct image_entry entry;
	struct image_boot boot;
	struct err err = ERR_INIT;
	struct blob blob;

	switch (which % 5) {
	case 0:
		info = image_info(image, &err);
		for (u32 i = 0; info && i < info->volume_count; i++)
			touch(info->volume[i].note);
		break;
	case 1:
		if (image_stat(image, IMAGE_TREE, "/", true, &entry, &err) == 0)
			visit(NULL, &entry);
		break;
	case 2:
		if (image_open_file(image, 0, "/x", 1 << 20, &blob, &err) == 0) {
			static u8 bytes[1 << 20];

			blob_read(&blob, 0, bytes, blob.size, &err);
			blob_release(&blob);
		}
		break;
	case 3:
		image_walk(image, 0, "/", 3, visit, NULL, &err);
		break;
	default:
		if (image_find_boot(image, &boot, &err) == 0) {
			touch(boot.cmdline);
			for (u32 i = 0; i < boot.initrd_count; i++)
				touch(boot.initrd[i].path);
			for (u32 i = 0; i < boot.note_count; i++)
				touch(boot.note[i]);
		}
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct image *image = calloc(1, sizeof(*image));
	unsigned which = size ? data[0] : 0;
	int pair[2];

	if (!image || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	image->path = strdup("image");
	image->fd = open("/proc/self/exe", O_RDONLY);
	image->size = 100000;
	image->socket = pair[0];
	for (size_t at = 1; at < size;) {
		size_t length = data[at++];

		if (length > size - at)
			length = size - at;
		/* an empty message would be taken for the end */
		if (length && send(pair[1], data + at, length, MSG_DONTWAIT) < 0)
			break;
		at += length;
	}
	shutdown(pair[1], SHUT_WR);
	for (unsigned i = 0; i < 5; i++)
		ask(image, which + i);
	image_close(image);
	close(pair[1]);
	return 0;
}
