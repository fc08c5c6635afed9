"""Reads the results that the benchmarks leave in target/performance."""

import json
from functools import cached_property

COMMANDS = {
    "peers.json": "scripts/bench-peers",
    "proxy.json": "scripts/bench-proxy",
    "envoy.json": "scripts/bench-envoy",
    "zentinel.json": "scripts/bench-zentinel",
    "rings.json": "scripts/bench-rings",
    "instructions.json": "scripts/bench-instructions",
    "latency.json": "profiling/latency",
    "allocations": "cargo nextest run --test 'alloc_*'",
}
# A part of a name after it selects benchmarks.
BENCH = "cargo bench --features __bench --bench hot_path --bench optimisations --"


class Results:
    """Reads each file when it is first used, so that a section needs only its own benchmark."""

    def __init__(self, root):
        self.folder = root / "target/performance"
        self.criterion = root / "target/criterion"

    @cached_property
    def peers(self):
        return self.read("peers.json")

    @cached_property
    def proxy(self):
        return self.read("proxy.json")

    @cached_property
    def envoy(self):
        return self.read("envoy.json")

    @cached_property
    def zentinel(self):
        return self.read("zentinel.json")

    @cached_property
    def rings(self):
        return self.read("rings.json")

    @cached_property
    def instructions(self):
        return self.read("instructions.json")

    @cached_property
    def latency(self):
        return self.read("latency.json")

    @cached_property
    def wall_clock(self):
        """Medians of the benchmarks in nanoseconds, as criterion writes them."""
        medians = {}
        for path in self.criterion.rglob("new/benchmark.json"):
            estimates = json.loads(path.with_name("estimates.json").read_text())
            name = json.loads(path.read_text())["full_id"]
            medians[name] = estimates["median"]["point_estimate"]
        return medians

    @cached_property
    def allocations(self):
        return [row for row in self.heap if "budget_per_1000" in row]

    @cached_property
    def at_rest(self):
        return [row for row in self.heap if "figure" in row]

    @cached_property
    def heap(self):
        return [json.loads(path.read_text()) for path in self.files("allocations")]

    def read(self, name):
        path = self.folder / name
        if not path.exists():
            raise SystemExit(f"{path} is missing: run {COMMANDS[name]} to measure it")
        return json.loads(path.read_text())

    def files(self, name):
        found = sorted((self.folder / name).glob("*.json"))
        if not found:
            raise SystemExit(f"{self.folder / name} is empty: run {COMMANDS[name]} to fill it")
        return found

    def nanoseconds(self, name):
        """Returns the median of a wall-clock benchmark."""
        if name not in self.wall_clock:
            raise SystemExit(f"{self.criterion} has no benchmark {name!r}: run {BENCH}")
        return self.wall_clock[name]

    def subject(self, subject, **setting):
        """Returns the figures of one subject in one setting."""
        return self.peer_row("subjects", subject=subject, **setting)

    def ratio(self, subject, to, **setting):
        """Returns the ratios of one subject to another in one setting."""
        return self.peer_row("ratios", subject=subject, to=to, **setting)

    def peer_row(self, kind, **wanted):
        for row in self.peers[kind]:
            if wanted.items() <= row.items():
                return row
        raise SystemExit(f"peers.json has no {wanted} among its {kind}")
