#!/usr/bin/env python3
"""Are the units that two caches have in common the same byte for byte?

  kept-units.py AVANT OLD NEW PLAIN COUNT LIFTED

NEW was made with --reuse OLD, PLAIN from the same input without. NEW must have the units of PLAIN; COUNT of them, and
LIFTED of these with lifted loops, must have the code, links and other records of OLD, and there must be templates among
them. Gaps are allowed. How a link gets to the other unit is not compared: that one may have moved, or gone.
"""
import json
import struct
import subprocess
import sys

LIFTED = 1
LINK = struct.Struct("<iIII")  # target, cold, flags, site
DIRECT = 2
SITE = 7  # bytes


class Cache:
    def __init__(self, avant, path):
        dump = ["UNIT", "TMPL", "TPAG", "CODE", "TCOD", "LINK", "CELL", "INSN", "TRGT"]
        info = json.loads(subprocess.run([avant, "cache", "info", "--json", path], check=True, capture_output=True).stdout)
        self.chunks = {}
        with open(path, "rb") as file:
            for chunk in info[0]["chunks"]:
                if chunk["type"] in dump:
                    file.seek(chunk["offset"])
                    self.chunks[chunk["type"]] = file.read(chunk["bytes"])
        self.pages = [page["hash"] for page in self.records(avant, path, "TPAG")]
        self.units = {}
        for unit in self.records(avant, path, "UNIT"):
            self.units[unit["pc"], unit["mode"], unit["hash"]] = self.unit(unit)
        for template in self.records(avant, path, "TMPL"):
            key = self.pages[template["page"]], template["offset"], template["mode"], template["hash"]
            self.units[key] = self.template(template)

    @staticmethod
    def records(avant, path, chunk):
        command = [avant, "cache", "dump", "--json", "--chunk", chunk, path]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[0]["chunks"][0]["records"]

    def part(self, chunk, size, first, count):
        return self.chunks[chunk][first * size:(first + count) * size]

    def unit(self, unit):
        """All that must stay where it is, and so does the code."""
        code = bytearray(self.part("CODE", 1, unit["code_offset"], unit["code_length"]))
        links = list(LINK.iter_unpack(self.part("LINK", LINK.size, unit["link_first"], unit["link_count"])))
        for *_, site in links:
            code[site:site + SITE] = bytes(SITE)
        return {
            "flags": int(unit["flags"], 0),
            "place": unit["code_offset"],
            "code": code,
            "links": [(target, cold, flags & ~DIRECT, site) for target, cold, flags, site in links],
            "cells": self.part("CELL", 8, unit["link_first"], unit["link_count"]),
            "insns": self.part("INSN", 16, unit["insn_first"], unit["insn_count"]),
            "numbers": [unit[field] for field in ("link_first", "insn_first") if unit[field.replace("first", "count")]],
        }

    def template(self, template):
        return {
            "flags": int(template["flags"], 0),
            "code": self.part("TCOD", 1, template["code_offset"], template["code_length"]),
            "insns": self.part("INSN", 16, template["insn_first"], template["insn_count"]),
        }


def main():
    avant, *paths, count, lifted = sys.argv[1:]
    old, new, plain = (Cache(avant, path) for path in paths)
    if set(new.units) != set(plain.units):
        sys.exit(f"other units than without --reuse: {set(new.units) ^ set(plain.units)}")
    both = set(old.units) & set(new.units)
    if len(both) != int(count) or len(both) == len(new.units):
        sys.exit(f"{len(both)} of {len(new.units)} units are in both files, not {count}")
    different = [(key, old.units[key], new.units[key]) for key in both if old.units[key] != new.units[key]]
    if different:
        sys.exit(f"not as they were: {different}")
    if sum(old.units[key]["flags"] & LIFTED for key in both) != int(lifted):
        sys.exit(f"not {lifted} of them are lifted")
    if not any("place" not in old.units[key] for key in both):
        sys.exit("there is no template among them")
    if not new.chunks["TRGT"].startswith(old.chunks["TRGT"]):
        sys.exit("targets have other numbers")


main()
