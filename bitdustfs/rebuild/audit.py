"""Audits: random chunks of random fragments, checked against what the owner signed.

An audit looks like any other chunk read, so that a supplier cannot tell it from use. A mount begins
with quick ones and slows down: what rotted while nobody looked is found soon, and a long mount
costs little. What a supplier acknowledged it must have, whether it lists it or not. One failure
leads to a closer look: at the whole fragment, and at CLOSER more of the same supplier at once.

A supplier that lacks a share f of its fragments passes m audits with probability (1 - f)^m, so
`audits_needed(f, c)` = ln(1 - c) / ln(1 - f) of them catch it with probability c: 299 for one per cent
and c = 0.95. Whose failures are many, and more than disks explain, is a liar and counts as gone.
"""

import logging
import math
import random
from collections.abc import Awaitable, Callable, Collection, Mapping

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Malformed, PeerError, Refused, Unavailable
from bitdustfs.rebuild.census import Census, take_census
from bitdustfs.rebuild.watch import Watch
from bitdustfs.units import CHUNK_SIZE

log = logging.getLogger(__name__)

FIRST_PAUSE, LAST_PAUSE, GROWTH = 0.2, 30.0, 1.02  #: seconds between two audits of one mount
CENSUS_EVERY = 900.0  #: seconds between questions for what suppliers keep
DEADLINE = 5.0  #: seconds that one chunk may take
CLOSER = 20  #: audits that follow a failed one at once
LIAR_FAILURES, LIAR_SHARE = 3, 0.005  #: failed audits, and their share, that no disk explains
SILENT_MAX = 8  #: audits in a row that a supplier may leave unanswered while it answers pings


def audits_needed(missing: float, certainty: float) -> int:
    """How many audits catch a supplier that lacks a share `missing` with probability `certainty`."""
    return math.ceil(math.log(1 - certainty) / math.log(1 - missing))


async def _nobody_cares(lost: Mapping[bytes, Collection[int]]) -> None:
    """A mount that only looks makes nothing again."""


class Auditor:
    """Audits the suppliers of `fetcher` in turn; what it finds is in the histories that `watch` keeps.

    `acknowledged` tells what positions this machine saw acknowledge each block; `on_lost` is told of
    fragments (by block, their positions) that are not there, or not right, although they were listed or
    acknowledged.
    """

    def __init__(self, fetcher: Fetcher, watch: Watch, rng: random.Random) -> None:
        self._fetcher, self._watch, self._rng = fetcher, watch, rng
        self.census = Census()
        self._counted = -CENSUS_EVERY
        self._counting = trio.Lock()
        self._turn: list[int] = []
        self._overtaken: set[int] = set()  # positions after whose last audit another one answered
        self._claims: dict[int, list[bytes]] = {}
        self.acknowledged: Callable[[], Mapping[bytes, tuple[int, ...]]] = dict
        self.on_lost: Callable[[Mapping[bytes, Collection[int]]], Awaitable[None]] = _nobody_cares
        self.damaged: dict[bytes, set[int]] = {}  #: block -> positions found without it since

    async def recent(self, age: float) -> Census:
        """A census not older than `age` seconds."""
        async with self._counting:
            if trio.current_time() - self._counted >= age:
                acknowledged = self.acknowledged()
                self.census = await take_census(self._fetcher)
                await self._compare(acknowledged)
                self._counted = trio.current_time()
                self._collect()
        return self.census

    async def _compare(self, acknowledged: Mapping[bytes, tuple[int, ...]]) -> None:
        """What was acknowledged before the lists were asked for, and is not in them, is lost."""
        lost: dict[bytes, set[int]] = {}
        for position, listed in self.census.lists.items():
            there = set(listed)
            for block, positions in acknowledged.items():
                if position in positions and block not in there:
                    lost.setdefault(block, set()).add(position)
            await trio.lowlevel.checkpoint()
        if lost:
            await self.on_lost(lost)

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
                block, position = self._choose()
                if await self.audit(block, position) is False:
                    await self._look_closer(position)
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
        """Whether a random chunk of the fragment is right; None when the supplier is silent."""
        try:
            header = await self._fetcher.header(block)
        except Unavailable as error:
            log.info("no audit of block %s: %s", block.hex(), error)
            return None
        length = slice_length(header.length, header.k)
        verdict = await self._check(header, position, self._rng.randrange(0, length, CHUNK_SIZE))
        if verdict is None:
            self._unanswered(header, position)
            return None
        self._fetcher.health_of(header, position).silent = 0
        node = self._fetcher.serving(header, position)
        seen = self._watch.audited(node, verdict)
        self._overtaken = set(range(header.n)) - {position}
        if verdict is False:
            verdicts = [
                await self._check(header, position, start) for start in range(0, length, CHUNK_SIZE)
            ]
            log.warning(
                "position %d failed an audit of block %s: %d of %d chunks are wrong or gone",
                position, block.hex(), len(verdicts) - verdicts.count(True), len(verdicts),
            )  # fmt: skip
            self.damaged.setdefault(block, set()).add(position)
            await self.on_lost({block: {position}})
            failed, share = seen.audits_failed, seen.audits_failed / seen.audits
            if failed >= LIAR_FAILURES and share > LIAR_SHARE:
                self._watch.condemn(node, f"failed {failed} of {seen.audits} audits")
        return verdict

    def _unanswered(self, header: BlockHeader, position: int) -> None:
        """An audit without an answer; in a row, of one that answers pings: it does not serve."""
        health = self._fetcher.health_of(header, position)
        if health.reachable and position in self._overtaken:
            self._overtaken.discard(position)
            health.silent += 1  # while others did answer: it is not this machine's own line
        if health.silent > SILENT_MAX:
            node = self._fetcher.serving(header, position)
            self._watch.condemn(node, f"left {health.silent} audits in a row unanswered")

    async def _look_closer(self, position: int) -> None:
        """More audits of a supplier that failed one, at once."""
        for _ in range(CLOSER):
            claims = self._claims.get(position)
            if not claims:
                return
            await self.audit(self._rng.choice(claims), position)

    def forget(self, moved: Collection[int]) -> None:
        """These positions are other suppliers' now: what was seen of them is no longer so."""
        for block in list(self.damaged):
            self.mended(block, moved)
        if moved:
            self._counted = -math.inf

    def damaged_at(self, position: int) -> int:
        """How many fragments a position was found without, that were not made again since."""
        return sum(position in at for at in self.damaged.values())

    def mended(self, block: bytes, positions: Collection[int]) -> None:
        """These positions have their fragment again."""
        left = self.damaged.get(block, set()) - set(positions)
        if left:
            self.damaged[block] = left
        else:
            self.damaged.pop(block, None)

    async def _check(self, header: BlockHeader, position: int, start: int) -> bool | None:
        stop = min(slice_length(header.length, header.k), start + CHUNK_SIZE)
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
