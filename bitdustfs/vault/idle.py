"""Which blocks nothing seems to refer to: the ones that may be given back.

They come from three sides: counted blocks of which nothing is live any more, blocks with a row and
without a count, and blocks that suppliers list although nothing of them is known here (left by a
machine that died before it published). All blocks are gone through once for each census, in a
thread; else only those that changed since the last look.
"""

from collections.abc import Set

import trio

from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.rebuild.census import Census
from bitdustfs.vault.uses import Uses


class Idle:
    """Blocks without a live use. Not all of them are dead: what a root needs is not known here."""

    def __init__(self, uses: Uses, table: BlockTable) -> None:
        self._uses, self._table = uses, table
        self._uncounted: set[bytes] = set()  # those, and perhaps some that were counted since
        self._census: Census | None = None  # whose blocks were gone through
        self._looking = trio.Lock()

    async def look(self, census: Census) -> None:
        """Learns what changed since the last look. Raises Unavailable."""
        async with self._looking:
            await self._uses.look()
            changed = self._uses.take_changed() | self._table.take_touched()
            self._uncounted = await trio.to_thread.run_sync(self._without_count, changed, census)
            self._census = census

    def _without_count(self, changed: Set[bytes], census: Census) -> set[bytes]:
        """In a thread: those of the last look, and of what came since, that still have none."""
        listed = census.blocks()
        found = self._uncounted | changed
        if census is not self._census:
            found |= listed
        return {
            block for block in found
            if self._uses.get(block) is None
            and (block in listed or self._table.get(block) is not None)
        }  # fmt: skip

    def blocks(self) -> list[bytes]:
        """As of the last look."""
        return [*self._uses.unused, *self._uncounted]
