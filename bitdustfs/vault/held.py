"""Which blocks kept snapshots refer to: what reclaiming must leave alone.

What is referred to for the last time never comes back: items only ever refer to what was just
written. So the snapshots that refer to a block are neighbours, from the first one after the block
was begun. One look into a few of them tells all; what it told stands in the block's use item.

A block that was begun for the root of seq S is closed at the latest by the publish of root
S + OPEN_ROOTS, and nothing is added to it after that: from there on, once gone is gone.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from bitdustfs.blocks.evict import born_for
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.space import Yield
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.core.block import ExtentEntry
from bitdustfs.core.items import (
    PAST,
    XATTR,
    BlockUse,
    decode_use,
    decode_xattr,
    encode_item,
    kind_range,
    use_key,
)
from bitdustfs.core.leaves import Index, Leaf
from bitdustfs.core.sealing import Kind
from bitdustfs.fs.extents import references
from bitdustfs.tree.catalogue import Catalogue, KeptSnapshot
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree
from bitdustfs.vault.compact import SLACK, STORED_MAX
from bitdustfs.vault.uses import Uses

OPEN_ROOTS = 3  #: roots after that of its birth before which a block is surely closed
CHECK_STEP = 256  #: directory entries looked up in one transaction
TREES_KEPT = 32  #: snapshots whose metadata blocks are remembered

Numbers = tuple[int, int]  #: first and last number of the snapshots that refer to a block


class Held:
    """What the kept snapshots of one vault hold. Nothing is known before the first `refresh`."""

    def __init__(
        self, tree: Tree, reader: ExtentReader, catalogue: Catalogue, uses: Uses, table: BlockTable
    ) -> None:
        self._tree, self._reader, self._catalogue = tree, reader, catalogue
        self._uses, self._table = uses, table
        self._nodes: OrderedDict[bytes, Leaf | Index] = OrderedDict()  # of all snapshots
        self._blocks: OrderedDict[int, frozenset[bytes]] = OrderedDict()  # number -> of its nodes
        self.version = -1  #: of the catalogue at the last `refresh`
        self._kept: Sequence[KeptSnapshot] = ()
        self._numbers: list[int] = []

    async def refresh(self) -> None:
        """Learns which snapshots are kept. Raises Unavailable."""
        while not self.fresh:
            version = self._catalogue.version
            kept = await self._catalogue.kept()
            self._kept, self._numbers = kept, [k.item.number for k in kept]
            self.version = version

    @property
    def fresh(self) -> bool:
        """Whether no snapshot was made or deleted since the last `refresh`."""
        return self.version == self._catalogue.version

    def may_hold(self, block: bytes) -> bool:
        """Whether a snapshot was made since the block was begun."""
        if not self.fresh:
            return True
        return bool(self._kept) and self._kept[-1].item.seq >= born_for(block)

    def needs(self, block: bytes) -> bool:
        """Whether a snapshot may refer to a block that nothing else refers to."""
        if not self.may_hold(block):
            return False
        numbers = _recorded(self._uses.get(block))
        return numbers is None or not self.fresh or bool(self._within(numbers))

    def holds(self, block: bytes) -> bool:
        """Whether a snapshot was found to refer to the block, and is kept."""
        numbers = _recorded(self._uses.get(block))
        return numbers is not None and bool(self._within(numbers))

    def _within(self, numbers: Numbers) -> Sequence[KeptSnapshot]:
        """The kept ones of these numbers, two at most: nobody asks for more."""
        at = bisect_left(self._numbers, numbers[0])
        return [k for k in self._kept[at : at + 2] if k.item.number <= numbers[1]]

    async def look(self, block: bytes, entries: tuple[ExtentEntry, ...]) -> Numbers | None:
        """The kept snapshots that refer to a block which is closed; None for no such one.

        Raises Unavailable.
        """
        await self.refresh()
        born = born_for(block)
        since = self._kept[bisect_left(self._kept, born, key=_seq) :]
        open_then = [kept for kept in since if kept.item.seq <= born + OPEN_ROOTS]
        after = since[len(open_then) :]
        found = [k.item.number for k in open_then if await self._refers(k, block, entries)]
        if after and await self._refers(after[0], block, entries):
            low, high = 0, len(after)  # the one at `low` refers to it, that at `high` does not
            if await self._refers(after[-1], block, entries):
                low = len(after) - 1
            while high - low > 1:
                middle = (low + high) // 2
                if await self._refers(after[middle], block, entries):
                    low = middle
                else:
                    high = middle
            found += [after[0].item.number, after[low].item.number]
        return (found[0], found[-1]) if found else None

    async def record(self, block: bytes, numbers: Numbers) -> None:
        """Writes down what a look found, for this mount and those to come."""
        await self._tree.tidy(_record, block, numbers)

    async def _refers(
        self, kept: KeptSnapshot, block: bytes, entries: tuple[ExtentEntry, ...]
    ) -> bool:
        tree = Tree(self._reader, kept.item.index, nodes=self._nodes)
        kinds = {entry.kind for entry in entries}
        if kinds & {Kind.LEAF, Kind.INDEX} and block in await self._blocks_of(kept, tree):
            return True
        if not kinds & {Kind.DATA, Kind.XATTR}:
            return False
        for at in range(0, len(entries), CHECK_STEP):
            if await tree.run(in_use, block, entries[at : at + CHECK_STEP]):
                return True
        return False

    async def _blocks_of(self, kept: KeptSnapshot, tree: Tree) -> frozenset[bytes]:
        """The blocks that index and leaves of a snapshot are in."""
        number = kept.item.number
        if number not in self._blocks:
            self._blocks[number] = frozenset(place.block for place in await tree.nodes())
            if len(self._blocks) > TREES_KEPT:
                self._blocks.popitem(last=False)
        return self._blocks[number]

    # -- how much

    def _alone(self) -> Iterator[tuple[bytes, int, Numbers]]:
        """Blocks that only snapshots refer to, with their sizes."""
        for block in self._uses.unused:
            use = self._uses.get(block)
            numbers = _recorded(use)
            if use is not None and numbers is not None and self._within(numbers):
                row = self._table.get(block)
                yield block, row.length if row is not None else use.total, numbers

    def bytes(self, kept: Sequence[KeptSnapshot] | None = None) -> int:
        """Bytes that snapshots keep from being given back, as far as it was looked up: whole
        blocks, and in blocks of which something is in use all that is not.

        `kept`: if there were only these.
        """
        return self._whole(kept) + self._in_thin(kept)

    def taken(self, kept: Sequence[KeptSnapshot] | None = None) -> int:
        """The same without the waste that blocks have anyway until they are compacted."""
        return self._whole(kept) + max(0, self._in_thin(kept) - self._usual())

    def _usual(self) -> int:
        return int((STORED_MAX - 1) * self._uses.live) + SLACK

    def yields(self) -> Yield:
        """Bytes of all that is held that would come back without the scheduled ones: by `bytes`
        for the quota, and by `taken` at suppliers, since nothing empties blocks of usual waste.
        """
        by_hand = [k for k in self._kept if not k.scheduled]
        if len(by_hand) == len(self._kept):
            return Yield()
        whole, thin = self._whole(None) - self._whole(by_hand), self._in_thin(None)
        left, usual = self._in_thin(by_hand), self._usual()
        return Yield(whole + thin - left, whole + max(0, thin - usual) - max(0, left - usual))

    def _whole(self, kept: Sequence[KeptSnapshot] | None) -> int:
        if kept is None:
            return sum(size for _, size, _ in self._alone())
        numbers = [k.item.number for k in kept]
        held = 0
        for _, size, (first, last) in self._alone():
            at = bisect_left(numbers, first)
            if at < len(numbers) and numbers[at] <= last:
                held += size
        return held

    def _in_thin(self, kept: Sequence[KeptSnapshot] | None) -> int:
        if kept is not None and not kept:
            return 0
        held, newest = 0, kept[-1].item.seq if kept else -1
        for block in self._uses.thin():
            holds = self.may_hold(block) if kept is None else newest >= born_for(block)
            use = self._uses.get(block)
            if use is not None and holds:
                held += use.total - use.live
        return held

    def given_back(self) -> dict[int, int]:
        """Number of a snapshot -> bytes of the blocks that it alone keeps."""
        found: dict[int, int] = {}
        for _, size, numbers in self._alone():
            within = self._within(numbers)
            if len(within) == 1:
                number = within[0].item.number
                found[number] = found.get(number, 0) + size
        return found


def _seq(kept: KeptSnapshot) -> int:
    return kept.item.seq


def _recorded(use: BlockUse | None) -> Numbers | None:
    """What was written down of an unused block."""
    if use is None or use.live or PAST not in use.more:
        return None
    first, last = use.more[PAST]
    return int(first), int(last)


def _record(tx: Transaction, block: bytes, numbers: Numbers) -> None:
    value = tx.get(use_key(block))
    use = BlockUse(1, 0, 0) if value is None else decode_use(value)
    use.more[PAST] = list(numbers)
    tx.put(use_key(block), encode_item(use))


def in_use(tx: Transaction, block: bytes, entries: tuple[ExtentEntry, ...]) -> bool:
    """Whether items refer to any of these extents of a block."""
    for entry in entries:
        if entry.kind == Kind.DATA:
            stop = entry.file_offset + entry.plain_length
            if references(tx, entry.inode, entry.file_offset, stop, block):
                return True
        elif entry.kind == Kind.XATTR and block in _xattr_blocks(tx, entry.inode):
            return True
    return False


def _xattr_blocks(tx: Transaction, inode: int) -> set[bytes]:
    items = tx.scan(*kind_range(inode, XATTR))
    return {place.block for _, value in items for place in decode_xattr(value).extents}
