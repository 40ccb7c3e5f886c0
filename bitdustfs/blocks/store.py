"""Extents in, extents out: seals them into local blocks, reads them back from here or from suppliers.

The only place that seals. Blocks grow in local files; `upload.py` brings closed ones to suppliers;
`fetch.py` reads what is not here. One append runs at a time, so extents of one inode keep the order
in which they were written.
"""

import errno
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.cache.blockfiles import BlockFiles, append
from bitdustfs.cache.folder import local_error
from bitdustfs.cache.state import CLOSED, OPEN, Batch, BlockPart, BlockRow, State
from bitdustfs.core.block import ExtentEntry, InodeHint, encode_directory, new_block_id
from bitdustfs.core.hashing import digest
from bitdustfs.core.keys import ReadCapability
from bitdustfs.core.placement import MARGIN, acknowledgements_needed
from bitdustfs.core.records import Family, Place
from bitdustfs.core.sealing import Kind, Sealer, Suite
from bitdustfs.errors import Forged, LocalError, Unavailable
from bitdustfs.failpoints import reach
from bitdustfs.units import BLOCK_EXTENTS_MAX, BLOCK_FILL, EXTENT_MAX, GIB, META_EXTENT_MAX, MIB

PLAIN_CACHE = 24 * MIB  #: bytes of opened extents kept in memory
CACHE_LIMIT = 10 * GIB  #: bytes kept on this disk, unless the mount says otherwise
FETCHED_SHARE = 4  #: fetched extents may always have this part of them


class Piece(NamedTuple):
    """Plaintext to become one extent, and what the block's directory will say of it."""

    kind: Kind
    plain: bytes
    inode: int = 0
    offset: int = 0


class _OpenBlock:
    """A block that still grows. Only the appending thread touches it."""

    def __init__(self, block: bytes, fd: int, meta: bool, sealer: Sealer) -> None:
        self.id, self.fd, self.meta, self.sealer = block, fd, meta, sealer
        self.length = 0
        self.entries: list[ExtentEntry] = []
        self.hints: dict[int, InodeHint] = {}
        self.reported = 0  # entries that a batch already carries
        self.synced = 0  # bytes that are on disk
        self.doubtful = False  # a sync failed: the kernel may have dropped what it could not write

    @property
    def full(self) -> bool:
        return self.length >= BLOCK_FILL or len(self.entries) >= BLOCK_EXTENTS_MAX - 1


