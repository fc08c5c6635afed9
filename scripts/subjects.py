"""Programs that the benchmarks compare: tollgate, zentinel-agent-protocol and the floors."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from measure import ROOT, Processors, run

OWN_PROGRAM = Path(
    os.environ.get("TOLLGATE_BENCH_SUBJECT", ROOT / "target/release/bench_subject")
)
PEERS = Path(os.environ.get("TOLLGATE_PEERS", ROOT / "target/peers"))
ZENTINEL_VERSION = "0.6.54"
# Seconds for a measurement beyond twice its length.
TIMEOUT = 30.0


class Subject(NamedTuple):
    """A program to measure, with the encoding and the allocator that it must report."""

    command: list
    encoding: str
    allocator: str = "mimalloc"


SUBJECTS = {
    "tollgate-msgpack": Subject([OWN_PROGRAM, "tollgate-msgpack"], "msgpack"),
    "tollgate-shared": Subject([OWN_PROGRAM, "tollgate-shared"], "msgpack"),
    "tollgate-json": Subject([OWN_PROGRAM, "tollgate-json"], "json"),
    # The agent connects to the proxy, over the same kind of socket.
    "tollgate-reverse": Subject([OWN_PROGRAM, "tollgate-reverse"], "msgpack"),
    # The proxy's tasks run the agent's handler. In two processes, that of the agent stays idle.
    "in-process": Subject([OWN_PROGRAM, "in-process"], "none"),
    # zentinel-agent-protocol takes its encoding from the build.
    "published-msgpack": Subject([PEERS / "peer-0-6-54", "bench"], "msgpack"),
    "published-json": Subject([PEERS / "peer-0-6-54-json", "bench"], "json"),
    "floor": Subject([OWN_PROGRAM, "floor"], "none"),
    "tollgate-grpc": Subject([OWN_PROGRAM, "tollgate-grpc"], "protobuf"),
    "published-grpc": Subject([PEERS / "peer-0-6-54", "bench-grpc"], "protobuf"),
    # tonic with messages that are not decoded.
    "floor-grpc": Subject([OWN_PROGRAM, "floor-grpc"], "none"),
}
# These are measured a second time, with the system's allocator instead of mimalloc.
SUBJECTS |= {
    f"{name}-system": SUBJECTS[name]._replace(allocator="system")
    for name in ("tollgate-msgpack", "published-json", "tollgate-grpc", "published-grpc")
}


def build(subjects):
    if any(is_zentinel(subject) for subject in subjects) and "TOLLGATE_PEERS" not in os.environ:
        # Output of cargo and apt goes to stderr, so that stdout has only the tables.
        run([ROOT / "scripts/interop-peers"], stdout=sys.stderr)
    if not all(is_zentinel(subject) for subject in subjects):
        command = ["cargo", "build", "--release", "-j2", "-p", "tollgate-interop"]
        run([*command, "--features", "grpc", "--bin", "bench_subject"], stdout=sys.stderr)


def is_zentinel(subject):
    return subject.startswith("published")


def measure(subject, options, seconds, processor=None, environment=None):
    """Measures a subject once, with its proxy's side bound to `processor` if that is given."""
    command = [*subject.command, "measure", "--seconds", str(seconds), *options]
    if processor is not None:
        command = ["taskset", "-c", str(processor), *command]
    before = Processors()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, timeout=2 * seconds + TIMEOUT,
        env={**os.environ, **(environment or {}), "TOLLGATE_ALLOCATOR": subject.allocator},
    )
    report = json.loads(done.stdout)
    for trait in ("encoding", "allocator"):
        wanted = getattr(subject, trait)
        if report[trait] != wanted:
            raise SystemExit(f"{subject.command} used {trait} {report[trait]}, not {wanted}")
    report["busy_elsewhere"] = Processors().busy_elsewhere_since(before)
    return report


def any_errors(reports):
    failed = False
    for (setting, subject), of_rounds in reports.items():
        errors = sum(report["errors"] for report in of_rounds)
        silent = any(report["requests"] == 0 for report in of_rounds)
        if errors or silent:
            causes = {report["first_error"] for report in of_rounds} - {None}
            print(f"{subject}, {setting.title()}: {errors} errors {causes or ''}", file=sys.stderr)
            failed = True
    return failed
