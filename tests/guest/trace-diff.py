#!/usr/bin/env python3
"""Finds the first instruction after which two engines of avant disagree.

    trace-diff.py AVANT --stop-after N [--first OPTIONS] [--second OPTIONS] -- RUN-OPTIONS...

runs `AVANT run --clock instructions RUN-OPTIONS...` twice, with `--engine interp` (the reference) and `--engine live`
unless told otherwise, and compares traces of the guest's state (--trace-state): coarse ones first, then finer ones
between the last point where they agree and the first where they do not.

Translated code is looked at between two blocks only: where a point of a trace lies within a block, avant executes the
block one instruction at a time. So the last step takes a fine trace of the reference and tries single points of the
other engine: the first that differs is the end of the block whose translation is wrong. The instructions of the block
are printed, and the registers of both engines behind it.

Exit status: 0 no difference, 1 a difference was found, 2 something failed.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile

POINTS = 500  # lines of a trace in one round
FINE = 2000  # instructions of which the reference's trace is taken one by one


class Failure(Exception):
    pass


def fields(line):
    """'123 rip=… flags=… : mov …' → what is compared: everything but the text of the instruction."""
    return line.split(" : ")[0].rstrip("\n")


class Engine:
    def __init__(self, name, avant, options, run_options, directory):
        self.name = name
        self.command = [avant, "run", "--clock", "instructions", *run_options, *shlex.split(options)]
        self.file = os.path.join(directory, name)
        self.runs = 0

    def trace(self, start, interval, stop, ram, insn=False):
        """Lines by instruction count, and the text after them (the registers at the end)."""
        keys = f"{self.file},from={start},interval={interval},ram={ram},insn={int(insn)}"
        command = [*self.command, "--trace-state", keys, "--stop-after", str(stop)]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self.runs += 1
        if run.returncode not in (0, 3, 4):
            raise Failure(f"{shlex.join(command)}: exit status {run.returncode}\n{run.stderr.decode()}")
        lines, rest = {}, []
        with open(self.file, encoding="utf-8") as file:
            for line in file:
                found = re.match(r"(\d+) rip=", line)
                if found and not rest:
                    lines[int(found[1])] = line
                else:
                    rest.append(line)
        return lines, rest


def first_difference(a, b):
    """(last equal count or None, first different count or None)."""
    equal = None
    for count in sorted(set(a) | set(b)):
        if count not in a or count not in b or fields(a[count]) != fields(b[count]):
            return equal, count
        equal = count
    return equal, None


def say(text):
    print(text, flush=True)


def narrow(first, second, good, bad, interval, ram):
    """Coarse rounds; returns the range (good, bad] in which they part, or None."""
    while True:
        a, _ = first.trace(good + interval, interval, bad, ram)
        b, _ = second.trace(good + interval, interval, bad, ram)
        equal, different = first_difference(a, b)
        if different is None:
            return None
        good = equal if equal is not None else good
        bad = different
        say(f"equal after {good} instructions, different after {bad}")
        if bad - good <= FINE:
            return good, bad
        interval = max((bad - good) // POINTS, 1)


def locate(first, second, good, bad):
    """The first single point at which the engines differ, with the reference's fine trace."""
    fine, _ = first.trace(good + 1, 1, bad, 0, insn=True)
    low, high = good, None
    probe = bad
    while True:
        point, _ = second.trace(probe, 1 << 60, probe, 0)
        same = probe in point and probe in fine and fields(point[probe]) == fields(fine[probe])
        if same:
            low = probe
        else:
            high = probe
        if high is None:
            return None, fine  # RAM only
        if high - low <= 1:
            return high, fine
        probe = (low + high) // 2


def print_block(fine, end):
    """The instructions since the last jump that was taken, up to number `end`."""
    start = end
    while start - 1 in fine and start - 2 in fine and start > end - 64:
        here, before = (int(re.search(r"rip=(\w+)", fine[n])[1], 16) for n in (start - 1, start - 2))
        if not before < here <= before + 15:
            break
        start -= 1
    say("\nthe block that ends there, as the reference executed it (its translation, or the way to the next, is wrong):")
    for number in range(start, end + 1):
        line = fine.get(number - 1)
        if line:
            rip, text = re.search(r"rip=(\w+)", line)[1], line.split(" : ", 1)[1].strip()
            name = re.search(r"xmm=\w+ (\S+) : ", line)
            say(f"  {number:>12}  {rip}  {text}{'   # ' + name[1] if name else ''}")


def print_registers(first, second, end):
    a = first.trace(end, 1 << 60, end, 0)[1]
    b = second.trace(end, 1 << 60, end, 0)[1]
    say(f"\nregisters after instruction {end}: {first.name}, and {second.name} where it differs")
    for x, y in zip(a[1:], b[1:]):
        say(f"{x.rstrip()}{'' if x == y else '  !=  ' + y.split()[-1]}")
    say(f"next: {a[0].strip()}" + ("" if a[0] == b[0] else f"\n {second.name}: {b[0].strip()}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avant")
    parser.add_argument("--stop-after", type=int, required=True, metavar="N")
    parser.add_argument("--first", default="--engine interp", metavar="OPTIONS", help="of the reference")
    parser.add_argument("--second", default="--engine live", metavar="OPTIONS")
    parser.add_argument("--interval", type=int, default=0, metavar="N", help="of the first round")
    parser.add_argument("--ram", type=int, default=64, metavar="N", help="one in so many lines hashes RAM; 0: none")
    parser.add_argument("run_options", nargs="+", metavar="RUN-OPTION")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        first = Engine("first", args.avant, args.first, args.run_options, directory)
        second = Engine("second", args.avant, args.second, args.run_options, directory)
        interval = args.interval or max(args.stop_after // POINTS, 1)
        try:
            found = narrow(first, second, 0, args.stop_after, interval, args.ram)
            if not found:
                say(f"no difference in {args.stop_after} instructions")
                return 0
            end, fine = locate(first, second, *found)
            if end is None:
                say(f"registers agree at {found[1]}; memory, or what a block that was split did, does not")
                return 1
            say(f"first difference after instruction {end}")
            print_block(fine, end)
            print_registers(first, second, end)
        except Failure as failure:
            print(failure, file=sys.stderr)
            return 2
        say(f"({first.runs + second.runs} runs)")
    return 1


if __name__ == "__main__":
    sys.exit(main())
