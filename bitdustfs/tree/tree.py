"""The vault's metadata as one sorted map: an overlay in memory over immutable leaves.

Reading and changing is done by *plain functions* that get a `Transaction`: they read what they need,
check, and collect changes. If a leaf is not in memory, the function is abandoned, the leaf fetched,
and the function run again from its start; its changes are applied at once when it returns. So one
POSIX call is atomic without locks: there is no await between its first read and its last change.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Concatenate, ParamSpec, TypeVar

import trio
from sortedcontainers import SortedDict

from bitdustfs.blocks.store import Piece, Store
from bitdustfs.core.items import COUNTERS_KEY, USE_PREFIX, object_range
from bitdustfs.core.leaves import (
    Index,
    Leaf,
    Ref,
    decode_index_untrusted,
    decode_leaf_untrusted,
    encode_index,
    encode_leaf,
    merge_items,
    split_items,
    split_refs,
)
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import Malformed, Unavailable
from bitdustfs.failpoints import reach

P = ParamSpec("P")
R = TypeVar("R")

NODES_KEPT = 256  #: decoded leaves and index parts in memory (about 150 KB each)


class _Missing(Exception):
    """A transaction needs a node that is not in memory."""

    def __init__(self, place: Place, kind: Kind) -> None:
        self.place, self.kind = place, kind


class Transaction:
    """One call's view of the tree, with its own changes on top."""

    def __init__(self, tree: "Tree", pinned: dict[bytes, Leaf | Index]) -> None:
        self._tree, self._pinned = tree, pinned
        self.changes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, or None."""
        if key in self.changes:
            return self.changes[key]
        return self._tree.peek(key, self._pinned)

    def put(self, key: bytes, value: bytes) -> None:
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        self.changes[key] = None

    def scan(self, low: bytes, high: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Items with low <= key < high, in order. Changes made while scanning are not seen."""
        own = SortedDict((k, v) for k, v in self.changes.items() if low <= k < high)
        items = self._tree.base_items(low, high, reverse, self._pinned)
        for layer in (*reversed(self._tree.layers()), own):
            if layer:
                items = _over(layer, items, low, high, reverse)
        return items

    def floor(self, low: bytes, key: bytes) -> tuple[bytes, bytes] | None:
        """The last item with low <= its key <= `key`, or None."""
        return next(self.scan(low, key + b"\0", reverse=True), None)


