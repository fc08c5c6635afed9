"""What an agent hop adds to a whole proxy."""

from .tables import count, spread, table

# Added processor time per request with one agent, in µs, by connections; and the added median with one connection.
CPU_GOALS = ((64, 5), (16, 8))
LATENCY_GOAL = 50
ALTERNATIVES = ("one agent", "one agent, shared connections")


def section(results):
    proxy = results.optional("proxy.json")
    if proxy is None:
        return "Not measured yet: `scripts/bench-proxy` does it."
    rows = proxy["rows"]
    busy = max(row["busy_elsewhere"]["median"] for row in rows)
    parts = [
        f"{proxy['rounds']} rounds of {proxy['seconds']:g} s each, finished {proxy['finished']}; other programs kept at most "
        f"{busy:.2f} processors busy.",
        goals(rows),
        *(costs(rows, body) for body in sorted({row["body_bytes"] for row in rows})),
        "How long requests took, without a body and with 64 connections, or as many as were measured:",
        distribution(rows),
        own_share(rows),
    ]
    return "\n\n".join(part for part in parts if part)


def goals(rows):
    cells = []
    for connections, goal in CPU_GOALS:
        for name in ALTERNATIVES:
            row = find(rows, proxy=name, body_bytes=0, connections=connections)
            if row:
                what = f"added CPU per request at {connections} connections, {name}, µs"
                cells.append(goal_row(what, goal, row["added"]["cpu_us"]))
    for name in ALTERNATIVES:
        row = find(rows, proxy=name, body_bytes=0, connections=1)
        if row:
            cells.append(goal_row(f"added p50 at 1 connection, {name}, µs", LATENCY_GOAL, row["added"]["p50_us"]))
    return table(("", "goal", "measured", "reached"), cells)


def goal_row(what, goal, found):
    return (what, f"≤ {goal}", spread(found), "yes" if found["median"] <= goal else "**no**")


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
    what = f"With a body of {body // 1024} KiB:" if body else "Without a body:"
    headings = (
        "", "connections", "requests/s", "p50 µs", "p99 µs", "CPU µs", "added p50 µs", "added CPU µs", "for each agent",
    )
    return f"{what}\n\n{table(headings, cells)}"


def added(row):
    if not row["agents"]:
        return ("–", "–", "–")
    processor = row["added"]["cpu_us"]
    each = f"{processor['median'] / row['agents']:.1f}"
    return (count(row["added"]["p50_us"]["median"]), spread(processor), each)


def distribution(rows):
    most = max(row["connections"] for row in rows)
    shown = [row for row in rows if row["connections"] == most and row["body_bytes"] == rows[0]["body_bytes"]]
    names = [f"p{percentile:g} µs" for percentile, _ in shown[0]["percentiles_us"]]
    cells = [
        (row["proxy"], *(count(micros) for _, micros in row["percentiles_us"]), count(row["max_us"]["median"]))
        for row in shown
    ]
    return table(("", *names, "max µs"), cells)


def own_share(rows):
    """How much of what a hop adds can be tollgate, and how much is the way there and back over a socket."""
    cells = []
    for row in rows:
        if row["body_bytes"] or row["proxy"] not in ALTERNATIVES:
            continue
        added = {figure: found["median"] for figure, found in row["added"].items()}
        kernel = added["cpu_us"] - added["user_us"]
        cells.append(
            (row["proxy"], row["connections"], f"{added['user_us']:.1f}", f"{kernel:.1f}", count(added["p50_us"]), share(row, added))
        )
    headings = (
        "", "connections", "added CPU in user space, µs", "in the kernel, µs", "added p50, µs", "user space in it, at most",
    )
    return (
        "Where it goes: what is added in user space is tollgate's own time on both sides, that of the tokio tasks around it and what "
        "the proxy does with the answers; the rest is the kernel's, for sockets and for waking who waits. So tollgate's share of "
        f"the added latency is at most that of user space.\n\n{table(headings, cells)}"
    )


def share(row, added):
    # With more connections requests wait for each other, and the median is mostly that.
    if row["connections"] > 1 or added["p50_us"] <= 0:
        return "–"
    return f"{max(added['user_us'], 0) / added['p50_us']:.0%}"


def find(rows, **wanted):
    return next((row for row in rows if wanted.items() <= row.items()), None)
