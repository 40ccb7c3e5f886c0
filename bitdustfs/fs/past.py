"""The past of a vault: its snapshots as folders below `.snapshots` in the root folder, read-only.

    inode of an inode of snapshot N = 1 << 62 | N << 42 | its number then
    inode of `.snapshots` itself    = 1 << 62

So the same file has another number in each snapshot, numbers never meet those of the live tree
(numbers.py), and nothing has to be remembered of what the kernel knows. What a snapshot shows never
changes. One that is deleted while programs look into it is gone at once: ESTALE.
"""

import errno
import stat
from bisect import bisect_right
from collections import OrderedDict
from typing import NamedTuple

from bitdustfs.blocks.readahead import ReadAhead
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.space import Space
from bitdustfs.core.items import ROOT_INODE, Inode
from bitdustfs.core.leaves import Index, Leaf
from bitdustfs.errors import FsError
from bitdustfs.fs.attributes import load_inode
from bitdustfs.fs.content import Content
from bitdustfs.fs.lookups import Lookups
from bitdustfs.fs.names import Names
from bitdustfs.fs.purge import Purger
from bitdustfs.fs.volume import NamedEntry, Seen, Volume
from bitdustfs.fs.window import Windows
from bitdustfs.fs.xattrs import Xattrs
from bitdustfs.tree.catalogue import Catalogue, KeptSnapshot
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree

PAST_NAME = b".snapshots"
PAST = 1 << 62  #: numbers from here on are of the past; the folder of all snapshots
INODE_BITS = 42
INODE_MAX = (1 << INODE_BITS) - 1
VIEWS_KEPT = 32  #: snapshots that are open at once
FIRST_COOKIE = 3  #: 1 and 2 are "." and ".."


def is_past(inode: int) -> bool:
    """Whether the number is of `.snapshots`, or of something in a snapshot."""
    return inode >= PAST


def is_fleeting(inode: int) -> bool:
    """Whether the name that leads there may come and go: of a snapshot, and of them all."""
    return is_past(inode) and inode & INODE_MAX in (0, ROOT_INODE)


class NoLookups(Lookups):
    """Nothing is remembered of what the kernel knows."""

    def hold(self, inode: int, is_folder: bool, folder: int, name: bytes) -> None:
        """As well forgotten."""


class PastView(NamedTuple):
    """One snapshot, open."""

    volume: Volume
    content: Content
    xattrs: Xattrs


