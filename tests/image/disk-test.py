#!/usr/bin/env python3
"""Disk images made by mke2fs, debugfs and sfdisk, archives made by tar, cpio and Python: what avant image sees in them must
be what was put in; what is damaged must be named, and nothing may crash. disk-test.py AVANT; exit status 77: skipped."""
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile

AVANT = os.path.abspath(sys.argv[1])
os.environ["PATH"] += ":/usr/sbin:/sbin"
failures = 0


def check(what, condition, *details):
    global failures
    if not condition:
        failures += 1
        print("FAILED:", what, *details)


def run(*command, data=None):
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)


def need(*command, data=None):
    result = run(*command, data=data)
    if result.returncode:
        raise SystemExit("%s: %s" % (" ".join(command), result.stderr.decode()))
    return result.stdout


def image(*arguments, status=0):
    """avant image; its output. It must not have been ended by a crash of the reader."""
    result = run(AVANT, "image", *arguments)
    text = result.stderr.decode(errors="replace")
    check(" ".join(arguments), result.returncode == status, "status", result.returncode, text)
    check(" ".join(arguments), "made to attack" not in text and "sensibly" not in text, text)
    return result.stdout, text


def info(path):
    return json.loads(image("info", "--json", path)[0])


# ---- trees ----

def make_tree(root):
    """Files of all kinds; returns {path: contents, or target of a link, or None}."""
    rng = random.Random(1)
    tree = {}

    def add(path, contents):
        os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
        with open(os.path.join(root, path), "wb") as file:
            file.write(contents)
        tree[path] = contents

    add("empty", b"")
    add("small", b"small\n")
    add("block", rng.randbytes(4096))
    add("large/file", rng.randbytes(3_000_001))
    add("names/with blank", b"1")
    add("names/" + "n" * 255, b"2")
    add("names/tab\tand\\backslash", b"3")
    add("names/\u00e4\u20ac", b"4")
    for i in range(300):
        add("many/file-%03d" % i, b"%d" % i)
    deep = "/".join("d%d" % i for i in range(60))
    add(deep + "/file", b"deep")
    with open(os.path.join(root, "holes"), "wb") as file:  # a hole at the beginning, between, at the end
        file.seek(1 << 20)
        file.write(b"a" * 5000)
        file.seek(3 << 20)
        file.write(b"b" * 5000)
        file.truncate(5 << 20)
    with open(os.path.join(root, "holes"), "rb") as file:
        tree["holes"] = file.read()
    os.symlink("/small", os.path.join(root, "link"))
    os.symlink("../../../../small", os.path.join(root, "large/up"))
    os.symlink("x" * 200, os.path.join(root, "long-link"))
    os.symlink("loop", os.path.join(root, "loop"))
    tree.update({"link": "/small", "large/up": "../../../../small", "long-link": "x" * 200, "loop": "loop"})
    os.link(os.path.join(root, "small"), os.path.join(root, "hard"))
    tree["hard"] = b"small\n"
    os.mkfifo(os.path.join(root, "fifo"))
    tree["fifo"] = None
    return tree


def unescape(name):
    return name.encode("latin-1").decode("unicode_escape").encode("latin-1").decode() if "\\" in name else \
        name.encode("latin-1").decode()


def listing(path, *options):
    output = image("ls", "-R", "-l", *options, path, "/")[0].decode("latin-1")
    entries = {}
    for line in output.splitlines():
        fields = line.split(None, 7)
        name, _, target = fields[7].partition(" -> ") if line[0] == "l" else (fields[7], "", "")
        entries[unescape(name)] = (line[0], int(fields[4]) if "," not in fields[4] else 0, target)
    return entries


def compare(what, path, tree, *options):
    found = listing(path, *options)
    found.pop("lost+found", None)
    files = {name: entry for name, entry in found.items() if entry[0] != "d"}
    check(what + ": names", files.keys() == tree.keys(), files.keys() ^ tree.keys())
    for name, contents in tree.items():
        kind, size, target = files.get(name, ("?", 0, ""))
        if contents is None:
            check(what, kind == "p", name, kind)
        elif isinstance(contents, str):
            check(what, (kind, target) == ("l", contents), name, kind, target)
        else:
            check(what, (kind, size) == ("-", len(contents)), name, kind, size)
    names = [n for n in tree if isinstance(tree[n], bytes)]
    whole = image("cat", *options, path, *names)[0]
    check(what + ": contents", whole == b"".join(tree[n] for n in names))
    check(what + ": link", image("cat", *options, path, "large/up", "link")[0] == b"small\nsmall\n")
    text = image("cat", *options, path, "loop", status=1)[1]
    check(what, "too many symlinks" in text, text)


