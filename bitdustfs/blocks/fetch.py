"""Reads sealed extents from suppliers: one range from one of them when all is well, else k others.

A healthy read asks the supplier of the slice for exactly the range. When that one fails, hangs or
lies, k others are asked for the same range widened to whole chunks; each answer is checked against
the signed header, so a liar is named and left out. Everything ends by a total deadline.
"""

import logging
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import trio

from bitdustfs.core.erasure import ErasureCode
from bitdustfs.core.fragment import check_chunks_untrusted, check_range_untrusted
from bitdustfs.core.hashing import digest
from bitdustfs.core.records import BlockHeader, Family, Member, Place, open_header_untrusted
from bitdustfs.core.spans import Piece, locate, slice_length, widen
from bitdustfs.errors import Malformed, PeerError, Refused, Unavailable
from bitdustfs.net.supplier import Connect, Supplier
from bitdustfs.units import KIB

log = logging.getLogger(__name__)

READ_DEADLINE = 20.0  #: seconds after which a read gives up, all retries included
HEDGE = 2.0  #: seconds one supplier may take before others are asked as well
SLOWEST = 256 * KIB  #: bytes a second below which a supplier is slow
AVOID_FIRST, AVOID_MAX = 1.0, 60.0  #: seconds that a failing supplier is not asked first
HEADERS_KEPT = 1024


@dataclass
class Health:
    """What was seen of one supplier since the mount."""

    damaged: int = 0  #: answers that failed their hash
    missing: int = 0  #: fragments it did not have; no fault of its own if it was away
    failed: int = 0  #: calls that failed otherwise
    served: int = 0
    silent: int = 0  #: audits in a row that it left unanswered
    refused_deletes: int = 0  #: deletions in a row that it refused
    last_error: str = ""
    reachable: bool = True
    avoided_until: float = -1.0
    _avoid: float = AVOID_FIRST

    @property
    def usable(self) -> bool:
        """Whether to ask it first: it did not fail just now."""
        return trio.current_time() >= self.avoided_until

    def ok(self) -> None:
        self.served += 1
        self.reachable = True
        self.avoided_until, self._avoid = -1.0, AVOID_FIRST

    def slow(self) -> None:
        """It took longer than another would: others are asked first for a while."""
        self.avoided_until = trio.current_time() + self._avoid
        self._avoid = min(AVOID_MAX, self._avoid * 2)

    def fault(self, error: Exception) -> None:
        """Notes a failure; damage is told apart from absence."""
        self.last_error = str(error)
        code = error.code if isinstance(error, Refused) else ""
        damage = isinstance(error, Malformed) or code == "damaged"
        self.missing += code == "not-found"
        if damage:
            self.damaged += 1
            return
        self.failed += 1
        self.reachable = isinstance(error, Refused)
        if not self.reachable:
            self.slow()


