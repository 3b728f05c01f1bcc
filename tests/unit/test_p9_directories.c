/* Treaddir. */
#include "test_p9_client.h"

#include <dirent.h>

struct entry {
	struct qid qid;
	u64 offset;
	u8 type;
	char name[256];
};

/* Asks for entries from `offset` on; how many bytes came, or -errno. */
static s64 list(u32 fid, u64 offset, u32 room)
{
	int error = call(P9_TREADDIR, "dqd", fid, offset, room);
	u32 size;

	if (error)
		return -error;
	size = (u32)take_number(4);
	assert_true(size <= room);
	assert_int_equal(client.taken + size, client.reply_size);
	return size;
}

static bool next(struct entry *entry)
{
	if (client.taken == client.reply_size)
		return false;
	entry->qid = take_qid();
	entry->offset = take_number(8);
	entry->type = (u8)take_number(1);
	take_string(entry->name, sizeof(entry->name));
	return true;
}

static void open_dir(u32 fid)
{
	assert_int_equal(walk(ROOT, fid, NULL), 0);
	assert_int_equal(lopen(fid, P9_OPEN_RDONLY), 0);
}

static void make_files(unsigned count)
{
	char name[32];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%06u", i);
		assert_int_equal(mknodat(client.share, name, S_IFREG | 0600, 0), 0);
	}
}

/* Notes in `seen` which of the files there are; returns how many were new. */
static unsigned note(const struct entry *entry, u8 *seen, unsigned count)
{
	unsigned number;
	char *end;

	if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
		return 0;
	number = (unsigned)strtoul(entry->name, &end, 10);
	assert_true(!*end && number < count);
	assert_false(seen[number]);
	seen[number] = 1;
	return 1;
}

static void large_directory(void **state)
{
	static u8 seen[100000];
	unsigned found = 0, special = 0;
	struct entry entry = {0};

	(void)state;
	make_files(sizeof(seen));
	client.scatter = 4000;
	open_dir(2);
	while (list(2, entry.offset, 65000) > 0)
		while (next(&entry)) {
			found += note(&entry, seen, sizeof(seen));
			special += entry.name[0] == '.';
		}
	assert_int_equal(found, sizeof(seen));
	assert_int_equal(special, 2);
}

static void kinds_of_entries(void **state)
{
	struct entry entry;
	unsigned found = 0;

	(void)state;
	host_mkdir("dir");
	host_write("file", "");
	assert_int_equal(symlinkat("nowhere", client.share, "link"), 0);
	assert_int_equal(mkfifoat(client.share, "fifo", 0600), 0);
	open_dir(2);
	assert_true(list(2, 0, 4000) > 0);
	while (next(&entry)) {
		bool root = !strcmp(entry.name, ".") || !strcmp(entry.name, "..");
		/* what is above the root is not the guest's to know */
		struct stat st = host_stat(root ? "." : entry.name);

		found++;
		assert_int_equal(entry.qid.path, st.st_ino);
		assert_int_equal(entry.type, IFTODT(st.st_mode));
		assert_int_equal(entry.qid.type, S_ISDIR(st.st_mode)   ? P9_QID_DIRECTORY
						 : S_ISLNK(st.st_mode) ? P9_QID_SYMLINK
								       : P9_QID_FILE);
	}
	assert_int_equal(found, 6);
	assert_int_equal(list(2, entry.offset, 4000), 0);
	assert_int_equal(list(2, entry.offset, 4000), 0);
	/* a directory below: ".." is its parent */
	assert_int_equal(walk(ROOT, 3, "dir"), 0);
	assert_int_equal(lopen(3, P9_OPEN_RDONLY), 0);
	assert_true(list(3, 0, 4000) > 0);
	while (next(&entry))
		assert_int_equal(entry.qid.path, host_stat(entry.name[1] ? "." : "dir").st_ino);
}

