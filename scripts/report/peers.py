"""Tollgate beside the published crate and the floor."""

import math

from . import plots
from .tables import count, spread, table

CALLERS = (1, 16, 64, 256)
SUBJECTS = {
    "tollgate-msgpack": "tollgate, MessagePack",
    "tollgate-json": "tollgate, JSON",
    "published-msgpack": "published, MessagePack",
    "published-json": "published, JSON",
    "tollgate-reverse": "tollgate, MessagePack, agent connects",
    "floor": "bare sockets",
    "tollgate-grpc": "tollgate, gRPC",
    "published-grpc": "published, gRPC",
    "floor-grpc": "bare gRPC",
}
# The same subjects with another allocator than mimalloc.
SYSTEM_SUBJECTS = {
    "tollgate-msgpack-system": "tollgate, MessagePack",
    "published-json-system": "published, JSON",
    "tollgate-grpc-system": "tollgate, gRPC",
    "published-grpc-system": "published, gRPC",
}
SETTINGS = {
    (processes, body): f"{processes} process{'es' if processes == 'two' else ''}, {what}"
    for processes in ("one", "two")
    for body, what in ((0, "headers only"), (65536, "headers and a body of 64 KiB"))
}
# What is to be reached: by tollgate with MessagePack, or by another subject that is named, to which other one, with how
# many callers and processes, with what body, which figure, and how it is to be.
GOALS = (
    ("requests per second at 1 caller, one process", "published-json", 1, "one", 0, "requests_per_second", ">=", 3.5),
    ("requests per second at 16 callers, one process", "published-json", 16, "one", 0, "requests_per_second", ">=", 4),
    ("requests per second at 64 callers, one process", "published-json", 64, "one", 0, "requests_per_second", ">=", 7),
    ("requests per second at 64 callers, two processes", "published-json", 64, "two", 0, "requests_per_second", ">=", 5),
    ("p99 at 64 callers, one process", "published-json", 64, "one", 0, "p99_us", "<=", 0.25),
    ("requests per second at 64 callers, one process", "floor", 64, "one", 0, "requests_per_second", ">=", 0.6),
    ("p50 at 1 caller, two processes", "floor", 1, "two", 0, "p50_us", "<=", 1.5),
    ("requests with bodies per second at 64 callers, one process", "published-json", 64, "one", 65536, "requests_per_second", ">=", 10),
    ("requests per second at 64 callers, two processes, agent connects", "tollgate-msgpack", 64, "two", 0, "requests_per_second", ">=", 0.95, "tollgate-reverse"),
    ("p50 at 1 caller, two processes, agent connects", "tollgate-msgpack", 1, "two", 0, "p50_us", "<=", 1.05, "tollgate-reverse"),
    ("requests over gRPC per second at 16 callers, one process", "published-grpc", 16, "one", 0, "requests_per_second", ">=", 3, "tollgate-grpc"),
    ("requests over gRPC per second at 64 callers, one process", "published-grpc", 64, "one", 0, "requests_per_second", ">=", 5, "tollgate-grpc"),
    ("requests over gRPC per second at 16 callers, one process", "floor-grpc", 16, "one", 0, "requests_per_second", ">=", 0.6, "tollgate-grpc"),
    ("requests over gRPC per second at 64 callers, one process", "floor-grpc", 64, "one", 0, "requests_per_second", ">=", 0.6, "tollgate-grpc"),
)


def goals(results):
    rows = []
    for what, to, callers, processes, body, figure, relation, goal, *subject in GOALS:
        setting = {"concurrency": callers, "processes": processes, "body_bytes": body}
        found = results.ratio(*(subject or ["tollgate-msgpack"]), to, **setting)[figure]
        is_reached = found["median"] >= goal if relation == ">=" else found["median"] <= goal
        sign = "≥" if relation == ">=" else "≤"
        rows.append(
            (
                f"{what}, to {SUBJECTS[to]}",
                f"{sign} {goal}",
                spread(found),
                "yes" if is_reached else "**no**",
                with_system(results, to, setting, figure, *subject),
            )
        )
    return table(("ratio", "goal", "measured", "reached", "with the system's allocator"), rows)


def with_system(results, to, setting, figure, subject="tollgate-msgpack"):
    """The same ratio where neither side has mimalloc, if that is measured."""
    pair = (f"{subject}-system", f"{to}-system")
    if not all(name in SYSTEM_SUBJECTS for name in pair):
        return "–"
    return spread(results.ratio(*pair, **setting)[figure])


def figures(results):
    sections = [
        f"### {title[0].upper()}{title[1:]}\n\n{of_setting(results, processes, body, SUBJECTS)}"
        for (processes, body), title in SETTINGS.items()
    ]
    of_system = of_setting(results, "one", 0, SYSTEM_SUBJECTS)
    sections.append(f"### One process, headers only, with the system's allocator\n\n{of_system}")
    return "\n\n".join(sections)


def of_setting(results, processes, body, subjects):
    rows = []
    for callers in CALLERS:
        for subject, name in subjects.items():
            setting = {"concurrency": callers, "processes": processes, "body_bytes": body}
            row = results.subject(subject, **setting)
            median = {key: value["median"] for key, value in row.items() if isinstance(value, dict)}
            rows.append(
                (
                    name,
                    callers,
                    count(median["requests_per_second"]),
                    f"{median['p50_us']:,.0f}",
                    f"{median['p99_us']:,.0f}",
                    f"{median['p999_us']:,.0f}",
                    f"{median['cpu_us_per_request']:.2f}",
                    f"{median['allocations_per_request']:.2f}",
                )
            )
    headings = ("", "callers", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs", "allocations")
    return table(headings, rows)


def noise(results):
    busy = [row["busy_elsewhere"]["median"] for row in results.peers["subjects"]]
    return max(busy)


def throughput_plot(results):
    series = {
        name: [
            (
                callers,
                results.subject(subject, concurrency=callers, processes="two", body_bytes=0)[
                    "requests_per_second"
                ]["median"],
            )
            for callers in CALLERS
        ]
        for subject, name in SUBJECTS.items()
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
        "Time from due to answered, by requests per second",
        "percentile",
        "µs",
        list(names),
        y_ticks,
        series,
        (math.log10, math.log10),
        (names.get, lambda micros: f"{micros:,g}"),
    )
