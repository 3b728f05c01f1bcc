/* The console of a run, against a VM that only notes what it is asked. */
#include "console/mark.h"
#include "console/terminal.h"
#include "dev/console.h"
#include "vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int wakes;

void vm_wake(struct vm *vm)
{
	(void)vm;
	__atomic_add_fetch(&wakes, 1, __ATOMIC_SEQ_CST);
}

void vm_stop_error(struct vm *vm, const char *message)
{
	vm->exit = EXIT_ERROR;
	snprintf(vm->exit_message, sizeof(vm->exit_message), "%s", message);
}

/* A terminal between two pipes: the test writes `input` and reads `output`. */
struct fixture {
	struct terminal *terminal;
	struct console *console;
	struct vm *vm;
	int input, output;
	int in, out;
};

static u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

static void open_pipes(struct fixture *f)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	*f = (struct fixture){.input = in[1], .output = out[0], .in = in[0], .out = out[1]};
}

static void create(struct fixture *f, struct mark *mark, double timeout_s)
{
	struct terminal_config config = {
		.in = f->in,
		.out = f->out,
		.mark = mark,
		.timeout_s = timeout_s,
		.start_ns = now_ns(),
	};
	struct err err = ERR_INIT;

	f->vm = calloc(1, sizeof(*f->vm));
	f->terminal = terminal_create(&config, &err);
	assert_non_null(f->terminal);
	f->console = terminal_console(f->terminal);
	assert_int_equal(f->console->attach(f->console, f->vm, &err), 0);
	terminal_start(f->terminal, f->vm);
}

static void finish(struct fixture *f)
{
	terminal_stop(f->terminal);
	terminal_destroy(f->terminal);
	free(f->vm);
	close(f->in);
	close(f->out);
	if (f->input >= 0)
		close(f->input);
	if (f->output >= 0)
		close(f->output);
}

static void put(struct fixture *f, const char *text)
{
	for (; *text; text++)
		f->console->put(f->console, (u8)*text);
}

