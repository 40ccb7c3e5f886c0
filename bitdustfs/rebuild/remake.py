"""Fragments made again from k others, bit for bit as the owner signed them. Needs no key."""

from collections.abc import Sequence

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.core.erasure import ErasureCode
from bitdustfs.core.fragment import Fragment, check_chunks_untrusted, chunk_hashes
from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.units import MIB

WINDOW = MIB  #: bytes asked of one supplier at once


async def remake(
    fetcher: Fetcher, header: BlockHeader, positions: Sequence[int]
) -> dict[int, Fragment]:
    """The fragments at `positions`, checked against the signed header.

    Moves k fragments over the network, however many are made. Raises Unavailable when fewer than k
    others are to be had, Forged when the owner himself signed fragments that do not belong
    together.
    """
    length = slice_length(header.length, header.k)
    code = ErasureCode(header.k, header.n)
    made = {position: bytearray() for position in positions}
    for start in range(0, length, WINDOW):
        stop = min(length, start + WINDOW)
        got = await fetcher.gather(header, positions, start, stop)
        for position, part in zip(positions, code.rebuild(got, list(positions)), strict=True):
            made[position] += part
    fragments = {p: Fragment(p, chunk_hashes(payload), payload) for p, payload in made.items()}
    for position, fragment in fragments.items():
        check_chunks_untrusted(header, position, fragment.chunks)
    return fragments
