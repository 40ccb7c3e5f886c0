"""How much of each block is still in use.

Items of the tree itself, changed by the same transactions.

`live` and `total` are plaintext bytes, so `live == 0` says that no item refers to the block any
more and `live / total` how thin it is. In metadata blocks, large xattrs count as one each; their
leaves and journals are found by walking the index.
"""

from bitdustfs.core.items import BlockUse, decode_use, encode_item, use_key
from bitdustfs.tree.transaction import Transaction


class UseCounts:
    """What one transaction changes of it, collected: each block's item is written once, at last."""

    def __init__(self) -> None:
        self._changes: dict[bytes, tuple[int, int]] = {}  # block -> change of live, of total

    def count(self, block: bytes, live: int, total: int = 0) -> None:
        """`live` more (or, negative, fewer) bytes of a block are in use, of `total` new ones."""
        before = self._changes.get(block, (0, 0))
        self._changes[block] = before[0] + live, before[1] + total

    def write(self, tx: Transaction) -> None:
        """Writes what was counted."""
        for block, (live, total) in self._changes.items():
            key = use_key(block)
            value = tx.get(key)
            use = BlockUse(1, 0, 0) if value is None else decode_use(value)
            use.live = max(0, use.live + live)
            use.total += total
            tx.put(key, encode_item(use))


def count(tx: Transaction, block: bytes, live: int, total: int = 0) -> None:
    """As `UseCounts.count`, written at once."""
    uses = UseCounts()
    uses.count(block, live, total)
    uses.write(tx)
