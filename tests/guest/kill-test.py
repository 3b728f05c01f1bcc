#!/usr/bin/env python3
"""kill -9 of `avant run` at random moments, and what is left then: kill-test.py AVANT IMAGE [OPTION...]

IMAGE is a raw image of tools/mkimage.sh; a copy of it is used. The run has what leaves traces: the disk, a snapshot, --net user with a
forwarded port, --share, --cache auto, --serial unix:PATH. The guest boots to its login prompt and is powered off by SIGTERM,
after which what was new is translated; the moment is anywhere in that, every third one within the first second. Then

  - no process of the run is left: the network's, the image reader, the writer of files, the builder of caches. If the run
    had come to its end before it was killed, and had started a build, that ends by itself;
  - nobody has a lock on the disk or in the cache directory, and the forwarded port is free;
  - no file is left in TMPDIR, the cache directory, the shared directory and beside the disk but those that stay;
  - a launch with the same options gets as far as the kernel's first line, every 20th to the login prompt.

At last a launch comes to the login prompt and powers off, and e2fsck finds nothing to repair.

  --kills N      (default 200)
  --terms N      the same with SIGTERM and, up to a second later, another one instead of SIGKILL (default 10)
  --seed N       of the random moments (default: a new one, which is printed)
  --option O     of avant run (repeatable)

Not part of the tests that CI runs: 200 kills take about 30 minutes. Exit status 1 at the first failure.
"""
import argparse
import atexit
import contextlib
import ctypes
import fcntl
import glob
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 300  # for what must happen; a machine that is busy with other things boots slowly
GONE = 5  # seconds within which all processes of a run have ended
BUILD = 600  # … the builder of a run that had come to its end
FULL_LAUNCH = 20  # every so many launches go to the login prompt
STAYS = re.compile(r"^(avant(/auto(/[^/]+(/(cache\.tcache|profile\.rec|run-\d+-\d+\.rec|build\.log|lock))?)?)?)?$")


def fail(text):
    sys.exit(f"kill-test: {text}")


def children():
    """This process's children, by their numbers: as a subreaper, also those whose parent was killed."""
    found = {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            with open(stat) as file:
                number, rest = file.read().split(" (", 1)
            state, parent = rest.rsplit(") ", 1)[1].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                with open(f"/proc/{number}/cmdline", "rb") as file:
                    found[int(number)] = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def reap():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def is_build(command):
    return " cache build -- " in command or "translate --only-recorded" in command


class Place:
    """The files of all runs, and their options."""

    def __init__(self, options, folder):
        self.folder, self.avant = folder, options.avant
        for name in "disk", "tmp", "cache", "share":
            os.mkdir(os.path.join(folder, name))
        self.disk = os.path.join(folder, "disk", "disk.img")
        self.serial = os.path.join(folder, "disk", "serial")
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", options.image, self.disk], check=True)
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        info = json.loads(subprocess.run([options.avant, "image", "info", "--json", self.disk], check=True,
                                         stdout=subprocess.PIPE).stdout)
        append = " ".join(word for word in info["boot"]["command_line"].split() if word != "quiet")
        self.data = os.path.join(folder, "disk", "data.img")
        with open(self.data, "wb") as file:
            file.truncate(64 << 20)
        self.command = [options.avant, "run", "--image", self.disk, "--disk", f"{self.data},snapshot", "--memory", "512M", "--append", append, "--net",
                        f"user,hostfwd=tcp:127.0.0.1:{self.port}-:22", "--share", f"{folder}/share,tag=work", "--cache", "auto",
                        "--serial", f"unix:{self.serial}", *options.option]
        self.environment = dict(os.environ, TMPDIR=f"{folder}/tmp", XDG_CACHE_HOME=f"{folder}/cache")

    def launch(self):
        return Run(self)

    def forget_cache(self):
        subprocess.run([self.avant, "cache", "build", "--limit", "1K"], check=True, env=self.environment,
                       stdout=subprocess.DEVNULL)

    def check_nothing_left(self, what):
        """After the end of a run."""
        deadline, build_deadline = time.monotonic() + GONE, time.monotonic() + BUILD
        while True:
            reap()
            left = children()
            # without a command line it has begun to end: whose end takes long was, if not a build, told before
            others = {number: text for number, text in left.items() if text and not is_build(text)}
            if not left:
                break
            if (others and time.monotonic() > deadline) or time.monotonic() > build_deadline:
                fail(f"{what}: processes are left: {others or left}")
            time.sleep(0.01)
        self._check_locks(what)
        self._check_files(what)
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections may be in TIME_WAIT, listeners not
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                fail(f"{what}: port {self.port}: {error}")

    def _check_locks(self, what):
        numbers = {str(os.stat(path).st_ino): path for path in [self.disk, self.data, *glob.glob(f"{self.folder}/cache/avant/auto/*/lock")]}
        with open("/proc/locks") as locks:
            for line in locks:
                number = re.search(r":(\d+) ", line)
                if number and number[1] in numbers:
                    fail(f"{what}: a lock on {numbers[number[1]]} is left: {line}")

    def _check_files(self, what):
        found = [os.path.relpath(os.path.join(where, name), self.folder)
                 for where, folders, files in os.walk(self.folder) for name in [*folders, *files]]
        wrong = [name for name in found if name not in ("disk", "tmp", "cache", "share", "disk/disk.img", "disk/data.img") and
                 not (name.startswith("cache/") and STAYS.match(name[len("cache/"):]))]
        if wrong:
            fail(f"{what}: files are left: {wrong}")


class Run:
    def __init__(self, place):
        self.place, self.text, self.connection = place, "", None
        self.messages = tempfile.TemporaryFile("w+", dir="/var/tmp")
        self.began = time.monotonic()
        self.process = subprocess.Popen(place.command, env=place.environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.messages, start_new_session=True)

    def complain(self, text):
        self.messages.seek(0)
        fail(f"{text}; the run said\n{self.messages.read()}\nthe guest printed\n{self.text[-3000:]}")

    def _read(self, patience):
        """Some output; connects first."""
        if not self.connection:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self.place.serial)
                connection.settimeout(patience)
                self.connection = connection
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                time.sleep(min(0.01, patience))
                return
        self.connection.settimeout(max(0.001, patience))
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            data = self.connection.recv(65536)
            self.text += data.decode(errors="replace")
            if not data:
                time.sleep(min(0.01, patience))

    def until(self, text, deadline):
        """Whether the guest prints it in time. An end of the run before that is none in time."""
        while text not in self.text:
            left = deadline - time.monotonic()
            if left <= 0 or self.process.poll() is not None:
                return False
            self._read(min(left, 0.2))
        return True

    def expect(self, text):
        if not self.until(text, time.monotonic() + PATIENCE):
            self.complain(f"no '{text}' ({self.process.poll()})")

    def wait(self, deadline):
        """The exit status, or None if it runs on; takes what the guest prints meanwhile."""
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(min(0.05, max(0.001, deadline - time.monotonic())))
        return self.process.poll()

    def end(self):
        if self.connection:
            self.connection.close()
        self.process.wait(PATIENCE)
        self.messages.close()

    def complete(self):
        """To the login prompt and off again."""
        self.expect("login: ")
        self.process.send_signal(signal.SIGTERM)
        status = self.wait(time.monotonic() + PATIENCE)
        if status != 0:
            self.complain(f"exit status {status} after SIGTERM at the login prompt")
        self.end()

    def up_to(self, moment):
        """Lets it go on until then, as complete() does."""
        if self.until("login: ", moment):
            self.process.send_signal(signal.SIGTERM)
        self.wait(moment)


