#!/usr/bin/env python3
"""avant translate with several inputs, and twice with the same: programs that trees or images share are translated once, and
the code of all is there; the same input gives the same bytes, whatever the number of threads and the order of directories.

usage: translate-images-test.py AVANT LOOPS SHARED FIRST SECOND   LOOPS: guest/asm/loops.S; three independent programs"""

import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile

avant, loops, shared, first, second = (os.path.abspath(path) for path in sys.argv[1:6])
failures = []


def check(good, *what):
	if not good:
		failures.append(" ".join(str(part) for part in what))


def run(*command, status=0):
	done = subprocess.run([avant, *command], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
	check(done.returncode == status, *command, "exit status", done.returncode, done.stderr)
	return done.stdout


def tree(name, files):
	os.mkdir(name)
	for file, source in files:
		os.makedirs(os.path.dirname(f"{name}/{file}"), exist_ok=True)
		shutil.copy(source, f"{name}/{file}")


def image(name):
	"""An ext4 image of the tree; False if there are no tools for that."""
	tool = shutil.which("mke2fs", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
	return tool and subprocess.run([tool, "-q", "-F", "-t", "ext4", "-d", name, name + ".img", "16M"],
	                               capture_output=True, check=False).returncode == 0


def chunk(name, kind):
	[chunks] = json.loads(run("cache", "dump", "--json", "--chunk", kind, name))
	return chunks["chunks"][0]["records"]


def templates(name):
	"""What a cache has code for: contents of the page, place in it, contents of the code."""
	pages = [page["hash"] for page in chunk(name, "TPAG")]
	return [(pages[code["page"]], code["offset"], code["hash"]) for code in chunk(name, "TMPL")]


def translate(name, *inputs):
	run("translate", *inputs, "-o", name + ".tcache", "--report", name + ".json")
	run("cache", "verify", "--retranslate", name + ".tcache")
	with open(name + ".json", encoding="utf-8") as file:
		return templates(name + ".tcache"), json.load(file)["programs"]


def test_shared(kind, one, other):
	alone = {source: set(translate("alone", "--root", source + ".tree")[0]) for source in ("shared", "first", "second")}
	a, _ = translate("a", kind, one)
	both, programs = translate("both", kind, one, kind, other)
	check(programs["scanned"]["files"] == 3 and programs["copies"] == 1, kind, "programs:", programs)
	check(len(both) == len(set(both)), kind, "code is there twice")
	check(set(both) == alone["shared"] | alone["first"] | alone["second"], kind, "other code than that of the three programs")
	check(set(a) == alone["shared"] | alone["first"], kind, "other code than that of two programs")
	check(len(both) == sum(len(code) for code in alone.values()), kind, "the programs are too much alike for this test")
	with open("both.json", encoding="utf-8") as file:
		units = json.load(file)["totals"]["units"]
	check(units["translated"] == len(both), kind, units, "units translated,", len(both), "in the cache")


def same(name, options, *inputs):
	for variant, more in options.items():
		run("translate", *inputs, *more, "-o", f"{name}-{variant}.tcache")
		check(filecmp.cmp(f"{name}-plain.tcache", f"{name}-{variant}.tcache", shallow=False), name, variant, "other bytes")


def test_same(images):
	threads = {"plain": [], "again": [], "one": ["--jobs", "1"], "two": ["--jobs", "2"], "seven": ["--jobs", "7"]}
	same("root", threads, "--root", "a")
	if images:
		same("image", threads, "--image", "a.img", "--image", "b.img")
	# the same names and contents, made in another order
	tree("made", [])
	for file in ("lib/shared", "bin/own"):
		os.makedirs(os.path.dirname(f"made/{file}"))
		shutil.copy(f"a/{file}", f"made/{file}")
	run("translate", "--root", "made", "-o", "made.tcache")
	check(filecmp.cmp("root-plain.tcache", "made.tcache", shallow=False), "a tree made in another order: other bytes")
	# LLVM has something to do
	run("run", "--kernel", loops, "--memory", "64M", "--debug-exit", "--timeout", "20", "--record", "loops.rec", status=43)
	same("recording", threads, "--kernel", loops, "--only-recorded", "--profile", "loops.rec")
	[info] = json.loads(run("cache", "info", "--json", "recording-plain.tcache"))
	check(info["units"]["lifted"] >= 2, "hardly anything is lifted:", info["units"])


with tempfile.TemporaryDirectory() as work:
	os.chdir(work)
	for which, path in ("shared", shared), ("first", first), ("second", second):
		tree(which + ".tree", [("bin/program", path)])
	tree("a", [("bin/own", first), ("lib/shared", shared)])
	tree("b", [("bin/own", second), ("opt/other-name", shared)])
	test_shared("--root", "a", "b")
	have_images = image("a") and image("b")
	if have_images:
		test_shared("--image", "a.img", "b.img")
	else:
		print("no mke2fs: images are not tested")
	test_same(have_images)
	os.chdir("/")
for failure in failures:
	print("FAILED:", failure)
sys.exit(bool(failures))
