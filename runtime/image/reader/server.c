#include "image/reader/server.h"

#include <stdlib.h>
#include <string.h>

#include "image/protocol.h"
#include "image/reader/boot.h"
#include "image/reader/walk.h"
#include "image/wire.h"

#define ENTRY_MOST (2u * PATH_MAX + 256) /* bytes of an entry in a message */

struct server {
	int fd;
	bool directory;
	bool opened; /* space counts */
	struct space space;
	struct walk_state walk;
};

struct server *server_create(int image_fd, bool directory)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->fd = image_fd;
	server->directory = directory;
	walk_end(&server->walk);
	return server;
}

void server_destroy(struct server *server)
{
	walk_end(&server->walk);
	if (server->opened)
		space_close(&server->space);
	free(server);
}

/* The image is looked at when the first request comes, so that what is wrong can be said. */
static int open_image(struct server *server, struct err *err)
{
	if (server->opened)
		return 0;
	if (space_open(&server->space, server->fd, server->directory, err) < 0)
		return -1;
	server->opened = true;
	return 0;
}

/* ---- INFO ---- */

static void put_volume(struct wire *reply, const struct volume *volume)
{
	wire_put_u32(reply, volume->number);
	wire_put_u64(reply, volume->offset);
	wire_put_u64(reply, volume->size);
	wire_put_u32(reply, volume->tree != NULL);
	wire_put_text(reply, volume->type);
	wire_put_text(reply, volume->label);
	wire_put_text(reply, volume->uuid);
	wire_put_text(reply, volume->partuuid);
	wire_put_text(reply, volume->partlabel);
	wire_put_text(reply, volume->mount);
	wire_put_text(reply, volume->note);
}

static int answer_info(struct server *server, struct wire *request, struct wire *reply, struct err *err)
{
	const struct volumes *volumes = &server->space.volumes;

	(void)request, (void)err;
	wire_put_text(reply, volumes->format);
	wire_put_u32(reply, volumes->root == VOLUME_NONE ? IMAGE_TREE : volumes->root);
	wire_put_u32(reply, volumes->count);
	for (u32 i = 0; i < volumes->count; i++)
		put_volume(reply, &volumes->volume[i]);
	return 0;
}

/* ---- STAT ---- */

static void put_entry(struct wire *reply, const struct image_entry *entry)
{
	wire_put_text(reply, entry->path);
	wire_put_u32(reply, entry->kind);
	wire_put_u32(reply, entry->mode);
	wire_put_u32(reply, entry->uid);
	wire_put_u32(reply, entry->gid);
	wire_put_u32(reply, entry->links);
	wire_put_u32(reply, entry->major);
	wire_put_u32(reply, entry->minor);
	wire_put_u64(reply, entry->identity);
	wire_put_u64(reply, entry->size);
	wire_put_u64(reply, entry->mtime);
	wire_put_text(reply, entry->target);
}

static int answer_stat(struct server *server, struct wire *request, struct wire *reply, struct err *err)
{
	u32 volume = wire_get_u32(request);
	const char *path = wire_get_text(request);
	bool follow = wire_get_u32(request);
	char target[PATH_MAX] = "";
	struct image_entry entry;
	struct spot spot;
	struct tree *tree;

	if (!wire_done(request))
		return err_set(err, "a request is malformed");
	if (space_stat(&server->space, volume, path, follow, &spot, &entry, err))
		return -1;
	tree = spot_tree(&server->space, spot);
	if (entry.kind == IMAGE_SYMLINK && tree->ops->read_link(tree, spot.node, target, err) < 0)
		return -1;
	entry.path = "";
	entry.target = target;
	entry.identity ^= (u64)spot.volume << 56;
	put_entry(reply, &entry);
	return 0;
}

/* ---- OPEN ---- */

static void put_content(struct wire *reply, const struct content *content)
{
	wire_put_u64(reply, content->size);
	wire_put_u32(reply, content->fd >= 0);
	wire_put_u32(reply, content->piece_count);
	for (u32 i = 0; i < content->piece_count; i++) {
		wire_put_u64(reply, content->piece[i].offset);
		wire_put_u64(reply, content->piece[i].length);
	}
}

