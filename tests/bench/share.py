#!/usr/bin/env python3
"""Measures a shared directory (9p) under Avant and under QEMU's TCG, by turns, with the same kernel and initramfs, and
prints the table: microseconds for each operation, and how many times faster Avant is.

    tests/bench/share.py                 # fetches Debian's kernel with tests/guest/fetch-kernel.sh
    tests/bench/share.py --rounds 1 --caches none --ms 20    # a quick look

Exit status: 0; 1 if a launch failed; 2 usage."""

import argparse
import glob
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import launch

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
GUEST = os.path.join(TOP, "tests", "guest")
TCG, AVANT, NATIVE = "TCG", "Avant", "native"
ROW = re.compile(r"ROW (\S+) ([\d.]+)")
END = re.compile(r"^END$")
READY = re.compile(r"AVANT-SHELL-READY")


def say(text):
    print(text, file=sys.stderr, flush=True)


def fill_share(folder):
    """What share_bench expects, see there."""
    block = os.urandom(1 << 20)
    with open(os.path.join(folder, "large"), "wb") as out:
        for _ in range(64):
            out.write(block)
    for name in ("small", "many", "deep/a/b/c/d"):
        os.makedirs(os.path.join(folder, name))
    for number in range(2000):
        with open(os.path.join(folder, "small", str(number)), "wb") as out:
            out.write(block[:4096])
    for number in range(10000):
        os.close(os.open(os.path.join(folder, "many", f"file-{number}"), os.O_CREAT | os.O_WRONLY))
    with open(os.path.join(folder, "deep/a/b/c/d/file"), "w") as out:
        out.write("text")


def build(options, folder):
    """The guest's program and an initramfs with it and the drivers."""
    program = os.path.join(folder, "share_bench")
    subprocess.run(["gcc", "-O2", "-static", "-D_GNU_SOURCE", "-o", program, *glob.glob(os.path.join(HERE, "share", "*.c"))],
                   check=True)
    if not options.kernel:
        options.kernel = subprocess.run(["sh", os.path.join(GUEST, "fetch-kernel.sh"), "--modules", "linux-image-amd64"],
                                        check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    modules = subprocess.run([sys.executable, os.path.join(GUEST, "modules.py"), options.kernel, "virtio_pci", "9p",
                              "9pnet_virtio"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    initrd = os.path.join(folder, "initrd.img")
    subprocess.run(["sh", os.path.join(GUEST, "mkinitrd.sh"), *(part for module in modules for part in ("--module", module)),
                    "--file", f"{program}:/share_bench", "-o", initrd], check=True)
    return program, initrd


def append(options, cache):
    run = (f"mkdir -p /mnt; mount -t 9p -o trans=virtio,version=9p2000.L,msize={options.msize},cache={cache} work /mnt && "
           f"/share_bench /mnt {options.ms}")
    return f'console=ttyS0 quiet panic=-1 avant.run="{run}"'


def command(options, name, initrd, share, cache):
    if name == TCG:
        return [options.qemu, "-accel", "tcg,thread=single", "-M", "q35", "-cpu", "max,-la57", "-m", options.memory,
                "-nographic", "-no-reboot", "-kernel", options.kernel, "-initrd", initrd, "-append", append(options, cache),
                "-virtfs", f"local,path={share},mount_tag=work,security_model=none"]
    return [options.avant, "run", "--kernel", options.kernel, "--initrd", initrd, "--memory", options.memory,
            "--append", append(options, cache), "--share", f"{share},tag=work"]


def measure(options, name, program, initrd, share, cache):
    """{row: µs}, empty if the launch failed."""
    if name == NATIVE:
        output = subprocess.run([program, share, str(options.ms)], stdout=subprocess.PIPE, text=True, check=False).stdout
        lines = output.splitlines()
    else:
        done = launch.run(command(options, name, initrd, share, cache), READY, END,
                          launch.Limits(options.patience, options.patience, 4 * options.patience, 20))
        lines = [text for _, text in done.lines]
        if options.logs:
            os.makedirs(options.logs, exist_ok=True)
            with open(os.path.join(options.logs, f"share-{name}-{cache}.log"), "w", encoding="utf-8") as out:
                out.write("\n".join(lines))
    if not any(END.search(line) for line in lines):
        say(f"{name} failed with cache={cache}; its last lines:\n" + "\n".join(lines[-10:]))
        return {}
    return {match[1]: float(match[2]) for match in map(ROW.search, lines) if match}


def print_table(cache, runs, names):
    rows = []
    for launches in runs.values():
        for values in launches:
            rows += [row for row in values if row not in rows]
    ratio = TCG in names and AVANT in names
    print(f"\n| cache={cache} (µs) | " + " | ".join(names) + (f" | {TCG}/{AVANT}" if ratio else "") + " |")
    print("| --- |" + " ---: |" * (len(names) + ratio))
    ratios = []
    for row in rows:
        values = {name: [it[row] for it in runs[name] if row in it] for name in names}
        medians = {name: statistics.median(values[name]) if values[name] else None for name in names}
        cells = ["–" if medians[name] is None else f"{medians[name]:,.1f}" for name in names]
        if ratio and medians[TCG] and medians[AVANT]:
            ratios.append(medians[TCG] / medians[AVANT])
            cells.append(f"{ratios[-1]:.2f}")
        print(f"| {row} | " + " | ".join(cells) + " |")
    if ratios:
        print(f"| geometric mean | {' | ' * (len(names) - 1)} | {statistics.geometric_mean(ratios):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", help="a vmlinuz with its modules beside it, as fetch-kernel.sh --modules leaves it")
    parser.add_argument("--avant", default=os.path.join(TOP, "build", "avant"))
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64"))
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ms", type=float, default=100, help="milliseconds of a sample, of which there are five")
    parser.add_argument("--caches", default="none,loose", help="the client's: none, loose, mmap (default: none,loose)")
    parser.add_argument("--msize", type=int, default=512000)
    parser.add_argument("--engines", default="native,tcg,avant")
    parser.add_argument("--share", help="where to make the directory, e.g. on another file system")
    parser.add_argument("--patience", type=int, default=300, help="seconds until a launch counts as hung")
    parser.add_argument("--logs", help="folder for what the guests print")
    options = parser.parse_args()
    wanted = options.engines.split(",")
    names = [name for name, key in ((NATIVE, "native"), (TCG, "tcg"), (AVANT, "avant"))
             if key in wanted and (key != "tcg" or options.qemu)]
    complete = True
    with tempfile.TemporaryDirectory(prefix="avant-share-", dir=options.share or os.environ.get("TMPDIR", "/var/tmp")) as folder:
        share = os.path.join(folder, "share")
        os.makedirs(share)
        fill_share(share)
        program, initrd = build(options, folder)
        for cache in options.caches.split(","):
            runs = {name: [] for name in names}
            for number in range(options.rounds):
                for name in names:
                    say(f"cache={cache}, round {number + 1}: {name}")
                    runs[name].append(measure(options, name, program, initrd, share, cache))
                    complete &= bool(runs[name][-1])
            print_table(cache, runs, names)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
