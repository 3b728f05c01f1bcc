"""Starts one program, notes when each line of its output arrived, and ends it: by itself, or when it hangs."""

import os
import re
import resource
import select
import signal
import subprocess
import time

FIRST_KERNEL_LINE = re.compile(r"Linux version ")
RUN_INIT_LINE = re.compile(r"Run /init as init process")
BEGIN_LINE = re.compile(r"BENCH BEGIN ")
END_LINE = re.compile(r"BENCH END ")
SHELL_LINE = re.compile(r"BOOT shell ready|BENCH BEGIN ")


class Launch:
    """What one launch did. Times are seconds since the start of the process."""

    def __init__(self, command):
        self.command = command
        self.lines = []  # (seconds, text)
        self.outcome = "running"  # exited, no start, hung, stalled, too long, or no exit
        self.status = None
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    def time_of(self, pattern):
        for seconds, text in self.lines:
            if pattern.search(text):
                return seconds
        return None


class Limits:
    """When a launch counts as hung, in seconds: no wanted first line, no output, altogether, no exit after the end.

    After a line that matches `omen` a short silence is enough: what such a line announces is known to be a hang.
    """

    OMEN_SILENCE = 6

    def __init__(self, start, stall, total, leave, omen=None):
        self.start, self.stall, self.total, self.leave, self.omen = start, stall, total, leave, omen


def _end(process):
    """Ends the process group that run() made for this process and nothing else."""
    for number, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def _cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class _Watch:
    """Splits output into lines and says when to give up."""

    def __init__(self, launch, begun, started, finished, limits):
        self.launch, self.begun, self.limits = launch, begun, limits
        self.started, self.finished = started, finished
        self.partial = b""
        self.is_started = self.is_finished = self.is_doomed = False
        self.last_output = begun

    def take(self, chunk):
        now = time.monotonic()
        self.last_output = now
        *whole, self.partial = (self.partial + chunk).split(b"\n")
        for raw in whole:
            self._take_line(now, raw)

    def close(self):
        if self.partial:
            self._take_line(time.monotonic(), self.partial)
            self.partial = b""

    def _take_line(self, now, raw):
        text = raw.decode("utf-8", "replace").rstrip("\r")
        self.launch.lines.append((now - self.begun, text))
        self.is_started = self.is_started or bool(self.started.search(text))
        self.is_finished = self.is_finished or bool(self.finished.search(text))
        self.is_doomed = self.is_doomed or bool(self.limits.omen and self.limits.omen.search(text))

    def verdict(self, now):
        """(reason to give up or None, seconds until the next look)"""
        checks = [("too long", self.begun + self.limits.total)]
        if self.is_finished:
            checks.append(("no exit", self.last_output + self.limits.leave))
        elif self.is_started:
            checks.append(("stalled", self.last_output + self.limits.stall))
        else:
            checks.append(("no start", self.begun + self.limits.start))
            if self.is_doomed:
                checks.append(("hung", self.last_output + self.limits.OMEN_SILENCE))
        reason, when = min(checks, key=lambda check: check[1])
        return (reason, 0) if now >= when else (None, when - now)


def run(command, started, finished, limits):
    """Runs a command to its end. `started` and `finished` are the lines that show life and completion."""
    launch = Launch(command)
    cpu = _cpu_of_children()
    begun = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
    watch = _Watch(launch, begun, started, finished, limits)
    reason = None
    try:
        output = process.stdout.fileno()
        while reason is None:
            reason, patience = watch.verdict(time.monotonic())
            if reason is None and select.select([output], [], [], patience)[0]:
                chunk = os.read(output, 65536)
                if not chunk:
                    break
                watch.take(chunk)
        if reason is None:
            try:  # its output is closed: give it a moment to leave
                process.wait(limits.leave)
            except subprocess.TimeoutExpired:
                reason = "no exit"
    finally:
        _end(process)
        process.stdout.close()
    watch.close()
    launch.seconds = time.monotonic() - begun
    launch.status = process.returncode
    launch.outcome = reason or "exited"
    launch.cpu_seconds = _cpu_of_children() - cpu
    return launch