class _Fetch:
    """An extent on its way from the suppliers, and those who wait for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.failure = ""


def _sync(block: _OpenBlock, entries: Sequence[ExtentEntry]) -> None:
    """Brings a block to disk. After a failure, what was not synced is written again first.

    A failed fdatasync leaves pages marked clean that never reached the disk, so that the next one
    succeeds for nothing (Rebello et al., "Can applications recover from fsync failures?", 2020).
    """
    if block.doubtful:
        for entry in entries:
            if entry.offset >= block.synced:
                sealed = os.pread(block.fd, entry.length, entry.offset)
                if digest(sealed) != entry.hash:
                    raise OSError(errno.EIO, "what was written to the cache cannot be read back")
                os.pwrite(block.fd, sealed, entry.offset)
    block.doubtful = True
    os.fdatasync(block.fd)
    block.doubtful = False


class Store:
    """The extents of one vault on this machine. `describe` tells of inodes for blocks' directories."""

    def __init__(
        self,
        capability: ReadCapability,
        state: State,
        files: BlockFiles,
        fetcher: Fetcher | None,
        family: Family,
        suite: Suite,
        cache_limit: int = CACHE_LIMIT,
    ) -> None:
        self._capability, self._state, self._files = capability, state, files
        self._suite, self._cache_limit = suite, cache_limit
        self.fetcher, self.family = fetcher, family
        self.birth_seq = 1
        self.describe: Callable[[int], InodeHint | None] = lambda inode: None
        self.on_closed: Callable[[bytes], None] = lambda block: None
        self.may_evict: Callable[[bytes], bool] = lambda block: True
        self.on_evicted: Callable[[bytes], None] = lambda block: None
        self._open: dict[bool, _OpenBlock] = {}
        self._closed: list[bytes] = []  # closed, and nobody told yet
        self._appending = trio.Lock()
        self._sealers: OrderedDict[bytes, Sealer] = OrderedDict()
        self._plain: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._plain_size = 0
        self._fetching: dict[tuple[bytes, int], _Fetch] = {}

    # -- writing

    async def append(self, meta: bool, pieces: Sequence[Piece]) -> list[Place]:
        """Seals `pieces` into the open block of data or of metadata; on disk after `sync_open`.

        Raises DiskFull or LocalError; then none of the pieces exists.
        """
        async with self._appending:
            described = map(self.describe, {piece.inode for piece in pieces if piece.inode})
            hints = {hint.inode: hint for hint in described if hint is not None}
            try:
                return await trio.to_thread.run_sync(self._append, meta, pieces, hints)
            finally:
                self._tell_closed()

    def _tell_closed(self) -> None:
        """Blocks that were closed are to be uploaded, whatever failed after that."""
        while self._closed:
            self.on_closed(self._closed.pop(0))

    def _append(
        self, meta: bool, pieces: Sequence[Piece], hints: Mapping[int, InodeHint]
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
            first, at = at, self._fill(block, pieces, at, places)
            inodes = {piece.inode for piece in pieces[first:at]}
            block.hints.update((i, hints[i]) for i in inodes if i in hints)
        return places

    def _fill(
        self, block: _OpenBlock, pieces: Sequence[Piece], at: int, places: list[Place]
    ) -> int:
        """Appends pieces[at:] to `block` until it is full; returns the first one left."""
        sealed_pieces: list[bytes] = []
        entries: list[ExtentEntry] = []
        length, now = block.length, time.time_ns()
        room = BLOCK_EXTENTS_MAX - 1 - len(block.entries)
        while at < len(pieces) and length < BLOCK_FILL and len(entries) < room:
            piece = pieces[at]
            limit = EXTENT_MAX if piece.kind == Kind.DATA else META_EXTENT_MAX
            if len(piece.plain) > limit:
                raise ValueError(f"an extent of {len(piece.plain)} bytes exceeds {limit}")
            ordinal = len(block.entries) + len(entries)
            sealed = block.sealer.seal(self._suite, ordinal, piece.kind, piece.plain)
            entry = ExtentEntry(
                ordinal,
                piece.kind,
                length,
                len(sealed),
                digest(sealed),
                piece.inode,
                piece.offset,
                len(piece.plain),
                now,
                self.birth_seq,
            )
            entries.append(entry)
            sealed_pieces.append(sealed)
            length += len(sealed)
            at += 1
        append(block.fd, sealed_pieces, block.length)
        block.length = length
        self._files.grew(block.id, length)
        block.entries += entries
        places += [Place(block.id, e.ordinal, e.offset, e.length, e.hash) for e in entries]
        return at

    def _create(self, meta: bool) -> _OpenBlock:
        group = self.family.group
        block_id = new_block_id(self.birth_seq)
        row = BlockRow(OPEN, meta, 0, group.meta_k if meta else group.k, group.n, 0)
        self._state.put_block(block_id, row, sync=False)
        fd = self._files.create(block_id)
        block = _OpenBlock(block_id, fd, meta, self._sealer(block_id))
        self._open[meta] = block
        return block

    def _close(self, block: _OpenBlock) -> None:
        """Appends the directory, syncs, and records the block as closed."""
        plain = encode_directory(block.entries, list(block.hints.values()))
        ordinal = len(block.entries)
        sealed = block.sealer.seal(self._suite, ordinal, Kind.DIRECTORY, plain)
        append(block.fd, [sealed], block.length)
        try:
            reach("block-close")
            _sync(block, block.entries)
        except OSError as error:
            raise local_error(error) from error
        directory = Place(block.id, ordinal, block.length, len(sealed), digest(sealed))
        group = self.family.group
        k = group.meta_k if block.meta else group.k
        length = block.length + len(sealed)
        row = BlockRow(CLOSED, block.meta, 0, k, group.n, length, directory)
        self._state.put_block(block.id, row)
        os.close(block.fd)
        del self._open[block.meta]
        self._closed.append(block.id)

    async def close_open(self) -> None:
        """Closes the open blocks that hold anything: what is in them can be uploaded."""
        async with self._appending:
            blocks = [b for b in self._open.values() if b.entries]
            for block in blocks:
                told_last = map(self.describe, list(block.hints))
                block.hints.update((h.inode, h) for h in told_last if h is not None)
                try:
                    await trio.to_thread.run_sync(self._close, block)
                finally:
                    self._tell_closed()

    def take_parts(self) -> tuple[BlockPart, ...]:
        """What open blocks gained since the last call, for the batch about to be committed.

        No await here or between this and taking the batch: both belong to one commit.
        """
        parts = []
        for block in self._open.values():
            if len(block.entries) > block.reported:
                new = tuple(block.entries[block.reported :])
                parts.append(BlockPart(block.id, new[-1].offset + new[-1].length, new))
                block.reported = len(block.entries)
        return tuple(parts)

    @property
    def unclosed(self) -> int:
        """Bytes in open blocks."""
        return sum(block.length for block in self._open.values())

    def put_back_parts(self, parts: tuple[BlockPart, ...]) -> None:
        """A commit failed: its parts are due again."""
        for part in parts:
            for block in self._open.values():
                if block.id == part.block:
                    block.reported -= len(part.entries)

    def commit(self, batch: Batch, sync: bool) -> None:
        """In a thread: syncs what the batch refers to, then commits the batch (promise 3)."""
        for block in list(self._open.values()):
            if block.synced < block.length:
                length = block.length
                try:
                    reach("block-sync")
                    _sync(block, block.entries)
                except OSError as error:
                    if error.errno != errno.EBADF:  # closed, hence synced, meanwhile
                        raise local_error(error) from error
                block.synced = length
        self._state.append(batch, sync)

    def recover_open(self) -> None:
        """After a crash: closes blocks left open, at their committed length; drops what is not ours.

        Files without a row were never committed; those of evicted blocks had no time to go.
        """
        for block_id in self._files.own()[1]:
            known = self._state.block(block_id)
            if known is None or not known.local:
                self._files.remove(block_id)
        entries: dict[bytes, list[ExtentEntry]] = {}
        for batch in self._state.batches():
            for part in batch.parts:
                entries.setdefault(part.block, []).extend(part.entries)
        for block_id, row in self._state.blocks():
            if row.state != OPEN:
                continue
            if row.length == 0:
                self._state.forget_block(block_id)
                self._files.remove(block_id)
                continue
            fd = self._files.reopen(block_id, row.length)
            block = _OpenBlock(block_id, fd, row.meta, self._sealer(block_id))
            block.length, block.entries = row.length, entries.get(block_id, [])
            self._open[row.meta] = block
            self._close(block)
        self._tell_closed()

    # -- room on this disk

    def _fetched_limit(self) -> int:
        """Bytes that fetched extents may take: what own blocks leave, and never less than a share."""
        return max(self._cache_limit // FETCHED_SHARE, self._cache_limit - self._files.own()[0])

    def surplus(self) -> int:
        """Bytes of own blocks beyond what the cache may hold."""
        fetched = min(self._files.fetched_total, self._cache_limit // FETCHED_SHARE)
        return max(0, self._files.own()[0] + fetched - self._cache_limit)

    async def evict(self, holders: Callable[[bytes], Collection[int]], seq: int) -> int:
        """Drops local copies, data first, least recently used first, until all fits; bytes dropped.

        Only of closed blocks that roots before the accepted root `seq` named already, and that enough
        suppliers acknowledged and still list (`holders`): nothing dirty ever goes (promise 4).
        """
        surplus, dropped = self.surplus(), 0

        def gone(block: bytes, row: BlockRow) -> BlockRow | None:
            needed = max(acknowledgements_needed(row.k, row.n), min(row.n, row.k + MARGIN))
            safe = len({*row.acked} & {*holders(block)}) >= needed
            evictable = safe and row.state == CLOSED and int.from_bytes(block[:8], "big") < seq
            return msgspec.structs.replace(row, local=False) if evictable else None

        rows = [(block, self._state.block(block)) for block in self._files.own()[1]]
        there = [(block, row) for block, row in rows if row is not None and gone(block, row)]
        for block, _ in sorted(there, key=lambda item: item[1].meta):
            if dropped >= surplus:
                break
            if not self.may_evict(block):
                continue
            # decided again on the row as it is by then: audits and deletions go on meanwhile
            row = await trio.to_thread.run_sync(
                self._state.change_block, block, partial(gone, block)
            )
            if row is None:
                continue
            reach("evict")
            self.on_evicted(block)
            self._files.remove(block)
            dropped += row.length
        return dropped

    def _sealer(self, block: bytes) -> Sealer:
        sealer = self._sealers.get(block)
        if sealer is None:
            own = self._capability
            sealer = Sealer(own.content_key, own.vault_id, block, own.epoch)
            self._sealers[block] = sealer
            if len(self._sealers) > 256:
                self._sealers.popitem(last=False)
        return sealer

    # -- reading

    async def read_extent(self, place: Place, kind: Kind) -> bytes:
        """The plaintext at `place`. Raises Unavailable when too few suppliers can give it.

        Several readers of one extent fetch it once. Never anything but what the owner wrote there.
        """
        key = (place.block, place.ordinal)
        while True:
            plain = self._plain.get(key) or self._open_local(place, kind)
            if plain is not None:
                self._remember(key, plain)
                return plain
            under_way = self._fetching.get(key)
            if under_way is None:
                break
            await under_way.done.wait()
            if under_way.failure:  # those who waited are not to try one after the other
                raise Unavailable(under_way.failure)
        if self.fetcher is None:
            raise LocalError(f"block {place.block.hex()} is not on this machine")
        fetch = self._fetching[key] = _Fetch()
        try:
            sealed = await self.fetcher.fetch(place)
            self._files.store_fetched(place.block, place.offset, sealed, self._fetched_limit())
            plain = self._sealer(place.block).open_untrusted(
                sealed, place.hash, place.ordinal, kind
            )
        except Unavailable as error:
            fetch.failure = str(error)
            raise
        finally:
            del self._fetching[key]
            fetch.done.set()
        self._remember(key, plain)
        return plain

    async def read_sealed_local(self, place: Place) -> bytes | None:
        """The sealed bytes at `place` in this machine's own block file, unchecked; None without one."""
        return await trio.to_thread.run_sync(
            self._files.read, place.block, place.offset, place.length
        )

    def _open_local(self, place: Place, kind: Kind) -> bytes | None:
        """The plaintext from this machine's files, or None; what fails its hash is not here."""
        sealer = self._sealer(place.block)
        for read in (self._files.read, self._files.read_fetched):
            sealed = read(place.block, place.offset, place.length)
            if sealed is None:
                continue
            try:
                return sealer.open_untrusted(sealed, place.hash, place.ordinal, kind)
            except Forged:
                continue
        return None

    def _remember(self, key: tuple[bytes, int], plain: bytes) -> None:
        old = self._plain.pop(key, b"")
        self._plain[key] = plain
        self._plain_size += len(plain) - len(old)
        while self._plain_size > PLAIN_CACHE:
            self._plain_size -= len(self._plain.popitem(last=False)[1])