# ---- file systems ----

def make_fs(path, root, *options, size="32M"):
    need("mke2fs", "-q", "-F", *options, "-d", root, path, size)


def test_pieces(work, root):
    """A file in more pieces than can be told in one message."""
    path = os.path.join(work, "disk")
    name = os.path.join(root, "pieces")
    with open(name, "wb") as file:
        for i in range(4200):
            file.seek(i * 2048)
            file.write(b"%08d" % i * 128)
    make_fs(path, root, "-t", "ext4", "-b", "1024", size="32M")
    with open(name, "rb") as file:
        check("pieces", image("cat", path, "pieces")[0] == file.read())
    os.unlink(path)
    os.unlink(name)


def test_file_systems(work, root, tree):
    kinds = {
        "ext4": ("-t", "ext4"),
        "ext4, small blocks": ("-t", "ext4", "-b", "1024"),
        "ext4, inline data": ("-t", "ext4", "-O", "inline_data", "-I", "256"),
        "ext4, no checksums": ("-t", "ext4", "-O", "^metadata_csum,^64bit"),
        "ext3": ("-t", "ext3"),
        "ext2": ("-t", "ext2", "-b", "1024", "-O", "^dir_index"),
    }
    path = os.path.join(work, "disk")
    for name, options in kinds.items():
        expected = dict(tree)
        if "inline" in name:  # mke2fs drops the hole at the end of a file then
            del expected["holes"]
            os.rename(os.path.join(root, "holes"), os.path.join(work, "holes"))
        make_fs(path, root, *options, size="32M")
        compare(name, path, expected)
        if "inline" in name:
            os.rename(os.path.join(work, "holes"), os.path.join(root, "holes"))
        volume = info(path)["volumes"][0]
        check(name, volume["type"] == name[:4] and volume["readable"], volume)
        os.unlink(path)


def test_partitions(work, root, tree):
    """The same in partitions: GPT, MBR with a logical one; what is in others is named."""
    path = os.path.join(work, "disk")
    part = os.path.join(work, "part")
    boot = os.path.join(work, "boot")
    os.makedirs(boot)
    with open(os.path.join(boot, "vmlinuz-1"), "w") as file:
        file.write("kernel")
    os.makedirs(os.path.join(root, "etc"))
    os.makedirs(os.path.join(root, "boot"))
    with open(os.path.join(root, "etc/fstab"), "w") as file:
        file.write("LABEL=top / ext4 defaults 0 1\nUUID=11111111-2222-3333-4444-555555555555 /boot ext4 defaults 0 2\n")
    tables = {
        "gpt": "label: gpt\nstart=1MiB,size=8MiB,name=swap\nsize=8MiB\nsize=32MiB,name=top\n",
        "dos": "label: dos\nstart=1MiB,size=8MiB,type=82\nstart=9MiB,size=100MiB,type=5\n"
               "start=10MiB,size=8MiB\nstart=20MiB,size=32MiB\n",
    }
    for kind, table in tables.items():
        numbers = {"gpt": (1, 2, 3), "dos": (1, 5, 6)}[kind]
        starts = {"gpt": (1, 9, 17), "dos": (1, 10, 20)}[kind]
        with open(path, "wb") as disk:
            disk.truncate(112 << 20)
        need("sfdisk", "-q", path, data=table.encode())
        with open(path, "r+b") as disk:
            disk.seek((starts[0] << 20) + 4096 - 10)
            disk.write(b"SWAPSPACE2")
            disk.seek((starts[0] << 20) + 1024)
            disk.write(struct.pack("<III", 1, 2047, 0))
            for start, source, options in ((starts[1], boot, ("-U", "11111111-2222-3333-4444-555555555555")),
                                           (starts[2], root, ("-L", "top"))):
                make_fs(part, source, "-t", "ext4", *options, size="8M" if source == boot else "32M")
                disk.seek(start << 20)
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, disk)
                os.unlink(part)
        found = info(path)
        check(kind, found["format"] == kind, found)
        volumes = {v["partition"]: v for v in found["volumes"]}
        check(kind, [volumes[n]["offset"] >> 20 for n in numbers] == list(starts), volumes)
        check(kind, volumes[numbers[0]]["note"] == "holds swap space", volumes)
        check(kind, volumes[numbers[1]]["mount"] == "/boot" and volumes[numbers[2]]["mount"] == "/", volumes)
        check(kind, found["boot"]["kernel"] == "/vmlinuz-1", found["boot"])
        check(kind, found["boot"]["command_line"] == "root=/dev/vda%d ro" % numbers[2], found["boot"])
        check(kind, image("cat", path, "/boot/vmlinuz-1")[0] == b"kernel")
        check(kind, image("ls", "--partition", str(numbers[2]), path, "/boot")[0] == b"")
        with_fstab = dict(tree)
        with open(os.path.join(root, "etc/fstab"), "rb") as file:
            with_fstab["etc/fstab"] = file.read()
        compare(kind, path, with_fstab, "--partition", str(numbers[2]))
        check(kind, "partition 1 holds swap space" in image("ls", "--partition", "1", path, status=1)[1])
        check(kind, "there is no partition 9" in image("ls", "--partition", "9", path, status=1)[1])
        os.unlink(path)
    shutil.rmtree(os.path.join(root, "etc"))
    shutil.rmtree(os.path.join(root, "boot"))


