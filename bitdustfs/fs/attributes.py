"""Items of inodes and of the whole vault, read and counted by transaction functions."""

import errno

from bitdustfs.core.items import (
    COUNTERS_KEY,
    Counters,
    Inode,
    decode_counters,
    decode_inode,
    encode_item,
    inode_key,
)
from bitdustfs.errors import FsError
from bitdustfs.tree.transaction import Transaction


def load_inode(tx: Transaction, inode: int) -> Inode:
    """The inode's attributes; ESTALE when it is gone."""
    value = tx.get(inode_key(inode))
    if value is None:
        raise FsError(errno.ESTALE)
    return decode_inode(value)


def load_counters(tx: Transaction) -> Counters:
    value = tx.get(COUNTERS_KEY)
    return Counters(1, 1, 0, 0) if value is None else decode_counters(value)


def add_live(tx: Transaction, change: int) -> None:
    """Counts bytes of file content that came or went."""
    if change:
        counters = load_counters(tx)
        counters.live = max(0, counters.live + change)
        tx.put(COUNTERS_KEY, encode_item(counters))
