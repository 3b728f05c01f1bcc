/* Disks behind NBD servers: nbdkit with its filters, qemu-nbd; servers that fail, vanish, or fall silent. */
#include "test_disk_machine.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

struct server {
	pid_t pid;
	char uri[192];
};

static bool exists(const char *program)
{
	char command[64];

	snprintf(command, sizeof(command), "command -v %s >/dev/null", program);
	return system(command) == 0;
}

static void need(const char *program)
{
	if (exists(program))
		return;
	print_message("there is no %s\n", program);
	skip();
}

/* Can somebody connect to this socket? */
static bool answers(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bool good;

	assert_true(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	good = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	close(fd);
	return good;
}

/* `command` begins with "exec" and ends where the socket's name follows; `rest` follows that. */
static struct server start(const struct machine *m, const char *command, const char *rest)
{
	struct server server;
	char path[128], text[512];

	snprintf(path, sizeof(path), "%s/socket", m->folder);
	unlink(path);
	snprintf(text, sizeof(text), "cd '%s' && %s '%s' %s 2>server.log", m->folder, command, path, rest);
	snprintf(server.uri, sizeof(server.uri), "nbd+unix:///?socket=%s", path);
	server.pid = fork();
	if (server.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sh", "sh", "-c", text, NULL);
		_exit(127);
	}
	for (unsigned i = 0; i < 200 && !answers(path); i++)
		usleep(50000);
	return server;
}

/* nbdkit from `options` on: filters, the plugin and its parameters. */
static struct server nbdkit(const struct machine *m, const char *options)
{
	need("nbdkit");
	return start(m, "exec nbdkit -f -U", options);
}

static void stop(struct server *server)
{
	if (server->pid > 0) {
		kill(server->pid, SIGKILL);
		assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
	}
	server->pid = 0;
}

static struct disk *open_server(struct machine *m, const struct server *server, struct disk_config config)
{
	config.path = server->uri;
	return machine_open(m, config);
}

static void wait_for_machine(void *opaque)
{
	machine_wait(opaque);
}

static void storm_on(struct machine *m, const char *options, unsigned requests, bool may_fail)
{
	struct server server = nbdkit(m, options);
	struct disk *disk = open_server(m, &server, (struct disk_config){0});
	struct storm storm;

	assert_non_null(disk);
	storm_init(&storm, disk, 21);
	storm.largest = 1000;
	storm.may_fail = may_fail;
	storm_run(&storm, requests, wait_for_machine, m);
	if (may_fail)
		assert_true(storm.failures > 5 && storm.failures < requests / 2);
	else
		storm_check(&storm, disk);
	disk_close(disk);
	storm_free(&storm);
	stop(&server);
}

static void test_memory(void **state)
{
	storm_on(*state, "memory 8M", 1500, false);
}

/* Answers come late, and in any order. */
static void test_delay(void **state)
{
	storm_on(*state, "--filter=delay --filter=noparallel memory 8M rdelay=1ms wdelay=3ms", 200, false);
	storm_on(*state, "--filter=delay memory 8M rdelay=1ms wdelay=5ms", 300, false);
}

/* Errors of the server are the guest's. */
static void test_errors(void **state)
{
	storm_on(*state, "--filter=error memory 8M error=ENOSPC error-rate=10%", 500, true);
}

/* Servers that take only multiples of 4 KiB, and no more than 64 KiB at once. */
static void test_block_size(void **state)
{
	storm_on(*state,
		 "--filter=blocksize-policy memory 8M blocksize-minimum=4096 blocksize-preferred=4096 "
		 "blocksize-maximum=65536 blocksize-error-policy=error",
		 800, false);
}

/* Servers that cannot zero; or say so only when asked to. */
static void test_no_zero(void **state)
{
	storm_on(*state, "--filter=nozero memory 8M", 400, false);
	storm_on(*state, "--filter=error memory 8M error-zero=EINVAL error-zero-rate=100%", 400, false);
}

static void test_offers(void **state)
{
	struct machine *m = *state;
	struct server server =
		nbdkit(m, "eval get_size='echo 1048576' pread='head -c $3 /dev/zero' pwrite='cat >/dev/null'");
	struct disk *disk = open_server(m, &server, (struct disk_config){0});
	struct job job = {0};

	assert_non_null(disk);
	assert_int_equal(disk_size(disk), 1048576);
	assert_false(disk_can_discard(disk));
	assert_int_equal(do_one(disk, &job, DISK_FLUSH, 0, 0), 0);
	assert_int_equal(do_one(disk, &job, DISK_DISCARD, 0, 65536), 0);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 4096), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 4096, 4096), 0);
	disk_close(disk);
	stop(&server);
	server = nbdkit(m, "memory 1M");
	disk = open_server(m, &server, (struct disk_config){0});
	assert_true(disk_can_discard(disk));
	disk_close(disk);
	stop(&server);
	job_free(&job);
}

