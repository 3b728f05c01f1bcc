/* The directories of `--cache auto`: finding, building, forgetting. */
#include "auto_cache.h"

#include "command.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <tcache.h>
#include <time.h>
#include <unistd.h>

#define RECORDINGS_MAX 15 /* in one build; more wait for the next */
#define OPEN_FILES_MAX 16

/* Makes the directory, and those above it, for this user alone. */
static int make_directory(const char *path, struct err *err)
{
	char text[PATH_MAX];
	struct stat status;

	snprintf(text, sizeof(text), "%s", path);
	for (char *slash = strchr(text + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		if (mkdir(text, 0700) < 0 && errno != EEXIST)
			return err_set(err, "cannot create '%s': %s", text, strerror(errno));
		if (!slash)
			break;
		*slash = '/';
	}
	/* who may write here decides what code guests run */
	if (stat(path, &status) < 0)
		return err_set(err, "cannot use '%s': %s", path, strerror(errno));
	if (status.st_uid != geteuid() || (status.st_mode & 022))
		return err_set(err, "'%s' belongs to or may be changed by somebody else", path);
	return 0;
}

static int auto_root(char path[PATH_MAX], struct err *err)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int length;

	/* relative paths are to be ignored (XDG Base Directory Specification) */
	if (cache && *cache == '/')
		length = snprintf(path, PATH_MAX, "%s/avant/auto", cache);
	else if (home && *home == '/')
		length = snprintf(path, PATH_MAX, "%s/.cache/avant/auto", home);
	else
		return err_set(err, "no place for caches: neither XDG_CACHE_HOME nor HOME is set");
	return length < PATH_MAX - NAME_MAX ? 0 : err_set(err, "the path of the cache directory is too long");
}

static struct auto_path path_in(const struct auto_guest *guest, const char *name)
{
	struct auto_path path;

	snprintf(path.text, sizeof(path.text), "%s/%s", guest->path, name);
	return path;
}

struct auto_path auto_guest_cache(const struct auto_guest *guest)
{
	return path_in(guest, "cache.tcache");
}

bool auto_guest_has_cache(const struct auto_guest *guest)
{
	return access(auto_guest_cache(guest).text, F_OK) == 0;
}

struct auto_path auto_guest_recording(const struct auto_guest *guest)
{
	struct auto_path path;
	struct timespec now;

	/* unlike any other's: process numbers come again */
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(path.text, sizeof(path.text), "%s/run-%lld-%d.rec", guest->path, (long long)now.tv_sec, getpid());
	return path;
}

int auto_guest_find(struct auto_guest *guest, const void *kernel, u64 size, const char *cpu, struct err *err)
{
	char root[PATH_MAX];
	u64 hash[2];

	if (auto_root(root, err) < 0)
		return -1;
	tcache_hash(kernel, size, hash);
	/* what another version of Avant wrote in another format is pruned some day */
	if (snprintf(guest->path, sizeof(guest->path), "%s/%016llx%016llx-%s-v%u", root, (unsigned long long)hash[1],
		     (unsigned long long)hash[0], cpu, TCACHE_VERSION) >= (int)sizeof(guest->path))
		return err_set(err, "the path of the cache directory is too long");
	if (make_directory(guest->path, err) < 0)
		return -1;
	utimensat(AT_FDCWD, guest->path, NULL, 0); /* what pruning goes by; best effort */
	return 0;
}

/* --- building ---------------------------------------------------------------------------------------------------- */

