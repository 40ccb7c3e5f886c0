"""Room on this machine's disk: what the cache may hold, and which local copies go.

Only copies of closed blocks go, whose roots were accepted, and that so many suppliers acknowledged
and list that one of them may be lost: nothing dirty and nothing thin is ever evicted (promises 3,
4). What reserves keep for others does not count here. Data goes first, least recently used first.
What is pinned stays.
"""

from collections.abc import Callable, Collection
from functools import partial

import msgspec
import trio

from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.diskroom import DiskRoom
from bitdustfs.cache.pinnedfiles import PinnedFiles
from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.placement import acknowledgements_wanted
from bitdustfs.failpoints import reach
from bitdustfs.units import GIB

CACHE_LIMIT = 10 * GIB  #: bytes kept on this disk, unless the mount says otherwise
FETCHED_SHARE = 4  #: fetched extents may always have this part of them


class CacheRoom:
    """How much of `limit` bytes, and of the `disk`, own blocks, what is pinned and fetched extents
    may take.
    """

    def __init__(self, files: BlockFiles, pinned: PinnedFiles, limit: int, disk: DiskRoom) -> None:
        self._files, self._pinned = files, pinned
        self._limit, self.disk = limit, disk

    @property
    def for_pins(self) -> int:
        """Bytes that what is pinned may take: the rest is for what is read and written."""
        return self._limit - self._limit // FETCHED_SHARE

    def resize(self, limit: int) -> None:
        """So many bytes from here on; the next round of eviction drops what is too much."""
        self._limit = limit

    def fetched_limit(self) -> int:
        """Bytes that fetched extents may take: what own blocks leave, never less than a share.

        Less where the disk is nearly full: what was fetched goes before anything else.
        """
        others = self._files.own_total + self._pinned.total
        usual = max(self._limit // FETCHED_SHARE, self._limit - others)
        lacking = self.disk.lacking()
        return max(0, min(usual, self._files.fetched_total - lacking)) if lacking else usual

    def surplus(self) -> int:
        """Bytes of own blocks beyond what the cache may hold, or the disk has room for."""
        fetched = min(self._files.fetched_total, self._limit // FETCHED_SHARE)
        kept = self._files.own_total + self._pinned.total
        return max(0, kept + fetched - self._limit, self.disk.lacking())


class Eviction:
    """Drops local copies. `is_busy` tells of blocks whose file is being read for uploading,
    `is_spared` of those that something pinned is in, or may be in.
    """

    def __init__(
        self,
        room: CacheRoom,
        files: BlockFiles,
        table: BlockTable,
        is_busy: Callable[[bytes], bool],
        is_spared: Callable[[bytes], bool],
    ) -> None:
        self._room, self._files, self._table = room, files, table
        self._is_busy, self._is_spared = is_busy, is_spared

    async def evict(self, holders: Callable[[bytes], Collection[int]], seq: int) -> int:
        """Drops copies until all fits; bytes dropped. Raises LocalError.

        `holders`: the positions that list a block. `seq`: of the root accepted last; blocks born
        for it are kept.
        """
        await trio.to_thread.run_sync(self._files.trim_fetched, self._room.fetched_limit())
        surplus, dropped = self._room.surplus(), 0
        rows = [(block, self._table.get(block)) for block in self._files.own()]
        there = [
            (block, row) for block, row in rows
            if row is not None and _without_copy(block, holders, seq, row)
        ]  # fmt: skip
        for block, _ in sorted(there, key=lambda item: item[1].meta):
            if dropped >= surplus:
                break
            if self._is_busy(block) or self._is_spared(block):
                continue
            # decided again on the row as it is by then: audits and deletions go on meanwhile
            change = partial(_without_copy, block, holders, seq)
            row = await trio.to_thread.run_sync(self._table.change, block, change)
            if row is None:
                continue
            reach("evict")
            self._files.remove(block)
            reach("evicted")
            dropped += row.length
        return dropped


def _without_copy(
    block: bytes, holders: Callable[[bytes], Collection[int]], seq: int, row: BlockRow
) -> BlockRow | None:
    """The row once the local copy is gone; None where it must stay."""
    safe = len({*row.acked} & {*holders(block)}) >= acknowledgements_wanted(row.k, row.n)
    evictable = safe and row.local and row.state == CLOSED and born_for(block) < seq
    return msgspec.structs.replace(row, local=False) if evictable else None


def born_for(block: bytes) -> int:
    """The seq of the root that a block was begun for: the first half of its id."""
    return int.from_bytes(block[:8], "big")