def test_others(work):
    """What cannot be read is named."""
    path = os.path.join(work, "disk")
    marks = {
        "xfs": [(0, b"XFSB" + struct.pack(">IQ", 4096, 1000) + b"\0" * 64 + struct.pack(">IIIII", 1, 1000, 1, 0, 0) +
                 struct.pack(">HHHH", 0xb4a5, 512, 256, 16) + b"\0" * 12 + bytes([12, 9, 8, 4, 10, 0, 0, 25]))],
        "btrfs": [(0x10040, b"_BHRfS_M")],
        "squashfs": [(0, b"hsqs" + b"\0" * 24 + struct.pack("<HH", 4, 0))],
        "crypto_LUKS": [(0, b"LUKS\xba\xbe" + struct.pack(">H", 1))],
    }
    for kind, writes in marks.items():
        with open(path, "wb") as disk:
            disk.truncate(16 << 20)
            for offset, data in writes:
                disk.seek(offset)
                disk.write(data)
        volume = info(path)["volumes"][0]
        check(kind, volume["type"] == kind and not volume["readable"], volume)
        text = image("ls", path, status=1)[1]
        check(kind, "not supported" in text and (kind in text or "LUKS" in text), text)
    for size in (0, 1, 511, 512, 100_000):
        with open(path, "wb") as disk:
            disk.truncate(size)
        text = image("ls", path, status=1)[1]
        check("%d zeros" % size, "nothing that is known" in text, text)
    os.unlink(path)


# ---- journals ----

def fs_block(path, name):
    return int(need("debugfs", "-R", "blocks " + name, path).split()[0])


