"""How much of each block is in use, kept up to date with the tree while it changes.

`live` and `total` are plaintext bytes that items refer to: now, and ever. Blocks are indexed by
what is asked for (which nothing refers to, which are thin, which are small), and totals over all
data blocks are kept: no look takes longer because there are more blocks, but for the first one.
"""

from collections.abc import Iterator

import trio
from sortedcontainers import SortedSet

from bitdustfs.core.items import USE, BlockUse, decode_use, kind_range
from bitdustfs.tree.transaction import Transaction, page
from bitdustfs.tree.tree import Tree
from bitdustfs.units import MIB

PAGE = 1000  #: use items looked at in one transaction
SMALL_BLOCK = MIB  #: bytes ever referred to in a block that is small, at most


class Uses:
    """The use counts of one vault's blocks. Not known before the first `look`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._looking = trio.Lock()
        self._changed: set[bytes] = set()
        self.known = False
        self._begin()

    def _begin(self) -> None:
        self._uses: dict[bytes, BlockUse] = {}
        self._unused: set[bytes] = set()  # counted, and nothing is live any more
        self._thin: SortedSet = SortedSet()  # (live share, block) of those that have waste
        self._small: set[bytes] = set()
        self.total = 0  #: bytes ever referred to in the blocks that are in use
        self.live = 0  #: bytes of these that still are

    def get(self, block: bytes) -> BlockUse | None:
        """The counts of one block, None where nothing was ever counted."""
        return self._uses.get(block)

    @property
    def unused(self) -> frozenset[bytes]:
        """Blocks that were counted, and that nothing refers to any more."""
        return frozenset(self._unused)

    def small(self) -> Iterator[bytes]:
        """Blocks in use that are small."""
        return iter(self._small)

    def thin(self) -> Iterator[bytes]:
        """Blocks in use of which something is waste, those with most of it first."""
        return (block for _, block in self._thin)

    def take_changed(self) -> set[bytes]:
        """The blocks whose counts changed since the last call; those of the first look not."""
        changed, self._changed = self._changed, set()
        return changed

    async def look(self) -> None:
        """Brings the counts up to date with the tree. Raises Unavailable."""
        async with self._looking:
            if not self.known:
                await self._look_at_all()
            while self._tree.touched_uses:
                key = next(iter(self._tree.touched_uses))
                value = await self._tree.run(_get, key)
                self._tree.touched_uses.discard(key)  # a change after that touches it again
                self._set(key[-16:], None if value is None else decode_use(value))
                self._changed.add(key[-16:])

    async def _look_at_all(self) -> None:
        """Some at a time: others have their turns in between."""
        self._begin()
        self._tree.touched_uses.clear()
        low, high = kind_range(0, USE)
        while found := await self._tree.run(page, low, high, PAGE):
            for key, value in found:
                self._set(key[-16:], decode_use(value))
            low = found[-1][0] + b"\0"
            await trio.lowlevel.checkpoint()
        self.known = True  # only when it is whole

    def _set(self, block: bytes, use: BlockUse | None) -> None:
        """The only place that keeps the indexes."""
        old = self._uses.pop(block, None)
        if old is not None and old.live:
            self.total, self.live = self.total - old.total, self.live - old.live
            self._thin.discard((share(old), block))
            self._small.discard(block)
        self._unused.discard(block)
        if use is None:
            return
        self._uses[block] = use
        if not use.live:
            self._unused.add(block)
            return
        self.total, self.live = self.total + use.total, self.live + use.live
        if use.live < use.total:
            self._thin.add((share(use), block))
        if use.total < SMALL_BLOCK:
            self._small.add(block)


def share(use: BlockUse) -> float:
    """How much of a block is live."""
    return use.live / max(1, use.total)


def _get(tx: Transaction, key: bytes) -> bytes | None:
    return tx.get(key)
