"""gdb's remote protocol, as much of it as reading a guest's memory takes."""

import socket

PATIENCE = 120
CHUNK = 1024


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, text):
        data = text.encode("latin-1")
        self.socket.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xFF))

    def receive(self):
        while (byte := self.file.read(1)) != b"$":
            if not byte:
                raise EOFError("the connection was closed")
        data = b"".join(iter(lambda: self.file.read(1), b"#"))
        self.file.read(2)
        self.socket.sendall(b"+")
        return data

    def interrupt(self):
        self.socket.sendall(b"\x03")
        return self.receive()

    def memory(self, address, length):
        self.send(f"m{address:x},{length:x}")
        data = self.receive()
        return b"\0" * length if data.startswith(b"E") else bytes.fromhex(data.decode())

    def read(self, address, length):
        """The same for any length; what is not there is zero."""
        return b"".join(self.memory(at, min(CHUNK, address + length - at))
                        for at in range(address, address + length, CHUNK))
