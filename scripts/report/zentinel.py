"""Shows what an agent costs the Zentinel proxy, on the published crate and on tollgate."""

from .tables import count, spread, table


def run(results):
    zentinel = results.zentinel
    busy = max(row["busy_elsewhere"]["median"] for row in zentinel["rows"])
    return (
        f"{zentinel['rounds']} rounds of {zentinel['seconds']:g} s each, finished"
        f" {zentinel['finished']}. Other programs kept at most {busy:.2f} processors busy."
    )


def costs(results):
    cells = [
        (
            f"{row['subject']}, {row['path']}",
            row["connections"],
            count(row["requests_per_second"]["median"]),
            count(row["p50_us"]["median"]),
            f"{row['cpu_us']['median']:.1f}",
            *added(row),
        )
        for row in results.zentinel["rows"]
    ]
    headings = (
        "", "connections", "requests/s", "p50 µs", "CPU µs", "added p50 µs", "added CPU µs",
        "ratio to published",
    )
    return table(headings, cells)


def added(row):
    if row["path"] == "no agent":
        return ("–", "–", "–")
    ratio = row["added_cpu_to_published"]
    return (
        count(row["added_p50_us"]["median"]),
        spread(row["added_cpu_us"]),
        spread(ratio) if ratio and row["subject"] != "published" else "–",
    )


def beside(results):
    cells = [
        (
            subject,
            *(count(found[name]["requests_per_second"]) for name in ("slow", "fast", "alone")),
            *(count(found[name]["p50_us"]) for name in ("slow", "fast", "alone")),
        )
        for subject, found in results.zentinel["beside"].items()
    ]
    headings = (
        "", "slow: requests/s", "fast: requests/s", "fast alone: requests/s", "slow: p50 µs",
        "fast: p50 µs", "fast alone: p50 µs",
    )
    return table(headings, cells)


def killed(results):
    cells = [
        (
            subject,
            count(found["failed"]),
            count(found["requests"]),
            f"{found['failing_seconds']:.2f}",
        )
        for subject, found in results.zentinel["killed"].items()
    ]
    return table(("", "failed requests", "of", "failing for seconds"), cells)
