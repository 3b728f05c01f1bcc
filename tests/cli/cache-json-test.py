#!/usr/bin/env python3
"""Every example cache through every subcommand of `avant cache`: is the JSON valid, do text and JSON agree on the exit
status, is there a message whenever something is wrong, and does nothing crash? Then whether the numbers of one
subcommand are those of the others.

usage: cache-json-test.py AVANT MAKE_GOLDEN DIRECTORY"""

import glob
import json
import os
import subprocess
import sys
import tempfile

avant, make_golden, examples = (os.path.abspath(path) for path in sys.argv[1:4])
failures = []


def check(good, *what):
	if not good:
		failures.append(" ".join(str(part) for part in what))


def run(subcommand, *arguments):
	return subprocess.run([avant, "cache", subcommand, *arguments], capture_output=True, check=False)


def parse(subcommand, *arguments):
	return json.loads(run(subcommand, "--json", *arguments).stdout)


def every_command(name):
	for subcommand, units in (("info", []), ("list", []), ("dump", []), ("verify", []),
				  ("disasm", ["0", "1", "2", "3", "0x401010", "0x50000010", "start"])):
		text = run(subcommand, "x.tcache", *units)
		as_json = run(subcommand, "--json", "x.tcache", *units)
		for result in (text, as_json):
			check(result.returncode in (0, 1), name, subcommand, "status", result.returncode)
			check(result.stderr.decode().startswith("avant cache") == (result.returncode == 1 and
			      subcommand != "verify"), name, subcommand, "stderr", result.stderr)
		check(text.returncode == as_json.returncode, name, subcommand, "text and JSON disagree")
		try:
			value = json.loads(as_json.stdout)
			check(isinstance(value, list), name, subcommand, "is no array")
		except ValueError as error:
			check(False, name, subcommand, error)
		if subcommand == "verify":
			# a fingerprint is compared by those who want to use the cache; here it only needs to be read
			known = name.startswith("good-") or name in ("bad-translator", "bad-guest-cpu", "bad-options",
								    "bad-host-feature", "bad-host-feature-unknown")
			check(text.returncode == (0 if known else 1), name, "verdict", text.returncode)
			check(value[0]["good"] == known, name, "verdict in JSON", value)


def one_file_agrees():
	info, listed, dump = (parse(subcommand, "x.tcache")[0] for subcommand in ("info", "list", "dump"))
	chunks = {chunk["type"]: chunk for chunk in dump["chunks"]}
	numbers = [str(unit["unit"]) for unit in listed["units"]]
	code = bytes.fromhex(chunks["CODE"]["bytes"])
	check(info["units"]["count"] == len(listed["units"]) == len(chunks["UNIT"]["records"]), "number of units")
	check(info["units"]["code_bytes"] == sum(unit["code_bytes"] for unit in listed["units"]), "bytes of code")
	check([chunk["type"] for chunk in info["chunks"]] == list(chunks), "chunks")
	for unit, record in zip(listed["units"], chunks["UNIT"]["records"]):
		check(unit["address"] == record["pc"] and unit["code_offset"] == record["code_offset"], "unit", unit)
	shown = parse("disasm", "x.tcache", *numbers)
	check(len(shown) == len(numbers), "units shown")
	for unit, listing in zip(shown, listed["units"]):
		host = bytes.fromhex("".join(line["bytes"] for line in unit["host"]))
		begin = listing["code_offset"]
		check(host == code[begin:begin + listing["code_bytes"]], "code of unit", unit["unit"])
		guest = bytes.fromhex("".join(line["bytes"] for line in unit["guest"]))
		check(len(guest) == listing["guest_bytes"], "guest bytes of unit", unit["unit"])
		addresses = {line["address"] for line in unit["guest"]}
		check(all(line["guest"] in addresses for line in unit["host"]), "guest instructions", unit["unit"])


with tempfile.TemporaryDirectory() as work:
	os.chdir(work)
	count = 0
	for path in sorted(glob.glob(os.path.join(examples, "good-*.txt")) + glob.glob(os.path.join(examples, "bad-*.txt"))):
		name = os.path.basename(path)[:-4]
		subprocess.run([make_golden, "--cache", name, "x.tcache"], check=True)
		every_command(name)
		count += 1
	check(count > 100, "only", count, "examples")
	subprocess.run([make_golden, "--cache", "good-all", "x.tcache"], check=True)
	one_file_agrees()

for failure in failures:
	print(failure)
sys.exit(1 if failures else 0)
