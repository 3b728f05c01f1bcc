#!/usr/bin/env python3
"""A user at a terminal: boots a guest to its shell, types, uses job control, leaves.

Usage: interactive-test.py COMMAND [ARGUMENT...]
The command runs a guest with mkinitrd.sh's initramfs on its terminal and must exit with 0 after the power-off.
"""
import os
import pty
import select
import sys
import time

TIMEOUT = float(os.environ.get("INTERACTIVE_TIMEOUT", "120"))


class Guest:
    def __init__(self, command):
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.execvp(command[0], command)
        self.unread = b""

    def type(self, text):
        os.write(self.terminal, text.encode())

    def expect(self, text):
        end = time.monotonic() + TIMEOUT
        while text.encode() not in self.unread:
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            try:
                data = os.read(self.terminal, 4096) if ready else b""
            except OSError:
                data = b""
            if not data:
                sys.exit("\n'%s' did not appear %s" % (text, "before the end" if ready else "in time"))
            self.unread += data
            sys.stdout.write(data.decode(errors="replace"))
            sys.stdout.flush()
        # what follows may have come in the same piece: keep it for the next call
        self.unread = self.unread.split(text.encode(), 1)[1]

    def command(self, text, answer):
        self.type(text + "\r")
        self.expect(answer)
        self.expect("# ")


def main():
    guest = Guest(sys.argv[1:])
    guest.expect("AVANT-SHELL-READY")
    guest.expect("# ")
    guest.command("echo $((40+2))x", "42x")
    guest.command("tty", "/dev/ttyS0")
    guest.type("sleep 1000\r")
    time.sleep(1)
    guest.type("\x03")
    guest.expect("# ")
    guest.type("sleep 1000\r")
    time.sleep(1)
    guest.type("\x1a")
    guest.expect("Stopped")
    guest.expect("# ")
    guest.command("bg; kill %1; wait; echo do''ne", "done")
    guest.command("ps | grep '[s]leep 1000' || echo no''ne", "none")
    guest.type("exit\r")
    _, status = os.waitpid(guest.process, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


main()
