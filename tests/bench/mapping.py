#!/usr/bin/env python3
"""What a large cache adds to a launch: mapping.py --kernel vmlinuz [OPTION...]

Makes a cache of the kernel, without a recording, that is at least as large as --size, and launches guests with and without it
by turns until their first instruction. Two rows: the kernel, which the cache has unpacked already, so that it saves more than
it costs; and a kernel of one instruction, for which it saves nothing: that is the price of opening, checking and mapping alone.
Medians, in ms; processor time as well, which suffers less from a busy machine.
Exit status 1 if the price is more than --limit ms for each 100 MB.
"""
import argparse
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
STATUS_LIMIT = 4  # what a run that was stopped after its first instruction ends with


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def launch(command):
    """(wall, processor) time in ms"""
    cpu, began = cpu_of_children(), time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.monotonic() - began
    if done.returncode != STATUS_LIMIT:
        sys.exit(f"mapping: {' '.join(command)}: status {done.returncode}: {done.stderr}")
    return 1000 * seconds, 1000 * (cpu_of_children() - cpu)


def make_cache(options, folder):
    """A cache of at least the wanted size."""
    cache = os.path.join(folder, "kernel.tcache")
    for mebibytes in (16, 32, 64, 128, 256, 320):
        subprocess.run([options.avant, "translate", "--kernel", options.kernel, "--counted", "--copy", "--unseen",
                        f"{mebibytes}M", "--output", cache], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if os.path.getsize(cache) >= options.size * 1e6:
            return cache
    sys.exit(f"mapping: this kernel makes no cache of {options.size} MB")


def units_of(options, cache):
    return json.loads(subprocess.run([options.avant, "cache", "info", "--json", cache], check=True,
                                     stdout=subprocess.PIPE).stdout)[0]["units"]["count"]


def make_kernel(folder):
    """An ELF kernel that consists of "jmp ." at 16 MiB."""
    path, at, offset = os.path.join(folder, "small"), 16 << 20, 4096
    code = bytes((0xEB, 0xFE))
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, at, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, offset, at, at, len(code), len(code), 4096)
    with open(path, "wb") as file:
        file.write((header + segment).ljust(offset, b"\0") + code)
    return path


def measure(options, kernel, cache, small):
    command = [options.avant, "run", "--kernel", kernel, "--clock", "instructions", "--stop-after", "1", "--memory", "64M" if small else "512M"]
    ways = {"without": command, "with": [*command, "--engine", "aot", "--cache", cache]}
    times = {way: [] for way in ways}
    for number in range(options.launches + 1):
        for way, arguments in ways.items():
            took = launch(arguments)
            if number:  # the first one fills the host's page cache
                times[way].append(took)
    return {way: [statistics.median(column) for column in zip(*rows)] for way, rows in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", required=True, help="a bzImage")
    parser.add_argument("--avant", default=os.path.join(TOP, "build", "avant"))
    parser.add_argument("--launches", type=int, default=31)
    parser.add_argument("--size", type=float, default=100, help="MB")
    parser.add_argument("--limit", type=float, default=5, help="ms for each 100 MB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avant-mapping-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        cache = make_cache(options, folder)
        small = make_kernel(folder)
        megabytes = os.path.getsize(cache) / 1e6
        print(f"cache: {megabytes:.1f} MB, {units_of(options, cache):,} units; {options.launches} launches of each\n")
        print("| kernel | without (ms) | with (ms) | added | CPU without | CPU with | added |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name, kernel in (("this kernel", options.kernel), ("one instruction", small)):
            found = measure(options, kernel, cache, kernel == small)
            (wall, cpu), (wall_with, cpu_with) = found["without"], found["with"]
            print(f"| {name} | {wall:.1f} | {wall_with:.1f} | {wall_with - wall:+.1f} | {cpu:.1f} | {cpu_with:.1f} | "
                  f"{cpu_with - cpu:+.1f} |", flush=True)
            price = wall_with - wall
    print(f"\nprice of 100 MB: {100 * price / megabytes:.1f} ms")
    return 0 if 100 * price / megabytes <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
