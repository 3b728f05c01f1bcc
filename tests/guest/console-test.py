#!/usr/bin/env python3
"""The virtio console under Debian's kernel, flow control of both consoles, and the power button:
    console-test.py AVANT KERNEL INITRD DATA
INITRD has console.sh and DATA as /data; console-test.sh makes it.
"""
import fcntl
import hashlib
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

AVANT, KERNEL, INITRD, DATA = sys.argv[1:]
PATIENCE = 120  # s


def fail(text):
    sys.exit(f"console-test: {text}")


def command(step, *options):
    return [AVANT, "run", "--kernel", KERNEL, "--initrd", INITRD, "--timeout", str(PATIENCE), *options, "--append",
            f'console=ttyS0 panic=-1 quiet avant.run="sh /console.sh {step}"']


class Reader:
    """What comes from a descriptor or a socket, with a deadline."""

    def __init__(self, fd):
        self.fd, self.data = fd, b""

    def more(self):
        if not select.select([self.fd], [], [], PATIENCE)[0]:
            fail(f"nothing comes after {self.data[-500:]!r}")
        data = os.read(self.fd, 65536)
        if not data:
            fail(f"the end comes after {self.data[-500:]!r}")
        self.data += data

    def until(self, text):
        """Takes what there is up to the text."""
        while text not in self.data:
            self.more()
        before, _, self.data = self.data.partition(text)
        return before

    def take(self, size):
        while len(self.data) < size:
            self.more()
        data, self.data = self.data[:size], self.data[size:]
        return data


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def connect(path, process):
    client = socket.socket(socket.AF_UNIX)
    while True:
        try:
            client.connect(path)
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            if process.poll() is not None:
                fail(f"the run ended with status {process.returncode}")
            time.sleep(0.01)


def test_size_and_button(folder):
    master, slave = pty.openpty()
    set_size(master, 25, 80)
    process = subprocess.Popen(command("size", "--console", "virtio", "--serial", f"unix:{folder}/serial"), stdin=slave,
                               stdout=slave, stderr=subprocess.PIPE, start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    serial = connect(f"{folder}/serial", process)
    said = Reader(serial.fileno())
    said.until(b"SIZE 25 80\r\n")
    set_size(master, 30, 100)  # the kernel sends SIGWINCH
    said.until(b"SIZE 30 100\r\n")
    terminal = Reader(master)
    terminal.until(b"hello from hvc0")
    os.write(master, b"a line\r")
    said.until(b"LINE a line\r\n")
    said.until(b"WAITS FOR THE BUTTON\r\n")
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    said.until(b"    1   116\r\n")
    said.until(b"AVANT-STATUS 0")
    if process.wait(PATIENCE) != 0:
        fail(f"exit status {process.returncode}: {process.stderr.read()}")
    message = process.stderr.read()
    if b"power button" not in message:
        fail(f"no word about the power button: {message}")
    serial.close()
    os.close(slave)
    os.close(master)


def test_flow_control(folder):
    """Nothing is lost, though who reads does so late and slowly."""
    with open(DATA, "rb") as file:
        data = file.read()
    to_guest = os.urandom(300000)
    process = subprocess.Popen(command("bulk", "--console", f"virtio:unix:{folder}/hvc", "--serial",
                                       f"unix:{folder}/serial"), stdin=subprocess.DEVNULL)
    serial, hvc = connect(f"{folder}/serial", process), connect(f"{folder}/hvc", process)
    said, console = Reader(serial.fileno()), Reader(hvc.fileno())
    said.until(b"AVANT-SHELL-READY\r\n")
    time.sleep(3)
    if console.take(len(data)) != data:
        fail("the virtio console lost or changed something")
    sender = threading.Thread(target=hvc.sendall, args=(to_guest,))
    sender.start()
    sender.join()
    time.sleep(3)
    if said.take(400000) != data[:400000]:
        fail("the serial port lost or changed something")
    said.until(b"RECEIVED " + hashlib.md5(to_guest).hexdigest().encode())
    said.until(b"AVANT-STATUS 0")
    if process.wait(PATIENCE) != 0:
        fail(f"exit status {process.returncode}")


with tempfile.TemporaryDirectory() as where:
    test_size_and_button(where)
    test_flow_control(where)
