"""Results as a table for a terminal."""

from collections.abc import Sequence
from statistics import median

from benchmarks.results import Cell, Results
from benchmarks.rows import Row

NOTHING = "-"


def number(value: float) -> str:
    """Three digits, or as many as stand before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"


def render(results: Results, before: Results | None = None) -> str:
    """Medians, with the smallest and the largest value of several rounds; one scene after another.

    `before`: earlier results, of which the first system is shown beside.
    """
    heads = ["", "unit", *results.systems.values()]
    first, floor = next(iter(results.systems)), "floor" in results.systems
    if floor and first != "floor":
        heads.append("of the floor")
    if before is not None:
        heads += ["before", "change"]
    lines: list[list[str]] = []
    scene = ""
    for row in results.rows():
        if row.scene != scene:
            scene = row.scene
            lines.append([scene.upper(), *[""] * (len(heads) - 1)])
        for at in results.sizes(row):
            line = [_title(row, at), row.unit + (" (less)" if row.less_is_better else "")]
            line += [_cell(results, Cell(row.name, name, at)) for name in results.systems]
            own = results.median(Cell(row.name, first, at))
            if floor and first != "floor":
                line.append(_share(own, results.median(Cell(row.name, "floor", at))))
            if before is not None:
                earlier = before.median(Cell(row.name, first, at))
                line += [NOTHING if earlier is None else number(earlier), _share(own, earlier)]
            lines.append(line)
    return "\n".join([*_aligned([heads, *lines]), *_remarks(results)])


def _title(row: Row, at: int) -> str:
    return f"{row.title}, {at:,} {row.along}" if at else row.title


def _cell(results: Results, cell: Cell) -> str:
    values = results.values.get(cell)
    return spread(values) if values else NOTHING


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most where there are several."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(median(values))} ({number(min(values))}-{number(max(values))})"


def _share(value: float | None, of: float | None) -> str:
    return f"x {value / of:.2f}" if value is not None and of else NOTHING


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The first two columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _remarks(results: Results) -> list[str]:
    facts = results.facts
    said = [
        "",
        f"{facts.get('cores')} cores, {facts.get('processor')}, {facts.get('memory_GiB')} GiB, "
        f"Linux {facts.get('kernel')}, Python {facts.get('python')}, {facts.get('file_system')}; "
        f"commit {facts.get('commit') or 'unknown'}; "
        f"load at the start {facts.get('load_at_start')}",
    ]
    if not facts.get("caches_dropped"):
        said.append("Not root: the kernel's caches stay warm, so that cold figures are too good.")
    if not facts.get("own_network"):
        said.append("Packets of other programs on loopback count as well.")
    return [*said, *results.missing, *(f"FAILED: {failure}" for failure in results.failures)]
