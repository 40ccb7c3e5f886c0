"""How much of each block is still in use.

Items of the tree itself, changed by the same transactions.

`live` and `total` are plaintext bytes, so `live == 0` says that no item refers to the block any
more and `live / total` how thin it is. In metadata blocks, large xattrs count as one each; their
leaves and journals are found by walking the index.
"""

from bitdustfs.core.items import BlockUse, decode_use, encode_item, use_key
from bitdustfs.tree.transaction import Transaction


def count(tx: Transaction, block: bytes, live: int, total: int = 0) -> None:
    """Notes that `live` more (or, negative, fewer) bytes of a block are in use, of `total` new
    ones.
    """
    key = use_key(block)
    value = tx.get(key)
    use = BlockUse(1, 0, 0) if value is None else decode_use(value)
    use.live = max(0, use.live + live)
    use.total += total
    tx.put(key, encode_item(use))
