#include "p9/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "p9/server.h"

#define RANGE_END ((u64)INT64_MAX)

/* One lock of the guest's: who holds it is told by the fid and the process that asked for it. */
struct record {
	const struct p9_fid *fid;
	u32 process;
	enum p9_lock_type type; /* READ or WRITE */
	u64 first, last;
};

struct records {
	struct record *items;
	u32 count;
};

/* A file with locks. */
struct locked {
	struct p9_link link;
	u64 dev, ino;
	int fd; /* holds the host's locks */
	bool writable;
	struct records records;
};

int p9_locks_init(struct p9_locks *locks)
{
	locks->count = 0;
	return p9_table_init(&locks->files);
}

static void release_file(struct locked *file)
{
	close(file->fd);
	free(file->records.items);
	free(file);
}

void p9_locks_release(struct p9_locks *locks)
{
	struct p9_link *link;
	u32 cursor = 0;

	while (locks->files.buckets && (link = p9_table_take(&locks->files, &cursor)))
		release_file(P9_TABLE_OF(link, struct locked, link));
	p9_table_release(&locks->files);
}

static u64 hash_of(const struct p9_node *node)
{
	return p9_hash(node->ino ^ p9_hash(node->dev));
}

static struct locked *find(const struct p9_locks *locks, const struct p9_node *node)
{
	struct p9_link *link = p9_table_first(&locks->files, hash_of(node));

	for (; link; link = p9_table_next(link)) {
		struct locked *file = P9_TABLE_OF(link, struct locked, link);

		if (file->dev == node->dev && file->ino == node->ino)
			return file;
	}
	return NULL;
}

/* --- what is locked together ---------------------------------------------------------------------------------------
 */

/* What is held at `at`, and up to where (*last) that does not change: F_UNLCK, F_RDLCK, F_WRLCK. */
static short held(const struct records *records, u64 at, u64 *last)
{
	short type = F_UNLCK;

	for (u32 i = 0; i < records->count; i++) {
		const struct record *record = &records->items[i];

		if (at < record->first) {
			if (*last >= record->first)
				*last = record->first - 1;
		} else if (at <= record->last) {
			if (*last > record->last)
				*last = record->last;
			if (record->type == P9_LOCK_WRITE)
				type = F_WRLCK;
			else if (type == F_UNLCK)
				type = F_RDLCK;
		}
	}
	return type;
}

/* How strong a lock is: none, for reading, for writing. */
static int strength(short type)
{
	return type == F_UNLCK ? 0 : type == F_RDLCK ? 1 : 2;
}

static int set_host(const struct locked *file, short type, u64 first, u64 last)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)first};

	if (type == F_WRLCK && !file->writable)
		lock.l_type = F_RDLCK; /* flock(2) on a file that we may not write: the best there is */
	lock.l_len = last == RANGE_END ? 0 : (off_t)(last - first + 1);
	return TEMP_FAILURE_RETRY(fcntl(file->fd, F_OFD_SETLK, &lock)) < 0 ? -errno : 0;
}

/*
 * Takes [first, last] on the host from what `from` holds together to what `to` holds: only where the lock becomes
 * stronger, or only elsewhere. On an error *stopped is where.
 */
static int change_host(const struct locked *file, const struct records *from, const struct records *to, u64 first,
		       u64 last, bool stronger, u64 *stopped)
{
	for (u64 at = first, end; at <= last; at = end + 1) {
		end = last;

		short before = held(from, at, &end), after = held(to, at, &end);

		if (before == after || (strength(after) > strength(before)) != stronger)
			continue;
		int error = set_host(file, after, at, end);

		if (error) {
			*stopped = at;
			return error;
		}
	}
	return 0;
}

/* Makes `to` the file's records, if the host agrees: -EAGAIN if somebody else has locked what is to be locked. */
static int replace(struct locked *file, const struct records *to, u64 first, u64 last)
{
	u64 stopped;
	int error = change_host(file, &file->records, to, first, last, true, &stopped);

	if (!error)
		error = change_host(file, &file->records, to, first, last, false, &stopped);
	else if (stopped > first)
		change_host(file, to, &file->records, first, stopped - 1, false, &(u64){0});
	if (error)
		return error;
	free(file->records.items);
	file->records = *to;
	return 0;
}

