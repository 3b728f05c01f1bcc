#!/usr/bin/env python3
"""Where a run spends its time, by guest function: code copied, with lifted loops, and (for programs) native.

Runs the guest under `perf record` by turns with two caches made from one recording, one of them with `translate --copy`,
and counts samples by unit. With --native PROGRAM the same program is sampled on the host, by symbol.
"""

import argparse
import bisect
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile


def run(command, **options):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **options)


def samples(command, data, frequency):
    """Seconds of processor time by instruction address."""
    run(["perf", "record", "-q", "-F", str(frequency), "-e", "cpu-clock:u", "-o", data] + command,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    text = run(["perf", "script", "-F", "ip,sym", "-i", data], capture_output=True, text=True).stdout
    for line in text.splitlines():
        words = line.split()
        if words:
            yield int(words[0], 16), words[1] if len(words) > 1 else ""


class Cache:
    def __init__(self, avant, path):
        self.path = path
        listing = json.loads(run([avant, "cache", "list", "--json", path], capture_output=True, text=True).stdout)
        info = json.loads(run([avant, "cache", "info", "--json", path], capture_output=True, text=True).stdout)
        self.base = int(info[0]["addresses"]["code"]["address"], 16)
        self.units = sorted(listing[0]["units"], key=lambda unit: unit["code_offset"])
        self.starts = [unit["code_offset"] for unit in self.units]

    def unit(self, address):
        offset = address - self.base
        i = bisect.bisect(self.starts, offset) - 1
        if i < 0 or offset >= self.starts[i] + self.units[i]["code_bytes"]:
            return None
        return self.units[i]


def name_of(unit):
    return unit["name"] or ("program" if int(unit["address"], 16) < 1 << 47 else unit["address"])


def by_function(cache, command, data, frequency):
    counts = collections.Counter()
    total = 0
    for address, _ in samples(command, data, frequency):
        total += 1
        unit = cache.unit(address)
        if unit:
            counts[name_of(unit)] += 1
    return counts, total


def native_by_symbol(command, data, frequency):
    counts = collections.Counter()
    for _, symbol in samples(command, data, frequency):
        counts[symbol] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avant", default="build/avant")
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--initrd", required=True)
    parser.add_argument("--append", default="console=ttyS0 quiet panic=-1 avant.run=true")
    parser.add_argument("--native", help="command line of the same program on the host")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frequency", type=int, default=8000)
    parser.add_argument("--functions", type=int, default=20)
    arguments = parser.parse_args()
    guest = ["--kernel", arguments.kernel, "--initrd", arguments.initrd, "--append", arguments.append, "--timeout", "200"]
    with tempfile.TemporaryDirectory() as work:
        recording, data = os.path.join(work, "rec"), os.path.join(work, "perf.data")
        run([arguments.avant, "run", *guest, "--record", recording], stdout=subprocess.DEVNULL)
        caches = {}
        for kind, options in ("copied", ["--copy"]), ("lifted", []):
            path = os.path.join(work, kind + ".tcache")
            run([arguments.avant, "translate", "--kernel", arguments.kernel, "--initrd", arguments.initrd, "--profile",
                 recording, "--only-recorded", "--output", path, *options], stdout=subprocess.DEVNULL)
            caches[kind] = Cache(arguments.avant, path)
        lifted_names = {name_of(unit) for unit in caches["lifted"].units if unit["kind"] == "lifted"}
        rounds = {kind: [] for kind in caches}
        native = []
        for _ in range(arguments.rounds):
            for kind, cache in caches.items():
                command = [arguments.avant, "run", *guest, "--engine", "aot", "--cache", cache.path]
                rounds[kind].append(by_function(cache, command, data, arguments.frequency))
            if arguments.native:
                native.append(native_by_symbol(arguments.native.split(), data, arguments.frequency))

    def milliseconds(list_of_counters, name):
        return 1000 / arguments.frequency * statistics.median(counter[name] for counter in list_of_counters)

    copied, lifted = ([counts for counts, _ in rounds[kind]] for kind in ("copied", "lifted"))
    everything = collections.Counter()
    for counter in copied:
        everything.update(counter)
    print("| function | lifted loops | copied ms | lifted ms | copied/lifted | native ms |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, _ in everything.most_common(arguments.functions):
        a, b = milliseconds(copied, name), milliseconds(lifted, name)
        host = f"{milliseconds(native, name):.1f}" if native and any(counter[name] for counter in native) else "–"
        ratio = f"{a / b:.2f}" if b else "–"
        print(f"| {name} | {'yes' if name in lifted_names else 'no'} | {a:.1f} | {b:.1f} | {ratio} | {host} |")
    totals = {kind: statistics.median(total for _, total in rounds[kind]) * 1000 / arguments.frequency for kind in rounds}
    print(f"| whole run, processor time in user mode | | {totals['copied']:.0f} | {totals['lifted']:.0f} | "
          f"{totals['copied'] / totals['lifted']:.2f} | |")


if __name__ == "__main__":
    main()
