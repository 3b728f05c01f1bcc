#!/usr/bin/env python3
"""Tests of the benchmark command itself: run with `python3 tests/bench/test_bench.py`. Needs no guest kernel."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

import launch
import results

HERE = os.path.dirname(os.path.abspath(__file__))


def run_of(*texts, host_seconds=10.0):
    lines = [(0.0, "BENCH BEGIN 1000000000"), *((1.0, text) for text in texts)]
    return results.Run([*lines, (host_seconds, "BENCH END 11000000000")])


class ResultsTest(unittest.TestCase):
    ROWS = [("integer", "sieve", "us"), ("system", "stat", "ns")]

    def test_reads_lines(self):
        run = run_of("ROW sieve us 1.5", "COLD sieve us 3", "SUM sieve 00000000000000ff", "FAIL stat stat (errno: x)",
                     "noise ROW stat ns 3")
        self.assertEqual(run.values, {"sieve": 1500.0})
        self.assertEqual(run.cold, {"sieve": 3000.0})
        self.assertEqual(run.sums, {"sieve": "00000000000000ff"})
        self.assertEqual(list(run.failures), ["stat"])
        self.assertTrue(run.complete)
        self.assertAlmostEqual(run.clock_rate, 1.0)
        self.assertAlmostEqual(run_of(host_seconds=8.0).clock_rate, 1.25)

    def test_cut_run_is_incomplete(self):
        self.assertFalse(results.Run([(0, "BENCH BEGIN 5"), (1, "ROW sieve us 1")]).complete)

    def test_medians_and_ratios(self):
        runs = {"native": [run_of(f"ROW sieve us {value}") for value in (1, 9, 2)],
                "TCG": [run_of("ROW sieve us 8")], "live": [run_of("ROW sieve us 4")],
                "cache": [run_of("ROW sieve us 2.5")]}
        ratios = dict(results.Comparison(self.ROWS, runs).ratios("sieve"))
        self.assertEqual(ratios, {"TCG/native": 4, "live/native": 2, "TCG/live": 2, "cache/native": 1.25,
                                  "TCG/cache": 3.2, "live/cache": 1.6})
        self.assertAlmostEqual(results.geometric_mean([2, 8, None]), 4)

    def test_names_lost_rows(self):
        runs = {"TCG": [run_of("ROW sieve us 8", "ROW stat ns 5")], "live": [run_of("ROW sieve us 4", "ROW stat ns 6")]}
        self.assertEqual([row for _, row, _ in results.Comparison(self.ROWS, runs).slower_than_tcg()], ["stat"])

    def test_checksums(self):
        def verdict(*sums):
            runs = {str(i): [run_of("ROW sieve us 1", f"SUM sieve {value:016x}" if value else "")]
                    for i, value in enumerate(sums)}
            return results.sums_verdict("sieve", runs), results.Comparison(self.ROWS, runs).problems()
        self.assertEqual(verdict(7, 7), ("equal", []))
        self.assertEqual(verdict(7, 8), ("DIFFERENT", ["checksums of sieve differ"]))
        self.assertEqual(verdict(7, 0)[0], "DIFFERENT")
        self.assertEqual(verdict(0, 0), ("-", []))

    def test_failed_row_is_a_problem(self):
        comparison = results.Comparison(self.ROWS, {"native": [run_of("FAIL stat broken")]})
        self.assertIn("FAILED", comparison.table())
        self.assertEqual(comparison.problems(), ["stat failed under native: broken"])


class LaunchTest(unittest.TestCase):
    def shell(self, script, start=5, stall=5, total=5, leave=1, omen=None):
        limits = launch.Limits(start, stall, total, leave, omen)
        return launch.run(["sh", "-c", script], re.compile("go"), re.compile("done"), limits)

    def test_ends_by_itself(self):
        done = self.shell("echo go; echo done; exit 3")
        self.assertEqual((done.outcome, done.status), ("exited", 3))
        self.assertEqual([text for _, text in done.lines], ["go", "done"])

    def test_times_of_lines(self):
        done = self.shell("echo go; sleep 0.5; printf done")
        self.assertGreater(done.time_of(re.compile("done")) - done.time_of(re.compile("go")), 0.4)
        self.assertIsNone(done.time_of(re.compile("never")))

    def test_hangs_are_ended(self):
        for outcome, script, limits in (("no start", "sleep 60", {"start": 0.3}),
                                        ("stalled", "echo go; sleep 60", {"stall": 0.3}),
                                        ("no exit", "echo go; echo done; sleep 60", {"leave": 0.3}),
                                        ("too long", "echo go; while :; do echo x; sleep 0.1; done", {"total": 0.5})):
            with self.subTest(outcome):
                begun = time.monotonic()
                done = self.shell(f"echo $$; {script}", **limits)
                self.assertEqual(done.outcome, outcome)
                self.assertLess(time.monotonic() - begun, 4)
                with self.assertRaises(ProcessLookupError):
                    os.kill(int(done.lines[0][1]), 0)

    def test_omen_shortens_the_wait(self):
        launch.Limits.OMEN_SILENCE, kept = 0.3, launch.Limits.OMEN_SILENCE
        try:
            self.assertEqual(self.shell("echo doom; sleep 60", omen=re.compile("doom")).outcome, "hung")
            self.assertEqual(self.shell("echo doom; echo go; sleep 1", omen=re.compile("doom")).outcome, "exited")
        finally:
            launch.Limits.OMEN_SILENCE = kept


class CommandTest(unittest.TestCase):
    """The whole command, with a stand-in for Avant that runs the guest program on the host."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.out = cls.directory.name
        subprocess.run(["sh", os.path.join(HERE, "mkbench.sh"), "-o", cls.out], check=True, capture_output=True)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def command(self, stand_in, *arguments):
        path = os.path.join(self.out, "avant")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{stand_in}\n")
        os.chmod(path, 0o755)
        return subprocess.run([sys.executable, os.path.join(HERE, "run.py"), "--kernel", "/dev/null", "--no-tcg",
                               "--no-build", "--out", self.out, "--avant-bin", path, "--rounds", "1", "--boot-rounds",
                               "1", "--attempts", "1", "--boot-timeout", "5", "--rows", "fib,stat", "--ms", "1",
                               *arguments], capture_output=True, text=True, check=False)

    def test_table_and_json(self):
        path = os.path.join(self.out, "result.json")
        bench = f"echo '[    0.000000] Linux version 6.1'; exec {self.out}/bench --rows fib,stat --ms 1"
        done = self.command(bench, "--avant", "live=--returns table", "--avant", "other", "--json", path)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"\| row \| native \| live \| other \| live/native \| other/native \| live/other ")
        self.assertRegex(done.stdout, r"(?m)^\| fib \(us\) .* equal \|$")
        self.assertRegex(done.stdout, r"launch to shell marker \(s\) \| [0-9.]+ \| [0-9.]+ \|")
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual(data["problems"], [])
        self.assertEqual(data["table"][[row["row"] for row in data["table"]].index("fib")]["checksums"], "equal")

    # Stands in for `avant run` and `avant translate`; what it was asked is in the file "asked".
    BOTH = """echo "$*" >>{out}/asked
command=$1
while [ $# -gt 0 ]; do
	case $1 in
	--record) echo recording >"$2" ;;
	--output) echo cache >"$2" ;;
	--cache) [ -f "$2" ] || exit 1 ;;
	esac
	shift
done
[ "$command" = run ] || exit 0
echo '[    0.000000] Linux version 6.1'
exec {out}/bench --rows fib,stat --ms 1"""

    def asked(self):
        with open(os.path.join(self.out, "asked"), encoding="utf-8") as file:
            lines = file.read().splitlines()
        os.unlink(file.name)
        return lines

    def test_with_cache(self):
        path = os.path.join(self.out, "result.json")
        done = self.command(self.BOTH.format(out=self.out), "--with-cache", "--train-ms", "3", "--json", path,
                            "--translate-options", "--initrd {initrd}")
        asked = self.asked()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"\| row \| native \| Avant live \| Avant aot \| Avant live/native \| "
                                      r"Avant aot/native \| Avant live/Avant aot \| checksums \|")
        self.assertRegex(done.stdout, r"launch to shell marker \(s\) \| [0-9.]+ \| [0-9.]+ \| [0-9.]+ \|")
        self.assertRegex(done.stdout, r"cache for boot.cpio.gz: .* recorded in .* s, translated in .* s")
        trained = [line for line in asked if "--record" in line]
        self.assertEqual([os.path.basename(line.split()[-1]) for line in trained], ["rows.rec", "boot.rec"])
        self.assertIn("avant.rows=fib,stat avant.reps=1 avant.ms=3", trained[0])
        translated = [line for line in asked if line.startswith("translate")]
        self.assertRegex(translated[0], r"--profile .*rows.rec --output .*rows.tcache --initrd .*bench.cpio.gz$")
        self.assertRegex(translated[1], r"--profile .*boot.rec --output .*boot.tcache --initrd .*boot.cpio.gz$")
        cached = [line for line in asked if "--cache" in line]
        self.assertEqual([line.rpartition(" --engine aot --cache ")[2] for line in cached],
                         [os.path.join(self.out, f"{kind}.tcache") for kind in ("rows", "boot")])
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual(sorted(data["caches"]), ["boot", "rows"])
        self.assertEqual(data["caches"]["rows"]["bytes"], len("cache\n"))
        self.assertEqual(sorted(data["boots_s"]), ["Avant aot", "Avant live"])

    def test_existing_caches(self):
        path = os.path.join(self.out, "given")
        with open(path, "w", encoding="utf-8") as file:
            file.write("cache")
        done = self.command(self.BOTH.format(out=self.out), "--rows-cache", path, "--boot-rounds", "0")
        asked = self.asked()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("cache for bench.cpio.gz: 0.0 MB, made before", done.stdout)
        self.assertEqual(len([line for line in asked if line.endswith(f"--cache {path}")]), 1)
        self.assertEqual(len(asked), 2)

    def test_no_cache_can_be_made(self):
        done = self.command(f'[ "$1" = run ] || {{ echo no room; exit 1; }}\n{self.BOTH.format(out=self.out)}',
                            "--with-cache")
        self.asked()
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "translate --kernel .* failed with status 1: no room")
        done = self.command("echo cannot boot; exit 1", "--with-cache")
        self.assertEqual(done.returncode, 1)
        self.assertIn("run.py: no complete training run (rows): training on avant, rows: exited", done.stderr)

    def test_boots_only(self):
        path = os.path.join(self.out, "result.json")
        done = self.command("echo Linux version 6.1; echo BOOT shell ready", "--rows", "none", "--json", path)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        self.assertEqual([len(boots) for boots in data["boots_s"].values()], [1])
        self.assertEqual(data["runs"], {"native": [], "Avant": []})

    def test_wrong_checksum_fails(self):
        done = self.command(f"{self.out}/bench --rows fib,stat --ms 1 | sed 's/^\\(SUM fib .*\\).$/\\1e/'")
        self.assertEqual(done.returncode, 1)
        self.assertIn("PROBLEM: checksums of fib differ", done.stdout)

    def test_dead_guest_fails(self):
        done = self.command("echo cannot boot; exit 1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("PROBLEM: no complete run under Avant", done.stdout)

    def test_usage_errors(self):
        self.assertEqual(self.command("", "--rows", "nonsense").returncode, 2)
        self.assertEqual(self.command("", "--avant", "native").returncode, 2)
        self.assertEqual(self.command("", "--avant", "Avant aot").returncode, 2)
        self.assertEqual(self.command("", "--with-cache", "--no-avant").returncode, 2)
        self.assertEqual(self.command("", "--boot-cache", "/nowhere/cache").returncode, 2)
        self.assertEqual(self.command("", "--avant-bin", "/nowhere/avant").returncode, 2)

    def test_guest_program_refuses_nonsense(self):
        for arguments in (["--bogus"], ["--rows"]):
            done = subprocess.run([os.path.join(self.out, "bench"), *arguments], capture_output=True, check=False)
            self.assertEqual(done.returncode, 2)


class DiskCommandTest(unittest.TestCase):
    def command(self, *arguments):
        return subprocess.run([sys.executable, os.path.join(HERE, "disk.py"), *arguments], capture_output=True, text=True,
                              check=False)

    def test_packages_need_no_image(self):
        done = self.command("--packages")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^[a-z0-9.+-]+(,[a-z0-9.+-]+)+\n$")

    def test_measuring_needs_an_image(self):
        self.assertEqual(self.command().returncode, 2)


if __name__ == "__main__":
    unittest.main()