/* --- records -------------------------------------------------------------------------------------------------------
 */

static void add(struct records *records, const struct record *record, u64 first, u64 last)
{
	records->items[records->count] = *record;
	records->items[records->count].first = first;
	records->items[records->count++].last = last;
}

/* The records with one more, which replaces what its owner held there: each may leave two pieces. 0 or -ENOMEM. */
static int with(const struct records *records, const struct record *record, struct records *to)
{
	u64 first = record->first, last = record->last;

	to->count = 0;
	to->items = calloc(records->count * 2 + 1, sizeof(*to->items));
	if (!to->items)
		return -ENOMEM;
	for (u32 i = 0; i < records->count; i++) {
		const struct record *old = &records->items[i];

		if (old->fid != record->fid || old->process != record->process || old->last < first ||
		    old->first > last) {
			add(to, old, old->first, old->last);
			continue;
		}
		if (old->first < first)
			add(to, old, old->first, first - 1);
		if (old->last > last)
			add(to, old, last + 1, old->last);
	}
	if (record->type != P9_LOCK_UNLOCK)
		add(to, record, first, last);
	return 0;
}

static void drop_if_unlocked(struct p9_locks *locks, struct locked *file)
{
	if (file->records.count)
		return;
	p9_table_remove(&locks->files, &file->link);
	release_file(file);
}

static int set(struct p9_locks *locks, struct locked *file, const struct record *record)
{
	struct records to;
	u32 before = file->records.count;
	int error = with(&file->records, record, &to);

	if (error)
		return error;
	if (to.count > before && locks->count + (to.count - before) > P9_LOCKS_MAX)
		error = -ENOLCK;
	if (!error)
		error = replace(file, &to, record->first, record->last);
	if (error)
		free(to.items);
	else
		locks->count = locks->count - before + to.count;
	return error;
}

void p9_locks_forget(struct p9_locks *locks, const struct p9_fid *fid)
{
	struct locked *file = locks->count ? find(locks, fid->node) : NULL;

	if (!file)
		return;
	struct records to = {calloc(file->records.count, sizeof(*to.items)), 0};

	for (u32 i = 0; to.items && i < file->records.count; i++)
		if (file->records.items[i].fid != fid)
			add(&to, &file->records.items[i], file->records.items[i].first, file->records.items[i].last);
	locks->count -= file->records.count - to.count;
	/* Less is held afterwards: the host cannot refuse. Without memory nothing is. */
	change_host(file, &file->records, &to, 0, RANGE_END, false, &(u64){0});
	free(file->records.items);
	file->records = to;
	drop_if_unlocked(locks, file);
}

/* --- messages ------------------------------------------------------------------------------------------------------
 */

/* To write, if possible: a descriptor that only reads can lock for reading only. */
static int open_file(struct p9_server *server, const struct p9_fid *fid, bool *writable)
{
	int fd = server->readonly ? -EROFS : p9_host_reopen(&server->host, fid->fd, O_RDWR);

	*writable = fd >= 0;
	return fd < 0 ? p9_host_reopen(&server->host, fid->fd, O_RDONLY) : fd;
}

static struct locked *add_file(struct p9_server *server, const struct p9_fid *fid, int *error)
{
	struct locked *file = calloc(1, sizeof(*file));

	if (!file) {
		*error = -ENOMEM;
		return NULL;
	}
	file->fd = open_file(server, fid, &file->writable);
	if (file->fd < 0) {
		*error = file->fd;
		free(file);
		return NULL;
	}
	file->dev = fid->node->dev;
	file->ino = fid->node->ino;
	p9_table_insert(&server->locks.files, &file->link, hash_of(fid->node));
	return file;
}

/* Of length 0: up to the end, wherever that will be. */
static int set_range(struct record *record, u64 start, u64 length)
{
	if (start > RANGE_END || length > RANGE_END)
		return -EINVAL;
	record->first = start;
	record->last = !length || length - 1 > RANGE_END - start ? RANGE_END : start + length - 1;
	return 0;
}

