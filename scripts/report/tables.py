"""Tables in Markdown."""


def table(headings, rows):
    """The first column is text, the others are figures."""
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


def times(ratio):
    return f"{ratio:.2f}×"


def spread(found):
    return f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})"
