"""A session with a guest on its serial console, over pipes: boot, log in, run commands, power off.

    with Session(["build/avant", "run", "--image", "debian.img", …]) as guest:
        guest.login()
        print(guest.run("uname -a").output)
        guest.power_off()

The same for any program that has the console on its standard input and output, QEMU with -nographic as well.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time

# Guests have sessions of their own, so nothing else ends them with the script: `with` does, if the signal is an exception.
if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class GuestError(Exception):
    """The guest did not do what was expected of it: what was waited for, and the end of what it printed."""


class Result:
    """What a command printed, and its exit status."""

    def __init__(self, output, status, seconds):
        self.output, self.status, self.seconds = output, status, seconds


class Session:
    TAIL = 3000  # characters of output in an error message

    def __init__(self, command, log=None, echo=False, environment=None, errors=subprocess.STDOUT):
        """`log`: a file that gets all output; `echo`: print it as well; `environment`, `errors`: as of subprocess."""
        self.command, self.echo = command, echo
        self.log = open(log, "wb") if log else None
        self.text = ""  # all output so far
        self.seen = 0  # how much of it was waited for
        self.number = 0
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=errors, start_new_session=True, env=environment)
        os.set_blocking(self.process.stdout.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Ends the guest if it still runs, by force if need be."""
        for number, patience in ((signal.SIGTERM, 1), (signal.SIGTERM, 3), (signal.SIGKILL, 10)):
            if self.process.poll() is not None:
                break
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        self.process.stdout.close()
        if self.log:
            self.log.close()

    def _read(self, patience):
        """More output, or False at its end; gives up waiting after `patience` seconds."""
        ready, _, _ = select.select([self.process.stdout], [], [], max(0, patience))
        if not ready:
            return True
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            return False
        if self.log:
            self.log.write(data)
            self.log.flush()
        text = data.decode("utf-8", "replace").replace("\r", "")
        if self.echo:
            sys.stdout.write(text)
            sys.stdout.flush()
        self.text += text
        return True

    def expect(self, pattern, timeout=60):
        """Waits for text that matches; returns the match. What follows it is left for the next call."""
        deadline = time.monotonic() + timeout
        expression = re.compile(pattern)
        while True:
            match = expression.search(self.text, self.seen)
            if match:
                self.seen = match.end()
                return match
            now = time.monotonic()
            if now >= deadline:
                raise GuestError(f"no {pattern!r} within {timeout} s; the guest printed\n{self.text[-self.TAIL:]}")
            if not self._read(deadline - now):
                raise GuestError(f"the guest ended before {pattern!r}; it printed\n{self.text[-self.TAIL:]}")

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def login(self, timeout=300):
        """Logs in as root without a password; returns the seconds from launch to the prompt for a name."""
        self.expect(r"login: ", timeout)
        seconds = time.monotonic() - self.began
        self.send("root\n")
        self.expect(r"# ", 120)
        # without echo, line editing and prompt, what comes is what commands print
        self.send("exec /bin/sh\n")
        time.sleep(0.2)
        self.send("stty -echo cols 200; PS1= PS2= HISTFILE= TERM=dumb; export TERM; unset PROMPT_COMMAND\n")
        self.run("true", timeout=120)
        return seconds

    def run(self, command, timeout=120, check=True):
        """Runs a shell command of any length (lines of up to 4,000 bytes) and returns its Result."""
        self.number += 1
        mark = f"{self.number:06d}"
        began = time.monotonic()
        # the marks are put together by the guest: an echo of the input is not taken for them
        self.send(f"printf '\\nBEGIN-%s\\n' {mark}; (\n{command}\n); printf '\\nEND-%s-%d\\n' {mark} $?\n")
        self.expect(rf"BEGIN-{mark}\n", timeout)
        start = self.seen
        match = self.expect(rf"\nEND-{mark}-(\d+)\n", timeout)
        result = Result(self.text[start:match.start()].strip("\n"), int(match[1]), time.monotonic() - began)
        if check and result.status:
            raise GuestError(f"'{command}' ended with status {result.status}:\n{result.output[-self.TAIL:]}")
        return result

    def power_off(self, timeout=120):
        """Has the guest power off; returns the exit status of the program that ran it."""
        self.send("systemctl poweroff 2>/dev/null || poweroff\n")
        return self.wait(timeout)

    def wait(self, timeout=60):
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            if time.monotonic() >= deadline:
                raise GuestError(f"the guest did not end within {timeout} s; it printed\n{self.text[-self.TAIL:]}")
        return self.process.wait(max(1, deadline - time.monotonic()))
