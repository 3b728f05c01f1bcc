#!/usr/bin/env python3
"""Two guests at once with one cache share its pages: two-guests-test.py AVANT [OPTION...]

  --image FILE   a disk of tools/mkimage.sh, launched to its login prompt (default: Debian's cloud kernel and a shell)
  --cache FILE   made for it (default: one from a recorded launch)

/proc/PID/smaps of the first guest is looked at while it is alone, and when the second one has come to its prompt as well:
then the proportional share (Pss) of the cache's code, and of all else that is mapped read-only from the file, must have
fallen to a half, and no page may be dirty. (Pss against Rss says less: a page that one process has mapped twice, as code and
with the whole file, counts as shared.) Prints the figures. Exit status 77 if no kernel can be fetched.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

from session import Session

HERE = os.path.dirname(os.path.abspath(__file__))
FIELDS = ("Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty")
SHARE_MAX = 0.55  # of the Pss alone; two guests do not touch exactly the same pages
CODE_MIN = 4096  # KiB of code that guests which came to their prompts have surely executed from the cache


def fail(text):
    sys.exit(f"two-guests-test: {text}")


def mappings(pid, cache):
    """{"code", "read-only" or "private": {field: KiB}} of what is mapped from the file; private is what may be written."""
    status, found, into = os.stat(cache), {}, None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            head = re.match(r"[0-9a-f]+-[0-9a-f]+ (\S+) \S+ (\S+) (\d+)", line)
            if head:
                kind = "private" if "w" in head[1] else "code" if "x" in head[1] else "read-only"
                is_cache = int(head[3]) == status.st_ino and head[2] == device
                into = found.setdefault(kind, dict.fromkeys(FIELDS, 0)) if is_cache else None
            elif into is not None and line.split(":")[0] in FIELDS:
                into[line.split(":")[0]] += int(line.split()[1])
    return found


def make_guest(options, folder):
    """Options of avant run, and what the guest prints when it is ready."""
    if options.image:
        return ["--image", options.image, "--snapshot", "--memory", "1G"], "login: "
    fetched = subprocess.run(["sh", os.path.join(HERE, "fetch-kernel.sh"), "linux-image-cloud-amd64"], stdout=subprocess.PIPE,
                             text=True)
    if fetched.returncode:
        sys.exit(77)
    initrd = os.path.join(folder, "initrd.img")
    subprocess.run(["sh", os.path.join(HERE, "mkinitrd.sh"), "-o", initrd], check=True)
    return ["--kernel", fetched.stdout.strip(), "--initrd", initrd, "--append", "console=ttyS0 quiet panic=-1"], "# "


def make_cache(avant, guest, prompt, folder):
    recording, cache = os.path.join(folder, "guest.rec"), os.path.join(folder, "guest.tcache")
    with Session([avant, "run", *guest, "--record", recording]) as session:
        session.expect(prompt, 300)
        session.end()  # recordings are written at any end but SIGKILL
    subprocess.run([avant, "translate", "--profile", recording, "--output", cache], check=True, stdout=subprocess.DEVNULL)
    return cache


def check(kind, alone, both):
    for figures in alone, both:
        if figures["Private_Dirty"] or figures["Shared_Dirty"]:
            fail(f"{kind} pages of the cache are dirty: {figures}")
    if both["Pss"] > SHARE_MAX * alone["Pss"]:
        fail(f"{kind} pages are not shared: Pss {both['Pss']} KiB beside another guest, {alone['Pss']} KiB without")


def show(what, found):
    for kind, figures in found.items():
        print(f"{what}, {kind}: " + ", ".join(f"{name} {figures[name]:,}" for name in FIELDS) + " KiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avant")
    parser.add_argument("--image")
    parser.add_argument("--cache")
    parser.add_argument("--other-cache", help="another file for the second guest: then the test must fail")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="two-guests-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        guest, prompt = make_guest(options, folder)
        cache = options.cache or make_cache(options.avant, guest, prompt, folder)
        command = [options.avant, "run", *guest, "--engine", "aot", "--cache"]
        with Session([*command, cache]) as first:
            first.expect(prompt, 300)
            alone = mappings(first.process.pid, cache)
            show("alone", alone)
            with Session([*command, options.other_cache or cache]) as second:
                second.expect(prompt, 300)
                both = mappings(first.process.pid, cache)
    show("beside another", both)
    if alone.get("code", {}).get("Rss", 0) < CODE_MIN:
        fail("hardly any code of the cache is in use")
    for kind in "code", "read-only":
        check(kind, alone[kind], both[kind])


main()
