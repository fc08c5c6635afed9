"""Draws line charts as SVG without any package. They are legible on white and on dark pages."""

from xml.sax.saxutils import escape

PLOT_WIDTH, HEIGHT = 440, 400
LEFT, TOP, BOTTOM = 90, 50, 60
COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2",
           "#a16207", "#db2777", "#64748b")
# Space beside the plot for the names of the lines. Wide sans-serif fonts take about 7 pixels for a
# character of 12 pixels, and about 11 for a bold one of 16.
LABEL_GAP = 10
CHARACTER_WIDTH = 7
TITLE_CHARACTER_WIDTH = 11


class Axis:
    """Maps values to positions, on a linear or a logarithmic scale."""

    def __init__(self, scale, ticks, label, start, end):
        self.ticks, self.label = ticks, label
        low, high = scale(ticks[0]), scale(ticks[-1])
        self.position = lambda value: start + (scale(value) - low) / (high - low) * (end - start)


def lines(title, x_label, y_label, x_ticks, y_ticks, series, scales, labels):
    """Draws one line for each of `series`, `{name: [(x, y), ...]}`.

    `scales` and `labels` hold a function for x and one for y.
    """
    right = LEFT + PLOT_WIDTH
    width = max(
        right + 2 * LABEL_GAP + CHARACTER_WIDTH * max(map(len, series)),
        LEFT + LABEL_GAP + TITLE_CHARACTER_WIDTH * len(title),
    )
    x = Axis(scales[0], x_ticks, labels[0], LEFT, right)
    y = Axis(scales[1], y_ticks, labels[1], HEIGHT - BOTTOM, TOP)
    parts = [text(LEFT, 24, title, size=16, weight="bold")]
    parts += grid(x, y, right)
    parts.append(text((LEFT + right) / 2, HEIGHT - 14, x_label, anchor="middle"))
    parts.append(
        f'<g transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">'
        f'{text(0, 0, y_label, anchor="middle")}</g>'
    )
    ends = separated([y.position(points[-1][1]) for points in series.values()])
    for (name, points), colour, end in zip(series.items(), COLOURS, ends):
        parts += line(x, y, points, colour)
        parts.append(text(right + LABEL_GAP, end + 4, name, colour=colour))
    return document(parts, width)


def grid(x, y, right):
    for tick in y.ticks:
        at = y.position(tick)
        yield f'<path d="M{LEFT} {at:.1f}H{right}" stroke="#8888" stroke-width="0.5"/>'
        yield text(LEFT - 8, at + 4, y.label(tick), anchor="end")
    for tick in x.ticks:
        at = x.position(tick)
        yield (
            f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#8888" stroke-width="0.5"/>'
        )
        yield text(at, HEIGHT - BOTTOM + 18, x.label(tick), anchor="middle")


def line(x, y, points, colour):
    positions = [(x.position(a), y.position(b)) for a, b in points]
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in positions)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for a, b in positions:
        yield f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>'


def separated(positions, gap=16):
    """Moves labels apart that would overlap."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    moved = list(positions)
    for before, after in zip(order, order[1:]):
        moved[after] = max(moved[after], moved[before] + gap)
    return moved


def text(x, y, words, anchor="start", size=12, weight="normal", colour="#777"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}">{escape(str(words))}</text>'
    )


def document(parts, width):
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        f'font-family="sans-serif">\n{body}\n</svg>\n'
    )
