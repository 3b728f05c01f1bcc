#!/usr/bin/env python3
"""Measures a Debian disk under Avant (without and with a cache) and under QEMU's TCG, by turns, and prints the table.

The image is one of `tools/mkimage.sh` (see --packages); nothing is written to it. The guests have a copy in which nothing runs bash
before its row: root's shell is dash, and e2scrub_reap, a bash script of start-up that does nothing without LVM, is off. In each round every
engine, in turn, has a launch for each program's first run and one for the other rows; the table has the medians of the rounds and their
ratios."""

import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "guest"))
from session import GuestError, Session  # noqa: E402

TCG, LIVE, AOT, OTHER_LIVE, OTHER_AOT = "TCG", "Avant live", "Avant aot", "other live", "other aot"
PACKAGES = "bash,perl,python3,libpython3.11-testsuite,git,gcc,make,libc6-dev,fio,iperf3,openssl"
# What runs first, each in a fresh guest, so that nothing of it is in any memory: programs share libraries.
FIRST_RUNS = {
    "first bash -c :": "bash -c :",
    "first perl -e 1": "perl -e 1",
    "first git --version": "git --version",
    "first python3 -c 'import json,re'": "python3 -c 'import json,re'",
}
EXECS = 300
EXEC_LOOP = f"i=0; while [ $i -lt {EXECS} ]; do bash -c :; i=$((i + 1)); done"
FIO = "fio --name=row --filename=/dev/vdb --output-format=json --time_based --runtime={seconds} --ioengine=libaio --size=100% "
# name: arguments; the value is I/O operations or bytes per second
FIO_ROWS = {
    "fio 4k random read, O_DIRECT": "--rw=randread --bs=4k --iodepth=16 --direct=1",
    "fio 4k random read": "--rw=randread --bs=4k --iodepth=1 --direct=0 --invalidate=1",
    "fio 4k random write, O_DIRECT": "--rw=randwrite --bs=4k --iodepth=16 --direct=1",
    "fio 4k random write": "--rw=randwrite --bs=4k --iodepth=1 --direct=0",
    "fio 1M sequential read, O_DIRECT": "--rw=read --bs=1M --iodepth=4 --direct=1",
    "fio 1M sequential read": "--rw=read --bs=1M --iodepth=1 --direct=0 --invalidate=1",
    "fio 1M sequential write, O_DIRECT": "--rw=write --bs=1M --iodepth=4 --direct=1",
    "fio 1M sequential write": "--rw=write --bs=1M --iodepth=1 --direct=0",
}
SOURCE_FILES, SOURCE_FUNCTIONS = 40, 120  # of the C project that is generated: about 30,000 lines
PYTHON_TESTS = "test_json test_re test_struct test_dict test_list test_heapq test_zlib test_hashlib test_bisect test_textwrap"


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_project(folder):
    """A C project with a Makefile and a test, the same on every run."""
    os.makedirs(folder)
    draw = random.Random(4)
    for number in range(SOURCE_FILES):
        with open(os.path.join(folder, f"part{number}.c"), "w") as out:
            out.write('#include <stdint.h>\n#include <string.h>\n#include <stdio.h>\n\n')
            for function in range(SOURCE_FUNCTIONS):
                a, b = draw.randrange(1, 1 << 31) | 1, draw.randrange(3, 60)
                out.write(f"static uint64_t step{function}(uint64_t x)\n{{\n\tuint64_t table[{b}];\n\n"
                          f"\tfor (int i = 0; i < {b}; i++)\n\t\ttable[i] = x * {a}u + (uint64_t)i;\n"
                          f"\tswitch (x % 4) {{\n\tcase 0:\n\t\tx ^= table[x % {b}];\n\t\tbreak;\n"
                          f"\tcase 1:\n\t\tx += table[(x >> 7) % {b}];\n\t\tbreak;\n"
                          f"\tdefault:\n\t\tx -= table[(x >> 3) % {b}];\n\t}}\n\treturn x;\n}}\n\n")
            out.write(f"uint64_t part{number}(uint64_t x);\nuint64_t part{number}(uint64_t x)\n{{\n")
            for function in range(SOURCE_FUNCTIONS):
                out.write(f"\tx = step{function}(x);\n")
            out.write("\treturn x;\n}\n")
    with open(os.path.join(folder, "main.c"), "w") as out:
        out.write("#include <stdint.h>\n#include <stdio.h>\n\n")
        for number in range(SOURCE_FILES):
            out.write(f"uint64_t part{number}(uint64_t x);\n")
        out.write("\nint main(void)\n{\n\tuint64_t x = 1;\n\n\tfor (int i = 0; i < 2000; i++) {\n")
        for number in range(SOURCE_FILES):
            out.write(f"\t\tx = part{number}(x);\n")
        out.write('\t}\n\tprintf("%016llx\\n", (unsigned long long)x);\n\treturn 0;\n}\n')
    with open(os.path.join(folder, "Makefile"), "w") as out:
        objects = " ".join(["main.o", *(f"part{number}.o" for number in range(SOURCE_FILES))])
        out.write(f"CFLAGS = -O1\nproject: {objects}\n\t$(CC) -o $@ $^\ntest: project\n\t./project\n")


