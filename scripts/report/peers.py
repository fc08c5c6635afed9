"""Compares tollgate with zentinel-agent-protocol and with the floor."""

import math
import platform
import subprocess
from pathlib import Path

from . import plots
from .tables import count, spread, table

CALLERS = (1, 16, 64, 256)
SUBJECTS = {
    "tollgate-msgpack": "tollgate, MessagePack",
    "tollgate-json": "tollgate, JSON",
    "published-msgpack": "zentinel-agent-protocol, MessagePack",
    "published-json": "zentinel-agent-protocol, JSON",
    "tollgate-reverse": "tollgate, MessagePack, agent connects",
    "in-process": "tollgate, agent in the proxy",
    "floor": "bare sockets",
    "tollgate-grpc": "tollgate, gRPC",
    "published-grpc": "zentinel-agent-protocol, gRPC",
    "floor-grpc": "bare gRPC",
}
# Subjects that use the system's allocator instead of mimalloc.
SYSTEM_SUBJECTS = {
    "tollgate-msgpack-system": "tollgate, MessagePack",
    "published-json-system": "zentinel-agent-protocol, JSON",
    "tollgate-grpc-system": "tollgate, gRPC",
    "published-grpc-system": "zentinel-agent-protocol, gRPC",
}
# The table on the page.
PAGE_CALLERS = 64
PAGE_SUBJECTS = (
    "tollgate-msgpack", "tollgate-json", "tollgate-grpc",
    "published-msgpack", "published-json", "published-grpc",
    "floor", "floor-grpc",
)
# The plot of throughput, and the sentences of README.md below it.
PLOT_PROCESSES = "two"
BODY_BYTES = 65_536
SETTINGS = {
    (processes, body): f"{processes} process{'es' if processes == 'two' else ''}, {what}"
    for processes in ("one", "two")
    for body, what in ((0, "headers only"), (BODY_BYTES, "headers and a body of 64 KiB"))
}
FIGURES = {
    "requests_per_second": "requests per second",
    "p50_us": "p50",
    "p99_us": "p99",
}
# Subject, the subject that it is divided by, callers, processes, bytes of body, figure.
RATIOS = (
    ("tollgate-msgpack", "published-json", 1, "one", 0, "requests_per_second"),
    ("tollgate-msgpack", "published-json", 16, "one", 0, "requests_per_second"),
    ("tollgate-msgpack", "published-json", 64, "one", 0, "requests_per_second"),
    ("tollgate-msgpack", "published-json", 64, "two", 0, "requests_per_second"),
    ("tollgate-msgpack", "published-json", 64, "one", 0, "p99_us"),
    ("tollgate-msgpack", "floor", 64, "one", 0, "requests_per_second"),
    ("tollgate-msgpack", "floor", 1, "two", 0, "p50_us"),
    ("tollgate-msgpack", "published-json", 64, "one", BODY_BYTES, "requests_per_second"),
    ("tollgate-reverse", "tollgate-msgpack", 64, "two", 0, "requests_per_second"),
    ("tollgate-reverse", "tollgate-msgpack", 1, "two", 0, "p50_us"),
    ("tollgate-grpc", "published-grpc", 16, "one", 0, "requests_per_second"),
    ("tollgate-grpc", "published-grpc", 64, "one", 0, "requests_per_second"),
    ("tollgate-grpc", "floor-grpc", 16, "one", 0, "requests_per_second"),
    ("tollgate-grpc", "floor-grpc", 64, "one", 0, "requests_per_second"),
)
TAIL_FIGURES = ("p99_us", "p999_us")
ENGINES = ("tollgate", "zentinel-agent-protocol")
SAME_ENCODING = {
    "tollgate-msgpack": "published-msgpack",
    "tollgate-json": "published-json",
    "tollgate-grpc": "published-grpc",
    "tollgate-grpc-system": "published-grpc-system",
}


