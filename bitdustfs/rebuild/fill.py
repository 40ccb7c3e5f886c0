"""Gives a supplier all fragments of a position: copied where somebody has them, else made again."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.fragment import Fragment, chunk_hashes
from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import DeadlineExceeded, Malformed, PeerError, Refused, Unavailable
from bitdustfs.rebuild.pace import Pace
from bitdustfs.rebuild.remake import WINDOW, remake
from bitdustfs.units import KIB

log = logging.getLogger(__name__)

IN_FLIGHT = 2  #: blocks worked on at once
NO_ROOM = ("no-space", "quota", "retained")  #: codes of refusals for want of room
PUT_SECONDS = 60.0  #: seconds for one put, besides what its bytes take at FLOOR
FLOOR = 4 * KIB  #: bytes a second
IN_VAIN_MAX = 2  #: puts in a row that took longer, after which the supplier is given up
Local = Callable[[bytes, int], Awaitable[Fragment | None]]


def _always() -> bool:
    return True


def _floor() -> float:
    return FLOOR


class Takes(Protocol):
    """What fragments are placed with: a Supplier, or a supplier's own shelf."""

    async def put(
        self,
        block: bytes,
        position: int,
        claim: bytes,
        header: bytes,
        chunks: bytes,
        payload: Buffer,
    ) -> None: ...


class Fill:
    """One position on its way to another supplier.

    `claim`: what this machine writes under by then. `local` makes fragments from what is here.
    `wanted` is asked before each block: not any more ends the run. `floor`: bytes a second that the
    supplier has to come to. The policy's bandwidth is kept to.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        supplier: Takes,
        position: int,
        claim: Callable[[], bytes],
        local: Local,
        wanted: Callable[[], bool] = _always,
        floor: Callable[[], float] = _floor,
    ) -> None:
        self._fetcher, self._supplier = fetcher, supplier
        self._position, self._claim, self._local = position, claim, local
        self._wanted, self._floor = wanted, floor
        self._pace = Pace(fetcher.circle.family.policy.bandwidth)
        self.done = self.total = 0
        self.failed: set[bytes] = set()
        self.placed: set[bytes] = set()  #: in all runs
        self.bytes = 0
        self._refusal: Refused | Unavailable | None = None  # why there is no more to place there
        self._in_vain = 0  # puts in a row that took too long

    async def run(self, blocks: Sequence[bytes]) -> None:
        """Puts the fragments of `blocks`, in their order; `failed` are those not had or not
        placed.

        Raises Refused as soon as the supplier has no room, Unavailable as soon as it turns out to
        be too slow: nothing more is moved in vain.
        """
        self.total, self.done, self.failed, self._refusal = len(blocks), 0, set(), None
        waiting = list(blocks)

        async def work() -> None:
            while waiting and self._refusal is None and self._wanted():
                block = waiting.pop(0)
                try:
                    await self._one(block)
                except (PeerError, Unavailable, Malformed) as error:
                    self.failed.add(block)
                    log.info("block %s cannot be filled in now: %s", block.hex(), error)
                self.done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(work)
        if self._refusal is not None:
            raise self._refusal

    async def _one(self, block: bytes) -> None:
        header, raw = await self._fetcher.signed_header(block)
        size = slice_length(header.length, header.k)
        await self._pace.take(size)
        fragment = await self._local(block, self._position)
        if fragment is None:
            await self._pace.take(size)
            fragment = await self._copy(header)
        if fragment is None:
            await self._pace.take((header.k - 1) * size)
            fragment = (await remake(self._fetcher, header, [self._position]))[self._position]
        await self._put(block, raw, fragment)
        self.bytes += len(fragment)
        self.placed.add(block)

    async def _put(self, block: bytes, header: bytes, fragment: Fragment) -> None:
        """Raises DeadlineExceeded where the supplier takes it byte after byte, for hours."""
        floor = self._floor()
        # another one may be on its way there, before this one
        seconds = PUT_SECONDS + IN_FLIGHT * len(fragment) / floor
        with trio.move_on_after(seconds) as scope:
            try:
                await self._supplier.put(
                    block, self._position, self._claim(), header, fragment.chunks, fragment.payload
                )
            except Refused as refusal:
                if refusal.code in NO_ROOM:
                    self._refusal = refusal
                raise
        if not scope.cancelled_caught:
            self._in_vain = 0
            return
        self._in_vain += 1
        if self._in_vain >= IN_VAIN_MAX:
            self._refusal = Unavailable(
                f"the supplier that is to have position {self._position} takes less than "
                f"{floor:.0f} bytes a second: choose another one"
            )
        raise DeadlineExceeded(f"not taken within {seconds:.0f} s")

    async def _copy(self, header: BlockHeader) -> Fragment | None:
        """The fragment from the supplier that has the position now, if it answers and is right."""
        if not self._fetcher.circle.health(self._fetcher.circle.serving(self._position)).usable:
            return None
        length = slice_length(header.length, header.k)
        payload = bytearray()
        for start in range(0, length, WINDOW):
            stop = min(length, start + WINDOW)
            part = await self._fetcher.try_prove(header, self._position, start, stop)
            if part is None:
                return None
            payload += part
        return Fragment(self._position, chunk_hashes(payload), payload)
