#!/usr/bin/env python3
"""Measures a guest's network under Avant and under QEMU's TCG (q35, user network), by turns, and prints the table.

Loopback only: the guest talks to servers of this machine. Each round launches every configuration once; the table has the
medians of the rounds. --avant adds configurations: NAME=KEYS of --net user."""

import argparse
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

import launch
import results

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
GUEST = TOP / "tests" / "guest"
sys.path.insert(0, str(GUEST))
import initrd  # noqa: E402

TCG = "TCG"
VALUE = re.compile(r"^VALUE (\S+) ([0-9.]+)")
# name, what it is, and whether more is better
ROWS = [("send", "guest to host, 1 stream (Mbit/s)", True), ("send4", "guest to host, 4 streams (Mbit/s)", True),
        ("receive", "host to guest, 1 stream (Mbit/s)", True), ("receive4", "host to guest, 4 streams (Mbit/s)", True),
        ("udp", "guest to host, UDP of 1 KiB (Mbit/s)", True), ("ping", "echo to 10.0.2.2, average (ms)", False),
        ("ping_min", "echo to 10.0.2.2, least (ms)", False)]

SCRIPT = r"""
seconds=$1
port=$2
for module in $(cat /lib/modules.list); do insmod $module; done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
sleep 1
value() { sed -n "s/.*  \([0-9.]*\) Mbits\/sec.*receiver.*/VALUE $1 \1/p" | tail -n 1; }
measure() { name=$1; shift; iperf3 -c 10.0.2.2 -p "$port" -t "$seconds" -f m "$@" | value "$name"; }
echo 'BENCH BEGIN 0'
ping -c 50 -i 0.02 10.0.2.2 | sed -n 's/.*= \([0-9.]*\)\/\([0-9.]*\)\/.*/VALUE ping_min \1\nVALUE ping \2/p'
measure send
measure send4 -P 4
measure receive -R
measure receive4 -R -P 4
measure udp -u -b 0 -l 1024
echo 'BENCH END 0'
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def make_initrd(kernel, work):
    script = os.path.join(work, "net.sh")
    with open(script, "w", encoding="utf-8") as file:
        file.write(SCRIPT)
    image = os.path.join(work, "initrd.img")
    initrd.make(image, kernel, ["virtio_pci", "virtio_net"], [f"{script}:/net.sh"], ["iperf3"])
    return image


def commands(options, image, port):
    append = f'console=ttyS0 quiet panic=-1 avant.run="sh /net.sh {options.seconds} {port}"'
    common = ["-kernel", options.kernel, "-initrd", image, "-append", append]
    found = {TCG: [options.qemu, "-accel", "tcg,thread=single", "-M", "q35", "-cpu", "max,-la57", "-m", "512M",
                   "-nographic", "-no-reboot", "-nic", "user,model=virtio-net-pci", *common]}
    for name, keys in [("Avant", "")] + [definition.split("=", 1) for definition in options.avant]:
        found[name] = [options.avant_bin, "run", "--kernel", options.kernel, "--initrd", image, "--append", append,
                       "--net", "user" + (f",{keys}" if keys else "")]
    return found


def measure(command, options):
    limits = launch.Limits(60, 60, 60 + 20 * options.seconds, 10)
    done = launch.run(command, launch.BEGIN_LINE, launch.END_LINE, limits)
    values = {match[1]: float(match[2]) for _, text in done.lines if (match := VALUE.match(text))}
    print(f"  {done.outcome}, {done.seconds:.0f} s: {values}", file=sys.stderr, flush=True)
    return values


def table(seen):
    names = list(seen)
    body = []
    for row, title, more in ROWS:
        values = [statistics.median(found) if (found := [run[row] for run in seen[name] if row in run]) else None
                  for name in names]
        ratios = [results.ratio(value, values[0]) if more else results.ratio(values[0], value) for value in values[1:]]
        body.append([title, *map(results.number, values), *map(results.number, ratios)])
    return results.markdown(["row", *names, *(f"{name}, times as good" for name in names[1:])], body)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", help="a kernel with modules beside it (default: Debian's, by fetch-kernel.sh)")
    parser.add_argument("--avant-bin", default=str(TOP / "build" / "avant"))
    parser.add_argument("--avant", action="append", default=[], metavar="NAME=KEYS", help="one more configuration")
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each transfer")
    options = parser.parse_args()
    if not options.kernel:
        options.kernel = subprocess.run(["sh", GUEST / "fetch-kernel.sh", "--modules"], check=True, text=True,
                                        stdout=subprocess.PIPE).stdout.strip()
    if not shutil.which("iperf3"):
        sys.exit("net.py: iperf3 is not installed")
    port = free_port()
    server = subprocess.Popen(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as work:
            configurations = commands(options, make_initrd(options.kernel, work), port)
            seen = {name: [] for name in configurations}
            for number in range(options.rounds):
                for name, command in configurations.items():
                    print(f"round {number + 1}, {name}", file=sys.stderr, flush=True)
                    seen[name].append(measure(command, options))
    finally:
        server.kill()
        server.wait()
    print(table(seen))


if __name__ == "__main__":
    main()
