#!/usr/bin/env python3
"""A run is in the sandbox: what /proc tells of its threads, and what happens when it calls what is forbidden.

sandbox-test.py AVANT GUEST: GUEST halts for ever. Status 77 (skipped) after the first part if there is no gdb or it may
not trace its own children.
"""
import ctypes
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
import time

SKIPPED = 77
PATIENCE = 60  # s
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


def call_what_is_forbidden(avant, guest, folder):
    """gdb lets the run, which is its child at a terminal, make a socket."""
    gdb = shutil.which("gdb")
    if not gdb:
        print("sandbox-test: no gdb: only threads were looked at")
        sys.exit(SKIPPED)
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    script = [
        "set confirm off", "set debuginfod enabled off", "set startup-with-shell off", f"set inferior-tty {os.ttyname(slave)}",
        "handle SIGSYS nostop noprint pass", "handle SIG35 SIG36 nostop noprint pass",
        "break vm_run", "run", "call (int)open(\"/etc/passwd\", 0)", "print tty_state.raw", "call (int)socket(2, 1, 0)",
    ]
    arguments = [gdb, "-q", "-nx", "-batch"]
    for line in script:
        arguments += ["-ex", line]
    result = subprocess.run(arguments + ["--args"] + command(avant, guest, folder), stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=PATIENCE)
    os.set_blocking(master, False)
    try:
        said = os.read(master, 65536).decode(errors="replace")
    except BlockingIOError:
        said = ""
    # gdb 13 cannot set registers where the vector state is larger than it knows (AMX)
    if "Breakpoint 1, vm_run" not in result.stdout or "Couldn't write extended state" in result.stderr:
        print(f"sandbox-test: gdb cannot trace here: only threads were looked at\n{result.stdout}{result.stderr}")
        sys.exit(SKIPPED)
    if has_landlock() and "$1 = -1" not in result.stdout:
        fail(f"a file outside of the shared directory was opened: {result.stdout}")
    if "$2 = 1" not in result.stdout:
        fail(f"the terminal is not in raw mode: {result.stdout}")
    if not re.search(r"the sandbox forbids the system call 'socket' \(\d+\)", said):
        fail(f"no message at the terminal, but {said!r}; gdb: {result.stdout}{result.stderr}")
    if "exited with code 0237" not in result.stdout:
        fail(f"the run did not end with status 159: {result.stdout}{result.stderr}")
    if termios.tcgetattr(slave) != before:
        fail("the terminal is not as it was before")


def main():
    avant, guest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        look_at_threads(avant, guest, folder)
        call_what_is_forbidden(avant, guest, folder)


main()
