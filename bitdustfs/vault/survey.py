"""How much of what lies below a folder is on this machine, and bringing what is not.

One walk over the tree: names, attributes, extents, and the leaves that they are in. It goes on
where something cannot be read now, and says so. Files with several names count once.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from bitdustfs.core.items import (
    ENTRY,
    EXTENT,
    INODE,
    XATTR,
    decode_entry,
    decode_extent,
    decode_inode,
    decode_xattr,
    key_kind,
    object_range,
)
from bitdustfs.core.records import Place
from bitdustfs.errors import Unavailable
from bitdustfs.tree.transaction import page
from bitdustfs.tree.tree import Tree

PAGE = 500  #: items that are looked at in one turn of the loop
TOGETHER = 400  #: extents that are looked for at once
#: those of some extents that are not here
Lacking = Callable[[Sequence[Place]], Awaitable[list[Place]]]
#: told of extents that are not here, and their bytes of content
Lacked = Callable[[dict[Place, int]], Awaitable[None]]


@dataclass
class Figures:
    """Of what a walk saw. Bytes are of content. `unseen`: folders or files whose items are not here
    and could not be had.
    """

    files: int = 0
    files_here: int = 0
    size: int = 0
    size_here: int = 0
    unseen: int = 0

    def found(self, files: int, size: int, here: int) -> None:
        """So many more files, or bytes of content, of which so many are here."""
        self.files += files
        self.size += size
        self.size_here += here

    def miss(self) -> None:
        """The items of one are not to be had."""
        self.unseen += 1

    def settle(self, incomplete: int) -> None:
        """Of those that were found, so many are not here as a whole."""
        self.files_here = self.files - incomplete

    @property
    def all_here(self) -> bool:
        """Whether nothing is missing."""
        return self.files == self.files_here and not self.unseen


class Survey:
    """One walk. `lacking` tells which extents are not here; `bring` is given these, where they are
    to be brought. `used`: bytes of sealed extents by block; `objects`: all inodes that were seen.
    """

    def __init__(
        self,
        tree: Tree,
        lacking: Lacking,
        bring: Lacked | None = None,
    ) -> None:
        self._tree, self._lacking, self._bring = tree, lacking, bring
        self.used: Counter[bytes] = Counter()
        self.objects: set[int] = set()
        self.leaves_lacking = 0
        self.unseen = 0  #: nodes of the tree, or objects, that are not to be had
        self._leaves: set[bytes] = set()  # by their hashes
        self._queue: list[tuple[int, Place, int]] = []
        self._incomplete: set[int] = set()  # files
        self._figures = Figures()

    async def below(self, root: int) -> Figures:
        """Of an inode and all that is below it."""
        figures = self._figures = Figures()
        self._incomplete = set()
        stack, seen = [root], set[int]()
        while stack:
            inode = stack.pop()
            if inode in seen:
                continue
            seen.add(inode)
            self.objects.add(inode)
            try:
                stack += await self._look(inode)
            except Unavailable:
                figures.miss()
                self.miss()
        await self._flush()
        figures.settle(len(self._incomplete))
        return figures

    async def leaves_of(self, low: bytes, high: bytes) -> None:
        """The leaves that items in [low, high) are in belong to what is looked for, too."""
        try:
            places = await self._tree.covering(low, high)
        except Unavailable:
            self.miss()
            return
        for place in places:
            if place.hash not in self._leaves:
                self._leaves.add(place.hash)
                self._queue.append((0, place, 0))
        if len(self._queue) >= TOGETHER:
            await self._flush()

    async def finish(self) -> None:
        """All that was asked for is looked at."""
        await self._flush()

    def miss(self) -> None:
        """Something of the tree is not to be had, so what it says is not known."""
        self.unseen += 1

    async def _look(self, inode: int) -> list[int]:
        """Counts one object; what is in it, where it is a folder. Raises Unavailable."""
        low, high = object_range(inode)
        await self.leaves_of(low, high)
        inside: list[int] = []
        while True:
            items = await self._tree.run(page, low, high, PAGE)
            for key, value in items:
                self._note(inode, key_kind(key), value, inside)
            if len(self._queue) >= TOGETHER:
                await self._flush()
            if len(items) < PAGE:
                break
            low = items[-1][0] + b"\0"
        await trio.lowlevel.checkpoint()
        inside.reverse()  # the stack gives them back in the order of their names' cookies
        return inside

    def _note(self, inode: int, kind: int, value: bytes, inside: list[int]) -> None:
        if kind == INODE:
            inline = len(decode_inode(value).inline or b"")
            self._figures.found(1, inline, inline)
        elif kind == ENTRY:
            inside.append(decode_entry(value).inode)
        elif kind == XATTR:
            self._queue += ((inode, place, 0) for place in decode_xattr(value).extents)
        elif kind == EXTENT:
            extent = decode_extent(value)
            if extent.place is not None:
                self._queue.append((inode, extent.place, extent.length))
                self._figures.found(0, extent.length, 0)

    async def _flush(self) -> None:
        """Looks for what is queued, and has it brought."""
        queue, self._queue = self._queue, []
        lacking = set(await self._lacking([place for _, place, _ in queue]))
        if lacking and self._bring is not None:
            sizes: Counter[Place] = Counter()
            for _, place, length in queue:
                if place in lacking:
                    sizes[place] += length
            await self._bring(sizes)
            lacking = set(await self._lacking(list(lacking)))
        for inode, place, length in queue:
            self.used[place.block] += place.length
            if place not in lacking:
                self._figures.found(0, 0, length)
            elif inode:
                self._incomplete.add(inode)
            else:
                self.leaves_lacking += 1
