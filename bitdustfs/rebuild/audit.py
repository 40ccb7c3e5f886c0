"""Audits: random leaves of random fragments, checked against what the owner signed.

An audit looks like any other leaf read, so that a supplier cannot tell it from use. A mount begins
with quick ones and slows down: what rotted while nobody looked is found soon, and a long mount
costs little. One failure leads to a closer look at the whole fragment.
"""

import logging
import random

import trio

from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Unavailable
from bitdustfs.fetch import Fetcher
from bitdustfs.rebuild.census import Census, take_census
from bitdustfs.units import LEAF_SPAN

log = logging.getLogger(__name__)

FIRST_PAUSE, LAST_PAUSE, GROWTH = 0.2, 30.0, 1.02  #: seconds between two audits of one mount
CENSUS_EVERY = 900.0  #: seconds between questions for what suppliers keep
DEADLINE = 5.0  #: seconds that one leaf may take


class Auditor:
    """Audits the suppliers of `fetcher` in turn; what it finds is in their health."""

    def __init__(self, fetcher: Fetcher, rng: random.Random) -> None:
        self._fetcher, self._rng = fetcher, rng
        self.census = Census()
        self._turn: list[int] = []

    async def run(self) -> None:
        """Until cancelled."""
        pause, counted = FIRST_PAUSE, -CENSUS_EVERY
        while True:
            if trio.current_time() - counted >= CENSUS_EVERY or not self.census.kept:
                self.census = await take_census(self._fetcher)
                counted, self._turn = trio.current_time(), []
            if self.census.kept:
                await self.audit(*self._choose())
            await trio.sleep(pause)
            pause = min(pause * GROWTH, LAST_PAUSE)

    def _choose(self) -> tuple[bytes, int]:
        """A random fragment of the supplier whose turn it is."""
        if not self._turn:
            self._turn = sorted(set().union(*self.census.kept.values()))
            self._rng.shuffle(self._turn)
        position = self._turn.pop()
        blocks = [b for b, positions in self.census.kept.items() if position in positions]
        return self._rng.choice(blocks), position

    async def audit(self, block: bytes, position: int) -> bool | None:
        """Whether a random leaf of the fragment is right; None when the supplier is silent."""
        try:
            header = await self._fetcher.header(block)
        except Unavailable as error:
            log.info("no audit of block %s: %s", block.hex(), error)
            return None
        length = slice_length(header.length, header.k)
        verdict = await self._check(header, position, self._rng.randrange(0, length, LEAF_SPAN))
        health = self._fetcher.health_of(header, position)
        if verdict is not None:
            health.audits += 1
        if verdict is False:
            health.audits_failed += 1
            verdicts = [
                await self._check(header, position, start) for start in range(0, length, LEAF_SPAN)
            ]
            log.warning(
                "position %d failed an audit of block %s: %d of %d leaves are wrong or gone",
                position, block.hex(), len(verdicts) - verdicts.count(True), len(verdicts),
            )  # fmt: skip
        return verdict

    async def _check(self, header: BlockHeader, position: int, start: int) -> bool | None:
        health = self._fetcher.health_of(header, position)
        stop = min(slice_length(header.length, header.k), start + LEAF_SPAN)
        faults = health.damaged + health.missing  # it listed the fragment
        with trio.move_on_after(DEADLINE):
            if await self._fetcher.leaves_of(header, position, start, stop) is not None:
                return True
            return False if health.damaged + health.missing > faults else None
        return None
