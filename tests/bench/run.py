#!/usr/bin/env python3
"""Runs the benchmark guest on the host, under Avant with and without cache, and under QEMU's TCG, by turns, and prints
the table."""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time

import launch
import results

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
NATIVE, TCG, LIVE, AOT = "native", "TCG", "Avant live", "Avant aot"
IMAGES = {"rows": "bench.cpio.gz", "boot": "boot.cpio.gz"}
MICROVM = "microvm,pit=on,pic=on,rtc=on"
FALLBACK = "q35"
CLOCK_TOLERANCE = 0.02
SPREAD_TOLERANCE = 1.3
# On QEMU's microvm the calibration against the PIT fails now and then, more often on a busy host; no boot got past this.
TCG_OMEN = re.compile(r"TSC unstable due to could not calculate TSC khz")
BOOT_MARKS = (("first kernel line", launch.FIRST_KERNEL_LINE), ("run init", launch.RUN_INIT_LINE),
              ("shell marker", launch.SHELL_LINE))


class TrainingError(Exception):
    """No cache could be made."""


class Config:
    """One way to run the guest: a name and a list of command builders, of which the later ones are fallbacks."""

    def __init__(self, name, builders, omen=None):
        self.name, self.builders, self.omen = name, builders, omen
        self.notes = []  # launches that were left out


def native_config(options):
    def build(_initrd, settings):
        arguments = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        return [os.path.join(options.out, "bench"), *arguments]
    return Config(NATIVE, [("host", build)])


def command_line(options, settings):
    return " ".join([options.append, *(f"avant.{name}={value}" for name, value in settings.items())])


def tcg_config(options):
    def builder(machine):
        def build(initrd, settings):
            return [options.qemu, "-accel", "tcg,thread=single", "-cpu", options.tcg_cpu, "-M", machine, "-m",
                    options.memory, "-nographic", "-no-reboot", "-kernel", options.kernel, "-initrd", initrd,
                    "-append", command_line(options, settings)]
        return machine.split(",")[0], build
    return Config(TCG, [builder(machine) for machine in options.tcg_machine], TCG_OMEN)


def avant_config(options, definition):
    name, _, extra_options = definition.partition("=")

    def build(initrd, settings):
        return [options.avant_bin, "run", "--kernel", options.kernel, "--initrd", initrd, "--append",
                command_line(options, settings), "--memory", options.memory, *shlex.split(extra_options)]
    return Config(name, [("avant", build)])


def aot_config(live, caches):
    """The first Avant configuration with a cache: `caches` has one for each kind of image that is run."""
    (machine, build_live), = live.builders

    def build(initrd, settings):
        kind = next(kind for kind, image in IMAGES.items() if image == os.path.basename(initrd))
        return build_live(initrd, settings) + ["--engine", "aot", "--cache", caches[kind]["cache"]]
    return Config(AOT, [(machine, build)])


class Campaign:
    """All launches of one invocation: retries, logs, and what was seen."""

    def __init__(self, options):
        self.options = options
        self.launches = []  # for the JSON output
        self.logs = os.path.join(options.out, "logs")
        os.makedirs(self.logs, exist_ok=True)

    def _log(self, config, kind, index, done):
        name = "".join(c if c.isalnum() else "-" for c in config.name)
        path = os.path.join(self.logs, f"{kind}-{name}-{index}.log")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"# {shlex.join(done.command)}\n# {done.outcome}, status {done.status}, {done.seconds:.2f} s\n")
            file.writelines(f"{seconds:9.4f} {text}\n" for seconds, text in done.lines)
        return path

    def attempt(self, config, kind, initrd, settings, started, finished, good):
        """Launches until a launch is good, a bounded number of times; the ones that were not are noted."""
        options = self.options
        start = options.boot_timeout if config.name != NATIVE else options.stall_timeout
        limits = launch.Limits(start, options.stall_timeout, options.timeout, 10, config.omen)
        for index, (machine, build) in enumerate(config.builders):
            for _ in range(options.attempts if index == 0 else 2):
                done = launch.run(build(initrd, settings), started, finished, limits)
                path = self._log(config, kind, len(self.launches), done)
                is_good = good(done)
                self.launches.append({"config": config.name, "machine": machine, "kind": kind, "log": path,
                                      "outcome": done.outcome, "status": done.status, "seconds": done.seconds,
                                      "cpu_seconds": done.cpu_seconds, "used": is_good})
                say(f"  {config.name:12} {kind:5} {machine:8} {done.seconds:6.1f} s, CPU {done.cpu_seconds:6.1f} s  "
                    f"{'ok' if is_good else 'LEFT OUT: ' + done.outcome}")
                if is_good:
                    return done, machine
                config.notes.append(f"{config.name} on {machine}, {kind}: {done.outcome} after "
                                    f"{done.seconds:.0f} s, status {done.status} (left out; log: {path})")
        return None, None


