"""Compaction: what is live of thin blocks is copied into new ones, so that the old ones die.

Blocks are emptied, thinnest first, while more than STORED_MAX times the live bytes are stored; and
small leftovers are merged once there are many of them. A block that a snapshot may refer to stays
as it is: it would be kept beside the copies.
"""

import itertools
import logging
from collections.abc import Callable, Iterator

from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.writer import ExtentWriter, Plain
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import DEAD, OPEN
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import Unavailable
from bitdustfs.fs.extents import Mapped, move, references
from bitdustfs.fs.flush import Flusher
from bitdustfs.tree.tree import Tree
from bitdustfs.units import MIB
from bitdustfs.vault.directories import Directories
from bitdustfs.vault.uses import Uses

log = logging.getLogger(__name__)

STORED_MAX = 1.3  #: bytes stored per live byte above which blocks are emptied
SLACK = 4 * MIB  #: bytes of waste that are not worth the work
SMALL_MANY = 32  #: so many small blocks are merged
STEP_BLOCKS = 32  #: blocks emptied in one look
STEP_BYTES = 4 * MIB  #: bytes moved while writers wait


class Compactor:
    """Empties thin blocks of one vault."""

    def __init__(
        self,
        tree: Tree,
        uses: Uses,
        table: BlockTable,
        directories: Directories,
        reader: ExtentReader,
        writer: ExtentWriter,
        flusher: Flusher,
        held: Callable[[bytes], bool],
    ) -> None:
        self._tree, self._uses, self._table, self._held = tree, uses, table, held
        self._directories, self._reader = directories, reader
        self._writer, self._flusher = writer, flusher

    async def step(self) -> None:
        """Copies what is live of the thinnest blocks; they die by that."""
        for block in list(
            itertools.islice(thin_blocks(self._uses, self._table, self._held), STEP_BLOCKS)
        ):
            try:
                await self._empty(block)
            except Unavailable as error:  # the others can be emptied all the same
                log.info("block %s is emptied later: %s", block.hex(), error)

    async def _empty(self, block: bytes) -> None:
        _, entries = await self._directories.of(block)
        group: list[tuple[int, Mapped, bytes]] = []
        size = 0
        for entry in entries:
            if entry.kind != Kind.DATA:
                continue
            stop = entry.file_offset + entry.plain_length
            for item in await self._tree.run(
                references, entry.inode, entry.file_offset, stop, block
            ):
                assert item.place is not None
                if item.place.ordinal != entry.ordinal:
                    continue
                plain = await self._reader.read_extent(item.place, Kind.DATA)
                data = plain[item.skip : item.skip + item.length]
                group.append((entry.inode, item, data))
                size += len(data)
                if size >= STEP_BYTES:
                    await self._rewrite(group)
                    group, size = [], 0
        await self._rewrite(group)

    async def _rewrite(self, group: list[tuple[int, Mapped, bytes]]) -> None:
        if not group:
            return
        pieces = [Plain(Kind.DATA, data, inode, item.offset) for inode, item, data in group]
        async with self._flusher.lock:  # nobody must take the copies for dead
            places = await self._writer.append(False, pieces)
            for (inode, item, _), place in zip(group, places, strict=True):
                if await self._tree.tidy(move, inode, item, place):
                    self._tree.bump(inode)


def thin_blocks(uses: Uses, table: BlockTable, held: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Data blocks worth emptying, thinnest first; blocks without a row are another machine's.

    `held`: whether a snapshot may refer to a block; then it is left. Looks at what it yields, at
    what is held, and at blocks of metadata or that are open, which are few.
    """
    others = {block for block, _ in table.metadata()}.union(
        table.in_state(OPEN), table.in_state(DEAD)
    )
    small = list(
        itertools.islice((b for b in uses.small() if not (b in others or held(b))), SMALL_MANY)
    )
    if len(small) == SMALL_MANY:
        yield from small
    total, live = uses.total, uses.live
    for block in others:
        use = uses.get(block)
        if use is not None and use.live:
            total, live = total - use.total, live - use.live
    kept = {block for block in uses.thin() if block not in others and held(block)}
    for block in kept:  # their waste is a snapshot's, and must not have others emptied for it
        use = uses.get(block)
        total -= use.total - use.live if use is not None else 0
    for block in uses.thin():
        use = uses.get(block)
        if total <= STORED_MAX * live + SLACK or use is None:
            return
        if block not in others and block not in kept:
            total -= use.total - use.live
            yield block
