"""Audits: random chunks of random fragments, checked against what the owner signed.

An audit looks like any other chunk read, so that a supplier cannot tell it from use. A mount begins
with quick ones and slows down: what rotted while nobody looked is found soon, and a long mount
costs little. What a supplier acknowledged it must have, whether it lists it or not. One failure
leads to a closer look: at the whole fragment, and at CLOSER more of the same supplier at once.

A supplier that lacks a share f of its fragments passes m audits with probability (1 - f)^m, so
`audits_needed(f, c)` = ln(1 - c) / ln(1 - f) of them catch it with probability c: 299 for one per
cent and c = 0.95. Whose failures are many, and more than disks explain, is a liar and counts as
gone.

An audit that nobody answers proves nothing: the power may be out there. It counts against a
supplier only when the supplier is shown to be there on the very connection that the audit waits on,
by a fresh answer: while the audit waits, a ping after it is answered; or a connection on which a
ping was just answered is closed on being audited, twice in a row.
"""

import enum
import logging
import math
import random
from collections.abc import Awaitable, Callable, Collection, Mapping

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import (
    DeadlineExceeded,
    Malformed,
    PeerError,
    ProtocolViolation,
    Refused,
    Unavailable,
)
from bitdustfs.rebuild.census import Census, take_census
from bitdustfs.rebuild.reputation import History
from bitdustfs.rebuild.watch import PING_DEADLINE, Watch
from bitdustfs.units import CHUNK_SIZE

log = logging.getLogger(__name__)

FIRST_PAUSE, LAST_PAUSE, GROWTH = 0.2, 30.0, 1.02  #: seconds between two audits of one mount
CENSUS_EVERY = 900.0  #: seconds between questions for what suppliers keep
DEADLINE = 5.0  #: seconds that one chunk may take
CLOSER = 20  #: audits that follow a failed one at once
LIAR_FAILURES, LIAR_SHARE = 3, 0.005  #: failed audits, and their share, that no disk explains
SILENT_MAX = 8  #: audits in a row that a supplier may leave unanswered while it answers pings
ACQUITTED = 20  #: audits passed in a row after which nobody is gone any more who may be acquitted

OnLost = Callable[[Mapping[bytes, Collection[int]]], Awaitable[object]]


class Verdict(enum.Enum):
    """What one request of an audit came to."""

    RIGHT = enum.auto()
    LOST = enum.auto()  #: the chunk is wrong, or is not there
    HUNG_UP = enum.auto()  #: the supplier ended the connection
    WITHHELD = enum.auto()  #: it is there, and does not answer
    UNKNOWN = enum.auto()  #: nobody answered


def is_liar(seen: History) -> bool:
    """Whether a supplier failed more audits than disks explain."""
    return seen.audits_failed >= LIAR_FAILURES and seen.audits_failed / seen.audits > LIAR_SHARE


def audits_needed(missing: float, certainty: float) -> int:
    """How many audits catch a supplier that lacks a share `missing` with probability
    `certainty`.
    """
    return math.ceil(math.log(1 - certainty) / math.log(1 - missing))


