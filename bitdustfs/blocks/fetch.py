"""Reads sealed extents from suppliers: one range from one of them when all is well, else k others.

A healthy read asks the supplier of the slice for exactly the range. Extents that follow each other
in a block are one range. When that supplier fails, hangs or lies, k others are asked for the same
range widened to whole chunks; each answer is checked against the signed header, so a liar is named
and left out. Everything ends by a total deadline.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.health import Health
from bitdustfs.blocks.runs import KeepRange, make_slice, piece_of
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.fragment import check_chunks_untrusted, check_range_untrusted
from bitdustfs.core.hashing import digest
from bitdustfs.core.records import BlockHeader, Place, open_header_untrusted
from bitdustfs.core.spans import SliceRange, locate, slice_length, widen
from bitdustfs.errors import Malformed, PeerError, Refused, Unavailable
from bitdustfs.net.supplier import Supplier
from bitdustfs.units import KIB

log = logging.getLogger(__name__)

READ_DEADLINE = 20.0  #: seconds after which a read gives up, all retries included
BOUNDED = 120.0  #: seconds more where this node may not use all of its line
HEDGE = 2.0  #: seconds one supplier may take before others are asked as well
SLOWEST = 256 * KIB  #: bytes a second below which a supplier is slow
TOO_LATE = "no answer from enough suppliers in time; try again later"
HEADERS_KEPT = 1024
KEEP_FROM = 4  #: extents in a run, from which the rest of the file is expected to be read, too
#: opens sealed pieces in a worker thread: each as its reference names it, else None
OpenRun = Callable[[Sequence[Place], Sequence[Buffer | None]], list[bytes | None]]


class Fetcher:
    """Reads from the suppliers of a circle."""

    def __init__(self, circle: Circle) -> None:
        self.circle = circle
        self._headers: OrderedDict[bytes, tuple[BlockHeader, bytes]] = OrderedDict()
        self._chunks: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    async def fetch(self, place: Place) -> bytes:
        """The sealed bytes at `place`, matching its hash; or Unavailable."""
        self.circle.require_somebody()
        with trio.move_on_after(self._deadline(place.length)):
            return await self._fetch(place)
        raise Unavailable(TOO_LATE)

    async def _fetch(self, place: Place) -> bytes:
        header = await self.header(place.block)
        per_slice = slice_length(header.length, header.k)
        parts = list(locate(place.offset, place.length, per_slice))
        direct = [await self._direct(header, part) for part in parts]
        if None not in direct:
            sealed = b"".join(data for data in direct if data is not None)
            if digest(sealed) == place.hash:
                return sealed
        # somebody failed or lied: this time check every chunk
        proven = [await self._proven(header, part) for part in parts]
        sealed = b"".join(proven)
        if digest(sealed) != place.hash:
            raise Unavailable(f"block {place.block.hex()} does not hold what the tree names")
        return sealed

    async def fetch_run(
        self, places: Sequence[Place], open_run: OpenRun, keep: KeepRange
    ) -> list[bytes | Unavailable]:
        """What `open_run` makes of the extents at `places` (see `runs`), or why it is not there.

        What it refuses, or somebody did not give, is read once more with every chunk checked.
        `keep` gets what came by the way: k fragments give the same range of all slices. Both run in
        a thread.
        """
        opened: list[bytes | None] = [None] * len(places)
        why, size = TOO_LATE, sum(place.length for place in places)
        with trio.move_on_after(self._deadline(size)):
            try:
                self.circle.require_somebody()
                header = await self.header(places[0].block)
                await self._open_parts(header, places, open_run, opened, self._direct)
                proven = partial(self._proven, keep=keep if len(places) >= KEEP_FROM else None)
                await self._open_parts(header, places, open_run, opened, proven)
                why = f"block {header.block.hex()} does not hold what the tree names"
            except Unavailable as error:
                why = str(error)
        return [Unavailable(why) if plain is None else plain for plain in opened]

    async def _open_parts(
        self,
        header: BlockHeader,
        places: Sequence[Place],
        open_run: OpenRun,
        opened: list[bytes | None],
        ask: Callable[[BlockHeader, SliceRange], Awaitable[Buffer | None]],
    ) -> None:
        """Opens what is not `opened` yet of what `ask` gives of the slices, all asked at once.

        Raises Unavailable after that, where `ask` did.
        """
        left = [number for number, plain in enumerate(opened) if plain is None]
        if not left:
            return
        wanted = [places[number] for number in left]
        per_slice = slice_length(header.length, header.k)
        start, stop = wanted[0].offset, wanted[-1].offset + wanted[-1].length
        parts: dict[SliceRange, Buffer | None] = {}
        failures: list[Unavailable] = []

        async def one(part: SliceRange) -> None:
            try:
                parts[part] = await ask(header, part)
            except Unavailable as error:
                parts[part] = None
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for part in locate(start, stop - start, per_slice):
                nursery.start_soon(one, part)
        pieces = [piece_of(place, per_slice, parts) for place in wanted]
        there = [number for number, piece in enumerate(pieces) if piece is not None]
        if there:
            for number, plain in zip(
                left, await trio.to_thread.run_sync(open_run, wanted, pieces), strict=True
            ):
                opened[number] = plain
        if failures:
            raise failures[0]

    def _deadline(self, length: int) -> float:
        """Seconds for a read of so much."""
        return READ_DEADLINE + (BOUNDED + more if (more := self.held_up(length)) else 0.0)

    def held_up(self, length: int) -> float:
        """Seconds that so much may take longer on a bounded line, also of k others."""
        return self._supplier(0)[0].held_up(length * (1 + self.circle.family.group.k))

    def _supplier(self, position: int) -> tuple[Supplier, Health]:
        node = self.circle.serving(position)
        return self.circle.supplier(node), self.circle.health(node)

    async def _direct(self, header: BlockHeader, part: SliceRange) -> Buffer | None:
        supplier, health = self._supplier(part.position)
        length = part.stop - part.start
        if not health.usable:
            return None
        async with supplier.asking(length):
            with trio.move_on_after(HEDGE + length / SLOWEST + supplier.coming(length)):
                try:
                    data = await supplier.read(header.block, part.position, part.start, length)
                except PeerError as error:
                    health.fault(error)
                    return None
                health.ok()
                return data
        health.slow()
        return None

    async def _proven(
        self, header: BlockHeader, part: SliceRange, keep: KeepRange | None = None
    ) -> Buffer:
        """The range from its own supplier if every chunk proves right, else from k others."""
        length = slice_length(header.length, header.k)
        start, stop = widen(part.start, part.stop, length)
        usable = self._supplier(part.position)[1].usable
        whole = await self.try_prove(header, part.position, start, stop) if usable else None
        if whole is None:
            try:
                whole = await self._degraded(header, part.position, start, stop, keep)
            except Unavailable:
                if not usable:  # it may be back
                    whole = await self.try_prove(header, part.position, start, stop)
                if whole is None:
                    raise
        return memoryview(whole)[part.start - start : part.stop - start]

    async def prove(self, header: BlockHeader, position: int, start: int, stop: int) -> Buffer:
        """Whole chunks of one fragment, checked. Raises Malformed or PeerError, noted as health."""
        return await self.prove_at(self._supplier(position)[0], header, position, start, stop)

    async def prove_at(
        self, supplier: Supplier, header: BlockHeader, position: int, start: int, stop: int
    ) -> Buffer:
        """The same of one supplier, of the family or not."""
        health = self.circle.health(supplier.node)
        try:
            chunks = await self._chunk_hashes(header, position, supplier)
            data = await supplier.read(header.block, position, start, stop - start)
            check_range_untrusted(chunks, start, slice_length(header.length, header.k), data)
        except (PeerError, Malformed) as error:
            log.info("supplier %s: %s", supplier.node.hex()[:12], error)
            health.fault(error)
            self._note_damage(header, position, supplier.node, error)
            raise
        health.ok()
        return data

    def _note_damage(
        self, header: BlockHeader, position: int, node: bytes, error: PeerError | Malformed
    ) -> None:
        """Notes what has to be made again: of whom the position is, not of who keeps a copy."""
        is_wrong = isinstance(error, Malformed)
        is_gone = isinstance(error, Refused) and error.code == "damaged"
        if (is_wrong or is_gone) and node in self.circle.holders(position):
            self.circle.damage.found(header.block, position, node, (header.k, header.n))

    async def try_prove(
        self, header: BlockHeader, position: int, start: int, stop: int, node: bytes = b""
    ) -> Buffer | None:
        """As `prove`; None when it fails, or takes longer than another supplier would.

        `node`: whom to ask, where it is not who serves the position.
        """
        node = node or self.circle.serving(position)
        supplier, length = self.circle.supplier(node), stop - start
        async with supplier.asking(length):
            with trio.move_on_after(HEDGE + length / SLOWEST + supplier.coming(length)):
                try:
                    return await self.prove_at(supplier, header, position, start, stop)
                except (PeerError, Malformed):
                    return None
        self.circle.health(node).slow()
        return None

    async def _chunk_hashes(self, header: BlockHeader, position: int, supplier: Supplier) -> bytes:
        key = (header.block, position)
        chunks = self._chunks.get(key)
        if chunks is None:
            chunks = (await supplier.head(header.block, position)).chunks
            check_chunks_untrusted(header, position, chunks)
            self._chunks[key] = chunks
            if len(self._chunks) > HEADERS_KEPT:
                self._chunks.popitem(last=False)
        return chunks

    async def _degraded(
        self, header: BlockHeader, position: int, start: int, stop: int, keep: KeepRange | None
    ) -> Buffer:
        """The same chunks of slice `position`, made from k others."""
        got = await self.gather(header, (position,), start, stop)
        return await trio.to_thread.run_sync(make_slice, header, got, position, start, keep)

    async def gather(
        self, header: BlockHeader, without: Collection[int], start: int, stop: int
    ) -> dict[int, Buffer]:
        """Chunks [start, stop) of k fragments, each proven; or Unavailable.

        The suppliers of the positions `without` are not asked. Reserves that were given fragments
        while a supplier was away are asked last, for those as well.
        """
        ranked = sorted((p for p in range(header.n) if p not in without), key=self._rank)
        others = [(position, self.circle.serving(position)) for position in ranked]
        others += [(p, node) for p in range(header.n) for node in self.circle.copies.of(p)]
        got: dict[int, Buffer] = {}

        async def worker(nursery: trio.Nursery) -> None:
            while others:
                position, node = others.pop(0)
                if position in got:
                    continue
                data = await self.try_prove(header, position, start, stop, node)
                if data is not None and position not in got:
                    got[position] = data
                    if len(got) >= header.k:
                        nursery.cancel_scope.cancel()
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(header.k):
                nursery.start_soon(worker, nursery)
        if len(got) < header.k:
            raise Unavailable(
                f"{len(got)} of the {header.k} suppliers needed gave their share of a block; "
                "it can be read when more are back"
            )
        return got

    def _rank(self, position: int) -> tuple[bool, int, int]:
        """Whom to ask first: those that work, then those that were never caught."""
        health = self._supplier(position)[1]
        return (not health.usable, health.damaged, position)

    async def header(self, block: bytes) -> BlockHeader:
        """The header of a block, from whoever answers first with a genuine one."""
        return (await self.signed_header(block))[0]

    async def signed_header(self, block: bytes) -> tuple[BlockHeader, bytes]:
        """The same, and the bytes as they were signed. Raises Unavailable."""
        known = self._headers.get(block)
        if known is not None:
            return known
        found: list[tuple[BlockHeader, bytes]] = []
        async with trio.open_nursery() as nursery:
            for position in range(self.circle.family.group.n):
                for node in (*self.circle.holders(position), *self.circle.copies.of(position)):
                    nursery.start_soon(self._ask_header, block, node, position, found, nursery)
        if not found:
            raise Unavailable("no supplier that answers knows this block; try again later")
        self._keep(block, found[0])
        return found[0]

    async def _ask_header(
        self,
        block: bytes,
        node: bytes,
        position: int,
        found: list[tuple[BlockHeader, bytes]],
        nursery: trio.Nursery,
    ) -> None:
        """Adds a genuine header to `found`, and ends the search."""
        try:
            found.append(await self._shown(self.circle.supplier(node), block, position))
        except (PeerError, Malformed):
            return
        nursery.cancel_scope.cancel()

    async def header_at(self, supplier: Supplier, block: bytes, position: int) -> BlockHeader:
        """The header of a block; where it is not known yet, as one supplier shows it.

        Raises Malformed or PeerError (noted in the supplier's health).
        """
        if block not in self._headers:
            self._keep(block, await self._shown(supplier, block, position))
        return self._headers[block][0]

    async def _shown(
        self, supplier: Supplier, block: bytes, position: int
    ) -> tuple[BlockHeader, bytes]:
        try:
            head = await supplier.head(block, position)
            header = open_header_untrusted(head.header, self.circle.family.vault)
            if header.block != block or position >= header.n:
                raise Malformed("a header of another block")
        except (PeerError, Malformed) as error:
            if not (isinstance(error, Refused) and error.code == "not-found"):
                self.circle.health(supplier.node).fault(error)
            raise
        return header, head.header

    def _keep(self, block: bytes, shown: tuple[BlockHeader, bytes]) -> None:
        self._headers[block] = shown
        if len(self._headers) > HEADERS_KEPT:
            self._headers.popitem(last=False)
