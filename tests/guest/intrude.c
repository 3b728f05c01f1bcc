/*
 * Makes a program in its sandbox call what it never would: intrude TERMINAL COMMAND [ARGUMENT...]
 * TERMINAL is a descriptor, the program's input and output and the terminal of its session. Prints what opening
 * /etc/passwd returned in it, waits for a line of input, has it make a socket, prints how it ended, and waits for
 * another line. Status 77 if it may not trace its own child.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIPPED      77
#define ATTEMPTS     6000
#define PAUSE        10000 /* us */
#define SYSCALL      0x050fu
#define SYSCALL_SIZE 2

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static pid_t start(int terminal, char **command)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	for (int fd = 0; fd < 3; fd++)
		dup2(terminal, fd);
	execv(command[0], command);
	_exit(127);
}

static int in_sandbox(pid_t pid)
{
	char path[64], line[256];
	int yes = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		yes |= !strcmp(line, "Seccomp:\t2\n");
	fclose(file);
	return yes;
}

/* Stops it where it waits in a system call, whose instruction can be used again. */
static void stop_in_call(pid_t pid, struct user_regs_struct *regs)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		int status;

		if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 || waitpid(pid, &status, 0) != pid)
			die("stop");
		if (!WIFSTOPPED(status)) {
			fputs("the program has ended by itself\n", stderr);
			exit(1);
		}
		if (ptrace(PTRACE_GETREGS, pid, 0, regs) < 0)
			die("PTRACE_GETREGS");
		if (((unsigned long)ptrace(PTRACE_PEEKTEXT, pid, regs->rip - SYSCALL_SIZE, 0) & 0xffff) == SYSCALL &&
		    (long)regs->orig_rax >= 0)
			return;
		/* a signal is delivered, anything else goes on */
		int signal = status >> 16 ? 0 : WSTOPSIG(status);

		if (ptrace(PTRACE_CONT, pid, 0, signal) < 0)
			die("PTRACE_CONT");
		usleep(PAUSE);
	}
	fputs("the program never waits in a system call\n", stderr);
	exit(1);
}

#define CALL_STOP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */

/* Goes on until it has made the call; returns SIGSYS if that raised it at once, else 0. */
static int run_call(pid_t pid, const struct user_regs_struct *stopped, long number, unsigned long a, unsigned long b,
		    unsigned long c, struct user_regs_struct *after)
{
	struct user_regs_struct regs = *stopped;
	int status = 0, signal = 0;

	regs.rip -= SYSCALL_SIZE;
	regs.rax = (unsigned long)number;
	regs.orig_rax = -1ul; /* nothing is to be begun again */
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	if (ptrace(PTRACE_SETREGS, pid, 0, &regs) < 0)
		die("PTRACE_SETREGS");
	for (int stops = 0; stops < 2;) { /* before it and after it */
		if (ptrace(PTRACE_SYSCALL, pid, 0, signal) < 0 || waitpid(pid, &status, 0) != pid)
			die("PTRACE_SYSCALL");
		if (!WIFSTOPPED(status)) {
			fputs("the program has ended by itself\n", stderr);
			exit(1);
		}
		signal = WSTOPSIG(status) == CALL_STOP || status >> 16 ? 0 : WSTOPSIG(status);
		if (signal == SIGSYS)
			return signal;
		stops += WSTOPSIG(status) == CALL_STOP;
	}
	if (ptrace(PTRACE_GETREGS, pid, 0, after) < 0)
		die("PTRACE_GETREGS");
	return 0;
}

int main(int argc, char **argv)
{
	static const char path[16] = "/etc/passwd";
	struct user_regs_struct regs, after;
	unsigned long at, word;
	int status, signal;
	pid_t pid;

	if (argc < 3)
		return 2;
	if (setsid() < 0 || ioctl(atoi(argv[1]), TIOCSCTTY, 0) < 0)
		die("a terminal for the session");
	pid = start(atoi(argv[1]), argv + 2);
	for (int i = 0; !in_sandbox(pid); i++) {
		if (i == ATTEMPTS || waitpid(pid, &status, WNOHANG) == pid) {
			fputs("the program has not entered the sandbox\n", stderr);
			kill(pid, SIGKILL);
			return 1;
		}
		usleep(PAUSE);
	}
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD) < 0) {
		perror("PTRACE_SEIZE");
		kill(pid, SIGKILL);
		return SKIPPED;
	}
	stop_in_call(pid, &regs);
	at = (regs.rsp - 4096) & ~15ul; /* below all that is in use */
	for (size_t i = 0; i < sizeof(path); i += sizeof(word)) {
		memcpy(&word, path + i, sizeof(word));
		if (ptrace(PTRACE_POKEDATA, pid, at + i, word) < 0)
			die("PTRACE_POKEDATA");
	}
	if (run_call(pid, &regs, SYS_openat, (unsigned long)AT_FDCWD, at, O_RDONLY, &after)) {
		fputs("opening a file is forbidden altogether\n", stderr);
		return 1;
	}
	printf("open: %lld\n", (long long)after.rax);
	fflush(stdout);
	getchar();
	signal = run_call(pid, &regs, SYS_socket, AF_INET, SOCK_STREAM, 0, &after);
	if (ptrace(PTRACE_DETACH, pid, 0, signal) < 0)
		die("PTRACE_DETACH");
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	if (WIFEXITED(status))
		printf("status: %d\n", WEXITSTATUS(status));
	else
		printf("signal: %d\n", WTERMSIG(status));
	fflush(stdout);
	getchar();
	return 0;
}
