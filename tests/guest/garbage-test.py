#!/usr/bin/env python3
"""Random bytes as guest code: whatever they do, the run ends in one of the ways that it may end in.

Usage: garbage-test.py AVANT GUEST [RUNS [FIRST-SEED]]
GUEST is the small guest made from garbage.S. At ring 3 it passes; at ring 0 it may reset, power off, be refused
something that is not supported, or go on until the time limit.
"""
import subprocess
import sys

AVANT, GUEST = sys.argv[1:3]
RUNS = int(sys.argv[3]) if len(sys.argv) > 3 else 8
FIRST = int(sys.argv[4]) if len(sys.argv) > 4 else 1
ENGINES = (["--engine", "interp"], ["--engine", "live"], ["--engine", "live", "--returns", "table"],
           ["--engine", "live", "--code-cache", "2M"])
failures = 0


def run(mode, seed, options, allowed):
    global failures
    command = [AVANT, "run", "--kernel", GUEST, "--memory", "64M", *options]
    try:
        result = subprocess.run(command, input=mode + seed.to_bytes(4, "big"), capture_output=True, timeout=60,
                                check=False)
        if result.returncode in allowed:
            return
        status = result.returncode
        output = result.stdout[-500:] + result.stderr[-500:]
    except subprocess.TimeoutExpired as error:
        status, output = "none: it does not end", error.stderr or b""
    failures += 1
    print("FAIL mode %s seed %d %s: status %s" % (mode.decode(), seed, " ".join(options), status))
    print(output.decode(errors="replace"))


for seed in range(FIRST, FIRST + RUNS):
    for engine in ENGINES:
        run(b"u", seed, engine + ["--debug-exit", "--timeout", "30"], (43,))
        run(b"k", seed, engine + ["--timeout", "0.4"], (0, 1, 3, 4))
sys.exit(1 if failures else 0)
