"""What the kernel knows of inodes: how often it looked each up, and by which name it saw it last.

Look-up counts say whether an orphan may be purged (fuse(4): FORGET). Names make paths for blocks'
directories, so that a vault can be recovered from blocks alone; they are as good as what the kernel
asked for.
"""

from bitdustfs.core.block import InodeHint
from bitdustfs.core.items import ROOT_INODE, decode_inode, inode_key
from bitdustfs.fs.window import Windows
from bitdustfs.tree.tree import Tree

PATH_DEPTH = 256  #: folders in a path that block directories tell


class Lookups:
    """The inodes that the kernel has not forgotten."""

    def __init__(self, tree: Tree, windows: Windows) -> None:
        self._tree, self._windows = tree, windows
        self._held: dict[int, int] = {}  # inode -> look-ups the kernel has not forgotten
        self._where: dict[int, tuple[int, bytes]] = {}  # inode -> folder and name it was seen by

    def hold(self, inode: int, folder: int, name: bytes) -> None:
        """The kernel learned of the inode once more, by this name."""
        self._held[inode] = self._held.get(inode, 0) + 1
        if name not in (b".", b".."):
            self._where[inode] = (folder, name)

    def moved(self, inode: int, folder: int, name: bytes) -> None:
        """The inode was renamed."""
        if inode in self._where:
            self._where[inode] = (folder, name)

    def adopt(self, other: "Lookups") -> None:
        """The same, with what another one knows, from here on together with it."""
        self._held, self._where = other._held, other._where

    def held(self, inode: int) -> int:
        """How many look-ups of the inode the kernel has not forgotten."""
        return self._held.get(inode, 0)

    def forget(self, inode: int, count: int) -> bool:
        """The kernel forgot `count` look-ups; whether it knows the inode no more."""
        left = self._held.get(inode, 0) - count
        if left > 0:
            self._held[inode] = left
            return False
        self._held.pop(inode, None)
        self._where.pop(inode, None)
        return True

    def describe(self, inode: int) -> InodeHint | None:
        """Path and attributes of an inode for block directories, as far as they are in memory."""
        raw = self._tree.glance(inode_key(inode))
        if raw is None:
            return None
        made = decode_inode(raw)
        size = self._windows.size_of(inode, made)
        mtime = made.mtime[0] * 1_000_000_000 + made.mtime[1]
        return InodeHint(inode, self._path(inode), made.mode, size, mtime)

    def _path(self, inode: int) -> bytes:
        """The inode's path from the root, or b"" when it is not known."""
        parts: list[bytes] = []
        while inode != ROOT_INODE:
            if inode not in self._where or len(parts) > PATH_DEPTH:
                return b""
            inode, name = self._where[inode]
            parts.append(name)
        return b"/".join(reversed(parts))
