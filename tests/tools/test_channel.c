/* A console that others connect to, against a VM that only notes what it is asked. */
#include "console/channel.h"
#include "cpu/vcpu.h"
#include "dev/console.h"
#include "poller.h"
#include "socket_name.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int wakes;

void vm_wake(struct vm *vm)
{
	(void)vm;
	__atomic_add_fetch(&wakes, 1, __ATOMIC_SEQ_CST);
}

struct fixture {
	struct vm *vm;
	struct channel *channel;
	struct console *console;
	char folder[64], path[80];
	int client;
};

static void settle(struct fixture *f)
{
	for (unsigned i = 0; i < 20; i++) {
		poller_run(f->vm->poller);
		usleep(1000);
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct console_choice choice = {.kind = CONSOLE_UNIX};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct socket_name name = {.path = f->path};
	struct err err = ERR_INIT;

	assert_non_null(f);
	strcpy(f->folder, "/tmp/test_channel.XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/socket", f->folder);
	f->vm = calloc(1, sizeof(*f->vm));
	assert_non_null(f->vm);
	f->vm->vcpu = aligned_alloc(64, (sizeof(*f->vm->vcpu) + 63) & ~63UL);
	assert_non_null(f->vm->vcpu);
	memset(f->vm->vcpu, 0, sizeof(*f->vm->vcpu));
	f->vm->poller = poller_create(f->vm, &err);
	assert_non_null(f->vm->poller);
	choice.path = f->path;
	f->channel = console_channel_create(&choice, "test", NULL, &err);
	assert_non_null(f->channel);
	name.fd = console_channel_socket(f->channel);
	assert_int_equal(socket_name_bind(&name, &err), 0);
	f->console = console_channel_console(f->channel);
	assert_int_equal(f->console->attach(f->console, f->vm, &err), 0);
	strcpy(address.sun_path, f->path);
	f->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(f->client, (struct sockaddr *)&address, sizeof(address)), 0);
	settle(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	console_channel_stop(f->channel);
	console_channel_destroy(f->channel);
	poller_destroy(f->vm->poller);
	close(f->client);
	unlink(f->path);
	rmdir(f->folder);
	free(f->vm->vcpu);
	free(f->vm);
	free(f);
	return 0;
}

/* Until neither the socket nor the ring takes any more. */
static void fill(struct fixture *f)
{
	struct console *console = f->console;

	do {
		while (!console->full(console))
			console->put(console, 'x');
		console->flush(console);
	} while (!console->full(console));
}

/* Whoever it is that makes room: a device that waits for it must be told. */
static void room_is_told(void **state)
{
	struct fixture *f = *state;
	static char buffer[1 << 20];

	for (unsigned by_poller = 0; by_poller < 2; by_poller++) {
		fill(f);
		settle(f);
		f->vm->vcpu->event = 0;
		while (f->console->full(f->console)) {
			assert_int_equal(f->vm->vcpu->event, 0);
			assert_true(recv(f->client, buffer, sizeof(buffer), MSG_DONTWAIT) > 0);
			if (by_poller)
				settle(f);
			else
				f->console->flush(f->console);
		}
		assert_int_equal(f->vm->vcpu->event, 1);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(room_is_told, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
