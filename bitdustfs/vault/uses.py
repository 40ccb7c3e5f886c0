"""How much of each block is in use, kept up to date with the tree while it changes.

`live` and `total` are plaintext bytes that items refer to: now, and ever. Totals over all data
blocks are kept, so that "is there waste worth the work?" costs nothing in proportion to the number
of blocks.
"""

from bitdustfs.core.items import USE, BlockUse, decode_use, kind_range
from bitdustfs.tree.transaction import Transaction, page
from bitdustfs.tree.tree import Tree

PAGE = 1000  #: use items looked at in one transaction


class Uses:
    """The use counts of one vault's blocks. Not known before the first `look`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._uses: dict[bytes, BlockUse] = {}
        self.known = False
        self.total = 0  #: bytes ever referred to in the blocks that are in use
        self.live = 0  #: bytes of these that still are

    def get(self, block: bytes) -> BlockUse | None:
        """The counts of one block, None where nothing was ever counted."""
        return self._uses.get(block)

    def snapshot(self) -> dict[bytes, BlockUse]:
        """All counts, for work in a thread."""
        return dict(self._uses)

    async def look(self) -> None:
        """Brings the counts up to date with the tree. Raises Unavailable."""
        if not self.known:
            uses: dict[bytes, BlockUse] = {}
            self._tree.touched_uses.clear()
            low, high = kind_range(0, USE)
            while found := await self._tree.run(page, low, high, PAGE):
                uses.update((key[-16:], decode_use(value)) for key, value in found)
                low = found[-1][0] + b"\0"
            for block, use in uses.items():
                self._set(block, use)
            self.known = True  # only when it is whole
        while self._tree.touched_uses:
            key = next(iter(self._tree.touched_uses))
            value = await self._tree.run(_get, key)
            self._tree.touched_uses.discard(key)  # a change after that touches it again
            self._set(key[-16:], None if value is None else decode_use(value))

    def _set(self, block: bytes, use: BlockUse | None) -> None:
        old = self._uses.pop(block, None)
        if old is not None and old.live:
            self.total, self.live = self.total - old.total, self.live - old.live
        if use is not None:
            self._uses[block] = use
            if use.live:
                self.total, self.live = self.total + use.total, self.live + use.live


def _get(tx: Transaction, key: bytes) -> bytes | None:
    return tx.get(key)
