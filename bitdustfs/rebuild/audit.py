"""Audits: random chunks of random fragments, checked against what the owner signed.

An audit looks like any other chunk read, so that a supplier cannot tell it from use. A mount begins
with quick ones and slows down: what rotted while nobody looked is found soon, and a long mount
costs little. All that is fetched comes out of one allowance (allowance.py). What a supplier
acknowledged it must have, whether it lists it or not; and who lists a fragment shows the header
that the owner signed, or failed: nobody else is asked about what he made up. One failure leads to a
closer look: at the whole fragment, and at CLOSER more of the same supplier at once. Which fragment
is next, and what becomes of evasive answers, is in sampling.py.

A supplier that lacks a share f of its fragments passes m audits with probability (1 - f)^m, so
`audits_needed(f, c)` = ln(1 - c) / ln(1 - f) of them catch it with probability c: 299 for one per
cent and c = 0.95; of twice as many at most, where what it lacks is only listed or only
acknowledged. Whose failures are many, and more than disks explain, is a liar and counts as
gone.
"""

import logging
import math
import random
from collections.abc import Awaitable, Callable, Collection, Mapping

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, DEAD, BlockRow
from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Unavailable
from bitdustfs.net.metered import Metered
from bitdustfs.rebuild.allowance import Allowance
from bitdustfs.rebuild.census import Census, take_census
from bitdustfs.rebuild.probe import Probe, Verdict
from bitdustfs.rebuild.reputation import History
from bitdustfs.rebuild.sampling import Sample
from bitdustfs.rebuild.watch import Watch
from bitdustfs.units import CHUNK_SIZE, MIB

log = logging.getLogger(__name__)

FIRST_PAUSE, GROWTH = 0.2, 1.02  #: seconds between two audits of one mount at first; times so much
DAILY = 80 * MIB  #: bytes that audits may fetch in a day, unless told otherwise
DAILY_MIN = 1 * MIB  #: the least that may be told
FIRST_COUNT = 30.0  #: seconds until the next census, while nothing is kept yet
CENSUS_EVERY = 900.0  #: seconds between questions for what suppliers keep
KEEP_EVERY = 1800.0  #: seconds after which what was spent is written down
CLOSER = 20  #: audits that follow a failed one at once
LIAR_FAILURES, LIAR_SHARE = 3, 0.005  #: failed audits, and their share, that no disk explains
SILENT_MAX = 8  #: audits in a row that a supplier may leave unanswered while it answers pings
ACQUITTED = 20  #: audits passed in a row after which nobody is gone any more who may be acquitted

