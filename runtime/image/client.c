/* The client's side of reading images: starts the process that reads, asks it, checks what it answers (protocol.h). */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/fs.h>

#include "boot/blob.h"
#include "image/image.h"
#include "image/protocol.h"
#include "image/wire.h"

#define READER "avant-read-image"

struct image {
	char *path;
	int fd;       /* the image */
	u64 size;     /* bytes; of a directory 0 */
	int socket;   /* to the reader, or -1 */
	pid_t reader; /* 0: it was waited for */
	struct image_info *info;
	u8 request[PROTOCOL_REQUEST_MAX];
	/* replies by how long they are valid */
	u8 info_reply[PROTOCOL_REPLY_MAX], boot_reply[PROTOCOL_REPLY_MAX], walk_reply[PROTOCOL_REPLY_MAX],
		reply[PROTOCOL_REPLY_MAX];
};

/* ---- the process ---- */

/* Where the reader is: beside this program (build tree), or where it was installed. */
static int find_reader(char *path, size_t size, struct err *err)
{
	static const char *const folders[] = {"", "../libexec/avant/"};
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *here;

	if (length < 0)
		return err_set(err, "cannot tell where this program is: %s", strerror(errno));
	self[length] = '\0';
	here = dirname(self);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, size, "%s/%s%s", here, folders[i], READER);
		if (access(path, X_OK) == 0)
			return 0;
	}
	return err_set(err, "cannot run '%s': %s", path, strerror(errno));
}

/* The reader gets two descriptors and nothing else: neither ours nor the environment. */
static int spawn_reader(struct image *image, const char *program, int socket, struct err *err)
{
	char *arguments[] = {(char *)READER, NULL}, library_path[PATH_MAX + 32] = "", *environment[] = {NULL, NULL};
	const char *libraries = getenv("LD_LIBRARY_PATH");
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	int error;

	if (libraries && (size_t)snprintf(library_path, sizeof(library_path), "LD_LIBRARY_PATH=%s", libraries) <
				 sizeof(library_path))
		environment[0] = library_path;
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	/* a process group of its own: Ctrl-C at the terminal is for us to answer, by closing the socket */
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	/* spawn_fds() has seen to it that neither source is one of the targets */
	if ((error = posix_spawn_file_actions_adddup2(&actions, socket, PROTOCOL_SOCKET_FD)) == 0 &&
	    (error = posix_spawn_file_actions_adddup2(&actions, image->fd, PROTOCOL_IMAGE_FD)) == 0 &&
	    (error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)) == 0 &&
	    (error = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)) == 0 &&
	    (error = posix_spawn_file_actions_adddup2(&actions, 1, 2)) == 0 &&
	    (error = posix_spawn_file_actions_addclosefrom_np(&actions, PROTOCOL_IMAGE_FD + 1)) == 0)
		error = posix_spawn(&image->reader, program, &actions, &attributes, arguments, environment);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	if (error) {
		image->reader = 0;
		return err_set(err, "cannot run '%s': %s", program, strerror(error));
	}
	return 0;
}

/* The descriptor as one above those that the reader begins with, so that moving one does not close the other. */
static int above(int fd)
{
	int moved;

	if (fd < 0 || fd > PROTOCOL_IMAGE_FD)
		return fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, PROTOCOL_IMAGE_FD + 1);
	close(fd);
	return moved;
}

static int start_reader(struct image *image, const char *program, struct err *err)
{
	char found[PATH_MAX + 64];
	int pair[2], result;

	if (!program) {
		if (find_reader(found, sizeof(found), err) < 0)
			return -1;
		program = found;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, "cannot read '%s': %s", image->path, strerror(errno));
	image->socket = pair[0];
	pair[1] = above(pair[1]);
	result = pair[1] < 0 ? err_set(err, "cannot read '%s': %s", image->path, strerror(errno))
			     : spawn_reader(image, program, pair[1], err);
	close(pair[1]);
	return result;
}