def say(text):
    print(text, file=sys.stderr, flush=True)


def record(campaign, live, kind, initrd):
    """A short run that executes everything once: seconds that it took, and its recording."""
    options = campaign.options
    settings = {"rows": "none"}
    started, good = launch.SHELL_LINE, lambda it: it.time_of(launch.SHELL_LINE) is not None
    if kind == "rows":
        settings = {"rows": options.rows, "reps": options.train_reps, "ms": options.train_ms}
        started, good = launch.BEGIN_LINE, lambda it: results.Run(it.lines).complete
    recording = os.path.join(options.out, f"{kind}.rec")
    (machine, build), = live.builders
    training = Config("training", [(machine, lambda *guest: build(*guest) + ["--record", recording])])
    done, _ = campaign.attempt(training, kind, initrd, settings, started,
                               launch.END_LINE if kind == "rows" else launch.SHELL_LINE,
                               lambda it: good(it) and (it.outcome, it.status) == ("exited", 0))
    if not done:
        raise TrainingError(f"no complete training run ({kind}): {'; '.join(training.notes)}")
    return done.seconds, recording


def translate(options, kind, initrd, recording):
    """Makes the cache of a recording: what is known about it."""
    cache = os.path.join(options.out, f"{kind}.tcache")
    extra = [part.replace("{initrd}", initrd) for part in shlex.split(options.translate_options)]
    command = [options.avant_bin, "translate", "--kernel", options.kernel, "--profile", recording, "--output", cache,
               *extra]
    begun = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    seconds = time.monotonic() - begun
    if done.returncode:
        raise TrainingError(f"{shlex.join(command)} failed with status {done.returncode}: {done.stdout.strip()}")
    return {"cache": cache, "recording": recording, "translate_s": seconds, "bytes": os.path.getsize(cache),
            "output": done.stdout, "command": command}


def make_caches(campaign, live):
    """One cache for each kind of image that is to be run, from a training run unless there is one already."""
    options, caches = campaign.options, {}
    wanted = {"rows": options.rows != "none", "boot": options.boot_rounds > 0}
    for kind in (kind for kind in IMAGES if wanted[kind]):
        given = {"rows": options.rows_cache, "boot": options.boot_cache}[kind]
        if given:
            caches[kind] = {"cache": given, "bytes": os.path.getsize(given)}
            continue
        initrd = os.path.join(options.out, IMAGES[kind])
        seconds, recording = record(campaign, live, kind, initrd)
        caches[kind] = {"record_s": seconds, **translate(options, kind, initrd, recording)}
        say("  " + cache_note(kind, caches[kind]))
    return caches


def cache_note(kind, cache):
    text = f"cache for {IMAGES[kind]}: {cache['bytes'] / 1e6:.1f} MB"
    if "translate_s" not in cache:
        return f"{text}, made before ({cache['cache']})"
    return f"{text}, recorded in {cache['record_s']:.1f} s, translated in {cache['translate_s']:.1f} s"


