#!/usr/bin/env python3
"""Boots a guest, reads the code of the modules that it has loaded, and compares it with what the pre-scan predicted.

    module-bytes.py AVANT MODULE_TOOL --image IMAGE [OPTION]...
    module-bytes.py AVANT MODULE_TOOL --kernel VMLINUZ --initrd INITRD --modules DIRECTORY [OPTION]...

The first form logs in as root without a password and takes the kernel and the modules out of the image; the second one's
initramfs is one of mkinitrd.sh with modules, which are found in DIRECTORY or below. Options: --least PERCENT of the
functions have to be equal outside of holes (99), --holes PERCENT of the holes whose targets are known have to be right
(99.9), --load "NAME..." loads more modules, --keep DIRECTORY keeps what was read, --show prints each difference.
"""

import argparse
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "guest"))
from gdb_client import Client  # noqa: E402
from session import Session  # noqa: E402

# one line for each fact; addresses of code and data, of symbols that modules export or keep
FACTS = r"""cd /sys/module && for m in *; do
[ -e $m/sections/.text ] || [ -e $m/sections/.exit.text ] || [ -e $m/sections/.init.text ] || continue
echo module $m $(sed -n "s/^$m \([0-9]*\) .*/\1/p" /proc/modules)
for s in $m/sections/* $m/sections/.[a-z_]*; do [ -f $s ] && echo section ${s##*/} $(cat $s); done; done
sed -n 's/^\([0-9a-f]*\) . \([^\t ]*\)[\t ]\[\(.*\)\]$/symbol \2 \1 \3/p' /proc/kallsyms"""


class Guest:
    """A guest that waits for commands; its gdb connection is there when it has booted."""

    def __init__(self, arguments):
        command = [arguments.avant, "run", "--gdb", ":0", "--memory", "1G"]
        if arguments.image:
            command += ["--image", arguments.image, "--snapshot"]
        else:
            command += ["--kernel", arguments.kernel, "--initrd", arguments.initrd,
                        "--append", "console=ttyS0 quiet panic=-1"]
        self.session = Session(command)
        port = int(self.session.expect(r"waiting for gdb at .*:(\d+)\n", 60)[1])
        self.client = Client(port)
        self.client.send("c")
        if arguments.image:
            self.session.login()
        else:
            self.session.expect("AVANT-SHELL-READY", 120)
            self.session.send("stty -echo; PS1= PS2=\n")

    def run(self, command):
        return self.session.run(command, timeout=300).output

    def stop(self):
        self.client.interrupt()

    def end(self):
        self.session.end()


def taken_out(avant, image, path, directory):
    """The file of an image, as a file here."""
    name = pathlib.Path(directory) / pathlib.PurePath(path).name
    with open(name, "wb") as output:
        subprocess.run([avant, "image", "cat", image, path], stdout=output, check=True)
    return name


def files_of_image(arguments, guest, names, directory):
    release = guest.run("uname -r")
    kernel = taken_out(arguments.avant, arguments.image, f"/boot/vmlinuz-{release}", directory)
    listed = guest.run(f"cat /lib/modules/{release}/modules.dep | sed 's/:.*//'").split()
    paths = {module_name(path): path for path in listed}
    return kernel, [taken_out(arguments.avant, arguments.image, f"/lib/modules/{release}/{paths[name]}", directory)
                    for name in names]


def module_name(path):
    return pathlib.PurePath(path).name.split(".ko")[0].replace("-", "_")


def files_of_directory(arguments, names):
    paths = {module_name(path): path for path in pathlib.Path(arguments.modules).glob("**/*.ko*")}
    return arguments.kernel, [paths[name] for name in names]


def write_facts(text, directory):
    """Facts by module; returns {module: (size in memory, address of its code)}."""
    modules, own, symbols = {}, {}, {}
    for line in text.splitlines():
        match line.split():
            case ["module", name, *size]:
                own[name] = []
                current = name
                modules[name] = [int(size[0]) if size else 0, 0]
            case ["section", name, address]:
                own[current].append((name, int(address, 16)))
            case ["symbol", name, address, owner]:
                symbols.setdefault(name, []).append((owner, address))
    for name, sections in own.items():
        code = [address for section, address in sections
                if re.match(r"\.(text|exit\.text|noinstr\.text|static_call\.text|altinstr_replacement)", section)]
        modules[name][1] = min(code)
        with open(f"{directory}/{name}.facts", "w") as output:
            for section, address in sections:
                print("section", section, f"{address:x}", file=output)
            # a module's own symbols hide those of others
            for symbol, owners in symbols.items():
                mine = [address for owner, address in owners if owner == name]
                for address in mine or [address for _, address in owners]:
                    print("symbol", symbol, address, file=output)
    return modules


def main():
    parser = argparse.ArgumentParser()
    for name in ("avant", "tool"):
        parser.add_argument(name)
    for name in ("image", "kernel", "initrd", "modules", "keep"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--load", default="")
    parser.add_argument("--least", type=float, default=99)
    parser.add_argument("--holes", type=float, default=99.9)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.keep or temporary
        pathlib.Path(directory).mkdir(exist_ok=True)
        guest = Guest(arguments)
        try:
            for name in arguments.load.split():
                guest.run(f"modprobe {shlex.quote(name)}")
            modules = write_facts(guest.run(FACTS), directory)
            kernel, files = (files_of_image(arguments, guest, modules, directory) if arguments.image
                             else files_of_directory(arguments, modules))
            guest.stop()
            for name, (size, address) in modules.items():
                code = guest.client.read(address, size)
                (pathlib.Path(directory) / f"{name}.text").write_bytes(code)
        finally:
            guest.end()
        result = subprocess.run([arguments.tool, kernel, "--facts", directory, *(["--show"] if arguments.show else []),
                                 *files], stdout=subprocess.PIPE, text=True, check=True)
    print(result.stdout, end="")
    equal = float(re.search(r"^equal .* ([\d.]+) % of \d+ functions", result.stdout, re.M)[1])
    right, wrong = map(int, re.search(r"^holes: .* right (\d+), wrong (\d+)", result.stdout, re.M).groups())
    if equal < arguments.least:
        sys.exit(f"only {equal} % of the functions are as predicted, at least {arguments.least} % are expected")
    if not right or 100 * right < arguments.holes * (right + wrong):
        sys.exit(f"of {right + wrong} holes only {right} are as predicted")


if __name__ == "__main__":
    main()
