#include "debug/gdb_server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "debug/gdb_internal.h"
#include "debug/gdb_registers.h"
#include "util/thread.h"
#include "vm.h"

#define LOOPBACK       "127.0.0.1"
#define SEND_TIMEOUT_S 10 /* a client that reads nothing for so long has gone */

/* Signal numbers of the protocol: 2 SIGINT, 5 SIGTRAP. */
static const char stop_asked[] = "T02thread:01;", stop_trap[] = "T05thread:01;",
		  stop_breakpoint[] = "T05swbreak:;thread:01;";

/* --- address and socket ------------------------------------------------------------------------------------------ */

int gdb_address_parse(const char *text, struct gdb_address *address, struct err *err)
{
	const char *colon = strrchr(text, ':'), *host = text;
	size_t length = colon ? (size_t)(colon - text) : 0;
	char *end;
	unsigned long port;

	if (!colon || colon[1] < '0' || colon[1] > '9')
		return err_set(err, "'%s' is not :PORT or HOST:PORT", text);
	port = strtoul(colon + 1, &end, 10);
	if (*end || port > 65535)
		return err_set(err, "'%s' has no port between 0 and 65535", text);
	if (length > 2 && host[0] == '[' && host[length - 1] == ']') {
		host++;
		length -= 2;
	}
	if (length >= sizeof(address->host))
		return err_set(err, "the host's name is too long");
	snprintf(address->host, sizeof(address->host), "%.*s", (int)length, host);
	if (!length)
		strcpy(address->host, LOOPBACK);
	snprintf(address->port, sizeof(address->port), "%lu", port);
	return 0;
}

static int listen_there(const struct addrinfo *there)
{
	int fd = socket(there->ai_family, there->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, there->ai_addr, there->ai_addrlen) < 0 || listen(fd, 1) < 0) {
		int failure = errno;

		close(fd);
		errno = failure;
		return -1;
	}
	return fd;
}

static int open_listener(const char *text, struct err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
	struct addrinfo *found;
	struct gdb_address address;
	int fd, failure;

	if (gdb_address_parse(text, &address, err) < 0)
		return -1;
	failure = getaddrinfo(address.host, address.port, &hints, &found);
	if (failure)
		return err_set(err, "cannot listen for gdb at '%s': %s", text, gai_strerror(failure));
	fd = listen_there(found);
	freeaddrinfo(found);
	if (fd < 0)
		return err_set(err, "cannot listen for gdb at '%s': %s", text, strerror(errno));
	return fd;
}

/* With the port that the system chose if 0 was asked for. */
static void say_where(int fd)
{
	struct sockaddr_storage name;
	socklen_t size = sizeof(name);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (!getsockname(fd, (struct sockaddr *)&name, &size) &&
	    !getnameinfo((struct sockaddr *)&name, size, host, sizeof(host), port, sizeof(port),
			 NI_NUMERICHOST | NI_NUMERICSERV))
		fprintf(stderr,
			strchr(host, ':') ? "avant: waiting for gdb at [%s]:%s\n" : "avant: waiting for gdb at %s:%s\n",
			host, port);
}

/* --- the watching thread ----------------------------------------------------------------------------------------- */

/*
 * `armed` is taken back before `attention` is set: who sees the attention can arm again. Waking for what has been read
 * meanwhile is harmless.
 */
static void *watch(void *argument)
{
	struct gdb_server *s = argument;

	for (;;) {
		while (sem_wait(&s->arm) < 0 && errno == EINTR)
			;
		struct pollfd polls[2] = {{.fd = s->watched, .events = POLLIN}, {.fd = s->quit, .events = POLLIN}};

		while (poll(polls, ARRAY_SIZE(polls), -1) < 0 && errno == EINTR)
			;
		if (polls[1].revents)
			return NULL;
		__atomic_store_n(&s->armed, false, __ATOMIC_SEQ_CST);
		__atomic_store_n(&s->debugger->attention, 1, __ATOMIC_SEQ_CST);
		vm_wake(s->vm);
	}
}

static void arm(struct gdb_server *s)
{
	/* what has been read together with the last packet does not show on the socket */
	if (s->client >= 0 && gdb_link_has_input(&s->link)) {
		__atomic_store_n(&s->debugger->attention, 1, __ATOMIC_SEQ_CST);
		vcpu_notify(s->vm->vcpu);
	}
	if (__atomic_load_n(&s->armed, __ATOMIC_SEQ_CST))
		return;
	s->watched = s->client >= 0 ? s->client : s->listener;
	__atomic_store_n(&s->armed, true, __ATOMIC_SEQ_CST);
	sem_post(&s->arm);
}

static int start_thread(struct gdb_server *s, struct err *err)
{
	s->quit = eventfd(0, EFD_CLOEXEC);
	if (s->quit < 0)
		return err_set(err, "cannot create an eventfd: %s", strerror(errno));
	if (thread_start(&s->thread, watch, s, err) < 0)
		return -1;
	s->thread_started = true;
	return 0;
}

static void stop_thread(struct gdb_server *s)
{
	u64 one = 1;

	if (!s->thread_started || write(s->quit, &one, sizeof(one)) < 0)
		return;
	sem_post(&s->arm);
	pthread_join(s->thread, NULL);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

struct gdb_server *gdb_server_create(struct vm *vm, struct debugger *debugger, const char *text, struct err *err)
{
	struct gdb_server *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(err, "out of memory");
		return NULL;
	}
	s->vm = vm;
	s->debugger = debugger;
	s->client = s->listener = s->quit = -1;
	s->stop = stop_trap;
	sem_init(&s->arm, 0, 0);
	s->xml = gdb_registers_xml();
	if (!s->xml)
		err_set(err, "out of memory");
	else
		s->listener = open_listener(text, err);
	if (s->listener < 0 || start_thread(s, err) < 0) {
		gdb_server_destroy(s);
		return NULL;
	}
	say_where(s->listener);
	return s;
}

