"""Carries out plans while the vault is mounted: missing fragments are made again and placed.

What each supplier lists, what it acknowledged and what audits found make the states that plan.py decides
on. What this machine still has is encoded and delivered by the uploader; everything else is gathered
here, k fragments a block, within the policy's bandwidth.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterable

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.upload import Uploader
from bitdustfs.core.records import Ballot
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Malformed, PeerError, Unavailable
from bitdustfs.rebuild.audit import CENSUS_EVERY, Auditor
from bitdustfs.rebuild.census import Census
from bitdustfs.rebuild.pace import Pace
from bitdustfs.rebuild.plan import BlockState, Plan, Presence, Repair, plan
from bitdustfs.rebuild.remake import remake
from bitdustfs.rebuild.watch import Watch

log = logging.getLogger(__name__)

TICK = 15.0  #: seconds between two looks
IN_FLIGHT = 2  #: blocks remade at once: bounds memory (a block's slices each)
SHAPES_IN_FLIGHT = 8  #: headers asked for at once
Progress = Callable[[int, int], Awaitable[None]]


class Rebuilder:
    """Keeps every block of one vault complete. `writer`: the ballot to write under, None: not now.

    `needs` tells whether a root needs a block: what a machine left half uploaded is nobody's loss.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        auditor: Auditor,
        watch: Watch,
        uploader: Uploader,
        writer: Callable[[], tuple[Ballot, int] | None],
        needs: Callable[[bytes], bool],
    ) -> None:
        self._fetcher, self._auditor, self._watch = fetcher, auditor, watch
        self._uploader, self._writer, self._needs = uploader, writer, needs
        self.pace = Pace()
        self._counted: Census | None = None
        self._unlisted: dict[bytes, frozenset[int]] = {}  # foreign block -> positions lacking it
        self._shapes: dict[bytes, tuple[int, int, bool]] = {}  # (k, n, whether it is metadata)
        self._refused: set[bytes] = set()  # dead at a supplier: never again
        self._working = trio.Lock()
        self.done = self.total = 0  #: blocks of the repairs under way
        self.moved = 0  #: bytes moved over the network for repairs since the mount
        self.latest = self.plan([])

    # -- what there is to do

    @property
    def thin_first(self) -> list[bytes]:
        """The blocks that some position lacks, in the order of the last plan."""
        return [*self.latest.waiting, *(repair.block for repair in self.latest.repairs)]

    @property
    def margin(self) -> int:
        """Fragments beyond k below which a block is repaired without patience (policy)."""
        return self._fetcher.family.policy.margin

    def presence(self) -> list[Presence]:
        """Who is there, as the watch sees it."""
        watch, members = self._watch, self._fetcher.family.voters
        return [
            Presence(
                # attested by its kin, and this machine sees it, too: that was patience enough
                math.inf if watch.lasting(m.node) and watch.stand_in(p) else watch.lasting(m.node),
                watch.state(m.node) == "gone",
                watch.uptime(m.node),
            )
            for p, m in enumerate(members)
        ]

    def plan(self, states: Iterable[BlockState]) -> Plan:
        """The plan for these states, under the family's policy."""
        group = self._fetcher.family.group
        return plan(
            states, self.presence(), k=group.k, patience=self._watch.patience, margin=self.margin
        )

    async def look(self, age: float = CENSUS_EVERY) -> Plan:
        """What is to be done, by a census at most `age` seconds old. It is kept as `latest`."""
        census = await self._auditor.recent(age)
        if census is not self._counted:
            self._unlisted, self._counted = self._missing(census), census
        suspicious = [b for b in {*self._unlisted, *self._auditor.damaged} if self._needs(b)]
        await self._learn_shapes(b for b in suspicious if b not in self._shapes)
        return self.replanned()

    def replanned(self) -> Plan:
        """The plan for what the last look found and what is owed by now, with who is there now."""
        self.latest = self.plan(self._states())
        return self.latest

    async def is_complete(self, position: int) -> bool:
        """Whether a position's own supplier was just seen to list everything that it should have."""
        await self.look(0.0)
        node = self._fetcher.family.voters[position].node
        listed = self._auditor.census.listed_by.get(position) == node
        return listed and all(position in state.stored for state in self._states())

    def margin_of(self, blocks: Collection[bytes]) -> tuple[int, bool]:
        """How many more suppliers the thinnest of these blocks may lose; whether it is here anyway."""
        presence = self.presence()
        lacking = {state.block: state for state in self._states()}
        margins = [(sum(p.online for p in presence) - self._fetcher.family.group.k, False)]
        margins += [
            (lacking[block].reachable(presence) - lacking[block].k, lacking[block].local)
            for block in blocks
            if block in lacking
        ]
        return min(margins)

    def _missing(self, census: Census) -> dict[bytes, frozenset[int]]:
        """Blocks that some supplier's list lacks, and the positions of those suppliers."""
        listed: dict[bytes, int] = {}
        for position, blocks in census.lists.items():
            for block in blocks:
                listed[block] = listed.get(block, 0) | 1 << position
        everybody = sum(1 << position for position in census.lists)
        return {
            block: frozenset(p for p in census.lists if not positions >> p & 1)
            for block, positions in listed.items()
            if positions != everybody
        }

    def _states(self) -> list[BlockState]:
        """Every block that some position lacks, as far as its code is known."""
        own, owed = self._uploader.acknowledged(), self._uploader.owed
        damaged = self._auditor.damaged
        dead = (
            self._uploader.dead() | self._refused | set(self._uploader.waiting())
        )  # not there yet
        suspicious = {*self._unlisted, *damaged, *owed} - dead
        states = []
        for block in suspicious:
            row = owed.get(block)
            if row is not None:
                k, n, meta, local = row.k, row.n, row.meta, row.local
                stored = frozenset(row.acked)
            elif block in self._shapes and self._needs(block):
                (k, n, meta), local = self._shapes[block], False
                acked = own.get(block, ())
                unlisted = {p for p in self._unlisted.get(block, ()) if p not in acked}
                stored = frozenset(range(n)) - unlisted
            else:
                continue
            stored -= damaged.get(block, set())
            if len(stored) < n:
                states.append(BlockState(block, k, n, meta, local, stored))
        return states

    async def _learn_shapes(self, blocks: Iterable[bytes]) -> None:
        """k and n of blocks that another machine wrote, from their signed headers."""
        waiting = list(blocks)

        async def learn() -> None:
            while waiting:
                block = waiting.pop()
                try:
                    header = await self._fetcher.header(block)
                except Unavailable:
                    continue
                group = self._fetcher.family.group
                self._shapes[block] = (header.k, header.n, header.k != group.k)

        async with trio.open_nursery() as nursery:
            for _ in range(SHAPES_IN_FLIGHT):
                nursery.start_soon(learn)

    def forget(self, moved: Collection[int]) -> None:
        """These positions are other suppliers' now, who were given everything."""
        self._unlisted = {block: at - set(moved) for block, at in self._unlisted.items()}

    # -- doing it

    async def run(self) -> None:
        """Until this machine may not write any more."""
        while self._writer() is not None:
            await trio.sleep(TICK)
            try:
                await self.step()
            except (Unavailable, Malformed) as error:
                log.info("repairs wait: %s", error)

    async def step(self, age: float = CENSUS_EVERY, progress: Progress | None = None) -> int:
        """Looks, and makes what can be made now; fragments placed. Raises Unavailable, Malformed."""
        async with self._working:
            repairs = [r for r in (await self.look(age)).repairs if not r.local]
            self._uploader.kick()  # what is here is the uploader's to deliver
            if not repairs:
                return 0
            self.pace.rate = self._fetcher.family.policy.bandwidth
            self.done, self.total, placed = 0, len(repairs), 0

            async def work() -> None:
                nonlocal placed
                while repairs and self._writer() is not None:
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
            self.replanned()
            return placed

    async def _repair(self, repair: Repair) -> int:
        header, raw = await self._fetcher.signed_header(repair.block)
        size = repair.cost * slice_length(header.length, header.k)
        await self.pace.take(size)
        fragments = await remake(self._fetcher, header, repair.positions)
        writer = self._writer()
        if writer is None:
            return 0
        placed, dead = await self._uploader.place(header, raw, fragments, writer[0])
        if dead:
            self._refused.add(repair.block)
        self.moved += size
        self._auditor.mended(repair.block, placed)
        left = self._unlisted.get(repair.block, frozenset()) - set(placed)
        if repair.block in self._unlisted:
            self._unlisted[repair.block] = left
        return len(placed)
