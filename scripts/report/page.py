"""Fills the templates of PERFORMANCE.md and of the tables in docs/performance."""

import re
import textwrap

from . import envoy, optimisations, peers, proxy, rings, zentinel
from .results import Results
from .tables import count, table

TEMPLATES = "scripts/report"
COLUMNS = 100
# Key of the text before the first heading.
TOP = ""
# Marks in README.md around the sentences with figures.
README_MARKS = ("<!-- figures: begin -->", "<!-- figures: end -->")


def write(root, parts):
    """Writes the sections whose figures come from these parts, and those without figures.

    Sections and documents whose figures were never measured are left out.
    """
    results = Results(root)
    for template, path in documents(root):
        text = template.read_text()
        if not path.exists() and not parts_of(text) & set(parts):
            continue
        present = sections(path.read_text()) if path.exists() else {}
        written = []
        for heading, section in sections(text).items():
            if parts_of(section) <= set(parts):
                written.append(filled(section, results, root))
            elif heading in present:
                written.append(present[heading])
        path.write_text("".join(written))
        print(f"written to {path.relative_to(root)}")
    if "peers" in parts:
        write_readme(root, results)


def write_readme(root, results):
    """Replaces the sentences between the marks of README.md, which repeat figures of the plot."""
    path = root / "README.md"
    before, rest = path.read_text().split(README_MARKS[0])
    _, after = rest.split(README_MARKS[1])
    sentences = wrapped(peers.readme(results))
    path.write_text(f"{before}{README_MARKS[0]}\n{sentences}\n{README_MARKS[1]}{after}")
    print(f"written to {path.relative_to(root)}")


def documents(root):
    """Yields each template and the document that is made from it."""
    yield root / TEMPLATES / "page.md", root / "PERFORMANCE.md"
    for template in sorted((root / TEMPLATES / "documents").glob("*.md")):
        yield template, root / "docs/performance" / template.name


def sections(text):
    """Splits a document at its headings of the second level, by heading and in order."""
    top, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return {TOP: top, **{part.split("\n", 1)[0].removeprefix("## "): part for part in parts}}


def parts_of(text):
    """Returns the parts whose figures a text has."""
    figures = {PLACEHOLDERS[name][0] for name in names_in(text)}
    return figures | {PLOTS[name][0] for name in plots_in(text)}


def names_in(section):
    return re.findall(r"{{(\w+)}}", section)


def plots_in(section):
    return [name for name in PLOTS if f"{name}.svg" in section]


def filled(section, results, root):
    for name in plots_in(section):
        (root / f"docs/performance/{name}.svg").write_text(PLOTS[name][1](results))
    paragraphs = section.split("\n\n")
    return "\n\n".join(filled_paragraph(paragraph, results) for paragraph in paragraphs)


def filled_paragraph(paragraph, results):
    """Puts figures in place of placeholders, and wraps text that has become longer or shorter."""
    items = re.split(r"^(?=\* )", paragraph, flags=re.MULTILINE)
    return "".join(filled_item(item, results) for item in items)


def filled_item(item, results):
    text = re.sub(r"{{(\w+)}}", lambda found: PLACEHOLDERS[found[1]][1](results), item)
    if text == item or text.lstrip().startswith(("|", "#")):
        return text
    indent = "  " if text.startswith("* ") else ""
    return wrapped(text, indent) + "\n" * (len(text) - len(text.rstrip("\n")))


def wrapped(text, indent=""):
    return textwrap.fill(
        " ".join(text.split()),
        width=COLUMNS,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


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
            *(count(micros) for _, micros in row["percentiles_us"]),
        )
        for row in results.latency
    ]
    names = [f"p{percentile:g} µs" if percentile < 100 else "max µs" for percentile in percentiles]
    return table(("requests/s", "failed", "scheduling lag, p50 µs", *names), rows)


def bodies(results):
    rows = []
    for kib in ("1", "4", "16", "64", "256", "1024"):
        cells = [f"{kib} KiB"]
        for in_flight in (1, 8):
            name = f"body_chunk_streaming/{in_flight} in flight/{kib} KiB"
            seconds = results.nanoseconds(name) / 1e9
            cells.append(f"{in_flight * int(kib) / 1024 / seconds:,.0f}")
        rows.append(cells)
    return table(("chunk", "MiB/s, one in flight", "MiB/s, eight in flight"), rows)


def is_less(ours, theirs):
    return ours < theirs


def is_more(ours, theirs):
    return ours > theirs


# Each plot and each placeholder of a template, with the part of scripts/performance it needs.
PLOTS = {
    "throughput": ("peers", peers.throughput_plot),
    "latency": ("latency", peers.latency_plot),
}
PLACEHOLDERS = {
    "machine": ("peers", peers.machine),
    "peers_on_page": ("peers", peers.on_page),
    "floor_share": ("peers", peers.floor_share),
    "json_body_allocations": ("peers", peers.json_body_allocations),
    "compared_settings": ("peers", peers.compared_settings),
    "fewer_requests": ("peers", peers.slower_settings("requests_per_second", is_less)),
    "higher_p99": ("peers", peers.slower_settings("p99_us", is_more)),
    "higher_p999": ("peers", peers.slower_settings("p999_us", is_more)),
    "slower": ("peers", peers.slower),
    "ratios": ("peers", peers.ratios),
    "peers": ("peers", peers.figures),
    "proxy_on_page": ("proxy", proxy.on_page),
    "proxy_run": ("proxy", proxy.run),
    "proxy_without_body": ("proxy", proxy.without_body),
    "proxy_with_body": ("proxy", proxy.with_body),
    "proxy_compared": ("proxy", proxy.compared),
    "proxy_distribution": ("proxy", proxy.distribution),
    "proxy_share": ("proxy", proxy.own_share),
    "envoy_run": ("envoy", envoy.run),
    "envoy_figures": ("envoy", envoy.figures),
    "envoy_to_tonic": ("envoy", envoy.to_tonic),
    "zentinel_run": ("zentinel", zentinel.run),
    "zentinel_costs": ("zentinel", zentinel.costs),
    "zentinel_killed": ("zentinel", zentinel.killed),
    "zentinel_beside": ("zentinel", zentinel.beside),
    "rings_run": ("rings", rings.run),
    "rings_goals": ("rings", rings.goals),
    **{
        f"rings_{place}": ("rings", rings.figures(place))
        for place in ("apart", "together", "neighbour", "resting")
    },
    "rings_ratios": ("rings", rings.ratios),
    "optimisations": ("optimisations", optimisations.section),
    "choosing_1": ("optimisations", optimisations.choosing_time("tollgate", 1)),
    "choosing_1_model": ("optimisations", optimisations.choosing_time("published", 1)),
    "choosing_1000": ("optimisations", optimisations.choosing_time("tollgate", 1000)),
    "choosing_1000_model": ("optimisations", optimisations.choosing_time("published", 1000)),
    "look_up_1000": ("optimisations", optimisations.look_up_time("snapshot", 1000)),
    "look_up_1000_dashmap": ("optimisations", optimisations.look_up_time("DashMap", 1000)),
    "bodies": ("optimisations", bodies),
    "allocations": ("heap", allocations),
    "at_rest": ("heap", at_rest),
    "instructions": ("instructions", instructions),
    "latency": ("latency", latency),
}