def check_next_launch(place, number):
    run = place.launch()
    if number % FULL_LAUNCH == FULL_LAUNCH - 1:
        run.complete()
    else:
        run.expect("Linux version")
        run.process.kill()
        run.end()
    place.check_nothing_left(f"the launch after number {number}")


def random_moment(draw, number, whole):
    """Seconds after the start."""
    return 10 ** draw.uniform(-3, 0) if number % 3 == 0 else draw.uniform(0, whole)


def one_kill(place, number, seconds):
    run = place.launch()
    run.up_to(run.began + seconds)
    status = run.process.poll()
    if status:
        run.complain(f"exit status {status} before kill {number}")
    run.process.kill()
    run.end()
    place.check_nothing_left(f"kill {number}, after {seconds:.3f} s")
    return "had ended" if status is not None else "killed"


def one_term(place, number, seconds, pause):
    run = place.launch()
    run.until("no such text", run.began + seconds)
    run.process.send_signal(signal.SIGTERM)
    status = run.wait(time.monotonic() + pause)
    if status is None:
        run.process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        status = run.wait(asked + PATIENCE)
        if time.monotonic() > asked + GONE:
            run.complain(f"the second SIGTERM took {time.monotonic() - asked:.1f} s")
    # before the run listens to signals the first one ends it
    if status not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
        run.complain(f"exit status {status} after two SIGTERMs, at {seconds:.3f} s and {pause:.3f} s later")
    run.end()
    place.check_nothing_left(f"SIGTERM {number}, after {seconds:.3f} s")
    return f"status {status}"


def check_disk(disk):
    found = subprocess.run(["e2fsck", "-fn", disk], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if found.returncode:
        fail(f"e2fsck: status {found.returncode}\n{found.stdout}")


def parse():
    parser = argparse.ArgumentParser(add_help=False)
    for name in "avant", "image":
        parser.add_argument(name)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--option", action="append", default=[])
    if "--help" in sys.argv:
        print(__doc__)
        sys.exit(0)
    options = parser.parse_args()
    options.avant = os.path.abspath(options.avant)
    return options


def end_children():
    """What is left when the test has failed; its children come to this process when it is gone."""
    while left := children():
        for number in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        reap()
        time.sleep(0.01)


def main():
    options = parse()
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        fail("cannot become a subreaper")
    atexit.register(end_children)
    draw = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kill-test-", dir="/var/tmp") as folder:
        place = Place(options, folder)
        for what in "the first run", "a whole run":  # the second one has a cache
            run = place.launch()
            run.complete()
            whole = time.monotonic() - run.began
            place.check_nothing_left(what)
        print(f"a whole run takes {whole:.1f} s", flush=True)
        ends = {}
        for number in range(options.kills + options.terms):
            seconds = random_moment(draw, number, whole)
            if draw.random() < 0.1:
                place.forget_cache()
            if number < options.kills:
                end = one_kill(place, number, seconds)
            else:
                end = one_term(place, number, seconds, 10 ** draw.uniform(-3, 0))
            ends[end] = ends.get(end, 0) + 1
            check_next_launch(place, number)
            if number % 10 == 9:
                print(f"{number + 1}: {ends}", flush=True)
        run = place.launch()
        run.complete()
        place.check_nothing_left("the last run")
        check_disk(place.disk)
    print(f"kill-test: {options.kills} kills and {options.terms} double SIGTERMs left nothing behind: {ends}")


main()
