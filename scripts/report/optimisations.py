"""Compares operations of tollgate with the alternatives in benches/optimisations."""

from .tables import table, time

LOOK_UPS = 100
REPETITIONS = 100


def section(results):
    rows = [cells for item in ITEMS for cells in item(results)]
    headings = ("operation; alternative", "tollgate", "alternative", "ratio", "limit", "benchmark")
    return table(headings, rows)


def choosing_time(name, agents):
    """Returns a function that formats the time in which a connection is chosen."""
    return lambda results: time(results.nanoseconds(f"connection_choice/{name}/{agents}"))


def look_up_time(name, agents):
    """Returns a function that formats the time in which an agent is found, on one thread."""
    benchmark = f"agent_lookup/{name} alone/{agents}"
    return lambda results: time(results.nanoseconds(benchmark) / LOOK_UPS)


def compared(item, tollgate, alternative, limit, benchmark, per=1):
    tollgate, alternative = tollgate / per, alternative / per
    ratio = f"{alternative / tollgate:.2g}×"
    return (item, time(tollgate), time(alternative), ratio, limit, f"`{benchmark}`")


def lock_contention(results):
    for agents in (1, 1_000):
        for situation in ("alone", "on two threads", "beside a writer"):
            for alternative in ("DashMap", "RwLock<HashMap>"):
                name = f"agent_lookup/{{}} {situation}/{agents}"
                yield compared(
                    f"finding one of {agents:,} agents, {situation}; `{alternative}`",
                    results.nanoseconds(name.format("snapshot")),
                    results.nanoseconds(name.format(alternative)),
                    "0 allocations",
                    "agent_lookup",
                    per=LOOK_UPS,
                )


def choosing(results):
    for agents in (1, 1_000):
        name = f"connection_choice/{{}}/{agents}"
        yield compared(
            f"choosing a connection among {agents:,} agents with four each; model",
            results.nanoseconds(name.format("tollgate")),
            results.nanoseconds(name.format("published")),
            "0 allocations",
            "connection_choice",
        )


def health(results):
    for situation in ("alone", "on two threads"):
        for what, alternative in (("is healthy", "Mutex"), ("last used", "RwLock")):
            yield compared(
                f"{what}, {situation}; `{alternative}`",
                results.nanoseconds(f"health/atomics {situation}/{what}"),
                results.nanoseconds(f"health/{alternative} {situation}/{what}"),
                "0 allocations, no I/O",
                "health",
                per=REPETITIONS,
            )


def serialization(results):
    for headers in (10, 40):
        yield compared(
            f"encoding and decoding {headers} headers; JSON by serde",
            results.nanoseconds(f"encoding/tollgate MessagePack/{headers} headers"),
            results.nanoseconds(f"encoding/published JSON/{headers} headers"),
            "0 allocations",
            "encoding",
        )


def bodies(results):
    for kib in ("1", "64", "1024"):
        yield compared(
            f"encoding and decoding {kib} KiB of body; base64 in JSON",
            results.nanoseconds(f"encoding/tollgate MessagePack/{kib} KiB of body"),
            results.nanoseconds(f"encoding/published JSON/{kib} KiB of body"),
            "0 allocations, no copy",
            "encoding",
        )


def headers(results):
    for count in (10, 40):
        yield compared(
            f"storing {count} headers; `Vec` for each name",
            results.nanoseconds(f"headers/SmallVec/{count}"),
            results.nanoseconds(f"headers/Vec/{count}"),
            "none for a single value",
            "headers",
        )


def affinity(results):
    for situation in ("alone", "on two threads"):
        for kept_in in ("papaya", "Exchange with choice"):
            name = f"affinity/{{}} {situation}/4 later events"
            yield compared(
                f"affinity of a request with four later events in {kept_in}, {situation};"
                " `DashMap`",
                results.nanoseconds(name.format(kept_in)),
                results.nanoseconds(name.format("DashMap")),
                "1.1 allocations" if kept_in == "papaya" else "0 allocations",
                "affinity",
            )


ITEMS = (lock_contention, choosing, health, serialization, bodies, headers, affinity)
