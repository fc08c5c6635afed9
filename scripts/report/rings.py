"""Compares shared memory with the socket."""

from .peers import SUBJECTS
from .tables import count, spread, table

NAMES = {
    **SUBJECTS,
    "tollgate-msgpack": "tollgate, socket",
    "tollgate-shared": "tollgate, shared memory",
    "tollgate-shared-busy": "tollgate, shared memory, `BusyPoll`",
}


def run(results):
    rings = results.rings
    busy = max(row["busy_elsewhere"]["median"] for row in rings["rows"])
    return (
        f"{rings['rounds']} rounds of {rings['seconds']:g} s each on {rings['machine']['cpus']}"
        f" processors, kernel {rings['machine']['kernel']}, finished {rings['finished']}. Other"
        f" programs, the one that computes included, kept at most {busy:.2f} processors busy."
    )


def goals(results):
    rows = [
        (
            named(goal["title"]),
            f"{'≥' if goal['is_least'] else '≤'} {goal['bound']:g}",
            spread(goal["found"]),
            "yes" if goal["is_reached"] else "**no**",
        )
        for goal in results.rings["goals"]
    ]
    return table(("", "goal", "found", "reached"), rows)


def named(title):
    """Puts names in place of those of subjects, the longest first, and of figures."""
    for subject in sorted(NAMES, key=len, reverse=True):
        title = title.replace(subject, NAMES[subject])
    for name, text in (("p50_us", "p50 µs"), ("cpu_us", "CPU µs"), ("_", " ")):
        title = title.replace(name, text)
    return title


def figures(place):
    """Returns a function that makes the table of a place."""
    return lambda results: figures_of(results.rings, place)


def figures_of(rings, place):
    rows = [
        (
            NAMES[row["subject"]],
            row["callers"],
            "64 KiB" if row["body_bytes"] else "–",
            spread_of_counts(row["requests_per_second"]),
            f"{row['p50_us']['median']:,.1f}",
            f"{row['p99_us']['median']:,.1f}",
            spread(row["cpu_us"]),
            *(each(row[f"{name}_per_request"]) for name in ("doorbells", "sleeps", "vain_spins")),
        )
        for row in rings["rows"]
        if row["place"] == place
    ]
    headings = (
        "", "callers", "body", "requests/s", "p50 µs", "p99 µs", "CPU µs", "doorbells", "sleeps",
        "vain spins",
    )
    return table(headings, rows)


def spread_of_counts(found):
    return f"{count(found['median'])} ({count(found['min'])} to {count(found['max'])})"


def each(found):
    return f"{found['median']:.3f}" if found else "–"


def ratios(results):
    rows = [
        (
            f"{NAMES[row['subject']]} to {NAMES[row['to']]}",
            results.rings["places"][row["place"]],
            row["callers"],
            "64 KiB" if row["body_bytes"] else "–",
            spread(row["requests_per_second"]),
            spread(row["cpu_us"]),
        )
        for row in results.rings["ratios"]
    ]
    return table(("", "place", "callers", "body", "requests/s", "CPU"), rows)