class Past:
    """All snapshots of one vault, with the calls of Volume, Content and Xattrs that only look."""

    def __init__(
        self,
        tree: Tree,
        catalogue: Catalogue,
        reader: ExtentReader,
        ahead: ReadAhead,
        names: Names,
        space: Space,
    ) -> None:
        self._tree, self._catalogue = tree, catalogue
        self._reader, self._ahead, self._names, self._space = reader, ahead, names, space
        self._nodes: OrderedDict[bytes, Leaf | Index] = OrderedDict()
        self._views: OrderedDict[int, PastView] = OrderedDict()
        self._numbers: dict[int, KeptSnapshot] = {}
        self._version = -1

    # -- which snapshot

    async def _kept(self, number: int) -> KeptSnapshot:
        """Raises ESTALE for one that is not kept any more."""
        version = self._catalogue.version
        if version != self._version:
            self._numbers = {k.item.number: k for k in await self._catalogue.kept()}
            self._version = version
        if number not in self._numbers:
            raise FsError(errno.ESTALE)
        return self._numbers[number]

    async def _open(self, inode: int) -> tuple[int, PastView, int]:
        """Number of the snapshot that an inode is of, what it shows, and its number there."""
        number, then = (inode & ~PAST) >> INODE_BITS, inode & INODE_MAX
        kept = await self._kept(number)
        if number not in self._views:
            self._views[number] = self.view(kept)
            if len(self._views) > VIEWS_KEPT:
                self._views.popitem(last=False)
        self._views.move_to_end(number)
        return number, self._views[number], then

    def forget_views(self) -> None:
        """Snapshots of another history may have the numbers of these."""
        self._views.clear()

    def view(self, kept: KeptSnapshot) -> PastView:
        """What the vault showed when the snapshot was made, by the numbers of then."""
        return self.view_of(Tree(self._reader, kept.item.index, nodes=self._nodes))

    def view_of(self, tree: Tree) -> PastView:
        """What a tree shows that does not change any more."""
        windows = Windows()
        lookups = NoLookups(tree, windows)
        content = Content(tree, self._reader, self._ahead, windows)
        purger = Purger(tree, content, lookups)
        volume = Volume(tree, content, self._names, self._space, lookups, purger)
        return PastView(volume, content, Xattrs(tree, self._reader, {}))

    async def is_hidden(self) -> bool:
        """Whether something of the name `.snapshots` that the owner made is in its place."""

        def named(tx: Transaction) -> bool:
            return self._names.entry(tx, ROOT_INODE, PAST_NAME)[1] is not None

        return await self._tree.run(named)

    # -- the folder of all

    async def all(self) -> Seen:
        """`.snapshots` itself: it belongs to whom the root folder belongs to."""
        root = await self._tree.run(load_inode, ROOT_INODE)
        kept = await self._catalogue.kept()
        time = kept[-1].item.time if kept else root.ctime
        mode = stat.S_IFDIR | 0o555
        attributes = Inode(1, mode, root.uid, root.gid, 2 + len(kept), 0, 0, time, time, time)
        return Seen(PAST, attributes, 0, True)

    async def _list(self, after: int, limit: int) -> list[NamedEntry]:
        found = await self.all()
        names = [
            NamedEntry(1, b".", found),
            NamedEntry(2, b"..", found._replace(inode=ROOT_INODE)),
        ][min(after, 2) :]
        all_kept = await self._catalogue.kept()
        begin = bisect_right(all_kept, after, key=_cookie)
        for kept in all_kept[begin : begin + limit - len(names)]:
            # not its own attributes: a list of all must not open the tree of each
            listed = found._replace(inode=_shown(kept.item.number, ROOT_INODE))
            names.append(NamedEntry(_cookie(kept), kept.name, listed))
        return names

    async def _root_of(self, kept: KeptSnapshot) -> Seen:
        number, view, then = await self._open(_shown(kept.item.number, ROOT_INODE))
        return _seen(number, await view.volume.getattr(then))

    # -- as of a volume

    async def getattr(self, inode: int) -> Seen:
        if inode == PAST:
            return await self.all()
        number, view, then = await self._open(inode)
        return _seen(number, await view.volume.getattr(then))

    async def lookup(self, folder: int, name: bytes) -> Seen | None:
        """The inode behind a name, or None."""
        if folder == PAST:
            if name == b".":
                return await self.all()
            kept = await self._catalogue.find(name)
            return None if kept is None else await self._root_of(kept)
        number, view, then = await self._open(folder)
        if name == b".." and then == ROOT_INODE:
            return await self.all()
        found = await view.volume.lookup(then, name)
        return None if found is None else _seen(number, found)

    async def readdir(self, folder: int, after: int, limit: int) -> list[NamedEntry]:
        """Up to `limit` names after cookie `after` (0 to begin), "." and ".." first."""
        if folder == PAST:
            return await self._list(after, limit)
        number, view, then = await self._open(folder)
        entries = await view.volume.readdir(then, after, limit)
        return [entry._replace(found=_seen(number, entry.found)) for entry in entries]

    async def readlink(self, inode: int) -> bytes:
        _, view, then = await self._open(inode)
        return await view.volume.readlink(then)

    def hold(self, found: Seen, folder: int, name: bytes) -> None:
        """The kernel learned of the inode once more: nothing has to be remembered."""

    async def forget(self, inode: int, count: int) -> None:
        """The kernel forgot it."""

    # -- as of content, and of xattrs

    async def read(self, inode: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes; short only at the end of the file."""
        _, view, then = await self._open(inode)
        return await view.content.read(then, offset, length)

    async def get(self, inode: int, name: bytes) -> bytes:
        """The value of an extended attribute; ENODATA when there is none."""
        if inode == PAST:
            raise FsError(errno.ENODATA)
        _, view, then = await self._open(inode)
        return await view.xattrs.get(then, name)

    async def list(self, inode: int, privileged: bool) -> list[bytes]:
        """The names of the inode's extended attributes."""
        if inode == PAST:
            return []
        _, view, then = await self._open(inode)
        return await view.xattrs.list(then, privileged)


def _cookie(kept: KeptSnapshot) -> int:
    return kept.item.number + FIRST_COOKIE - 1


def _shown(number: int, inode: int) -> int:
    """Raises EOVERFLOW for numbers that only vaults of version 1 with 200,000 folders have."""
    if inode > INODE_MAX:
        raise FsError(errno.EOVERFLOW)
    return PAST | number << INODE_BITS | inode


def _seen(number: int, found: Seen) -> Seen:
    return found._replace(inode=_shown(number, found.inode))