/* The lock's descriptor; -1: somebody else has it, or with a message in err. */
static int take_lock(const struct auto_guest *guest, struct err *err)
{
	struct auto_path path = path_in(guest, "lock");
	int fd = open(path.text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_set(err, "cannot open '%s': %s", path.text, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	if (errno != EWOULDBLOCK)
		err_set(err, "cannot lock '%s': %s", path.text, strerror(errno));
	close(fd);
	return -1;
}

/* Recordings that wait, oldest first. */
struct recordings {
	struct auto_path path[RECORDINGS_MAX];
	unsigned count;
};

static int is_recording(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return !strncmp(entry->d_name, "run-", 4) && length > 8 && !strcmp(entry->d_name + length - 4, ".rec");
}

static int find_recordings(const struct auto_guest *guest, struct recordings *recordings, struct err *err)
{
	struct dirent **entries;
	int count = scandir(guest->path, &entries, is_recording, alphasort);

	if (count < 0)
		return err_set(err, "cannot read '%s': %s", guest->path, strerror(errno));
	recordings->count = 0;
	for (int i = 0; i < count; i++) {
		if (recordings->count < RECORDINGS_MAX)
			recordings->path[recordings->count++] = path_in(guest, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return 0;
}

/* Runs avant translate; 0, or -1 with a message in err. */
static int translate(const char *const *arguments, struct err *err)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		return err_set(err, "cannot start avant translate: %s", strerror(errno));
	if (child == 0)
		_exit(command_exec("avant-translate", (char **)arguments));
	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return err_set(err, "cannot wait for avant translate: %s", strerror(errno));
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status))
		return err_set(err, "avant translate failed with status %d", WEXITSTATUS(status));
	return err_set(err, "avant translate was ended by signal: %s", strsignal(WTERMSIG(status)));
}

/* The recordings that are in the cache now are one; only then do the single ones go. */
static int publish(const struct auto_path *merged, const struct auto_path *profile, const struct recordings *recordings,
		   struct err *err)
{
	if (rename(merged->text, profile->text) < 0)
		return err_set(err, "cannot rename '%s': %s", merged->text, strerror(errno));
	for (unsigned i = 0; i < recordings->count; i++)
		unlink(recordings->path[i].text);
	return 0;
}

static int build_locked(const struct auto_guest *guest, struct err *err)
{
	struct recordings recordings;
	struct auto_path cache = auto_guest_cache(guest), profile = path_in(guest, "profile.rec"),
			 merged = path_in(guest, "merged.rec");
	const char *arguments[2 * RECORDINGS_MAX + 16] = {"translate", "--only-recorded"};
	unsigned n = 2;

	if (find_recordings(guest, &recordings, err) < 0)
		return -1;
	if (!recordings.count && (auto_guest_has_cache(guest) || access(profile.text, F_OK) < 0))
		return 0;
	if (access(profile.text, F_OK) == 0) {
		arguments[n++] = "--profile";
		arguments[n++] = profile.text;
	}
	for (unsigned i = 0; i < recordings.count; i++) {
		arguments[n++] = "--profile";
		arguments[n++] = recordings.path[i].text;
	}
	arguments[n++] = "--save-profile";
	arguments[n++] = merged.text;
	arguments[n++] = "--output";
	arguments[n++] = cache.text;
	if (translate(arguments, err) < 0 || publish(&merged, &profile, &recordings, err) < 0)
		return -1;
	return 1;
}

int auto_guest_build(const struct auto_guest *guest, struct err *err)
{
	int lock, result, built = 0;

	err->text[0] = '\0';
	lock = take_lock(guest, err);
	if (lock < 0)
		return err->text[0] ? -1 : 0;
	/* what runs that ended meanwhile have left is theirs who hold the lock */
	while ((result = build_locked(guest, err)) > 0)
		built = 1;
	close(lock);
	return result < 0 ? -1 : built;
}

/* --- all guests -------------------------------------------------------------------------------------------------- */

int auto_guests_each(int (*visit)(const struct auto_guest *guest, void *opaque), void *opaque, struct err *err)
{
	char root[PATH_MAX];
	struct dirent **entries;
	int count, result = 0;

	if (auto_root(root, err) < 0)
		return -1;
	count = scandir(root, &entries, NULL, alphasort);
	if (count < 0)
		return errno == ENOENT ? 0 : err_set(err, "cannot read '%s': %s", root, strerror(errno));
	for (int i = 0; i < count; i++) {
		struct auto_guest guest;

		if (entries[i]->d_name[0] != '.' && result >= 0 &&
		    snprintf(guest.path, sizeof(guest.path), "%s/%s", root, entries[i]->d_name) <
			    (int)sizeof(guest.path))
			result = visit(&guest, opaque);
		free(entries[i]);
	}
	free(entries);
	return result;
}

struct guest_use {
	struct auto_guest guest;
	struct timespec used;
	u64 bytes;
};

struct guest_uses {
	struct guest_use *use;
	size_t count;
	u64 bytes;
};

static u64 bytes_in(const char *path)
{
	struct dirent *entry;
	struct stat status;
	u64 bytes = 0;
	DIR *directory = opendir(path);

	if (!directory)
		return 0;
	while ((entry = readdir(directory))) {
		if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(status.st_mode))
			bytes += (u64)status.st_blocks * 512;
	}
	closedir(directory);
	return bytes;
}

static int note_use(const struct auto_guest *guest, void *opaque)
{
	struct guest_uses *uses = opaque;
	struct guest_use *use;
	struct stat status;

	if (stat(guest->path, &status) < 0 || !S_ISDIR(status.st_mode))
		return 0;
	use = reallocarray(uses->use, uses->count + 1, sizeof(*use));
	if (!use)
		return -1;
	uses->use = use;
	use[uses->count] = (struct guest_use){.guest = *guest, .used = status.st_mtim, .bytes = bytes_in(guest->path)};
	uses->bytes += use[uses->count++].bytes;
	return 0;
}

static int by_use(const void *a, const void *b)
{
	const struct guest_use *x = a, *y = b;

	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	return x->used.tv_nsec < y->used.tv_nsec ? -1 : x->used.tv_nsec > y->used.tv_nsec;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where)
{
	(void)status;
	(void)kind;
	(void)where;
	return remove(path);
}

/* A guest whose cache is being built right now stays. */
static bool forget(const struct auto_guest *guest)
{
	struct err err = ERR_INIT;
	int lock = take_lock(guest, &err);

	if (lock < 0)
		return false;
	bool done = nftw(guest->path, remove_entry, OPEN_FILES_MAX, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0;

	close(lock);
	return done;
}

int auto_guests_prune(u64 limit, struct err *err)
{
	struct guest_uses uses = {0};
	int forgotten = 0;

	err->text[0] = '\0';
	if (auto_guests_each(note_use, &uses, err) < 0) {
		free(uses.use);
		return err->text[0] ? -1 : err_set(err, "out of memory");
	}
	if (uses.count)
		qsort(uses.use, uses.count, sizeof(*uses.use), by_use);
	for (size_t i = 0; i < uses.count && uses.bytes > limit; i++) {
		if (!forget(&uses.use[i].guest))
			continue;
		uses.bytes -= uses.use[i].bytes;
		forgotten++;
	}
	free(uses.use);
	return forgotten;
}
