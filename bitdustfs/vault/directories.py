"""Blocks' directories, of this machine's blocks and of others'."""

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.block import ExtentEntry, decode_directory_untrusted
from bitdustfs.core.sealing import Kind


class Directories:
    """What blocks say of what is in them."""

    def __init__(self, table: BlockTable, reader: ExtentReader, fetcher: Fetcher) -> None:
        self._table, self._reader, self._fetcher = table, reader, fetcher

    async def of(self, block: bytes) -> tuple[BlockRow, tuple[ExtentEntry, ...]]:
        """The row (made up from the signed header for another machine's block) and the entries.

        Raises Unavailable or Malformed.
        """
        row = self._table.get(block)
        if row is None or row.directory is None:
            header = await self._fetcher.header(block)
            meta = header.k != self._fetcher.circle.family.group.k
            row = BlockRow(
                CLOSED, meta, header.group, header.k, header.n, header.length, header.directory,
                local=False,
            )  # fmt: skip
        assert row.directory is not None
        plain = await self._reader.read_extent(row.directory, Kind.DIRECTORY)
        return row, decode_directory_untrusted(plain).extents
