"""One call's view of the tree: what it reads, and the changes it collects.

Reading and changing is done by *plain functions* that get a `Transaction`. If a leaf that such a
function needs is not in memory, `Missing` is raised, the leaf is fetched and the function run again
from its start (tree.py). So a transaction function changes nothing but its transaction before its
last read.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from sortedcontainers import SortedDict

from bitdustfs.core.leaves import Index, Leaf
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind

Pinned = dict[bytes, Leaf | Index]  #: nodes that a running function has needed, by hash


class Layers(Protocol):
    """What a transaction reads: the layers of the tree, the uppermost first, and the leaves."""

    def peek(self, key: bytes, pinned: Pinned) -> bytes | None: ...

    def layers(self) -> list[SortedDict]: ...

    def base_items(
        self, low: bytes, high: bytes, reverse: bool, pinned: Pinned
    ) -> Iterator[tuple[bytes, bytes]]: ...


class Missing(Exception):
    """A transaction needs a node that is not in memory."""

    def __init__(self, place: Place, kind: Kind) -> None:
        self.place, self.kind = place, kind


class Transaction:
    """One call's view of the tree, with its own changes on top."""

    def __init__(self, layers: Layers, pinned: Pinned) -> None:
        self._layers, self._pinned = layers, pinned
        self.changes: dict[bytes, bytes | None] = {}
        self._sorted: SortedDict | None = None  # the same in order, from the first scan on

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, or None."""
        if key in self.changes:
            return self.changes[key]
        return self._layers.peek(key, self._pinned)

    def put(self, key: bytes, value: bytes) -> None:
        self._change(key, value)

    def delete(self, key: bytes) -> None:
        self._change(key, None)

    def _change(self, key: bytes, value: bytes | None) -> None:
        self.changes[key] = value
        if self._sorted is not None:
            self._sorted[key] = value

    def scan(self, low: bytes, high: bytes, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Items with low <= key < high, in order. No change may be made before the end of it."""
        items = self._layers.base_items(low, high, reverse, self._pinned)
        for layer in reversed(self._all_layers()):
            items = _over(layer, items, low, high, reverse)
        return items

    def floor(self, low: bytes, key: bytes) -> tuple[bytes, bytes] | None:
        """The last item with low <= its key <= `key`, or None."""
        return next(self.scan(low, key + b"\0", reverse=True), None)

    def _all_layers(self) -> list[SortedDict]:
        """Those that have something, the uppermost first; this transaction's changes on top."""
        layers = [layer for layer in self._layers.layers() if layer]
        if self.changes:
            if self._sorted is None:
                self._sorted = SortedDict(self.changes)
            layers.insert(0, self._sorted)
        return layers


def page(tx: Transaction, low: bytes, high: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    """Up to `limit` items with low <= key < high: for whoever goes through many, step by step."""
    return list(islice(tx.scan(low, high), limit))


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
