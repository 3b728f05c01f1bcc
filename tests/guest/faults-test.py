#!/usr/bin/env python3
"""Hosts that fail under a running guest: faults-test.py AVANT [--only NAME] [OPTION...]

A guest (Debian's kernel and a shell) sees an I/O error, Avant says why and names the file, and both go on:

  full      the file system of a disk's file is full, raw and with ext4 on it; later there is room again
  eio       a server whose disk fails for a while (nbdkit's error filter)
  shrunk    a disk's file is cut off
  snapshot  no room for what a snapshot keeps aside
  share     no room in a shared directory
  outputs   no room for --record, --stats and --cache auto; nor for what avant translate makes

Needs a tmpfs of its own: run as root, or it tries `unshare`. OPTION: of avant run. Exit status 77 (skipped) if the kernel can
neither be found nor fetched, or nothing may be mounted.
"""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import initrd
from session import Session

HERE = os.path.dirname(os.path.abspath(__file__))
SKIPPED = 77
MIB = 1 << 20
DISK = 48 * MIB
ROOM = 8 * MIB  # of the tmpfs that gets full


def fail(text):
    sys.exit(f"faults-test: {text}")


def expect(what, found, wanted):
    if found != wanted:
        fail(f"{what}: {found!r} instead of {wanted!r}")


class Bench:
    """What all tests use: a kernel, an initramfs, a small file system."""

    def __init__(self, avant, options, folder):
        self.avant, self.options, self.folder = os.path.abspath(avant), options, pathlib.Path(folder)
        self.small = self.folder / "small"
        self.kernel = self._fetch()
        self.initrd = self.folder / "initrd.img"
        initrd.make(self.initrd, self.kernel, ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "9p", "9pnet_virtio"], [])

    @staticmethod
    def _fetch():
        fetched = subprocess.run(["sh", os.path.join(HERE, "fetch-kernel.sh"), "--modules", "linux-image-amd64"],
                                 stdout=subprocess.PIPE, text=True)
        if fetched.returncode:
            sys.exit(SKIPPED)
        return fetched.stdout.strip()

    @contextlib.contextmanager
    def small_file_system(self):
        """An empty tmpfs of ROOM bytes."""
        self.small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", self.small], check=True)
        try:
            yield self.small
        finally:
            subprocess.run(["umount", "-l", self.small], check=True)
            self.small.rmdir()

    def run_command(self, *options):
        return [self.avant, "run", "--kernel", self.kernel, "--initrd", str(self.initrd), *map(str, options), *self.options,
                "--append", "console=ttyS0 quiet panic=-1"]

    def guest(self, *options, environment=None):
        return Guest(self.run_command(*options), self.folder / "messages", environment)


class Guest(Session):
    """A shell, and drivers loaded. Avant's messages go to a file."""

    def __init__(self, command, messages, environment):
        self.messages = messages
        with open(messages, "wb") as file:
            super().__init__(command, environment=environment, errors=file)

    def __enter__(self):
        self.expect("AVANT-SHELL-READY", 60)
        self.send("stty -echo; PS1= PS2=\n")
        self.run("for module in $(cat /lib/modules.list); do insmod $module || exit 1; done; dmesg -n 1")
        return self

    def fails(self, command):
        """It must, with an I/O error or for want of room."""
        result = self.run(command, check=False)
        if result.status == 0 or not re.search("I/O error|Input/output error|No space left", result.output):
            fail(f"'{command}' ended with status {result.status}: {result.output}")

    def said(self, pattern):
        """Avant must have said so once."""
        text = self.messages.read_text(errors="replace")
        if len(re.findall(rf"^avant[ a-z]*: .*{pattern}.*$", text, re.MULTILINE)) != 1:
            fail(f"not one message with '{pattern}', but\n{text}")

    def finish(self, status=0):
        """The kernel is as well as before."""
        kernel = self.run("dmesg | grep -E 'BUG:|Oops|[^n]stall|lockup|blocked for more' || true").output
        expect("complaints of the kernel's", kernel, "")
        self.send("poweroff -f\n")
        expect("exit status", self.wait(60), status)


