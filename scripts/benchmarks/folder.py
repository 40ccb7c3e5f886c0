"""Where a step of the work is done, what files have in them, and a stopwatch."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.settings import MIB

PIECE = 4096  #: bytes of a small file, and of a read or write at random
NOISE = 8  #: MiB of it; it does not compress
STRIDE = 4099  #: a prime: no two MiB of a file begin alike, so nobody saves space or work

Figures = dict[str, float]


class Folder:
    """Where the work is done, and how much of it."""

    def __init__(self, path: Path, big: int, files: int, operations: int) -> None:
        self.path, self.mebibytes, self.count, self.operations = path, big, files, operations
        self.big, self.small = path / "big", path / "small"
        self._noise = random.Random(1).randbytes(NOISE * MIB)

    def piece(self, number: int) -> bytes:
        """MiB `number` of the big file."""
        at = number * STRIDE % ((NOISE - 1) * MIB)
        return self._noise[at : at + MIB]

    def content(self, number: int) -> bytes:
        """Small file `number`."""
        at = number * 37 % ((NOISE - 1) * MIB)
        return self._noise[at : at + PIECE]

    def names(self) -> list[Path]:
        return [self.small / f"f{number:06d}" for number in range(self.count)]

    def places(self) -> list[int]:
        """Where the big file is read and written at random: the same at each call."""
        chance = random.Random(2)
        return [chance.randrange(self.mebibytes * 256) * PIECE for _ in range(self.operations)]

    def expect(self, place: int) -> bytes:
        """What was written in sequence at a place of the big file."""
        return self.piece(place // MIB)[place % MIB : place % MIB + PIECE]


class Watch:
    """A stopwatch."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began

    def rate(self, amount: float) -> Figures:
        return {"rate": amount / self.seconds, "seconds": self.seconds}


def drop_caches() -> None:
    """Has the kernel forget what it knows of files. Only root may; results say whether."""
    os.sync()
    with suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3")


def check(done: int | None, wanted: int) -> None:
    """A step that did less than was meant has no figure. Raises AssertionError."""
    if done != wanted:
        raise AssertionError(f"{done} was done, {wanted} was meant")