/* One entry at a time, with room for no more than that; and with too little. */
static void small_rooms(void **state)
{
	static u8 seen[50];
	struct entry entry = {0}, other;
	unsigned found = 0;
	char name[256];

	(void)state;
	make_files(sizeof(seen));
	open_dir(2);
	for (;;) {
		s64 size = list(2, entry.offset, 40);

		if (!size)
			break;
		assert_true(size > 0 && next(&entry));
		found += note(&entry, seen, sizeof(seen));
		assert_true(entry.name[0] == '.' || !next(&other));
	}
	assert_int_equal(found, sizeof(seen));
	assert_int_equal(list(2, 0, 0), -EINVAL); /* nothing would mean the end */
	assert_int_equal(list(2, 0, 24), -EINVAL);
	/* the longest name there can be */
	for (unsigned i = 0; i < sizeof(seen); i++) {
		snprintf(name, sizeof(name), "%06u", i);
		unlinkat(client.share, name, 0);
	}
	memset(name, 'n', 255);
	name[255] = '\0';
	host_write(name, "");
	found = 0;
	entry.offset = 0;
	while (list(2, entry.offset, 24 + 255) > 0)
		while (next(&entry))
			found += !strcmp(entry.name, name);
	assert_int_equal(found, 1);
}

/* Two readers in turns, one of them going back again and again. */
static void going_back(void **state)
{
	static u8 seen[3000];
	struct entry a = {0}, b = {0}, first = {0};
	unsigned found = 0;

	(void)state;
	make_files(sizeof(seen));
	open_dir(2);
	open_dir(3);
	while (list(2, a.offset, 500) > 0) {
		while (next(&a))
			found += note(&a, seen, sizeof(seen));
		assert_true(list(3, 0, 500) > 0);
		assert_true(next(&b));
		if (!first.name[0])
			first = b;
		assert_string_equal(b.name, first.name);
		assert_true(list(3, first.offset, 500) > 0);
	}
	assert_int_equal(found, sizeof(seen));
	/* again from the beginning, and from anywhere in between */
	memset(seen, 0, sizeof(seen));
	found = 0;
	a.offset = 0;
	for (unsigned rounds = 0; list(2, a.offset, 500) > 0; rounds++) {
		while (next(&a))
			found += note(&a, seen, sizeof(seen));
		b = a;
		assert_true(list(2, b.offset, 500) >= 0);
	}
	assert_int_equal(found, sizeof(seen));
}

/* What rm -r does: entries go while they are read. */
static void removing_while_reading(void **state)
{
	static u8 seen[5000];
	struct entry entry = {0};
	unsigned found = 0;

	(void)state;
	make_files(sizeof(seen));
	open_dir(2);
	while (list(2, entry.offset, 4000) > 0) {
		static struct entry batch[200];
		unsigned count = 0;

		while (next(&entry)) {
			found += note(&entry, seen, sizeof(seen));
			batch[count++] = entry;
		}
		for (unsigned i = 0; i < count; i++)
			if (batch[i].name[0] != '.')
				assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, batch[i].name, 0), 0);
	}
	assert_int_equal(found, sizeof(seen));
	/* the directory itself goes while it is open */
	host_mkdir("dir");
	assert_int_equal(walk(ROOT, 3, "dir"), 0);
	assert_int_equal(lopen(3, P9_OPEN_RDONLY), 0);
	assert_int_equal(call(P9_TUNLINKAT, "dsd", ROOT, "dir", P9_UNLINK_DIRECTORY), 0);
	assert_true(list(3, 0, 4000) <= 0);
}

static void what_is_no_open_directory(void **state)
{
	(void)state;
	host_write("file", "");
	assert_int_equal(walk(ROOT, 2, "file"), 0);
	assert_int_equal(list(2, 0, 4000), -EBADF);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY), 0);
	assert_int_equal(list(2, 0, 4000), -EBADF);
	assert_int_equal(list(ROOT, 0, 4000), -EBADF);
	/* a number that was a directory is another one now */
	assert_int_equal(clunk(2), 0);
	open_dir(2);
	assert_true(list(2, 0, 4000) > 0);
	assert_int_equal(clunk(2), 0);
	host_mkdir("dir");
	assert_int_equal(walk(ROOT, 2, "dir"), 0);
	assert_int_equal(lopen(2, P9_OPEN_RDONLY), 0);
	assert_int_equal(list(2, 0, 4000), 24 + 1 + 24 + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		P9_TEST(large_directory), P9_TEST(kinds_of_entries),       P9_TEST(small_rooms),
		P9_TEST(going_back),      P9_TEST(removing_while_reading), P9_TEST(what_is_no_open_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
