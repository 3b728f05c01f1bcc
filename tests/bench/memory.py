#!/usr/bin/env python3
"""Memory of `avant run` with a guest idle at a shell: what the guest touched of its RAM, and what Avant needs besides.

    memory.py --kernel vmlinuz --initrd initrd.img [--mebibytes N] [-- AVANT-OPTION...]

Reads /proc/PID/smaps. Guest RAM is private memory of the guest's size (a part of it may be mapped from a cache); pages of a cache
that are mapped read-only count for Avant, although other processes share them.
"""

import argparse
import re
import subprocess
import sys
import time


def mappings(pid):
    """(start, end, permissions, file, resident KiB)"""
    found = []
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
            if match:
                found.append([int(match[1], 16), int(match[2], 16), match[3], match[4].strip(), 0])
            elif line.startswith("Rss:"):
                found[-1][4] = int(line.split()[1])
    return found


def guest_ram(found, size):
    """Adjacent private writable mappings that are as large as the guest's memory together."""
    for first in range(len(found)):
        total = resident = 0
        for start, end, permissions, _, rss in found[first:]:
            if permissions != "rw-p" or (total and start != previous):
                break
            total, resident, previous = total + end - start, resident + rss, end
            if total >= size:
                return resident
    sys.exit("memory.py: guest RAM was not found")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avant", default="build/avant")
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--initrd", required=True)
    parser.add_argument("--mebibytes", type=int, default=512, help="guest memory")
    parser.add_argument("options", nargs="*", help="further options of avant run, after --")
    arguments = parser.parse_args()
    command = [arguments.avant, "run", "--kernel", arguments.kernel, "--initrd", arguments.initrd, "--memory",
               f"{arguments.mebibytes}M", "--timeout", "60", "--append",
               'console=ttyS0 quiet panic=-1 avant.run="echo IDLE; sleep 5"', *arguments.options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("IDLE"):
            break
    time.sleep(0.5)
    found = mappings(process.pid)
    process.stdout.read()
    if process.wait():
        sys.exit("memory.py: the guest did not power off")
    total, ram = sum(mapping[4] for mapping in found), guest_ram(found, arguments.mebibytes << 20)
    print(f"resident {total / 1024:.0f} MiB: guest RAM touched {ram / 1024:.0f} MiB, besides {(total - ram) / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