class Fetcher:
    """Reads from the suppliers of a family. `suppliers` maps node key to its session."""

    def __init__(self, family: Family, connect: Connect) -> None:
        self.connect = connect
        self.suppliers: dict[bytes, Supplier] = {}
        self.health: dict[bytes, Health] = {}
        self.stand_ins: dict[int, bytes] = {}  #: position of group 0 -> reserve that has a copy
        self.move(family)
        self._headers: OrderedDict[bytes, tuple[BlockHeader, bytes]] = OrderedDict()
        self._chunks: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    def move(self, family: Family) -> None:
        """From now on the suppliers are those of `family`. What is known of others stays."""
        self.family = family
        reserves = {member.node for member in family.bench}
        self.stand_ins = {p: node for p, node in self.stand_ins.items() if node in reserves}
        for group in family.groups:
            for member in group.members:
                self._know(member)

    def _know(self, member: Member) -> None:
        if member.node not in self.suppliers:
            self.suppliers[member.node] = self.connect(member)
            self.health[member.node] = Health()

    def session(self, member: Member) -> Supplier:
        """The session with a member of the family or a reserve; its health is kept from then on."""
        self._know(member)
        return self.suppliers[member.node]

    def add_stand_in(self, position: int, node: bytes) -> None:
        """A reserve has a copy of a position: it is read where the position's own supplier fails."""
        for member in self.family.bench:
            if member.node == node and position < self.family.group.n:
                self._know(member)
                self.stand_ins[position] = node

    def holders(self, group: int, position: int) -> list[bytes]:
        """The suppliers that may have a position's fragments: its own, then who stands in for it."""
        nodes = [self.family.group.members[position].node]
        if group == 0 and position in self.stand_ins:
            nodes.append(self.stand_ins[position])
        return nodes

    async def fetch(self, place: Place) -> bytes:
        """The sealed bytes at `place`, matching its hash; or Unavailable."""
        with trio.move_on_after(READ_DEADLINE):
            return await self._fetch(place)
        raise Unavailable(
            f"no answer from enough suppliers within {READ_DEADLINE:.0f} s; try again later"
        )

    async def _fetch(self, place: Place) -> bytes:
        header = await self.header(place.block)
        per_slice = slice_length(header.length, header.k)
        pieces = list(locate(place.offset, place.length, per_slice))
        direct = [await self._direct(header, piece) for piece in pieces]
        if None not in direct:
            sealed = b"".join(part for part in direct if part is not None)
            if digest(sealed) == place.hash:
                return sealed
        # somebody failed or lied: this time check every chunk
        proven = [await self._proven(header, piece) for piece in pieces]
        sealed = b"".join(proven)
        if digest(sealed) != place.hash:
            raise Unavailable(f"block {place.block.hex()} does not hold what the tree names")
        return sealed

    def _supplier(self, header: BlockHeader, position: int) -> tuple[Supplier, Health]:
        nodes = self.holders(header.group, position)
        node = next((node for node in nodes if self.health[node].usable), nodes[0])
        return self.suppliers[node], self.health[node]

    def serving(self, header: BlockHeader, position: int) -> bytes:
        """The key of the supplier that is asked for a position's fragments just now."""
        return self._supplier(header, position)[0].node

    def health_of(self, header: BlockHeader, position: int) -> Health:
        """The health of the supplier at a position of a block's group."""
        return self._supplier(header, position)[1]

    async def _direct(self, header: BlockHeader, piece: Piece) -> bytes | None:
        supplier, health = self._supplier(header, piece.position)
        length = piece.stop - piece.start
        if not health.usable:
            return None
        with trio.move_on_after(HEDGE + length / SLOWEST):
            try:
                data = await supplier.read(header.block, piece.position, piece.start, length)
            except PeerError as error:
                health.fault(error)
                return None
            health.ok()
            return data
        health.slow()
        return None

    async def _proven(self, header: BlockHeader, piece: Piece) -> bytes:
        """The piece from its own supplier if every chunk proves right, else from k others."""
        length = slice_length(header.length, header.k)
        start, stop = widen(piece.start, piece.stop, length)
        usable = self._supplier(header, piece.position)[1].usable
        whole = await self.try_prove(header, piece.position, start, stop) if usable else None
        if whole is None:
            try:
                whole = await self._degraded(header, piece.position, start, stop)
            except Unavailable:
                if not usable:  # it may be back
                    whole = await self.try_prove(header, piece.position, start, stop)
                if whole is None:
                    raise
        return whole[piece.start - start : piece.stop - start]

    async def prove(self, header: BlockHeader, position: int, start: int, stop: int) -> bytes:
        """Whole chunks of one fragment, checked. Raises Malformed or PeerError (noted in its health)."""
        return await self.prove_at(
            self._supplier(header, position)[0], header, position, start, stop
        )

    async def prove_at(
        self, supplier: Supplier, header: BlockHeader, position: int, start: int, stop: int
    ) -> bytes:
        """The same of one supplier, of the family or not."""
        health = self.health.setdefault(supplier.node, Health())
        try:
            chunks = await self._chunk_hashes(header, position, supplier)
            data = await supplier.read(header.block, position, start, stop - start)
            check_range_untrusted(chunks, start, slice_length(header.length, header.k), data)
        except (PeerError, Malformed) as error:
            log.info("supplier %s: %s", supplier.node.hex()[:12], error)
            health.fault(error)
            raise
        health.ok()
        return data

    async def try_prove(
        self, header: BlockHeader, position: int, start: int, stop: int
    ) -> bytes | None:
        """As `prove`; None when it fails, or takes longer than another supplier would."""
        with trio.move_on_after(HEDGE + (stop - start) / SLOWEST):
            try:
                return await self.prove(header, position, start, stop)
            except (PeerError, Malformed):
                return None
        self._supplier(header, position)[1].slow()
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

    async def _degraded(self, header: BlockHeader, position: int, start: int, stop: int) -> bytes:
        """The same chunks of fragment `position`, made from k others."""
        got = await self.gather(header, (position,), start, stop)
        return bytes(ErasureCode(header.k, header.n).rebuild(got, [position])[0])

    async def gather(
        self, header: BlockHeader, without: Collection[int], start: int, stop: int
    ) -> dict[int, bytes]:
        """Chunks [start, stop) of k fragments other than `without`, each proven; or Unavailable."""
        others = sorted((p for p in range(header.n) if p not in without), key=self._order(header))
        got: dict[int, bytes] = {}

        async def worker(nursery: trio.Nursery) -> None:
            while others:
                candidate = others.pop(0)
                data = await self.try_prove(header, candidate, start, stop)
                if data is not None:
                    got[candidate] = data
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

    def _order(self, header: BlockHeader):  # type: ignore[no-untyped-def]
        def rank(position: int) -> tuple[bool, int, int]:
            health = self._supplier(header, position)[1]
            return (not health.usable, health.damaged, position)

        return rank

    async def header(self, block: bytes) -> BlockHeader:
        """The header of a block, from whoever answers first with a genuine one."""
        return (await self.signed_header(block))[0]

    async def signed_header(self, block: bytes) -> tuple[BlockHeader, bytes]:
        """The same, and the bytes as they were signed. Raises Unavailable."""
        known = self._headers.get(block)
        if known is not None:
            return known
        found: list[tuple[BlockHeader, bytes]] = []

        async def ask(node: bytes, position: int, nursery: trio.Nursery) -> None:
            supplier, health = self.suppliers[node], self.health[node]
            try:
                head = await supplier.head(block, position)
                header = open_header_untrusted(head.header, self.family.vault)
                if header.block != block:
                    raise Malformed("a header of another block")
            except Refused as error:
                if error.code != "not-found":
                    health.fault(error)
                return
            except (PeerError, Malformed) as error:
                health.fault(error)
                return
            found.append((header, head.header))
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for number, group in enumerate(self.family.groups):
                for position in range(group.n):
                    for node in self.holders(number, position):
                        nursery.start_soon(ask, node, position, nursery)
        if not found:
            raise Unavailable("no supplier that answers knows this block; try again later")
        self._headers[block] = found[0]
        if len(self._headers) > HEADERS_KEPT:
            self._headers.popitem(last=False)
        return found[0]
