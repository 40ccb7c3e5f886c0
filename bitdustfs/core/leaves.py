"""Immutable leaves of sorted items, and the two index levels above them.

    index -> branches (about BRANCH_ENTRIES leaves each) -> leaves (LEAF_TARGET bytes each)

Each level refers to the one below by `Ref`: lowest key, place and hash. The lowest key of the first
entry of a level is empty, so that every key belongs to exactly one leaf. Depth is fixed: a look-up
in a cold vault costs three fetches whatever the number of files.
"""

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import msgspec

from bitdustfs.core.codec import U8, Decoder, encode
from bitdustfs.core.records import Place, Record
from bitdustfs.errors import Malformed
from bitdustfs.units import KIB, META_EXTENT_MAX

LEAF_TARGET = 48 * KIB  #: bytes of items per leaf aimed at
LEAF_SPLIT = 64 * KIB  #: a leaf above this is split
BRANCH_ENTRIES = 256

ItemList = list[tuple[bytes, bytes]]
ItemChanges = Sequence[tuple[bytes, bytes | None]]


class Leaf(Record, frozen=True):
    """Sorted items: keys[i] -> values[i]."""

    format: U8
    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]

    def find(self, key: bytes) -> bytes | None:
        """The value at `key`, or None."""
        at = bisect_right(self.keys, key) - 1
        return self.values[at] if at >= 0 and self.keys[at] == key else None


class Ref(Record, frozen=True):
    """One entry of an index level: everything from `low` up to the next entry's `low`."""

    low: bytes
    place: Place


class Index(Record, frozen=True):
    """A branch, or the index above the branches."""

    format: U8
    refs: Annotated[tuple[Ref, ...], msgspec.Meta(min_length=1)]

    def find(self, key: bytes) -> int:
        """The number of the entry that covers `key`."""
        return max(0, bisect_right(self.refs, key, key=_low) - 1)

    def covering(self, low: bytes, high: bytes, reverse: bool = False) -> Iterator[Ref]:
        """Entries that may hold keys in [low, high), in their order or the other way round."""
        first = last = self.find(low)
        while last + 1 < len(self.refs) and self.refs[last + 1].low < high:
            last += 1
        numbers = range(first, last + 1)
        for number in reversed(numbers) if reverse else numbers:
            yield self.refs[number]


def _low(ref: Ref) -> bytes:
    return ref.low


_leaves = Decoder(Leaf, "leaf", META_EXTENT_MAX)
_indexes = Decoder(Index, "index", META_EXTENT_MAX)


def encode_leaf(items: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The plaintext of a leaf extent."""
    return encode(Leaf(1, tuple(k for k, _ in items), tuple(v for _, v in items)))


def decode_leaf_untrusted(plain: bytes) -> Leaf:
    """The leaf in an opened extent, or Malformed."""
    leaf = _leaves.decode_untrusted(plain)
    keys = leaf.keys
    if len(keys) != len(leaf.values) or any(a >= b for a, b in itertools.pairwise(keys)):
        raise Malformed("a leaf's keys are not in order")
    return leaf


def encode_index(refs: Sequence[Ref]) -> bytes:
    """The plaintext of a branch or index extent."""
    return encode(Index(1, tuple(refs)))


def decode_index_untrusted(plain: bytes) -> Index:
    """The index level in an opened extent, or Malformed."""
    index = _indexes.decode_untrusted(plain)
    refs = index.refs
    if any(a.low >= b.low for a, b in itertools.pairwise(refs)):
        raise Malformed("an index's entries are not in order")
    return index


def merge_items(base: Iterable[tuple[bytes, bytes]], changes: ItemChanges) -> ItemList:
    """Sorted items of `base` with the sorted `changes` (None deletes) applied."""
    merged = dict(base)
    for key, value in changes:
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return sorted(merged.items())


def split_items(items: ItemList) -> Iterator[ItemList]:
    """`items` cut into leaves of about LEAF_TARGET bytes; nothing for no items."""
    total = sum(len(k) + len(v) for k, v in items)
    if total <= LEAF_SPLIT:
        if items:
            yield items
        return
    share = total / round(total / LEAF_TARGET)
    current: ItemList = []
    size = 0
    for item in items:
        current.append(item)
        size += len(item[0]) + len(item[1])
        if size >= share:
            yield current
            current, size = [], 0
    if current:
        yield current


def split_refs(refs: list[Ref]) -> Iterator[list[Ref]]:
    """Leaf references cut into branches of about BRANCH_ENTRIES; a short tail joins the last."""
    count = max(1, round(len(refs) / BRANCH_ENTRIES))
    share = -(-len(refs) // count)
    for at in range(0, len(refs), share):
        yield refs[at : at + share]
