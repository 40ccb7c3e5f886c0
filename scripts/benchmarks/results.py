"""What was measured: values of rows, round by round, and their medians; to JSON and back."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.rows import BY_NAME, ROWS, Row
from benchmarks.settings import Failed

FORMAT = 1  #: of the JSON


class Cell(NamedTuple):
    """A row's values on one system. `at`: the size, of a row that is measured along some."""

    row: str
    system: str
    at: int


@dataclass
class Results:
    """`systems`: name -> title, in the order in which they are shown. `facts`: of the machine."""

    systems: dict[str, str]
    facts: dict[str, object]
    settings: dict[str, object]
    values: dict[Cell, list[float]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)  #: systems that are not here, and why
    failures: list[str] = field(default_factory=list)  #: scenes that failed, and why

    def add(self, cell: Cell, value: float) -> None:
        """One round's value."""
        self.values.setdefault(cell, []).append(value)

    def median(self, cell: Cell) -> float | None:
        """None where nothing was measured."""
        values = self.values.get(cell)
        return median(values) if values else None

    def rows(self) -> list[Row]:
        """Those that have a value."""
        measured = {cell.row for cell in self.values}
        return [row for row in ROWS if row.name in measured]

    def sizes(self, row: Row) -> list[int]:
        """At which a row was measured."""
        return sorted({cell.at for cell in self.values if cell.row == row.name})

    # -- JSON

    def save(self, path: Path) -> None:
        """The old file stays until the new one is whole."""
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(json.dumps(self._plain(), indent=1) + "\n")
        os.replace(aside, path)

    def _plain(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "machine": self.facts,
            "settings": self.settings,
            "systems": self.systems,
            "missing": self.missing,
            "failures": self.failures,
            "figures": [*map(self._figure, sorted(self.values, key=_order))],
        }

    def _figure(self, cell: Cell) -> dict[str, object]:
        row, values = BY_NAME[cell.row], self.values[cell]
        return {
            "row": row.name, "title": row.title, "unit": row.unit,
            "less_is_better": row.less_is_better, "system": cell.system,
            **({row.along: cell.at} if row.along else {}), "at": cell.at,
            "median": _short(median(values)), "rounds": [*map(_short, values)],
        }  # fmt: skip


def _order(cell: Cell) -> tuple[int, int]:
    return ROWS.index(BY_NAME[cell.row]), cell.at


def _short(value: float) -> float:
    """Four digits are more than any figure is worth."""
    return float(f"{value:.4g}")


def load(path: Path) -> Results:
    """What `save` wrote, but for rows that are not known any more. Raises Failed."""
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        if said["format"] != FORMAT:
            raise Failed(f"{path} has format {said['format']}, and {FORMAT} is known here")
        made = Results(said["systems"], said["machine"], said["settings"])
        made.missing, made.failures = said["missing"], said["failures"]
        for figure in _known(said["figures"]):
            cell = Cell(figure["row"], figure["system"], figure["at"])
            made.values[cell] = [*figure["rounds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failed(f"{path} does not hold results: {error}") from error
    return made


def _known(figures: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    return (figure for figure in figures if figure["row"] in BY_NAME)
