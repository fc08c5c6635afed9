"""Formats figures and Markdown tables."""


def table(headings, rows):
    """Returns a table whose first column is text and whose other columns are figures."""
    lines = [row(headings), row(["---"] + ["--:"] * (len(headings) - 1))]
    return "\n".join(lines + [row(cells) for cells in rows])


def row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def time(nanoseconds):
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def count(number):
    return f"{number:,.0f}"


def spread(found):
    """Returns the median, with the least and the greatest value of all rounds."""
    return f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})"
