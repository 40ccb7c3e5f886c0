"""A whole file system that never heard of pyfuse3: names and attributes over the tree.

Every operation is one transaction function: read, check, collect; nothing awaits in between, so it
is atomic. Permissions are the kernel's business (default_permissions); what depends on who calls
comes as `Caller`. Times are (seconds, nanoseconds); sizes in bytes.
"""

import errno
import stat
from typing import NamedTuple

from bitdustfs.blocks.space import NAME_COST, Space
from bitdustfs.core.items import (
    COOKIE_FIRST,
    COUNTERS_KEY,
    ENTRY,
    ROOT_INODE,
    Counters,
    Entry,
    Inode,
    Time,
    decode_entry,
    encode_item,
    entry_key,
    inode_key,
    kind_range,
    tail_u64,
)
from bitdustfs.errors import FsError
from bitdustfs.fs.attributes import load_counters, load_inode
from bitdustfs.fs.content import Content
from bitdustfs.fs.lookups import Lookups
from bitdustfs.fs.names import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    Caller,
    Names,
    load_folder,
    now,
    touch,
)
from bitdustfs.fs.numbers import GROUP_MIN, first_counters, new_group, new_number
from bitdustfs.fs.purge import Purger
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree
from bitdustfs.units import SYMLINK_MAX

#: names of a file, at most; a folder with more links shows 1, as in ext4 (its dir_nlink): find(1)
#: and others take that for "not counted"
LINK_MAX = 65_000


class Seen(NamedTuple):
    """An inode and its attributes, with the true size.

    `stored`: bytes of its content that are not holes; a guess from above unless `settled`.
    """

    inode: int
    attributes: Inode
    stored: int
    settled: bool


class NamedEntry(NamedTuple):
    """One name of a folder. `cookie` continues the listing after it."""

    cookie: int
    name: bytes
    found: Seen


