#!/usr/bin/env python3
"""Every way in which a run ends: exit status, message, and the terminal as it was before.

Usage: ends-test.py AVANT GUEST [--sanitized]
GUEST is the small guest made from console.S. With --sanitized, SIGSEGV is AddressSanitizer's.
"""
import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time

AVANT, GUEST = sys.argv[1:3]
SANITIZED = "--sanitized" in sys.argv[3:]
PATIENCE = 60
failures = 0


def fail(what, *details):
    global failures
    failures += 1
    print("FAIL %s: %s" % (what, " ".join(str(d) for d in details)))


def command(*options):
    return [AVANT, "run", "--kernel", GUEST, "--memory", "64M", "--debug-exit", *options]


class Terminal:
    """The command on a terminal of its own, whose settings can be looked at while it runs and afterwards."""

    def __init__(self, *options):
        self.master, self.slave = os.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(self.slave, fd)
            os.closerange(3, 256)
            os.execv(AVANT, command(*options))

    def read(self, seconds):
        if self.master is None or not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 4096)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        self.output += data
        return bool(data)

    def expect(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.output:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise SystemExit("'%s' did not appear; output: %r" % (text.decode(), self.output))
            self.read(1)

    def type(self, data):
        os.write(self.master, data)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait(self):
        """The exit status, negative for a signal."""
        end = time.monotonic() + PATIENCE
        while True:
            self.read(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return None
        while self.read(0.05):
            pass
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def close(self):
        for fd in (self.master, self.slave):
            if fd is not None:
                os.close(fd)


def on_terminal(name, act, status, message=b"", options=()):
    """Starts the guest, waits until it is ready, acts, and looks how it ends."""
    terminal = Terminal(*options)
    terminal.expect(b"ready")
    if not terminal.is_raw():
        fail(name, "the terminal is not raw during the run")
    act(terminal)
    got = terminal.wait()
    if got != status:
        fail(name, "status", got, "not", status, terminal.output)
    if message not in terminal.output:
        fail(name, message, "not in", terminal.output)
    if terminal.master is not None and termios.tcgetattr(terminal.slave) != terminal.before:
        fail(name, "the terminal's settings are changed")
    terminal.close()


def typed(text):
    return lambda terminal: terminal.type(text)


def killed(number, first=b"", answer=b""):
    def act(terminal):
        terminal.type(first)
        terminal.expect(answer)
        os.kill(terminal.pid, number)

    return act


def hung_up(terminal):
    os.close(terminal.master)
    terminal.master = None


def stopped(terminal):
    os.kill(terminal.pid, signal.SIGTSTP)
    _, status = os.waitpid(terminal.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        raise SystemExit("SIGTSTP did not stop it: %#x" % status)
    if termios.tcgetattr(terminal.slave) != terminal.before:
        fail("stopped", "the terminal's settings are changed while stopped")
    os.kill(terminal.pid, signal.SIGCONT)
    end = time.monotonic() + PATIENCE
    while not terminal.is_raw():
        if time.monotonic() > end:
            raise SystemExit("the terminal is not raw after SIGCONT")
        time.sleep(0.01)
    terminal.type(b"yp")
    terminal.expect(b"y")


def terminal_ends():
    on_terminal("power-off", typed(b"p"), 0)
    on_terminal("reset", typed(b"r"), 3, b"the guest reset")
    on_terminal("triple fault", typed(b"t"), 3, b"triple fault")
    on_terminal("debug exit", typed(b"d\x15"), 43)
    on_terminal("debug exit 0", typed(b"d\x00"), 1)
    on_terminal("error", typed(b"c"), 1, b"32-bit code")
    for state, answer in ((b"z", b"z"), (b"l", b"looping"), (b"h", b"halting")):
        def quit_it(terminal, state=state, answer=answer):
            terminal.type(state)
            terminal.expect(answer)
            terminal.type(b"\x01x")

        on_terminal("Ctrl-A X", quit_it, 0, b"Ctrl-A X")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            on_terminal(number.name, killed(number, state, answer), 128 + number, b"ended by signal")
    on_terminal("hang-up", hung_up, 128 + signal.SIGHUP)
    for number in (signal.SIGQUIT, signal.SIGABRT, signal.SIGALRM) + (() if SANITIZED else (signal.SIGSEGV,)):
        on_terminal(number.name, killed(number, b"z", b"z"), -number)
    on_terminal("SIGTSTP", stopped, 0)
    # ^C is the guest's
    on_terminal("Ctrl-C", typed(b"\x03\x1a\x1cp"), 0, b"\x03\x1a\x1c")
    on_terminal("time limit", typed(b"l"), 4, b"limit", ("--timeout", "0.5"))
    on_terminal("time limit", typed(b"h"), 4, b"limit", ("--timeout", "0.5"))
    on_terminal("processor time limit", typed(b"l"), 4, b"limit", ("--cpu-time-limit", "0.5"))


def piped(name, options, status, stdin=subprocess.DEVNULL, data=None, stdout=subprocess.PIPE, output=b""):
    try:
        result = subprocess.run(command("--timeout", str(PATIENCE), *options), input=data,
                                stdin=None if data is not None else stdin, stdout=stdout, stderr=subprocess.PIPE,
                                timeout=2 * PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        fail(name, "does not end")
        return
    if result.returncode != status:
        fail(name, "status", result.returncode, "not", status, result.stdout, result.stderr)
    if output not in (result.stdout or b""):
        fail(name, output, "not in", result.stdout)


def pipes():
    # input that ends does not end the guest, nor is any of it lost
    piped("pipe", (), 0, data=b"SOME WORDS " * 300 + b"p", output=b"SOME WORDS " * 300)
    piped("end of input", ("--timeout", "1"), 4, data=b"ABC", output=b"ABC")
    piped("no input", ("--timeout", "1"), 4, output=b"ready")
    piped("escapes are for terminals", (), 0, data=b"\x01x\x01yp", output=b"\x01x\x01y")
    closed = ["sh", "-c", 'exec "$@" <&-', "sh"] + command("--timeout", "1")
    result = subprocess.run(closed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    if result.returncode != 4 or b"ready" not in result.stdout:
        fail("closed input", result)
    # nobody reads any more: an end in order, not for ever
    reader, writer = os.pipe()
    os.close(reader)
    piped("closed output", ("--timeout", "20"), 1, stdout=writer)
    os.close(writer)
    with open("/dev/full", "wb") as full:
        piped("full output", ("--timeout", "20"), 1, stdout=full)


terminal_ends()
pipes()
sys.exit(1 if failures else 0)
