#!/usr/bin/env python3
"""What --serial can be connected to: sockets, pseudoterminals, files, nothing. serial-test.py AVANT GUEST

GUEST is the small guest made from console.S: it says "ready", echoes what it is told, and powers off when told "p"; other
small letters mean other things to it.
"""
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tty

AVANT, GUEST = sys.argv[1:]
PATIENCE = 60  # s
FOLDER = tempfile.TemporaryDirectory()
PATH = os.path.join(FOLDER.name, "serial")


def fail(text):
    sys.exit(f"serial-test: {text}")


def expect(what, found, wanted):
    if found != wanted:
        fail(f"{what}: {found!r} instead of {wanted!r}")


class Run:
    def __init__(self, *options, **popen):
        self.process = subprocess.Popen(
            [AVANT, "run", "--kernel", GUEST, "--memory", "64M", "--timeout", str(PATIENCE), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)

    def end(self, status=0):
        """Waits for the end; what it said on stdout and stderr."""
        out, err = self.process.communicate(timeout=PATIENCE)
        if self.process.returncode != status:
            fail(f"exit status {self.process.returncode} instead of {status}: {out} {err}")
        return out, err


def wait_for(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            fail(f"{what} does not happen")
        time.sleep(0.01)


def connect():
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)

    def connects():
        try:
            client.connect(PATH)
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    wait_for(connects, "a socket to connect to")
    return client


def read(client, size):
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            fail(f"the connection ends after {data!r}")
        data += part
    return data


def test_clients_come_and_go():
    run = Run("--serial", f"unix:{PATH}")
    first = connect()
    expect("output from before", read(first, 6), b"ready\n")
    first.sendall(b"111")
    expect("an echo", read(first, 3), b"111")
    second = connect()
    second.sendall(b"222")
    if select.select([second], [], [], 0.3)[0]:
        fail("a second client is served together with the first one")
    first.close()
    expect("the second client", read(second, 3), b"222")
    second.sendall(b"33333")
    second.shutdown(socket.SHUT_WR)
    expect("a client that has said all that it had to say", read(second, 5), b"33333")
    second.close()
    third = connect()
    third.sendall(b"p")
    out, err = run.end()
    expect("standard output", out, b"")
    expect("messages", err, b"")
    expect("the socket's name is there", os.path.exists(PATH), False)


def test_slow_reader_gets_everything():
    run = Run("--serial", f"unix:{PATH}")
    client = connect()
    expect("output", read(client, 6), b"ready\n")
    sent = bytes(range(ord("A"), ord("Z"))) * 4000  # less than what the socket and the console hold together
    client.sendall(sent)
    time.sleep(0.5)
    expect("all of it", read(client, len(sent)) == sent, True)
    client.sendall(b"p")
    run.end()


def test_names():
    run = Run("--serial", f"unix:{PATH}")
    client = connect()
    out, err = Run("--serial", f"unix:{PATH}").end(1)
    expect("a name in use", err, f"avant run: cannot open '{PATH}': Address already in use\n".encode())
    client.sendall(b"p")
    run.end()

    with open(PATH, "w") as file:
        file.write("precious")
    out, err = Run("--serial", f"unix:{PATH}").end(1)
    expect("a name of something else", err, f"avant run: cannot open '{PATH}': Address already in use\n".encode())
    with open(PATH) as file:
        expect("something else", file.read(), "precious")
    os.unlink(PATH)

    left_over = socket.socket(socket.AF_UNIX)
    left_over.bind(PATH)
    left_over.close()
    run = Run("--serial", f"unix:{PATH}")
    connect().sendall(b"p")
    run.end()


def test_killed():
    run = Run("--serial", f"unix:{PATH}")
    client = connect()
    run.process.kill()
    run.end(-signal.SIGKILL)
    wait_for(lambda: not os.path.exists(PATH), "removing the name of a run that was killed")
    client.close()


def test_killed_early():
    """There is no moment at which the name would stay: one every 0.2 ms of a start."""
    for number in range(75):
        run = Run("--serial", f"unix:{PATH}")
        time.sleep(number * 0.0002)
        run.process.kill()
        run.end(-signal.SIGKILL)
        time.sleep(0.02)  # for whoever removes it
        wait_for(lambda: not os.path.exists(PATH), "removing the name of a run that was killed early")


def read_terminal(fd, size):
    data = b""
    while len(data) < size:
        if not select.select([fd], [], [], PATIENCE)[0]:
            fail(f"nothing after {data!r}")
        data += os.read(fd, size - len(data))
    return data


def test_pseudoterminal():
    run = Run("--serial", "pty")
    line = run.process.stderr.readline().decode()
    name = re.fullmatch(r"avant run: the serial port is at (/dev/pts/\d+)\n", line)
    if not name:
        fail(f"no name of a terminal: {line!r}")
    time.sleep(0.2)  # what the guest says now nobody reads
    for text, told in ((b"1\r\x03\x04", b"ready\n"), (b"222", b"")):
        terminal = os.open(name[1], os.O_RDWR | os.O_NOCTTY)
        expect("output from before", read_terminal(terminal, len(told)), told)
        os.write(terminal, text)
        expect("an echo, as it is", read_terminal(terminal, len(text)), text)
        os.close(terminal)
        time.sleep(0.1)
    terminal = os.open(name[1], os.O_RDWR | os.O_NOCTTY)
    os.write(terminal, b"p")
    run.end()
    os.close(terminal)


def test_file():
    with open(PATH, "w") as file:
        file.write("something that is longer than what comes")
    run = Run("--serial", f"file:{PATH}")
    wait_for(lambda: os.path.getsize(PATH) == 6, "output in the file")
    with open(PATH) as file:
        expect("the file", file.read(), "ready\n")
    run.process.terminate()
    run.end(128 + signal.SIGTERM)
    os.unlink(PATH)

    run = Run("--serial", "file:/dev/full")
    line = run.process.stderr.readline().decode()
    expect("a message", line,
           "avant: warning: the serial port is not written to '/dev/full' any more: No space left on device\n")
    run.process.terminate()
    run.end(128 + signal.SIGTERM)
    out, err = Run("--serial", "file:/no/such").end(1)
    expect("a message", err, b"avant run: cannot open '/no/such': No such file or directory\n")


def test_none():
    run = Run("--serial", "none", "--mark", "ready", "--stats", PATH)
    time.sleep(0.5)
    run.process.terminate()
    out, err = run.end(128 + signal.SIGTERM)
    expect("standard output", out, b"")
    with open(PATH) as file:
        expect("a mark", '"mark_ms": null' in file.read(), False)
    os.unlink(PATH)


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