def _over(
    layer: SortedDict, below: Iterator[tuple[bytes, bytes]], low: bytes, high: bytes, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Sorted items of `below` with those of a layer on top of them (None hides)."""
    item = next(below, None)
    for key in layer.irange(low, high, inclusive=(True, False), reverse=reverse):
        while item is not None and (item[0] > key if reverse else item[0] < key):
            yield item
            item = next(below, None)
        if item is not None and item[0] == key:
            item = next(below, None)
        value = layer[key]
        if value is not None:
            yield key, value
    while item is not None:
        yield item
        item = next(below, None)


class Tree:
    """`base`: place of the index, None for an empty vault. `store` reads and writes its nodes."""

    def __init__(self, store: Store, base: Place | None) -> None:
        self._store, self.base = store, base
        self.overlay: SortedDict = SortedDict()  # changed since the last checkpoint
        self.frozen: SortedDict | None = None  # while a checkpoint is written
        self.batch: dict[bytes, bytes | None] = {}  # changed since the last commit
        self._taken: dict[bytes, bytes | None] = {}  # being committed
        self._nodes: OrderedDict[bytes, Leaf | Index] = OrderedDict()
        self.on_change: Callable[[], None] = lambda: None
        self._counters: bytes | None = None  # every write looks at them
        self.touched_uses: set[bytes] = set()  # keys of block use items that changed
        self.moving: set[bytes] = set()  # blocks whose leaves the next checkpoint rewrites
        self._versions: dict[int, int] = {}
        self._mappings = 0

    async def run(
        self, function: Callable[Concatenate[Transaction, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """`function(transaction, ...)` run against what is there; its changes applied as one.

        It may be run several times: it must not do anything but read, check and collect.
        """
        pinned: dict[bytes, Leaf | Index] = {}
        while True:
            transaction = Transaction(self, pinned)
            try:
                result = function(transaction, *args, **kwargs)
            except _Missing as missing:
                pinned[missing.place.hash] = await self._load(missing.place, missing.kind)
                continue
            if transaction.changes:
                self.apply(transaction.changes)
            return result

    def apply(self, changes: dict[bytes, bytes | None]) -> None:
        """Takes changes into the overlay and the batch being collected."""
        self.replay(changes)
        self.batch.update(changes)
        if COUNTERS_KEY in changes:
            self._counters = changes[COUNTERS_KEY]
        self.touched_uses.update(key for key in changes if key.startswith(USE_PREFIX))
        self.on_change()

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
        except _Missing:
            return True

    def version(self, inode: int) -> int:
        """Changes whenever sealed extents of the inode are mapped: readers then look again."""
        return self._versions.get(inode, 0)

    def bump(self, inode: int) -> None:
        self._mappings += 1  # never the same twice, also when the inode was forgotten meanwhile
        self._versions[inode] = self._mappings

    def forget(self, inode: int) -> None:
        """Nobody has the inode open."""
        self._versions.pop(inode, None)

    def uncommitted(self, inode: int) -> bool:
        """Whether the next batch, or the one being committed, holds items of this object."""
        low, high = object_range(inode)
        return any(low <= key < high for batch in (self.batch, self._taken) for key in batch)

    def take_batch(self) -> dict[bytes, bytes | None]:
        """The changes since the last call; the caller commits them or puts them back."""
        batch, self.batch = self.batch, {}
        self._taken = batch
        return batch

    def committed(self) -> None:
        """What was taken is on disk."""
        self._taken = {}

    def put_back(self, batch: dict[bytes, bytes | None]) -> None:
        """A commit failed: its changes go under those made since."""
        self.batch = {**batch, **self.batch}
        self._taken = {}

    def glance(self, key: bytes) -> bytes | None:
        """The value at `key` if it is in memory."""
        try:
            return self.peek(key, {})
        except _Missing:
            return None

    def shadow(self) -> "Tree":
        """The tree as it is now, to be read at leisure while this one goes on."""
        copy = Tree(self._store, self.base)
        for layer in reversed(self.layers()):
            copy.overlay.update(layer)
        return copy

    # -- reading

    def layers(self) -> list[SortedDict]:
        return [self.overlay] if self.frozen is None else [self.overlay, self.frozen]

    def peek(self, key: bytes, pinned: dict[bytes, Leaf | Index]) -> bytes | None:
        """The value at `key`; raises _Missing when a node is not in memory."""
        if key == COUNTERS_KEY:
            if self._counters is None:
                self._counters = self._look_up(key, pinned)
            return self._counters
        return self._look_up(key, pinned)

    def _look_up(self, key: bytes, pinned: dict[bytes, Leaf | Index]) -> bytes | None:
        for layer in self.layers():
            if key in layer:
                value: bytes | None = layer[key]
                return value
        return self._in_base(key, pinned)

    def _in_base(self, key: bytes, pinned: dict[bytes, Leaf | Index]) -> bytes | None:
        if self.base is None:
            return None
        index = self._index(self.base, pinned)
        branch = self._index(index.refs[index.find(key)].place, pinned)
        return self._leaf(branch.refs[branch.find(key)].place, pinned).find(key)

    def base_items(
        self, low: bytes, high: bytes, reverse: bool, pinned: dict[bytes, Leaf | Index]
    ) -> Iterator[tuple[bytes, bytes]]:
        """Items of the leaves alone, in order."""
        if self.base is None:
            return
        index = self._index(self.base, pinned)
        for branch_ref in _covering(index, low, high, reverse):
            branch = self._index(branch_ref.place, pinned)
            for leaf_ref in _covering(branch, low, high, reverse):
                leaf = self._leaf(leaf_ref.place, pinned)
                numbers = range(bisect_left(leaf.keys, low), bisect_left(leaf.keys, high))
                for number in reversed(numbers) if reverse else numbers:
                    yield leaf.keys[number], leaf.values[number]

    def _index(self, place: Place, pinned: dict[bytes, Leaf | Index]) -> Index:
        node = self._node(place, Kind.INDEX, pinned)
        assert isinstance(node, Index)
        return node

    def _leaf(self, place: Place, pinned: dict[bytes, Leaf | Index]) -> Leaf:
        node = self._node(place, Kind.LEAF, pinned)
        assert isinstance(node, Leaf)
        return node

    def _node(self, place: Place, kind: Kind, pinned: dict[bytes, Leaf | Index]) -> Leaf | Index:
        node = pinned.get(place.hash) or self._nodes.get(place.hash)
        if node is None:
            raise _Missing(place, kind)
        if place.hash in self._nodes:
            self._nodes.move_to_end(place.hash)
        return node

    async def _load(self, place: Place, kind: Kind) -> Leaf | Index:
        node = self._nodes.get(place.hash)
        if node is None:
            plain = await self._store.read_extent(place, kind)
            decode = decode_leaf_untrusted if kind == Kind.LEAF else decode_index_untrusted
            try:
                node = decode(plain)
            except Malformed as error:
                raise Unavailable(f"the tree is damaged: {error}") from error
            self._nodes[place.hash] = node
            if len(self._nodes) > NODES_KEPT:
                self._nodes.popitem(last=False)
        return node

    # -- checkpoint

    def freeze(self) -> None:
        """Starts a checkpoint: what is in the overlay now is what it will write. No await inside."""
        assert self.frozen is None
        self.frozen, self.overlay = self.overlay, SortedDict()

    def thaw(self) -> None:
        """Gives a failed checkpoint up: everything is in the overlay again."""
        if self.frozen is not None:
            newer, self.overlay, self.frozen = self.overlay, self.frozen, None
            self.replay(newer)

    async def write_frozen(self) -> Place | None:
        """Rewrites the leaves that the frozen overlay touches, and the index above; its place."""
        assert self.frozen is not None
        changes: list[tuple[bytes, bytes | None]] = list(self.frozen.items())
        branches: list[Ref] = []
        if self.base is None:
            refs = await self._write_leaves(merge_items([], changes), b"")
            branches = await self._write_branches(refs)
        else:
            index = await self._load_index(self.base)
            for branch_ref, part in _partition(index, changes):
                if not part and not await self._moves(branch_ref):
                    branches.append(branch_ref)
                    continue
                branch = await self._load_index(branch_ref.place)
                branches += await self._rewrite_branch(branch, part)
        if not branches:
            return None
        branches[0] = Ref(b"", branches[0].place)
        [place] = await self._store.append(True, [Piece(Kind.INDEX, encode_index(branches))])
        return place

    async def _moves(self, branch_ref: Ref) -> bool:
        """Whether a branch without changes is rewritten to empty a thin block."""
        if not self.moving or branch_ref.place.block in self.moving:
            return bool(self.moving)
        branch = await self._load_index(branch_ref.place)
        return any(ref.place.block in self.moving for ref in branch.refs)

    async def nodes(self) -> list[Place]:
        """Places of the index, its branches and all leaves as of the last checkpoint."""
        if self.base is None:
            return []
        places = [self.base]
        for branch_ref in (await self._load_index(self.base)).refs:
            places.append(branch_ref.place)
            places += [ref.place for ref in (await self._load_index(branch_ref.place)).refs]
        return places

    async def _rewrite_branch(
        self, branch: Index, changes: list[tuple[bytes, bytes | None]]
    ) -> list[Ref]:
        refs: list[Ref] = []
        for leaf_ref, part in _partition(branch, changes):
            if not part and leaf_ref.place.block not in self.moving:
                refs.append(leaf_ref)
                continue
            leaf = await self._load(leaf_ref.place, Kind.LEAF)
            assert isinstance(leaf, Leaf)
            items = merge_items(zip(leaf.keys, leaf.values, strict=True), part)
            refs += await self._write_leaves(items, leaf_ref.low)
        return await self._write_branches(refs)

    async def _write_leaves(self, items: list[tuple[bytes, bytes]], low: bytes) -> list[Ref]:
        leaves = await trio.to_thread.run_sync(
            lambda: [(part[0][0], encode_leaf(part)) for part in split_items(items)]
        )
        reach("leaf-write")
        places = await self._store.append(True, [Piece(Kind.LEAF, plain) for _, plain in leaves])
        refs = [Ref(key, place) for (key, _), place in zip(leaves, places, strict=True)]
        return [Ref(low, refs[0].place), *refs[1:]] if refs else []

    async def _write_branches(self, refs: list[Ref]) -> list[Ref]:
        if not refs:
            return []
        parts = list(split_refs(refs))
        places = await self._store.append(
            True, [Piece(Kind.INDEX, encode_index(part)) for part in parts]
        )
        return [Ref(part[0].low, place) for part, place in zip(parts, places, strict=True)]

    async def _load_index(self, place: Place) -> Index:
        node = await self._load(place, Kind.INDEX)
        assert isinstance(node, Index)
        return node

    def finish_checkpoint(self, base: Place | None) -> None:
        """The checkpoint is committed: leaves replace the frozen overlay. No await inside."""
        self.base, self.frozen = base, None
        self.moving = set()


def _covering(index: Index, low: bytes, high: bytes, reverse: bool) -> Iterator[Ref]:
    """Entries of an index level that may hold keys in [low, high)."""
    first = index.find(low)
    last = first
    while last + 1 < len(index.refs) and index.refs[last + 1].low < high:
        last += 1
    numbers = range(first, last + 1)
    for number in reversed(numbers) if reverse else numbers:
        yield index.refs[number]


def _partition(
    index: Index, changes: list[tuple[bytes, bytes | None]]
) -> Iterator[tuple[Ref, list[tuple[bytes, bytes | None]]]]:
    """Each entry of an index level with the changes that fall into it."""
    at = 0
    for number, ref in enumerate(index.refs):
        end = at
        if number + 1 < len(index.refs):
            boundary = index.refs[number + 1].low
            while end < len(changes) and changes[end][0] < boundary:
                end += 1
        else:
            end = len(changes)
        yield ref, changes[at:end]
        at = end
