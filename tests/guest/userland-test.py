#!/usr/bin/env python3
"""A day's work in Debian on a disk: test suites, compilers, interpreters, load, network, shared folders. What they say in the
guest must be what they say on this host in a chroot of the same root (userland/sets; ssh is made here).

The image is made once (tools/mkimage.sh, some 3 GB in the cache of guests); each set has a launch of its own, with --snapshot.
Needs root (for the chroot), Debian's mirror and an hour."""

import argparse
import contextlib
import functools
import glob
import hashlib
import http.server
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
USERLAND = os.path.join(HERE, "userland")
sys.path.insert(0, USERLAND)
import compare  # noqa: E402
from session import GuestError, Session  # noqa: E402

GATEWAY = "10.0.2.2"  # this host's loopback, for the guest
PACKAGES = ("bc,bzip2,cpio,file,gcc,git,gzip,libc6-dev,libpython3.11-testsuite,make,openssl,perl,procps,python3,rsync,sqlite3,"
            "stress-ng,xz-utils,zstd,locales,netbase")
SOURCES = "lua5.4 zlib bzip2 tcc perl openssl"
INSTALLED = "g++"  # by the set apt
SSH_MEGABYTES = 500
# set: minutes that it may take in the guest
SETS = {"sqlite": 10, "git": 10, "perl": 30, "apt": 10, "ssh": 10, "share": 10, "archive": 20, "openssl": 60, "build": 40,
        "python": 90, "stress": 60}


def fail(text):
    sys.exit(f"userland-test.py: {text}")


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- what is needed, made once ---------------------------------------------------------------------------------------

