"""Audits: random leaves of random fragments, checked against what the owner signed.

An audit looks like any other leaf read, so that a supplier cannot tell it from use. A mount begins
with quick ones and slows down: what rotted while nobody looked is found soon, and a long mount
costs little. What a supplier acknowledged it must have, whether it lists it or not. One failure
leads to a closer look at the whole fragment.
"""

import logging
import random
from collections.abc import Callable, Mapping

import trio

from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Malformed, PeerError, Refused, Unavailable
from bitdustfs.fetch import Fetcher
from bitdustfs.rebuild.census import Census, take_census
from bitdustfs.units import LEAF_SPAN

log = logging.getLogger(__name__)

FIRST_PAUSE, LAST_PAUSE, GROWTH = 0.2, 30.0, 1.02  #: seconds between two audits of one mount
CENSUS_EVERY = 900.0  #: seconds between questions for what suppliers keep
DEADLINE = 5.0  #: seconds that one leaf may take


class Auditor:
    """Audits the suppliers of `fetcher` in turn; what it finds is in their health.

    `acknowledged` tells what positions this machine saw acknowledge each block; `on_lost` is told of
    a fragment that is not there, or not right, although it was listed or acknowledged.
    """

    def __init__(self, fetcher: Fetcher, rng: random.Random) -> None:
        self._fetcher, self._rng = fetcher, rng
        self.census = Census()
        self._counted = -CENSUS_EVERY
        self._counting = trio.Lock()
        self._turn: list[int] = []
        self._claims: dict[int, list[bytes]] = {}
        self.acknowledged: Callable[[], Mapping[bytes, tuple[int, ...]]] = dict
        self.on_lost: Callable[[bytes, int], None] = lambda block, position: None

    async def recent(self, age: float) -> Census:
        """A census not older than `age` seconds."""
        async with self._counting:
            if trio.current_time() - self._counted >= age:
                self.census = await take_census(self._fetcher)
                self._counted = trio.current_time()
                self._collect()
        return self.census

    def _collect(self) -> None:
        """What each position is to be audited for: what it lists, and what it acknowledged."""
        claims = {position: set(blocks) for position, blocks in self.census.lists.items()}
        for block, positions in self.acknowledged().items():
            for position in positions:
                claims.setdefault(position, set()).add(block)
        self._claims = {position: list(blocks) for position, blocks in claims.items() if blocks}
        self._turn = []

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            await self.recent(CENSUS_EVERY if self._claims else LAST_PAUSE)
            if self._claims:
                await self.audit(*self._choose())
            await trio.sleep(pause)
            pause = min(pause * GROWTH, LAST_PAUSE)

    def _choose(self) -> tuple[bytes, int]:
        """A random fragment of the supplier whose turn it is."""
        if not self._turn:
            self._turn = list(self._claims)
            self._rng.shuffle(self._turn)
        position = self._turn.pop()
        return self._rng.choice(self._claims[position]), position

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
            self.on_lost(block, position)
        return verdict

    async def _check(self, header: BlockHeader, position: int, start: int) -> bool | None:
        stop = min(slice_length(header.length, header.k), start + LEAF_SPAN)
        with trio.move_on_after(DEADLINE):
            try:
                await self._fetcher.prove(header, position, start, stop)
            except Malformed:
                return False
            except PeerError as error:
                lost = isinstance(error, Refused) and error.code in ("damaged", "not-found")
                return False if lost else None
            return True
        return None
