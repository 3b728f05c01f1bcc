#!/usr/bin/env python3
"""Boots a Debian disk again and again, with and without a cache: disk-boots.py AVANT IMAGE [OPTION...]

IMAGE is a raw image of tools/mkimage.sh: root logs in at the console without a password. Launches work on copies of it,
without --snapshot, one copy for each way. Memory goes from 512 MiB to 4 GiB by turns. Each launch must

  - reach the login prompt, let root in, and find systemd "running", no unit failed;
  - have no complaint (level warning or worse) in dmesg, nor on the console while it powers off, except KNOWN ones;
  - power off with exit status 0 and without a warning of avant's;
  - leave a file system with which e2fsck -fn finds nothing wrong, and whose journal is empty.

  --launches N   of each way (default 20)
  --ways LIST    of: plain, cache, auto (default: plain,cache). cache: one launch is recorded and translated;
                 auto: --cache auto in a directory of its own, after one launch that fills it
  --cache FILE   for the way "cache", instead of recording
  --memory LIST  (default: 512M,1G,2G,4G)
  --option O     of avant run (repeatable)
  --qemu         launch QEMU's TCG once instead and print what its kernel complains about: to judge KNOWN by
  --logs DIR     keep what the guests print

Not part of the tests that CI runs: 40 launches take ten minutes. Exit status 1 if a launch failed.
"""
import argparse
import contextlib
import fcntl
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from session import GuestError, Session

# Lines of dmesg that are no fault of the machine's: QEMU shows them as well (--qemu).
KNOWN = {
    r"device-mapper: core: CONFIG_IMA_DISABLE_HTABLE is disabled": "how Debian's kernel is configured",
}
KERNEL_LINE = re.compile(r"^\[ *\d+\.\d+\] (?P<text>.*)$", re.MULTILINE)
LAST_WORDS = re.compile(r"reboot: Power down")  # at level notice; printed whatever the console's level is
AVANT_COMPLAINS = re.compile(r"^avant[^:\n]*: (warning|error).*$|^avant run: cannot.*$", re.MULTILINE)
COMPLAINTS = "dmesg --level=emerg,alert,crit,err,warn"


class Failure(Exception):
    pass


def unknown(text):
    """The kernel's lines in it that are not KNOWN."""
    return [match[0] for match in KERNEL_LINE.finditer(text)
            if not any(re.search(known, match[0]) for known in KNOWN)]


def expect(what, found, wanted=""):
    if found != wanted:
        raise Failure(f"{what}: {found!r} instead of {wanted!r}")


def look_inside(guest, memory):
    """What a user would look at after the login."""
    expect("systemctl is-system-running", guest.run("systemctl is-system-running --wait", 300, check=False).output,
           "running")
    expect("failed units", guest.run("systemctl --failed --no-legend --plain").output)
    expect("dmesg", unknown(guest.run(COMPLAINTS).output), [])
    total = int(guest.run("awk '/MemTotal/ { print $2 }' /proc/meminfo").output) << 10
    if not 0.85 * memory < total <= memory:
        raise Failure(f"the guest has {total >> 20} MiB of memory instead of {memory >> 20}")
    expect("the root file system", guest.run("awk '$2 == \"/\" { print substr($4, 1, 2) }' /proc/mounts").output, "rw")


def power_off(guest):
    start = len(guest.text)
    expect("exit status", guest.power_off(), 0)
    if not LAST_WORDS.search(guest.text, start):
        raise Failure("the kernel does not say that it powers down")
    expect("on the console while powering off",
           [line for line in unknown(guest.text[start:]) if not LAST_WORDS.search(line)], [])
    complaint = AVANT_COMPLAINS.search(guest.text)
    expect("avant's messages", complaint and complaint[0], None)


def file_systems(options):
    """Where the image's ext4 file systems are, in bytes."""
    info = json.loads(subprocess.run([options.avant, "image", "info", "--json", options.image], check=True,
                                     stdout=subprocess.PIPE).stdout)
    return [volume["offset"] for volume in info["volumes"] if volume["type"].startswith("ext")]


def check_disk(disk, offsets):
    for offset in offsets:
        where = f"{disk}?offset={offset}"
        found = subprocess.run(["e2fsck", "-fn", where], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if found.returncode or re.search(r"journal|NOT|WARNING", found.stdout):
            raise Failure(f"e2fsck: status {found.returncode}\n{found.stdout}")


def size_of(text):
    return int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1]]


