#!/usr/bin/env python3
"""State traces of a small guest: trace-test.py AVANT CC SOURCE [AVANT-OPTION...] (SOURCE: gdb-guest.S)."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

AVANT, CC, SOURCE, *OPTIONS = sys.argv[1:]
DIFF = os.path.join(os.path.dirname(os.path.abspath(__file__)), "trace-diff.py")
LINE = re.compile(r"(\d+) rip=([0-9a-f]{16}) flags=[0-9a-f]{6} cr3=[0-9a-f]{10} regs=[0-9a-f]{16} xmm=[0-9a-f]{16}"
                  r"( ram=[0-9a-f]{16})?( \S+)?( : .+)?")


class Trace(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.file = os.path.join(self.directory.name, "trace")
        self.elf = os.path.join(self.directory.name, "guest")
        subprocess.run([CC, "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,norelro",
                        "-Wl,-Ttext=0x1000000", "-Wl,-Tdata=0x1010000", "-o", self.elf, SOURCE], check=True)
        self.machine = ["--kernel", self.elf, "--memory", "32M"]

    def trace(self, keys, stop, *more):
        run = subprocess.run(
            [AVANT, "run", *self.machine, "--clock", "instructions", "--stop-after", str(stop), "--trace-state",
             self.file + keys, *OPTIONS, *more],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(run.returncode, 4, run.stderr)
        self.assertIn(f"the limit of {stop} instructions was reached", run.stderr)
        with open(self.file, encoding="utf-8") as file:
            return file.read().splitlines()

    def test_points(self):
        lines = self.trace(",interval=100,from=250,ram=2", 1000)
        points = [LINE.fullmatch(line) for line in lines[:8]]
        self.assertEqual([int(point[1]) for point in points], [250, 350, 450, 550, 650, 750, 850, 950])
        self.assertEqual([bool(point[3]) for point in points], [True, False] * 4)
        self.assertTrue(lines[8].startswith("end 1000 "))
        self.assertIn("  rbx        1122334455667788", lines)

    def test_no_ram(self):
        self.assertFalse(any(" ram=" in line for line in self.trace(",interval=10,ram=0", 1000)))

    def test_instructions_and_symbols(self):
        symbols = os.path.join(self.directory.name, "System.map")
        with open(symbols, "w", encoding="utf-8") as file:
            file.write("0000000001000000 T _start\n")
        lines = self.trace(",interval=1,insn=1,from=1", 4, "--symbols", symbols)
        points = [LINE.fullmatch(line) for line in lines[:4]]
        self.assertEqual(points[0][4], " _start+0x7")
        self.assertIn(" : mov rbx, 0x1122334455667788", points[0][5])

    def test_engines_agree(self):
        run = subprocess.run([sys.executable, DIFF, AVANT, "--stop-after", "100000", "--", *self.machine],
                             capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIn("no difference", run.stdout)

    def test_difference_is_found(self):
        """The same engine, with guests that differ in one instruction."""
        other = os.path.join(self.directory.name, "other")
        with open(self.elf, "rb") as file:
            image = file.read()
        at = image.index(bytes.fromhex("48ffc1"))  # inc rcx, executed each round
        with open(other, "wb") as file:
            file.write(image[:at] + bytes.fromhex("48ffc3") + image[at + 3:])  # inc rbx
        run = subprocess.run(
            [sys.executable, DIFF, AVANT, "--stop-after", "5000", "--ram", "0", "--second",
             f"--engine interp --kernel {other}", "--", *self.machine],
            capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        self.assertIn("first difference after instruction 9", run.stdout)
        self.assertIn("inc rcx", run.stdout)
        self.assertRegex(run.stdout, r"rbx +1122334455667788  !=  1122334455667789")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
