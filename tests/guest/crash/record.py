"""An nbdkit plugin: two disks in memory, and a log of all that changes them, in the order in which it was done.

    nbdkit -U SOCKET python record.py log=FILE disk=FILE ack=FILE

The exports are called "disk" and "ack"; what the files hold is what they begin with. An entry of the log is a head (HEAD)
and, for writes, the data. One request is served at a time, whatever connection it comes from."""

import struct

import nbdkit

API_VERSION = 2
HEAD = struct.Struct("<cBxxIQ")  # kind (W, Z for zeros and discards, F for a flush), disk, length, offset
NAMES = ("disk", "ack")

files = {}
contents = []
log = None


def config(key, value):
    if key not in NAMES + ("log",):
        raise RuntimeError(f"unknown parameter '{key}'")
    files[key] = value


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def get_ready():
    global log
    log = open_file(files["log"], "wb")
    for name in NAMES:
        with open_file(files[name], "rb") as file:
            contents.append(bytearray(file.read()))


open_file = open  # nbdkit calls the plugin's open()


def open(readonly):
    return NAMES.index(nbdkit.export_name())


def get_size(disk):
    return len(contents[disk])


def note(kind, disk, offset, length, data=b""):
    log.write(HEAD.pack(kind, disk, length, offset) + data)


def pread(disk, buffer, offset, flags):
    buffer[:] = contents[disk][offset:offset + len(buffer)]


def pwrite(disk, buffer, offset, flags):
    note(b"W", disk, offset, len(buffer), bytes(buffer))
    contents[disk][offset:offset + len(buffer)] = buffer


def zero(disk, count, offset, flags):
    note(b"Z", disk, offset, count)
    contents[disk][offset:offset + count] = bytes(count)


def trim(disk, count, offset, flags):
    zero(disk, count, offset, flags)


def flush(disk, flags):
    note(b"F", disk, 0, 0)


def unload():
    if log:
        log.close()
