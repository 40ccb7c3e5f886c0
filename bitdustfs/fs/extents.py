"""The extent items of a file: they tile [0, size) without gap; a hole is an explicit item.

Plain functions on a transaction. Lengths and offsets in bytes. A gap found while reading is damage,
not a hole: it is Unavailable, never zeros (promise 5).
"""

from collections.abc import Iterable
from typing import NamedTuple

from bitdustfs.core.items import (
    EXTENT,
    Extent,
    Inode,
    decode_extent,
    encode_item,
    extent_key,
    kind_range,
    tail_u64,
)
from bitdustfs.core.records import Place
from bitdustfs.errors import Unavailable
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.usage import UseCounts, count

RESIZE_STEP = 2000  #: extent items that one step of a truncate drops at most


class Mapped(NamedTuple):
    """File bytes [offset, offset + length): `skip` bytes into the extent at `place`, or a hole."""

    offset: int
    length: int
    place: Place | None
    skip: int


def mapped(tx: Transaction, inode: int, start: int, stop: int) -> list[Mapped]:
    """The items that cover [start, stop), whole; they may reach beyond it on both sides."""
    low, high = kind_range(inode, EXTENT)
    found: list[Mapped] = []
    first = tx.floor(low, extent_key(inode, start))
    if first is not None:
        item = _item(*first)
        if item.offset + item.length > start:
            found.append(item)
    begin = extent_key(inode, start + 1)
    for key, value in tx.scan(begin, min(high, extent_key(inode, stop))):
        found.append(_item(key, value))
    return found


def _item(key: bytes, value: bytes) -> Mapped:
    extent = decode_extent(value)
    return Mapped(tail_u64(key), extent.length, extent.place, extent.skip)


def to_read(tx: Transaction, inode: int, start: int, stop: int) -> list[Mapped]:
    """As `mapped`, cut to [start, stop); Unavailable where the items leave a gap."""
    cut: list[Mapped] = []
    at = start
    for item in mapped(tx, inode, start, stop):
        if item.offset > at:
            break
        end = min(stop, item.offset + item.length)
        cut.append(Mapped(at, end - at, item.place, item.skip + at - item.offset))
        at = end
    if at < stop:
        raise Unavailable(f"the extents of inode {inode} have a gap at {at}; run bitdust verify")
    return cut


def _write(tx: Transaction, inode: int, item: Mapped) -> None:
    skip = item.skip if item.place is not None else 0
    extent = Extent(1, item.place, skip, item.length)
    tx.put(extent_key(inode, item.offset), encode_item(extent))


def _clear(tx: Transaction, inode: int, start: int, stop: int, uses: UseCounts) -> int:
    """Takes [start, stop) out of the items, trimming neighbours; returns the data bytes dropped."""
    dropped = 0
    for item in mapped(tx, inode, start, stop):
        end = item.offset + item.length
        tx.delete(extent_key(inode, item.offset))
        if item.offset < start:
            _write(tx, inode, item._replace(length=start - item.offset))
        if end > stop:
            moved = stop - item.offset
            _write(tx, inode, Mapped(stop, end - stop, item.place, item.skip + moved))
        if item.place is not None:
            gone = min(end, stop) - max(item.offset, start)
            uses.count(item.place.block, -gone)
            dropped += gone
    return dropped


def put_extents(tx: Transaction, inode: int, attributes: Inode, pieces: Iterable[Mapped]) -> int:
    """Maps sealed extents, or holes, one after the other; grows `attributes.size` as needed.

    Returns the change of live bytes, and keeps `attributes.holes`.
    """
    uses, size, change = UseCounts(), attributes.size, 0
    for piece in pieces:
        if piece.offset > attributes.size:
            hole = Mapped(attributes.size, piece.offset - attributes.size, None, 0)
            _write(tx, inode, hole)
            attributes.size = piece.offset
        change -= _clear(tx, inode, piece.offset, piece.offset + piece.length, uses)
        _write(tx, inode, piece)
        if piece.place is not None:
            uses.count(piece.place.block, piece.length, piece.length)
            change += piece.length
        attributes.size = max(attributes.size, piece.offset + piece.length)
    uses.write(tx)
    _count_holes(attributes, size, change)
    return change


def _count_holes(attributes: Inode, size: int, change: int) -> None:
    """`size`: before; `change`: of live bytes. Never more than there are, counted or not."""
    grown = attributes.size - size
    attributes.holes = max(0, attributes.holes + grown - change)


def references(tx: Transaction, inode: int, start: int, stop: int, block: bytes) -> list[Mapped]:
    """Items of [start, stop) that refer to `block`; none when the inode is gone."""
    found = mapped(tx, inode, start, stop)
    return [item for item in found if item.place is not None and item.place.block == block]


def move(tx: Transaction, inode: int, item: Mapped, place: Place) -> bool:
    """Lets `item` refer to a copy of its bytes at `place`; False when it is not there any more."""
    value = tx.get(extent_key(inode, item.offset))
    if value is None or item.place is None or _item(extent_key(inode, item.offset), value) != item:
        return False
    _write(tx, inode, Mapped(item.offset, item.length, place, 0))
    count(tx, item.place.block, -item.length)
    count(tx, place.block, item.length, item.length)
    return True


def resize(tx: Transaction, inode: int, attributes: Inode, size: int, most: int) -> int:
    """Moves the end of the file towards `size`, dropping at most about `most` items.

    Sets `attributes.size` to what was reached: call again until it is `size`. Returns the change of
    live bytes, and keeps `attributes.holes`.
    """
    old = attributes.size
    if size >= old:
        if size > old:
            _write(tx, inode, Mapped(old, size - old, None, 0))
        attributes.size = size
        _count_holes(attributes, old, 0)
        return 0
    low, high = kind_range(inode, EXTENT)
    reached, items = old, 0
    for key, _ in tx.scan(low, high, reverse=True):
        if reached <= size or items >= most:
            break
        reached, items = tail_u64(key), items + 1
    reached = max(size, reached)
    attributes.size = reached
    uses = UseCounts()
    change = -_clear(tx, inode, reached, old, uses)
    uses.write(tx)
    _count_holes(attributes, old, change)
    return change