static void test_readonly(void **state)
{
	struct machine *m = *state;
	struct server server = nbdkit(m, "-r memory 8M");
	struct disk *disk;
	struct job job = {0};

	assert_null(open_server(m, &server, (struct disk_config){0}));
	disk = open_server(m, &server, (struct disk_config){.readonly = true});
	assert_true(disk_readonly(disk));
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), 0);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 4096), EROFS);
	assert_int_equal(do_one(disk, &job, DISK_FLUSH, 0, 0), 0);
	disk_close(disk);
	stop(&server);
	job_free(&job);
}

/* A snapshot of what a slow server has; it may refuse writes. */
static void test_snapshot(void **state)
{
	struct machine *m = *state;
	struct server server = nbdkit(m, "-r --filter=delay pattern 8M rdelay=1ms");
	struct disk *disk = open_server(m, &server, (struct disk_config){.snapshot = true});
	struct job job = {0};
	struct storm storm;

	assert_non_null(disk);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 512), 0);
	assert_int_equal(job_sector(&job, 0)[15], 8); /* each 8 bytes are their offset, the last byte first in memory */
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 512, DISK_SIZE - 512), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 1024), 0);
	assert_int_equal(job_sector(&job, 0)[15], 8);
	assert_sector(job_sector(&job, 1), 0, 1);
	assert_int_equal(do_one(disk, &job, DISK_WRITE_ZEROES, 0, 512), 0);
	storm_init(&storm, disk, 2);
	storm_run(&storm, 500, wait_for_machine, m);
	storm_check(&storm, disk);
	disk_close(disk);
	storm_free(&storm);
	stop(&server);
	job_free(&job);
}

static u64 now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (u64)time.tv_sec * 1000 + (u64)time.tv_nsec / 1000000;
}

/* What is under way fails when the server is gone, and so does all that follows; nothing hangs. */
static void loses(struct machine *m, struct server *server, struct disk *disk, int signal, u64 within_ms)
{
	struct job jobs[8] = {0};
	u64 start;

	for (unsigned i = 0; i < 8; i++) {
		job_fill(&jobs[i], i % 2 ? DISK_WRITE : DISK_READ, i * 65536, 65536, 3);
		disk_submit(disk, &jobs[i].request);
		assert_true(jobs[i].busy);
	}
	kill(server->pid, signal);
	start = now_ms();
	for (unsigned i = 0; i < 8; i++) {
		while (jobs[i].busy)
			machine_wait(m);
		assert_int_equal(jobs[i].error, EIO);
	}
	assert_in_range(now_ms() - start, 0, within_ms);
	assert_int_equal(do_one(disk, &jobs[0], DISK_READ, 0, 512), EIO);
	assert_int_equal(do_one(disk, &jobs[0], DISK_WRITE, 0, 1 << 20), EIO);
	assert_int_equal(do_one(disk, &jobs[0], DISK_FLUSH, 0, 0), EIO);
	assert_int_equal(do_one(disk, &jobs[0], DISK_WRITE_ZEROES, 0, 512), EIO);
	disk_close(disk);
	for (unsigned i = 0; i < 8; i++)
		job_free(&jobs[i]);
	stop(server);
}

static void test_killed(void **state)
{
	struct machine *m = *state;
	struct server server = nbdkit(m, "--filter=delay memory 8M delay-read=30 delay-write=30");
	struct disk *disk = open_server(m, &server, (struct disk_config){0});

	assert_non_null(disk);
	loses(m, &server, disk, SIGKILL, 5000);
}

/* A server that is there but silent is given up after some time. */
static void test_silent(void **state)
{
	struct machine *m = *state;
	struct server server = nbdkit(m, "--filter=delay memory 8M delay-read=300 delay-write=300");
	struct disk *disk = open_server(m, &server, (struct disk_config){0});

	assert_non_null(disk);
	nbd_set_patience(disk, 300);
	loses(m, &server, disk, SIGSTOP, 5000);
	/* while it is drained, too */
	server = nbdkit(m, "--filter=delay memory 8M delay-read=300");
	disk = open_server(m, &server, (struct disk_config){0});
	nbd_set_patience(disk, 300);
	struct job job = {0};
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 4096), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), EIO);
	disk_close(disk);
	stop(&server);
	job_free(&job);
}

/* Slow, but it does answer: patience begins anew with each sign of life. */
static void test_slow(void **state)
{
	struct machine *m = *state;
	struct server server =
		nbdkit(m, "--filter=noparallel --filter=delay memory 8M serialize=requests delay-read=200ms");
	struct disk *disk = open_server(m, &server, (struct disk_config){0});
	struct job jobs[6] = {0};

	assert_non_null(disk);
	nbd_set_patience(disk, 900);
	for (unsigned i = 0; i < 6; i++) {
		job_fill(&jobs[i], DISK_READ, i * 4096, 4096, 1);
		disk_submit(disk, &jobs[i].request);
	}
	for (unsigned i = 0; i < 6; i++) {
		while (jobs[i].busy)
			machine_wait(m);
		assert_int_equal(jobs[i].error, 0);
		job_free(&jobs[i]);
	}
	disk_close(disk);
	stop(&server);
}