def run_rows(campaign, configs, settings, rounds):
    runs = {config.name: [] for config in configs}
    machines = {config.name: [] for config in configs}
    initrd = os.path.join(campaign.options.out, IMAGES["rows"])
    for index in range(rounds):
        say(f"round {index + 1} of {rounds}")
        for config in configs:
            done, machine = campaign.attempt(config, "rows", initrd, settings, launch.BEGIN_LINE, launch.END_LINE,
                                            lambda it: results.Run(it.lines).complete)
            if done:
                runs[config.name].append(results.Run(done.lines))
                machines[config.name].append(machine)
    return runs, machines


def run_boots(campaign, configs, rounds):
    """Per configuration and mark the seconds of every launch; only launches on the configuration's first machine."""
    guests = [config for config in configs if config.name != NATIVE]
    boots = {config.name: [] for config in guests}
    initrd = os.path.join(campaign.options.out, IMAGES["boot"])
    for index in range(rounds if guests else 0):
        say(f"boot {index + 1} of {rounds}")
        for config in guests:
            done, machine = campaign.attempt(config, "boot", initrd, {"rows": "none"}, launch.SHELL_LINE,
                                            launch.SHELL_LINE, lambda it: it.time_of(launch.SHELL_LINE) is not None)
            if done and machine == config.builders[0][0]:
                boots[config.name].append({mark: done.time_of(pattern) for mark, pattern in BOOT_MARKS})
            elif done:
                config.notes.append(f"{config.name}: a boot on {machine} is not comparable and was left out")
    return boots


def boot_median(boots, config, mark):
    values = [boot[mark] for boot in boots.get(config, []) if boot[mark] is not None]
    return statistics.median(values) if values else None


def boot_table(boots):
    avants = [name for name in boots if name != TCG]
    titles = [f"TCG/{name}" for name in avants if TCG in boots]
    titles += [f"{avants[0]}/{name}" for name in avants[1:]]
    body = []
    for mark, _ in BOOT_MARKS:
        medians = {name: boot_median(boots, name, mark) for name in boots}
        ratios = [results.ratio(medians[TCG], medians[name]) for name in avants if TCG in boots]
        ratios += [results.ratio(medians[avants[0]], medians[name]) for name in avants[1:]]
        body.append([f"launch to {mark} (s)", *(results.number(value) for value in medians.values()),
                     *map(results.number, ratios)])
    counts = [str(len(samples)) for samples in boots.values()]
    body.append(["launches", *counts, *("" for _ in titles)])
    return results.markdown(["boot", *boots, *titles], body)


def clock_notes(runs):
    notes = []
    for name, list_of_runs in runs.items():
        rates = [run.clock_rate for run in list_of_runs if run.clock_rate is not None]
        wrong = [rate for rate in rates if abs(rate - 1) > CLOCK_TOLERANCE]
        if wrong:
            notes.append(f"the clock of {name} ran at {', '.join(f'{rate:.3f}' for rate in wrong)} of the host's in "
                         f"{len(wrong)} of {len(rates)} runs: its figures are wrong by as much")
    return notes


def noise_notes(rows, runs):
    notes = []
    for config, list_of_runs in runs.items():
        spreads = [(results.spread_of(list_of_runs, name), name) for _, name, _ in rows]
        noisy = sorted(((spread, name) for spread, name in spreads if spread and spread > SPREAD_TOLERANCE),
                       reverse=True)
        if noisy:
            notes.append(f"{config}: the rounds differ by more than {SPREAD_TOLERANCE} in {len(noisy)} of {len(rows)} "
                         f"rows, most in {noisy[0][1]} ({noisy[0][0]:.2f}): was the machine busy?")
    return notes


def list_rows(options):
    """(group, name, unit) of every row, from the program itself."""
    output = subprocess.run([os.path.join(options.out, "bench"), "--list"], check=True, capture_output=True, text=True)
    return [tuple(line.split()) for line in output.stdout.splitlines()]


def check_rows(rows, wanted):
    known = {"all", "none"} | {name for row in rows for name in row[:2]}
    return [name for name in wanted.split(",") if name not in known]


