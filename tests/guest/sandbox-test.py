#!/usr/bin/env python3
"""A run is in the sandbox: what /proc tells of its threads, and what happens when it calls what is forbidden.

sandbox-test.py AVANT GUEST INTRUDE: GUEST halts for ever, INTRUDE is intrude.c. Status 77 (skipped) after the first part
if a program may not trace its own children.
"""
import ctypes
import errno
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time

SKIPPED = 77
PATIENCE = 60  # s
FORBIDDEN = r"the sandbox forbids the system call 'socket' \(\d+\)"
RIGHTS = {
    "CapInh": "0000000000000000",
    "CapPrm": "0000000000000000",
    "CapEff": "0000000000000000",
    "CapAmb": "0000000000000000",
    "NoNewPrivs": "1",
    "Seccomp": "2",
}


def fail(text):
    sys.exit(f"sandbox-test: {text}")


def command(avant, guest, folder):
    """A run with every kind of device that has threads or calls of its own."""
    disk = os.path.join(folder, "disk")
    share = os.path.join(folder, "share")
    with open(disk, "wb") as file:
        file.truncate(1 << 20)
    os.makedirs(share, exist_ok=True)
    return [avant, "run", "--kernel", guest, "--disk", disk, "--share", f"{share},tag=work", "--timeout", str(PATIENCE)]


def status_of(path):
    with open(path) as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def wait_for_sandbox(process):
    end = time.monotonic() + PATIENCE
    while status_of(f"/proc/{process.pid}/status").get("Seccomp") != "2":
        if process.poll() is not None or time.monotonic() > end:
            fail("the run has not entered the sandbox")
        time.sleep(0.01)


def look_at_threads(avant, guest, folder):
    process = subprocess.Popen(command(avant, guest, folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for_sandbox(process)
        threads = os.listdir(f"/proc/{process.pid}/task")
        if len(threads) < 4:
            fail(f"only {len(threads)} threads: what is this test worth?")
        for thread in threads:
            status = status_of(f"/proc/{process.pid}/task/{thread}/status")
            for key, value in RIGHTS.items():
                if status[key] != value:
                    fail(f"thread {thread} of {process.pid}: {key} is {status[key]}")
    finally:
        process.kill()
        process.wait()


def has_landlock():
    create_ruleset, version = 444, 1
    return ctypes.CDLL(None).syscall(create_ruleset, None, 0, version) >= 2


def read_until(terminal, pattern):
    """What was printed, until the pattern is in it or nothing more comes for a while."""
    said = ""
    while not re.search(pattern, said) and select.select([terminal], [], [], 5)[0]:
        said += os.read(terminal, 65536).decode(errors="replace")
    return said


def call_what_is_forbidden(avant, guest, folder, intrude):
    """A run at a terminal is made to open a file that it has not been given, and to make a socket."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen([intrude, str(slave)] + command(avant, guest, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               pass_fds=[slave], text=True)
    opened = process.stdout.readline()
    if not opened:
        if process.wait(PATIENCE) != SKIPPED:
            fail("the run could not be made to call anything")
        print("sandbox-test: a child may not be traced here: only threads were looked at")
        sys.exit(SKIPPED)
    if termios.tcgetattr(slave)[3] & termios.ICANON:
        fail("the terminal is not in raw mode")
    process.stdin.write("\n")
    process.stdin.flush()
    ended = process.stdout.readline()
    said = read_until(master, FORBIDDEN)
    if has_landlock() and opened != f"open: {-errno.EACCES}\n":
        fail(f"a file outside of the shared directory: {opened!r}, said {said!r}")
    if not re.search(FORBIDDEN, said):
        fail(f"no message at the terminal, but {said!r}; {ended!r}")
    if ended != f"status: {128 + signal.SIGSYS}\n":
        fail(f"the run did not end as it should: {ended!r}, said {said!r}")
    if termios.tcgetattr(slave) != before:
        fail("the terminal is not as it was before")
    process.communicate("\n", PATIENCE)


def main():
    avant, guest, intrude = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        look_at_threads(avant, guest, folder)
        call_what_is_forbidden(avant, guest, folder, intrude)


main()