OnLost = Callable[[Mapping[bytes, Collection[int]]], Awaitable[object]]


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

    `allowance`: how much they may fetch.
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
        allowance: Allowance,
        metered: Metered | None = None,
    ) -> None:
        self._metered = metered or Metered()
        self._allowance, self._kept = allowance, -math.inf
        self._fetcher, self._circle, self._watch = fetcher, fetcher.circle, watch
        self._table, self._on_lost, self._rng = table, on_lost, rng
        self._probe = Probe(fetcher)
        self._census = Census({})
        self.censuses = 0  #: how many were taken since the mount
        self._counted = -CENSUS_EVERY
        self._counting = trio.Lock()
        self._turn: list[int] = []
        self._overtaken: set[int] = set()  # positions after whose last audit another one answered
        self._samples: dict[int, Sample] = {}
        self._dead: set[bytes] = set()  # blocks that a census may list although they are deleted

    def allow(self, daily: int) -> None:
        """Audits may fetch so many bytes a day from here on."""
        self._allowance.change(daily)

    @property
    def census(self) -> Census:
        """The latest census; an empty one before the first."""
        return self._census

    async def recent(self, age: float) -> Census:
        """A census not older than `age` seconds."""
        async with self._counting:
            if trio.current_time() - self._counted >= age:
                before = self._table.snapshot()  # what is acknowledged from here on may be missing
                self._dead = set(self._table.in_state(DEAD))
                self._census = await take_census(self._circle)
                self.censuses += 1
                lost = await trio.to_thread.run_sync(_unlisted, self._census, before)
                if lost:
                    await self._on_lost(lost)
                self._counted = trio.current_time()
                rows, old, dead = self._table.snapshot(), self._samples, frozenset(self._dead)
                self._samples = await trio.to_thread.run_sync(
                    _samples, self._census, rows, dead, old
                )
                self._turn = []
        return self._census

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._go_on()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._allowance.keep)

    async def _go_on(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await self._rest(self._allowance.wait())
            await self._metered.wait_free()
            await self.recent(CENSUS_EVERY if self._samples else FIRST_COUNT)
            if self._samples:
                block, position = self._choose()
                if await self.audit(block, position) is False:
                    await self._look_closer(position)
                await self._keep()
            await self._rest(pause)
            pause = min(pause * GROWTH, self._allowance.pause)

    async def hear(self) -> None:
        """What readers and `verify` find wrong is owed again, as what audits find is.

        Who lacks what was made again for it since the mount failed an audit: else each read could
        cost the owner a fragment, for ever. Until cancelled. Raises LocalError; what was not heard
        to its end is heard again at the next call.
        """
        damage = self._circle.damage
        while True:
            for found in await damage.reported():
                if found.block in self._dead:
                    damage.died(found.block)
                else:
                    await self._on_lost({found.block: {found.position}})
                    if found.again:
                        seen = self._watch.reputation.audited(found.node, False)
                        self._judge(found.node, seen)
                damage.heard(found)

    async def _rest(self, seconds: float) -> None:
        """No audit meanwhile; a census all the same."""
        until = trio.current_time() + seconds
        while (left := until - trio.current_time()) > CENSUS_EVERY:
            await trio.sleep(CENSUS_EVERY)
            await self.recent(CENSUS_EVERY)
        await trio.sleep(max(0.0, left))

    async def _keep(self) -> None:
        """Writes down what was spent, where it is time: a mount may be killed."""
        now = trio.current_time()
        if now - self._kept >= KEEP_EVERY:
            self._kept = now
            await trio.to_thread.run_sync(self._allowance.keep)

    def _choose(self) -> tuple[bytes, int]:
        """A random fragment of the supplier whose turn it is."""
        if not self._turn:
            self._turn = list(self._samples)
            self._rng.shuffle(self._turn)
        position = self._turn.pop()
        return self._samples[position].draw(self._rng), position

    async def audit(self, block: bytes, position: int) -> bool | None:
        """Whether a random chunk of the fragment is right; None where that is not settled."""
        node = self._circle.serving(position)  # it is blamed, whoever has the position afterwards
        supplier = self._circle.supplier(node)
        self._allowance.spend(CHUNK_SIZE)
        verdict, header, start = await self._probe.look(supplier, block, position, self._rng)
        if block in self._dead or not self._answers_for(node, position):
            return None  # deleted, or given to another supplier, meanwhile
        sample = self._samples.get(position, Sample((), ()))
        if verdict in (Verdict.RIGHT, Verdict.LOST):
            sample.settled(block)
        else:
            if verdict is Verdict.WITHHELD:
                self._withheld(node, position)
            if not sample.unsettled(block):
                return None
            log.warning("position %d never answers for block %s", position, block.hex())
            sample.settled(block)
            verdict = Verdict.LOST
        self._circle.health(node).audited(answered=True)
        seen = self._watch.reputation.audited(node, verdict is Verdict.RIGHT)
        self._overtaken = set(range(self._circle.family.group.n)) - {position}
        if verdict is Verdict.RIGHT:
            self._acquit(node, seen)
            return True
        await self._failed(node, block, position, header, start)
        self._judge(node, seen)
        return False

    def _judge(self, node: bytes, seen: History) -> None:
        if is_liar(seen):
            why = f"failed {seen.audits_failed} of {seen.audits} audits"
            self._watch.reputation.condemn(node, why, lasting=False)

    def _answers_for(self, node: bytes, position: int) -> bool:
        """Whether the position is this supplier's, and it, or who had it before, said what is
        there.
        """
        own = self._circle.family.members[position].node
        return node in self._circle.holders(position) and (
            node in (own, self._census.listed_by.get(position))
        )

    async def _failed(
        self, node: bytes, block: bytes, position: int, header: BlockHeader | None, start: int
    ) -> None:
        """Notes what an audit found missing: as damage that is to be mended, if it is real."""
        if header is None:
            try:
                header = await self._fetcher.header(block)
            except Unavailable:
                log.warning("position %d lists block %s, which it cannot show and nobody else "
                            "either", position, block.hex())  # fmt: skip
                if self._table.get(block) is None:
                    self._samples[position].drop(block)
                    return
        if header is not None:
            supplier = self._circle.supplier(node)
            self._allowance.spend(slice_length(header.length, header.k))
            verdicts = [
                await self._probe.read(supplier, header, position, at)
                for at in range(0, slice_length(header.length, header.k), CHUNK_SIZE)
            ]
            log.warning(
                "position %d failed an audit of block %s at %d: %d of %d chunks are wrong or gone",
                position, block.hex(), start,
                len(verdicts) - verdicts.count(Verdict.RIGHT), len(verdicts),
            )  # fmt: skip
        if block not in self._dead and node in self._circle.holders(position):
            code = None if header is None else (header.k, header.n)
            self._circle.damage.found(block, position, node, code)
            await self._on_lost({block: {position}})

    def died(self, block: bytes) -> None:
        """A block was deleted: nobody has to have it from now on."""
        self._dead.add(block)
        self._circle.damage.died(block)

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
        """More audits of a supplier that failed one, at once; on credit."""
        for _ in range(CLOSER):
            sample = self._samples.get(position)
            if not sample:
                return
            await self.audit(sample.draw(self._rng), position)

    def forget(self, moved: Collection[int]) -> None:
        """These positions are other suppliers' now: what was seen of them is no longer so."""
        self._circle.damage.moved(set(moved))
        if moved:
            self._counted = -math.inf


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


def _samples(
    census: Census,
    rows: Mapping[bytes, BlockRow],
    dead: Collection[bytes],
    before: Mapping[int, Sample],
) -> dict[int, Sample]:
    """In a thread: what each position is audited for: what it lists, and what it acknowledged."""
    acked: dict[int, set[bytes]] = {}
    for block, row in rows.items():
        if row.state == CLOSED:
            for position in row.acked:
                acked.setdefault(position, set()).add(block)
    samples = {}
    for position in {*census.lists, *acked}:
        sure = acked.get(position, set())
        listed = set(census.lists.get(position, ())) - sure - set(dead)
        if sure or listed:
            samples[position] = Sample(sure, listed)
            if position in before:
                samples[position].keep_open(before[position])
    return samples
