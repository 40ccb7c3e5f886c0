"""In which items two trees differ, without a look at what they share.

Leaves are immutable and known by their hash, so only the ranges of those that one tree has and the
other one has not are read, of both, together with what is in no leaf yet. `wanted` says of a range
of keys whether anybody cares: else nothing of it is fetched.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import trio

from bitdustfs.core.leaves import Index
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree

STEP = 256  #: items that are looked up in one transaction
AT_ONCE = 32  #: leaves that are fetched side by side
END = b"\xff" * 32  #: above every key

ItemValues = Mapping[bytes, bytes | None]
RangeWanted = Callable[[bytes, bytes], bool]  #: whether differences with low <= key < high matter


class Difference(NamedTuple):
    """One item, in both trees; None where there is none."""

    key: bytes
    before: bytes | None
    after: bytes | None


class _Range(NamedTuple):
    """One leaf: its items have low <= key < high."""

    low: bytes
    high: bytes
    hash: bytes
    place: Place


async def changed_by(tree: Tree, changes: ItemValues, wanted: RangeWanted) -> list[Difference]:
    """What is otherwise in a tree once these changes are made. Raises Unavailable."""
    keys = [key for key in sorted(changes) if wanted(key, key + b"\0")]
    before = await _values(tree, keys)
    return [
        Difference(key, value, changes[key])
        for key, value in zip(keys, before, strict=True)
        if value != changes[key]
    ]


async def between(old: Tree, new: Tree, wanted: RangeWanted) -> list[Difference]:
    """What is otherwise in `new`. Raises Unavailable."""
    ranges = sorted(r for r in await _ranges(old, new) if wanted(r.low, r.high))
    found: dict[bytes, Difference] = {}
    for at in range(0, len(ranges), AT_ONCE):
        some = ranges[at : at + AT_ONCE]
        async with trio.open_nursery() as nursery:
            for leaf in some:  # of either tree: they share what they have in memory
                nursery.start_soon(new.load, leaf.place, Kind.LEAF)
        for low, high in _cut(some):
            before: ItemValues = dict(await old.run(_all, low, high))
            after: ItemValues = dict(await new.run(_all, low, high))
            found |= _compare(before, after, before.keys() | after.keys())
    loose = {key for tree in (old, new) for layer in tree.layers() for key in layer}
    keys = [key for key in sorted(loose - found.keys()) if wanted(key, key + b"\0")]
    before = dict(zip(keys, await _values(old, keys), strict=True))
    after = dict(zip(keys, await _values(new, keys), strict=True))
    return list({**found, **_compare(before, after, keys)}.values())


def _compare(
    before: ItemValues, after: ItemValues, keys: Iterable[bytes]
) -> dict[bytes, Difference]:
    differences = (Difference(key, before.get(key), after.get(key)) for key in keys)
    return {each.key: each for each in differences if each.before != each.after}


def _all(tx: Transaction, low: bytes, high: bytes) -> list[tuple[bytes, bytes]]:
    """Of one leaf's range: not many."""
    return list(tx.scan(low, high))


def _get(tx: Transaction, keys: list[bytes]) -> list[bytes | None]:
    return [tx.get(key) for key in keys]


async def _values(tree: Tree, keys: list[bytes]) -> list[bytes | None]:
    values: list[bytes | None] = []
    for at in range(0, len(keys), STEP):
        values += await tree.run(_get, keys[at : at + STEP])
    return values


def _cut(ranges: list[_Range]) -> Iterator[tuple[bytes, bytes]]:
    """The keys of some leaves of two trees, in order, in pieces no longer than any of them."""
    bounds = sorted({bound for each in ranges for bound in (each.low, each.high)})
    at, reach = 0, b""
    for low, high in pairwise(bounds):
        while at < len(ranges) and ranges[at].low <= low:
            reach = max(reach, ranges[at].high)
            at += 1
        if reach >= high:
            yield low, high


async def _ranges(old: Tree, new: Tree) -> list[_Range]:
    """The leaves that one of them has and the other one has not."""
    if old.base == new.base:
        return []
    branches = [await _entries(tree, tree.base, b"", END) for tree in (old, new)]
    shared = {each.hash for each in branches[0][1]} & {each.hash for each in branches[1][1]}
    leaves: list[dict[bytes, _Range]] = []
    for tree, (index, entries) in zip((old, new), branches, strict=True):
        there: dict[bytes, _Range] = {}
        for number, entry in enumerate(entries):
            if entry.hash not in shared:
                assert index is not None
                place = index.refs[number].place
                _, below = await _entries(tree, place, entry.low, entry.high)
                there |= {leaf.hash: leaf for leaf in below}
        leaves.append(there)
    before, after = leaves
    return [r for h, r in before.items() if h not in after] + [
        r for h, r in after.items() if h not in before
    ]


async def _entries(
    tree: Tree, place: Place | None, low: bytes, high: bytes
) -> tuple[Index | None, list[_Range]]:
    """What one level of an index, which covers low <= key < high, refers to."""
    if place is None:
        return None, []
    index = await tree.load_index(place)
    lows = [low, *(ref.low for ref in index.refs[1:]), high]
    return index, [
        _Range(lows[number], lows[number + 1], ref.place.hash, ref.place)
        for number, ref in enumerate(index.refs)
    ]
