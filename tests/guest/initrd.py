"""Makes an initramfs with kernel modules in it, for tests and benchmarks in Python."""

import lzma
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def make(output, kernel, modules, files, programs=()):
    """An initramfs (mkinitrd.sh) with programs of this host, `files` ("SOURCE:DESTINATION") and modules with what they need.

    The guest loads them with `for module in $(cat /lib/modules.list); do insmod $module; done`.
    """
    output = pathlib.Path(output)
    work = output.with_suffix(".files")
    work.mkdir(exist_ok=True)
    found = subprocess.run([sys.executable, HERE / "modules.py", kernel, *modules], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.split()
    command = ["sh", HERE / "mkinitrd.sh", "-o", output]
    names = []
    for path in map(pathlib.Path, found):
        data = path.read_bytes()
        name = path.name.split(".ko")[0] + ".ko"
        (work / name).write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
        names.append(f"/lib/{name}")
        command += ["--file", f"{work / name}:/lib/{name}"]
    (work / "modules.list").write_text("\n".join(names) + "\n")
    for program in programs:
        command += ["--add", program]
    for file in [f"{work}/modules.list:/lib/modules.list", *files]:
        command += ["--file", file]
    subprocess.run(command, check=True)
