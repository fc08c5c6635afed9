"""Shows what an agent adds to the cost of a whole proxy."""

from .tables import count, spread, table

WITH_ONE_AGENT = ("one agent", "one agent, shared connections", "hyper with one agent")


def on_page(results):
    """The table of the page: one agent, no body."""
    rows = results.proxy["rows"]
    cells = []
    for plain in (row for row in rows if row["proxy"] == "plain" and not row["body_bytes"]):
        connections = plain["connections"]
        one = find(rows, proxy="one agent", body_bytes=0, connections=connections)
        cells.append(
            (
                connections,
                count(plain["requests_per_second"]["median"]),
                count(one["requests_per_second"]["median"]),
                count(one["added"]["p50_us"]["median"]),
                spread(one["added"]["cpu_us"]),
            )
        )
    headings = (
        "connections", "no agent: requests/s", "one agent: requests/s", "added p50 µs",
        "added CPU µs",
    )
    return table(headings, cells)


def run(results):
    proxy = results.proxy
    busy = max(row["busy_elsewhere"]["median"] for row in proxy["rows"])
    return (
        f"{proxy['rounds']} rounds of {proxy['seconds']:g} s each, finished {proxy['finished']}."
        f" Other programs kept at most {busy:.2f} processors busy."
    )


def without_body(results):
    return costs(results.proxy["rows"], 0)


def with_body(results):
    return costs(results.proxy["rows"], 65_536)


def costs(rows, body):
    cells = [
        (
            row["proxy"],
            row["connections"],
            count(row["requests_per_second"]["median"]),
            count(row["p50_us"]["median"]),
            count(row["p99_us"]["median"]),
            f"{row['cpu_us']['median']:.1f}",
            *added(row),
        )
        for row in rows
        if row["body_bytes"] == body
    ]
    headings = (
        "", "connections", "requests/s", "p50 µs", "p99 µs", "CPU µs", "added p50 µs",
        "added CPU µs", "for each agent",
    )
    return table(headings, cells)


def added(row):
    if not row["agents"]:
        return ("–", "–", "–")
    processor = row["added"]["cpu_us"]
    each = f"{processor['median'] / row['agents']:.1f}"
    return (count(row["added"]["p50_us"]["median"]), spread(processor), each)


def compared(results):
    """The CPU that one agent adds, and its ratios to HAProxy's SPOE and to the socket."""
    found = results.proxy["compared"]
    ratios = [
        (title, figure)
        for title, figure in (
            ("ratio to HAProxy with a minimal agent", "to_spoe"),
            ("ratio to the socket", "to_socket"),
        )
        if any(row[figure] for row in found)
    ]
    cells = [
        (
            row["proxy"],
            f"{row['body_bytes']:,}",
            spread(row["added_cpu_us"]),
            spread(row["agent_cpu_us"]),
            *(spread(row[figure]) if row[figure] else "–" for _, figure in ratios),
        )
        for row in found
    ]
    headings = ("", "body, bytes", "added CPU µs", "CPU µs of the agent")
    return table((*headings, *(title for title, _ in ratios)), cells)


def distribution(results):
    """Percentiles without a body, at the largest number of connections."""
    rows = results.proxy["rows"]
    most = max(row["connections"] for row in rows)
    shown = [row for row in rows if row["connections"] == most and not row["body_bytes"]]
    names = [f"p{percentile:g} µs" for percentile, _ in shown[0]["percentiles_us"]]
    cells = [
        (
            row["proxy"],
            *(count(micros) for _, micros in row["percentiles_us"]),
            count(row["max_us"]["median"]),
        )
        for row in shown
    ]
    return table(("", *names, "max µs"), cells)


def own_share(results):
    """Splits the added processor time into user space and kernel."""
    cells = []
    for row in results.proxy["rows"]:
        if row["body_bytes"] or row["proxy"] not in WITH_ONE_AGENT:
            continue
        added = {figure: found["median"] for figure, found in row["added"].items()}
        cells.append(
            (
                row["proxy"],
                row["connections"],
                f"{added['user_us']:.1f}",
                f"{added['cpu_us'] - added['user_us']:.1f}",
                count(added["p50_us"]),
                share(row, added),
            )
        )
    headings = (
        "", "connections", "added CPU in user space, µs", "in the kernel, µs", "added p50, µs",
        "user space's share of it, at most",
    )
    return table(headings, cells)


def share(row, added):
    # With more connections requests wait for each other, which dominates the median.
    if row["connections"] > 1 or added["p50_us"] <= 0:
        return "–"
    return f"{max(added['user_us'], 0) / added['p50_us']:.0%}"


def find(rows, **wanted):
    return next(row for row in rows if wanted.items() <= row.items())
