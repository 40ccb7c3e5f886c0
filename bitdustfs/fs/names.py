"""Names in folders: finding, taking away, renaming; plain functions on a transaction.

A name's entry lies at a cookie made from its keyed hash, so that readdir can go on after it.
"""

import errno
import stat
import time
from typing import NamedTuple

from bitdustfs.core.items import (
    COUNTERS_KEY,
    ENTRY,
    ROOT_INODE,
    SLOTS,
    Entry,
    Inode,
    Orphan,
    Time,
    decode_entry,
    encode_item,
    entry_key,
    inode_key,
    kind_range,
    name_cookie,
    orphan_key,
    tail_u64,
)
from bitdustfs.errors import FsError
from bitdustfs.fs.attributes import load_counters, load_inode
from bitdustfs.fs.numbers import new_number
from bitdustfs.tree.transaction import Transaction
from bitdustfs.units import NAME_MAX

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4  # linux/fs.h


def now() -> Time:
    """The current time as items keep it."""
    return split_time(time.time_ns())


def split_time(nanoseconds: int) -> Time:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return (seconds, rest)


class Caller(NamedTuple):
    """Who asks: for ownership of what is created, and for clearing set-id bits."""

    uid: int
    gid: int
    umask: int = 0


class Renamed(NamedTuple):
    """Inodes of a rename: what moved, what took its place (0: nothing), what lost its name (0)."""

    moved: int
    exchanged: int
    victim: int


