"""File content: reads, writes and truncates through dirty windows; sealing them into the tree.

A file of up to INLINE_MAX bytes lives in its inode item (`inline`); while it is dirty its whole
content is in its window. Larger files are tiled by extent items.

Atomicity: a window changes together with the items it stands for, in one transaction function,
after its last read. See docs/concurrency.md.
"""

import errno
from collections.abc import Awaitable, Callable

import trio

from bitdustfs.blocks.space import Space
from bitdustfs.blocks.store import Piece, Store
from bitdustfs.core.items import (
    COUNTERS_KEY,
    Counters,
    Inode,
    decode_counters,
    decode_inode,
    encode_item,
    inode_key,
)
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import FsError
from bitdustfs.fs.extents import Mapped, put_extent, resize, to_read
from bitdustfs.fs.window import Sealing, Tally, Window
from bitdustfs.tree.tree import Transaction, Tree
from bitdustfs.units import EXTENT_MAX, FILE_MAX, INLINE_MAX, MIB

DIRTY_SOFT = 4 * MIB  #: dirty bytes at which full segments are sealed in the background
DIRTY_HARD = 24 * MIB  #: dirty bytes at which writers wait
RESIZE_STEP = 2000  #: extent items that one step of a truncate drops at most
SEAL_STEP = 4 * MIB  #: bytes sealed in one turn, so that readers and writers get theirs


Taken = tuple[int, Window, list[Sealing]]


