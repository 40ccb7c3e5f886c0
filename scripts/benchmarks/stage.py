"""Where one scene is played: on one system, in one round."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from benchmarks.janitor import mounts_under
from benchmarks.results import Cell, Results
from benchmarks.rows import BY_NAME
from benchmarks.running import run
from benchmarks.settings import Failed, Settings
from benchmarks.systems import System, python

S = TypeVar("S", bound=System)


class Stage:
    """`wanted`: names of rows; figures of others are not kept. `say`: how far it is."""

    def __init__(
        self,
        kind: type[System],
        folder: Path,
        settings: Settings,
        wanted: set[str],
        results: Results,
        say: Callable[[str], None],
    ) -> None:
        self.kind, self.settings = kind, settings
        self._folder, self._wanted, self._results, self._say = folder, wanted, results, say
        self._opened = 0

    def wants(self, *rows: str) -> bool:
        """Whether any of them is to be measured."""
        return not self._wanted.isdisjoint(rows)

    def note(self, row: str, value: float, at: int = 0) -> None:
        """One figure of this round."""
        if row not in self._wanted:
            return
        self._results.add(Cell(row, self.kind.name, at), value)
        size = f" at {at} {BY_NAME[row].along}" if at else ""
        self._say(f"{row}{size}: {value:.4g} {BY_NAME[row].unit}")

    @contextmanager
    def on(self, kind: type[S]) -> Iterator[S]:
        """A new system, that is gone afterwards with all its files. Raises Failed."""
        self._opened += 1
        folder = self._folder / f"{kind.name}-{self._opened}"
        system = kind(folder, self.settings)
        try:
            system.start()
            yield system
        finally:
            system.close()
            if not mounts_under(folder):
                run(["rm", "-rf", "--one-file-system", "--", folder], self.settings.limit)
                run(["sync"], self.settings.limit)  # so that the next one finds a quiet disk

    def work(
        self,
        system: System,
        step: str,
        *,
        big: int = 0,
        files: int = 0,
        stdin: str | None = None,
        limit: float = 0,
    ) -> dict[str, float]:
        """The figures of one step of work.py in the system's mountpoint. Raises Failed."""
        settings = self.settings
        words = [*python("benchmarks.work"), step, system.mountpoint]
        words += ["--big", big or settings.big, "--files", files or settings.files]
        words += ["--random", settings.random]
        said = run(words, limit or settings.limit, env=system.environment, stdin=stdin)
        try:
            figures: dict[str, float] = json.loads(said)
        except ValueError:
            raise Failed(f"{step} says what nobody understands: {said[:200]!r}") from None
        return figures
