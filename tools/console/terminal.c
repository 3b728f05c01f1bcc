#include "console/terminal_internal.h"

#include "util/thread.h"
#include "vm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ESCAPE     0x01 /* Ctrl-A */
#define PATIENCE_S 2    /* a second wish to end after this many seconds ends the process at once */

struct terminal_thread {
	pthread_t id;
	bool running;
	int signal_fd;
	int in; /* -1: no more input */
	bool tty;
	bool escape;      /* the last byte was the prefix */
	bool pressed;     /* the power button, by a first SIGTERM */
	int stop_signal;  /* 0: Ctrl-A X */
	time_t stop_time; /* monotonic, 0: nobody asked */
};

/* What has to be put back on the way out. The only state outside of struct terminal: exit and signal handlers need it.
 */
static struct {
	volatile sig_atomic_t raw;
	int fd;
	struct termios saved, raw_mode;
} tty_state;

/* Signals that the waiter thread takes. */
static const int taken_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH};

/* Signals that end the process on the spot: restore the terminal first. */
static const int fatal_signals[] = {SIGABRT, SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,
				    SIGTRAP, SIGSYS,  SIGQUIT, SIGXCPU, SIGALRM};

void terminal_restore(void)
{
	if (!tty_state.raw)
		return;
	tty_state.raw = 0;
	tcsetattr(tty_state.fd, TCSANOW, &tty_state.saved);
}

/* A background process would be stopped for trying; it becomes raw when SIGCONT brings it to the foreground. */
static void tty_make_raw(void)
{
	if (tty_state.raw || tcgetpgrp(tty_state.fd) != getpgrp())
		return;
	if (!tcsetattr(tty_state.fd, TCSANOW, &tty_state.raw_mode))
		tty_state.raw = 1;
}

static void on_fatal_signal(int number)
{
	terminal_restore();
	/* SA_RESETHAND put the default back: now it does what it is there for. */
	raise(number);
}

/* Before the VMM takes some of them: it passes on what is not its guest's doing. */
static void catch_fatal_signals(void)
{
	struct sigaction action = {.sa_handler = on_fatal_signal, .sa_flags = SA_RESETHAND | SA_NODEFER | SA_ONSTACK};
	struct sigaction old;

	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		if (!sigaction(fatal_signals[i], NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
		    old.sa_handler == SIG_DFL)
			sigaction(fatal_signals[i], &action, NULL);
}

static void enter_raw(struct terminal *terminal)
{
	static bool registered;

	if (!terminal->thread->tty || tcgetattr(terminal->thread->in, &tty_state.saved) < 0)
		return;
	tty_state.fd = terminal->thread->in;
	tty_state.raw_mode = tty_state.saved;
	cfmakeraw(&tty_state.raw_mode);
	if (!registered)
		atexit(terminal_restore);
	registered = true;
	tty_make_raw();
}

static time_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* number: the signal, or 0 for Ctrl-A X. */
static void request_stop(struct terminal *terminal, int number)
{
	struct terminal_thread *thread = terminal->thread;

	if (thread->stop_time) {
		if (now_s() - thread->stop_time < PATIENCE_S)
			return;
		terminal_restore();
		fputs("avant: the run did not end when asked to; ended at once\n", stderr);
		_exit(number ? 128 + number : 1);
	}
	thread->stop_time = now_s();
	thread->stop_signal = number;
	terminal->vm->stop_requested = 1;
	vm_wake(terminal->vm);
}

/* The guest is asked first, and told from outside only the second time. */
static void press_power_button(struct terminal *terminal)
{
	struct terminal_thread *thread = terminal->thread;

	if (thread->pressed) {
		request_stop(terminal, SIGTERM);
		return;
	}
	thread->pressed = true;
	thread->stop_signal = SIGTERM; /* if the guest does not listen */
	fputs("avant run: the guest's power button is pressed; another SIGTERM ends the run\r\n", stderr);
	terminal->vm->power_button = 1;
	vm_wake(terminal->vm);
}

static void print_help(void)
{
	fputs("\r\nCtrl-A X  quit    Ctrl-A A  send Ctrl-A    Ctrl-A H  this help\r\n", stderr);
}

/* One byte typed at the terminal. What does not fit is dropped: reading must go on, or Ctrl-A X would not be seen. */
static void type_byte(struct terminal *terminal, u8 byte)
{
	struct terminal_thread *thread = terminal->thread;

	if (!thread->escape) {
		if (byte == ESCAPE)
			thread->escape = true;
		else
			terminal_ring_add(&terminal->ring, byte);
		return;
	}
	thread->escape = false;
	switch (byte) {
	case 'x':
	case 'X':
	case 'x' & 0x1f:
		request_stop(terminal, 0);
		break;
	case 'a':
	case 'A':
	case ESCAPE:
		terminal_ring_add(&terminal->ring, ESCAPE);
		break;
	default:
		print_help();
	}
}

static void read_input(struct terminal *terminal)
{
	struct terminal_thread *thread = terminal->thread;
	u32 room = terminal_ring_room(&terminal->ring);
	u8 bytes[4096];
	size_t most = thread->tty || room > sizeof(bytes) ? sizeof(bytes) : room;
	ssize_t n = read(thread->in, bytes, most);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		thread->in = -1;
		/* The end of a file is the end of input; of a terminal, the user has gone. */
		if (thread->tty)
			request_stop(terminal, SIGHUP);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (thread->tty)
			type_byte(terminal, bytes[i]);
		else
			terminal_ring_add(&terminal->ring, bytes[i]);
	}
	vm_wake(terminal->vm);
}

