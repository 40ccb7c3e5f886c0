"""Who keeps what of a vault of which nothing else is known: lists, until they are proven.

Lists are claims, and numbers that suppliers tell are only theirs. So a list ends after LISTED_MAX
fragments and LIST_DEADLINE seconds; whoever cannot show MISSES_MAX blocks that it listed, more than
it showed, is asked for no further ones; a position goes to whoever gave chunks of its fragments
that match what the owner signed; and how much each promised is what half of them say, and at least
what is there.
"""

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import trio

from bitdustfs.core.fragment import check_chunks_untrusted, check_range_untrusted
from bitdustfs.core.records import BlockHeader, open_header_untrusted
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Malformed, PeerError, Refused
from bitdustfs.net.supplier import Supplier
from bitdustfs.rebuild.census import LIST_DEADLINE, LISTED_MAX, page_after
from bitdustfs.units import CHUNK_SIZE

log = logging.getLogger(__name__)

MISSES_MAX = 100  #: blocks that one supplier may list and not show
SILENCE_COST = 10  #: misses that a request without an answer counts as: each takes seconds
PROOFS = 3  #: chunks of a position that its keeper shows, most of which have to be right
Tell = Callable[[str], None]


class Keepers:
    """The suppliers that answer, and what they list of one vault."""

    def __init__(self, vault: bytes, suppliers: Sequence[Supplier], say: Tell) -> None:
        self._vault, self._say = vault, say
        self._suppliers = {supplier.node: supplier for supplier in suppliers}
        self._listed: dict[bytes, list[tuple[bytes, int]]] = defaultdict(list)  # (node, position)
        self._shown: Counter[bytes] = Counter()
        self._missed: Counter[bytes] = Counter()

    async def hear(self) -> None:
        """Asks all for their lists."""
        for node, supplier in self._suppliers.items():
            fragments = 0
            try:
                with trio.move_on_after(LIST_DEADLINE) as scope:
                    after, more = b"", True
                    while more and fragments < LISTED_MAX:
                        keys, more = await page_after(supplier, after)
                        for key in keys:
                            self._listed[key[:16]].append((node, key[16]))
                        fragments += len(keys)
                        after = keys[-1] if keys else after
                if scope.cancelled_caught or more:
                    self._say(
                        f"supplier {node.hex()[:12]} lists more than anybody reads: "
                        f"{fragments} fragments of it are looked at"
                    )
            except PeerError as error:
                self._say(f"a supplier does not help: {error}")

    async def headers(self) -> dict[bytes, BlockHeader]:
        """The headers of all blocks that somebody can show; what many list comes first."""
        found = {}
        for block in sorted(self._listed, key=lambda b: -len(self._listed[b])):
            for node, position in self._listed[block]:
                header = await self._header(block, node, position)
                if header is not None:
                    found[block] = header
                    break
        return found

    async def _header(self, block: bytes, node: bytes, position: int) -> BlockHeader | None:
        if self._missed[node] > max(MISSES_MAX, self._shown[node]):
            return None
        try:
            head = await self._suppliers[node].head(block, position)
            header = open_header_untrusted(head.header, self._vault)
            if header.block != block:
                raise Malformed("a header of another block")
        except (PeerError, Malformed) as error:
            log.info("a header of block %s: %s", block.hex(), error)
            silent = isinstance(error, PeerError) and not isinstance(error, Refused)
            self._missed[node] += SILENCE_COST if silent else 1
            return None
        self._shown[node] += 1
        return header

    async def positions(self, headers: Mapping[bytes, BlockHeader], n: int) -> dict[int, Supplier]:
        """Who keeps which of n positions, as far as it is proven; each supplier has one at most."""
        blocks: dict[tuple[int, bytes], list[bytes]] = defaultdict(list)
        for block in headers:
            for node, position in self._listed[block]:
                blocks[position, node].append(block)
        found: dict[int, Supplier] = {}
        taken: set[bytes] = set()
        for position, node in sorted(blocks, key=lambda where: -len(blocks[where])):
            if position >= n or position in found or node in taken:
                continue
            theirs = [headers[block] for block in blocks[position, node]]
            if await self._proves(self._suppliers[node], position, theirs):
                found[position] = self._suppliers[node]
                taken.add(node)
        return found

    async def _proves(
        self, supplier: Supplier, position: int, headers: Sequence[BlockHeader]
    ) -> bool:
        """Whether random chunks of a position's fragments are what the owner signed."""
        right = 0
        sample = random.sample(headers, min(PROOFS, len(headers)))
        for header in sample:
            start = random.randrange(0, slice_length(header.length, header.k), CHUNK_SIZE)
            try:
                chunks = (await supplier.head(header.block, position)).chunks
                length = check_chunks_untrusted(header, position, chunks)
                size = min(CHUNK_SIZE, length - start)
                data = await supplier.read(header.block, position, start, size)
                check_range_untrusted(chunks, start, length, data)
                right += 1
            except (PeerError, Malformed) as error:
                log.info("%s as position %d: %s", supplier.node.hex()[:12], position, error)
        return 2 * right > len(sample)


async def promised(suppliers: Iterable[Supplier], headers: Iterable[BlockHeader]) -> int:
    """Bytes that each supplier promised, as half of them say; at least what is there."""
    told = []
    for supplier in suppliers:
        try:
            told.append((await supplier.usage()).space)
        except PeerError as error:
            log.info("%s tells no usage: %s", supplier.node.hex()[:12], error)
    there = sum(slice_length(header.length, header.k) for header in headers)
    return max(sorted(told)[(len(told) - 1) // 2] if told else 0, there)