static void drop_client(struct gdb_server *s)
{
	if (s->client < 0)
		return;
	shutdown(s->client, SHUT_RDWR); /* the watching thread may be waiting for it */
	close(s->client);
	s->client = -1;
	s->guest_runs = false;
	s->physical = false;
	s->debugger->count = 0;
}

/* The exit statuses of `avant run`, as far as they are known here. */
static void send_exit(struct gdb_server *s)
{
	int status = s->vm->exit == EXIT_POWER_OFF                                   ? 0
		     : s->vm->exit == EXIT_DEBUG                                     ? s->vm->exit_code & 0xff
		     : s->vm->exit == EXIT_RESET || s->vm->exit == EXIT_TRIPLE_FAULT ? 3
										     : 1;
	char text[8];

	snprintf(text, sizeof(text), "W%02x", status);
	gdb_link_send(&s->link, text, strlen(text));
}

void gdb_server_destroy(struct gdb_server *s)
{
	if (!s)
		return;
	stop_thread(s);
	if (s->client >= 0 && s->guest_runs)
		send_exit(s);
	drop_client(s);
	if (s->listener >= 0)
		close(s->listener);
	if (s->quit >= 0)
		close(s->quit);
	sem_destroy(&s->arm);
	free(s->xml);
	free(s);
}

/* --- serving ----------------------------------------------------------------------------------------------------- */

static bool accept_client(struct gdb_server *s)
{
	const struct timeval timeout = {.tv_sec = SEND_TIMEOUT_S};
	int one = 1, fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return false;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	s->client = fd;
	gdb_link_open(&s->link, fd);
	return true;
}

/* A guest that is stopped cannot listen to its power button. */
static bool wants_end(const struct vm *vm)
{
	return vm->stop_requested || vm->power_button;
}

/* Waits for the client (or for one to come) and for requests to end the run. */
static void wait_for_input(struct gdb_server *s)
{
	struct vm *vm = s->vm;
	struct pollfd polls[2] = {{.fd = s->client >= 0 ? s->client : s->listener, .events = POLLIN},
				  {.fd = vm->wake_fd, .events = POLLIN}};
	u64 drained;

	__atomic_store_n(&vm->sleeping, true, __ATOMIC_SEQ_CST);
	if (!wants_end(vm) && poll(polls, ARRAY_SIZE(polls), -1) > 0 && polls[1].revents &&
	    read(vm->wake_fd, &drained, sizeof(drained)) < 0 && errno != EAGAIN)
		warn("cannot read an eventfd: %s", strerror(errno));
	__atomic_store_n(&vm->sleeping, false, __ATOMIC_SEQ_CST);
}

/* False: the guest goes on, or the run is over. */
static bool serve_packet(struct gdb_server *s)
{
	bool answered;
	enum gdb_outcome outcome = gdb_command(s, &answered);

	if (answered)
		gdb_link_send(&s->link, s->reply.text, s->reply.length);
	switch (outcome) {
	case GDB_STAY:
		return true;
	case GDB_GO_ON:
	case GDB_STEP:
		s->guest_runs = true;
		debugger_resume(s->vm, outcome == GDB_STEP);
		return false;
	case GDB_DETACH:
		drop_client(s);
		debugger_resume(s->vm, false);
		return false;
	case GDB_END:
		vm_stop_message(s->vm, EXIT_USER, "ended by gdb");
		return false;
	}
	return true;
}

/* One round; false: the guest goes on, or the run is over. */
static bool serve(struct gdb_server *s)
{
	if (wants_end(s->vm)) {
		vm_stop(s->vm, EXIT_USER, 0);
		return false;
	}
	if (s->client < 0 && !accept_client(s)) {
		wait_for_input(s);
		return true;
	}
	switch (gdb_link_receive(&s->link)) {
	case GDB_PACKET:
		return serve_packet(s);
	case GDB_CLOSED:
		drop_client(s);
		debugger_resume(s->vm, false);
		return false;
	case GDB_INTERRUPT: /* it is stopped already */
		break;
	case GDB_NOTHING:
		wait_for_input(s);
		break;
	}
	return true;
}

void gdb_server_stop(struct gdb_server *s, enum debugger_stop why)
{
	s->stop = why == DEBUGGER_STOP_ASKED                      ? stop_asked
		  : why == DEBUGGER_STOP_BREAKPOINT && s->swbreak ? stop_breakpoint
								  : stop_trap;
	if (s->guest_runs)
		gdb_link_send(&s->link, s->stop, strlen(s->stop));
	s->guest_runs = false;
	while (serve(s))
		;
	if (s->vm->exit == EXIT_RUNNING)
		arm(s);
}

bool gdb_server_wants_stop(struct gdb_server *s)
{
	if (s->client < 0) {
		if (accept_client(s))
			return true;
	} else {
		enum gdb_event event;

		/* a packet has no business here: gdb waits for the stop reply */
		while ((event = gdb_link_receive(&s->link)) == GDB_PACKET)
			;
		if (event == GDB_INTERRUPT)
			return true;
		if (event == GDB_CLOSED) {
			drop_client(s);
			debugger_resume(s->vm, false);
		}
	}
	arm(s);
	return false;
}
