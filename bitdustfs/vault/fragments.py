"""Verifies what the suppliers keep, position by position, against what they should have."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable

from bitdustfs.cache.rows import OPEN, BlockRow
from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Malformed, PeerError, Refused, Unavailable
from bitdustfs.rebuild.census import Census, take_census
from bitdustfs.units import CHUNK_SIZE
from bitdustfs.vault.findings import Report
from bitdustfs.vault.reading import ReadVault

OnItems = Callable[[str, int, int], Awaitable[None]]


class Fragments:
    """The fragments of one vault's blocks. `sample`: share of their chunks that is fetched."""

    def __init__(self, vault: ReadVault, report: Report, sample: float) -> None:
        self._vault, self._report, self._sample = vault, report, sample
        self._random = random.Random()
        self._census = Census({})
        self._blind: dict[int, str] = {}  # positions that did not answer, and why
        self._lacking: Counter[int] = Counter()  # position -> fragments that it should have
        self._owed: Counter[int] = Counter()  # position -> fragments that are still to be sent

    async def check(self, blocks: set[bytes], progress: OnItems) -> None:
        """All of the blocks."""
        self._census = await take_census(self._vault.circle)
        for position in range(self._vault.known.family.group.n):
            if position not in self._census.lists:
                self._blind[position] = self._why(position)
        for number, block in enumerate(sorted(blocks)):
            await progress("blocks at suppliers", number, len(blocks))
            row = self._vault.state.blocks.get(block)
            if row is not None and (row.state == OPEN or row.waits):
                self._report.checked(unsent=1)
            else:
                await self._check_block(block, row)
        self._say()

    async def _check_block(self, block: bytes, row: BlockRow | None) -> None:
        try:
            header = await self._vault.fetcher.header(block)
        except Unavailable as error:
            self._report.may_lose(-1)
            if self._blind:
                self._report.not_seen(f"block {block.hex()} could not be looked at: {error}")
            else:
                self._report.fault(f"block {block.hex()}: {error}")
            return
        holders = self._census.holders(block)
        for position in sorted(holders):
            if not await self._prove(header, position):
                holders.discard(position)
        for position in range(header.n):
            if position not in self._census.lists or position in self._census.holders(block):
                continue
            is_owed = row is not None and position not in row.acked
            (self._owed if is_owed else self._lacking)[position] += 1
        self._report.may_lose(len(holders) - header.k)
        self._judge(header, len(holders))

    async def _prove(self, header: BlockHeader, position: int) -> bool:
        """Whether a sample of one fragment's chunks is what it should be."""
        length = slice_length(header.length, header.k)
        for start in range(0, length, CHUNK_SIZE):
            if self._random.random() >= self._sample:
                continue
            try:
                end = min(length, start + CHUNK_SIZE)
                await self._vault.fetcher.prove(header, position, start, end)
            except (Malformed, Refused) as error:
                self._report.fault(f"block {header.block.hex()}, position {position}: {error}")
                return False
            except PeerError as error:
                self._blind.setdefault(position, str(error))
                return False
            self._report.checked(chunks=1)
        return True

    def _judge(self, header: BlockHeader, left: int) -> None:
        """Whether what is left of a block is enough."""
        if left >= header.k:
            return
        sentence = f"block {header.block.hex()}: {left} fragments were found, {header.k} are needed"
        if left + len(self._blind) >= header.k:
            self._report.not_seen(f"{sentence}; the others may be at suppliers that do not answer")
        else:
            self._report.fault(sentence)

    def _say(self) -> None:
        """What is to be said of whole positions."""
        for position, why in sorted(self._blind.items()):
            self._report.not_seen(
                f"{self._name(position)} could not be looked at: it does not answer ({why})"
            )
        for position, count in sorted(self._lacking.items()):
            self._report.fault(
                f"{self._name(position)} lacks {count} fragments that it should have; "
                "bitdust rebuild makes them again"
            )
        for position, count in sorted(self._owed.items()):
            self._report.to_send(
                f"{count} fragments are still to be sent to {self._name(position)}"
            )

    def _why(self, position: int) -> str:
        node = self._vault.known.family.members[position].node
        return self._vault.circle.health(node).last_error or "it did not list what it keeps"

    def _name(self, position: int) -> str:
        member = self._vault.known.family.members[position]
        address = next(iter(member.addresses), "an unknown address")
        return f"position {position}, supplier {member.node.hex()[:16]} at {address},"
