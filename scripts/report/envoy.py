"""Shows what an agent behind Envoy costs, beside a plain ext_proc server."""

from .tables import count, spread, table


def run(results):
    envoy = results.envoy
    busy = max(row["busy_elsewhere"]["median"] for row in envoy["rows"])
    return (
        f"Envoy {envoy['envoy']}. {envoy['rounds']} rounds of {envoy['seconds']:g} s each, finished"
        f" {envoy['finished']}. Other programs kept at most {busy:.2f} processors busy."
    )


def figures(results):
    cells = [
        (
            row["agent"],
            row["connections"],
            count(row["requests_per_second"]["median"]),
            count(row["p50_us"]["median"]),
            count(row["p99_us"]["median"]),
            f"{row['cpu_us_envoy']['median']:.1f}",
            *cost(row),
        )
        for row in results.envoy["rows"]
    ]
    headings = (
        "", "connections", "requests/s", "p50 µs", "p99 µs", "CPU of Envoy µs", "added p50 µs",
        "CPU of the agent µs", "to tonic",
    )
    return table(headings, cells)


def cost(row):
    if row["agent"] == "no agent":
        return ("–", "–", "–")
    return (
        count(row["added_p50_us"]["median"]),
        spread(row["cpu_us_agent"]),
        spread(row["cpu_to_tonic"]),
    )


def to_tonic(results):
    """The processor time of an agent for a request, with most connections."""
    rows = [row for row in results.envoy["rows"] if row["agent"] == "tollgate"]
    row = max(rows, key=lambda row: row["connections"])
    ours, ratio = row["cpu_us_agent"]["median"], row["cpu_to_tonic"]["median"]
    return f"{ours:.1f} µs with {row['connections']} connections, {ratio:.2f} times"
