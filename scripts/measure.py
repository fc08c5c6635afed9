"""Shared by the scripts that measure: commands, results, options, rounds, spreads and noise."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BODY_BYTES = 64 * 1024
# Processors that other programs may keep busy without a warning.
NOISE = 0.1


def add_options(parser, rounds, quick, output):
    """Adds the common options; `rounds` is the default, and `quick` explains --quick."""
    parser.add_argument("--rounds", type=int, help=f"number of rounds, {rounds} by default")
    parser.add_argument(
        "--body",
        action=argparse.BooleanOptionalAction,
        help="measure only requests with a body of 64 KiB, or only those without; default: both",
    )
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--no-build", action="store_true", help="measure the existing build")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "target/performance" / output, metavar="FILE"
    )


def apply_defaults(options, rounds):
    """Sets the number of rounds, and `options.body` to the sizes of bodies to measure."""
    options.rounds = options.rounds or (2 if options.quick else rounds)
    options.body = {None: [0, BODY_BYTES], True: [BODY_BYTES], False: [0]}[options.body]


def measure_rounds(settings, names, rounds, measure, is_measured=lambda name, setting: True):
    """Calls `measure(name, setting)` in each round; returns all reports by setting and name.

    A name without `is_measured(name, setting)` has no reports in that setting.
    """
    reports = {(setting, name): [] for setting in settings for name in names}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for setting in settings:
            # The state of the machine depends on the position in a round, so the order rotates.
            first = number % len(names)
            for name in names[first:] + names[:first]:
                if is_measured(name, setting):
                    reports[setting, name].append(measure(name, setting))
    return reports


class Processors:
    """Processor time used so far, in seconds: by all programs, and by the benchmark.

    The benchmark is the children that have ended and `running`, processor time in seconds that
    running processes of the benchmark have used.
    """

    def __init__(self, running=0.0):
        ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _wait, interrupts, soft_interrupts, stolen = map(int, ticks[:8])
        busy = user + nice + system + interrupts + soft_interrupts + stolen
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.time = time.monotonic()
        self.busy = busy / os.sysconf("SC_CLK_TCK")
        self.ours = children.ru_utime + children.ru_stime + running

    def busy_elsewhere_since(self, before):
        """Returns how many processors were busy with other programs on average."""
        others = (self.busy - before.busy) - (self.ours - before.ours)
        return round(max(0.0, others / (self.time - before.time)), 3)


def warn_of_noise(reports):
    """Warns if other programs were so busy that the figures are not reliable."""
    busy = spread(report["busy_elsewhere"] for rounds in reports.values() for report in rounds)
    if busy["median"] > NOISE:
        progress(
            f"warning: other programs kept {busy['median']:.2f} processors busy (at most"
            f" {busy['max']:.2f}), so the figures are not reliable"
        )


def spread(values):
    """Returns the least, the median and the greatest value, or `None` without values."""
    values = sorted(values)
    if not values:
        return None
    return {"min": values[0], "median": statistics.median(values), "max": values[-1]}


def write(options, result):
    """Writes the result as JSON, with the machine and the options that led to it."""
    result = {
        "machine": {"cpus": os.cpu_count(), "kernel": os.uname().release},
        "rounds": options.rounds,
        "seconds": options.seconds,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **result,
    }
    write_json(options.output, result)
    progress(f"written to {options.output}")


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def run(command, **options):
    """Runs a command in the root of the repository; the script ends if it fails."""
    process = subprocess.run(command, cwd=ROOT, text=True, **options)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with status {process.returncode}")
    return process.stdout


def progress(text):
    print(text, file=sys.stderr, flush=True)