static int answer_open(struct server *server, struct wire *request, struct wire *reply, int *fd, struct err *err)
{
	u32 volume = wire_get_u32(request);
	const char *path = wire_get_text(request);
	u64 most = wire_get_u64(request);
	struct content content = CONTENT_INIT;
	struct image_entry entry;
	struct err why = ERR_INIT;
	struct spot spot;
	struct tree *tree;

	if (!wire_done(request))
		return err_set(err, "a request is malformed");
	if (space_stat(&server->space, volume, path, true, &spot, &entry, err))
		return -1;
	if (entry.kind != IMAGE_FILE)
		return err_set(err, "'%s' is %s", path,
			       entry.kind == IMAGE_DIRECTORY ? "a directory" : "not a regular file");
	tree = spot_tree(&server->space, spot);
	if (tree->ops->open(tree, spot.node, most, &content, &why) < 0)
		return err_set(err, "'%s': %s", path, why.text);
	put_content(reply, &content);
	*fd = content.fd;
	content.fd = -1;
	content_release(&content);
	return 0;
}

/* ---- WALK, NEXT ---- */

static int answer_walk(struct server *server, struct wire *request, struct wire *reply, struct err *err)
{
	u32 volume = wire_get_u32(request);
	const char *path = wire_get_text(request);
	u32 depth = wire_get_u32(request);

	(void)reply;
	if (!wire_done(request))
		return err_set(err, "a request is malformed");
	return walk_begin(&server->walk, &server->space, volume, path, depth, err);
}

static int answer_next(struct server *server, struct wire *request, struct wire *reply, struct err *err)
{
	u32 end_at = reply->at, count_at, count = 0;
	struct wire count_place;

	(void)request, (void)err;
	wire_put_u32(reply, 0);
	count_at = reply->at;
	wire_put_u32(reply, 0);
	while (!server->walk.done && reply->size - reply->at >= ENTRY_MOST) {
		struct image_entry entry;

		if (!walk_next(&server->walk, &entry))
			break;
		put_entry(reply, &entry);
		count++;
	}
	count_place = (struct wire){.data = reply->data, .size = reply->size, .at = end_at};
	wire_put_u32(&count_place, server->walk.done);
	count_place.at = count_at;
	wire_put_u32(&count_place, count);
	return 0;
}

/* ---- BOOT ---- */

static void put_boot(struct wire *reply, const struct boot *boot)
{
	wire_put_text(reply, boot->title ? boot->title : "");
	wire_put_text(reply, boot->source ? boot->source : "");
	wire_put_text(reply, boot->why ? boot->why : "");
	wire_put_text(reply, boot->cmdline ? boot->cmdline : "");
	wire_put_u32(reply, boot->kernel.volume);
	wire_put_text(reply, boot->kernel.path);
	wire_put_u32(reply, boot->initrd_count);
	for (u32 i = 0; i < boot->initrd_count; i++) {
		wire_put_u32(reply, boot->initrd[i].volume);
		wire_put_text(reply, boot->initrd[i].path);
	}
	wire_put_u32(reply, boot->note_count);
	for (u32 i = 0; i < boot->note_count; i++)
		wire_put_text(reply, boot->note[i]);
}

static int answer_boot(struct server *server, struct wire *request, struct wire *reply, struct err *err)
{
	struct boot boot;
	int result = boot_find(&server->space, &boot, err);

	(void)request;
	if (result == 0)
		put_boot(reply, &boot);
	boot_release(&boot);
	return result;
}

static int answer(struct server *server, struct wire *request, struct wire *reply, int *fd, struct err *err)
{
	u32 op = wire_get_u32(request);

	if (open_image(server, err) < 0)
		return -1;
	switch (op) {
	case PROTOCOL_INFO:
		return answer_info(server, request, reply, err);
	case PROTOCOL_STAT:
		return answer_stat(server, request, reply, err);
	case PROTOCOL_OPEN:
		return answer_open(server, request, reply, fd, err);
	case PROTOCOL_WALK:
		return answer_walk(server, request, reply, err);
	case PROTOCOL_NEXT:
		return answer_next(server, request, reply, err);
	case PROTOCOL_BOOT:
		return answer_boot(server, request, reply, err);
	default:
		return err_set(err, "a request of an unknown kind");
	}
}

int server_answer(struct server *server, struct wire *request, struct wire *reply)
{
	struct err err = ERR_INIT;
	int fd = -1;

	wire_put_u32(reply, 0);
	if (answer(server, request, reply, &fd, &err) == 0) {
		if (!reply->bad)
			return fd;
		err_set(&err, "what is to be said of it is too long");
	}
	reply->at = 0;
	reply->bad = false;
	wire_put_u32(reply, 1);
	wire_put_text(reply, err.text);
	return fd;
}
