"""Inodes without a name: finding them, and dropping all that they have in bounded steps.

Plain functions on a transaction.
"""

import stat
from collections.abc import Iterator

from bitdustfs.core.items import (
    COUNTERS_KEY,
    XATTR,
    decode_inode,
    decode_xattr,
    encode_item,
    inode_key,
    kind_range,
    object_range,
    orphan_key,
)
from bitdustfs.fs.attributes import load_counters
from bitdustfs.tree.transaction import Transaction, page
from bitdustfs.tree.usage import count

PURGE_STEP = 2000  #: items that one step of purging an orphan drops at most


def orphans_of(tx: Transaction) -> Iterator[bytes]:
    low, high = orphan_key(0), orphan_key((1 << 64) - 1)
    return (key for key, _ in tx.scan(low, high))


def is_orphan(tx: Transaction, inode: int) -> bool:
    return tx.get(orphan_key(inode)) is not None


def is_regular(tx: Transaction, inode: int) -> bool:
    value = tx.get(inode_key(inode))
    return value is not None and stat.S_ISREG(decode_inode(value).mode)


def release_xattr(tx: Transaction, value: bytes | None) -> None:
    """An xattr item goes or is replaced: what it kept in extents is not in use any more."""
    if value is not None:
        for place in decode_xattr(value).extents:
            count(tx, place.block, -1)


def purge_step(tx: Transaction, inode: int) -> bool:
    """Drops up to PURGE_STEP items of an orphan; True when none is left."""
    xattrs = kind_range(inode, XATTR)
    items = page(tx, *object_range(inode), PURGE_STEP)
    for key, value in items:
        if xattrs[0] <= key < xattrs[1]:
            release_xattr(tx, value)
        tx.delete(key)
    if len(items) == PURGE_STEP:
        return False
    if tx.get(orphan_key(inode)) is not None:
        tx.delete(orphan_key(inode))
        counters = load_counters(tx)
        counters.inodes -= 1
        tx.put(COUNTERS_KEY, encode_item(counters))
    return True