def describe_host():
    model = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg()}


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--kernel", required=True, help="bzImage or vmlinux for the guests")
    add("--append", default="console=ttyS0 mitigations=off", help="kernel command line")
    add("--memory", default="512M", help="memory of the guests")
    add("--avant-bin", default=os.path.join(TOP, "build", "avant"), help="the avant command")
    add("--avant", action="append", metavar="NAME[=OPTIONS]", help="an Avant configuration: its name in the table and "
        f"further options of `avant run`; may be repeated (default: Avant; with a cache: {LIVE})")
    add("--with-cache", action="store_true", help=f"{AOT}: the first Avant configuration again, with caches that are "
        "made beforehand from a short recorded run of each image")
    add("--rows-cache", metavar="FILE", help="a cache to use for the rows instead of making one (implies --with-cache)")
    add("--boot-cache", metavar="FILE", help="the same for the boots")
    add("--train-reps", type=int, default=1, help="--reps of the recorded run")
    add("--train-ms", type=int, default=2, help="--ms of the recorded run")
    add("--translate-options", metavar="OPTIONS", default="", help="further options of `avant translate`; {initrd} "
        "stands for the image that the cache is for")
    add("--no-avant", action="store_true", help="leave Avant out")
    add("--no-tcg", action="store_true", help="leave QEMU out")
    add("--no-native", action="store_true", help="leave the host out")
    add("--qemu", default="qemu-system-x86_64", help="QEMU command")
    add("--tcg-cpu", default="max,-la57", help="QEMU's -cpu")
    add("--tcg-machine", action="append", metavar="MACHINE", help="QEMU's -M; a second one is the fallback "
        f"(default: {MICROVM}, then {FALLBACK})")
    add("--rows", default="all", help="rows and groups, separated by commas; none: boot rows only")
    add("--reps", type=int, default=5, help="samples per row and run")
    add("--ms", type=int, default=20, help="length of a sample in milliseconds")
    add("--rounds", type=int, default=3, help="runs per configuration, taken by turns")
    add("--boot-rounds", type=int, default=5, help="launches per configuration for the boot rows; 0: none")
    add("--attempts", type=int, default=6, help="launches tried before giving up or falling back")
    add("--boot-timeout", type=float, default=45, help="seconds until the guest's init must have spoken")
    add("--stall-timeout", type=float, default=120, help="seconds without output that count as hung")
    add("--timeout", type=float, default=1200, help="seconds that a launch may take")
    add("--out", default=os.path.join(TOP, "build", "bench"), help="programs, images and logs")
    add("--no-build", action="store_true", help="do not run mkbench.sh")
    add("--json", metavar="FILE", help="write everything measured to this file")
    add("--markdown", metavar="FILE", help="write the tables to this file as well")
    options = parser.parse_args(arguments)
    options.out = os.path.abspath(options.out)
    options.with_cache = options.with_cache or bool(options.rows_cache or options.boot_cache)
    options.avant = options.avant or [LIVE if options.with_cache else "Avant"]
    options.tcg_machine = options.tcg_machine or [MICROVM, FALLBACK]
    names = [definition.partition("=")[0] for definition in options.avant]
    if len(set(names)) != len(names) or any(name in ("", NATIVE, TCG, AOT) for name in names):
        parser.error("every Avant configuration needs a name of its own")
    if options.with_cache and options.no_avant:
        parser.error("--with-cache and --no-avant exclude each other")
    if options.rounds < 1 or options.attempts < 1 or options.boot_rounds < 0:
        parser.error("--rounds and --attempts must be at least 1, --boot-rounds 0")
    if not (1 <= options.reps <= 64 and 1 <= options.train_reps <= 64):
        parser.error("--reps and --train-reps must be 1 to 64")
    for path in filter(None, (options.kernel, options.rows_cache, options.boot_cache)):
        if not os.access(path, os.R_OK):
            parser.error(f"cannot read {path}")
    if not options.no_avant and not os.access(options.avant_bin, os.X_OK):
        parser.error(f"{options.avant_bin} is no program (build it, or use --avant-bin or --no-avant)")
    if not options.no_tcg and not shutil.which(options.qemu):
        parser.error(f"{options.qemu} not found (install it, or use --no-tcg)")
    return options


