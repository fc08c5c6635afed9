"""Plots as SVG, without anything to install. They read well on white and on dark."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 90, 190, 50, 60
COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2",
           "#a16207", "#db2777", "#64748b")


class Axis:
    """Maps values to places, on a linear or a logarithmic scale."""

    def __init__(self, scale, ticks, label, start, end):
        self.ticks, self.label = ticks, label
        low, high = scale(ticks[0]), scale(ticks[-1])
        self.place = lambda value: start + (scale(value) - low) / (high - low) * (end - start)


def lines(title, x_label, y_label, x_ticks, y_ticks, series, scales, labels):
    """One line for each of `series`: {name: [(x, y), ...]}. `scales` and `labels` are those of x and y."""
    x = Axis(scales[0], x_ticks, labels[0], LEFT, WIDTH - RIGHT)
    y = Axis(scales[1], y_ticks, labels[1], HEIGHT - BOTTOM, TOP)
    parts = [text(LEFT, 24, title, size=16, weight="bold")]
    parts += grid(x, y)
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, anchor="middle"))
    parts.append(
        f'<g transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">'
        f'{text(0, 0, y_label, anchor="middle")}</g>'
    )
    ends = spread([y.place(points[-1][1]) for points in series.values()])
    for (name, points), colour, end in zip(series.items(), COLOURS, ends):
        parts += line(x, y, points, colour)
        parts.append(text(WIDTH - RIGHT + 10, end + 4, name, colour=colour))
    return document(parts)


def grid(x, y):
    for tick in y.ticks:
        at = y.place(tick)
        yield f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#8888" stroke-width="0.5"/>'
        yield text(LEFT - 8, at + 4, y.label(tick), anchor="end")
    for tick in x.ticks:
        at = x.place(tick)
        yield f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#8888" stroke-width="0.5"/>'
        yield text(at, HEIGHT - BOTTOM + 18, x.label(tick), anchor="middle")


def line(x, y, points, colour):
    places = [(x.place(a), y.place(b)) for a, b in points]
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for a, b in places:
        yield f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>'


def spread(places, gap=16):
    """Moves labels apart that would stand on one another."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, after in zip(order, order[1:]):
        moved[after] = max(moved[after], moved[before] + gap)
    return moved


def text(x, y, words, anchor="start", size=12, weight="normal", colour="#777"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}">{escape(str(words))}</text>'
    )


def document(parts):
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif">\n{body}\n</svg>\n'
    )
