"""Seals extents into this machine's open blocks. The only place that seals.

One block of data and one of metadata are open at most. One append runs at a time, so extents of one
inode keep the order in which they were written. A full block is closed: directory, sync, row; from
then on the courier brings it to the suppliers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import trio

from bitdustfs.blocks.open_block import OpenBlock
from bitdustfs.blocks.pen import Pen
from bitdustfs.blocks.sealers import Sealers
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, OPEN, BlockPart, BlockRow
from bitdustfs.core.block import ExtentEntry, InodeHint, encode_directory, new_block_id
from bitdustfs.core.hashing import digest
from bitdustfs.core.records import Group, Place
from bitdustfs.core.sealing import Kind, Suite
from bitdustfs.units import EXTENT_MAX, META_EXTENT_MAX

Describe = Callable[[int], InodeHint | None]  #: what a directory tells of an inode


class Plain(NamedTuple):
    """Plaintext to become one extent, and what the block's directory will say of it."""

    kind: Kind
    plain: bytes
    inode: int = 0
    offset: int = 0


class ExtentWriter:
    """The open blocks of one vault.

    `group`: the code of new blocks. `describe`: tells of inodes for blocks' directories.
    `on_closed` is called, in the loop's thread, after blocks were closed.
    """

    def __init__(
        self,
        sealers: Sealers,
        suite: Suite,
        table: BlockTable,
        files: BlockFiles,
        group: Callable[[], Group],
        pen: Pen,
        describe: Describe,
        on_closed: Callable[[], None],
    ) -> None:
        self._sealers, self._suite = sealers, suite
        self._table, self._files, self._group = table, files, group
        self._pen, self._describe, self._on_closed = pen, describe, on_closed
        self._open: dict[bool, OpenBlock] = {}
        self._appending = trio.Lock()
        self._closed_some = False  # since `on_closed` was called

    @property
    def unclosed(self) -> int:
        """Bytes in open blocks."""
        return sum(block.length for block in list(self._open.values()))

    async def append(self, meta: bool, pieces: Sequence[Plain]) -> list[Place]:
        """Seals `pieces` into the open block of data or of metadata; on disk after `sync_open`.

        Raises DiskFull or LocalError; then none of the pieces is referred to by anything.
        """
        async with self._appending:
            described = map(self._describe, {piece.inode for piece in pieces if piece.inode})
            hints = {hint.inode: hint for hint in described if hint is not None}
            try:
                return await trio.to_thread.run_sync(self._append, meta, pieces, hints)
            finally:
                self._tell_closed()  # also what was closed before something failed

    def _append(
        self, meta: bool, pieces: Sequence[Plain], hints: Mapping[int, InodeHint]
    ) -> list[Place]:
        places: list[Place] = []
        at = 0
        while at < len(pieces):
            block = self._open.get(meta)
            if block is not None and block.full:
                self._close(block)
                block = None
            if block is None:
                block = self._create(meta)
            at = self._fill(block, pieces, at, hints, places)
        return places

    def _fill(
        self,
        block: OpenBlock,
        pieces: Sequence[Plain],
        at: int,
        hints: Mapping[int, InodeHint],
        places: list[Place],
    ) -> int:
        """Appends pieces[at:] to `block` until it is full; returns the first one left."""
        sealed_pieces: list[bytes] = []
        entries: list[ExtentEntry] = []
        length, now = block.length, time.time_ns()
        while at < len(pieces) and not block.is_full_with(len(entries), length - block.length):
            piece = pieces[at]
            if piece.inode in hints:
                block.tell(hints[piece.inode])
            limit = EXTENT_MAX if piece.kind == Kind.DATA else META_EXTENT_MAX
            if len(piece.plain) > limit:
                raise ValueError(f"an extent of {len(piece.plain)} bytes exceeds {limit}")
            ordinal = len(block.entries) + len(entries)
            sealed = block.sealer.seal(self._suite, ordinal, piece.kind, piece.plain)
            entry = ExtentEntry(
                ordinal, piece.kind, length, len(sealed), digest(sealed), piece.inode,
                piece.offset, len(piece.plain), now, self._pen.seq,
            )  # fmt: skip
            entries.append(entry)
            sealed_pieces.append(sealed)
            length += len(sealed)
            at += 1
        block.append(sealed_pieces, entries)
        self._files.grew(block.id, block.length)
        places += [Place(block.id, e.ordinal, e.offset, e.length, e.hash) for e in entries]
        return at

    def _create(self, meta: bool) -> OpenBlock:
        group = self._group()
        block_id = new_block_id(self._pen.seq)
        row = BlockRow(OPEN, meta, 0, group.meta_k if meta else group.k, group.n, 0)
        self._table.put(block_id, row, sync=False)
        fd = self._files.create(block_id)
        block = OpenBlock(block_id, fd, meta, self._sealers.of(block_id))
        self._open[meta] = block
        return block

    def _close(self, block: OpenBlock) -> None:
        try:
            close_block(block, self._suite, self._table)
        finally:
            row = self._table.get(block.id)
            if row is not None and row.state != OPEN:  # also when the sync after that failed
                block.release()
                del self._open[block.meta]
                self._closed_some = True

    async def close_open(self) -> None:
        """Closes the open blocks that hold anything: what is in them can be uploaded."""
        async with self._appending:
            for block in [b for b in self._open.values() if b.entries]:
                for hint in map(self._describe, list(block.hints)):
                    if hint is not None:
                        block.tell(hint)
                try:
                    await trio.to_thread.run_sync(self._close, block)
                finally:
                    self._tell_closed()

    def _tell_closed(self) -> None:
        if self._closed_some:
            self._closed_some = False
            self._on_closed()

    # -- commits

    def take_parts(self) -> tuple[BlockPart, ...]:
        """What open blocks gained since the last call, for the batch about to be committed.

        No await here or between this and taking the batch: both belong to one commit.
        """
        parts = []
        for block in self._open.values():
            new = block.take_new()
            if new:
                parts.append(BlockPart(block.id, new[-1].offset + new[-1].length, new))
        return tuple(parts)

    def put_back_parts(self, parts: tuple[BlockPart, ...]) -> None:
        """A commit failed: its parts are due again."""
        for part in parts:
            for block in self._open.values():
                if block.id == part.block:
                    block.put_back(len(part.entries))

    def sync_open(self) -> None:
        """In a thread: brings what open blocks hold to disk. Raises LocalError."""
        for block in list(self._open.values()):
            block.sync()


def close_block(block: OpenBlock, suite: Suite, table: BlockTable) -> None:
    """Directory, sync, and a row that says CLOSED; all durable when this returns."""
    plain = encode_directory(block.entries, list(block.hints.values()))
    ordinal = len(block.entries)
    sealed = block.sealer.seal(suite, ordinal, Kind.DIRECTORY, plain)
    directory = Place(block.id, ordinal, block.length, len(sealed), digest(sealed))
    length = block.close(sealed)
    was = table.get(block.id)
    assert was is not None
    table.put(block.id, BlockRow(CLOSED, was.meta, 0, was.k, was.n, length, directory))
