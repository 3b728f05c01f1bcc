#!/usr/bin/env python3
"""avant translate --report: what a recorded guest with a loop for each reason, and a tree with every kind of file, are told
to be. Sums must add up, each reason must be there, and the README must explain it.

usage: translate-report-test.py AVANT LOOPS README [PROGRAM OTHER]   LOOPS: guest/asm/loops.S; two independent programs"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

avant, guest, readme = (os.path.abspath(path) for path in sys.argv[1:4])
programs = [os.path.abspath(path) for path in sys.argv[4:]]
failures = []

FATES = ["lifted", "copied", "handed_over", "kept", "left_to_live"]
LEFT = ["no_room", "unseen_limit", "no_template", "moves", "too_many_versions", "invalid"]
VERDICTS = ["lifted", "no_loop", "instruction", "entries_unknown", "few_accesses", "executed_rarely", "not_executed",
            "position_independent", "careful", "switched_off", "over_budget", "compiler", "kept"]
HANDS = ["quick", "helper", "interpreter"]


def check(good, *what):
	if not good:
		failures.append(" ".join(str(part) for part in what))


def run(*command):
	return subprocess.run([avant, *command], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def total(entries, key):
	return sum(entry[key] for entry in entries)


def check_sums(name, report):
	totals, loops = report["totals"], report["loops"]
	for key in "instructions", "executed":
		fates = totals[key]
		check(list(fates) == ["total", *FATES], name, "keys of", key, list(fates))
		check(fates["total"] == sum(fates[fate] for fate in FATES), name, key, "do not add up:", fates)
		by_reason = total(loops["by_reason"], key)
		check(by_reason == fates["total"] - fates["left_to_live"], name, key, "by reason:", by_reason, fates)
		check(total(report["left_to_live"], key) == fates["left_to_live"], name, key, "left to live, by reason")
		lifted = next(entry for entry in loops["by_reason"] if entry["reason"] == "lifted")
		check(lifted[key] == fates["lifted"], name, key, "in lifted loops:", lifted, fates)
		where = "places" if key == "instructions" else key
		check(total(report["instructions"], where) == fates["handed_over"], name, key, "handed over")
	check(total(report["left_to_live"], "units") == totals["units"]["left_to_live"], name, "units left to live")
	check(totals["units"]["total"] == totals["units"]["translated"] + totals["units"]["left_to_live"], name, "units")
	check([entry["reason"] for entry in report["left_to_live"]] == LEFT, name, "reasons for what is left to live")
	check([entry["reason"] for entry in loops["by_reason"]] == VERDICTS, name, "reasons for loops")
	check(all(entry["by"] in HANDS for entry in report["instructions"]), name, report["instructions"])
	for entries in report["instructions"], loops["hottest"]:
		counts = [entry["executed"] for entry in entries]
		check(counts == sorted(counts, reverse=True), name, "not by frequency:", counts)
	for loop in loops["hottest"]:
		check(loop["reason"] in VERDICTS[2:], name, loop)
		check(("instruction" in loop) == (loop["reason"] == "instruction"), name, loop)
	if not loops["not_shown"]:
		missing = totals["executed"]["total"] - totals["executed"]["left_to_live"]
		for entry in loops["by_reason"]:
			if entry["reason"] in ("lifted", "no_loop", "kept"):
				missing -= entry["executed"]
		check(total(loops["hottest"], "executed") == missing, name, "loops that are not named")
	executed = totals["executed"]["total"]
	for fate in FATES:
		share = totals["shares"][fate]
		check(share is None if not executed else abs(share - totals["executed"][fate] / executed) < 1e-5, name, fate)


def translate(name, *options):
	done = run("translate", "--report", name + ".json", "-o", name + ".tcache", *options)
	plain = run("translate", "-o", name + ".tcache2", *options)
	if done.returncode or plain.returncode:
		sys.exit(f"FAILED: {name}: {done.stderr}{plain.stderr}")
	check(done.stdout == plain.stdout.replace(".tcache2", ".tcache") and done.stderr == plain.stderr, name, "other output")
	with open(name + ".tcache", "rb") as a, open(name + ".tcache2", "rb") as b:
		check(a.read() == b.read(), name, "another cache than without --report")
	with open(name + ".json", encoding="utf-8") as file:
		report = json.load(file)
	check(list(report) == ["schema", "profiles", "totals", "left_to_live", "instructions", "loops", "programs"], list(report))
	check_sums(name, report)
	return report


def reason(report, word):
	return next(entry for entry in report["loops"]["by_reason"] if entry["reason"] == word)


def test_guest():
	done = run("run", "--kernel", guest, "--memory", "64M", "--debug-exit", "--timeout", "20", "--record", "loops.rec")
	check(done.returncode == 43, "the recorded run:", done.returncode, done.stderr)
	options = ["--only-recorded", "--kernel", guest, "--profile", "loops.rec"]
	report = translate("loops", *options)
	check(report["profiles"] == 1, "recordings:", report["profiles"])
	ids = [entry for entry in report["instructions"] if entry["mnemonic"] == "cpuid"]
	check(len(ids) == 1 and ids[0]["by"] == "helper" and ids[0]["executed"] == 30000, "cpuid:", ids)
	moves = {entry.get("helper"): entry["places"] for entry in report["instructions"] if entry["mnemonic"] == "mov"}
	check("mov_to_cr" in moves and "mov_to_seg" in moves, "moves of special registers:", moves)
	check(reason(report, "lifted")["executed"] == 5 * 40000, "the loop that is lifted:", reason(report, "lifted"))
	for word in "few_accesses", "executed_rarely", "entries_unknown", "instruction":
		check(reason(report, word)["executed"] > 0, "no loop is", word)
	unknown = [loop for loop in report["loops"]["hottest"] if loop.get("instruction") == "cpuid"]
	check(unknown and unknown[0]["executed"] == 4 * 30000, "the loop with cpuid:", unknown)

	kept = translate("kept", *options, "--reuse", "loops.tcache")
	check(kept["totals"]["executed"]["kept"] == report["totals"]["executed"]["total"], "--reuse:", kept["totals"])
	part = translate("part", *options, "--reuse", "loops.tcache", "--copy")
	check(0 < part["totals"]["executed"]["kept"] < report["totals"]["executed"]["total"], "--reuse --copy:", part["totals"])
	check(reason(part, "switched_off")["executed"] == 5 * 40000, "--reuse --copy:", reason(part, "switched_off"))

	copied = translate("copied", *options, "--copy")
	check(reason(copied, "switched_off")["executed"] == 5 * 40000, "--copy:", reason(copied, "switched_off"))
	check(copied["totals"]["executed"]["lifted"] == 0, "--copy lifts")
	check(copied["totals"]["executed"]["total"] == report["totals"]["executed"]["total"], "--copy executes other code")

	for path in "missing/x.json", ".":
		done = run("translate", *options, "--report", path, "-o", "no.tcache")
		check(done.returncode == 1 and path in done.stderr, "--report", path, done.returncode, done.stderr)
		check(not os.path.exists("no.tcache"), "--report", path, "leaves a cache")


def poke(name, offset, byte):
	with open(name, "r+b") as file:
		file.seek(offset)
		file.write(bytes([byte]))


def files(report, kind):
	kinds = report["programs"][kind]
	check(kinds["files"] == len(kinds["largest"]) + kinds["not_shown"], kind, kinds)
	return {entry["name"]: entry for entry in kinds["largest"]}


def test_tree():
	os.makedirs("tree/bin")
	shutil.copy(programs[0], "tree/bin/one")
	shutil.copy(programs[0], "tree/bin/copy")
	shutil.copy(programs[1], "tree/two")
	shutil.copy(programs[0], "tree/other")
	poke("tree/other", 18, 3)
	shutil.copy(programs[0], "tree/module.ko")
	poke("tree/module.ko", 16, 1)
	report = translate("tree", "--root", "tree")
	scanned = report["programs"]["scanned"]
	check(scanned["files"] == 2 and scanned["code_bytes"] > 0 and report["programs"]["copies"] == 1, report["programs"])
	check(list(files(report, "modules")) == ["module.ko"], "modules:", report["programs"]["modules"])
	check(files(report, "modules")["module.ko"]["code_bytes"] > 0, "bytes of code of a module")
	check("another processor" in files(report, "unusable")["other"]["reason"], report["programs"]["unusable"])
	check(not files(report, "left_out"), "left out:", report["programs"]["left_out"])
	check(report["totals"]["executed"]["total"] == 0 and report["totals"]["shares"]["lifted"] is None, report["totals"])
	check(reason(report, "not_executed")["loops"] > 0 and not report["loops"]["hottest"], report["loops"])

	small = translate("small", "--root", "tree", "--unseen", "64")
	left = files(small, "left_out")
	check(len(left) == 1 and next(iter(left.values()))["code_bytes"] > 0, "left out:", left)
	check(small["left_to_live"][LEFT.index("unseen_limit")]["units"] > 0, "beyond --unseen:", small["left_to_live"])


def test_readme():
	with open(readme, encoding="utf-8") as file:
		text = file.read()
	for word in [*FATES, *LEFT, *VERDICTS, *HANDS]:
		check(f"`{word}`" in text, "the README does not explain", word)


with tempfile.TemporaryDirectory() as work:
	os.chdir(work)
	test_guest()
	if programs:
		test_tree()
	test_readme()
	os.chdir("/")
for failure in failures:
	print("FAILED:", failure)
sys.exit(bool(failures))
