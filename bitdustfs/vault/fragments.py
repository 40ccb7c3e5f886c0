"""Verifies what the suppliers keep, position by position, against what they should have.

All suppliers of a block are asked at once, and some blocks at a time: the lines of all of them are
used, and no supplier waits for another one's answers.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator

import trio

from bitdustfs.blocks.circle import addresses_of
from bitdustfs.cache.rows import OPEN, BlockRow
from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Malformed, PeerError, Refused, Unavailable
from bitdustfs.rebuild.census import Census, take_census
from bitdustfs.units import CHUNK_SIZE, MIB, format_size
from bitdustfs.vault.findings import Report
from bitdustfs.vault.reading import ReadVault

AT_ONCE = 4  #: blocks that are looked at together
RUN_MAX = 1 * MIB  #: bytes of one request: chunks in a row
CERTAINTY = 0.95  #: with which audits that were passed exclude a loss

OnItems = Callable[[str, int, int], Awaitable[None]]


class Fragments:
    """The fragments of one vault's blocks. `sample`: share of their chunks that is fetched."""

    def __init__(self, vault: ReadVault, report: Report, sample: float) -> None:
        self._vault, self._report, self._sample = vault, report, sample
        self._random = random.Random()
        self._census = Census({})
        self._blind: dict[int, str] = {}  # positions that did not answer, and why
        self._lacking: Counter[int] = Counter()  # position -> fragments that it should have
        self._began, self._bytes, self._done = 0.0, 0, 0
        self._owed: Counter[int] = Counter()  # position -> fragments that are still to be sent

    async def check(self, blocks: set[bytes], progress: OnItems) -> None:
        """All of the blocks."""
        self._census = await take_census(self._vault.circle)
        for position in range(self._vault.known.family.group.n):
            if position not in self._census.lists:
                self._blind[position] = self._why(position)
        self._began = trio.current_time()
        left = iter(sorted(blocks))

        async def work() -> None:
            for block in left:  # shared: each block is one worker's
                row = self._vault.state.blocks.get(block)
                if row is not None and (row.state == OPEN or row.waits):
                    self._report.checked(unsent=1)
                else:
                    await self._check_block(block, row)
                self._done += 1
                await progress(self._speed(), self._done, len(blocks))

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(work)
        self._say()

    def _speed(self) -> str:
        """What is counted, and how many bytes come a second."""
        seconds = max(trio.current_time() - self._began, 0.001)
        return f"blocks at suppliers, {format_size(self._bytes / seconds)}/s"

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

        async def prove(position: int) -> None:
            if not await self._prove(header, position):
                holders.discard(position)

        async with trio.open_nursery() as nursery:
            for position in sorted(holders):
                nursery.start_soon(prove, position)
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
        chosen = (at for at in range(0, length, CHUNK_SIZE) if self._random.random() < self._sample)
        for start, stop in in_a_row(chosen):
            try:
                end = min(length, stop)
                await self._vault.fetcher.prove(header, position, start, end)
            except (Malformed, Refused) as error:
                self._report.fault(f"block {header.block.hex()}, position {position}: {error}")
                return False
            except PeerError as error:
                self._blind.setdefault(position, str(error))
                return False
            self._bytes += end - start
            self._report.checked(chunks=-(-(end - start) // CHUNK_SIZE))
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
                "bitdust rebuild makes them again where enough is left"
            )
        for position, count in sorted(self._owed.items()):
            self._report.to_send(
                f"{count} fragments are still to be sent to {self._name(position)}"
            )
        if self._sample < 1:
            for position, member in enumerate(self._vault.known.family.members):
                passed = self._vault.watch.history(member.node).passed
                if passed and position not in self._blind:
                    self._report.audited(self._audited(position, passed))

    def _audited(self, position: int, passed: int) -> str:
        """What audits showed that were passed in a row (rebuild/audit.py)."""
        missing = 1 - (1 - CERTAINTY) ** (1 / passed)
        return (
            f"{self._name(position)} passed {passed} audits in a row: it lacks less than "
            f"{100 * missing:.1f} % of what it should have, with a certainty of {CERTAINTY:.0%}"
        )

    def _why(self, position: int) -> str:
        node = self._vault.known.family.members[position].node
        return self._vault.circle.health(node).last_error or "it did not list what it keeps"

    def _name(self, position: int) -> str:
        member = self._vault.known.family.members[position]
        address = next(iter(addresses_of(self._vault.circle, member)), "an unknown address")
        return f"position {position}, supplier {member.node.hex()[:16]} at {address},"


def in_a_row(chunks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Chunks by where they start, in order, as (start, stop) of those in a row, up to RUN_MAX."""
    first = stop = -1
    for start in chunks:
        if start == stop and stop - first < RUN_MAX:
            stop += CHUNK_SIZE
            continue
        if stop > 0:
            yield first, stop
        first, stop = start, start + CHUNK_SIZE
    if stop > 0:
        yield first, stop
