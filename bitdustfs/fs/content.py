"""File content: reads, writes and truncates through dirty windows.

A file of up to INLINE_MAX bytes lives in its inode item (`inline`); while it is dirty its whole
content is in its window. Larger files are tiled by extent items. Windows become extents in
flush.py.

Atomicity: a window changes together with the items it stands for, in one transaction function,
after its last read. See docs/concurrency.md.
"""

import errno
from collections.abc import Awaitable, Callable

import trio

from bitdustfs.blocks.readahead import ReadAhead, Streams
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.space import Space
from bitdustfs.blocks.throttle import Throttle
from bitdustfs.core.items import Inode, encode_item, inode_key
from bitdustfs.errors import FsError, Unavailable
from bitdustfs.fs.attributes import add_live, load_counters, load_inode
from bitdustfs.fs.extents import RESIZE_STEP, Mapped, resize, to_read
from bitdustfs.fs.flush import Flusher
from bitdustfs.fs.window import Windows
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree
from bitdustfs.units import FILE_MAX, MIB

DIRTY_SOFT = 4 * MIB  #: dirty bytes at which full segments are sealed in the background
DIRTY_HARD = 24 * MIB  #: dirty bytes at which writers wait


class Content:
    """The content of all files of one vault on this machine, to be read and cut."""

    def __init__(
        self, tree: Tree, reader: ExtentReader, ahead: ReadAhead, windows: Windows
    ) -> None:
        self._tree, self._reader, self._windows = tree, reader, windows
        self._ahead, self._streams = ahead, Streams()

    @property
    def dirty(self) -> int:
        """Bytes in memory that are in no extent yet."""
        return self._windows.tally.unmapped

    def holds_any(self) -> bool:
        """Whether bytes of any inode are in memory only, those on their way to an extent, too."""
        return bool(self._windows.all())

    def size_of(self, inode: int, attributes: Inode) -> int:
        """The true size of a file."""
        return self._windows.size_of(inode, attributes)

    def stored(self, inode: int, attributes: Inode) -> tuple[int, bool]:
        """Bytes of a file's content that are not holes, and whether that is sure.

        `attributes`: as its item says. While something is dirty it is a guess from above: what was
        written may lie over what is mapped already.
        """
        mapped = attributes.size - attributes.holes
        window = self._windows.get(inode)
        if window is None:
            return mapped, True
        below = 0 if window.inline else mapped
        return min(window.size, below + window.unmapped), False

    async def read(self, inode: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes; short only at the end of the file."""
        while True:
            window = self._windows.get(inode)
            if window is not None and window.covers(offset, min(length, window.size - offset)):
                buffer = bytearray(max(0, min(length, window.size - offset)))
                window.overlay(offset, buffer)
                return bytes(buffer)
            seen = self._tree.version(inode)
            size, inline, parts = await self._tree.run(self._plan_read, inode, offset, length)
            if inline is not None:
                return inline[offset : offset + length]
            self._look_ahead(inode, offset, length, size)
            pieces = await self._pieces(parts)
            if self._tree.version(inode) == seen:  # no extent moved while we waited
                window, there = self._windows.get(inode), max(0, min(length, size - offset))
                if window is None and sum(map(len, pieces)) == there:
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
                buffer = bytearray(b"".join(pieces))
                buffer += bytes(max(0, there - len(buffer)))  # a window is longer than the items
                if window is not None:
                    window.overlay(offset, buffer)
                    there = min(there, max(0, window.size - offset))
                return bytes(buffer[:there])

    def _plan_read(
        self, tx: Transaction, inode: int, offset: int, length: int
    ) -> tuple[int, bytes | None, list[Mapped]]:
        attributes = load_inode(tx, inode)
        size = self.size_of(inode, attributes)
        window = self._windows.get(inode)
        if attributes.inline is not None and window is None:
            return size, attributes.inline, []
        if attributes.inline is not None:
            return size, None, []  # the window has it all
        stop = min(offset + length, attributes.size)
        return size, None, to_read(tx, inode, offset, stop) if stop > offset else []

    def _look_ahead(self, inode: int, offset: int, length: int, size: int) -> None:
        """Has the extents brought that whoever reads in order will want next.

        Where the tree does not tell at once which those are, it is left: nobody waits for that.
        """
        start, stop = self._streams.note(inode, offset, length)
        if start >= min(stop, size):
            return
        try:
            plan = self._tree.look(self._plan_read, inode, start, stop - start)
        except Unavailable:  # damage: whoever reads there is told
            return
        if plan is not None:
            self._ahead.want([part.place for part in plan[2] if part.place is not None])

    async def _pieces(self, parts: list[Mapped]) -> list[bytes]:
        """The bytes of items that follow each other."""
        plains = await self._reader.read_run([p.place for p in parts if p.place is not None])
        opened = iter(plains)
        pieces: list[bytes] = []
        for part in parts:
            if part.place is None:
                pieces.append(bytes(part.length))
                continue
            plain = next(opened)
            if part.skip or part.length != len(plain):
                plain = plain[part.skip : part.skip + part.length]
            if len(plain) != part.length:
                raise Unavailable("an extent is shorter than its item says; run bitdust verify")
            pieces.append(plain)
        return pieces

    async def truncate(self, inode: int, size: int) -> None:
        """Sets the size; what lies beyond is gone, what is new reads as a hole."""
        if not 0 <= size <= FILE_MAX:
            raise FsError(errno.EFBIG)
        while not await self._tree.run(self._truncate_step, inode, size):
            await trio.lowlevel.checkpoint()  # others have their turns, and commits are made

    async def shrink(self, inode: int) -> bool:
        """One bounded step of truncating to nothing; True when it is done, or the inode is gone."""
        try:
            return await self._tree.tidy(self._truncate_step, inode, 0)
        except FsError:
            return True

    def _truncate_step(self, tx: Transaction, inode: int, size: int) -> bool:
        attributes = load_inode(tx, inode)
        if attributes.inline is not None:
            window = self._windows.open(inode, attributes)
        else:
            add_live(tx, resize(tx, inode, attributes, size, RESIZE_STEP))
            tx.put(inode_key(inode), encode_item(attributes))
            maybe = self._windows.get(inode)
            if maybe is None:
                return attributes.size == size
            window = maybe
        window.truncate(size)  # after the last read
        return attributes.inline is not None or attributes.size == size

    def is_dirty(self, inode: int) -> bool:
        """Whether a crash now would lose bytes of this inode."""
        return self._windows.get(inode) is not None or self._tree.uncommitted(inode)

    def forget(self, inode: int) -> None:
        """The inode is purged: its dirty bytes go too."""
        self._windows.forget(inode)


class WritableContent(Content):
    """The same, to be written as well.

    `wait_for_room` slows writers down while far more waits on this machine than its cache holds;
    `on_dirty` is told that there is something to commit.
    """

    def __init__(
        self,
        tree: Tree,
        reader: ExtentReader,
        ahead: ReadAhead,
        windows: Windows,
        flusher: Flusher,
        space: Space,
        throttle: Throttle,
        wait_for_room: Callable[[], Awaitable[None]],
        on_dirty: Callable[[], None],
    ) -> None:
        super().__init__(tree, reader, ahead, windows)
        self._flusher, self._space, self._throttle = flusher, space, throttle
        self._wait_for_room, self._on_dirty = wait_for_room, on_dirty

    async def read(self, inode: int, offset: int, length: int) -> bytes:
        """As for all; and uploading makes way for it."""
        self._throttle.read()
        return await super().read(inode, offset, length)

    async def write(self, inode: int, offset: int, data: bytes) -> None:
        """Takes `data` into the window; waits while too much is dirty.

        Raises FsError (NoSpace where the vault is full), DiskFull or LocalError where this
        machine's disk refuses what was written before.
        """
        if offset + len(data) > FILE_MAX:
            raise FsError(errno.EFBIG)
        tally = self._windows.tally
        if tally.dirty >= DIRTY_HARD:  # first: a disk that is full must refuse, not pile up here
            await self._wait_for_room()
            await self._flusher.seal(full_only=False)
        totals = await self._tree.run(load_counters)
        await self._space.admit(totals.live, tally.unmapped, len(data))

        def put(tx: Transaction) -> None:
            attributes = load_inode(tx, inode)
            self._windows.open(inode, attributes).write(offset, data)  # after the last read

        window = self._windows.get(inode)
        if window is not None:
            window.write(offset, data)
        else:
            await self._tree.run(put)
        self._on_dirty()
        self._throttle.wrote()
        if tally.dirty >= DIRTY_SOFT and tally.full:
            self._flusher.soon()

    async def truncate(self, inode: int, size: int) -> None:
        """As for all; and it is to be committed."""
        await super().truncate(inode, size)
        self._on_dirty()