class Auditor:
    """Audits the suppliers in turn; what it finds is in the histories that `watch` keeps.

    `on_lost` is told of fragments (by block, their positions) that are not there, or not right,
    although they were listed or acknowledged.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        watch: Watch,
        table: BlockTable,
        on_lost: OnLost,
        rng: random.Random,
    ) -> None:
        self._fetcher, self._circle, self._watch = fetcher, fetcher.circle, watch
        self._table, self._on_lost, self._rng = table, on_lost, rng
        self._census = Census({})
        self.censuses = 0  #: how many were taken since the mount
        self._counted = -CENSUS_EVERY
        self._counting = trio.Lock()
        self._turn: list[int] = []
        self._overtaken: set[int] = set()  # positions after whose last audit another one answered
        self._claims: dict[int, list[bytes]] = {}
        self._damaged: dict[bytes, set[int]] = {}

    @property
    def census(self) -> Census:
        """The latest census; an empty one before the first."""
        return self._census

    @property
    def damaged(self) -> dict[bytes, frozenset[int]]:
        """Block -> positions that were found without it, and were not mended since."""
        return {block: frozenset(at) for block, at in self._damaged.items()}

    async def recent(self, age: float) -> Census:
        """A census not older than `age` seconds."""
        async with self._counting:
            if trio.current_time() - self._counted >= age:
                before = self._table.snapshot()  # what is acknowledged from here on may be missing
                self._census = await take_census(self._circle)
                self.censuses += 1
                lost = await trio.to_thread.run_sync(_unlisted, self._census, before)
                if lost:
                    await self._on_lost(lost)
                self._counted = trio.current_time()
                rows = self._table.snapshot()
                self._claims = await trio.to_thread.run_sync(_claims, self._census, rows)
                self._turn = []
        return self._census

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
        node = self._circle.serving(position)  # it is blamed, whoever has the position afterwards
        start = self._rng.randrange(0, length, CHUNK_SIZE)
        verdict = await self._check(node, header, position, start)
        if node not in self._circle.holders(position):
            return None  # the position was given to another supplier meanwhile
        if verdict not in (Verdict.RIGHT, Verdict.LOST):
            if verdict is Verdict.WITHHELD:
                self._withheld(node, position)
            return None
        self._circle.health(node).audited(answered=True)
        seen = self._watch.reputation.audited(node, verdict is Verdict.RIGHT)
        self._overtaken = set(range(header.n)) - {position}
        if verdict is Verdict.RIGHT:
            self._acquit(node, seen)
            return True
        verdicts = [
            await self._check(node, header, position, start)
            for start in range(0, length, CHUNK_SIZE)
        ]
        if node not in self._circle.holders(position):
            return None
        log.warning(
            "position %d failed an audit of block %s: %d of %d chunks are wrong or gone",
            position, block.hex(), len(verdicts) - verdicts.count(Verdict.RIGHT), len(verdicts),
        )  # fmt: skip
        self._damaged.setdefault(block, set()).add(position)
        await self._on_lost({block: {position}})
        if is_liar(seen):
            why = f"failed {seen.audits_failed} of {seen.audits} audits"
            self._watch.reputation.condemn(node, why, lasting=False)
        return False

    def _withheld(self, node: bytes, position: int) -> None:
        """An audit that somebody who is there left unanswered; in a row: it does not serve."""
        self._watch.reputation.withheld(node)
        if position in self._overtaken:
            self._overtaken.discard(position)
            # while others did answer: it is not this machine's own line
            health = self._circle.health(node)
            if health.audited(answered=False) > SILENT_MAX:
                why = f"left {health.silent} audits in a row unanswered"
                self._watch.reputation.condemn(node, why, lasting=False)

    def _acquit(self, node: bytes, seen: History) -> None:
        """Whoever passes audits again, and stays, was judged wrongly, or has mended its ways."""
        may = seen.gone and not seen.lasting and not is_liar(seen)
        if may and seen.passed >= ACQUITTED and self._watch.stays(node):
            self._watch.reputation.acquit(node)

    async def _look_closer(self, position: int) -> None:
        """More audits of a supplier that failed one, at once."""
        for _ in range(CLOSER):
            claims = self._claims.get(position)
            if not claims:
                return
            await self.audit(self._rng.choice(claims), position)

    def forget(self, moved: Collection[int]) -> None:
        """These positions are other suppliers' now: what was seen of them is no longer so."""
        for block in list(self._damaged):
            self.mended(block, moved)
        if moved:
            self._counted = -math.inf

    def damaged_at(self, position: int) -> int:
        """How many fragments a position was found without, that were not made again since."""
        return sum(position in at for at in self._damaged.values())

    def mended(self, block: bytes, positions: Collection[int]) -> None:
        """These positions have their fragment again."""
        left = self._damaged.get(block, set()) - set(positions)
        if left:
            self._damaged[block] = left
        else:
            self._damaged.pop(block, None)

    async def _check(self, node: bytes, header: BlockHeader, position: int, start: int) -> Verdict:
        """Asks for one chunk; what that shows of the supplier. Never HUNG_UP."""
        verdict = await self._ask(node, header, position, start)
        if verdict is Verdict.HUNG_UP:
            verdict = Verdict.UNKNOWN
            if await self._is_there(node):
                again = await self._ask(node, header, position, start)
                verdict = Verdict.WITHHELD if again is Verdict.HUNG_UP else again
        return verdict

    async def _ask(self, node: bytes, header: BlockHeader, position: int, start: int) -> Verdict:
        verdict = Verdict.UNKNOWN
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                nonlocal verdict
                verdict = await self._read(node, header, position, start)
                nursery.cancel_scope.cancel()

            nursery.start_soon(read)
            await trio.sleep(DEADLINE)
            # the request waits still, so its connection is the one that a ping goes by
            if await self._is_there(node) and verdict is Verdict.UNKNOWN:
                verdict = Verdict.WITHHELD
            nursery.cancel_scope.cancel()
        return verdict

    async def _read(self, node: bytes, header: BlockHeader, position: int, start: int) -> Verdict:
        stop = min(slice_length(header.length, header.k), start + CHUNK_SIZE)
        supplier = self._circle.supplier(node)
        try:
            await self._fetcher.prove_at(supplier, header, position, start, stop)
        except Malformed:
            return Verdict.LOST
        except Refused as error:
            lost = error.code in ("damaged", "not-found")
            return Verdict.LOST if lost else Verdict.WITHHELD
        except ProtocolViolation:
            return Verdict.HUNG_UP
        except PeerError:
            return Verdict.UNKNOWN
        return Verdict.RIGHT

    async def _is_there(self, node: bytes) -> bool:
        """Whether a supplier answers a ping right now."""
        with trio.move_on_after(PING_DEADLINE):
            try:
                await self._circle.supplier(node).ping()
                return True
            except Refused:
                return True
            except PeerError as error:
                self._circle.health(node).fault(error)
                return False
        self._circle.health(node).fault(DeadlineExceeded("a ping is not answered"))
        return False


def _unlisted(census: Census, rows: Mapping[bytes, BlockRow]) -> dict[bytes, set[int]]:
    """In a thread: what was acknowledged, and is not in the list of a position that answered."""
    lost: dict[bytes, set[int]] = {}
    there = {position: set(blocks) for position, blocks in census.lists.items()}
    for block, row in rows.items():
        if row.state == CLOSED:
            for position in row.acked:
                if position in there and block not in there[position]:
                    lost.setdefault(block, set()).add(position)
    return lost


def _claims(census: Census, rows: Mapping[bytes, BlockRow]) -> dict[int, list[bytes]]:
    """In a thread: what each position is audited for: what it lists, and what it acknowledged."""
    claims = {position: set(blocks) for position, blocks in census.lists.items()}
    for block, row in rows.items():
        if row.state == CLOSED:
            for position in row.acked:
                claims.setdefault(position, set()).add(block)
    return {position: list(blocks) for position, blocks in claims.items() if blocks}