/* The reader has gone, or does not keep to the protocol: says how, so that the user can tell. Returns -1. */
static int reader_failed(struct image *image, struct err *err)
{
	int status = 0;

	if (image->reader) {
		/* nothing that it does after it broke the protocol is wanted; if it is ending, this changes nothing */
		kill(image->reader, SIGKILL);
		while (waitpid(image->reader, &status, 0) < 0 && errno == EINTR)
			;
		image->reader = 0;
	}
	close(image->socket); /* only now: it would end by this, and look as if it had wanted to */
	image->socket = -1;
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		return err_set(err,
			       "'%s' cannot be read: it is damaged, or made to attack; the process that read it ended "
			       "with '%s'",
			       image->path, strsignal(WTERMSIG(status)));
	if (WIFEXITED(status))
		return err_set(err, "'%s' cannot be read: the process that reads it ended with status %d", image->path,
			       WEXITSTATUS(status));
	return err_set(err, "'%s' cannot be read: the process that reads it does not answer sensibly", image->path);
}

/* ---- one request, one reply ---- */

static struct wire begin(struct image *image, enum protocol_op op)
{
	struct wire wire = {.data = image->request, .size = sizeof(image->request)};

	wire_put_u32(&wire, op);
	return wire;
}

static struct wire begin_place(struct image *image, enum protocol_op op, u32 volume, const char *path)
{
	struct wire wire = begin(image, op);

	wire_put_u32(&wire, volume);
	wire_put_text(&wire, path);
	return wire;
}

/* Takes the descriptor out of a message; closes any that are too many. */
static int received_fd(struct msghdr *message)
{
	int fd = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int one;

			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(one));
			if (fd < 0)
				fd = one;
			else
				close(one);
		}
	}
	return fd;
}

/* Waits for the reply, in `buffer` of PROTOCOL_REPLY_MAX bytes. *fd: what came with it, or -1; may be NULL. */
static int receive(struct image *image, u8 *buffer, struct wire *reply, int *fd, struct err *err)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {buffer, PROTOCOL_REPLY_MAX};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n;
	int came;

	do
		n = recvmsg(image->socket, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return reader_failed(image, err);
	came = received_fd(&message);
	if (fd)
		*fd = came;
	else if (came >= 0)
		close(came);
	*reply = (struct wire){.data = buffer, .size = (u32)n, .bad = message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)};
	return 0;
}

