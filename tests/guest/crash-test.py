#!/usr/bin/env python3
"""What a crash of the host leaves of a guest's disk, cut by cut:
    crash-test.py AVANT [OPTION...]

A guest changes files on a disk, and syncs and acknowledges what it has changed (crash/load.c); a server notes everything that
comes to the disk (crash/record.py). Then the disk is put together again as it would be after a crash: all that was
written before the last flush, and any of what came after it, in pieces of 4 KiB. Cuts are made after each flush and at
random points. Each time: the file system is as it should be after its journal was replayed, and everything
acknowledged before the cut is there.

Takes minutes; not a part of run.sh. Exit status 77 if the kernel cannot be fetched."""

import argparse
import mmap
import os
import random
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

DISK, ACK = 0, 1
ATOM = 4096  # what a disk writes wholly or not at all: the physical block that the guest is told of
SIZE_MB = 48
PER_GUEST = 6  # disks of one guest that recovers them
WAYS = ("append", "replace", "delete", "wal")
# what e2fsck -p may say about a file system that was in use
HARMLESS = re.compile(r"^(.*: recovering journal|.*: Clearing orphaned inode .*|.*: clean, .*|"
                      r"Setting free (inodes|blocks) count to .*|.*: \d+/\d+ files .*|)$")


def run(*command, check=True, **options):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", **options)
    if check and done.returncode:
        sys.exit(f"crash-test.py: {command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def length_of(number):
    return 100 + number * 2654435761 % 2**32 % 8900


def content_of(number):
    return bytes((number * 31 + i * 7 + i // 256) & 0xFF for i in range(length_of(number)))


def record_of(number):
    return b"%08u %08u\n" % (number, length_of(number)) + content_of(number)


# --- the load


def make_initrd(kernel, work):
    program = os.path.join(work, "load")
    run("gcc", "-O1", "-D_GNU_SOURCE", "-static", os.path.join(HERE, "crash/load.c"), "-o", program, "-lsqlite3", "-lm")
    modules = run(sys.executable, os.path.join(HERE, "modules.py"), kernel, "virtio_pci", "virtio_blk", "crc32c_generic",
                  "ext4").stdout.split()
    initrd = os.path.join(work, "initrd.img")
    options = [word for module in modules for word in ("--module", module)]
    run("sh", os.path.join(HERE, "mkinitrd.sh"), *options, "--file", program + ":/load", "-o", initrd)
    return initrd


def guest(options, initrd, disks, command, work):
    """Runs a guest to its end; its console."""
    arguments = [options.avant, "run", "--kernel", options.kernel, "--initrd", initrd, "--timeout", "900",
                 "--append", f'console=ttyS0 panic=-1 quiet avant.run="{command}"']
    for disk in disks:
        arguments += ["--disk", disk]
    with open(os.path.join(work, "messages"), "w+") as messages:
        done = subprocess.run(arguments + options.option, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages)
        messages.seek(0)
        said = messages.read()
    console = done.stdout.decode(errors="replace")
    if done.returncode or said or "AVANT-STATUS 0" not in console:
        sys.exit(f"crash-test.py: the guest failed, status {done.returncode}\n{console[-3000:]}\n{said}")
    return console


class Server:
    """nbdkit with record.py; with `file`, its exports appear as files, and Avant uses these as raw disks."""

    def __init__(self, work, through):
        self.socket = os.path.join(work, "socket")
        self.log = os.path.join(work, "log")
        self.mounts = []
        self.process = subprocess.Popen(
            ["nbdkit", "-f", "-U", self.socket, "python", os.path.join(HERE, "crash/record.py"), "log=" + self.log,
             "disk=" + os.path.join(work, "disk"), "ack=" + os.path.join(work, "ack")])
        self.wait_for(self.socket)
        self.disks = [f"nbd+unix:///{name}?socket={self.socket}" for name in ("disk", "ack")]
        if through == "file":
            self.disks = [self.mount(work, name, uri) for name, uri in zip(("disk", "ack"), self.disks)]

    @staticmethod
    def wait_for(path):
        for _ in range(100):
            if os.path.exists(path):
                return
            time.sleep(0.1)
        sys.exit(f"crash-test.py: '{path}' does not appear")

    def mount(self, work, name, uri):
        path = os.path.join(work, name + ".file")
        open(path, "w").close()
        self.mounts.append((path, subprocess.Popen(["nbdfuse", path, uri])))
        for _ in range(100):
            if os.path.getsize(path):
                return path
            time.sleep(0.1)
        sys.exit(f"crash-test.py: nbdfuse does not show '{path}'")

    def stop(self):
        for path, process in self.mounts:
            run("fusermount3", "-u", path)
            process.wait()
        self.process.terminate()
        self.process.wait()


# --- the log


class Entry:
    __slots__ = ("kind", "disk", "offset", "length", "at")

    def __init__(self, kind, disk, offset, length, at):
        self.kind, self.disk, self.offset, self.length, self.at = kind, disk, offset, length, at


def read_log(data):
    head = struct.Struct("<cBxxIQ")  # record.py
    entries, at = [], 0
    while at < len(data):
        kind, disk, length, offset = head.unpack_from(data, at)
        at += head.size
        entries.append(Entry(kind, disk, offset, length, at))
        if kind == b"W":
            at += length
    return entries


class Replay:
    """The disk as it is after a cut. Cuts are asked for in ascending order."""

    def __init__(self, begin, data, entries, draw):
        self.durable = bytearray(begin)
        self.data, self.entries, self.draw = data, entries, draw
        self.position = 0
        self.pending = []  # writes that no flush has followed
        self.acknowledged = dict.fromkeys(WAYS, 0)

    def apply(self, disk, entry, lose):
        """`lose`: pieces of it are left out."""
        start, stop = entry.offset, entry.offset + entry.length
        while start < stop:
            end = min(start - start % ATOM + ATOM, stop) if lose else stop
            if not lose or self.draw.random() < 0.5:
                source = entry.at + start - entry.offset
                disk[start:end] = bytes(end - start) if entry.kind == b"Z" else self.data[source:source + end - start]
            start = end

    def forward(self, cut):
        """What is known of the entries before `cut`."""
        for entry in self.entries[self.position:cut]:
            if entry.disk == ACK:
                if entry.kind == b"W":
                    way, number = self.data[entry.at:entry.at + 64].split(b"\0")[0].decode().split()
                    self.acknowledged[way] = int(number)
            elif entry.kind == b"F":
                for write in self.pending:
                    self.apply(self.durable, write, False)
                self.pending = []
            else:
                self.pending.append(entry)
        self.position = cut

    def disk(self, cut):
        self.forward(cut)
        disk = bytearray(self.durable)
        keep = self.draw.choice((0, 0.1, 0.5, 0.9, 1))
        for write in self.pending:
            if self.draw.random() < keep:
                self.apply(disk, write, self.draw.random() < 0.3)
        return disk


def choose_cuts(entries, points, draw):
    """After each flush, up to any entry before the next one; and anywhere."""
    flushes = [i + 1 for i, entry in enumerate(entries) if entry.disk == DISK and entry.kind == b"F"]
    cuts = []
    for flush, following in zip(flushes, flushes[1:] + [len(entries) + 1]):
        cuts.append(flush if draw.random() < 0.5 else draw.randint(flush, following - 1))
    return sorted(cuts + [draw.randint(0, len(entries)) for _ in range(points)]), len(flushes)


# --- what is left


def check_system(image):
    """The file system after its journal was replayed. None, or what is wrong."""
    done = run("e2fsck", "-p", image, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    strange = [line for line in lines if not HARMLESS.match(line)]
    if done.returncode > 1 or strange:
        return f"e2fsck -p: status {done.returncode}: " + "\n".join(lines)
    done = run("e2fsck", "-fn", image, check=False)
    if done.returncode:
        return f"e2fsck -fn: status {done.returncode}: {done.stdout}{done.stderr}"
    return None


def check_append(path, acknowledged):
    data = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            data = file.read()
    at = 0
    for number in range(1, acknowledged + 1):
        record = record_of(number)
        if data[at:at + len(record)] != record:
            return f"append: record {number} of {acknowledged} acknowledged ones is not there"
        at += len(record)
    # at most one was being written
    if len(data) - at > len(record_of(acknowledged + 1)):
        return f"append: {len(data) - at} bytes more than acknowledged"
    return None


def check_replace(path, acknowledged):
    if not os.path.exists(path):
        return "replace: not there" if acknowledged else None
    with open(path, "rb") as file:
        data = file.read()
    if data not in (record_of(acknowledged), record_of(acknowledged + 1)):
        return f"replace: holds neither record {acknowledged} nor the next one: {len(data)} bytes, {data[:18]}"
    return None


def check_db(path, name, acknowledged):
    if not acknowledged and not os.path.exists(path):
        return None
    db = sqlite3.connect(path)
    try:
        result = db.execute("PRAGMA integrity_check").fetchall()
        if result != [("ok",)]:
            return f"{name}: integrity check: {result}"
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
        if "last" not in tables or not db.execute("SELECT count(*) FROM last").fetchone()[0]:
            return f"{name}: no tables" if acknowledged else None
        rows = db.execute("SELECT number, data FROM record ORDER BY number").fetchall()
        last = db.execute("SELECT number FROM last").fetchone()[0]
        if last not in (acknowledged, acknowledged + 1):
            return f"{name}: {last} transactions, {acknowledged} acknowledged"
        if [row[0] for row in rows] != list(range(1, last + 1)):
            return f"{name}: rows {[row[0] for row in rows]}, {last} transactions"
        wrong = [row[0] for row in rows if row[1] != content_of(row[0])]
        return f"{name}: rows with other contents: {wrong}" if wrong else None
    except sqlite3.Error as error:
        return f"{name}: {error}"
    finally:
        db.close()


def check_files(image, acknowledged, work):
    folder = os.path.join(work, "files")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    names = ("append", "replace", "delete.db", "delete.db-journal", "wal.db", "wal.db-wal")
    there = run("debugfs", "-R", "ls -p /", image).stdout
    names = [name for name in names if f"/{name}/" in there]
    script = "".join(f"dump /{name} {folder}/{name}\n" for name in names)
    run("debugfs", "-f", "-", image, input=script)
    return (check_append(f"{folder}/append", acknowledged["append"]) or
            check_replace(f"{folder}/replace", acknowledged["replace"]) or
            check_db(f"{folder}/delete.db", "delete", acknowledged["delete"]) or
            check_db(f"{folder}/wal.db", "wal", acknowledged["wal"]))


def check_by_guests(options, initrd, crashed, work):
    """The guest's own kernel replays the journals. What is wrong, as a list of (cut, text)."""
    wrong = []
    for first in range(0, len(crashed), PER_GUEST):
        group = crashed[first:first + PER_GUEST]
        guest(options, initrd, [image for _, image, _ in group],
              "set -e; for d in /dev/vd?; do mkdir -p /m; mount -t ext4 $d /m; ls /m >/dev/null; umount /m; done", work)
        for cut, image, acknowledged in group:
            done = run("e2fsck", "-fn", image, check=False)
            text = check_files(image, acknowledged, work)
            if done.returncode:
                text = f"e2fsck -fn after the guest: status {done.returncode}: {done.stdout}"
            if text:
                wrong.append((cut, text))
    return wrong


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avant")
    parser.add_argument("--through", choices=("nbd", "file"), default="nbd",
                        help="Avant talks to the server itself, or uses files that nbdfuse makes of it (needs FUSE)")
    parser.add_argument("--rounds", type=int, default=60, help="of the load, four acknowledgements each (60)")
    parser.add_argument("--points", type=int, default=200, help="random cuts, beside those after each flush (200)")
    parser.add_argument("--guests", type=int, default=12, help="crashed disks that a guest recovers (12)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", metavar="DIR", help="what was wrong is kept there")
    parser.add_argument("--kernel", help="VMLINUZ with its modules, as fetch-kernel.sh --modules prints it")
    parser.add_argument("--option", nargs="*", default=[], help="more options for avant run")
    return parser.parse_args()


def load(options, initrd, work):
    """The disk before and the log of what was done to it."""
    disk = os.path.join(work, "disk")
    run("mke2fs", "-q", "-t", "ext4", "-b", "4096", disk, f"{SIZE_MB}M")
    with open(os.path.join(work, "ack"), "wb") as file:
        file.truncate(1 << 20)
    server = Server(work, options.through)
    console = guest(options, initrd, server.disks,
                    f"mkdir /m && mount -t ext4 /dev/vda /m && /load /m /dev/vdb {options.rounds} && umount /m", work)
    server.stop()
    if "LOAD-DONE" not in console:
        sys.exit(f"crash-test.py: the load did not finish\n{console[-2000:]}")
    with open(disk, "rb") as file:
        begin = file.read()
    with open(server.log, "rb") as file:
        return begin, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def main():
    options = parse()
    if not options.kernel:
        found = run("sh", os.path.join(HERE, "fetch-kernel.sh"), "--modules", check=False)
        if found.returncode:
            sys.exit(77)
        options.kernel = found.stdout.strip()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as work:
        initrd = make_initrd(options.kernel, work)
        begin, data = load(options, initrd, work)
        entries = read_log(data)
        cuts, flushes = choose_cuts(entries, options.points, draw)
        print(f"{len(entries)} entries in the log, {flushes} flushes, {len(cuts)} cuts", flush=True)
        replay = Replay(begin, data, entries, draw)
        to_guests = set(draw.sample(range(len(cuts)), min(options.guests, len(cuts))))
        crashed, wrong = [], []
        for index, cut in enumerate(cuts):
            image = os.path.join(work, f"crashed{index if index in to_guests else ''}")
            with open(image, "wb") as file:
                file.write(replay.disk(cut))
            if index in to_guests:
                crashed.append((cut, image, dict(replay.acknowledged)))
                continue
            if options.keep:
                shutil.copy(image, os.path.join(work, "before"))
            text = check_system(image) or check_files(image, replay.acknowledged, work)
            if text:
                print(f"cut {cut}, acknowledged {replay.acknowledged}: {text}", flush=True)
                wrong.append((cut, text))
                if options.keep:
                    shutil.copy(os.path.join(work, "before"), os.path.join(options.keep, f"cut{cut}"))
        last = replay.acknowledged
        replay.forward(len(entries))
        if any(replay.acknowledged[way] != options.rounds for way in WAYS):
            wrong.append((len(entries), f"acknowledged in the log: {last}"))
        for cut, text in check_by_guests(options, initrd, crashed, work):
            print(f"cut {cut}, recovered by a guest: {text}")
            wrong.append((cut, text))
        data.close()
    print(f"{len(cuts)} crashes, {len(crashed)} of them recovered by guests: {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