def test_journal(work, root):
    """A transaction that was committed but not written back is seen; what was revoked, or not committed, is not."""
    path = os.path.join(work, "disk")
    fresh = os.path.join(work, "fresh")
    with open(fresh, "wb") as file:
        file.write(b"N" * 4096)
    magic = os.path.join(work, "magic")
    with open(magic, "wb") as file:  # begins like a block of the journal itself: kept there in another form
        file.write(struct.pack(">I", 0xc03b3998) + b"M" * 4092)
    for options in (("-O", "metadata_csum,64bit"), ("-O", "^metadata_csum,^64bit"), ("-O", "^metadata_csum,64bit")):
        make_fs(path, root, "-t", "ext4", "-b", "4096", *options)
        target = fs_block(path, "/block")
        other = fs_block(path, "/large/file")
        old = image("cat", path, "block")[0]
        version = ["-c", "-v", "3"] if options[1].startswith("metadata") else []
        commands = ["jo " + " ".join(version), "jw -b %d %s" % (target, fresh), "jw -b %d %s" % (other, magic), "jc"]
        need("debugfs", "-w", "-f", "/dev/stdin", path, data="\n".join(commands).encode())
        check("journal", b"needs_recovery" in need("dumpe2fs", "-h", path))
        note = info(path)["volumes"][0]["note"]
        check("journal", "(2 transactions) was replayed" in note, options, note)
        check("journal", image("cat", path, "block")[0] == b"N" * 4096, options)
        check("journal", image("cat", path, "large/file")[0][:8] == struct.pack(">I", 0xc03b3998) + b"MMMM", options)
        with open(path, "rb") as file:
            before = file.read()
        # e2fsck has the same opinion
        replayed = path + ".replayed"
        shutil.copyfile(path, replayed)
        run("e2fsck", "-fy", "-E", "journal_only", replayed)
        check("journal", image("cat", path, "block", "large/file")[0] ==
              image("cat", replayed, "block", "large/file")[0], options)
        # a later transaction takes the first one back
        need("debugfs", "-w", "-f", "/dev/stdin", path,
             data=("jo %s\njw -r %d\njc\n" % (" ".join(version), target)).encode())
        check("revoked", image("cat", path, "block")[0] == old, options)
        # a commit block that is not whole: its transaction has not happened
        with open(path, "wb") as file:
            file.write(before)
        data = bytearray(before)
        commits = []
        at = -1
        while (at := data.find(struct.pack(">II", 0xc03b3998, 2), at + 1)) >= 0:
            commits.append(at)
        check("journal", len(commits) >= 2, commits)
        last = max(commits, key=lambda place: struct.unpack(">I", data[place + 8:place + 12])[0])
        data[last:last + 4] = b"\0\0\0\0"
        with open(path, "wb") as file:
            file.write(data)
        check("not committed", "(1 transactions)" in info(path)["volumes"][0]["note"], options)
        check("not committed", image("cat", path, "large/file")[0][:8] != struct.pack(">I", 0xc03b3998) + b"MMMM")
        os.unlink(path)
        os.unlink(replayed)


# ---- archives ----

def test_archives(work, root, tree):
    for name, options in (("tar", ()), ("tar.gz", ("-z",)), ("tar.xz", ("-J",)), ("pax", ("--format=posix",))):
        path = os.path.join(work, "archive")
        need("tar", "-C", root, "-cf", path, *options, ".")
        compare(name, path, tree)
        check(name, info(path)["format"] == "archive")
    names = b"\n".join(sorted(name.encode() for name in tree)) + b"\n"
    cpio = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names, stdout=subprocess.PIPE,
                          check=True).stdout
    early = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=b"small\n", stdout=subprocess.PIPE,
                           check=True).stdout
    with open(path, "wb") as file:
        file.write(cpio)
    # cpio writes a file's data with the last of its links, of which the others know nothing
    two = {name: contents for name, contents in tree.items() if name not in ("small", "hard")}
    found = listing(path)
    check("cpio", {n for n in found if found[n][0] != "d"} == set(tree))
    check("cpio", image("cat", path, "large/file")[0] == tree["large/file"])
    # an initramfs of two parts: the second one compressed, behind zeros
    packed = subprocess.run(["gzip", "-n"], input=cpio, stdout=subprocess.PIPE, check=True).stdout
    with open(path, "wb") as file:
        file.write(early.replace(b"small", b"SMALL") + b"\0" * 1000 + packed)
    found = listing(path)
    check("initramfs", {n for n in found if found[n][0] != "d"} == set(tree) | {"SMALL"})
    check("initramfs", image("cat", path, "large/file", "many/file-007")[0] == tree["large/file"] + b"7")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in two:
            if isinstance(two[name], bytes):
                archive.writestr(name, two[name])
    check("zip", image("cat", path, "large/file", "block")[0] == tree["large/file"] + tree["block"])