REAP = "/etc/systemd/system/multi-user.target.wants/e2scrub_reap.service"


def copy_without_bash(image, folder):
    """A copy of the image in which neither start-up nor a login of root runs bash."""
    copy, users = os.path.join(folder, "disk.img"), os.path.join(folder, "passwd")

    def debugfs(*command):
        """Its output; it tells of errors there alone."""
        return subprocess.run(["debugfs", *command, copy], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True).stdout

    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    text = debugfs("-R", "cat /etc/passwd")
    if ":/root:/bin/bash\n" not in text:
        sys.exit(f"{image}: root's shell is not bash in /etc/passwd, or that cannot be read (an image of tools/mkimage.sh?)")
    with open(users, "w") as out:
        out.write(text.replace(":/root:/bin/bash\n", ":/root:/bin/sh\n"))
    for command in ("rm /etc/passwd", f"write {users} /etc/passwd", f"rm {REAP}"):
        debugfs("-w", "-R", command)
    if ":/root:/bin/sh\n" not in debugfs("-R", "cat /etc/passwd") or "Inode:" in debugfs("-R", f"stat {REAP}"):
        sys.exit(f"{copy}: debugfs could not change it")
    return copy


class Work:
    """Files that all launches use, made once."""

    def __init__(self, options, folder):
        self.folder = folder
        self.key = os.path.join(folder, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.share = os.path.join(folder, "share")
        os.makedirs(os.path.join(self.share, "tree"))
        write_project(os.path.join(self.share, "project"))
        with open(os.path.join(self.share, "big"), "wb") as out:
            out.write(random.Random(5).randbytes(options.megabytes << 20))
        for number in range(500):
            with open(os.path.join(self.share, "tree", f"file{number}"), "wb") as out:
                out.write(random.Random(number).randbytes(4000))
        self.image = copy_without_bash(options.image, folder)
        self.data = os.path.join(folder, "data.img")

    def fresh_data(self):
        """The second disk, for fio: allocated, so that reads are reads."""
        with open(self.data, "wb") as out:
            block = random.Random(6).randbytes(1 << 20)
            for _ in range(256):
                out.write(block)


def avant_command(options, work, port, cache, avant=None):
    command = [avant or options.avant, "run", "--image", work.image, "--snapshot", "--memory", options.memory, "--disk", work.data,
               "--net", f"user,hostfwd=tcp:127.0.0.1:{port}-:22", "--share", f"{work.share},tag=work"]
    if cache:
        command += ["--cache", cache]
    return command


def tcg_command(options, work, port):
    """The kernel, initramfs and command line that Avant finds in the image: QEMU is spared BIOS and boot loader."""
    def part(name):
        return os.path.join(work.folder, name)
    if not os.path.exists(part("vmlinuz")):
        info = json.loads(subprocess.run([options.avant, "image", "info", "--json", work.image], check=True,
                                         stdout=subprocess.PIPE).stdout)
        entry = info["boot"]
        for paths, name in (([entry["kernel"]], "vmlinuz"), (entry["initrd"], "initrd")):
            with open(part(name), "wb") as out:
                for path in paths:
                    subprocess.run([options.avant, "image", "cat", work.image, path], check=True, stdout=out)
        with open(part("append"), "w") as out:
            out.write(entry["command_line"])
    append = open(part("append")).read()
    return [options.qemu, "-accel", "tcg,thread=single", "-M", "q35", "-cpu", "max,-la57", "-m", options.memory, "-nographic",
            "-no-reboot", "-kernel", part("vmlinuz"), "-initrd", part("initrd"), "-append", append,
            "-drive", f"file={work.image},format=raw,if=virtio,snapshot=on",
            "-drive", f"file={work.data},format=raw,if=virtio",
            "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-rng-pci",
            "-virtfs", f"local,path={work.share},mount_tag=work,security_model=none"]


class Rows:
    """The rows of one round: name → value."""

    def __init__(self):
        self.values, self.failures = {}, {}

    def take(self, name, measure):
        try:
            self.values[name] = measure()
        except (GuestError, subprocess.SubprocessError, ValueError, KeyError, OSError) as error:
            self.failures[name] = str(error).splitlines()[0]


def guest_seconds(guest, command, timeout=600):
    output = guest.run(f"s=$(date +%s%N); {{ {command}\n}} >/tmp/out 2>&1 || {{ cat /tmp/out; exit 1; }}\n"
                       "echo; echo $(($(date +%s%N) - s))", timeout).output
    return int(output.split()[-1]) / 1e9


def first_seconds(guest, command):
    """Without what it takes to ask for the time, which is as long as a short command."""
    asking = statistics.median(guest_seconds(guest, ":") for _ in range(5))
    return guest_seconds(guest, command) - asking


def fio(guest, arguments, seconds):
    output = guest.run(FIO.format(seconds=seconds) + arguments, 60 + 10 * seconds).output
    job = json.loads(output[output.index("{"):])["jobs"][0]
    side = job["read"] if "read" in arguments.split()[0] else job["write"]
    return side["bw_bytes"] / 1e6


def iperf(guest, reverse, seconds):
    port = free_port()
    server = subprocess.Popen(["iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        output = guest.run(f"iperf3 -J -c 10.0.2.2 -p {port} -t {seconds} {'-R' if reverse else ''}", 60 + seconds).output
        return json.loads(output[output.index("{"):])["end"]["sum_received"]["bits_per_second"] / 1e6
    finally:
        server.terminate()
        server.wait()


def scp(work, port, source, target):
    options = ["-q", "-i", work.key, "-P", str(port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
               "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]
    began = time.monotonic()
    subprocess.run(["scp", *options, source, target], check=True, timeout=600)
    return time.monotonic() - began


@contextlib.contextmanager
def fresh_guest(options, work, command, log, logins):
    """A guest that has started up and run nothing else. Appends the time until its login."""
    work.fresh_data()
    with Session(command, log and f"{log}-{len(logins)}.log") as guest:
        logins.append(guest.login(options.patience))
        guest.run("date +%s%N >/dev/null; systemctl is-system-running --wait", check=False)
        yield guest
        guest.power_off()


def measure(options, work, name, command, port, log):
    rows, logins = Rows(), []
    rows.values["launch to login (s)"] = None  # the table's first row
    for row, text in FIRST_RUNS.items():
        with fresh_guest(options, work, command, log, logins) as guest:
            rows.take(f"{row} (s)", lambda text=text: first_seconds(guest, text))
    with fresh_guest(options, work, command, log, logins) as guest:
        guest.run("bash -c :; perl -e 1")
        rows.take("git --version after bash and perl (s)", lambda: first_seconds(guest, "git --version"))
        rows.take(f"one of {EXECS} bash -c : (s)", lambda: guest_seconds(guest, EXEC_LOOP) / EXECS)
        if options.only != "login":
            throughput(options, work, rows, guest, port)
    rows.values["launch to login (s)"] = statistics.median(logins)
    return rows


def throughput(options, work, rows, guest, port):
    megabytes = options.megabytes
    for row, arguments in FIO_ROWS.items():
        rows.take(f"{row} (MB/s)", lambda arguments=arguments: fio(guest, arguments, options.seconds))
    rows.take("iperf3 guest to host (Mbit/s)", lambda: iperf(guest, False, options.seconds))
    rows.take("iperf3 host to guest (Mbit/s)", lambda: iperf(guest, True, options.seconds))
    key = open(work.key + ".pub").read().strip()
    guest.run(f"mkdir -p -m 700 /root/.ssh && echo '{key}' >/root/.ssh/authorized_keys")
    rows.take("scp to the guest (MB/s)",
              lambda: megabytes / scp(work, port, os.path.join(work.share, "big"), "root@127.0.0.1:/tmp/big"))
    rows.take("scp from the guest (MB/s)",
              lambda: megabytes / scp(work, port, "root@127.0.0.1:/tmp/big", os.path.join(work.folder, "back")))
    guest.run("mkdir -p /mnt/work && mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 work /mnt/work")
    rows.take("9p read (MB/s)", lambda: megabytes / guest_seconds(guest, "cat /mnt/work/big >/dev/null"))
    rows.take("9p tree of 500 files (s)", lambda: guest_seconds(guest, "cp -r /mnt/work/tree /tmp/tree"))
    rows.take("9p write (MB/s)", lambda: megabytes / guest_seconds(guest, "cp /tmp/big /mnt/work/copy"))
    guest.run("cp -r /mnt/work/project /root/project")
    rows.take("make of 30,000 lines (s)", lambda: guest_seconds(guest, "make -s -C /root/project", 1800))
    rows.take("its test (s)", lambda: guest_seconds(guest, "make -s -C /root/project test", 600))
    rows.take("Python's tests (s)", lambda: guest_seconds(guest, f"python3 -m test -q {PYTHON_TESTS}", 3000))


def make_cache(options, work):
    """What a launch and the first runs execute is recorded, and translated together with what the image has besides."""
    work.fresh_data()
    recording = os.path.join(work.folder, "training.rec")
    with Session(avant_command(options, work, free_port(), None) + ["--record", recording]) as guest:
        guest.login(options.patience)
        guest.run("systemctl is-system-running --wait", check=False)
        for text in FIRST_RUNS.values():
            guest.run(text, 600)
        guest.power_off()
    began = time.monotonic()
    subprocess.run([options.avant, "translate", "--image", work.image, "--profile", recording, "-o", options.cache],
                   check=True, stdout=subprocess.DEVNULL)
    print(f"{options.cache}: translated in {time.monotonic() - began:.0f} s, {os.path.getsize(options.cache) / 1e6:.0f} MB",
          file=sys.stderr)


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def show(value):
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def print_table(runs, names):
    rows = []
    for launches in runs.values():
        for launch in launches:
            rows += [row for row in [*launch.values, *launch.failures] if row not in rows]
    pairs = [(a, b) for a, b in ((TCG, LIVE), (TCG, AOT), (LIVE, AOT), (OTHER_LIVE, LIVE), (OTHER_AOT, AOT))
             if a in names and b in names]
    print("| row | " + " | ".join(names) + " | " + " | ".join(f"{b} faster than {a}" for a, b in pairs) + " |")
    print("| --- |" + " ---: |" * (len(names) + len(pairs)))
    for row in rows:
        values = {name: median([launch.values.get(row) for launch in runs[name]]) for name in names}
        rising = row.endswith("/s)")  # more is better
        ratios = [None if not values[a] or not values[b] else values[b] / values[a] if rising else values[a] / values[b]
                  for a, b in pairs]
        print(f"| {row} | " + " | ".join(show(values[name]) for name in names) + " | "
              + " | ".join("–" if ratio is None else f"{ratio:.2f}×" for ratio in ratios) + " |")
    for name in names:
        for number, launch in enumerate(runs[name]):
            for row, why in launch.failures.items():
                print(f"- {name}, round {number + 1}: no value for {row}: {why}")


def engines(options, work):
    """What is measured: name → how the command for a forwarded port is made."""
    other, _, other_cache = (options.other or "").partition(",")
    every = (("tcg", TCG, options.qemu, lambda port: tcg_command(options, work, port)),
             ("other", OTHER_AOT if other_cache else OTHER_LIVE, other, lambda port: avant_command(options, work, port, other_cache, other)),
             ("live", LIVE, True, lambda port: avant_command(options, work, port, None)),
             ("aot", AOT, options.cache, lambda port: avant_command(options, work, port, options.cache)))
    wanted = options.engines.split(",") + ["other"]
    return {name: command for key, name, possible, command in every if key in wanted and possible}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True, help="a raw image of tools/mkimage.sh")
    parser.add_argument("--cache", help="of avant translate --image; without it that engine is left out")
    parser.add_argument("--make-cache", action="store_true", help="make it first, from a launch and the first runs")
    parser.add_argument("--avant", default=os.path.join(TOP, "build", "avant"))
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64"))
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["login"], help="launches and first runs of programs alone")
    parser.add_argument("--engines", default="tcg,live,aot", help="which of tcg, live, aot (default: all)")
    parser.add_argument("--other", metavar="AVANT[,CACHE]",
                        help="another build, to compare with; a cache is good for one build, so it has its own")
    parser.add_argument("--seconds", type=int, default=5, help="length of a throughput row")
    parser.add_argument("--megabytes", type=int, default=100, help="size of the file that is copied")
    parser.add_argument("--patience", type=int, default=600, help="seconds until a launch counts as hung")
    parser.add_argument("--logs", help="folder for what the guests print")
    parser.add_argument("--packages", action="version", version=PACKAGES,
                        help="print what mkimage.sh --include needs, and leave")
    options = parser.parse_args()
    if options.logs:
        os.makedirs(options.logs, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="avant-bench-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        work = Work(options, folder)
        if options.make_cache:
            make_cache(options, work)
        commands = engines(options, work)
        runs = {name: [] for name in commands}
        for number in range(options.rounds):
            for name in commands:
                port = free_port()
                command = commands[name](port)
                log = os.path.join(options.logs, f"{name.replace(' ', '-')}-{number}") if options.logs else None
                print(f"round {number + 1}: {name}", file=sys.stderr)
                runs[name].append(measure(options, work, name, command, port, log))
    print_table(runs, list(commands))
    return 1 if any(launch.failures for launches in runs.values() for launch in launches) else 0


if __name__ == "__main__":
    sys.exit(main())
