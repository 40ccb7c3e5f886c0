"""Results as a picture: SVG, written by hand, to be shown as it is by browsers and forges.

A row is a panel. Where it was measured at one size, each system is a bar, as long as its median,
with a line from its smallest to its largest value; one system alone is a number. Where it was
measured at several sizes, systems are lines over a logarithmic axis.
"""

from collections.abc import Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape, quoteattr

from benchmarks.results import Cell, Results
from benchmarks.rows import SCENES, Row
from benchmarks.table import number, spread

#: Okabe and Ito's palette: it can be told apart by nearly everybody
COLOURS = ("#0072b2", "#999999", "#009e73", "#e69f00", "#cc79a7", "#d55e00", "#56b4e9")
WIDTH, COLUMNS, GAP = 960, 2, 24
PANEL = (WIDTH - GAP * (COLUMNS + 1)) / COLUMNS
BAR, HEAD, FOOT = 17, 24, 14
LABELS = 104  #: pixels left of the bars
VALUES = 96  #: pixels right of them
CURVE = 132  #: height of a diagram with lines
STYLE = """text { font: 12px system-ui, sans-serif; fill: #222 } .title { font-weight: 600 }
.scene { font-size: 16px; font-weight: 600 } .end { text-anchor: end }
.unit { font-size: 12px; font-weight: 400; fill: #666 }
.middle { text-anchor: middle } .range { stroke: #222; stroke-width: 1 }
.axis { stroke: #bbb; stroke-width: 1 } .line { fill: none; stroke-width: 2 }"""


def tag(name: str, text: str = "", **attributes: object) -> str:
    """One element. `_` in names stands for `-`, and one at their end for nothing."""
    said = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_plain(value))}"
        for key, value in attributes.items()
    )
    return f"<{name}{said}>{text}</{name}>" if text else f"<{name}{said}/>"