class Names:
    """The entries of all folders. `name_key` hashes names into cookies."""

    def __init__(self, name_key: bytes) -> None:
        self._name_key = name_key

    def entry(self, tx: Transaction, folder: int, name: bytes) -> tuple[int, Entry | None]:
        """(cookie, entry) of a name; without one, (the free cookie it would get, None)."""
        if len(name) > NAME_MAX:
            raise FsError(errno.ENAMETOOLONG)
        first = name_cookie(self._name_key, name)
        free = -1
        taken = set()
        low, high = entry_key(folder, first), entry_key(folder, first + SLOTS)
        for key, value in tx.scan(low, high):
            entry = decode_entry(value)
            taken.add(tail_u64(key))
            if entry.name == name:
                return tail_u64(key), entry
        free = next((c for c in range(first, first + SLOTS) if c not in taken), -1)
        if free < 0:
            raise FsError(errno.ENOSPC)  # 256 names of one 55-bit keyed hash
        return free, None

    def remove(self, tx: Transaction, folder: int, name: bytes, is_folder: bool) -> int:
        """Takes a name away (unlink, rmdir); the inode it named."""
        parent = load_folder(tx, folder)
        cookie, entry = self.entry(tx, folder, name)
        if entry is None:
            raise FsError(errno.ENOENT)
        attributes = load_inode(tx, entry.inode)
        if is_folder and not stat.S_ISDIR(attributes.mode):
            raise FsError(errno.ENOTDIR)
        if not is_folder and stat.S_ISDIR(attributes.mode):
            raise FsError(errno.EISDIR)
        time_ = now()
        drop_name(tx, entry.inode, attributes, parent, time_)
        touch(parent, time_)
        tx.delete(entry_key(folder, cookie))
        tx.put(inode_key(folder), encode_item(parent))
        return entry.inode

    def rename(
        self,
        tx: Transaction,
        old_folder: int,
        old_name: bytes,
        new_folder: int,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> Renamed | None:
        """renameat2(2) with any of its flags; None when nothing is to be done."""
        parents = {f: load_folder(tx, f) for f in (old_folder, new_folder)}
        old_cookie, old = self.entry(tx, old_folder, old_name)
        new_cookie, new = self.entry(tx, new_folder, new_name)
        if old is None or (new is None and flags & RENAME_EXCHANGE):
            raise FsError(errno.ENOENT)
        if new is not None and flags & RENAME_NOREPLACE:
            raise FsError(errno.EEXIST)
        if parents[new_folder].nlink == 0:
            raise FsError(errno.ENOENT)
        if new is not None and new.inode == old.inode:
            return None
        time_ = now()
        moved = load_inode(tx, old.inode)
        _check_loop(tx, old.inode, moved, new_folder)
        victim = exchanged = 0
        if new is not None:
            replaced = load_inode(tx, new.inode)
            if flags & RENAME_EXCHANGE:
                _check_loop(tx, new.inode, replaced, old_folder)
                _move(tx, new.inode, replaced, parents, new_folder, old_folder, time_)
                exchanged = new.inode
            else:
                _check_kinds(moved, replaced)
                drop_name(tx, new.inode, replaced, parents[new_folder], time_)
                victim = new.inode
        _move(tx, old.inode, moved, parents, old_folder, new_folder, time_)
        entry = Entry(1, new_name, old.inode, old.mode)
        tx.put(entry_key(new_folder, new_cookie), encode_item(entry))
        if new is not None and flags & RENAME_EXCHANGE:
            entry = Entry(1, old_name, new.inode, new.mode)
            tx.put(entry_key(old_folder, old_cookie), encode_item(entry))
        elif flags & RENAME_WHITEOUT:
            inode = _make_whiteout(tx, parents[old_folder], caller, time_)
            entry = Entry(1, old_name, inode, stat.S_IFCHR)
            tx.put(entry_key(old_folder, old_cookie), encode_item(entry))
        else:
            tx.delete(entry_key(old_folder, old_cookie))
        for folder, parent in parents.items():
            touch(parent, time_)
            tx.put(inode_key(folder), encode_item(parent))
        return Renamed(old.inode, exchanged, victim)


def _check_loop(tx: Transaction, inode: int, moved: Inode, target: int) -> None:
    """EINVAL when a folder would come to lie in itself."""
    if not stat.S_ISDIR(moved.mode):
        return
    while True:
        if target == inode:
            raise FsError(errno.EINVAL)
        if target == ROOT_INODE:
            return
        target = load_folder(tx, target).parent


def _move(
    tx: Transaction,
    inode: int,
    attributes: Inode,
    parents: dict[int, Inode],
    source: int,
    target: int,
    time_: Time,
) -> None:
    attributes.ctime = time_
    if stat.S_ISDIR(attributes.mode) and source != target:
        attributes.parent = target
        parents[source].nlink -= 1
        parents[target].nlink += 1
    tx.put(inode_key(inode), encode_item(attributes))


def _make_whiteout(tx: Transaction, parent: Inode, caller: Caller, time_: Time) -> int:
    """What overlayfs takes for "nothing is here": character device 0:0. The caller keeps `parent`.

    The kernel has not looked it up yet.
    """
    counters = load_counters(tx)
    inode = new_number(parent, counters)
    gid = parent.gid if parent.mode & stat.S_ISGID else caller.gid
    made = Inode(1, stat.S_IFCHR, caller.uid, gid, 1, 0, 0, time_, time_, time_)
    counters.inodes += 1
    tx.put(COUNTERS_KEY, encode_item(counters))
    tx.put(inode_key(inode), encode_item(made))
    return inode


def drop_name(tx: Transaction, inode: int, attributes: Inode, parent: Inode, time_: Time) -> None:
    """Takes one name away from an inode; without any it becomes an orphan."""
    if stat.S_ISDIR(attributes.mode):
        if next(tx.scan(*kind_range(inode, ENTRY)), None) is not None:
            raise FsError(errno.ENOTEMPTY)
        attributes.nlink = 0
        parent.nlink -= 1
    else:
        attributes.nlink -= 1
    attributes.ctime = time_
    tx.put(inode_key(inode), encode_item(attributes))
    if attributes.nlink == 0:
        tx.put(orphan_key(inode), encode_item(Orphan(1)))


def _check_kinds(moved: Inode, replaced: Inode) -> None:
    if stat.S_ISDIR(replaced.mode) and not stat.S_ISDIR(moved.mode):
        raise FsError(errno.EISDIR)
    if stat.S_ISDIR(moved.mode) and not stat.S_ISDIR(replaced.mode):
        raise FsError(errno.ENOTDIR)


def load_folder(tx: Transaction, inode: int) -> Inode:
    """The folder's attributes; ENOTDIR when it is something else."""
    attributes = load_inode(tx, inode)
    if not stat.S_ISDIR(attributes.mode):
        raise FsError(errno.ENOTDIR)
    return attributes


def touch(folder: Inode, time_: Time) -> None:
    """A folder's content changed."""
    folder.mtime = folder.ctime = time_
