"""What the kernel knows of inodes: how often it looked each up, and by which name it saw it last.

Look-up counts say whether an orphan may be purged (fuse(4): FORGET). Names make paths for blocks'
directories, so that a vault can be recovered from blocks alone; they are as good as what the kernel
asked for.

The kernel may know millions of inodes: each takes one entry of a set. Names are kept of folders,
and of what else was seen last: what is written is looked up before.
"""

from collections import OrderedDict

from bitdustfs.core.block import InodeHint
from bitdustfs.core.items import ROOT_INODE, decode_inode, inode_key
from bitdustfs.fs.window import Windows
from bitdustfs.tree.tree import Tree

PATH_DEPTH = 256  #: folders in a path that block directories tell
NAMES_KEPT = 1 << 16  #: names of what is no folder

Where = tuple[int, bytes]  #: the folder that an inode was seen in last, and its name there


class Lookups:
    """The inodes that the kernel has not forgotten."""

    def __init__(self, tree: Tree, windows: Windows) -> None:
        self._tree, self._windows = tree, windows
        self._once: set[int] = set()  # inodes with one look-up that the kernel has not forgotten
        self._more: dict[int, int] = {}  # inode -> look-ups, of those that have several
        self._folders: dict[int, Where] = {}
        self._others: OrderedDict[int, Where] = OrderedDict()  # least recently seen first

    def hold(self, inode: int, is_folder: bool, folder: int, name: bytes) -> None:
        """The kernel learned of the inode once more, by this name in `folder`."""
        if inode in self._more:
            self._more[inode] += 1
        elif inode in self._once:
            self._once.remove(inode)
            self._more[inode] = 2
        else:
            self._once.add(inode)
        if name in (b".", b".."):
            return
        if is_folder:
            self._folders[inode] = folder, name
        else:
            self._see(inode, folder, name)

    def moved(self, inode: int, folder: int, name: bytes) -> None:
        """The inode was renamed."""
        if inode in self._folders:
            self._folders[inode] = folder, name
        elif self.held(inode):
            self._see(inode, folder, name)

    def _see(self, inode: int, folder: int, name: bytes) -> None:
        self._others[inode] = folder, name
        self._others.move_to_end(inode)
        if len(self._others) > NAMES_KEPT:
            self._others.popitem(last=False)

    def adopt(self, other: "Lookups") -> None:
        """The same, with what another one knows, from here on together with it."""
        self._once, self._more = other._once, other._more
        self._folders, self._others = other._folders, other._others

    def held(self, inode: int) -> int:
        """How many look-ups of the inode the kernel has not forgotten."""
        return self._more.get(inode) or int(inode in self._once)

    def known(self) -> list[int]:
        """All inodes that the kernel has not forgotten, in order."""
        return sorted({ROOT_INODE, *self._once, *self._more})

    def forget(self, inode: int, count: int) -> bool:
        """The kernel forgot `count` look-ups; whether it knows the inode no more."""
        left = self.held(inode) - count
        self._once.discard(inode)
        self._more.pop(inode, None)
        if left > 1:
            self._more[inode] = left
        elif left == 1:
            self._once.add(inode)
        if left > 0:
            return False
        self._folders.pop(inode, None)
        self._others.pop(inode, None)
        return True

    def describe(self, inode: int) -> InodeHint | None:
        """Path and attributes of an inode for block directories, as far as they are in memory."""
        raw = self._tree.glance(inode_key(inode))
        if raw is None:
            return None
        made = decode_inode(raw)
        size = self._windows.size_of(inode, made)
        mtime = made.mtime[0] * 1_000_000_000 + made.mtime[1]
        return InodeHint(inode, self.path(inode), made.mode, size, mtime)

    def path(self, inode: int) -> bytes:
        """The inode's path from the root, or b"" when it is not known."""
        parts: list[bytes] = []
        if inode in self._others:
            self._others.move_to_end(inode)  # it is being written, and will be again
        while inode != ROOT_INODE:
            where = self._folders.get(inode) or self._others.get(inode)
            if where is None or len(parts) > PATH_DEPTH:
                return b""
            inode, name = where
            parts.append(name)
        return b"/".join(reversed(parts))
