"""Extents that follow each other in a block: they are read, and kept, as one range.

Pure: places and bytes in, ranges and bytes out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from bitdustfs.core.erasure import Buffer, ErasureCode
from bitdustfs.core.records import BlockHeader, Place
from bitdustfs.core.spans import SliceRange, locate, slice_length
from bitdustfs.units import KIB, READ_MAX

RUN_MAX = READ_MAX // 2  #: bytes that are read as one range
RUN_GAP = 16 * KIB  #: bytes between two extents that are read in vain rather than asked for apart
KeepRange = Callable[[int, Sequence[Buffer]], None]  #: of bytes of a block, from an offset on


def runs(places: Iterable[Place]) -> Iterator[list[Place]]:
    """`places` as lists that can be read as one range each: of one block, one after another."""
    run: list[Place] = []
    for place in places:
        if run and not _follows(place, run):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _follows(place: Place, run: Sequence[Place]) -> bool:
    gap = place.offset - run[-1].offset - run[-1].length
    size = place.offset + place.length - run[0].offset
    return place.block == run[-1].block and 0 <= gap <= RUN_GAP and size <= RUN_MAX


def piece_of(
    place: Place, per_slice: int, parts: Mapping[SliceRange, Buffer | None]
) -> Buffer | None:
    """The bytes at `place` out of `parts` of slices that cover it; None where one did not come.

    `per_slice`: bytes of a slice.
    """
    pieces: list[Buffer] = []
    for wanted in locate(place.offset, place.length, per_slice):
        for part, data in parts.items():
            if part.position == wanted.position:
                if data is None:
                    return None
                at = wanted.start - part.start
                pieces.append(memoryview(data)[at : at + wanted.stop - wanted.start])
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def stretches(pieces: Iterable[tuple[int, Buffer]]) -> Iterator[tuple[int, list[Buffer]]]:
    """Pieces at offsets, in order: those that touch each other together."""
    begin, end, together = 0, -1, list[Buffer]()
    for offset, piece in pieces:
        if offset != end:
            if together:
                yield begin, together
            begin, together = offset, []
        together.append(piece)
        end = offset + len(piece)
    if together:
        yield begin, together


def make_slice(
    header: BlockHeader,
    got: Mapping[int, Buffer],
    position: int,
    start: int,
    keep: KeepRange | None,
) -> Buffer:
    """Slice `position` of a block from `start` on, out of the same range of k fragments.

    `keep` gets that range of the other slices.
    """
    lacking = [p for p in range(header.k) if p not in got] if keep else [position]
    made = zip(lacking, ErasureCode(header.k, header.n).rebuild(got, lacking), strict=True)
    slices = {**got, **dict(made)}
    if keep is not None:
        for other in range(header.k):
            offset = other * slice_length(header.length, header.k) + start
            piece = memoryview(slices[other])[: max(0, header.length - offset)]
            if other != position and piece:
                keep(offset, [piece])
    return slices[position]
