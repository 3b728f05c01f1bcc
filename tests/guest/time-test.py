#!/usr/bin/env python3
"""The guest's clocks beside the host's: time-test.py AVANT KERNEL INITRD [OPTION...] (time-test.sh makes INITRD)

  --seconds N   how long to look (default 600)
  --interval N  seconds between two looks (default 15)
  --hogs N      processes that keep the host busy meanwhile (default: one for each processor)
  --nice N      … at this priority (default 5)
  --stop N      stop the process for N seconds (SIGSTOP) in the middle
  --limit S     seconds by which a clock of the guest's may be off (default 0.2); more is a failure
  --option O    of avant run (repeatable)

A look tells within which bounds the guest's CLOCK_REALTIME is ahead of the host's, and how far its CLOCK_MONOTONIC has gone
ahead of the host's CLOCK_BOOTTIME since the first look. The bounds are what asking took: a clock is wrong only if they do not
reach the limit.
"""
import argparse
import os
import signal
import subprocess
import sys
import time

TRIES = 5  # at one look: the fastest answer says most
SKIP = b"CLOCKS "


class Bounds:
    """Of a difference in seconds."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def __str__(self):
        return f"{1000 * self.low:+9.2f} .. {1000 * self.high:+9.2f} ms"

    def width(self):
        return self.high - self.low

    def beyond(self, limit):
        return self.low > limit or self.high < -limit

    def minus(self, other):
        return Bounds(self.low - other.high, self.high - other.low)


class Guest:
    def __init__(self, arguments):
        self.process = subprocess.Popen(
            [arguments.avant, "run", "--kernel", arguments.kernel, "--initrd", arguments.initrd, "--timeout",
             str(arguments.seconds + arguments.stop + 200), *arguments.option, "--append",
             'console=ttyS0 quiet panic=-1 avant.run="sh /guest.sh"'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.wait_for(b"CLOCKS READY")

    def wait_for(self, text):
        """The line with the text, and those before it."""
        before = []
        while True:
            line = self.process.stdout.readline()
            if not line:
                sys.exit("time-test: the guest ended")
            if text in line:
                return line, before
            before.append(line.decode(errors="replace").strip())

    def ask(self):
        """Bounds of the differences to the host's clocks."""
        real, boot = time.clock_gettime(time.CLOCK_REALTIME), time.clock_gettime(time.CLOCK_BOOTTIME)
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        line, _ = self.wait_for(SKIP)
        real_after, boot_after = time.clock_gettime(time.CLOCK_REALTIME), time.clock_gettime(time.CLOCK_BOOTTIME)
        guest_real, guest_monotonic = (int(word) / 1e9 for word in line.split()[1:3])
        return (Bounds(guest_real - real_after, guest_real - real),
                Bounds(guest_monotonic - boot_after, guest_monotonic - boot))

    def look(self):
        return min((self.ask() for _ in range(TRIES)), key=lambda pair: pair[0].width())

    def end(self):
        self.process.stdin.write(b"\x04")
        self.process.stdin.flush()
        _, complaints = self.wait_for(b"DMESG-ENDS")
        self.process.stdin.close()
        self.process.wait(60)
        return [line for line in complaints if line]


def parse():
    parser = argparse.ArgumentParser(add_help=False)
    for name in "avant", "kernel", "initrd":
        parser.add_argument(name)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--interval", type=float, default=15)
    parser.add_argument("--hogs", type=int, default=os.cpu_count())
    parser.add_argument("--nice", type=int, default=5)
    parser.add_argument("--stop", type=float, default=0)
    parser.add_argument("--limit", type=float, default=0.2)
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--help", action="store_true")
    if "--help" in sys.argv:
        print(__doc__)
        sys.exit(0)
    return parser.parse_args()


def look_on(arguments, guest):
    """Looks at intervals; returns whether a clock was beyond the limit."""
    _, first = guest.look()
    begin, stopped, wrong = time.monotonic(), False, False
    print("  time   CLOCK_REALTIME is ahead by         CLOCK_MONOTONIC has gone ahead by", flush=True)
    while True:
        passed = time.monotonic() - begin
        if arguments.stop and not stopped and passed >= arguments.seconds / 2:
            guest.ask()  # a process that has just been running is blamed by a watchdog that does not know
            guest.process.send_signal(signal.SIGSTOP)
            time.sleep(arguments.stop)
            guest.process.send_signal(signal.SIGCONT)
            stopped = True
            print(f"         stopped for {arguments.stop} s", flush=True)
        real, monotonic = guest.look()
        drift = monotonic.minus(first)
        print(f"{passed:6.1f} s  {real}   {drift}", flush=True)
        wrong |= real.beyond(arguments.limit) or drift.beyond(arguments.limit)
        if passed >= arguments.seconds:
            return wrong
        time.sleep(min(arguments.interval, max(0.0, arguments.seconds - passed)))


def main():
    arguments = parse()
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.nice(arguments.nice))
            for _ in range(arguments.hogs)]
    try:
        guest = Guest(arguments)
        wrong = look_on(arguments, guest)
        complaints = guest.end()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    for line in complaints:
        print(f"the guest's kernel: {line}")
    if wrong or complaints:
        sys.exit("time-test: failed")
    print(f"time-test: the guest's clocks stayed within {arguments.limit} s of the host's")


main()