def make_file(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def write(count, skip=0, to="/dev/vda"):
    return f"dd if=/dev/urandom of={to} bs=1M count={count} seek={skip} oflag=direct 2>&1"


def read(count, skip=0, of="/dev/vda"):
    return f"dd if={of} of=/dev/null bs=1M count={count} skip={skip} iflag=direct 2>&1"


def test_full(bench):
    with bench.small_file_system() as small:
        disk, filler = make_file(small / "disk.img", DISK), small / "filler"
        filler.write_bytes(b"f" * (2 * MIB))
        with bench.guest("--disk", disk) as guest:
            guest.run(write(4))
            before = guest.run("dd if=/dev/vda bs=1M count=4 iflag=direct 2>/dev/null | md5sum").output
            guest.fails(write(40, 4))
            guest.said(f"{re.escape(str(disk))}.*No space left on device")
            # what was there is there, and what was written when there is room again stays
            expect("what was written before", guest.run("dd if=/dev/vda bs=1M count=4 iflag=direct 2>/dev/null | md5sum").output,
                   before)
            expect("the other file", filler.read_bytes(), b"f" * (2 * MIB))
            filler.unlink()
            guest.run(write(1, 40))
            guest.run("dd if=/dev/vda bs=1M count=1 skip=40 of=/copy 2>/dev/null; dd if=/copy of=/dev/vda bs=1M seek=40 conv=fsync")
            guest.finish()
        expect("the size of the disk", disk.stat().st_size, DISK)


def test_full_ext4(bench):
    with bench.small_file_system() as small:
        disk = make_file(small / "disk.img", DISK)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "nodiscard,lazy_itable_init=1", disk], check=True)
        with bench.guest("--disk", disk) as guest:
            guest.run("mkdir /mnt; mount /dev/vda /mnt; echo precious >/mnt/kept; sync")
            guest.fails("dd if=/dev/urandom of=/mnt/much bs=1M count=30 conv=fsync 2>&1")
            guest.said(f"{re.escape(str(disk))}.*No space left on device")
            expect("a file that was synced", guest.run("cat /mnt/kept").output, "precious")
            guest.run("umount /mnt 2>&1", check=False)
            guest.finish()
        # the journal may not have been written back: recovering is allowed, damage beyond it is not
        subprocess.run(["mount", "-o", "remount,size=100%", small], check=True)
        for options in "-fy", "-fn":
            checked = subprocess.run(["e2fsck", options, disk], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if checked.returncode:
            fail(f"e2fsck cannot repair: {checked.stdout}")
        kept = subprocess.run(["debugfs", "-R", "cat /kept", disk], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        expect("the file after fsck", kept.stdout, "precious\n")


def test_eio(bench):
    if not shutil.which("nbdkit"):
        print("faults-test: no nbdkit: a failing server is not tried")
        return
    disk, trigger, socket = make_file(bench.folder / "eio.img", DISK), bench.folder / "trigger", bench.folder / "eio.sock"
    server = subprocess.Popen(["nbdkit", "--foreground", "--exit-with-parent", "--unix", socket, "--filter=error", "file", disk,
                               "error=EIO", "error-rate=100%", f"error-file={trigger}"], stderr=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.01)
        uri = f"nbd+unix:///?socket={socket}"
        with bench.guest("--disk", uri) as guest:
            guest.run(write(2) + " && " + read(2))
            trigger.touch()
            guest.fails(read(1))
            guest.fails(write(1, 8))
            guest.said("eio.sock.*cannot read.*Input/output error")
            guest.said("eio.sock.*cannot write.*Input/output error")
            trigger.unlink()
            guest.run(write(2, 8) + " && " + read(2, 8))
            guest.run("dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync")
            # what a failed flush has lost cannot be had back: no later one may claim that all is well
            trigger.touch()
            guest.fails("dd if=/dev/urandom of=/dev/vda bs=4k count=1 conv=fsync 2>&1")
            trigger.unlink()
            guest.finish()
    finally:
        server.terminate()
        server.wait()


def test_shrunk(bench):
    disk = make_file(bench.folder / "shrunk.img", DISK)
    with bench.guest("--disk", disk) as guest:
        guest.run(write(48))
        os.truncate(disk, DISK // 2)
        guest.fails(read(1, 40))
        guest.fails(write(1, 40))
        guest.said("shrunk.img.*cut off|shrunk.img.*shorter|shrunk.img.*end")
        guest.run(read(24) + " && " + write(24))
        guest.finish()
    expect("the size of the file", disk.stat().st_size, DISK // 2)


def test_snapshot(bench):
    disk = make_file(bench.folder / "below.img", DISK)
    with bench.small_file_system() as small:
        with bench.guest("--disk", f"{disk},snapshot", environment=dict(os.environ, TMPDIR=str(small))) as guest:
            guest.run(write(2))
            guest.fails(write(30, 4))
            guest.said("No space left on device")
            guest.run(read(2))
            guest.finish()
    with open(disk, "rb") as file:
        expect("the disk below", file.read().strip(b"\0"), b"")


def test_share(bench):
    with bench.small_file_system() as small:
        with bench.guest("--share", f"{small},tag=work") as guest:
            guest.run("mkdir /mnt; mount -t 9p -o trans=virtio,version=9p2000.L work /mnt; echo precious >/mnt/kept")
            guest.fails("dd if=/dev/urandom of=/mnt/much bs=1M count=30 conv=fsync 2>&1")
            expect("a file from before", guest.run("cat /mnt/kept").output, "precious")
            guest.run("rm /mnt/much && echo again >/mnt/more")
            guest.finish()
        expect("what is there", sorted(path.name for path in small.iterdir()), ["kept", "more"])


def fill(folder):
    with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"f" * 4096)


def test_outputs(bench):
    recording = bench.folder / "good.rec"
    with bench.guest("--record", recording) as guest:
        guest.finish()
    with bench.small_file_system() as small:
        fill(small)
        with bench.guest("--record", small / "bad.rec", "--stats", small / "bad.json") as guest:
            guest.finish(status=1)
            guest.said("--record: cannot .*bad.rec.*: No space left on device")
            guest.said("--stats: cannot .*bad.json.*: No space left on device")
        environment = dict(os.environ, XDG_CACHE_HOME=str(small))
        with bench.guest("--cache", "auto", environment=environment) as guest:
            guest.finish()
            guest.said("warning: (what was new in this run is not kept|no automatic cache is used): .*No space left on device")
        done = subprocess.run([bench.avant, "translate", "--profile", recording, "--output", small / "bad.tcache"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 1 or not re.search("bad.tcache.*No space left on device", done.stderr):
            fail(f"avant translate ended with status {done.returncode}: {done.stderr}")
        left = [str(path.relative_to(small)) for path in small.rglob("*") if path.is_file() and path.name != "lock"]
        expect("what is left", left, ["filler"])


def main():
    arguments = sys.argv[1:]
    if "--help" in arguments or not arguments:
        print(__doc__)
        sys.exit(0 if arguments else 2)
    if os.environ.get("FAULTS_TEST_UNSHARED") is None:
        # a mount of its own, that ends with it however that ends
        os.environ["FAULTS_TEST_UNSHARED"] = "1"
        unshare = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--map-root-user"])
        if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], stderr=subprocess.DEVNULL).returncode:
            print("faults-test: nothing may be mounted here: skipped")
            sys.exit(SKIPPED)
        os.execvp(unshare[0], [*unshare, sys.executable, __file__, *arguments])
    only = None
    if len(arguments) > 2 and arguments[1] == "--only":
        only = arguments[2]
        del arguments[1:3]
    with tempfile.TemporaryDirectory(prefix="faults-test-", dir="/var/tmp") as folder:
        bench = Bench(arguments[0], arguments[1:], folder)
        for name, test in list(globals().items()):
            if name.startswith("test_") and (not only or name.startswith(f"test_{only}")):
                test(bench)


main()
