/* Treaddir. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "p9/server.h"

#define ENTRY_SIZE (P9_QID_SIZE + 8 + 1 + 2) /* qid[13] offset[8] type[1] name[s], without the name's bytes */

void p9_listing_forget(struct p9_server *server, const struct p9_fid *fid)
{
	if (server->listing.fid == fid)
		server->listing.fid = NULL;
}

/*
 * Places the listing at `offset`, which the client has from an entry that it was given, or 0: then it wants to see what
 * the directory is now.
 */
static int seek(struct p9_listing *listing, const struct p9_fid *fid, u64 offset)
{
	if (offset && listing->fid == fid && listing->next == offset)
		return 0;
	if (lseek(fid->fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	listing->fid = fid;
	listing->next = offset;
	listing->at = listing->end = 0;
	return 0;
}

/* The next entry: *entry is NULL at the end of the directory. 0 or -errno. */
static int peek(struct p9_listing *listing, const struct dirent64 **entry)
{
	*entry = NULL;
	if (listing->at == listing->end) {
		ssize_t n = getdents64(listing->fid->fd, listing->entries, sizeof(listing->entries));

		if (n < 0) {
			int error = -errno;

			listing->fid = NULL; /* where the descriptor is now nobody knows */
			return error;
		}
		listing->at = 0;
		listing->end = (u32)n;
	}
	if (listing->at < listing->end)
		*entry = (const void *)(listing->entries + listing->at);
	return 0;
}

static void put_entry(struct p9_call *call, const struct p9_fid *fid, const struct dirent64 *entry, u32 name_length)
{
	const struct p9_server *server = call->server;
	bool above_root = fid->node == server->nodes.root && !strcmp(entry->d_name, "..");
	u64 ino = above_root ? fid->node->ino : entry->d_ino;
	struct p9_qid qid = {
		.type = entry->d_type == DT_DIR   ? P9_QID_DIRECTORY
			: entry->d_type == DT_LNK ? P9_QID_SYMLINK
						  : P9_QID_FILE,
		.path = p9_host_qid_path(&server->host, fid->node->dev, ino),
	};

	p9_put_qid(&call->out, &qid);
	p9_put64(&call->out, (u64)entry->d_off);
	p9_put8(&call->out, entry->d_type);
	p9_put_string(&call->out, entry->d_name, name_length);
}

/* As many entries as `room` bytes hold. Not even one is an error: none would mean the end. */
static int put_entries(struct p9_call *call, const struct p9_fid *fid, u32 room)
{
	struct p9_listing *listing = &call->server->listing;
	const struct dirent64 *entry;
	u32 used = 0;

	for (;;) {
		int error = peek(listing, &entry);

		if (error)
			return used ? 0 : error;
		if (!entry)
			return 0;
		u32 length = (u32)strlen(entry->d_name);

		if (room - used < ENTRY_SIZE + length)
			return used ? 0 : -EINVAL;
		put_entry(call, fid, entry, length);
		used += ENTRY_SIZE + length;
		listing->next = (u64)entry->d_off;
		listing->at += entry->d_reclen;
	}
}

int p9_readdir(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	u64 offset = p9_get64(&call->in);
	u32 room = p9_get32(&call->in);
	u64 there = (u64)(call->out.end - call->out.at);
	u8 *count = call->out.at;
	int error = p9_call_end(call);

	if (error)
		return error;
	if (fid->kind != P9_FID_DIR)
		return -EBADF;
	error = seek(&call->server->listing, fid, offset);
	if (error)
		return error;
	p9_put32(&call->out, 0);
	error = put_entries(call, fid, room > there - 4 ? (u32)(there - 4) : room);
	if (!error) {
		u32 used = p9_written(&call->out) - 4;

		memcpy(count, &used, sizeof(used));
	}
	return error;
}