class Inputs:
    """The image, its root as a directory, and what sets build or install."""

    def __init__(self, update):
        guests = os.environ.get("AVANT_GUESTS") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "avant", "guests")
        self.folder = os.path.join(guests, "userland")
        self.image, self.root, self.files = (os.path.join(self.folder, name) for name in ("disk.img", "root", "files"))
        self.key = os.path.join(self.folder, "key")
        self.openssl_tests = open(os.path.join(USERLAND, "openssl-tests.sh")).read()
        recipe = hashlib.sha256(f"{PACKAGES} {SOURCES} {INSTALLED} {self.openssl_tests}".encode()).hexdigest()
        mark = os.path.join(self.folder, "recipe")
        if not update and os.path.exists(mark) and open(mark).read() == recipe:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        print("making the image; this takes a few minutes", file=sys.stderr)
        self.make()
        with open(mark, "w") as out:
            out.write(recipe)

    def make(self):
        log = open(os.path.join(self.folder, "log"), "w")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        run("sh", os.path.join(TOP, "tools", "mkimage.sh"), "--size", "8G", "--kernel", "linux-image-amd64", "--hostname", "guest",
            "--ssh-key", f"{self.key}.pub", "--include", PACKAGES, self.image, stdout=log, stderr=log)
        os.mkdir(self.root)
        run("debugfs", "-R", f"rdump / {self.root}", self.image, stdout=log, stderr=log)
        os.makedirs(os.path.join(self.files, "packages"))
        apt = self.apt(log)
        run(*apt, "source", "--download-only", *SOURCES.split(), cwd=self.files, stdout=log, stderr=log)
        lines = run(*apt, "-o", f"Dir::State::status={self.root}/var/lib/dpkg/status", "install", "--no-install-recommends",
                    "--print-uris", "-qq", "-y", INSTALLED, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        names = [line.split()[1].rsplit("_", 2)[0] for line in lines if line.startswith("'")]
        run(*apt, "download", *names, cwd=os.path.join(self.files, "packages"), stdout=log, stderr=log)
        with open(os.path.join(self.files, "packages", "Packages"), "w") as out:
            run("dpkg-scanpackages", "-m", ".", "/dev/null", cwd=os.path.join(self.files, "packages"), stdout=out, stderr=log)
        self.make_tree(os.path.join(self.files, "tree"))
        self.make_openssl_tests()

    def apt(self, log):
        """apt-get with lists of its own, of the suite that the image is."""
        lists = os.path.join(self.folder, "lists")
        os.makedirs(os.path.join(lists, "partial"))
        with open(os.path.join(self.folder, "sources.list"), "w") as out:
            for path in glob.glob(os.path.join(self.root, "etc/apt/sources.list*", "*.list")):
                for line in open(path):
                    if line.startswith("deb "):
                        # upstream's sources are the same without security updates, whose sources not every mirror has
                        out.write(line if "security" in line else line + "deb-src" + line[3:])
        apt = ["apt-get", "-o", f"Dir::Etc::sourcelist={self.folder}/sources.list", "-o", "Dir::Etc::sourceparts=-",
               "-o", f"Dir::State::Lists={lists}", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"]
        run(*apt, "update", stdout=log, stderr=log)
        return apt

    def make_openssl_tests(self):
        with tempfile.TemporaryDirectory(prefix="avant-userland-", dir=self.folder) as work:
            job, made = os.path.join(work, "job"), os.path.join(work, "job", "openssl-tests.tar.zst")
            make_job(self, job, self.openssl_tests)
            on_host(self, job, os.path.join(self.folder, "log.openssl"), os.path.join(work, "layer"))
            if not os.path.exists(made):
                fail(f"openssl's tests could not be built: see {self.folder}/log.openssl")
            os.rename(made, os.path.join(self.files, os.path.basename(made)))

    @staticmethod
    def make_tree(folder):
        draw = random.Random(9)
        for number in range(3000):
            place = os.path.join(folder, f"d{number % 40}", f"e{number % 7}")
            os.makedirs(place, exist_ok=True)
            with open(os.path.join(place, f"file{number}"), "wb") as out:
                out.write(draw.randbytes(int(2 ** draw.uniform(0, 17))))
            if number % 10 == 0:
                os.chmod(os.path.join(place, f"file{number}"), draw.choice((0o600, 0o755, 0o444)))
                os.symlink(f"../e1/file{number}", os.path.join(place, f"link{number}"))


# --- servers on this host's loopback -----------------------------------------------------------------------------------

class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Servers:
    """The package directory by HTTP, and a repository by git's protocol."""

    def __init__(self, inputs, folder):
        handler = functools.partial(QuietHandler, directory=os.path.join(inputs.files, "packages"))
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.package_port, self.git_port = self.http.server_address[1], free_port()
        repository = os.path.join(folder, "git", "repository")
        os.makedirs(repository)
        self.fill(repository)
        self.git = subprocess.Popen(["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={self.git_port}",
                                     f"--base-path={os.path.dirname(repository)}"], stderr=subprocess.DEVNULL,
                                    start_new_session=True)

    @staticmethod
    def fill(repository):
        git = ["git", "-C", repository, "-c", "user.name=n", "-c", "user.email=a@b"]
        draw = random.Random(11)
        environment = dict(os.environ, GIT_AUTHOR_DATE="2020-01-01T00:00:00Z", GIT_COMMITTER_DATE="2020-01-01T00:00:00Z")
        run("git", "init", "-q", repository)
        for commit in range(10):
            for number in range(200):
                with open(os.path.join(repository, f"f{draw.randrange(1500)}"), "w") as out:
                    out.write("\n".join(f"{draw.getrandbits(200):x}" for _ in range(draw.randrange(1, 300))))
            run(*git, "add", "-A")
            run(*git, "commit", "-q", "-m", f"commit {commit}", env=environment)

    def close(self):
        self.http.shutdown()
        os.killpg(self.git.pid, 15)
        self.git.wait()

    def settings(self):
        return f"package_port={self.package_port} git_port={self.git_port}\n"


# --- a set on the host and in the guest ----------------------------------------------------------------------------------

# In namespaces of its own, on a layer above the root: nothing of it stays.
ON_HOST = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$3"
mkdir "$3/upper" "$3/work" "$3/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$3/upper,workdir=$3/work" "$3/root"
mkdir -p "$3/root/job"
mount --bind "$2" "$3/root/job"
mount -t tmpfs tmpfs "$3/root/run"
mount -t proc proc "$3/root/proc"
mount --rbind /dev "$3/root/dev"
mount --rbind /sys "$3/root/sys"
hostname guest
exec chroot "$3/root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
	TERM=dumb setsid sh -c 'sh /job/run 127.0.0.1; echo JOB-STATUS $?'
"""
IN_GUEST = ("mkdir -p /job; mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 job /job; cd /; "
            "env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb "
            f"setsid -w sh -c 'sh /job/run {GATEWAY}; echo JOB-STATUS $?' </dev/null >/job/output 2>&1; "
            "dmesg | grep -E 'WARNING|BUG:|Oops|lockup|stall' >>/job/output; true")


def make_job(inputs, folder, script):
    """A folder with the script as `run`, after lib.sh, and what the scripts use."""
    os.makedirs(folder)
    with open(os.path.join(folder, "run"), "w") as out:
        out.write(open(os.path.join(USERLAND, "lib.sh")).read() + script)
    # links would lead out of the share
    os.mkdir(os.path.join(folder, "files"))
    run("cp", "-al", *[path for path in glob.glob(os.path.join(inputs.files, "*"))
                       if not path.endswith("packages")], os.path.join(folder, "files"))


def on_host(inputs, job, output, work):
    os.makedirs(work, exist_ok=True)
    with open(output, "wb") as out:
        subprocess.run(["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", ON_HOST, "sh",
                        inputs.root, job, work], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)


def guest_command(options, inputs, *more):
    return [options.avant, "run", "--image", inputs.image, "--snapshot", "--memory", options.memory, *options.option, *more]


def in_guest(options, inputs, name, job, output, log):
    command = guest_command(options, inputs, "--net", "user", "--share", f"{job},tag=job")
    try:
        with Session(command, log) as guest:
            guest.login(600)
            guest.run(IN_GUEST, timeout=SETS[name] * 60)
            guest.power_off()
    except GuestError as error:
        print(f"  {str(error).splitlines()[0]}", file=sys.stderr)
    written = os.path.join(job, "output")
    shutil.copyfile(written if os.path.exists(written) else os.devnull, output)


def ssh_set(options, inputs, work, log):
    """ssh from the host, and a file by scp in both directions: what must be the same are its sums."""
    port, results = free_port(), []
    key = ["-i", inputs.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
           "-o", "BatchMode=yes"]
    data, back = os.path.join(work, "data"), os.path.join(work, "back")
    os.makedirs(work)
    with open(data, "wb") as out:
        for _ in range(SSH_MEGABYTES):
            out.write(os.urandom(1 << 20))
    summed = hashlib.sha256(open(data, "rb").read()).hexdigest()

    def timed(name, *command):
        began = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
        results.append(f"TIME {name} {time.monotonic() - began:.2f}")
        return done.stdout.split()[0] if done.returncode == 0 and done.stdout else f"status {done.returncode}"

    with Session(guest_command(options, inputs, "--net", f"user,hostfwd=tcp:127.0.0.1:{port}-:22"), log) as guest:
        guest.login(600)
        remote = ["ssh", *key, "-p", str(port), "root@127.0.0.1"]
        results.append("RESULT ssh: " + timed("ssh", *remote, "uname -m"))
        timed("scp to the guest", "scp", "-q", *key, "-P", str(port), data, "root@127.0.0.1:/root/data")
        results.append("RESULT sent: " + timed("sum in the guest", *remote, "sha256sum /root/data"))
        timed("scp from the guest", "scp", "-q", *key, "-P", str(port), "root@127.0.0.1:/root/data", back)
        results.append("RESULT received: " + timed("sum here", "sha256sum", back))
        guest.power_off()
    os.unlink(data)
    want = [f"RESULT ssh: {os.uname().machine}", f"RESULT sent: {summed}", f"RESULT received: {summed}"]
    return "\n".join([*want, "JOB-STATUS 0", ""]), "\n".join([*results, "JOB-STATUS 0", ""])


def do_set(options, inputs, servers, name, work):
    host, guest = (os.path.join(options.logs, f"{name}.{side}") for side in ("host", "guest"))
    log = os.path.join(options.logs, f"{name}.console")
    if name == "ssh":
        try:
            texts = ssh_set(options, inputs, os.path.join(work, "ssh"), log)
        except (GuestError, subprocess.SubprocessError, OSError) as error:
            texts = ("", f"# {error}\n")
        for path, text in zip((host, guest), texts):
            with open(path, "w") as out:
                out.write(text)
    else:
        script = servers.settings() + open(os.path.join(USERLAND, "sets", name)).read()
        # what is made to put a machine under stress is not let loose on this one
        if name != "stress" and not (options.keep_host and os.path.exists(host)):
            make_job(inputs, os.path.join(work, f"{name}.host"), script)
            on_host(inputs, os.path.join(work, f"{name}.host"), host, os.path.join(work, "layer"))
        make_job(inputs, os.path.join(work, f"{name}.guest"), script)
        in_guest(options, inputs, name, os.path.join(work, f"{name}.guest"), guest, log)
    return compare.compare(name, "-" if name == "stress" else host, guest, os.path.join(USERLAND, "known"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Example: tests/guest/userland-test.py --logs logs sqlite git")
    parser.add_argument("--avant", default=os.path.join(TOP, "build", "avant"))
    parser.add_argument("--memory", default="2G", help="the guest's (default: 2G)")
    parser.add_argument("--logs", help="folder where the outputs stay (default: they go)")
    parser.add_argument("--keep-host", action="store_true", help="take what the host said from --logs if it is there")
    parser.add_argument("--option", action="append", default=[], help="one more word for avant run (repeatable)")
    parser.add_argument("--update", action="store_true", help="make the image anew")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{' '.join(SETS)} (default: all)")
    options = parser.parse_args()
    unknown = [name for name in options.sets if name not in SETS]
    if unknown:
        fail(f"no set '{unknown[0]}'; there are {' '.join(SETS)}")
    if os.geteuid() != 0:
        fail("must be run as root, for a chroot")
    inputs = Inputs(options.update)
    failed = False
    with tempfile.TemporaryDirectory(prefix="avant-userland-", dir=os.environ.get("TMPDIR", "/var/tmp")) as work:
        options.logs = options.logs or os.path.join(work, "logs")
        os.makedirs(options.logs, exist_ok=True)
        servers = Servers(inputs, work)
        print(compare.HEADING)
        try:
            for name in options.sets or SETS:
                failed |= not do_set(options, inputs, servers, name, work)
        finally:
            servers.close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
