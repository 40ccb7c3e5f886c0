"""Arithmetic on byte ranges: extents of a file, slices of a block, chunks of a fragment.

Pure integers, all in bytes; `start` is included, `stop` is not.
"""

from collections.abc import Iterator
from typing import NamedTuple

from bitdustfs.units import CHUNK_SIZE, SLICE_ALIGN


class SliceRange(NamedTuple):
    """A part of a block range that lies in one slice: `position`, and the range inside the
    slice.
    """

    position: int
    start: int
    stop: int


def slice_length(block_length: int, k: int) -> int:
    """Bytes of each of the k slices of a block: the block padded to k equal, aligned slices.

    Never 0, so that even an empty block has fragments.
    """
    per_slice = -(-max(block_length, 1) // k)
    return -(-per_slice // SLICE_ALIGN) * SLICE_ALIGN


def locate(offset: int, length: int, per_slice: int) -> Iterator[SliceRange]:
    """The slices that hold [offset, offset + length) of a block, in order. One, or two at a
    seam.
    """
    end = offset + length
    while offset < end:
        position, start = divmod(offset, per_slice)
        stop = min(per_slice, start + end - offset)
        yield SliceRange(position, start, stop)
        offset += stop - start


def widen(start: int, stop: int, length: int) -> tuple[int, int]:
    """[start, stop) of a fragment of `length` bytes, widened to whole chunks (the last may be
    short).
    """
    return start // CHUNK_SIZE * CHUNK_SIZE, min(length, -(-stop // CHUNK_SIZE) * CHUNK_SIZE)


def chunk_count(length: int) -> int:
    """Chunks of a fragment of `length` bytes."""
    return -(-length // CHUNK_SIZE)


def split_aligned(offset: int, length: int, unit: int) -> Iterator[tuple[int, int]]:
    """(offset, length) pieces of a range, cut at multiples of `unit`."""
    end = offset + length
    while offset < end:
        stop = min(end, (offset // unit + 1) * unit)
        yield offset, stop - offset
        offset = stop