static int lock(struct p9_server *server, const struct record *record)
{
	struct locked *file = find(&server->locks, record->fid->node);
	int error = 0;

	if (!file) {
		if (record->type == P9_LOCK_UNLOCK)
			return 0;
		file = add_file(server, record->fid, &error);
	}
	if (!file)
		return error;
	error = set(&server->locks, file, record);
	drop_if_unlocked(&server->locks, file);
	return error;
}

/* Directories can be locked with flock(2): that is between the guest's programs. */
int p9_lock(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	struct record record = {.fid = fid, .type = p9_get8(&call->in)};
	char client[NAME_MAX + 1];
	u64 start, length;
	int error;

	p9_get32(&call->in); /* flags: the client asks again if it is to wait */
	start = p9_get64(&call->in);
	length = p9_get64(&call->in);
	record.process = p9_get32(&call->in);
	p9_call_string(call, client, sizeof(client));
	error = p9_call_end(call);
	if (!error)
		error = set_range(&record, start, length);
	if (error)
		return error;
	if (record.type > P9_LOCK_UNLOCK)
		return -EINVAL;
	if (fid->kind != P9_FID_FILE && fid->kind != P9_FID_DIR)
		return -EBADF;
	if (fid->kind == P9_FID_FILE)
		error = lock(call->server, &record);
	p9_put8(&call->out, !error                                 ? P9_LOCK_SUCCESS
			    : error == -EAGAIN || error == -EACCES ? P9_LOCK_BLOCKED
								   : P9_LOCK_ERROR);
	return 0;
}

/* Who on the host would be in the way of *record; of type P9_LOCK_UNLOCK if nobody is. */
static int query(struct p9_server *server, struct record *record)
{
	const struct locked *file = find(&server->locks, record->fid->node);
	struct flock lock = {
		.l_type = record->type == P9_LOCK_WRITE ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)record->first,
		.l_len = record->last == RANGE_END ? 0 : (off_t)(record->last - record->first + 1),
	};
	bool writable;
	int fd = file ? file->fd : open_file(server, record->fid, &writable), error;

	if (fd < 0)
		return fd;
	error = fcntl(fd, F_OFD_GETLK, &lock) < 0 ? -errno : 0;
	if (!file)
		close(fd);
	if (error)
		return error;
	if (lock.l_type == F_UNLCK) {
		record->type = P9_LOCK_UNLOCK;
		return 0;
	}
	record->type = lock.l_type == F_WRLCK ? P9_LOCK_WRITE : P9_LOCK_READ;
	record->process = (u32)lock.l_pid;
	return set_range(record, (u64)lock.l_start, (u64)lock.l_len);
}

int p9_getlock(struct p9_call *call)
{
	const struct p9_fid *fid = p9_call_fid(call);
	struct record record = {.fid = fid, .type = p9_get8(&call->in)};
	char client[NAME_MAX + 1];
	u64 start = p9_get64(&call->in), length = p9_get64(&call->in);
	int error;

	record.process = p9_get32(&call->in);
	p9_call_string(call, client, sizeof(client));
	error = p9_call_end(call);
	if (!error)
		error = set_range(&record, start, length);
	if (error)
		return error;
	if (record.type > P9_LOCK_UNLOCK)
		return -EINVAL;
	if (fid->kind != P9_FID_FILE && fid->kind != P9_FID_DIR)
		return -EBADF;
	if (fid->kind == P9_FID_DIR || record.type == P9_LOCK_UNLOCK)
		record.type = P9_LOCK_UNLOCK;
	else
		error = query(call->server, &record);
	if (error)
		return error;
	p9_put8(&call->out, (u8)record.type);
	p9_put64(&call->out, record.first);
	p9_put64(&call->out, record.last == RANGE_END ? 0 : record.last - record.first + 1);
	p9_put32(&call->out, record.process);
	p9_put_string(&call->out, client, (u32)strlen(client));
	return 0;
}