class Changes(NamedTuple):
    """What setattr is to change; None leaves as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime: Time | None = None
    mtime: Time | None = None
    ctime: Time | None = None


class Volume:
    """One vault as a file system: names and attributes. Content is `Content`'s."""

    def __init__(
        self,
        tree: Tree,
        content: Content,
        names: Names,
        space: Space,
        lookups: Lookups,
        purger: Purger,
    ) -> None:
        self.tree, self.names = tree, names
        self._content, self._space = content, space
        self._lookups, self._purger = lookups, purger

    def adopt(self, other: "Volume") -> None:
        """The kernel asked another volume until now: what it holds is held here."""
        self._lookups.adopt(other._lookups)

    async def make_root(self, caller: Caller) -> None:
        """The first folder of a new vault."""

        def make(tx: Transaction) -> None:
            time_ = now()
            root = Inode(
                1, stat.S_IFDIR | 0o755, caller.uid, caller.gid, 2, 0, 0, time_, time_, time_,
                parent=ROOT_INODE, group=GROUP_MIN, next_index=1,
            )  # fmt: skip
            tx.put(inode_key(ROOT_INODE), encode_item(root))
            tx.put(COUNTERS_KEY, encode_item(first_counters()))

        await self.tree.run(make)

    # -- looking

    def _found(self, inode: int, attributes: Inode) -> Seen:
        """What is shown of an inode; `attributes` is not to be written back after this."""
        stored, settled = self._content.stored(inode, attributes)
        attributes.size = self._content.size_of(inode, attributes)
        if attributes.nlink >= LINK_MAX and stat.S_ISDIR(attributes.mode):
            attributes.nlink = 1
        return Seen(inode, attributes, stored, settled)

    async def getattr(self, inode: int) -> Seen:
        return self._found(inode, await self.tree.run(load_inode, inode))

    async def lookup(self, folder: int, name: bytes) -> Seen | None:
        """The inode behind a name, or None. Counts as a look-up the kernel must forget."""

        def find(tx: Transaction) -> Seen | None:
            if name == b"..":
                target = load_folder(tx, folder).parent
            elif name == b".":
                target = folder
            else:
                entry = self.names.entry(tx, folder, name)[1]
                if entry is None:
                    return None
                target = entry.inode
            return self._found(target, load_inode(tx, target))

        found = await self.tree.run(find)
        if found is not None:
            self.hold(found, folder, name)
        return found

    async def readdir(self, folder: int, after: int, limit: int) -> list[NamedEntry]:
        """Up to `limit` names after cookie `after` (0 to begin), "." and ".." first.

        Stable while the folder changes: a cookie is a hash of the name.
        """

        def scan(tx: Transaction) -> list[NamedEntry]:
            attributes = load_folder(tx, folder)
            names: list[NamedEntry] = []
            if after < 1:
                names.append(NamedEntry(1, b".", self._found(folder, attributes)))
            if after < 2:
                parent = attributes.parent
                names.append(NamedEntry(2, b"..", self._found(parent, load_inode(tx, parent))))
            low = entry_key(folder, max(after + 1, COOKIE_FIRST))
            for key, value in tx.scan(low, kind_range(folder, ENTRY)[1]):
                if len(names) >= limit:
                    break
                entry = decode_entry(value)
                found = self._found(entry.inode, load_inode(tx, entry.inode))
                names.append(NamedEntry(tail_u64(key), entry.name, found))
            return names

        return await self.tree.run(scan)

    async def readlink(self, inode: int) -> bytes:
        attributes = await self.tree.run(load_inode, inode)
        if not stat.S_ISLNK(attributes.mode):
            raise FsError(errno.EINVAL)
        return attributes.inline or b""

    # -- making

    async def create(
        self,
        folder: int,
        name: bytes,
        mode: int,
        caller: Caller,
        *,
        rdev: int = 0,
        target: bytes | None = None,
    ) -> Seen:
        """A new inode of the type in `mode` (file, folder, symlink with `target`, fifo, device)."""
        if target is not None and not 0 < len(target) <= SYMLINK_MAX:
            raise FsError(errno.ENAMETOOLONG)
        await self._space.admit_metadata(NAME_COST + len(name) + len(target or b""))

        def make(tx: Transaction) -> Seen:
            parent = load_folder(tx, folder)
            if parent.nlink == 0:
                raise FsError(errno.ENOENT)
            cookie, entry = self.names.entry(tx, folder, name)
            if entry is not None:
                raise FsError(errno.EEXIST)
            counters = load_counters(tx)
            inode = new_number(parent, counters)
            time_ = now()
            gid, bits = caller.gid, mode & ~caller.umask if target is None else mode
            is_folder = stat.S_ISDIR(mode)
            if parent.mode & stat.S_ISGID:
                gid = parent.gid
                if is_folder:
                    bits |= stat.S_ISGID
            made = Inode(
                1, bits, caller.uid, gid, 2 if is_folder else 1, 0, rdev, time_, time_, time_
            )
            if is_folder:
                made.parent, made.group, made.next_index = folder, new_group(counters), 1
                parent.nlink += 1
            elif target is not None:
                made.inline, made.size = target, len(target)
            elif stat.S_ISREG(mode):
                made.inline = b""
            counters.inodes += 1
            touch(parent, time_)
            tx.put(inode_key(folder), encode_item(parent))
            tx.put(COUNTERS_KEY, encode_item(counters))
            tx.put(inode_key(inode), encode_item(made))
            tx.put(entry_key(folder, cookie), encode_item(Entry(1, name, inode, stat.S_IFMT(mode))))
            return self._found(inode, made)

        found = await self.tree.run(make)
        self.hold(found, folder, name)
        return found

    async def link(self, inode: int, folder: int, name: bytes) -> Seen:
        """Another name for an inode that is not a folder."""
        await self._space.admit_metadata(NAME_COST + len(name))

        def make(tx: Transaction) -> Seen:
            parent, attributes = load_folder(tx, folder), load_inode(tx, inode)
            cookie, entry = self.names.entry(tx, folder, name)
            if entry is not None:
                raise FsError(errno.EEXIST)
            if stat.S_ISDIR(attributes.mode):
                raise FsError(errno.EPERM)
            if attributes.nlink == 0 or parent.nlink == 0:
                raise FsError(errno.ENOENT)
            if attributes.nlink >= LINK_MAX:
                raise FsError(errno.EMLINK)
            attributes.nlink += 1
            attributes.ctime = now()
            touch(parent, attributes.ctime)
            tx.put(inode_key(inode), encode_item(attributes))
            tx.put(inode_key(folder), encode_item(parent))
            kind = stat.S_IFMT(attributes.mode)
            tx.put(entry_key(folder, cookie), encode_item(Entry(1, name, inode, kind)))
            return self._found(inode, attributes)

        found = await self.tree.run(make)
        self.hold(found, folder, name)
        return found

    # -- removing

    async def unlink(self, folder: int, name: bytes) -> None:
        await self._remove(folder, name, is_folder=False)

    async def rmdir(self, folder: int, name: bytes) -> None:
        await self._remove(folder, name, is_folder=True)

    async def _remove(self, folder: int, name: bytes, is_folder: bool) -> None:
        inode = await self.tree.run(self.names.remove, folder, name, is_folder)
        await self._purger.purge_if_free(inode)

    async def rename(
        self,
        old_folder: int,
        old_name: bytes,
        new_folder: int,
        new_name: bytes,
        flags: int,
        caller: Caller,
    ) -> None:
        """renameat2(2)."""
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
            raise FsError(errno.EINVAL)
        if flags & RENAME_WHITEOUT:
            await self._space.admit_metadata(NAME_COST + len(old_name))
        renamed = await self.tree.run(
            self.names.rename, old_folder, old_name, new_folder, new_name, flags, caller
        )
        if renamed is None:
            return
        self._lookups.moved(renamed.moved, new_folder, new_name)
        if renamed.exchanged:
            self._lookups.moved(renamed.exchanged, old_folder, old_name)
        if renamed.victim:
            await self._purger.purge_if_free(renamed.victim)

    # -- attributes

    async def setattr(self, inode: int, changes: Changes) -> Seen:
        """Changes attributes other than the size (see Content.truncate)."""

        def change(tx: Transaction) -> Seen:
            attributes = load_inode(tx, inode)
            if changes.mode is not None:
                attributes.mode = stat.S_IFMT(attributes.mode) | stat.S_IMODE(changes.mode)
            if changes.uid is not None or changes.gid is not None:
                attributes.uid = attributes.uid if changes.uid is None else changes.uid
                attributes.gid = attributes.gid if changes.gid is None else changes.gid
                if changes.mode is None and stat.S_ISREG(attributes.mode):
                    attributes.mode = clear_set_id(attributes.mode)
            if changes.atime is not None:
                attributes.atime = changes.atime
            if changes.mtime is not None:
                attributes.mtime = changes.mtime
            attributes.ctime = now() if changes.ctime is None else changes.ctime
            tx.put(inode_key(inode), encode_item(attributes))
            return self._found(inode, attributes)

        return await self.tree.run(change)

    # -- life of inodes

    def hold(self, found: Seen, folder: int, name: bytes) -> None:
        """The kernel learned of the inode once more, by this name."""
        self._lookups.hold(found.inode, stat.S_ISDIR(found.attributes.mode), folder, name)

    async def forget(self, inode: int, count: int) -> None:
        """The kernel forgot `count` look-ups; an orphan nobody knows any more is purged."""
        if self._lookups.forget(inode, count):
            self.tree.forget(inode)
            await self._purger.purge_if_free(inode)

    async def totals(self) -> Counters:
        """Counts of the whole vault."""
        return await self.tree.run(load_counters)


def clear_set_id(mode: int) -> int:
    """The mode after chown or a write by somebody else (POSIX chown, write)."""
    mode &= ~stat.S_ISUID
    return mode & ~stat.S_ISGID if mode & stat.S_IXGRP else mode
