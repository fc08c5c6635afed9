"""PERFORMANCE.md as a whole."""

import platform
import re
import subprocess
from pathlib import Path

from . import peers, proxy, roadmap
from .results import Results
from .tables import count, table


# Before the first heading.
TOP = ""


def write(root, headings):
    """Writes the sections under these headings; [`TOP`] is what stands before all of them."""
    results = Results(root)
    template = sections((root / "scripts/report/page.md").read_text())
    page = root / "PERFORMANCE.md"
    present = sections(page.read_text())
    text = "".join(
        rendered(section, results, root) if heading in headings else present.get(heading, "")
        for heading, section in template.items()
    )
    page.write_text(text)
    print("written to PERFORMANCE.md")


def sections(text):
    """The parts of a page by their headings of the second rank, with these, in order."""
    top, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return {TOP: top, **{part.split("\n", 1)[0].removeprefix("## "): part for part in parts}}


def rendered(section, results, root):
    for name, plot in PLOTS.items():
        if f"docs/performance/{name}.svg" in section:
            (root / f"docs/performance/{name}.svg").write_text(plot(results))
    return re.sub(r"{{(\w+)}}", lambda part: PARTS[part[1]](results), section)


def machine(results):
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )
    rustc = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True)
    busy = peers.noise(results)
    rows = [
        ("processor", f"{results.peers['machine']['cpus']} × {model}"),
        ("kernel", results.peers["machine"]["kernel"]),
        ("compiler", rustc.stdout.strip()),
        ("published crate", f"`zentinel-agent-protocol` {results.peers['published_version']}"),
        ("rounds, seconds each", f"{results.peers['rounds']}, {results.peers['seconds']:g}"),
        ("processors that other programs kept busy, at most", f"{busy:.2f}"),
        ("finished", results.peers["finished"]),
    ]
    return table(("", ""), rows)


def allocations(results):
    by_row = {}
    for row in results.allocations:
        by_row.setdefault((row["side"], row["what"]), []).append(row)
    rows = [
        (
            f"{side}: {what}",
            *(f"{figure(found, runtime):g}" if figure(found, runtime) is not None else "–"
              for runtime in ("current-thread", "multi-thread")),
            max(row["budget_per_1000"] for row in found),
        )
        for (side, what), found in sorted(by_row.items())
    ]
    headings = ("per 1,000 events", "current-thread", "multi-thread", "budget")
    return table(headings, rows)


def figure(rows, runtime):
    found = [row["per_1000"] for row in rows if row["runtime"] == runtime]
    return round(max(found), 1) if found else None


def at_rest(results):
    rows = [(row["what"], count(row["figure"]), count(row["limit"])) for row in results.at_rest]
    return table(("", "measured", "limit"), rows)


def instructions(results):
    rows = [
        (f"`{row['name']}`", count(row["instructions"]), count(row["limit"]))
        for row in results.instructions
    ]
    return table(("", "instructions", "limit"), rows)


def latency(results):
    percentiles = [percentile for percentile, _ in results.latency[0]["percentiles_us"]]
    rows = [
        (
            count(row["rate"]),
            count(row["failed"]),
            f"{row['started_late_us']:.0f}",
            *(f"{micros:,.0f}" for _, micros in row["percentiles_us"]),
        )
        for row in results.latency
    ]
    names = [f"p{percentile:g} µs" if percentile < 100 else "max µs" for percentile in percentiles]
    return table(("requests/s", "failed", "started late by, p50 µs", *names), rows)


def streaming(results):
    rows = []
    for kib in ("1", "4", "16", "64", "256", "1024"):
        cells = [f"{kib} KiB"]
        for in_flight in (1, 8):
            name = f"body_chunk_streaming/{in_flight} in flight/{kib} KiB"
            seconds = results.nanoseconds(name) / 1e9
            cells.append(f"{in_flight * int(kib) / 1024 / seconds:,.0f}")
        rows.append(cells)
    return table(("chunk", "MiB/s, one in flight", "MiB/s, eight in flight"), rows)


PLOTS = {"throughput": peers.throughput_plot, "latency": peers.latency_plot}
PARTS = {
    "machine": machine,
    "goals": peers.goals,
    "peers": peers.figures,
    "proxy": proxy.section,
    "roadmap": roadmap.section,
    "allocations": allocations,
    "at_rest": at_rest,
    "instructions": instructions,
    "latency": latency,
    "streaming": streaming,
}
