"""Dirty windows become sealed extents, and extents become items of the tree.

One flush at a time, so extents of one inode reach the tree in the order in which they were taken
from its window. What was taken is in the tree when it is over, or goes back to its windows, newest
first, whatever failed in between. A truncate that comes meanwhile lowers `Sealing.valid`; the
mapping heeds it.
"""

import trio

from bitdustfs.blocks.writer import ExtentWriter, Plain
from bitdustfs.core.items import decode_inode, encode_item, inode_key
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.fs.attributes import add_live
from bitdustfs.fs.extents import RESIZE_STEP, Mapped, put_extents, resize
from bitdustfs.fs.window import Sealing, Window, Windows
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree
from bitdustfs.units import INLINE_MAX, MIB

SEAL_STEP = 4 * MIB  #: bytes sealed in one turn, so that readers and writers get theirs
MAP_STEP = 128  #: extents mapped in one turn, for the same

TakenPieces = tuple[int, Window, list[Sealing]]


class Flusher:
    """Seals the windows of one vault.

    `lock` is held from appending extents until items refer to them: by this, by compaction, by
    large xattrs, and by whoever decides that a block is dead.
    """

    def __init__(self, tree: Tree, windows: Windows, writer: ExtentWriter) -> None:
        self._tree, self._windows, self._writer = tree, windows, writer
        self.lock = trio.Lock()
        self._due = trio.Event()

    def soon(self) -> None:
        """Has `run` seal what cannot grow any more. Nobody waits: a program that closes a file
        would.
        """
        self._due.set()

    async def run(self) -> None:
        """Seals full segments whenever `soon` says so. Raises as `seal` does."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            await self.seal(full_only=True)

    async def seal_all(self) -> None:
        """Seals everything dirty, as a commit needs it."""
        await self.seal(full_only=False)

    async def seal(self, full_only: bool) -> None:
        """Seals what is dirty now (or only its full segments) and maps it in the tree.

        Raises DiskFull or LocalError; then everything not sealed is dirty still.
        """
        async with self.lock:
            group: list[TakenPieces] = []
            chosen = self._windows.all()
            try:
                await self._seal(chosen, group, full_only)
            except BaseException:
                for _, window, taken in reversed(group):
                    window.put_back(taken)
                raise
            for inode, window in chosen:
                await self._settle(inode, window)

    async def _seal(
        self, chosen: list[tuple[int, Window]], group: list[TakenPieces], full_only: bool
    ) -> None:
        """`group` holds what was taken from windows and is not in the tree yet."""
        size = 0
        for inode, window in chosen:
            if full_only and not window.full:
                continue
            small = window.inline and window.size <= INLINE_MAX
            if small and await self._tree.run(self._store_inline, inode, window):
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

    async def _seal_group(self, group: list[TakenPieces]) -> None:
        """One append for pieces of many files, then their mapping; what is mapped leaves
        `group`.
        """
        flat = [
            Plain(Kind.DATA, piece.data, inode, piece.offset)
            for inode, _, taken in group
            for piece in taken
        ]
        if not flat:
            return
        places = iter(await self._writer.append(False, flat))
        while group:
            inode, window, taken = group.pop(0)
            now, later = taken[:MAP_STEP], taken[MAP_STEP:]
            try:
                await self._tree.run(self._map, inode, window, now, [next(places) for _ in now])
            except BaseException:
                group.insert(0, (inode, window, taken))
                raise
            if later:
                group.insert(0, (inode, window, later))
                await trio.lowlevel.checkpoint()  # others have their turns

    async def _settle(self, inode: int, window: Window) -> None:
        """Ends a window that has nothing left to say."""
        if self._windows.get(inode) is not window or not window.empty:
            return
        if window.inline and window.size > INLINE_MAX:
            await self._tree.run(self._leave_inline, inode, window)
        if window.empty and not window.inline:
            self._windows.drop(inode)

    def _store_inline(self, tx: Transaction, inode: int, window: Window) -> bool:
        """False where the file outgrew its item while a leaf of the tree was waited for."""
        value = tx.get(inode_key(inode))
        if window.size > INLINE_MAX:
            return False
        if value is not None:
            attributes = decode_inode(value)
            content = bytearray(window.size)
            window.overlay(0, content)
            attributes.inline, attributes.size = bytes(content), window.size
            tx.put(inode_key(inode), encode_item(attributes))
        window.close()  # after the last read
        self._windows.drop(inode)
        return True

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
        window.leave_inline()

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
            sealed = zip(taken, places, strict=True)
            extents = (Mapped(p.offset, p.valid, place, 0) for p, place in sealed if p.valid)
            change = put_extents(tx, inode, attributes, extents)
            if not window.segments and attributes.size < window.size:
                resize(tx, inode, attributes, window.size, RESIZE_STEP)
            add_live(tx, change)
            tx.put(inode_key(inode), encode_item(attributes))
            self._tree.bump(inode)
        window.leave_inline()
        window.done(taken)  # after the last read
