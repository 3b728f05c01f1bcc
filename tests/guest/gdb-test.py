#!/usr/bin/env python3
"""Speaks gdb's remote protocol with `avant run --gdb`, and lets gdb itself do so if it is installed.

    gdb-test.py AVANT CC SOURCE [AVANT-OPTION...]

CC builds the guest from SOURCE (gdb-guest.S).
"""

import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

AVANT, CC, SOURCE, *OPTIONS = sys.argv[1:]
EXIT_STATUS = 2 * 0x15 + 1
PATIENCE = 30
RAX, RBX, RCX, RDX, RSP, RIP, EFLAGS, XMM3 = 0, 1, 2, 3, 7, 16, 17, 43


def checksum(data):
    return sum(data) & 0xFF


class Client:
    """One connection, with acknowledgements until told otherwise."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        self.acks = True

    def read_byte(self):
        if not self.input:
            self.input = self.socket.recv(4096)
            if not self.input:
                raise EOFError
        byte, self.input = self.input[:1], self.input[1:]
        return byte

    def raw(self, data):
        self.socket.sendall(data)

    def send(self, text):
        data = text.encode("latin-1")
        self.raw(b"$" + data + b"#%02x" % checksum(data))

    def receive(self):
        while self.read_byte() != b"$":
            pass
        data = b""
        while (byte := self.read_byte()) != b"#":
            data += byte
        assert int(self.read_byte() + self.read_byte(), 16) == checksum(data)
        if self.acks:
            self.raw(b"+")
        return re.sub(b"}(.)", lambda m: bytes([m[1][0] ^ 0x20]), data, flags=re.S).decode("latin-1")

    def ask(self, text):
        self.send(text)
        return self.receive()

    def number(self, register):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{register:x}")), "little")

    def memory(self, address, length):
        return bytes.fromhex(self.ask(f"m{address:x},{length:x}"))

    def close(self):
        self.socket.close()


class Guest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.elf = os.path.join(cls.directory.name, "guest")
        subprocess.run([CC, "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,norelro", "-Wl,-Ttext=0x1000000",
                        "-Wl,-Tdata=0x1010000", "-o", cls.elf, SOURCE], check=True)
        cls.symbol = cls.read_symbols()

    @classmethod
    def read_symbols(cls):
        with open(cls.elf, "rb") as file:
            elf = file.read()
        offset, size, count = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HH", elf, 58)
        sections = [struct.unpack_from("<IIQQQQIIQQ", elf, offset + i * size) for i in range(count)]
        symbols = {}
        for section in (s for s in sections if s[1] == 2):  # SHT_SYMTAB
            names = elf[sections[section[6]][4]:]
            for at in range(section[4], section[4] + section[5], 24):
                name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", elf, at)
                symbols[names[name:names.index(b"\0", name)].decode()] = value
        return symbols

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def setUp(self):
        self.avant = subprocess.Popen(
            [AVANT, "run", "--kernel", self.elf, "--memory", "32M", "--debug-exit", "--gdb", ":0", *OPTIONS],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        line = self.avant.stderr.readline()
        self.port = int(re.fullmatch(r"avant: waiting for gdb at 127\.0\.0\.1:(\d+)\n", line)[1])
        self.client = Client(self.port)

    def tearDown(self):
        self.client.close()
        if self.avant.poll() is None:
            self.avant.kill()
        self.avant.communicate(timeout=PATIENCE)

    def expect_exit(self, status):
        self.assertEqual(self.avant.wait(timeout=PATIENCE), status)

    def run_to(self, name):
        self.assertEqual(self.client.ask(f"Z0,{self.symbol[name]:x},1"), "OK")
        stop = self.client.ask("c")
        self.assertEqual(stop[:3], "T05")
        self.assertEqual(self.client.number(RIP), self.symbol[name])
        self.assertEqual(self.client.ask(f"z0,{self.symbol[name]:x},1"), "OK")

    def let_go(self):
        self.assertEqual(self.client.ask(f"M{self.symbol['go']:x},1:01"), "OK")

    def test_waits_at_the_start(self):
        self.assertEqual(self.client.ask("?")[:3], "T02")
        self.assertEqual(self.client.number(RIP), self.symbol["_start"])
        self.assertIn("qXfer:features:read+", self.client.ask("qSupported:swbreak+"))
        self.assertEqual(self.client.ask("qAttached"), "1")

    def test_steps(self):
        self.assertEqual(self.client.ask("s")[:3], "T05")
        self.assertEqual(self.client.ask("vCont;s:1;c")[:3], "T05")
        self.assertEqual(self.client.number(RBX), 0x1122334455667788)
        self.assertEqual(self.client.memory(self.symbol["word"], 8), bytes(8))
        self.assertEqual(self.client.ask("s")[:3], "T05")
        self.assertEqual(self.client.memory(self.symbol["word"], 8), bytes.fromhex("8877665544332211"))

    def test_breakpoint_is_hit_each_time(self):
        self.assertEqual(self.client.ask(f"Z0,{self.symbol['count']:x},1"), "OK")
        for expected in range(20):
            self.assertEqual(self.client.ask("c")[:3], "T05")
            self.assertEqual(self.client.number(RIP), self.symbol["count"])
            self.assertEqual(self.client.number(RCX), expected)
        # hidden from the guest
        self.assertEqual(self.client.memory(self.symbol["count"], 3), bytes.fromhex("48ffc1"))
        self.assertEqual(self.client.ask(f"z0,{self.symbol['count']:x},1"), "OK")
        self.run_to("counted")
        self.assertEqual(self.client.number(RCX), 1000)
        self.assertEqual(struct.unpack("<Q", self.client.memory(self.symbol["sum"], 8))[0], 500500)

    def test_breakpoint_in_code_that_was_translated(self):
        """All of it has run without breakpoints, then one is set where it spins."""
        self.client.send("c")
        self.client.raw(b"\x03")
        self.assertEqual(self.client.receive()[:3], "T02")
        rip = self.client.number(RIP)
        self.assertTrue(self.symbol["_start"] <= rip < self.symbol["count"] + 64)
        self.run_to("spin")
        self.run_to("spin")
        self.let_go()
        self.run_to("leave")

    def test_stop_reason_names_the_breakpoint(self):
        self.client.ask("qSupported:swbreak+")
        self.client.ask(f"Z1,{self.symbol['counted']:x},1")
        self.assertIn("swbreak:;", self.client.ask("c"))

    def test_registers_can_be_written(self):
        self.run_to("counted")
        self.assertEqual(self.client.ask(f"P{RCX:x}=efcdab8967452301"), "OK")
        self.assertEqual(self.client.ask(f"P{EFLAGS:x}=d5080000"), "OK")
        self.assertEqual(self.client.number(EFLAGS), 0x8D7)
        self.assertEqual(self.client.ask("s")[:3], "T05")
        self.assertEqual(self.client.number(XMM3), 0x0123456789ABCDEF)
        self.assertEqual(self.client.ask(f"P{XMM3:x}=" + "a5" * 16), "OK")
        self.assertEqual(self.client.ask("s")[:3], "T05")
        self.assertEqual(self.client.ask(f"p{XMM3:x}"), "a5" * 16)
        # not canonical, a selector, none of ours
        self.assertEqual(self.client.ask(f"P{RIP:x}=0000000000800000")[:1], "E")
        self.assertEqual(self.client.ask("P12=08000000")[:1], "E")
        self.assertEqual(self.client.ask("pffff")[:1], "E")
        whole = self.client.ask("g")
        self.assertEqual(self.client.ask("G" + whole), "OK")
        self.assertEqual(self.client.ask("g"), whole)

    def test_memory(self):
        top = 32 << 20
        self.assertEqual(self.client.ask(f"m{top:x},4")[:1], "E")
        self.assertEqual(len(self.client.memory(top - 2, 4)), 2)
        self.assertEqual(self.client.ask("m8000000000000000,8")[:1], "E")
        self.assertEqual(self.client.ask(f"M{top - 1:x},2:0102")[:1], "E")
        self.assertEqual(self.client.memory(top - 1, 1), b"\0")
        data = bytes(range(256)) * 20  # across a page, with every byte that needs an escape
        escaped = re.sub(b"[$#}*]", lambda m: b"}" + bytes([m[0][0] ^ 0x20]), data)
        packet = b"X%x,%x:" % (0x1800100, len(data)) + escaped
        self.client.raw(b"$" + packet + b"#%02x" % checksum(packet))
        self.assertEqual(self.client.receive(), "OK")
        self.assertEqual(self.client.memory(0x1800100, len(data)), data)

    def test_code_can_be_written(self):
        """A translation of what was there before must not run."""
        self.client.send("c")
        self.client.raw(b"\x03")
        self.client.receive()
        self.run_to("spin")
        self.client.ask(f"M{self.symbol['spin']:x},2:{(0xeb | (self.symbol['leave'] - self.symbol['spin'] - 2) << 8).to_bytes(2, 'little').hex()}")
        self.assertEqual(self.client.ask("c"), f"W{EXIT_STATUS:02x}")
        self.expect_exit(EXIT_STATUS)

    def test_interrupt_while_it_spins(self):
        """With interrupts off and no timer: only the connection can stop it."""
        for _ in range(3):
            self.client.send("c")
            self.client.raw(b"\x03")
            self.assertEqual(self.client.receive()[:3], "T02")

    def test_end_is_told(self):
        self.let_go()
        self.assertEqual(self.client.ask("c"), f"W{EXIT_STATUS:02x}")
        self.expect_exit(EXIT_STATUS)

    def test_detach_and_attach_again(self):
        self.client.ask(f"Z0,{self.symbol['count']:x},1")
        self.assertEqual(self.client.ask("D"), "OK")
        self.client.close()
        self.client = Client(self.port)
        self.assertEqual(self.client.ask("?")[:3], "T02")
        self.let_go()
        self.assertEqual(self.client.ask("c"), f"W{EXIT_STATUS:02x}")  # the breakpoint has gone

    def test_lost_connection(self):
        self.let_go()
        self.client.close()
        self.expect_exit(EXIT_STATUS)

    def test_lost_connection_while_running(self):
        self.client.send("c")
        self.client.close()
        self.client = Client(self.port)
        self.assertEqual(self.client.ask("?")[:3], "T02")

    def test_kill(self):
        self.client.send("k")
        self.expect_exit(0)
        self.assertIn("ended by gdb", self.avant.stderr.read())

    def test_monitor(self):
        self.client.send("qRcmd," + b"registers".hex())
        text = self.client.receive()
        self.assertEqual(text[0], "O")
        self.assertIn("gdtr", bytes.fromhex(text[1:]).decode())
        self.assertEqual(self.client.receive(), "OK")
        self.client.send("qRcmd,7")
        while self.client.receive() != "OK":
            pass
        for command in ("tlb all", "exits", "help", "translate 0x1000", "phys on", "nonsense", ""):
            self.client.send("qRcmd," + command.encode().hex())
            while (text := self.client.receive()) != "OK":
                self.assertEqual(text[0], "O")
        self.client.send("qRcmd," + b"quit".hex())
        self.expect_exit(0)

    def test_termination_while_stopped(self):
        self.client.ask("?")
        self.avant.terminate()
        self.expect_exit(128 + 15)

    def test_garbage(self):
        """Whatever comes, the next good packet is answered."""
        self.client.raw(b"+++---\0\xff$#00$?#00")  # an empty packet; a wrong checksum
        self.assertEqual(self.client.receive(), "")
        for text in ("", "v", "vCont;", "vCont;x", "m", "m,", "m10000000000000000,1", "M1,1:zz", "Mfff,ffffffffffffffff:",
                     "X1,2:a", "Z", "Z0", "Z0,zz,1", "Z2,1000,8", "z9", "p", "Pzz", "P0=12", "G12", "qXfer:features:read:target.xml:",
                     "qXfer:features:read:target.xml:fffffffffffffff,fff", "H", "c8000000000000000", "Sxx", "\x01"):
            self.client.ask(text)
        self.client.raw(b"$" + b"q" * 100000 + b"#" + b"%02x" % (ord("q") * 100000 & 0xFF))  # too long: refused
        self.assertEqual(self.client.ask("?")[:3], "T02")

    def test_too_many_breakpoints(self):
        answers = [self.client.ask(f"Z0,{0x2000000 + 16 * i:x},1") for i in range(300)]
        self.assertEqual(answers.count("OK"), 256)
        self.assertEqual(answers[-1][:1], "E")

    def test_no_acknowledgements(self):
        self.assertEqual(self.client.ask("QStartNoAckMode"), "OK")
        self.client.acks = False
        self.assertEqual(self.client.ask("qC"), "QC01")
        self.assertEqual(self.client.input, b"")

    @unittest.skipUnless(shutil.which("gdb"), "gdb is not installed")
    def test_gdb(self):
        self.client.close()  # as if it had been detached: the guest runs and spins
        script = [
            "set confirm off", "set pagination off", f"file {self.elf}", f"target remote :{self.port}",
            "break leave", "set var *(char *)&go = 1", "continue",
            'printf "rip=%#lx rcx=%lu sum=%lu xmm3=%lu\\n", $rip, $rcx, *(long *)&sum, $xmm3.v2_int64[0]',
            'printf "cr0=%#lx cr3=%#lx efer=%#lx cs=%#x fs_base=%#lx\\n", $cr0, $cr3, $efer, $cs, $fs_base',
            "x/2i $pc", "stepi", "monitor translate 0x1234", "set var $rax = 0x40", 'printf "rax=%#lx\\n", $rax',
            "delete", "continue",
        ]
        arguments = [argument for line in script for argument in ("-ex", line)]
        gdb = subprocess.run(["gdb", "-nx", "-batch", *arguments], capture_output=True, text=True, timeout=60, check=False)
        for expected in (f"rip={self.symbol['leave']:#x} rcx=1000 sum=500500 xmm3=1000", "cr0=0x80010033", "efer=0x500 cs=0x10",
                         "mov    $0xf4,%dx", "0x1234 -> 0x1234", "rax=0x40", "exited with code 0201"):
            self.assertIn(expected, gdb.stdout + gdb.stderr)
        self.expect_exit(2 * 0x40 + 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