def test_hostile_archives(work):
    path = os.path.join(work, "archive")
    with tarfile.open(path, "w") as archive:
        def add(name, kind=tarfile.REGTYPE, data=b"", link=""):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(data), link
            archive.addfile(entry, io.BytesIO(data))
        add("../outside", data=b"1")
        add("a/../../outside", data=b"2")
        add("/absolute", data=b"3")
        add("link", tarfile.SYMTYPE, link="/etc")
        add("link/passwd", data=b"4")
        add("hard", tarfile.LNKTYPE, link="../../etc/passwd")
        add("file", data=b"5")
        add("file/below", data=b"6")
        add("file2", tarfile.LNKTYPE, link="file")
        add("twice", data=b"old")
        add("twice", data=b"new")
        add("esc\033[2Jape", data=b"7")
    output, text = image("ls", "-R", path, status=1)
    names = output.decode().split("\n")
    check("tricks", "absolute" in names and "outside" not in " ".join(names), names)
    check("tricks", "esc\\033[2Jape" in names, names)
    check("tricks", "link/passwd" not in names and "file/below" not in names, names)
    note = info(path)["volumes"][0]["note"]
    check("tricks", "2 with '..'" in note and "2 below what is no directory" in note, note)
    check("tricks", image("cat", path, "twice", "file2", "absolute")[0] == b"new53")
    check("tricks", image("cat", path, "link/passwd", status=1)[0] == b"")
    check("tricks", image("cat", path, "../../etc/passwd", status=1)[0] == b"")
    # compressed four times over
    with open(path, "wb") as file:
        file.write(b"x" * 100)
    for _ in range(5):
        need("gzip", "-f", path)
        os.rename(path + ".gz", path)
    image("ls", path, status=1)
    # cut
    need("tar", "-C", work, "-cf", path, "-z", "--exclude=archive", ".")
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)
    found = info(path)
    check("cut", "damaged" in found["volumes"][0]["note"], found)


# ---- damage ----

def test_damage(work, root):
    """Random damage: errors, but no crash of the reader, and no endless work."""
    rng = random.Random(7)
    path = os.path.join(work, "disk")
    copy = os.path.join(work, "damaged")
    small = os.path.join(work, "small")
    os.makedirs(os.path.join(small, "boot/grub"))
    for name in ("boot/vmlinuz-1", "boot/initrd.img-1", "boot/grub/grub.cfg"):
        with open(os.path.join(small, name), "w") as file:
            file.write("menuentry a {\n linux /boot/vmlinuz-1 x\n initrd /boot/initrd.img-1\n}\n")
    make_fs(path, small, "-t", "ext4", "-b", "1024", "-O", "^metadata_csum", size="1M")
    with open(path, "rb") as file:
        good = file.read()
    used = [at for at in range(0, len(good), 64) if any(good[at:at + 64])]
    for _ in range(40):
        data = bytearray(good)
        for _ in range(rng.choice((1, 4, 40))):
            at = rng.choice(used) + rng.randrange(64)
            data[at] = rng.choice((0, 0xff, data[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
        with open(copy, "wb") as file:
            file.write(data[:rng.choice((len(data), len(data), len(data) // 2))])
        for command in (("info", copy), ("ls", "-l", "-R", copy), ("cat", copy, "/boot/grub/grub.cfg")):
            result = subprocess.run([AVANT, "image", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    timeout=60, check=False)
            text = result.stderr.decode(errors="replace")
            check("damage", result.returncode in (0, 1) and "sensibly" not in text, command, text)
            check("damage", "made to attack" not in text, text)
            if "made to attack" in text:
                shutil.copyfile(copy, "/tmp/damaged-image")


def main():
    for program in ("mke2fs", "debugfs", "e2fsck", "sfdisk", "tar", "cpio", "gzip"):
        if not shutil.which(program):
            print("no", program)
            return 77
    with tempfile.TemporaryDirectory(prefix="avant-test-") as work:
        root = os.path.join(work, "root")
        os.makedirs(root)
        tree = make_tree(root)
        compare("directory", root, tree)
        test_pieces(work, root)
        test_file_systems(work, root, tree)
        test_partitions(work, root, tree)
        test_others(work)
        test_journal(work, root)
        test_archives(work, root, tree)
        test_hostile_archives(work)
        test_damage(work, root)
    print("%d failures" % failures)
    return 1 if failures else 0


sys.exit(main())
