#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static void make(const char *name, mode_t mode)
{
	int fd = open(name, O_CREAT | O_EXCL | O_RDWR, mode);

	CHECK(fd >= 0 && write(fd, name, strlen(name)) == (ssize_t)strlen(name) && close(fd) == 0);
}

static struct stat look(const char *name)
{
	struct stat st;

	CHECK(lstat(name, &st) == 0);
	return st;
}

static void opening(void)
{
	char c;
	int fd;

	CHECK_ERROR(open("none", O_RDONLY), ENOENT);
	make("file", 0644);
	CHECK_ERROR(open("file", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
	CHECK_ERROR(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK_ERROR(open("file/x", O_RDONLY), ENOTDIR);
	CHECK_ERROR(open(".", O_RDWR), EISDIR);
	fd = open("file", O_RDONLY);
	CHECK_ERROR(write(fd, "x", 1), EBADF);
	CHECK(close(fd) == 0);
	fd = open("file", O_WRONLY);
	CHECK_ERROR(read(fd, &c, 1), EBADF);
	CHECK(close(fd) == 0);
	fd = open("file", O_WRONLY | O_TRUNC);
	CHECK(fd >= 0 && look("file").st_size == 0 && close(fd) == 0);
	fd = open("file", O_RDWR | O_APPEND);
	CHECK(write(fd, "ab", 2) == 2 && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "c", 1) == 1 && close(fd) == 0);
	CHECK(look("file").st_size == 3);
	CHECK(unlink("file") == 0);
	CHECK_ERROR(unlink("file"), ENOENT);
}

static void unlinked(void)
{
	struct stat st;
	char text[8] = "";
	int fd;

	make("file", 0600);
	fd = open("file", O_RDWR);
	CHECK(unlink("file") == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 4);
	CHECK(pwrite(fd, "more", 4, 4) == 4 && pread(fd, text, 8, 0) == 8 && !memcmp(text, "filemore", 8));
	CHECK(ftruncate(fd, 2) == 0 && fstat(fd, &st) == 0 && st.st_size == 2);
	make("file", 0600); /* another one of that name */
	CHECK(fstat(fd, &st) == 0 && st.st_size == 2 && st.st_ino != look("file").st_ino);
	CHECK(fsync(fd) == 0 && close(fd) == 0 && unlink("file") == 0);
}

static void directories(void)
{
	char text[PATH_MAX];
	int fd;

	CHECK(mkdir("dir", 0755) == 0);
	CHECK_ERROR(mkdir("dir", 0755), EEXIST);
	CHECK(mkdir("dir/inner", 0700) == 0 && look("dir/inner").st_mode == (S_IFDIR | 0700));
	CHECK_ERROR(rmdir("dir"), ENOTEMPTY);
	CHECK_ERROR(unlink("dir"), EISDIR);
	make("dir/file", 0644);
	CHECK_ERROR(rmdir("dir/file"), ENOTDIR);
	/* an open one is renamed, and worked in */
	fd = open("dir/inner", O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0 && rename("dir", "moved") == 0 && mkdirat(fd, "x", 0755) == 0);
	CHECK(look("moved/inner/x").st_mode == (S_IFDIR | 0755) && unlinkat(fd, "x", AT_REMOVEDIR) == 0);
	CHECK_ERROR(rename("moved", "moved/inner/below"), EINVAL);
	CHECK(close(fd) == 0);
	/* the working directory of somebody */
	CHECK(chdir("moved/inner") == 0 && rename("../../moved", "../../dir") == 0 && getcwd(text, sizeof(text)));
	CHECK(strstr(text, "/dir/inner") && chdir("../..") == 0);
	CHECK(unlink("dir/file") == 0 && rmdir("dir/inner") == 0 && rmdir("dir") == 0);
}

static void renaming(void)
{
	make("a", 0644);
	make("bb", 0644);
	CHECK(mkdir("dir", 0755) == 0 && mkdir("full", 0755) == 0);
	make("full/x", 0644);
	CHECK_ERROR(rename("none", "x"), ENOENT);
	CHECK_ERROR(rename("a", "dir"), EISDIR);
	CHECK_ERROR(rename("dir", "a"), ENOTDIR);
	CHECK_ERROR(rename("dir", "full"), ENOTEMPTY);
	CHECK(rename("a", "bb") == 0 && look("bb").st_size == 1);
	CHECK_ERROR(lstat("a", &(struct stat){0}), ENOENT);
	CHECK(link("bb", "link") == 0 && look("bb").st_nlink == 2 && look("bb").st_ino == look("link").st_ino);
	CHECK(rename("bb", "link") == 0 && look("bb").st_nlink == 2); /* the same file: nothing happens */
	CHECK(rename("bb", "dir/b") == 0 && unlink("link") == 0 && look("dir/b").st_nlink == 1);
	CHECK(rename("full", "dir/full") == 0 && rename("dir/full/x", "x") == 0);
	CHECK(unlink("x") == 0 && unlink("dir/b") == 0 && rmdir("dir/full") == 0 && rmdir("dir") == 0);
}

static void links(void)
{
	char target[PATH_MAX], long_target[PATH_MAX];

	make("file", 0644);
	CHECK(symlink("file", "link") == 0 && readlink("link", target, sizeof(target)) == 4 &&
	      !memcmp(target, "file", 4));
	CHECK(look("link").st_size == 4);
	CHECK_ERROR(symlink("file", "link"), EEXIST);
	CHECK_ERROR(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
	CHECK_ERROR(link("file", "link"), EEXIST);
	CHECK(close(open("link", O_RDONLY)) == 0);
	CHECK(symlink("round", "round") == 0);
	CHECK_ERROR(open("round", O_RDONLY), ELOOP);
	CHECK(symlink("/proc/version", "away") == 0 && access("away", R_OK) == 0); /* the guest's own */
	CHECK(symlink("../../../../../../../../proc/version", "up") == 0 && access("up", R_OK) == 0);
	memset(long_target, 'x', sizeof(long_target));
	long_target[PATH_MAX - 1] = '\0';
	CHECK(symlink(long_target, "long") == 0 && readlink("long", target, sizeof(target)) == PATH_MAX - 1);
	CHECK(unlink("link") == 0 && unlink("round") == 0 && unlink("away") == 0 && unlink("up") == 0 &&
	      unlink("long") == 0 && unlink("file") == 0);
}

static void names(void)
{
	char name[300];

	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	make(name, 0600);
	CHECK(unlink(name) == 0);
	name[255] = 'n';
	name[256] = '\0';
	CHECK_ERROR(open(name, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
	make(" \n\t*?\\\"'$(x)\xff\x01", 0600);
	CHECK(unlink(" \n\t*?\\\"'$(x)\xff\x01") == 0);
	make("...", 0600);
	CHECK(unlink("...") == 0);
}

/* As many entries as there were, each once, also while they are removed. */
static void many_entries(void)
{
	enum { COUNT = 3000 };
	static char seen[COUNT];
	struct dirent *entry;
	unsigned found = 0, removed = 0;
	char name[32];
	DIR *dir;

	CHECK(mkdir("many", 0755) == 0 && chdir("many") == 0);
	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "entry-%u", i);
		CHECK(mknod(name, S_IFREG | 0644, 0) == 0);
	}
	dir = opendir(".");
	CHECK(dir);
	while ((entry = readdir(dir))) {
		unsigned number;

		if (entry->d_name[0] == '.')
			continue;
		CHECK(sscanf(entry->d_name, "entry-%u", &number) == 1 && number < COUNT && !seen[number]);
		CHECK(entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN);
		CHECK(found % 100 || entry->d_ino == look(entry->d_name).st_ino);
		seen[number] = 1;
		found++;
	}
	CHECK(found == COUNT);
	for (unsigned pass = 0; pass < 20 && removed < COUNT; pass++) {
		rewinddir(dir);
		while ((entry = readdir(dir)))
			if (entry->d_name[0] != '.' && unlink(entry->d_name) == 0)
				removed++;
	}
	CHECK(removed == COUNT && closedir(dir) == 0 && chdir("..") == 0 && rmdir("many") == 0);
}

static void modes_and_times(void)
{
	struct timespec times[2] = {{1000000000, 123456789}, {1500000000, 987654321}};
	struct stat st;

	umask(0);
	make("file", 0666);
	CHECK(mkdir("dir", 01777) == 0);
	CHECK(look("file").st_mode == (S_IFREG | 0666) && look("dir").st_mode == (S_IFDIR | 01777));
	umask(077);
	make("private", 0666);
	CHECK(look("private").st_mode == (S_IFREG | 0600) && unlink("private") == 0);
	umask(022);
	CHECK(chmod("file", 0751) == 0 && look("file").st_mode == (S_IFREG | 0751));
	CHECK(chmod("file", 06755) == 0 && look("file").st_mode == (S_IFREG | 0755)); /* see the manual page */
	CHECK(utimensat(AT_FDCWD, "file", times, 0) == 0);
	st = look("file");
	CHECK(st.st_atim.tv_sec == 1000000000 && st.st_mtim.tv_sec == 1500000000); /* Linux 6.1 drops the rest */
	CHECK(truncate("file", 1) == 0 && look("file").st_mtim.tv_sec != 1500000000);
	CHECK(chown("file", 0, 0) == 0);
	CHECK(unlink("file") == 0 && rmdir("dir") == 0);
}

static void special_files(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int reader, writer, socket_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char c;

	CHECK(mkfifo("fifo", 0600) == 0 && look("fifo").st_mode == (S_IFIFO | 0600));
	reader = open("fifo", O_RDONLY | O_NONBLOCK);
	writer = open("fifo", O_WRONLY);
	CHECK(write(writer, "x", 1) == 1 && read(reader, &c, 1) == 1 && c == 'x' && !close(reader) && !close(writer));
	CHECK(bind(socket_fd, (struct sockaddr *)&address, sizeof(address)) == 0 && S_ISSOCK(look("socket").st_mode));
	CHECK(close(socket_fd) == 0);
	CHECK_ERROR(mknod("null", S_IFCHR | 0666, makedev(1, 3)), EPERM);
	CHECK_ERROR(mknod("disk", S_IFBLK | 0666, makedev(8, 0)), EPERM);
	CHECK(unlink("fifo") == 0 && unlink("socket") == 0);
}

static void large_files(void)
{
	const off_t far = (off_t)5 << 30;
	struct stat st;
	char c = 1;
	int fd = open("large", O_RDWR | O_CREAT | O_EXCL, 0600);

	CHECK(fd >= 0 && pwrite(fd, "x", 1, far) == 1 && fstat(fd, &st) == 0 && st.st_size == far + 1);
	CHECK(pread(fd, &c, 1, far - 1) == 1 && c == 0 && pread(fd, &c, 1, far) == 1 && c == 'x');
	CHECK(pread(fd, &c, 1, far + 1) == 0);
	CHECK(ftruncate(fd, (off_t)1 << 32) == 0 && fsync(fd) == 0 && look("large").st_size == (off_t)1 << 32);
	CHECK(close(fd) == 0 && unlink("large") == 0);
}

/* The status of what `action` does as another user. */
static int as_user(uid_t user, void (*action)(void))
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		CHECK(setgid(user) == 0 && setuid(user) == 0);
		action();
		exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void as_nobody(void)
{
	CHECK_ERROR(open("private", O_RDONLY), EACCES);
	CHECK_ERROR(open("readable", O_RDWR), EACCES);
	CHECK(close(open("readable", O_RDONLY)) == 0);
	CHECK_ERROR(open("locked/file", O_RDONLY), EACCES);
	CHECK_ERROR(mkdir("new", 0777), EACCES);
	CHECK_ERROR(unlink("readable"), EACCES);
	CHECK_ERROR(rename("readable", "renamed"), EACCES);
	CHECK_ERROR(chmod("readable", 0777), EPERM);
	CHECK_ERROR(truncate("readable", 0), EACCES);
}

static void permissions(void)
{
	make("private", 0600);
	make("readable", 0644);
	CHECK(chmod(".", 0755) == 0 && mkdir("locked", 0700) == 0);
	make("locked/file", 0666);
	CHECK(as_user(65533, as_nobody) == 0);
	CHECK(unlink("private") == 0 && unlink("readable") == 0 && unlink("locked/file") == 0 && rmdir("locked") == 0);
}

/* Locks keep two processes of the guest apart, and go with the process. */
static void locks(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = 10, .l_len = 10};
	int fd, status, ready[2], go[2];
	pid_t child;
	char c;

	make("file", 0644);
	CHECK(pipe(ready) == 0 && pipe(go) == 0);
	child = fork();
	CHECK(child >= 0);
	fd = open("file", O_RDWR);
	if (child == 0) {
		CHECK(fcntl(fd, F_SETLK, &lock) == 0 && write(ready[1], "x", 1) == 1 && read(go[0], &c, 1) == 1);
		exit(0);
	}
	CHECK(read(ready[0], &c, 1) == 1);
	CHECK_ERROR(fcntl(fd, F_SETLK, &lock), EAGAIN);
	lock.l_start = 20;
	CHECK(fcntl(fd, F_SETLK, &lock) == 0);
	lock.l_start = 0;
	lock.l_len = 0;
	CHECK(fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_pid == child && lock.l_start == 10);
	CHECK(write(go[1], "x", 1) == 1 && waitpid(child, &status, 0) == child && status == 0);
	lock = (struct flock){.l_type = F_WRLCK};
	CHECK(fcntl(fd, F_SETLKW, &lock) == 0);
	lock.l_type = F_UNLCK;
	CHECK(fcntl(fd, F_SETLK, &lock) == 0);
	CHECK(flock(fd, LOCK_EX) == 0);

	int other = open("file", O_RDWR);

	CHECK_ERROR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	CHECK(flock(fd, LOCK_UN) == 0 && flock(other, LOCK_EX | LOCK_NB) == 0 && close(other) == 0 && close(fd) == 0);
	CHECK(unlink("file") == 0);
}

static void attributes(void)
{
	char value[200], names[1000];

	make("file", 0644);
	if (setxattr("file", "user.a", "one", 3, 0) < 0 && errno == EOPNOTSUPP) {
		CHECK(unlink("file") == 0); /* the host's file system has none */
		return;
	}
	CHECK_ERROR(setxattr("file", "user.a", "two", 3, XATTR_CREATE), EEXIST);
	CHECK_ERROR(setxattr("file", "user.b", "two", 3, XATTR_REPLACE), ENODATA);
	CHECK(getxattr("file", "user.a", value, sizeof(value)) == 3 && !memcmp(value, "one", 3));
	CHECK_ERROR(getxattr("file", "user.a", value, 2), ERANGE);
	CHECK_ERROR(getxattr("file", "user.none", value, 2), ENODATA);
	CHECK(listxattr("file", names, sizeof(names)) == 7 && !strcmp(names, "user.a"));
	CHECK(removexattr("file", "user.a") == 0 && listxattr("file", names, sizeof(names)) == 0);
	CHECK_ERROR(setxattr("file", "security.capability", value, 20, 0), EINVAL);
	CHECK_ERROR(setxattr("file", "trusted.a", "x", 1, 0), EOPNOTSUPP);
	CHECK(unlink("file") == 0);
}

static void file_system(void)
{
	struct statfs st;

	CHECK(statfs(".", &st) == 0 && st.f_type == 0x01021997 && st.f_namelen == 255 && st.f_blocks > 0);
}

void check_semantics(void)
{
	opening();
	unlinked();
	directories();
	renaming();
	links();
	names();
	many_entries();
	modes_and_times();
	special_files();
	large_files();
	permissions();
	locks();
	attributes();
	file_system();
}