class Content:
    """The content of all files of one vault on this machine."""

    def __init__(self, tree: Tree, store: Store, space: Space) -> None:
        self._tree, self._store, self._space = tree, store, space
        self.windows: dict[int, Window] = {}
        self.tally = Tally()
        self.sealing = trio.Lock()  #: held from appending extents until items refer to them
        self.on_dirty: Callable[[], None] = lambda: None
        self.on_write: Callable[[], None] = lambda: None
        self.wait_for_room: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    def size_of(self, inode: int, attributes: Inode) -> int:
        """The true size: a window knows better than the item."""
        window = self.windows.get(inode)
        return attributes.size if window is None else window.size

    def _window(self, inode: int, attributes: Inode) -> Window:
        window = self.windows.get(inode)
        if window is None:
            window = self.windows[inode] = Window(attributes.size, self.tally)
            if attributes.inline is not None:
                window.inline = True
                window.write(0, attributes.inline)
        return window

    async def write(self, inode: int, offset: int, data: bytes) -> None:
        """Takes `data` into the window; waits while too much is dirty. Raises FsError, NoSpace."""
        if offset + len(data) > FILE_MAX:
            raise FsError(errno.EFBIG)
        if (
            self.tally.dirty >= DIRTY_HARD
        ):  # first: a disk that is full must refuse, not pile up here
            await self.wait_for_room()
            await self.seal(full_only=False)
        totals = await self._tree.run(load_counters)
        await self._space.admit(totals.live, self.tally.dirty, len(data))

        def put(tx: Transaction) -> None:
            attributes = load_inode(tx, inode)
            self._window(inode, attributes).write(offset, data)  # after the last read

        window = self.windows.get(inode)
        if window is not None:
            window.write(offset, data)
        else:
            await self._tree.run(put)
        self.on_dirty()
        self.on_write()
        if self.tally.dirty >= DIRTY_SOFT and not self.sealing.locked():
            await self.seal(full_only=True)

    async def read(self, inode: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes; short only at the end of the file."""
        while True:
            window = self.windows.get(inode)
            if window is not None and window.covers(offset, min(length, window.size - offset)):
                buffer = bytearray(max(0, min(length, window.size - offset)))
                window.overlay(offset, buffer)
                return bytes(buffer)
            seen = self._tree.version(inode)
            size, inline, parts = await self._tree.run(self._plan_read, inode, offset, length)
            if inline is not None:
                return inline[offset : offset + length]
            buffer = bytearray(max(0, min(length, size - offset)))
            await self._fill(buffer, offset, parts)
            if self._tree.version(inode) == seen:  # no extent moved while we waited
                window = self.windows.get(inode)
                if window is not None:
                    window.overlay(offset, buffer)
                    del buffer[max(0, window.size - offset) :]
                return bytes(buffer)

    def _plan_read(
        self, tx: Transaction, inode: int, offset: int, length: int
    ) -> tuple[int, bytes | None, list[Mapped]]:
        attributes = load_inode(tx, inode)
        size = self.size_of(inode, attributes)
        window = self.windows.get(inode)
        if attributes.inline is not None and window is None:
            return size, attributes.inline, []
        if attributes.inline is not None:
            return size, None, []  # the window has it all
        stop = min(offset + length, attributes.size)
        return size, None, to_read(tx, inode, offset, stop) if stop > offset else []

    async def _fill(self, buffer: bytearray, base: int, parts: list[Mapped]) -> None:
        async def one(part: Mapped, place: Place) -> None:
            plain = await self._store.read_extent(place, Kind.DATA)
            data = plain[part.skip : part.skip + part.length]
            buffer[part.offset - base : part.offset - base + len(data)] = data

        wanted = [(part, part.place) for part in parts if part.place is not None]
        if len(wanted) == 1:
            await one(*wanted[0])
            return
        async with trio.open_nursery() as nursery:
            for part, place in wanted:
                nursery.start_soon(one, part, place)

    async def truncate(self, inode: int, size: int) -> None:
        """Sets the size; what lies beyond is gone, what is new reads as a hole."""
        if not 0 <= size <= FILE_MAX:
            raise FsError(errno.EFBIG)
        while not await self._tree.run(self._truncate_step, inode, size):
            await trio.lowlevel.checkpoint()  # others have their turns, and commits are made
        self.on_dirty()

    async def shrink(self, inode: int) -> bool:
        """One bounded step of truncating to nothing; True when it is done, or the inode is gone."""
        try:
            return await self._tree.run(self._truncate_step, inode, 0)
        except FsError:
            return True

    def _truncate_step(self, tx: Transaction, inode: int, size: int) -> bool:
        attributes = load_inode(tx, inode)
        if attributes.inline is not None:
            window = self._window(inode, attributes)
        else:
            add_live(tx, resize(tx, inode, attributes, size, RESIZE_STEP))
            tx.put(inode_key(inode), encode_item(attributes))
            maybe = self.windows.get(inode)
            if maybe is None:
                return attributes.size == size
            window = maybe
        window.truncate(size)  # after the last read
        return attributes.inline is not None or attributes.size == size

    # -- sealing

    async def seal(self, full_only: bool) -> None:
        """Seals what is dirty now (or only its full segments) and maps it in the tree.

        Raises DiskFull or LocalError; then everything not sealed is dirty still.
        """
        async with self.sealing:
            group: list[Taken] = []
            chosen = list(self.windows.items())
            try:
                await self._seal(chosen, group, full_only)
            except BaseException:
                for _, window, taken in reversed(group):
                    window.put_back(taken)
                raise
            for inode, window in chosen:
                await self._settle(inode, window)

    async def _seal(
        self, chosen: list[tuple[int, Window]], group: list[Taken], full_only: bool
    ) -> None:
        """`group` holds what was taken from windows and is not in the tree yet."""
        size = 0
        for inode, window in chosen:
            if full_only and (window.inline or window.dirty < EXTENT_MAX):
                continue
            if window.inline and window.size <= INLINE_MAX:
                await self._tree.run(self._store_inline, inode, window)
                continue
            goal = window.dirty  # a busy writer must not keep us here
            while goal > 0:
                taken = window.take(full_only and not window.inline, SEAL_STEP - size)
                if not taken:
                    break
                took = sum(len(piece.data) for piece in taken)
                goal, size = goal - took, size + took
                group.append((inode, window, taken))
                if size >= SEAL_STEP:
                    await self._seal_group(group)
                    size = 0
        await self._seal_group(group)

    async def _seal_group(self, group: list[Taken]) -> None:
        """One append for pieces of many files, then their mapping; what is mapped leaves `group`."""
        flat = [
            Piece(Kind.DATA, piece.data, inode, piece.offset)
            for inode, _, taken in group
            for piece in taken
        ]
        if not flat:
            return
        places = iter(await self._store.append(False, flat))
        while group:
            inode, window, taken = group[0]
            mine = [next(places) for _ in taken]
            await self._tree.run(self._map, inode, window, taken, mine)
            group.pop(0)

    async def _settle(self, inode: int, window: Window) -> None:
        """Ends a window that has nothing left to say."""
        if self.windows.get(inode) is not window or not window.empty:
            return
        if window.inline and window.size > INLINE_MAX:
            await self._tree.run(self._leave_inline, inode, window)
        if window.empty and not window.inline:
            del self.windows[inode]

    def _store_inline(self, tx: Transaction, inode: int, window: Window) -> None:
        value = tx.get(inode_key(inode))
        if value is not None:
            attributes = decode_inode(value)
            content = bytearray(window.size)
            window.overlay(0, content)
            attributes.inline, attributes.size = bytes(content), window.size
            tx.put(inode_key(inode), encode_item(attributes))
        window.close()  # after the last read
        self.windows.pop(inode, None)

    def _leave_inline(self, tx: Transaction, inode: int, window: Window) -> None:
        """The file outgrew its item, and nothing is left to seal: holes up to its size."""
        value = tx.get(inode_key(inode))
        if value is not None:
            attributes = decode_inode(value)
            if attributes.inline is not None:
                attributes.inline, attributes.size = None, 0
            if window.empty and attributes.size < window.size:
                resize(tx, inode, attributes, window.size, RESIZE_STEP)
            tx.put(inode_key(inode), encode_item(attributes))
        window.inline = False

    def _map(
        self,
        tx: Transaction,
        inode: int,
        window: Window,
        taken: list[Sealing],
        places: list[Place],
    ) -> None:
        value = tx.get(inode_key(inode))
        if value is not None:  # else it was purged meanwhile
            attributes = decode_inode(value)
            if attributes.inline is not None:
                attributes.inline, attributes.size = None, 0
            change = 0
            for piece, place in zip(taken, places, strict=True):
                if piece.valid:
                    extent = Mapped(piece.offset, piece.valid, place, 0)
                    change += put_extent(tx, inode, attributes, extent)
            if not window.segments and attributes.size < window.size:
                resize(tx, inode, attributes, window.size, RESIZE_STEP)
            add_live(tx, change)
            tx.put(inode_key(inode), encode_item(attributes))
            self._tree.bump(inode)
        window.inline = False
        window.done(taken)  # after the last read

    def is_dirty(self, inode: int) -> bool:
        """Whether a crash now would lose bytes of this inode."""
        return inode in self.windows or self._tree.uncommitted(inode)

    def forget(self, inode: int) -> None:
        """The inode is purged: its dirty bytes go too."""
        window = self.windows.pop(inode, None)
        if window is not None:
            window.truncate(0)
            window.close()


def load_inode(tx: Transaction, inode: int) -> Inode:
    """The inode's attributes; ESTALE when it is gone."""
    value = tx.get(inode_key(inode))
    if value is None:
        raise FsError(errno.ESTALE)
    return decode_inode(value)


def load_counters(tx: Transaction) -> Counters:
    value = tx.get(COUNTERS_KEY)
    return Counters(1, 1, 0, 0) if value is None else decode_counters(value)


def add_live(tx: Transaction, change: int) -> None:
    """Counts bytes of file content that came or went."""
    if change:
        counters = load_counters(tx)
        counters.live = max(0, counters.live + change)
        tx.put(COUNTERS_KEY, encode_item(counters))
