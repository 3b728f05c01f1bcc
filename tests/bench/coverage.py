#!/usr/bin/env python3
"""How much of what a guest executes, from launch to login prompt, comes from a cache: coverage.py --image IMAGE [OPTION...]

One launch of the image (made by tools/mkimage.sh) is recorded until the prompt and translated; then launches with that cache
count their instructions (run --count) by who made the code: aot_lifted and aot_copied are the cache's, live was
translated in the run, interp executed one by one. Exit status 1 if less than --at-least percent come from the cache.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "guest"))
from session import Session  # noqa: E402

ORIGINS = ("aot_lifted", "aot_copied", "live", "interp")
SIDES = ("kernel", "user")


def launch_to_login(options, *more):
    """Ends at the prompt, at once; what was to be written at the end is written."""
    command = [options.avant, "run", "--image", options.image, "--snapshot", "--memory", options.memory, *more, *options.option]
    with Session(command) as guest:
        guest.expect("login: ", options.patience)
        guest.process.send_signal(signal.SIGTERM)
        guest.expect("another SIGTERM ends the run")
        guest.process.send_signal(signal.SIGTERM)
        if guest.wait() != 128 + signal.SIGTERM:
            sys.exit(f"coverage: the run ended with status {guest.process.returncode}:\n{guest.text[-2000:]}")


def make_cache(options, folder):
    recording, cache = os.path.join(folder, "login.rec"), os.path.join(folder, "login.tcache")
    launch_to_login(options, "--record", recording)
    subprocess.run([options.avant, "translate", "--counted", "--profile", recording, "--output", cache,
                    *options.translate_options.split()], check=True, stdout=subprocess.DEVNULL)
    return cache


def table(counts):
    total = {side: sum(counts[origin][side] for origin in ORIGINS) for side in SIDES}
    both = sum(total.values())
    print("| made by | kernel | user | both | share |\n| --- | ---: | ---: | ---: | ---: |")
    for origin in ORIGINS:
        row = counts[origin]
        print(f"| {origin} | {row['kernel']:,} | {row['user']:,} | {sum(row.values()):,} | {100 * sum(row.values()) / both:.2f} % |")
    share = {side: 100 * sum(counts[origin][side] for origin in ORIGINS[:2]) / max(1, total[side]) for side in SIDES}
    whole = 100 * sum(sum(counts[origin].values()) for origin in ORIGINS[:2]) / both
    print(f"| all | {total['kernel']:,} | {total['user']:,} | {both:,} | 100 % |")
    print(f"| from the cache | {share['kernel']:.2f} % | {share['user']:.2f} % | {whole:.2f} % | |", flush=True)
    return whole


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True)
    parser.add_argument("--avant", default=os.path.join(TOP, "build", "avant"))
    parser.add_argument("--cache", help="made with --counted; otherwise a launch is recorded and translated")
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--launches", type=int, default=1)
    parser.add_argument("--at-least", type=float, default=90)
    parser.add_argument("--option", action="append", default=[], help="of avant run, for all launches (repeatable)")
    parser.add_argument("--translate-options", default="", help="more options of avant translate, in one argument")
    parser.add_argument("--patience", type=int, default=600, help="seconds until a launch counts as hung")
    options = parser.parse_args()
    least = 100.0
    with tempfile.TemporaryDirectory(prefix="avant-coverage-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        cache = options.cache or make_cache(options, folder)
        stats = os.path.join(folder, "stats.json")
        for _ in range(options.launches):
            launch_to_login(options, "--engine", "aot", "--cache", cache, "--count", "--stats", stats)
            with open(stats) as file:
                least = min(least, table(json.load(file)["guest_instructions"]))
    return 0 if least >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
