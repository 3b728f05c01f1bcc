"""Reads what the benchmark guest printed and computes the table from many runs."""

import math
import re
import statistics

ROW = re.compile(r"^(ROW|COLD) (\S+) (ns|us|ms) ([0-9.]+)$")
SUM = re.compile(r"^SUM (\S+) ([0-9a-f]{16})$")
FAIL = re.compile(r"^FAIL (\S+) (.*)$")
INFO = re.compile(r"^INFO (\S+) (.*)$")
MARK = re.compile(r"^BENCH (BEGIN|END) ([0-9]+)$")
NANOSECONDS = {"ns": 1.0, "us": 1e3, "ms": 1e6}


class Run:
    """One complete run of the benchmark guest. Values are nanoseconds."""

    def __init__(self, lines):
        self.values, self.cold, self.units, self.sums, self.failures, self.info = {}, {}, {}, {}, {}, {}
        marks = {}
        for seconds, text in lines:
            if match := ROW.match(text):
                kind, name, unit, number = match.groups()
                (self.values if kind == "ROW" else self.cold)[name] = float(number) * NANOSECONDS[unit]
                self.units[name] = unit
            elif match := SUM.match(text):
                self.sums[match[1]] = match[2]
            elif match := FAIL.match(text):
                self.failures[match[1]] = match[2]
            elif match := INFO.match(text):
                self.info[match[1]] = match[2]
            elif match := MARK.match(text):
                marks[match[1]] = (seconds, int(match[2]) / 1e9)
        self.complete = len(marks) == 2
        self.clock_rate = None  # guest seconds per host second between the first and the last line
        if self.complete:
            host = marks["END"][0] - marks["BEGIN"][0]
            if host > 1:
                self.clock_rate = (marks["END"][1] - marks["BEGIN"][1]) / host


def median_of(runs, name):
    values = [run.values[name] for run in runs if name in run.values]
    return statistics.median(values) if values else None


def spread_of(runs, name):
    """Largest over smallest value of a row: how much noise there was."""
    values = [run.values[name] for run in runs if name in run.values]
    return max(values) / min(values) if values and min(values) > 0 else None


def ratio(a, b):
    return a / b if a is not None and b else None


def geometric_mean(values):
    values = [value for value in values if value]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def sums_verdict(name, runs_by_config):
    """'equal' if every run of every configuration printed one and the same checksum, '-' if the row has none."""
    seen, missing = set(), False
    for runs in runs_by_config.values():
        for run in runs:
            if name in run.sums:
                seen.add(run.sums[name])
            elif name in run.values:
                missing = True
    if not seen:
        return "-"
    return "equal" if len(seen) == 1 and not missing else "DIFFERENT"


def number(value):
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 10 else f"{value:.3g}"


def markdown(header, rows):
    """A table; the first column is text, the others numbers."""
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


class Comparison:
    """The rows of all configurations side by side. Configurations other than native and TCG are Avant's."""

    def __init__(self, rows, runs_by_config, native="native", tcg="TCG"):
        self.rows = rows  # (group, name, unit)
        self.runs = runs_by_config
        self.native, self.tcg = native, tcg
        self.avants = [name for name in runs_by_config if name not in (native, tcg)]

    def value(self, config, name):
        return median_of(self.runs.get(config, []), name)

    def ratios(self, name):
        """Pairs of column title and ratio."""
        native, tcg = self.value(self.native, name), self.value(self.tcg, name)
        pairs = []
        if self.native in self.runs and self.tcg in self.runs:
            pairs.append(("TCG/native", ratio(tcg, native)))
        for config in self.avants:
            value = self.value(config, name)
            if self.native in self.runs:
                pairs.append((f"{config}/native", ratio(value, native)))
            if self.tcg in self.runs:
                pairs.append((f"TCG/{config}", ratio(tcg, value)))
        pairs += [(f"{self.avants[0]}/{other}", ratio(self.value(self.avants[0], name), self.value(other, name)))
                  for other in self.avants[1:]]
        return pairs

    def table(self):
        configs = list(self.runs)
        titles = [title for title, _ in self.ratios("")]
        body = []
        for _, name, unit in self.rows:
            if all(self.value(config, name) is None for config in configs) and not self.failed(name):
                continue
            cells = []
            for config in configs:
                value = self.value(config, name)
                failed = any(name in run.failures for run in self.runs[config])
                cells.append("FAILED" if failed else number(ratio(value, NANOSECONDS[unit])))
            body.append([f"{name} ({unit})", *cells, *(number(value) for _, value in self.ratios(name)),
                         sums_verdict(name, self.runs)])
        return markdown(["row", *configs, *titles, "checksums"], body)

    def group_table(self):
        """Geometric means of the ratios, by group of rows."""
        titles = [title for title, _ in self.ratios("")]
        body = []
        groups = list(dict.fromkeys(group for group, _, _ in self.rows))
        compute = {"integer", "codec", "call", "library"}
        wanted = [(group, {group}) for group in groups] + [("integer compute together", compute), ("all", set(groups))]
        for label, members in wanted:
            names = [name for group, name, _ in self.rows if group in members]
            columns = [dict(self.ratios(name)) for name in names]
            means = [geometric_mean([column[title] for column in columns]) for title in titles]
            if any(means):
                body.append([label, *map(number, means)])
        return markdown(["geometric mean", *titles], body)

    def failed(self, name):
        return any(name in run.failures for runs in self.runs.values() for run in runs)

    def problems(self):
        """What makes the result one that must not be trusted."""
        found = []
        for _, name, _ in self.rows:
            if sums_verdict(name, self.runs) == "DIFFERENT":
                found.append(f"checksums of {name} differ")
        for config, runs in self.runs.items():
            for name in dict.fromkeys(name for run in runs for name in run.failures):
                reason = next(run.failures[name] for run in runs if name in run.failures)
                found.append(f"{name} failed under {config}: {reason}")
            if not runs:
                found.append(f"no complete run under {config}")
        return found

    def slower_than_tcg(self):
        """(configuration, row, TCG/Avant) of the rows on which Avant does not win."""
        lost = []
        for config in self.avants:
            for _, name, _ in self.rows:
                value = ratio(self.value(self.tcg, name), self.value(config, name))
                if value is not None and value <= 1:
                    lost.append((config, name, value))
        return lost