/* What can be read from the output now, without waiting. */
static const char *output(struct fixture *f)
{
	static char text[8192];
	ssize_t n;

	fcntl(f->output, F_SETFL, O_NONBLOCK);
	n = read(f->output, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* The next input byte, waiting up to 5 s; -1 if none comes. */
static int get(struct fixture *f)
{
	for (int i = 0; i < 5000; i++) {
		int byte = f->console->get(f->console);

		if (byte >= 0)
			return byte;
		usleep(1000);
	}
	return -1;
}

static bool wait_stop_requested(struct fixture *f)
{
	for (int i = 0; i < 5000 && !f->vm->stop_requested; i++)
		usleep(1000);
	return f->vm->stop_requested;
}

static void test_output_is_written_by_lines(void **state)
{
	struct fixture f;

	(void)state;
	open_pipes(&f);
	create(&f, NULL, 0);
	put(&f, "login: ");
	assert_string_equal(output(&f), "");
	f.console->flush(f.console);
	assert_string_equal(output(&f), "login: ");
	put(&f, "one\ntwo");
	assert_string_equal(output(&f), "one\n");
	terminal_stop(f.terminal);
	assert_string_equal(output(&f), "two");
	finish(&f);
}

static void test_output_without_line_ends(void **state)
{
	struct fixture f;
	size_t length = 0;

	(void)state;
	open_pipes(&f);
	create(&f, NULL, 0);
	for (int i = 0; i < 5000; i++)
		f.console->put(f.console, 'x');
	length = strlen(output(&f));
	assert_int_equal(length, 4096);
	finish(&f);
}

static void *read_slowly(void *argument)
{
	struct fixture *f = argument;
	static size_t total;
	char bytes[1000];
	ssize_t n;

	total = 0;
	while ((n = read(f->output, bytes, sizeof(bytes))) > 0) {
		total += (size_t)n;
		usleep(100);
	}
	return &total;
}

/* A non-blocking descriptor and a slow reader: partial writes and EAGAIN lose nothing. */
static void test_slow_reader_gets_everything(void **state)
{
	struct fixture f;
	pthread_t reader;
	void *total;

	(void)state;
	open_pipes(&f);
	fcntl(f.out, F_SETFL, O_NONBLOCK);
	create(&f, NULL, 0);
	pthread_create(&reader, NULL, read_slowly, &f);
	for (int i = 0; i < 300000; i++)
		f.console->put(f.console, i % 100 == 99 ? '\n' : 'x');
	terminal_stop(f.terminal);
	close(f.out);
	pthread_join(reader, &total);
	assert_int_equal(*(size_t *)total, 300000);
	f.out = -1;
	finish(&f);
}

static void test_no_reader_ends_the_run(void **state)
{
	struct fixture f;

	(void)state;
	open_pipes(&f);
	create(&f, NULL, 0);
	close(f.output);
	f.output = -1;
	put(&f, "text\n");
	assert_int_equal(f.vm->exit, EXIT_ERROR);
	assert_non_null(strstr(f.vm->exit_message, "broken pipe"));
	finish(&f);
}

static void fill_pipe(struct fixture *f)
{
	static const char bytes[4096];

	fcntl(f->out, F_SETFL, O_NONBLOCK);
	while (write(f->out, bytes, sizeof(bytes)) > 0)
		;
	fcntl(f->out, F_SETFL, 0);
}

static void test_stuck_reader_does_not_outlive_a_stop(void **state)
{
	struct fixture f;

	(void)state;
	open_pipes(&f);
	create(&f, NULL, 0);
	fill_pipe(&f);
	kill(getpid(), SIGHUP);
	put(&f, "text\n");
	assert_true(f.vm->stop_requested);
	assert_int_equal(terminal_stop_signal(f.terminal), SIGHUP);
	finish(&f);
}

static void test_stuck_reader_does_not_outlive_the_timeout(void **state)
{
	struct fixture f;
	u64 start = now_ns();

	(void)state;
	open_pipes(&f);
	create(&f, NULL, 0.3);
	fill_pipe(&f);
	put(&f, "text\n");
	assert_in_range(now_ns() - start, 250000000, 2000000000);
	/* and is not waited for again */
	start = now_ns();
	put(&f, "text\ntext\ntext\n");
	assert_in_range(now_ns() - start, 0, 50000000);
	finish(&f);
}

static void test_input_arrives_and_ends(void **state)
{
	struct fixture f;
	int before = wakes;

	(void)state;
	open_pipes(&f);
	create(&f, NULL, 0);
	assert_int_equal(f.console->get(f.console), -1);
	/* Ctrl-A means nothing in a pipe */
	assert_int_equal(write(f.input, "a\x01x\0\xff", 5), 5);
	assert_int_equal(get(&f), 'a');
	assert_int_equal(get(&f), 1);
	assert_int_equal(get(&f), 'x');
	assert_int_equal(get(&f), 0);
	assert_int_equal(get(&f), 0xff);
	assert_true(wakes > before);
	close(f.input);
	f.input = -1;
	usleep(50000);
	assert_int_equal(f.console->get(f.console), -1);
	assert_false(f.vm->stop_requested);
	finish(&f);
}

static void *write_much(void *argument)
{
	struct fixture *f = argument;

	for (u32 i = 0; i < 200000; i++) {
		u8 byte = (u8)(i * 7 >> 3);

		if (write(f->input, &byte, 1) != 1)
			break;
	}
	return NULL;
}

/* More than the ring holds: the reader waits for room and loses nothing. */
static void test_input_larger_than_the_ring(void **state)
{
	struct fixture f;
	pthread_t writer;

	(void)state;
	open_pipes(&f);
	create(&f, NULL, 0);
	pthread_create(&writer, NULL, write_much, &f);
	usleep(400000);
	for (u32 i = 0; i < 200000; i++)
		assert_int_equal(get(&f), (u8)(i * 7 >> 3));
	pthread_join(writer, NULL);
	assert_int_equal(f.console->get(f.console), -1);
	finish(&f);
}

static void check_mark(const char *looked_for, const char *text, bool found)
{
	struct fixture f;
	struct mark mark;
	struct err err = ERR_INIT;
	u64 start = now_ns(), at;

	open_pipes(&f);
	assert_int_equal(mark_init(&mark, looked_for, &err), 0);
	create(&f, &mark, 0);
	put(&f, text);
	at = mark.found_ns;
	if (found)
		assert_in_range(at, start, now_ns());
	else
		assert_int_equal(at, 0);
	put(&f, text);
	/* the first appearance counts */
	if (found)
		assert_int_equal(mark.found_ns, at);
	finish(&f);
}

static void test_mark(void **state)
{
	(void)state;
	check_mark("login:", "guest login: ", true);
	check_mark("login:", "guest logi", false);
	check_mark("aab", "aaaab", true);
	check_mark("abcabd", "abcabcabd", true);
	check_mark("ababac", "abababac", true);
	check_mark("abacabad", "abacabacabad", true);
	check_mark("x\ny", "x\ny", true);
	check_mark("aab", "aba", false);
}

static void test_mark_length(void **state)
{
	struct mark mark;
	char text[MARK_MAX + 2];
	struct err err = ERR_INIT;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[MARK_MAX + 1] = '\0';
	assert_int_equal(mark_init(&mark, text, &err), -1);
	assert_string_not_equal(err.text, "");
	assert_int_equal(mark_init(&mark, "", &err), -1);
	text[MARK_MAX] = '\0';
	check_mark(text, text, true);
}

/* The same at a pseudo-terminal: the test is the user. Returns its modes before. */
static struct termios open_tty(struct fixture *f)
{
	struct termios modes;
	int user = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	assert_true(user >= 0);
	assert_int_equal(grantpt(user), 0);
	assert_int_equal(unlockpt(user), 0);
	*f = (struct fixture){.input = user, .output = dup(user)};
	f->in = open(ptsname(user), O_RDWR | O_NOCTTY | O_CLOEXEC);
	f->out = dup(f->in);
	assert_int_equal(tcgetattr(f->in, &modes), 0);
	return modes;
}

/* Without a controlling terminal the mode is left alone: do here what raw mode does. */
static void create_at_raw_tty(struct fixture *f)
{
	struct termios modes = open_tty(f);

	cfmakeraw(&modes);
	assert_int_equal(tcsetattr(f->in, TCSANOW, &modes), 0);
	create(f, NULL, 0);
}

static void test_tty_keys(void **state)
{
	static const u8 keys[] = {'a', 1, 1, 'b', 1, 'a', 'c', 1, 'q', 'd'};
	struct fixture f;

	(void)state;
	create_at_raw_tty(&f);
	assert_int_equal(write(f.input, keys, sizeof(keys)), sizeof(keys));
	assert_int_equal(get(&f), 'a');
	assert_int_equal(get(&f), 1);
	assert_int_equal(get(&f), 'b');
	assert_int_equal(get(&f), 1);
	assert_int_equal(get(&f), 'c');
	/* Ctrl-A with another key prints help; the key is swallowed */
	assert_int_equal(get(&f), 'd');
	assert_false(f.vm->stop_requested);
	assert_int_equal(write(f.input, "\x01x", 2), 2);
	assert_true(wait_stop_requested(&f));
	assert_int_equal(terminal_stop_signal(f.terminal), 0);
	finish(&f);
}

/* However much was typed that the guest does not read: Ctrl-A X is seen. */
static void test_tty_quits_with_a_full_ring(void **state)
{
	static char bytes[1000];
	struct fixture f;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	create_at_raw_tty(&f);
	for (int i = 0; i < 100; i++)
		assert_int_equal(write(f.input, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(write(f.input, "\x01x", 2), 2);
	assert_true(wait_stop_requested(&f));
	finish(&f);
}

/* In a session of its own, so that the pseudo-terminal is the controlling one: raw while it runs, restored after. */
static int raw_mode_child(void)
{
	struct termios before, during, after;
	struct fixture f;
	int name;

	setsid();
	before = open_tty(&f);
	name = open(ptsname(f.input), O_RDWR);
	if (name < 0)
		return 1;
	create(&f, NULL, 0);
	tcgetattr(f.in, &during);
	terminal_stop(f.terminal);
	tcgetattr(f.in, &after);
	if (!(before.c_lflag & ICANON) || (during.c_lflag & (ICANON | ECHO | ISIG)) || (during.c_oflag & OPOST))
		return 2;
	return before.c_iflag == after.c_iflag && before.c_oflag == after.c_oflag && before.c_cflag == after.c_cflag &&
			       before.c_lflag == after.c_lflag && !memcmp(before.c_cc, after.c_cc, sizeof(before.c_cc))
		       ? 0
		       : 3;
}

static void test_tty_raw_mode(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (!child)
		_exit(raw_mode_child());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_signals_stop_the_run(void **state)
{
	static const int numbers[] = {SIGINT, SIGHUP};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct fixture f;
		int before = wakes;

		open_pipes(&f);
		create(&f, NULL, 0);
		kill(getpid(), numbers[i]);
		assert_true(wait_stop_requested(&f));
		assert_int_equal(terminal_stop_signal(f.terminal), numbers[i]);
		finish(&f);
		assert_true(wakes > before);
	}
}

/* The first one presses the power button, which is looked at in the loop; the second one ends the run. */
static void test_sigterm(void **state)
{
	struct fixture f;

	(void)state;
	open_pipes(&f);
	create(&f, NULL, 0);
	kill(getpid(), SIGTERM);
	for (int i = 0; i < 5000 && !f.vm->power_button; i++)
		usleep(1000);
	assert_true(f.vm->power_button);
	assert_false(f.vm->stop_requested);
	kill(getpid(), SIGTERM);
	assert_true(wait_stop_requested(&f));
	assert_int_equal(terminal_stop_signal(f.terminal), SIGTERM);
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sigterm),
		cmocka_unit_test(test_output_is_written_by_lines),
		cmocka_unit_test(test_output_without_line_ends),
		cmocka_unit_test(test_slow_reader_gets_everything),
		cmocka_unit_test(test_no_reader_ends_the_run),
		cmocka_unit_test(test_stuck_reader_does_not_outlive_a_stop),
		cmocka_unit_test(test_stuck_reader_does_not_outlive_the_timeout),
		cmocka_unit_test(test_input_arrives_and_ends),
		cmocka_unit_test(test_input_larger_than_the_ring),
		cmocka_unit_test(test_mark),
		cmocka_unit_test(test_mark_length),
		cmocka_unit_test(test_tty_keys),
		cmocka_unit_test(test_tty_quits_with_a_full_ring),
		cmocka_unit_test(test_tty_raw_mode),
		cmocka_unit_test(test_signals_stop_the_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
