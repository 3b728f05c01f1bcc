/*
 * The guest's side of crash-test.py: changes files in four ways, each of which must survive a crash once it is
 * acknowledged, and acknowledges by writing the number of the round to another disk: in the server's log that comes
 * after what it acknowledges.
 *
 *   load FOLDER ACK-DEVICE ROUNDS
 *
 *   append       a file that grows by a record, fsync
 *   replace      a file that is written anew beside the old one, fsync, rename, fsync of the folder
 *   delete.db    an SQLite transaction with a rollback journal
 *   wal.db       one with a write-ahead log
 */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define RECORD_MAX 9000
#define SECTOR     512

enum way { APPEND, REPLACE, ROLLBACK, WAL };

static const char *const way_text[] = {"append", "replace", "delete", "wal"};
static int ack_fd;

static void fail(const char *what, const char *why)
{
	printf("LOAD-FAILED: %s: %s\n", what, why);
	exit(1);
}

static void need(int good, const char *what)
{
	if (!good)
		fail(what, strerror(errno));
}

/* crash-test.py knows the same. */
static unsigned length_of(unsigned number)
{
	return 100 + number * 2654435761u % (RECORD_MAX - 100);
}

static unsigned char *content_of(unsigned number)
{
	static unsigned char data[RECORD_MAX];

	for (unsigned i = 0; i < length_of(number); i++)
		data[i] = (unsigned char)(number * 31 + i * 7 + i / 256);
	return data;
}

static void acknowledge(enum way way, unsigned number)
{
	char *sector;

	need(posix_memalign((void **)&sector, SECTOR, SECTOR) == 0, "memory");
	memset(sector, 0, SECTOR);
	snprintf(sector, SECTOR, "%s %u", way_text[way], number);
	need(pwrite(ack_fd, sector, SECTOR, (off_t)way * SECTOR) == SECTOR, "acknowledging");
	free(sector);
}

static void write_record(int fd, unsigned number)
{
	const unsigned length = length_of(number);
	char head[32];

	snprintf(head, sizeof(head), "%08u %08u\n", number, length);
	need(write(fd, head, 18) == 18, "write");
	need(write(fd, content_of(number), length) == (ssize_t)length, "write");
	need(fsync(fd) == 0, "fsync");
}

static void append(unsigned number)
{
	int fd = open("append", O_WRONLY | O_CREAT | O_APPEND, 0600);

	need(fd >= 0, "append");
	write_record(fd, number);
	close(fd);
	if (number == 1) { /* its name, too */
		fd = open(".", O_RDONLY);
		need(fsync(fd) == 0, "fsync of the folder");
		close(fd);
	}
	acknowledge(APPEND, number);
}

static void replace(unsigned number)
{
	int folder = open(".", O_RDONLY), fd = open("replace.new", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	need(folder >= 0 && fd >= 0, "replace");
	write_record(fd, number);
	close(fd);
	need(rename("replace.new", "replace") == 0, "rename");
	need(fsync(folder) == 0, "fsync of the folder");
	close(folder);
	acknowledge(REPLACE, number);
}

static void run(sqlite3 *db, const char *sql)
{
	char *why = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		fail(sql, why ? why : "?");
}

static sqlite3 *open_db(const char *name, const char *mode)
{
	char text[96];
	sqlite3 *db;

	if (sqlite3_open(name, &db) != SQLITE_OK)
		fail(name, sqlite3_errmsg(db));
	/* FULL would not sync the folder when the rollback journal is removed, which is what commits */
	snprintf(text, sizeof(text), "PRAGMA journal_mode=%s; PRAGMA synchronous=EXTRA;", mode);
	run(db, text);
	run(db, "PRAGMA wal_autocheckpoint=30; PRAGMA cache_size=20;");
	run(db, "CREATE TABLE record (number INTEGER PRIMARY KEY, data BLOB); CREATE TABLE last (number INTEGER);"
		"CREATE INDEX by_length ON record (length(data)); INSERT INTO last VALUES (0);");
	return db;
}

static void insert(sqlite3 *db, unsigned number)
{
	sqlite3_stmt *statement;

	if (sqlite3_prepare_v2(db, "INSERT INTO record VALUES (?, ?)", -1, &statement, NULL) != SQLITE_OK)
		fail("insert", sqlite3_errmsg(db));
	sqlite3_bind_int(statement, 1, (int)number);
	sqlite3_bind_blob(statement, 2, content_of(number), (int)length_of(number), SQLITE_STATIC);
	if (sqlite3_step(statement) != SQLITE_DONE)
		fail("insert", sqlite3_errmsg(db));
	sqlite3_finalize(statement);
}

static void transact(sqlite3 *db, enum way way, unsigned number)
{
	run(db, "BEGIN");
	insert(db, number);
	run(db, "UPDATE last SET number = number + 1");
	run(db, "COMMIT");
	acknowledge(way, number);
}

/* What nobody waits for: it keeps the journal and the allocator busy. */
static void disturb(unsigned number)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "noise%u", number % 7);
	if (number % 3 == 0) {
		unlink(name);
		return;
	}
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	need(fd >= 0, name);
	for (unsigned i = 0; i < number % 40; i++)
		need(write(fd, content_of(i), length_of(i)) > 0, name);
	close(fd);
}

int main(int argc, char **argv)
{
	sqlite3 *rollback, *wal;
	unsigned rounds;

	if (argc != 4)
		fail("usage", "load FOLDER ACK-DEVICE ROUNDS");
	setvbuf(stdout, NULL, _IOLBF, 0);
	ack_fd = open(argv[2], O_WRONLY | O_DIRECT);
	rounds = (unsigned)atoi(argv[3]);
	need(ack_fd >= 0, argv[2]);
	need(chdir(argv[1]) == 0, argv[1]);
	rollback = open_db("delete.db", "DELETE");
	wal = open_db("wal.db", "WAL");
	for (unsigned number = 1; number <= rounds; number++) {
		append(number);
		disturb(number);
		transact(rollback, ROLLBACK, number);
		replace(number);
		transact(wal, WAL, number);
		printf("acknowledged %u\n", number);
	}
	sqlite3_close(rollback);
	sqlite3_close(wal);
	printf("LOAD-DONE\n");
	return 0;
}
