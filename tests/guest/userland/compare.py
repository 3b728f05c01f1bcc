"""Compares what a set said on the host and in the guest."""
import re
import sys

HEADING = f"{'set':10} {'results':>7} {'different':>9} {'excused':>7} {'host s':>8} {'guest s':>8} {'ratio':>6}"
SHOWN = 50  # differences


def read(path):
    """Results by name, seconds, and whether it came to its end."""
    text = open(path, errors="replace").read().replace("\r", "")
    results = dict(re.findall(r"^RESULT (.*?): (.*)$", text, re.M))
    seconds = sum(float(t) for t in re.findall(r"^TIME .* ([\d.]+)$", text, re.M))
    return results, seconds, re.search(r"^JOB-STATUS 0$", text, re.M) is not None


def known_differences(path, wanted):
    for line in open(path):
        if not line.startswith("#") and line.strip():
            a_set, pattern, _ = line.split(None, 2)
            if a_set == wanted:
                yield re.compile(pattern + r"\Z")


def compare(name, host_path, guest_path, known_path):
    """Prints a line of figures and the differences; whether there are none. HOST may be "-": then all results are to be "ok" or
    "exit 0"."""
    guest, guest_seconds, ended = read(guest_path)
    if host_path == "-":
        host, host_seconds = {key: value if value in ("ok", "exit 0") else "ok" for key, value in guest.items()}, 0
    else:
        host, host_seconds, _ = read(host_path)
    known = list(known_differences(known_path, name))
    different, excused = [], 0
    for key in sorted(set(host) | set(guest)):
        if host.get(key) == guest.get(key):
            continue
        if any(pattern.match(key) for pattern in known):
            excused += 1
        else:
            different.append(f"  {key}: host {host.get(key)}, guest {guest.get(key)}")
    if not ended:
        different.append("  the guest did not come to its end: see its output")
    if not guest:
        different.append("  no results")
    ratio = f"{guest_seconds / host_seconds:6.1f}" if host_seconds >= 1 else "     -"
    print(f"{name:10} {len(guest):7} {len(different):9} {excused:7} {host_seconds:8.0f} {guest_seconds:8.0f} {ratio}")
    for line in different[:SHOWN]:
        print(line)
    if len(different) > SHOWN:
        print(f"  … and {len(different) - SHOWN} more")
    sys.stdout.flush()
    return not different