def _plain(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return tag("text", escape(words), x=x, y=y, class_=kind)


def draw(results: Results) -> str:
    """The whole picture."""
    parts: list[str] = []
    y = float(GAP)
    for scene, meaning in SCENES.items():
        rows = [row for row in results.rows() if row.scene == scene]
        if not rows:
            continue
        said = tag("tspan", escape(meaning.format_map(results.settings)), class_="unit", dx=10)
        parts.append(tag("text", scene + said, x=GAP, y=y + 14, class_="scene"))
        y += 30
        for at in range(0, len(rows), COLUMNS):
            line = rows[at : at + COLUMNS]
            for column, row in enumerate(line):
                x = GAP + column * (PANEL + GAP)
                panel = "".join(_panel(results, row))
                parts.append(tag("g", panel, transform=f"translate({_plain(x)} {_plain(y)})"))
            y += max(_height(results, row) for row in line)
        y += GAP / 2
    return _document(y + FOOT, [*parts, _text(GAP, y + 4, _remark(results), "unit")])


def _document(height: float, parts: Sequence[str]) -> str:
    return tag(
        "svg", "\n".join(["", tag("style", STYLE), _ground(height), *parts, ""]),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {_plain(height)}",
        width=WIDTH, height=height,
    ) + "\n"  # fmt: skip


def _ground(height: float) -> str:
    return tag("rect", width=WIDTH, height=height, fill="#ffffff")


def _remark(results: Results) -> str:
    facts = results.facts
    rounds = max((len(values) for values in results.values.values()), default=0)
    return (
        f"{facts.get('cores')} cores, {facts.get('processor')}; commit {facts.get('commit')}; "
        f"medians of {rounds}, lines from the least to the most"
    )


def _shown(results: Results, row: Row) -> list[str]:
    """The systems on which a row was measured."""
    there = {cell.system for cell in results.values if cell.row == row.name}
    return [name for name in results.systems if name in there]


def _colour(results: Results, system: str) -> str:
    return COLOURS[[*results.systems].index(system) % len(COLOURS)]


def _is_curve(results: Results, row: Row) -> bool:
    return len(results.sizes(row)) > 1


def _height(results: Results, row: Row) -> float:
    if _is_curve(results, row):
        return HEAD + CURVE + 2 * FOOT
    systems = len(_shown(results, row))
    return HEAD if systems == 1 else HEAD + BAR * systems + FOOT


def _panel(results: Results, row: Row) -> list[str]:
    less = ", less is better" if row.less_is_better else ""
    sizes = results.sizes(row)
    if _is_curve(results, row):
        return [_heading(row.title, f"{row.unit}{less}"), *_curves(results, row)]
    at = f" at {sizes[0]:,} {row.along}" if row.along else ""
    systems = _shown(results, row)
    if len(systems) == 1:
        values = results.values[Cell(row.name, systems[0], sizes[0])]
        return [  # side by side: what is not in the heading has room at the end
            _heading(row.title, at.strip()),
            _text(PANEL, 12, f"{spread(values)} {row.unit}", "title end"),
        ]
    return [_heading(row.title, f"{row.unit}{at}{less}"), *_bars(results, row, sizes[0])]


def _heading(title: str, unit: str) -> str:
    words = escape(title) + tag("tspan", escape(unit), class_="unit", dx=8)
    return tag("text", words, x=0, y=12, class_="title")


def _bars(results: Results, row: Row, at: int) -> list[str]:
    systems = _shown(results, row)
    cells = [Cell(row.name, system, at) for system in systems]
    most = max(max(results.values[cell]) for cell in cells) or 1.0
    scale = (PANEL - LABELS - VALUES) / most
    parts = []
    for place, (system, cell) in enumerate(zip(systems, cells, strict=True)):
        y, values = HEAD + BAR * place, results.values[cell]
        middle = results.median(cell) or 0.0
        parts.append(_text(LABELS - 8, y + 10, _label(results, system), "end"))
        parts.append(
            tag(
                "rect", x=LABELS, y=y, width=middle * scale, height=BAR - 5,
                fill=_colour(results, system),
            )
        )  # fmt: skip
        if len(values) > 1:
            low, high = LABELS + min(values) * scale, LABELS + max(values) * scale
            parts.append(tag("line", x1=low, x2=high, y1=y + 6, y2=y + 6, class_="range"))
        parts.append(_text(LABELS + max(values) * scale + 6, y + 10, number(middle)))
    return parts


def _label(results: Results, system: str) -> str:
    """Without what stands in brackets: there is little room."""
    return results.systems[system].partition(" (")[0].partition(",")[0]


def _curves(results: Results, row: Row) -> list[str]:
    sizes, left, right = results.sizes(row), 56.0, PANEL - 90
    most = max(max(v) for cell, v in results.values.items() if cell.row == row.name) or 1.0
    top = _round_up(most)
    low, high = log10(sizes[0]), log10(sizes[-1])

    def x_of(size: int) -> float:
        return left + (right - left) * (log10(size) - low) / (high - low)

    def y_of(value: float) -> float:
        return HEAD + CURVE - CURVE * value / top

    parts = [tag("line", x1=left, x2=left, y1=y_of(0), y2=y_of(top), class_="axis")]
    for share in (0.0, 0.5, 1.0):
        y = y_of(top * share)
        parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="axis"))
        parts.append(_text(left - 6, y + 4, number(top * share), "end"))
    for size in sizes:
        parts.append(_text(x_of(size), HEAD + CURVE + 14, f"{size:,}", "middle"))
    parts.append(_text(right + 40, HEAD + CURVE + 14, row.along, "unit"))
    for system in _shown(results, row):
        points = [(x_of(at), y_of(results.median(Cell(row.name, system, at)) or 0.0))
                  for at in sizes if Cell(row.name, system, at) in results.values]  # fmt: skip
        path = " ".join(f"{_plain(x)},{_plain(y)}" for x, y in points)
        colour = _colour(results, system)
        parts.append(tag("polyline", points=path, class_="line", stroke=colour))
        parts += [tag("circle", cx=x, cy=y, r=3, fill=colour) for x, y in points]
        parts.append(_text(points[-1][0] + 8, points[-1][1] + 4, _label(results, system)))
    return parts


def _round_up(value: float) -> float:
    """The next number above with one digit."""
    unit = 10.0 ** floor(log10(value))
    return float(ceil(value / unit) * unit)
