"""The vault's metadata as one sorted map: an overlay in memory over immutable leaves.

`Tree.run` runs a plain function on a `Transaction` and applies its changes at once when it returns.
So one POSIX call is atomic without locks: there is no await between its first read and its last
change.

Look-ups go through the layers: the overlay (changed since the last checkpoint), while a checkpoint
is written the frozen overlay, then the leaves.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Concatenate, ParamSpec, TypeVar

from sortedcontainers import SortedDict

from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.core.items import COUNTERS_KEY, USE_PREFIX, key_object, object_range
from bitdustfs.core.leaves import (
    Index,
    Leaf,
    decode_index_untrusted,
    decode_leaf_untrusted,
)
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import Malformed, Unavailable
from bitdustfs.tree.interest import Interest
from bitdustfs.tree.transaction import Missing, Pinned, Transaction

P = ParamSpec("P")
R = TypeVar("R")

NODES_KEPT = 256  #: decoded leaves and index parts in memory (about 150 KB each)


class Tree:
    """`base`: place of the index, None for an empty vault. `on_change` is called at each change.

    `nodes`: decoded nodes that are shared with trees of other times; they are known by their hash.
    `interest` hears of changes, whoever makes them.
    """

    def __init__(
        self,
        reader: ExtentReader,
        base: Place | None,
        on_change: Callable[[], None] = lambda: None,
        nodes: OrderedDict[bytes, Leaf | Index] | None = None,
        interest: Interest | None = None,
    ) -> None:
        self._reader, self.base, self._on_change = reader, base, on_change
        self._interest = interest or Interest()  # that nobody waits for
        self.overlay: SortedDict = SortedDict()  # changed since the last checkpoint
        self.frozen: SortedDict | None = None  # while a checkpoint is written
        self.batch: dict[bytes, bytes | None] = {}  # changed since the last commit
        self._taken: dict[bytes, bytes | None] = {}  # being committed
        self._written: set[int] = set()  # objects that programs changed since the last commit
        self._being_kept: set[int] = set()  # the same, of the commit that is under way
        self._nodes: OrderedDict[bytes, Leaf | Index] = OrderedDict() if nodes is None else nodes
        self._counters: bytes | None = None  # every write looks at them
        self.touched_uses: set[bytes] = set()  # keys of block use items that changed
        self._versions: dict[int, int] = {}
        self._mappings = 0
        self._turns = 0  # how many roots were followed

    async def run(
        self, function: Callable[Concatenate[Transaction, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """`function(transaction, ...)` run against what is there; its changes applied as one.

        It may be run several times: it must not do anything but read, check and collect.
        """
        result, changes = await self._run(lambda tx: function(tx, *args, **kwargs))
        if changes:
            self.apply(changes)
        return result

    async def tidy(
        self, function: Callable[Concatenate[Transaction, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """The same for housekeeping: what programs wrote is as well kept before as after it."""
        result, changes = await self._run(lambda tx: function(tx, *args, **kwargs))
        if changes:
            self._apply(changes)
        return result

    async def _run(
        self, function: Callable[[Transaction], R]
    ) -> tuple[R, dict[bytes, bytes | None]]:
        """No await from the function's last run to the caller."""
        pinned: Pinned = {}
        while True:
            transaction = Transaction(self, pinned)
            try:
                return function(transaction), transaction.changes
            except Missing as missing:
                turns = self._turns
                try:
                    pinned[missing.place.hash] = await self.load(missing.place, missing.kind)
                except Unavailable:  # another root is shown, which may not need that leaf
                    if turns == self._turns:
                        raise

    def apply(self, changes: dict[bytes, bytes | None]) -> None:
        """Takes changes that programs made into the overlay and the batch being collected."""
        self._written.update(map(key_object, changes))
        self._apply(changes)

    def _apply(self, changes: dict[bytes, bytes | None]) -> None:
        self.replay(changes)
        self.batch.update(changes)
        if COUNTERS_KEY in changes:
            self._counters = changes[COUNTERS_KEY]
        self.touched_uses.update(key for key in changes if key.startswith(USE_PREFIX))
        self._interest.note(changes)
        self._on_change()

    def replay(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Takes changes that were committed before into the overlay.

        No tombstone stays where it hides nothing: every scan would have to pass it.
        """
        for key, value in changes.items():
            if value is None and not self._below(key):
                self.overlay.pop(key, None)
            else:
                self.overlay[key] = value

    def _below(self, key: bytes) -> bool:
        """Whether the layers under the overlay have, or may have, an item at `key`."""
        if self.frozen is not None and key in self.frozen:
            return True
        if self.base is None:
            return False
        try:
            return self._in_base(key, {}) is not None
        except Missing:
            return True

    def version(self, inode: int) -> int:
        """Changes whenever sealed extents of the inode are mapped: readers then look again."""
        return self._versions.get(inode, 0)

    def bump(self, inode: int) -> None:
        self._mappings += 1  # never the same twice, also where the inode was forgotten
        self._versions[inode] = self._mappings

    def forget(self, inode: int) -> None:
        """Nobody has the inode open."""
        self._versions.pop(inode, None)

    def uncommitted(self, inode: int) -> bool:
        """Whether the next batch, or the one being committed, holds items of this object."""
        low, high = object_range(inode)
        return any(low <= key < high for batch in (self.batch, self._taken) for key in batch)

    def take_batch(self) -> tuple[dict[bytes, bytes | None], set[int]]:
        """The changes since the last call, and the objects that programs changed. The caller
        commits them or puts them back.
        """
        batch, self.batch = self.batch, {}
        written, self._written = self._written, set()
        self._taken, self._being_kept = batch, written
        return batch, written

    def has_written(self) -> bool:
        """Whether programs changed anything that is in no commit which has ended."""
        return bool(self._written or self._being_kept)

    def committed(self) -> None:
        """What was taken is on disk."""
        self._taken, self._being_kept = {}, set()

    def put_back(self, batch: dict[bytes, bytes | None], written: set[int]) -> None:
        """A commit failed: its changes go under those made since."""
        self.batch = {**batch, **self.batch}
        self._written |= written
        self._taken, self._being_kept = {}, set()

    def glance(self, key: bytes) -> bytes | None:
        """The value at `key` if it is in memory."""
        try:
            return self.peek(key, {})
        except Missing:
            return None

    def look(
        self, function: Callable[Concatenate[Transaction, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R | None:
        """What `function` reads, if all of it is in memory. It must not change anything."""
        try:
            return function(Transaction(self, {}), *args, **kwargs)
        except Missing:
            return None

    def shadow(self) -> "Tree":
        """The tree as it is now, to be read at leisure while this one goes on."""
        copy = Tree(self._reader, self.base)
        for layer in reversed(self.layers()):
            copy.overlay.update(layer)
        return copy

    # -- following another machine

    def beside(self, base: Place | None, changes: Mapping[bytes, bytes | None]) -> "Tree":
        """Another root's tree, that shares the decoded nodes with this one."""
        other = Tree(self._reader, base, nodes=self._nodes)
        other.overlay.update(changes)
        return other

    def turn(self, changes: Mapping[bytes, bytes | None], inodes: Iterable[int]) -> None:
        """Shows the next root, without an await. Reads of `inodes` under way look again."""
        self.replay(changes)
        self._turned(inodes)
        self._interest.note(changes)

    def turn_to(self, other: "Tree", inodes: Iterable[int]) -> None:
        """The same where the next root stands on other leaves. `other` is not used after it."""
        self.base, self.overlay = other.base, other.overlay
        self._turned(inodes)
        self._interest.note_leaves()

    def _turned(self, inodes: Iterable[int]) -> None:
        self._counters = None
        self._turns += 1
        for inode in inodes:
            self.bump(inode)

    # -- reading

    def layers(self) -> list[SortedDict]:
        return [self.overlay] if self.frozen is None else [self.overlay, self.frozen]

    def peek(self, key: bytes, pinned: Pinned) -> bytes | None:
        """The value at `key`; raises Missing when a node is not in memory."""
        if key == COUNTERS_KEY:
            if self._counters is None:
                self._counters = self._look_up(key, pinned)
            return self._counters
        return self._look_up(key, pinned)

    def _look_up(self, key: bytes, pinned: Pinned) -> bytes | None:
        for layer in self.layers():
            if key in layer:
                value: bytes | None = layer[key]
                return value
        return self._in_base(key, pinned)

    def _in_base(self, key: bytes, pinned: Pinned) -> bytes | None:
        if self.base is None:
            return None
        index = self._index(self.base, pinned)
        branch = self._index(index.refs[index.find(key)].place, pinned)
        return self._leaf(branch.refs[branch.find(key)].place, pinned).find(key)

    def base_items(
        self, low: bytes, high: bytes, reverse: bool, pinned: Pinned
    ) -> Iterator[tuple[bytes, bytes]]:
        """Items of the leaves alone, in order."""
        if self.base is None:
            return
        index = self._index(self.base, pinned)
        for branch_ref in index.covering(low, high, reverse):
            branch = self._index(branch_ref.place, pinned)
            for leaf_ref in branch.covering(low, high, reverse):
                leaf = self._leaf(leaf_ref.place, pinned)
                numbers = range(bisect_left(leaf.keys, low), bisect_left(leaf.keys, high))
                for number in reversed(numbers) if reverse else numbers:
                    yield leaf.keys[number], leaf.values[number]

    def _index(self, place: Place, pinned: Pinned) -> Index:
        node = self._node(place, Kind.INDEX, pinned)
        assert isinstance(node, Index)
        return node

    def _leaf(self, place: Place, pinned: Pinned) -> Leaf:
        node = self._node(place, Kind.LEAF, pinned)
        assert isinstance(node, Leaf)
        return node

    def _node(self, place: Place, kind: Kind, pinned: Pinned) -> Leaf | Index:
        node = pinned.get(place.hash) or self._nodes.get(place.hash)
        if node is None:
            raise Missing(place, kind)
        if place.hash in self._nodes:
            self._nodes.move_to_end(place.hash)
        return node

    async def load(self, place: Place, kind: Kind) -> Leaf | Index:
        node = self._nodes.get(place.hash)
        if node is None:
            plain = await self._reader.read_extent(place, kind)
            decode = decode_leaf_untrusted if kind == Kind.LEAF else decode_index_untrusted
            try:
                node = decode(plain)
            except Malformed as error:
                raise Unavailable(f"the tree is damaged: {error}") from error
            self._nodes[place.hash] = node
            if len(self._nodes) > NODES_KEPT:
                self._nodes.popitem(last=False)
        return node

    async def covering(self, low: bytes, high: bytes) -> list[Place]:
        """Places of the index, the branches and the leaves that items in [low, high) may be in."""
        if self.base is None:
            return []
        places = [self.base]
        for branch_ref in (await self.load_index(self.base)).covering(low, high):
            places.append(branch_ref.place)
            branch = await self.load_index(branch_ref.place)
            places += [ref.place for ref in branch.covering(low, high)]
        return places

    # -- checkpoint

    def freeze(self) -> None:
        """Starts a checkpoint: what is in the overlay now is what it will write. No await
        inside.
        """
        assert self.frozen is None
        self.frozen, self.overlay = self.overlay, SortedDict()

    def thaw(self) -> None:
        """Gives a failed checkpoint up: all is in the overlay again."""
        if self.frozen is not None:
            newer, self.overlay, self.frozen = self.overlay, self.frozen, None
            self.replay(newer)

    async def nodes(self) -> list[Place]:
        """Places of the index, its branches and all leaves as of the last checkpoint."""
        if self.base is None:
            return []
        places = [self.base]
        for branch_ref in (await self.load_index(self.base)).refs:
            places.append(branch_ref.place)
            places += [ref.place for ref in (await self.load_index(branch_ref.place)).refs]
        return places

    async def load_index(self, place: Place) -> Index:
        node = await self.load(place, Kind.INDEX)
        assert isinstance(node, Index)
        return node

    def finish_checkpoint(self, base: Place | None) -> None:
        """The checkpoint is committed: leaves replace the frozen overlay. No await inside."""
        self.base, self.frozen = base, None
        self._interest.note_leaves()