def machine(results):
    """Describes the machine and the run."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name"))
    rustc = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True)
    peers = results.peers
    rows = [
        ("processor", f"{peers['machine']['cpus']} × {next(models, platform.machine())}"),
        ("kernel", peers["machine"]["kernel"]),
        ("compiler", rustc.stdout.strip()),
        ("`zentinel-agent-protocol`", peers["published_version"]),
        ("rounds, seconds each", f"{peers['rounds']}, {peers['seconds']:g}"),
        ("processors kept busy by other programs, at most", f"{noise(results):.2f}"),
        ("finished", peers["finished"]),
    ]
    return table(("", ""), rows)


def noise(results):
    return max(row["busy_elsewhere"]["median"] for row in results.peers["subjects"])


def on_page(results):
    """The table of the page: one number of callers, in one process and in two."""
    rows = []
    for subject in PAGE_SUBJECTS:
        cells = [SUBJECTS[subject]]
        for processes in ("one", "two"):
            found = medians(results, subject, PAGE_CALLERS, processes, 0)
            cells += [
                count(found["requests_per_second"]),
                count(found["p99_us"]),
                f"{found['cpu_us_per_request']:.2f}",
            ]
            if processes == "one":
                allocations = f"{found['allocations_per_request']:.2f}"
        rows.append([*cells, allocations])
    headings = [""]
    for processes in ("one process", "two processes"):
        headings += [f"{processes}: requests/s", "p99 µs", "CPU µs"]
    return table([*headings, "allocations"], rows)


def readme(results):
    """The sentences of README.md, in the setting of the plot that they follow."""
    ours, theirs = (
        medians(results, subject, PAGE_CALLERS, PLOT_PROCESSES, 0)
        for subject in ("tollgate-msgpack", "published-msgpack")
    )
    return (
        f"With {PAGE_CALLERS} callers, MessagePack, and proxy and agent in {PLOT_PROCESSES}"
        f" processes, tollgate answers {count(ours['requests_per_second'])} requests per second and"
        f" takes {ours['cpu_us_per_request']:.2f} µs of processor time for each."
        f" `zentinel-agent-protocol` {results.peers['published_version']} answers"
        f" {count(theirs['requests_per_second'])} and takes"
        f" {theirs['cpu_us_per_request']:.2f} µs."
        " [PERFORMANCE.md](PERFORMANCE.md) names the command."
    )


def figures(results):
    """All raw tables."""
    sections = [
        f"### {capitalized(title)}\n\n{of_setting(results, processes, body, SUBJECTS)}"
        for (processes, body), title in SETTINGS.items()
    ]
    of_system = of_setting(results, "one", 0, SYSTEM_SUBJECTS)
    sections.append(f"### One process, headers only, with the system's allocator\n\n{of_system}")
    return "\n\n".join(sections)


def of_setting(results, processes, body, subjects):
    rows = []
    for callers in CALLERS:
        for subject, name in subjects.items():
            found = medians(results, subject, callers, processes, body)
            rows.append(
                (
                    name,
                    callers,
                    count(found["requests_per_second"]),
                    count(found["p50_us"]),
                    count(found["p99_us"]),
                    count(found["p999_us"]),
                    f"{found['cpu_us_per_request']:.2f}",
                    f"{found['allocations_per_request']:.2f}",
                )
            )
    headings = (
        "", "callers", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs", "allocations",
    )
    return table(headings, rows)


def medians(results, subject, callers, processes, body):
    row = results.subject(subject, concurrency=callers, processes=processes, body_bytes=body)
    return {key: value["median"] for key, value in row.items() if isinstance(value, dict)}


def ratios(results):
    rows = []
    for subject, to, callers, processes, body, figure in RATIOS:
        setting = {"concurrency": callers, "processes": processes, "body_bytes": body}
        rows.append(
            (
                f"{SUBJECTS[subject]} to {SUBJECTS[to]}: {FIGURES[figure]}"
                f" at {callers} caller{'s' if callers > 1 else ''},"
                f" {SETTINGS[processes, body]}",
                spread(results.ratio(subject, to, **setting)[figure]),
                with_system(results, subject, to, setting, figure),
            )
        )
    return table(("ratio", "mimalloc", "the system's allocator"), rows)


def with_system(results, subject, to, setting, figure):
    """The ratio where neither side has mimalloc, if that is measured."""
    pair = (f"{subject}-system", f"{to}-system")
    if not all(name in SYSTEM_SUBJECTS for name in pair):
        return "–"
    return spread(results.ratio(*pair, **setting)[figure])


def floor_share(results):
    setting = {"concurrency": PAGE_CALLERS, "processes": "one", "body_bytes": 0}
    ratio = results.ratio("tollgate-msgpack", "floor", **setting)["requests_per_second"]
    return f"{100 * ratio['median']:.0f} %"


def json_body_allocations(results):
    found = medians(results, "tollgate-json", PAGE_CALLERS, "one", BODY_BYTES)
    return f"{found['allocations_per_request']:.2f}"


def comparisons(results):
    """Yields each setting in which both engines are measured with the same encoding."""
    for (processes, body), title in SETTINGS.items():
        for subject, to in SAME_ENCODING.items():
            is_system = subject in SYSTEM_SUBJECTS
            if is_system and (processes, body) != ("one", 0):
                continue
            for callers in CALLERS:
                ours = medians(results, subject, callers, processes, body)
                theirs = medians(results, to, callers, processes, body)
                name = SYSTEM_SUBJECTS[subject] if is_system else SUBJECTS[subject]
                where = f"{title}, the system's allocator" if is_system else title
                yield f"{name}, {callers} caller{'s' if callers > 1 else ''}; {where}", ours, theirs


def compared_settings(results):
    return str(sum(1 for _ in comparisons(results)))


def slower_settings(figure, is_slower):
    """Returns a function that counts the settings in which a figure of tollgate is worse."""
    return lambda results: str(
        sum(is_slower(ours[figure], theirs[figure]) for _, ours, theirs in comparisons(results))
    )


def slower(results):
    """The settings in which tollgate is slower than zentinel-agent-protocol."""
    rows = [
        (
            setting,
            *(count(side[figure]) for figure in TAIL_FIGURES for side in (ours, theirs)),
        )
        for setting, ours, theirs in comparisons(results)
        if any(ours[figure] > theirs[figure] for figure in TAIL_FIGURES)
    ]
    headings = [f"{name} µs: {side}" for name in ("p99", "p99.9") for side in ENGINES]
    return table(("", *headings), rows)


def capitalized(title):
    return f"{title[0].upper()}{title[1:]}"


def throughput_plot(results):
    series = {
        name: [
            (callers, medians(results, subject, callers, PLOT_PROCESSES, 0)["requests_per_second"])
            for callers in CALLERS
        ]
        for subject, name in SUBJECTS.items()
        # It has no socket, and so answers several times as many.
        if subject != "in-process"
    }
    most = max(y for points in series.values() for _, y in points)
    step = 10 ** math.floor(math.log10(most))
    step = step / 5 if most / step < 3 else step / 2 if most / step < 6 else step
    ticks = [step * n for n in range(math.ceil(most / step) + 1)]
    return plots.lines(
        "Requests per second, agent in another process",
        "callers",
        "requests per second",
        CALLERS,
        ticks,
        series,
        (math.log2, float),
        (str, lambda rate: f"{rate / 1000:g} k"),
    )


def latency_plot(results):
    series = {
        f"{row['rate']:,.0f} per second": [
            (1 / (1 - min(percentile, 99.999) / 100), micros)
            for percentile, micros in row["percentiles_us"]
            if percentile < 100
        ]
        for row in results.latency
    }
    names = {2: "50 %", 10: "90 %", 100: "99 %", 1_000: "99.9 %", 10_000: "99.99 %"}
    most = max(y for points in series.values() for _, y in points)
    y_ticks = [10**power for power in range(1, math.ceil(math.log10(most)) + 1)]
    return plots.lines(
        "Time from scheduled start to answer",
        "percentile",
        "µs",
        list(names),
        y_ticks,
        series,
        (math.log10, math.log10),
        (names.get, lambda micros: f"{micros:,g}"),
    )
