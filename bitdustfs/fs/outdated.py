"""What the kernel knows otherwise once a tree shows another root, by the items that differ."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from bitdustfs.core.items import (
    ENTRY,
    EXTENT,
    INODE,
    SNAPSHOT_PREFIX,
    decode_entry,
    decode_inode,
    key_kind,
    key_object,
)
from bitdustfs.tree.differences import Difference

SHOWN = (INODE, ENTRY, EXTENT)  #: kinds of items that the kernel keeps something of


class OldName(NamedTuple):
    """A name that leads elsewhere now. `gone`: the inode that it led to, where that is no more."""

    folder: int
    name: bytes
    gone: int = 0


class Outdated(NamedTuple):
    """What is not so any more.

    `attributes`: of these inodes; of those in `contents` what they contain, too. `unlinked`: inodes
    without any name now. `snapshots`: whether one came or went.
    """

    attributes: Collection[int] = ()
    contents: Collection[int] = ()
    names: Sequence[OldName] = ()
    unlinked: Collection[int] = ()
    snapshots: bool = False

    def without(self, inodes: Collection[int]) -> "Outdated":
        """The same, but what these inodes contain is still so."""
        return self._replace(contents=set(self.contents).difference(inodes))


def outdated(differences: Sequence[Difference]) -> Outdated:
    """What follows from items that differ. Raises Malformed."""
    attributes, contents, unlinked = set[int](), set[int](), set[int]()
    names: dict[tuple[int, bytes], int] = {}  # -> the inode that each led to, 0 for none
    snapshots = False
    for key, before, after in differences:
        if key.startswith(SNAPSHOT_PREFIX):
            snapshots = True
        inode, kind = key_object(key), key_kind(key)
        if kind == EXTENT:
            contents.add(inode)
        elif kind == INODE:
            attributes.add(inode)
            if after is None or decode_inode(after).nlink == 0:
                unlinked.add(inode)
            elif before is None or _content_of(before) != _content_of(after):
                contents.add(inode)
        elif kind == ENTRY:
            for value in (after, before):  # the inode that it led to before counts
                if value is not None:
                    entry = decode_entry(value)
                    names[inode, entry.name] = entry.inode if value is before else 0
    return Outdated(
        attributes - contents, contents,
        [OldName(*at, led if led in unlinked else 0) for at, led in names.items()],
        unlinked, snapshots,
    )  # fmt: skip


def _content_of(value: bytes) -> tuple[int, bytes | None]:
    inode = decode_inode(value)
    return inode.size, inode.inline
