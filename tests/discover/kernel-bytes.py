#!/usr/bin/env python3
"""Boots a kernel, reads its text at the shell prompt, and compares it with what the pre-scan predicted.

    kernel-bytes.py AVANT DISCOVER_TOOL KERNEL INITRD [--least PERCENT] [--keep FILE] [--show]

Exit status 1 if fewer than PERCENT (default 98) of the functions are equal. --keep leaves the guest's bytes in FILE,
--show prints each difference.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time

from gdb_client import Client

TEXT = 0xFFFFFFFF81000000
TEXT_SIZE = 16 << 20
CHUNK = 1024
PATIENCE = 120


def read_text(arguments, memory):
    with tempfile.NamedTemporaryFile() as console:
        guest = subprocess.Popen(
            [arguments.avant, "run", "--kernel", arguments.kernel, "--initrd", arguments.initrd, "--gdb", ":0",
             "--timeout", "200", "--append", 'console=ttyS0 quiet panic=-1 avant.run="echo shell-$((6*7)); sleep 1000"'],
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.PIPE, text=True)
        try:
            port = next(int(match[1]) for line in guest.stderr
                        if (match := re.match(r"avant: waiting for gdb at .*:(\d+)$", line)))
            client = Client(port)
            client.send("c")
            deadline = time.monotonic() + PATIENCE
            while b"shell-42" not in open(console.name, "rb").read():
                if time.monotonic() > deadline:
                    raise TimeoutError("the guest does not reach its shell")
                time.sleep(0.1)
            time.sleep(1)
            client.interrupt()
            for address in range(TEXT, TEXT + TEXT_SIZE, CHUNK):
                memory.write(client.memory(address, CHUNK))
            memory.flush()
        finally:
            guest.terminate()
            guest.wait()


def main():
    parser = argparse.ArgumentParser()
    for name in ("avant", "tool", "kernel", "initrd"):
        parser.add_argument(name)
    parser.add_argument("--least", type=float, default=98)
    parser.add_argument("--keep")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    with open(arguments.keep, "wb") if arguments.keep else tempfile.NamedTemporaryFile() as memory:
        read_text(arguments, memory)
        result = subprocess.run([arguments.tool, "kernel", arguments.kernel, "compare", memory.name, f"{TEXT:x}"],
                                stdout=subprocess.PIPE, text=True, check=True)
    for line in result.stdout.splitlines():
        if arguments.show or not line.startswith("differs"):
            print(line)
    equal = float(re.search(r"^equal: .* ([\d.]+) % of \d+ functions$", result.stdout, re.M)[1])
    if equal < arguments.least:
        sys.exit(f"only {equal} % of the functions are as predicted, at least {arguments.least} % are expected")


if __name__ == "__main__":
    main()
