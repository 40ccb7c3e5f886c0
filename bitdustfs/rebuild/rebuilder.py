"""Carries out plans while the vault is mounted: missing fragments are made again and placed.

What each supplier lists, what it acknowledged and what audits found make the states that plan.py
decides on. What this machine still has is encoded and delivered by the courier; everything else is
gathered here, k fragments a block, within the policy's bandwidth.

Only blocks are gone through of which something is owed, unlisted or damaged, and in threads.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import trio

from bitdustfs.blocks.courier import Courier
from bitdustfs.blocks.delivery import Placement
from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.pen import Pen
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Malformed, PeerError, Unavailable
from bitdustfs.net.metered import Metered
from bitdustfs.rebuild.audit import CENSUS_EVERY, Auditor
from bitdustfs.rebuild.census import Census
from bitdustfs.rebuild.pace import Pace
from bitdustfs.rebuild.plan import BlockState, Plan, Presence, Repair, plan, spare
from bitdustfs.rebuild.remake import remake
from bitdustfs.rebuild.watch import Watch

log = logging.getLogger(__name__)

TICK = 15.0  #: seconds between two looks
IN_FLIGHT = 2  #: blocks remade at once: bounds memory (a block's slices each)
SHAPES_IN_FLIGHT = 8  #: headers asked for at once
SHAPES_MAX = 1000  #: headers asked for in one look: who lists what he made up stops no repair
Needs = Callable[[bytes], bool]  #: whether a root may need a block
OnProgress = Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True)
class Shape:
    """The code of a block that another machine wrote."""

    k: int
    n: int
    meta: bool


@dataclass
class Evidence:
    """What is known of blocks."""

    row: Callable[[bytes], BlockRow | None]
    owed: Collection[bytes]  #: closed blocks that some position lacks
    unlisted: Mapping[bytes, frozenset[int]]  #: block of another machine -> positions lacking it
    damaged: Mapping[bytes, frozenset[int]]  #: block -> positions where it was found wrong
    shapes: Mapping[bytes, Shape]
    refused: Collection[bytes]  #: dead at a supplier
    needs: Needs

    def suspicious(self) -> list[bytes]:
        """Blocks that some position may lack."""
        return list({*self.unlisted, *self.damaged, *self.owed})

    def state_of(self, block: bytes) -> BlockState | None:
        """What positions have, where one lacks it; None where none does, or too little is known."""
        row = self.row(block)
        if block in self.refused or (row is not None and (row.state != CLOSED or row.waits)):
            return None  # dead, or not there yet
        if row is not None and row.owed:
            shape, local, stored = Shape(row.k, row.n, row.meta), row.local, frozenset(row.acked)
        elif block in self.shapes and self.needs(block):
            shape, local = self.shapes[block], False
            acked = () if row is None else row.acked
            unlisted = {p for p in self.unlisted.get(block, ()) if p not in acked}
            stored = frozenset(range(shape.n)) - unlisted
        else:
            return None
        stored -= self.damaged.get(block, frozenset())
        if len(stored) == shape.n:
            return None
        return BlockState(block, shape.k, shape.n, shape.meta, local, stored)

    def states(self) -> list[BlockState]:
        """Every block that some position lacks, as far as its code is known."""
        return [s for block in self.suspicious() if (s := self.state_of(block)) is not None]


class Rebuilder:
    """Keeps every block of one vault complete.

    `needs()` gives a predicate: whether a root needs a block, as of the call. What a machine left
    half uploaded is nobody's loss.
    """

    def __init__(
        self,
        pen: Pen,
        fetcher: Fetcher,
        table: BlockTable,
        courier: Courier,
        auditor: Auditor,
        watch: Watch,
        needs: Callable[[], Needs],
        metered: Metered,
    ) -> None:
        self._metered = metered
        self._pen, self._fetcher, self._circle = pen, fetcher, fetcher.circle
        self._table, self._courier = table, courier
        self._auditor, self._watch, self._needs = auditor, watch, needs
        self._pace = Pace()
        self._counted: Census | None = None
        self._unlisted: dict[bytes, frozenset[int]] = {}
        self._shapes: dict[bytes, Shape] = {}
        self._refused: set[bytes] = set()  # dead at a supplier: never again
        self._late: list[tuple[bytes, Placement]] = []  # some suppliers are slow to take them
        self._working = trio.Lock()
        self.done = self.total = 0  #: blocks of the repairs under way
        self.moved = 0  #: bytes moved over the network for repairs since the mount
        self._latest = self._planner()([])
        self._lacking: frozenset[int] = frozenset()  # positions that lack something, by then
        self._incomplete: frozenset[bytes] = frozenset()  # blocks that some position lacks, by then

    # -- what there is to do

    @property
    def latest(self) -> Plan:
        """The plan of the last look."""
        return self._latest

    @property
    def thin_first(self) -> list[bytes]:
        """The blocks that some position lacks, in the order of the last plan."""
        latest = self._latest
        return [*latest.lost, *latest.waiting, *(repair.block for repair in latest.repairs)]

    def incomplete(self) -> int:
        """How many blocks some position lacks, by the last plan and by what is owed now. Those
        that are lost are not among them.
        """
        return len(self._incomplete.union(self._table.owed()).difference(self._latest.lost))

    def presence(self) -> list[Presence]:
        """Who is there, as the watch sees it."""
        watch = self._watch
        return [
            Presence(
                # attested by its kin, and this machine sees it, too: that was patience enough
                math.inf if watch.lasting(m.node) and watch.stand_in(p) else watch.missing(m.node),
                watch.state(m.node) == "gone",
                watch.uptime(m.node),
                self._circle.is_beside(m.node),
            )
            for p, m in enumerate(self._circle.family.members)
        ]

    def _planner(self) -> Callable[[Iterable[BlockState]], Plan]:
        """Plans for states, by who is there now and under the family's policy. In any thread."""
        family = self._circle.family
        return partial(
            plan,
            presence=self.presence(),
            k=family.group.k,
            patience=self._watch.patience,
            margin=family.policy.margin,
        )

    async def look(self, age: float = CENSUS_EVERY) -> Plan:
        """What is to be done, by a census at most `age` seconds old. It is kept as `latest`."""
        census = await self._auditor.recent(age)
        if census is not self._counted:
            self._unlisted, self._counted = dict(census.unlisted), census
        self._heed_late()
        needs, suspects = self._needs(), [*self._unlisted, *self._circle.damage.blocks()]
        listed = census.blocks()  # by many: those are no fiction

        def to_learn() -> list[bytes]:
            unknown = [b for b in suspects if b not in self._shapes and needs(b)]
            return sorted(unknown, key=lambda b: b not in listed)[:SHAPES_MAX]

        await self._learn_shapes(await trio.to_thread.run_sync(to_learn))
        return await self.replanned()

    async def replanned(self) -> Plan:
        """The plan for what the last look found and what is owed by now, with who is there now."""
        evidence, planned = self._evidence(self._table.owed()), self._planner()

        def decide() -> tuple[Plan, frozenset[int], frozenset[bytes]]:
            states = evidence.states()
            lacking = {p for s in states for p in range(s.n) if p not in s.stored}
            return planned(states), frozenset(lacking), frozenset(s.block for s in states)

        decided = await trio.to_thread.run_sync(decide)
        self._latest, self._lacking, self._incomplete = decided
        return self._latest

    def _evidence(self, owed: Collection[bytes]) -> Evidence:
        damage, usual = self._circle.damage, self._circle.family.group.k
        for block, (k, n) in damage.codes().items():
            self._shapes.setdefault(block, Shape(k, n, k != usual))
        return Evidence(
            self._table.get, owed, dict(self._unlisted), damage.blocks(), self._shapes,
            self._refused, self._needs(),
        )  # fmt: skip

    async def is_complete(self, position: int) -> bool:
        """Whether a position's own supplier was just seen to list everything it should have."""
        await self.replanned()
        if position in self._lacking:
            return False  # known without asking anybody for its list
        await self.look(0.0)
        node = self._circle.family.members[position].node
        listed = self._auditor.census.listed_by.get(position) == node
        return listed and position not in self._lacking

    def margin_of(self, blocks: Collection[bytes]) -> tuple[int, bool]:
        """How many more suppliers the thinnest of these blocks may lose. Where that is below 0,
        whether this machine has every block that too few of the others have.
        """
        presence = self.presence()
        evidence, usual = self._evidence(()), spare(presence, self._circle.family.group.k)
        thinnest, here = usual, True
        for block in blocks:
            state, row = evidence.state_of(block), self._table.get(block)
            margin = usual if state is None else state.margin(presence)
            thinnest = min(thinnest, margin)
            here &= margin >= 0 or (row is not None and row.local)
        return thinnest, here

    async def _learn_shapes(self, blocks: Iterable[bytes]) -> None:
        """k and n of blocks, from their rows or, of another machine's, from signed headers."""
        waiting = list(blocks)

        async def learn() -> None:
            while waiting:
                block = waiting.pop()
                row = self._table.get(block)
                if row is not None:
                    self._shapes[block] = Shape(row.k, row.n, row.meta)
                    continue
                try:
                    header = await self._fetcher.header(block)
                except Unavailable:
                    continue
                meta = header.k != self._circle.family.group.k
                self._shapes[block] = Shape(header.k, header.n, meta)

        async with trio.open_nursery() as nursery:
            for _ in range(SHAPES_IN_FLIGHT):
                nursery.start_soon(learn)

    def forget(self, moved: Collection[int]) -> None:
        """These positions are other suppliers' now, who were given everything."""
        self._unlisted = {block: at - set(moved) for block, at in self._unlisted.items()}

    # -- doing it

    async def run(self) -> None:
        """Until this machine may not write any more."""
        while not self._pen.lost:
            await trio.sleep(TICK)
            await self._metered.wait_free()
            try:
                await self.step()
            except (Unavailable, Malformed) as error:
                log.info("repairs wait: %s", error)

    async def step(self, age: float = CENSUS_EVERY, progress: OnProgress | None = None) -> int:
        """Looks, and makes what can be made now; fragments placed. Raises Unavailable,
        Malformed.
        """
        async with self._working:
            repairs = [r for r in (await self.look(age)).repairs if not r.local]
            self._courier.kick()  # what is here is the courier's to deliver
            if not repairs:
                return 0
            self._pace.change(self._circle.family.policy.bandwidth)
            self.done, self.total, placed = 0, len(repairs), 0

            async def work() -> None:
                nonlocal placed
                while repairs and not self._pen.lost:
                    repair = repairs.pop(0)
                    try:
                        placed += await self._repair(repair)
                    except (PeerError, Unavailable, Malformed) as error:
                        log.info("block %s is repaired later: %s", repair.block.hex(), error)
                    self.done += 1
                    if progress is not None:
                        await progress(self.done, self.total)

            async with trio.open_nursery() as nursery:
                for _ in range(IN_FLIGHT):
                    nursery.start_soon(work)
            self.done = self.total = 0
            await self.replanned()
            return placed

    async def _repair(self, repair: Repair) -> int:
        """Fragments that were placed. Those whose suppliers are slow may come to it later: nothing
        is made for them in vain meanwhile.
        """
        positions = [p for p in repair.positions if not self._courier.is_slow(p)]
        if not positions:
            return 0
        header, raw = await self._fetcher.signed_header(repair.block)
        size = repair.cost * slice_length(header.length, header.k)
        await self._pace.take(size)
        fragments = await remake(self._fetcher, header, positions)
        if self._pen.lost:
            return 0
        placement = await self._courier.place(header, raw, fragments)
        self.moved += size
        self._heed(repair.block, placement)
        if placement.under_way:
            self._late.append((repair.block, placement))
        return len(placement.acked)

    def _heed(self, block: bytes, placement: Placement) -> None:
        """What suppliers took is not missing any more."""
        if placement.dead:
            self._refused.add(block)
        if block in self._unlisted:
            self._unlisted[block] -= set(placement.acked)

    def _heed_late(self) -> None:
        """The same of what slow suppliers took meanwhile."""
        for block, placement in self._late:
            self._heed(block, placement)
        self._late = [late for late in self._late if late[1].under_way]
