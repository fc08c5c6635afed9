"""The items of the performance roadmap that the project began from, each with its budget and what it came to."""

from .tables import table, time

LOOK_UPS = 100
REPETITIONS = 100


def section(results):
    rows = [cells for item in ITEMS for cells in item(results)]
    headings = ("item", "tollgate", "the old way", "gain", "budget, kept by tests", "command")
    return table(headings, rows)


def compared(item, new, old, budget, command, per=1):
    new, old = new / per, old / per
    return (item, time(new), time(old), f"{old / new:.2g}×", budget, f"`{command}`")


def lock_contention(results):
    for agents in (1, 1_000):
        for situation in ("alone", "on two threads", "beside a writer"):
            for old in ("DashMap", "RwLock<HashMap>"):
                name = f"agent_lookup/{{}} {situation}/{agents}"
                yield compared(
                    f"finding one of {agents:,} agents, {situation}; `{old}`",
                    results.nanoseconds(name.format("snapshot")),
                    results.nanoseconds(name.format(old)),
                    "0 allocations",
                    "scripts/bench agent_lookup",
                    per=LOOK_UPS,
                )


def choosing(results):
    for agents in (1, 1_000):
        name = f"connection_choice/{{}}/{agents}"
        yield compared(
            f"choosing a connection among {agents:,} agents with four each; published",
            results.nanoseconds(name.format("tollgate")),
            results.nanoseconds(name.format("published")),
            "0 allocations",
            "scripts/bench connection_choice",
        )


def health(results):
    for situation in ("alone", "on two threads"):
        for what, old in (("is healthy", "Mutex"), ("last used", "RwLock")):
            yield compared(
                f"{what}, {situation}; `{old}`",
                results.nanoseconds(f"health/atomics {situation}/{what}"),
                results.nanoseconds(f"health/{old} {situation}/{what}"),
                "0 allocations, no I/O",
                "scripts/bench health",
                per=REPETITIONS,
            )


def serialization(results):
    for headers in (10, 40):
        yield compared(
            f"{headers} headers, there and back; JSON by serde",
            results.nanoseconds(f"encoding/tollgate MessagePack/{headers} headers"),
            results.nanoseconds(f"encoding/published JSON/{headers} headers"),
            "0 allocations",
            "scripts/bench encoding",
        )


def bodies(results):
    for kib in ("1", "64", "1024"):
        yield compared(
            f"{kib} KiB of body, there and back; base64 in JSON",
            results.nanoseconds(f"encoding/tollgate MessagePack/{kib} KiB of body"),
            results.nanoseconds(f"encoding/published JSON/{kib} KiB of body"),
            "0 allocations, no copy",
            "scripts/bench encoding",
        )


def headers(results):
    for count in (10, 40):
        yield compared(
            f"storing {count} headers; `Vec` for each name",
            results.nanoseconds(f"headers/SmallVec/{count}"),
            results.nanoseconds(f"headers/Vec/{count}"),
            "none for a single value",
            "scripts/bench headers",
        )


def affinity(results):
    for situation in ("alone", "on two threads"):
        for new in ("papaya", "Exchange with choice"):
            name = f"affinity/{{}} {situation}/4 later events"
            yield compared(
                f"affinity of a request with four later events in {new}, {situation}; `DashMap`",
                results.nanoseconds(name.format(new)),
                results.nanoseconds(name.format("DashMap")),
                "1.1 allocations" if new == "papaya" else "0 allocations",
                "scripts/bench affinity",
            )


ITEMS = (lock_contention, choosing, health, serialization, bodies, headers, affinity)