/* Names from the image are in messages: what a terminal might obey becomes '?'. */
static void make_printable(struct err *err)
{
	for (char *c = err ? err->text : NULL; c && *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

/* Sends the request and reads the reply up to its results. */
static int call(struct image *image, const struct wire *request, u8 *buffer, struct wire *reply, int *fd,
		struct err *err)
{
	ssize_t n;

	if (fd)
		*fd = -1;
	if (request->bad)
		return err_set(err, "a path in '%s' is too long", image->path);
	if (image->socket < 0)
		return err_set(err, "'%s' cannot be read any more", image->path);
	do
		n = send(image->socket, request->data, request->at, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)request->at)
		return reader_failed(image, err);
	if (receive(image, buffer, reply, fd, err) < 0)
		return -1;
	if (wire_get_u32(reply)) {
		const char *text = wire_get_text(reply);

		if (!wire_done(reply))
			return reader_failed(image, err);
		err_set(err, "'%s': %s", image->path, text);
		make_printable(err);
		return -1;
	}
	return reply->bad ? reader_failed(image, err) : 0;
}

/* ---- opening ---- */

static int check_kind(struct image *image, struct err *err)
{
	struct stat st;

	if (fstat(image->fd, &st) < 0)
		return err_set(err, "cannot read '%s': %s", image->path, strerror(errno));
	if (S_ISREG(st.st_mode))
		image->size = (u64)st.st_size;
	else if (S_ISBLK(st.st_mode) && ioctl(image->fd, BLKGETSIZE64, &image->size) < 0)
		return err_set(err, "cannot tell the size of '%s': %s", image->path, strerror(errno));
	else if (!S_ISBLK(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_set(err, "'%s' is neither a file, nor a disk, nor a directory", image->path);
	return 0;
}

struct image *image_open(const char *path, const char *reader, struct err *err)
{
	struct image *image = calloc(1, sizeof(*image));

	if (!image || !(image->path = strdup(path))) {
		free(image);
		err_set(err, "not enough memory to read '%s'", path);
		return NULL;
	}
	image->socket = -1;
	/* O_NONBLOCK: a FIFO without a writer must become a message, not a hang */
	image->fd = above(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
	if (image->fd < 0)
		err_set(err, "cannot open '%s': %s", path, strerror(errno));
	else if (check_kind(image, err) == 0 && start_reader(image, reader, err) == 0)
		return image;
	image_close(image);
	return NULL;
}

void image_stop(struct image *image)
{
	if (image->socket >= 0)
		close(image->socket);
	image->socket = -1;
	if (!image->reader)
		return;
	kill(image->reader, SIGKILL); /* it may be at work, and has nothing to clear away */
	while (waitpid(image->reader, NULL, 0) < 0 && errno == EINTR)
		;
	image->reader = 0;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	image_stop(image);
	if (image->fd >= 0)
		close(image->fd);
	free(image->info);
	free(image->path);
	free(image);
}

/* ---- what is in it ---- */

static void get_volume(struct wire *reply, struct image_volume *volume)
{
	volume->number = wire_get_u32(reply);
	volume->offset = wire_get_u64(reply);
	volume->size = wire_get_u64(reply);
	volume->readable = wire_get_u32(reply);
	volume->type = wire_get_text(reply);
	volume->label = wire_get_text(reply);
	volume->uuid = wire_get_text(reply);
	volume->partuuid = wire_get_text(reply);
	volume->partlabel = wire_get_text(reply);
	volume->mount = wire_get_text(reply);
	volume->note = wire_get_text(reply);
}

const struct image_info *image_info(struct image *image, struct err *err)
{
	struct wire request = begin(image, PROTOCOL_INFO), reply;
	struct image_info *info;

	if (image->info)
		return image->info;
	info = calloc(1, sizeof(*info));
	if (!info) {
		err_set(err, "not enough memory to read '%s'", image->path);
		return NULL;
	}
	if (call(image, &request, image->info_reply, &reply, NULL, err) == 0) {
		info->format = wire_get_text(&reply);
		info->size = image->size;
		info->root = wire_get_u32(&reply);
		info->volume_count = wire_get_u32(&reply);
		for (u32 i = 0; i < info->volume_count && i < IMAGE_VOLUMES_MAX; i++)
			get_volume(&reply, &info->volume[i]);
		if (wire_done(&reply) && info->volume_count <= IMAGE_VOLUMES_MAX &&
		    (info->root == IMAGE_TREE || info->root < info->volume_count)) {
			image->info = info;
			return info;
		}
		reader_failed(image, err);
	}
	free(info);
	return NULL;
}

/* ---- files ---- */

static void get_entry(struct wire *reply, struct image_entry *entry)
{
	u32 kind;

	entry->path = wire_get_text(reply);
	kind = wire_get_u32(reply);
	entry->kind = kind < IMAGE_KINDS ? kind : IMAGE_UNREADABLE;
	entry->mode = wire_get_u32(reply);
	entry->uid = wire_get_u32(reply);
	entry->gid = wire_get_u32(reply);
	entry->links = wire_get_u32(reply);
	entry->major = wire_get_u32(reply);
	entry->minor = wire_get_u32(reply);
	entry->identity = wire_get_u64(reply);
	entry->size = wire_get_u64(reply);
	entry->mtime = wire_get_u64(reply);
	entry->target = wire_get_text(reply);
}

int image_stat(struct image *image, u32 volume, const char *path, bool follow, struct image_entry *entry,
	       struct err *err)
{
	struct wire request = begin_place(image, PROTOCOL_STAT, volume, path), reply;

	wire_put_u32(&request, follow);
	if (call(image, &request, image->reply, &reply, NULL, err) < 0)
		return -1;
	get_entry(&reply, entry);
	return wire_done(&reply) ? 0 : reader_failed(image, err);
}

/* Whether the pieces may lie in this descriptor: only in memory or in a file, where reading neither waits nor acts. */
static bool is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int get_pieces(struct image *image, struct wire *reply, u64 most, int fd, struct blob *blob, struct err *err)
{
	u64 size = wire_get_u64(reply);
	bool separate = wire_get_u32(reply);
	u32 count = wire_get_u32(reply);

	if (reply->bad || count > PROTOCOL_PIECES_MAX || size > most || separate != (fd >= 0) ||
	    (separate && !is_file(fd)))
		return reader_failed(image, err);
	for (u32 i = 0; i < count; i++) {
		u64 offset = wire_get_u64(reply), length = wire_get_u64(reply);
		bool hole = offset == PROTOCOL_HOLE;

		if (reply->bad || length > size - blob->size)
			return reader_failed(image, err);
		if (!hole && !separate && (offset > image->size || length > image->size - offset))
			return reader_failed(image, err);
		if (blob_add(blob, hole ? BLOB_HOLE : separate ? fd : image->fd, hole ? 0 : offset, length, err) < 0)
			return -1;
	}
	return wire_done(reply) && blob->size == size ? 0 : reader_failed(image, err);
}

int image_open_file(struct image *image, u32 volume, const char *path, u64 most, struct blob *blob, struct err *err)
{
	struct wire request = begin_place(image, PROTOCOL_OPEN, volume, path), reply;
	int fd;

	wire_put_u64(&request, most);
	if (call(image, &request, image->reply, &reply, &fd, err) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (blob_init(blob, path, err) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (fd >= 0 && blob_own(blob, fd, err) < 0)
		close(fd);
	else if (get_pieces(image, &reply, most, fd, blob, err) == 0)
		return 0;
	blob_release(blob);
	return -1;
}

/* One NEXT: visits what came. Returns 1 at the end, 0 if there is more, or the visitor's result in *ended, or -1. */
static int visit_some(struct image *image, image_visitor *visit, void *opaque, int *ended, struct err *err)
{
	struct wire request = begin(image, PROTOCOL_NEXT), reply;
	u32 end, count;

	if (call(image, &request, image->walk_reply, &reply, NULL, err) < 0)
		return -1;
	end = wire_get_u32(&reply);
	count = wire_get_u32(&reply);
	for (u32 i = 0; i < count && !reply.bad; i++) {
		struct image_entry entry;

		get_entry(&reply, &entry);
		if (reply.bad)
			break;
		*ended = visit(opaque, &entry);
		if (*ended)
			return 1;
	}
	/* an empty message that is not the end would have us ask for ever */
	if (!wire_done(&reply) || (!count && !end))
		return reader_failed(image, err);
	return end != 0;
}

int image_walk(struct image *image, u32 volume, const char *path, u32 depth, image_visitor *visit, void *opaque,
	       struct err *err)
{
	struct wire request = begin_place(image, PROTOCOL_WALK, volume, path), reply;
	int ended = 0, result;

	wire_put_u32(&request, depth);
	if (call(image, &request, image->reply, &reply, NULL, err) < 0)
		return -1;
	if (!wire_done(&reply))
		return reader_failed(image, err);
	do
		result = visit_some(image, visit, opaque, &ended, err);
	while (result == 0);
	return result < 0 ? -1 : ended;
}

/* ---- booting it ---- */

static struct image_place get_place(struct wire *reply)
{
	struct image_place place;

	place.volume = wire_get_u32(reply);
	place.path = wire_get_text(reply);
	return place;
}

int image_find_boot(struct image *image, struct image_boot *boot, struct err *err)
{
	struct wire request = begin(image, PROTOCOL_BOOT), reply;

	*boot = (struct image_boot){0};
	if (call(image, &request, image->boot_reply, &reply, NULL, err) < 0)
		return -1;
	boot->title = wire_get_text(&reply);
	boot->source = wire_get_text(&reply);
	boot->why = wire_get_text(&reply);
	boot->cmdline = wire_get_text(&reply);
	boot->kernel = get_place(&reply);
	boot->initrd_count = wire_get_u32(&reply);
	for (u32 i = 0; i < boot->initrd_count && i < IMAGE_INITRDS_MAX; i++)
		boot->initrd[i] = get_place(&reply);
	boot->note_count = wire_get_u32(&reply);
	for (u32 i = 0; i < boot->note_count && i < IMAGE_NOTES_MAX; i++)
		boot->note[i] = wire_get_text(&reply);
	if (wire_done(&reply) && boot->initrd_count <= IMAGE_INITRDS_MAX && boot->note_count <= IMAGE_NOTES_MAX)
		return 0;
	return reader_failed(image, err);
}

int image_open_boot(struct image *image, const struct image_boot *boot, struct blob *kernel, struct blob *initrd,
		    struct err *err)
{
	const u64 most = 1ULL << 30;

	if (image_open_file(image, boot->kernel.volume, boot->kernel.path, most, kernel, err) < 0)
		return -1;
	if (blob_init(initrd, boot->initrd_count ? boot->initrd[0].path : "", err) == 0) {
		for (u32 i = 0;; i++) {
			struct blob part = {0};

			if (i == boot->initrd_count)
				return 0;
			if (image_open_file(image, boot->initrd[i].volume, boot->initrd[i].path, most, &part, err) < 0)
				break;
			if (blob_append(initrd, &part, 4, err) < 0) {
				blob_release(&part);
				break;
			}
		}
		blob_release(initrd);
	}
	blob_release(kernel);
	return -1;
}
