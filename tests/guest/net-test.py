"""The guest's network from both ends: DHCP, DNS, 100 MB in each direction, forwarded ports, restrict, a network process
that is killed. On loopback only.

    net-test.py AVANT [PACKAGE] [--sanitized]

With --sanitized, AVANT has no sandbox. Exit status 77 (skipped) if no kernel can be fetched.
"""

import hashlib
import http.client
import http.server
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import initrd

HERE = pathlib.Path(__file__).resolve().parent
SIZE = 100_000_000
TIMEOUT = 200
failures = []


def check(what, condition):
    print(f"{'ok' if condition else 'FAILED'}: {what}", flush=True)
    if not condition:
        failures.append(what)


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives the server's data for every path."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.end_headers()
        self.wfile.write(self.server.data)

    def log_message(self, *_):
        self.server.requests += 1


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, address):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), Handler)


def serve(data, address="127.0.0.1"):
    server = Server(address)
    server.data, server.requests = data, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def sink():
    """A port that answers what was sent to it with its SHA-256."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            connection, _ = listener.accept()
            digest = hashlib.sha256()
            while data := connection.recv(1 << 20):
                digest.update(data)
            connection.sendall(digest.hexdigest().encode())
            connection.close()

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def answer_queries(sock):
    """A resolver that knows one address and gives it for every name."""
    while True:
        query, peer = sock.recvfrom(2048)
        if len(query) < 17:
            continue
        end = query.index(0, 12) + 5  # name, type, class
        kind = struct.unpack(">H", query[end - 4:end - 2])[0]
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([192, 0, 2, 77]) if kind == 1 else b""
        sock.sendto(query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, 1 if record else 0, 0, 0) + query[12:end] +
                    record, peer)


def resolver():
    """The address of a resolver on this machine, or None: port 53 is not for everybody, and it is the sandbox that lets
    libslirp know of another resolver than the host's."""
    if "--sanitized" in sys.argv[2:]:
        print("DNS is not tested: the network process has no sandbox")
        return None
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(("127.0.53.53", 53))
    except OSError as error:
        print(f"DNS is not tested: no port 53: {error.strerror}")
        return None
    threading.Thread(target=answer_queries, args=(sock,), daemon=True).start()
    return "127.0.53.53"


def serve6(data):
    """Port of a server with IPv6, or 0: not every host has it."""
    try:
        return serve(data, "::1").server_port
    except OSError as error:
        print(f"IPv6 is tested without connections: {error.strerror}")
        return 0


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def children(process):
    """Processes that the given one started, in any of its threads."""
    found = []
    for path in pathlib.Path(f"/proc/{process.pid}/task").glob("*/children"):
        found += [int(number) for number in path.read_text().split()]
    return found


class Guest:
    def __init__(self, avant, kernel, image, net, command):
        append = f'console=ttyS0 quiet panic=-1 avant.run="{command}"'
        self.lines = []
        self.process = subprocess.Popen([avant, "run", "--kernel", kernel, "--initrd", image, "--timeout", str(TIMEOUT),
                                         "--net", net, "--append", append], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")

    def read_until(self, text):
        """Reads lines up to one that is `text`, or to the end: False."""
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if self.lines[-1] == text:
                return True
        return False

    def say(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def finish(self):
        """Exit status, and what was said on stderr."""
        self.read_until(None)
        errors = self.process.stderr.read()
        return self.process.wait(), errors

    def check(self, *names):
        for name in names:
            check(name, f"NET {name} ok" in self.lines)

    def has(self, text):
        return any(text in line for line in self.lines)


def fetch(port, path):
    """What the guest's server has there, or why there is nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        print(f"{path}: {error}")
        return None


def test_all(avant, kernel, image):
    data = random.Random(1).randbytes(SIZE)
    digest, server, dns, port = hashlib.sha256(data).hexdigest(), serve(data), resolver(), free_port()
    port6 = serve6(data)
    net = f"user,hostfwd=tcp:127.0.0.1:{port}-:8080" + (f",dns={dns}" if dns else "")
    guest = Guest(avant, kernel, image, net,
                  f"sh /net.sh full {server.server_port} {digest} {1 if dns else 0} {sink()} {port6}")
    if guest.read_until("NET serving"):
        began = time.monotonic()
        check("a forwarded port", fetch(port, "/big") == data)
        print(f"{SIZE / (time.monotonic() - began) / 1e6:.0f} MB/s through it")
        processes = children(guest.process)
        check("one network process", len(processes) == 1)
        os.kill(processes[0], signal.SIGKILL)
    status, errors = guest.finish()
    guest.check("load", "dhcp", "ping", *(["dns"] if dns else []), "get", "get-sum", "put", "ping6", *(["get6"] if port6 else []), "reload",
                "mac-02:00:00:00:00:77", "mac-02:41:56:41:4e:54", "link-down", "survives")
    check("the guest went on to its end", status == 0 and "AVANT-STATUS 0" in guest.lines)
    check("a message", errors == "avant: warning: the network process ended (Killed): the guest's network is gone\n")
    return guest, errors


def test_restricted(avant, kernel, image):
    server, port = serve(b"reached"), free_port()
    guest = Guest(avant, kernel, image,
                  f"user,restrict,hostfwd=tcp::{port}-:8080,mac=02:00:00:00:00:05,mtu=9000,hostname=named,"
                  "net=10.0.2.0/27", f"sh /net.sh restricted {server.server_port}")
    if guest.read_until("NET serving"):
        check("a forwarded port of a restricted guest", fetch(port, "/file") == b"inside\n")
        guest.say("done")
    status, errors = guest.finish()
    guest.check("load", "dhcp", "ping", "closed")
    check("nothing came to the server", server.requests == 0)
    check("address, MTU, mask and host name", guest.has("02:00:00:00:00:05") and guest.has("mtu 9000") and
          guest.has("10.0.2.15/27") and guest.has("dhcp-hostname named"))
    check("the guest came to its end", status == 0 and errors == "")
    return guest, errors


def main():
    avant, *packages = [argument for argument in sys.argv[1:] if argument not in ("", "--sanitized")]
    package = packages[0] if packages else "linux-image-cloud-amd64"
    fetched = subprocess.run(["sh", HERE / "fetch-kernel.sh", "--modules", package], stdout=subprocess.PIPE, text=True)
    if fetched.returncode:
        return 77
    kernel = fetched.stdout.strip()
    with tempfile.TemporaryDirectory() as work:
        image = f"{work}/initrd.img"
        initrd.make(image, kernel, ["virtio_pci", "virtio_net"], [f"{HERE}/net.sh:/net.sh"])
        for test in test_all, test_restricted:
            failed = len(failures)
            guest, errors = test(avant, kernel, image)
            if len(failures) > failed:
                print("\n".join(guest.lines[-60:]), errors, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
