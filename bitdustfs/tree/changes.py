"""Whether programs changed anything between two trees, the newer one being written.

Whatever a program changes, it changes a time in some inode item; of what it writes, the kernel says
the time later. Housekeeping moves extents and
counts, and rewrites leaves; the inodes stay as they were. So only inode items are compared, of the
leaves that the trees do not share, and of what is in no leaf yet.
"""

from collections.abc import Iterable

from bitdustfs.core.items import INODE, key_kind
from bitdustfs.core.leaves import Leaf
from bitdustfs.core.sealing import Kind
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree

STEP = 256  #: items compared in one transaction

Items = Iterable[tuple[bytes, bytes | None]]


async def changed_since(then: Tree, now: Tree) -> bool:
    """Whether an inode is in `now` that `then` does not have, or has otherwise.

    Raises Unavailable.
    """
    for layer in now.layers():
        if await _differs(then, layer.items()):
            return True
    known = {place.hash for place in await then.nodes()}
    if now.base is None or now.base.hash in known:
        return False
    for branch in (await now.load_index(now.base)).refs:
        if branch.place.hash in known:
            continue
        for ref in (await now.load_index(branch.place)).refs:
            if ref.place.hash in known:
                continue
            leaf = await now.load(ref.place, Kind.LEAF)
            assert isinstance(leaf, Leaf)
            if await _differs(then, zip(leaf.keys, leaf.values, strict=True)):
                return True
    return False


async def _differs(then: Tree, items: Items) -> bool:
    """`items` are gone through at once: what they are of may change meanwhile."""
    inodes = [(key, value) for key, value in items if value and key_kind(key) == INODE]
    for at in range(0, len(inodes), STEP):
        if await then.run(_otherwise, inodes[at : at + STEP]):
            return True
    return False


def _otherwise(tx: Transaction, items: list[tuple[bytes, bytes]]) -> bool:
    return any(tx.get(key) != value for key, value in items)