class Way:
    """How the disk is launched, and what came of it."""

    def __init__(self, name, options, folder):
        self.name, self.options = name, options
        self.disk = os.path.join(folder, f"{name}.img")
        self.passed, self.seconds, self.extra, self.environment, self.cache = 0, [], [], None, None
        self.renew()

    def renew(self):
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", self.options.image, self.disk], check=True)

    def launch(self, memory, log=None, *more):
        """One launch; raises Failure or GuestError."""
        command = [self.options.avant, "run", "--image", self.disk, "--memory", memory, *self.extra, *more,
                   *self.options.option]
        with Session(command, log, environment=self.environment) as guest:
            self.seconds.append(guest.login())
            look_inside(guest, size_of(memory))
            power_off(guest)
        check_disk(self.disk, self.options.offsets)

    def attempt(self, number):
        memory = self.options.memory[number % len(self.options.memory)]
        log = os.path.join(self.options.logs, f"{self.name}-{number + 1}.log") if self.options.logs else None
        try:
            self.launch(memory, log)
            self.passed += 1
        except (Failure, GuestError) as error:
            print(f"{self.name}, launch {number + 1} ({memory}): {error}", flush=True)
            self.renew()


def prepare_cache(way, folder):
    """A cache from a recorded launch."""
    cache = way.options.cache
    if not cache:
        recording, cache = os.path.join(folder, "boot.rec"), os.path.join(folder, "boot.tcache")
        way.launch("1G", None, "--record", recording)
        subprocess.run([way.options.avant, "translate", "--profile", recording, "--output", cache], check=True,
                       stdout=subprocess.DEVNULL)
    way.extra = ["--engine", "aot", "--cache", cache]


def settle(folder, patience=600):
    """Waits until what runs have left in this XDG cache directory is translated."""
    deadline = time.monotonic() + patience
    while True:
        guests = glob.glob(os.path.join(folder, "avant/auto/*"))
        with contextlib.ExitStack() as files:
            locks = [files.enter_context(open(os.path.join(guest, "lock"), "a")) for guest in guests]
            try:
                for lock in locks:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if guests and all(os.path.exists(f"{guest}/cache.tcache") and not glob.glob(f"{guest}/run-*.rec")
                                  for guest in guests):
                    return
            except BlockingIOError:
                pass
        if time.monotonic() > deadline:
            raise Failure(f"no cache within {patience} s")
        time.sleep(1)


def prepare_auto(way, folder):
    """A cache directory that one launch has filled."""
    way.extra = ["--cache", "auto"]
    way.cache = os.path.join(folder, "cache")
    way.environment = dict(os.environ, XDG_CACHE_HOME=way.cache)
    way.launch("1G")
    settle(way.cache)


PREPARE = {"plain": lambda way, folder: None, "cache": prepare_cache, "auto": prepare_auto}


def qemu(options, folder):
    """What the same kernel complains about under TCG."""
    entry = json.loads(subprocess.run([options.avant, "image", "info", "--json", options.image], check=True,
                                      stdout=subprocess.PIPE).stdout)["boot"]
    parts = {"kernel": [entry["kernel"]], "initrd": entry["initrd"]}
    for name, paths in parts.items():
        with open(os.path.join(folder, name), "wb") as out:
            for path in paths:
                subprocess.run([options.avant, "image", "cat", options.image, path], check=True, stdout=out)
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=single", "-M", "q35", "-cpu", "max,-la57", "-m", options.memory[0],
               "-nographic", "-no-reboot", "-kernel", os.path.join(folder, "kernel"), "-initrd",
               os.path.join(folder, "initrd"), "-append", entry["command_line"],
               "-drive", f"file={options.image},format=raw,if=virtio,snapshot=on", "-device", "virtio-rng-pci", "-nic", "none"]
    with Session(command) as guest:
        guest.login(600)
        print(guest.run("systemctl is-system-running --wait", 300, check=False).output)
        print(guest.run(COMPLAINTS).output)
        guest.power_off()


def parse():
    parser = argparse.ArgumentParser(add_help=False)
    for name in "avant", "image":
        parser.add_argument(name)
    parser.add_argument("--launches", type=int, default=20)
    parser.add_argument("--ways", type=lambda text: text.split(","), default=["plain", "cache"])
    parser.add_argument("--cache")
    parser.add_argument("--memory", type=lambda text: text.split(","), default=["512M", "1G", "2G", "4G"])
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--qemu", action="store_true")
    parser.add_argument("--logs")
    if "--help" in sys.argv:
        print(__doc__)
        sys.exit(0)
    options = parser.parse_args()
    options.avant = os.path.abspath(options.avant)
    if options.logs:
        os.makedirs(options.logs, exist_ok=True)
    return options


def main():
    options = parse()
    with tempfile.TemporaryDirectory(prefix="disk-boots-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        if options.qemu:
            qemu(options, folder)
            return 0
        options.offsets = file_systems(options)
        ways = [Way(name, options, folder) for name in options.ways]
        for way in ways:
            PREPARE[way.name](way, folder)
            way.seconds.clear()
        for number in range(options.launches):
            for way in ways:
                way.attempt(number)
        for way in ways:
            if way.cache:
                settle(way.cache)
    for way in ways:
        print(f"{way.name}: {way.passed} of {options.launches}; to the login prompt "
              f"{statistics.median(way.seconds):.1f} s, at most {max(way.seconds):.1f} s")
    return 1 if any(way.passed < options.launches for way in ways) else 0


if __name__ == "__main__":
    sys.exit(main())
