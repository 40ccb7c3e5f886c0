"""Keeps what is pinned on this machine: finds it, brings it, and says which blocks must stay.

    walk below each pin -> which blocks are needed -> bring what is not here -> sync -> walk again

A pin follows inodes, so a walk is made again whenever something changed there: names, content, or
the leaves of the tree. Compaction moves content into other blocks; evicting spares what was closed
since the last walk (blocks/spared.py). Walks take a small part of the time: what waits for one is
only what is new there.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import trio

from bitdustfs.blocks.bringing import Bringing
from bitdustfs.blocks.evict import CacheRoom
from bitdustfs.blocks.spared import Spared
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.pinnedfiles import PinnedFiles
from bitdustfs.cache.pins import PinRow, Pins
from bitdustfs.cache.rows import CLOSED
from bitdustfs.core.items import ROOT_INODE, decode_inode, inode_key, object_range
from bitdustfs.core.records import Place
from bitdustfs.errors import DiskFull, FsError, LocalError, Unavailable, UsageError
from bitdustfs.fs.names import Names
from bitdustfs.fs.past import is_past
from bitdustfs.fs.xattrs import Own, OwnSet
from bitdustfs.net.metered import Metered
from bitdustfs.tree.interest import Interest
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree
from bitdustfs.units import format_size
from bitdustfs.vault.survey import Figures, Lacked, Survey

log = logging.getLogger(__name__)

PIN = b"user.bitdust.pin"
AGAIN = 5.0  #: seconds until what could not be had is asked for again
REST_LEAST, REST_SHARE = 1.0, 5  #: seconds between two walks; at least so many times their length
NEARLY_FULL = "this machine's disk is nearly full: make room on it, or unpin something"


class Pinning:
    """What is pinned of one open vault. `sealing`: nobody maps new extents while it is held."""

    def __init__(
        self,
        pins: Pins,
        tree: Tree,
        names: Names,
        interest: Interest,
        bringing: Bringing,
        files: PinnedFiles,
        table: BlockTable,
        room: CacheRoom,
        spared: Spared,
        sealing: trio.Lock,
        metered: Metered,
    ) -> None:
        self._pins, self.tree, self._names, self._interest = pins, tree, names, interest
        self._bringing, self._files, self._table = bringing, files, table
        self._room, self._spared, self._sealing = room, spared, sealing
        self._metered = metered
        self._asked = trio.Event()  # pins were changed
        self._settled = trio.Event()  # set once the pins that were added last were seen after
        self._figures: dict[int, Figures] = {}
        self._objects: set[int] = set()  # that are pinned, themselves or by a folder above
        self._thorough = False
        self._stored = 0  # bytes of sealed extents that are pinned, here or not
        self._own = 0  # bytes of this machine's own blocks that pins keep here
        self._why, self._full = "", False  # full: no more is brought in this round

    # -- what is asked and said

    async def measure(self, inode: int) -> Figures:
        """How much would be pinned. Raises UsageError where it is more than the cache has room
        for.
        """
        survey = self._survey()
        figures = await survey.below(inode)
        stored = self._stored + sum(survey.used.values())
        if inode not in self._objects and stored > self._room.for_pins:
            raise UsageError(self._too_small(stored))
        return figures

    async def add(self, inode: int, path: bytes) -> None:
        """Pins. Raises UsageError where it is not there, or there are too many pins."""
        if is_past(inode) or await self.tree.run(lambda tx: tx.get(inode_key(inode))) is None:
            raise UsageError("only what is in the vault as it is now can be pinned")
        await trio.to_thread.run_sync(self._pins.add, inode, path)
        self._spared.all()  # no await since it is pinned: nothing of it is evicted from here on
        self._asked.set()

    async def drop(self, inode: int) -> bool:
        """Pins no more; whether it was."""
        dropped = await trio.to_thread.run_sync(self._pins.drop, inode)
        self._figures.pop(inode, None)
        self._asked.set()
        return dropped

    def rows(self) -> list[tuple[PinRow, Figures]]:
        """What is pinned, and how much of it is here as far as was looked."""
        return [(row, self._figures.get(row.inode, Figures())) for row in self._pins.all()]

    def answers(self) -> Own:
        """The attribute by its name."""
        return {PIN: self.answer}

    def setters(self, path_of: Callable[[int], bytes]) -> OwnSet:
        """What sets it. `path_of`: how an inode is called, as far as that is known."""

        async def change(inode: int, value: bytes | None) -> None:
            if value is not None:
                await self.add(inode, path_of(inode))
            elif not await self.drop(inode):
                raise FsError(errno.ENODATA)

        return {PIN: change}

    async def answer(self, inode: int) -> str:
        """pinned; below, where a folder above it is, as of the last walk; ENODATA."""
        if self._pins.has(inode):
            return "pinned"
        if inode in self._objects:
            return "below"
        raise FsError(errno.ENODATA)

    @property
    def why(self) -> str:
        """Why not all is here, a sentence; "" where it is, or is being brought."""
        return self._why

    @property
    def room(self) -> int:
        """Bytes that the cache has for what is pinned."""
        return self._room.for_pins

    async def wait_settled(self) -> None:
        """Returns once all that was pinned before is here, or no more of it is had for now."""
        await self._settled.wait()

    def _too_small(self, size: int) -> str:
        return (
            f"{format_size(size)} would be pinned, and the cache of this mount has room for "
            f"{format_size(self._room.for_pins)} of that: mount with a larger cache=SIZE, or unpin "
            "something (bitdust pins lists what is pinned)"
        )

    # -- doing it

    async def run(self) -> None:
        """Until cancelled."""
        self._thorough = not await trio.to_thread.run_sync(self._pins.begin)
        try:
            while True:
                self._asked = trio.Event()
                began = trio.current_time()
                pause = await self._round()
                if not self._asked.is_set():
                    self._settled.set()
                    self._settled = trio.Event()
                await self._rest(trio.current_time() - began, pause)
        finally:
            self._end()

    async def _rest(self, took: float, pause: float) -> None:
        """Until there is something to do, and not too soon after what was done; sooner where pins
        were changed.
        """
        with trio.move_on_after(max(REST_LEAST, REST_SHARE * took)):
            await self._asked.wait()
            return
        with trio.move_on_after(pause):
            async with trio.open_nursery() as either:
                for event in (self._asked.wait, self._interest.wait_changed):
                    either.start_soon(_then_cancel, event, either.cancel_scope)

    async def _round(self) -> float:
        """One walk, and what is not here brought; seconds to the next one, if nothing changes."""
        rows = self._pins.all()
        if not rows:
            self._objects, self._figures, self._why = set(), {}, ""
            self._own = self._stored = 0
            self._spared.none()
            self._interest.of(())
            await trio.to_thread.run_sync(self._files.keep_only, ())
            return float("inf")
        survey = await self._walk(rows)
        if self._asked.is_set():
            return 0.0  # pins came or went: all is looked at once more, as thoroughly
        if not self._lacks(survey):
            self._why = ""
            await self._bringing.sync()
            self._thorough = False
            return float("inf")
        await self._metered.wait_free()
        self._why, self._full = "", False
        try:
            await self._fetch(rows)
        except DiskFull:
            self._why = NEARLY_FULL
        await self._bringing.sync()
        lacks = self._lacks(await self._walk(rows))
        return AGAIN if lacks else float("inf")

    def _survey(self, bring: Lacked | None = None) -> Survey:
        lacking = partial(self._bringing.lacking, thorough=self._thorough)
        return Survey(self.tree, lacking, bring)

    def _lacks(self, survey: Survey) -> bool:
        every = self._figures.values()
        return bool(survey.leaves_lacking + survey.unseen) or not all(
            figures.all_here for figures in every
        )

    async def _walk(self, rows: Iterable[PinRow]) -> Survey:
        """Finds out what is here, and has evicting spare what is needed."""
        self._interest.of_all()
        async with self._sealing:  # what was appended before is mapped
            closed = frozenset(self._table.in_state(CLOSED))
        survey = self._survey()
        figures = await self._below_all(survey, rows)
        if {row.inode for row in self._pins.all()} != figures.keys():
            return survey  # a pin came or went: what is spared is found by the next walk
        # no await from here on: nothing changes between the look at it and what follows
        self._objects, self._figures = survey.objects, figures
        self._own, self._stored = self._length_of(survey.used), sum(survey.used.values())
        if not (survey.unseen or self._interest.changed):
            self._spared.judge(survey.used, closed)
            self._interest.of(survey.objects)
            await trio.to_thread.run_sync(self._files.keep_only, survey.used)
        return survey

    def _length_of(self, blocks: Iterable[bytes]) -> int:
        rows = (self._table.get(block) for block in blocks)
        return sum(row.length for row in rows if row is not None and row.local)

    async def _below_all(self, survey: Survey, rows: Iterable[PinRow]) -> dict[int, Figures]:
        """The figures of each pin; and the way to it counts as pinned, too."""
        await survey.leaves_of(*object_range(0))  # counters, and what each block is used for
        figures: dict[int, Figures] = {}
        for row in rows:
            figures[row.inode] = await survey.below(row.inode)
            await self._above(survey, row)
        await survey.finish()
        return figures

    async def _above(self, survey: Survey, row: PinRow) -> None:
        """The leaves of the folders above belong to it: without them nobody gets there.

        A folder knows the one above it, also after it was moved; for a file it is asked for by the
        path that it had.
        """
        try:
            way = await self.tree.run(self._way_to, row)
        except Unavailable:
            survey.miss()
            return
        for inode in way:
            await survey.leaves_of(*object_range(inode))

    def _way_to(self, tx: Transaction, row: PinRow) -> list[int]:
        value = tx.get(inode_key(row.inode))
        above = 0 if value is None else decode_inode(value).parent
        way: list[int] = []
        while above and above not in way:
            way.append(above)
            value = tx.get(inode_key(above))
            above = 0 if value is None else decode_inode(value).parent
        if way:
            return way
        folder, way = ROOT_INODE, [ROOT_INODE]
        for name in row.path.split(b"/")[:-1]:
            entry = self._names.entry(tx, folder, name)[1] if name else None
            if entry is None:
                break
            folder = entry.inode
            way.append(folder)
        return way

    async def _fetch(self, rows: Iterable[PinRow]) -> None:
        """Brings what is not here, as far as there is room. Raises DiskFull."""
        every = dict(self._figures)
        for row in rows:
            figures = every.get(row.inode)
            if figures is not None and not self._asked.is_set():
                await self._below_all(self._survey(_Bring(self, figures)), [row])

    async def bring(self, wanted: dict[Place, int], figures: Figures) -> None:
        """Brings extents, and counts their bytes of content. Raises DiskFull or LocalError."""
        if self._full or self._asked.is_set():
            return
        left, fits = self._room.for_pins - self._own - self._files.total, list[Place]()
        for place in wanted:
            if place.length <= left:
                left -= place.length
                fits.append(place)

        def came(place: Place) -> None:
            figures.found(0, 0, wanted[place])

        if self._room.disk.lacking():
            self._why, self._full = NEARLY_FULL, True
            return
        said = await self._bringing.bring(fits, came)
        self._why = self._why or said  # what one cannot have keeps no other away
        if len(fits) < len(wanted):
            self._why, self._full = self._too_small(self._stored), True

    def _end(self) -> None:
        """The mount ends: what was brought is on this disk, or all of it is looked at again."""
        try:
            self._files.sync()
            self._pins.end()
        except LocalError as error:
            log.warning("what is pinned is looked at again by the next mount: %s", error)


class _Bring:
    """Brings for one pin."""

    def __init__(self, pinning: Pinning, figures: Figures) -> None:
        self._pinning, self._figures = pinning, figures

    async def __call__(self, wanted: dict[Place, int]) -> None:
        await self._pinning.bring(wanted, self._figures)


async def _then_cancel(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()