/* Any thread. */
static void note_size(struct terminal *terminal)
{
	struct winsize size;

	if (terminal->thread->tty && ioctl(terminal->thread->in, TIOCGWINSZ, &size) == 0)
		__atomic_store_n(&terminal->size, (u32)size.ws_row << 16 | size.ws_col, __ATOMIC_RELAXED);
}

static void take_signal(struct terminal *terminal)
{
	struct signalfd_siginfo info;

	if (read(terminal->thread->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGTSTP:
		terminal_restore();
		kill(getpid(), SIGSTOP);
		break;
	case SIGCONT:
		if (terminal->thread->tty)
			tty_make_raw();
		break;
	case SIGWINCH:
		note_size(terminal);
		vm_wake(terminal->vm);
		break;
	case SIGTERM:
		press_power_button(terminal);
		break;
	default:
		request_stop(terminal, (int)info.ssi_signo);
	}
}

/* Is there room for input? If not, asks the reader of the ring to say so on room_fd. */
static bool input_has_room(struct terminal *terminal)
{
	struct terminal_ring *ring = &terminal->ring;

	if (terminal->thread->tty || terminal_ring_room(ring))
		return true;
	__atomic_store_n(&ring->wants_room, 1, __ATOMIC_SEQ_CST);
	return terminal_ring_room(ring);
}

static void *waiter(void *argument)
{
	struct terminal *terminal = argument;
	struct terminal_thread *thread = terminal->thread;

	while (__atomic_load_n(&thread->running, __ATOMIC_SEQ_CST)) {
		struct pollfd polls[3] = {
			{.fd = thread->signal_fd, .events = POLLIN},
			{.fd = terminal->room_fd, .events = POLLIN},
			{.fd = input_has_room(terminal) ? thread->in : -1, .events = POLLIN},
		};
		u64 count;

		if (poll(polls, ARRAY_SIZE(polls), -1) < 0)
			continue;
		if (polls[0].revents)
			take_signal(terminal);
		if (polls[1].revents && read(terminal->room_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			break;
		if (polls[2].revents)
			read_input(terminal);
	}
	return NULL;
}

static int attach(struct console *console, struct vm *vm, struct err *err)
{
	(void)err;
	((struct terminal *)console)->vm = vm;
	return 0;
}

static bool get_size(struct console *console, u16 *columns, u16 *rows)
{
	u32 size = __atomic_load_n(&((struct terminal *)console)->size, __ATOMIC_RELAXED);

	*columns = (u16)size;
	*rows = (u16)(size >> 16);
	return size;
}

void terminal_start(struct terminal *terminal, struct vm *vm)
{
	struct err err = ERR_INIT;

	terminal->vm = vm;
	enter_raw(terminal);
	terminal->thread->running = true;
	if (thread_start(&terminal->thread->id, waiter, terminal, &err) < 0) {
		terminal->thread->running = false;
		warn("the guest gets no input: %s", err.text);
	}
}

/* Returns the descriptor that they are read from. */
static int take_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(taken_signals); i++) {
		struct sigaction action;

		/* nohup, and shells that start background jobs, ignore some on purpose. */
		if (!sigaction(taken_signals[i], NULL, &action) && action.sa_handler == SIG_IGN)
			continue;
		sigaddset(&set, taken_signals[i]);
	}
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

struct terminal *terminal_create(const struct terminal_config *config, struct err *err)
{
	struct terminal *terminal = calloc(1, sizeof(*terminal));
	struct terminal_thread *thread = calloc(1, sizeof(*thread));

	if (!terminal || !thread) {
		free(terminal);
		free(thread);
		err_set(err, "out of memory");
		return NULL;
	}
	terminal->console = (struct console){
		.put = terminal_put,
		.get = terminal_get,
		.flush = terminal_flush,
		.attach = attach,
		.size = get_size,
	};
	terminal->thread = thread;
	terminal->mark = config->mark;
	terminal->output.fd = config->out;
	terminal->output.give_up_ns = UINT64_MAX;
	if (config->timeout_s > 0)
		terminal->output.give_up_ns = config->start_ns + (u64)(config->timeout_s * 1e9);
	thread->in = config->in;
	thread->tty = config->in >= 0 && isatty(config->in);
	thread->signal_fd = -1;
	terminal->room_fd = -1;
	note_size(terminal);
	if (thread->tty)
		catch_fatal_signals();
	thread->signal_fd = take_signals();
	terminal->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (thread->signal_fd < 0 || terminal->room_fd < 0) {
		err_set(err, "cannot prepare the console: %s", strerror(errno));
		terminal_destroy(terminal);
		return NULL;
	}
	return terminal;
}

struct console *terminal_console(struct terminal *terminal)
{
	return &terminal->console;
}

void terminal_stop(struct terminal *terminal)
{
	struct terminal_thread *thread = terminal->thread;

	terminal_flush(&terminal->console);
	if (thread->running) {
		__atomic_store_n(&thread->running, false, __ATOMIC_SEQ_CST);
		eventfd_write(terminal->room_fd, 1);
		pthread_join(thread->id, NULL);
	}
	terminal_restore();
}

void terminal_destroy(struct terminal *terminal)
{
	struct terminal_thread *thread = terminal->thread;

	if (thread->signal_fd >= 0)
		close(thread->signal_fd);
	if (terminal->room_fd >= 0)
		close(terminal->room_fd);
	free(thread);
	free(terminal);
}

int terminal_stop_signal(const struct terminal *terminal)
{
	return terminal->thread->stop_signal;
}