/* Lost while nothing is under way: told at once, errors from then on. */
static void test_idle(void **state)
{
	struct machine *m = *state;
	struct server server = nbdkit(m, "memory 8M");
	struct disk *disk = open_server(m, &server, (struct disk_config){0});
	struct job job = {0};

	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), 0);
	stop(&server);
	machine_wait(m);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 4096), EIO);
	disk_close(disk);
	job_free(&job);
}

static void test_refused(void **state)
{
	struct machine *m = *state;
	struct server server = {.uri = "nbd+unix:///?socket=/nowhere/socket"};
	struct err err = ERR_INIT;
	struct disk_config config = {.path = server.uri};

	assert_null(disk_open(&config, m->vm.poller, &err));
	assert_non_null(strstr(err.text, "'nbd+unix:///?socket=/nowhere/socket'"));
	assert_non_null(strstr(err.text, "No such file"));
	config.path = "nbd://127.0.0.1:1/";
	assert_null(disk_open(&config, m->vm.poller, &err));
	assert_non_null(strstr(err.text, "refused"));
	server = nbdkit(m, "memory 8M");
	strcat(server.uri, "x"); /* no such socket */
	assert_null(open_server(m, &server, (struct disk_config){0}));
	stop(&server);
	server = nbdkit(m, "memory 1000");
	assert_null(open_server(m, &server, (struct disk_config){0}));
	stop(&server);
	server = start(
		m,
		"exec python3 -c 'import socket,sys,time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); "
		"s.listen(); s.accept(); s.accept()[0].sendall(b\"220 this is something else\\r\\n\" * 10); "
		"time.sleep(60)'",
		"");
	assert_null(open_server(m, &server, (struct disk_config){0}));
	stop(&server);
}

/* TLS with a shared key, as the URI says. */
static void test_tls(void **state)
{
	struct machine *m = *state;
	struct server server;
	char path[128], *socket;
	struct disk *disk;
	struct job job = {0};
	FILE *keys;

	snprintf(path, sizeof(path), "%s/keys", m->folder);
	keys = fopen(path, "w");
	fprintf(keys, "alice:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n");
	fclose(keys);
	server = nbdkit(m, "--tls=require --tls-psk=keys memory 8M");
	assert_null(open_server(m, &server, (struct disk_config){0}));
	socket = strdup(strchr(server.uri, '?'));
	snprintf(server.uri, sizeof(server.uri), "nbds+unix://alice@/%s&tls-psk-file=%s/keys", socket, m->folder);
	disk = open_server(m, &server, (struct disk_config){0});
	assert_non_null(disk);
	assert_int_equal(do_one(disk, &job, DISK_WRITE, 0, 1 << 20), 0);
	assert_int_equal(do_one(disk, &job, DISK_READ, 0, 1 << 20), 0);
	disk_close(disk);
	stop(&server);
	free(socket);
	job_free(&job);
}

/* A qcow2 image through qemu-nbd holds what was written. */
static void test_qcow2(void **state)
{
	struct machine *m = *state;
	struct server server;
	struct storm storm;
	struct disk *disk;
	char command[256];

	need("qemu-nbd");
	snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 '%s/image.qcow2' 8M", m->folder);
	assert_int_equal(system(command), 0);
	server = start(m, "exec qemu-nbd -t -f qcow2 --discard=unmap -k", "image.qcow2");
	disk = open_server(m, &server, (struct disk_config){0});
	assert_non_null(disk);
	storm_init(&storm, disk, 31);
	storm_run(&storm, 800, wait_for_machine, m);
	storm_check(&storm, disk);
	disk_close(disk);
	kill(server.pid, SIGTERM);
	assert_int_equal(waitpid(server.pid, NULL, 0), server.pid);
	snprintf(command, sizeof(command),
		 "cd '%s' && qemu-img check -q image.qcow2 && qemu-img convert -O raw image.qcow2 image", m->folder);
	assert_int_equal(system(command), 0);
	assert_file(m->path, storm.tags, storm.sectors);
	storm_free(&storm);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory), TEST(test_delay),    TEST(test_errors),   TEST(test_block_size), TEST(test_no_zero),
		TEST(test_offers), TEST(test_readonly), TEST(test_snapshot), TEST(test_killed),     TEST(test_silent),
		TEST(test_slow),   TEST(test_idle),     TEST(test_refused),  TEST(test_tls),        TEST(test_qcow2),
	};

	signal(SIGPIPE, SIG_DFL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
