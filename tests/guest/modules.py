#!/usr/bin/env python3
"""Prints the files of kernel modules and of those that they need, each once, in an order in which they can be loaded:
    modules.py VMLINUZ MODULE...
VMLINUZ is what fetch-kernel.sh --modules printed. What is built into that kernel is left out."""
import lzma
import pathlib
import re
import sys


def read(path):
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def needs(path):
    found = re.search(rb"\0depends=([^\0]*)\0", read(path))
    return found.group(1).decode().split(",") if found and found.group(1) else []


def name_of(path):
    return pathlib.Path(path).name.split(".ko")[0].replace("-", "_")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    kernel = pathlib.Path(sys.argv[1])
    root = kernel.parent.parent / "lib/modules" / kernel.name.removeprefix("vmlinuz-")
    files = {name_of(path): path for path in root.glob("kernel/**/*.ko*")}
    builtin = {name_of(line) for line in (root / "modules.builtin").read_text().split()}
    done = set()

    def load(name):
        name = name.replace("-", "_")
        if name in done or name in builtin:
            return
        done.add(name)
        if name not in files:
            sys.exit(f"modules.py: no module '{name}' in '{root}'")
        for other in needs(files[name]):
            load(other)
        print(files[name])

    for name in sys.argv[2:]:
        load(name)


main()