def make_configs(options):
    configs = [] if options.no_native else [native_config(options)]
    configs += [] if options.no_tcg else [tcg_config(options)]
    configs += [] if options.no_avant else [avant_config(options, definition) for definition in options.avant]
    return configs


def report(options, configs, caches, rows, runs, machines, boots):
    """The text to print, and the list of problems."""
    comparison = results.Comparison(rows, runs)
    parts, problems = [], []
    if options.rows != "none":
        parts.append(comparison.table())
        if comparison.ratios(""):
            parts.append(comparison.group_table())
        problems += comparison.problems()
    if boots:
        parts.append(boot_table(boots))
        problems += [f"no complete boot under {name}" for name, samples in boots.items() if not samples]
    notes = [cache_note(kind, cache) for kind, cache in caches.items()]
    notes += clock_notes(runs) + noise_notes(rows, runs) + [note for config in configs for note in config.notes]
    notes += [f"{name}: not faster than TCG on {row} ({value:.2f})" for name, row, value in
              comparison.slower_than_tcg()]
    fallback = [machine for machine in machines.get(TCG, []) if machine != options.tcg_machine[0].split(",")[0]]
    if fallback:
        notes.append(f"{len(fallback)} of {len(machines[TCG])} TCG runs took place on {fallback[0]}")
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    if problems:
        parts.append("\n".join(f"- PROBLEM: {problem}" for problem in problems))
    return "\n\n".join(parts) + "\n", problems, comparison


def as_json(options, configs, caches, rows, runs, machines, boots, launches, comparison, problems):
    table = [{"group": group, "row": name, "unit": unit,
              "ns": {config: comparison.value(config, name) for config in runs},
              "spread": {config: results.spread_of(runs[config], name) for config in runs},
              "ratios": dict(comparison.ratios(name)), "checksums": results.sums_verdict(name, runs)}
             for group, name, unit in rows]
    raw = {name: [{"machine": machine, "ns": run.values, "cold_ns": run.cold, "sums": run.sums,
                   "failures": run.failures, "info": run.info, "clock_rate": run.clock_rate}
                  for run, machine in zip(list_of_runs, machines[name])] for name, list_of_runs in runs.items()}
    return {"host": describe_host(), "options": vars(options), "table": table, "caches": caches, "runs": raw,
            "boots_s": boots, "launches": launches, "notes": [note for config in configs for note in config.notes],
            "problems": problems}


def main(arguments=None):
    options = parse_arguments(arguments)
    # Ending on a signal runs the finally clauses, which end what was started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: sys.exit(128 + n))
    if not options.no_build:
        subprocess.run(["sh", os.path.join(HERE, "mkbench.sh"), "-o", options.out], check=True, stdout=sys.stderr)
    rows = list_rows(options)
    unknown = check_rows(rows, options.rows)
    if unknown:
        say(f"run.py: unknown rows: {', '.join(unknown)}")
        return 2
    configs = make_configs(options)
    campaign = Campaign(options)
    settings = {"rows": options.rows, "reps": options.reps, "ms": options.ms}
    caches = {}
    if options.with_cache:
        say("making caches")
        live = next(config for config in configs if config.name not in (NATIVE, TCG))
        caches = make_caches(campaign, live)
        configs.insert(configs.index(live) + 1, aot_config(live, caches))
    runs, machines, boots = {config.name: [] for config in configs}, {config.name: [] for config in configs}, {}
    if options.rows != "none":
        runs, machines = run_rows(campaign, configs, settings, options.rounds)
    if options.boot_rounds:
        boots = run_boots(campaign, configs, options.boot_rounds)
    text, problems, comparison = report(options, configs, caches, rows, runs, machines, boots)
    print(text, end="")
    if options.markdown:
        with open(options.markdown, "w", encoding="utf-8") as file:
            file.write(text)
    if options.json:
        data = as_json(options, configs, caches, rows, runs, machines, boots, campaign.launches, comparison, problems)
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.write("\n")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        say(f"run.py: {shlex.join(error.cmd)} failed with status {error.returncode}")
        sys.exit(1)
    except TrainingError as error:
        say(f"run.py: {error}")
        sys.exit(1)
