"""What one supplier is audited for: which of its fragments is next. Pure.

What it acknowledged is drawn apart from what it merely lists, so that a long list of made-up ids
draws no audits away from what it must have. And what an audit did not settle is asked for again: a
supplier that says "busy", or is not there, whenever the question is for what it lacks gives itself
away. Its answers for other fragments, meanwhile, say how often it answers at all: if a of those
were settled and b were not, then m audits of one fragment in a row are all unsettled by chance in
one of C(a + b + m, m) / C(b + m, m) cases (Fisher's exact test). Below CHANCE that was no accident.
"""

import math
import random
from collections.abc import Collection

CHANCE = 1e-8  #: probability below which silence about one fragment counts as its loss
OPEN_MAX = 64  #: unsettled fragments of one supplier that are asked for again


class _Unsettled:
    """One unsettled fragment, and what the audits of others came to since it is."""

    def __init__(self) -> None:
        self._times = 1
        self._settled = self._unsettled = 0

    def again(self) -> None:
        """It was asked for once more, in vain."""
        self._times += 1

    def other(self, settled: bool) -> None:
        """Another fragment was asked for."""
        self._settled += settled
        self._unsettled += not settled

    @property
    def by_chance(self) -> float:
        """The probability that all these audits were left unsettled for no reason of its own."""
        vain = self._unsettled + self._times
        return math.comb(vain, self._times) / math.comb(vain + self._settled, self._times)


class Sample:
    """The fragments of one position: `acked` was acknowledged, `listed` is in the list besides."""

    def __init__(self, acked: Collection[bytes], listed: Collection[bytes]) -> None:
        self._acked, self._listed = list(acked), list(listed)
        self._open: dict[bytes, _Unsettled] = {}

    def __len__(self) -> int:
        return len(self._acked) + len(self._listed)

    def draw(self, rng: random.Random) -> bytes:
        """A random fragment, or, every other time, one that is not settled yet.

        At least half of the others are acknowledged ones, however many are listed.
        """
        if self._open and rng.random() < 0.5:
            return next(iter(self._open))
        if not self._listed:
            return rng.choice(self._acked)
        share = max(0.5, len(self._acked) / len(self)) if self._acked else 0.0
        return rng.choice(self._acked if rng.random() < share else self._listed)

    def settled(self, block: bytes) -> None:
        """An audit of the block was answered, well or badly."""
        self._open.pop(block, None)
        for other in self._open.values():
            other.other(settled=True)

    def unsettled(self, block: bytes) -> bool:
        """An audit of the block was not answered. Whether that cannot be an accident any more."""
        for other, open_ in self._open.items():
            if other != block:
                open_.other(settled=False)
        if block in self._open:
            self._open[block].again()
        elif len(self._open) < OPEN_MAX:
            self._open[block] = _Unsettled()
        return block in self._open and self._open[block].by_chance < CHANCE

    def keep_open(self, before: "Sample") -> None:
        """What was unsettled in an earlier sample still is, where it is still to be had."""
        there = {*self._acked, *self._listed}
        self._open = {b: open_ for b, open_ in before._open.items() if b in there}

    def drop(self, block: bytes) -> None:
        """The block is nobody's any more, or nobody's at all."""
        self._open.pop(block, None)
        for fragments in (self._acked, self._listed):
            if block in fragments:
                fragments.remove(block)
