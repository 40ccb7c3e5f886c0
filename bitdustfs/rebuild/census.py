"""Which fragments the suppliers say they keep: the ground that audits and repairs stand on.

A census asks every position's supplier, or who stands in for it, for its list. Lists are claims;
audits test them. Whatever takes time in proportion to the number of blocks is done once, in a
thread.
"""

import itertools
import logging
from bisect import bisect_left
from collections.abc import Collection, Mapping, Set

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.errors import DeadlineExceeded, PeerError, ProtocolViolation, Unavailable
from bitdustfs.net.ask import ask_all
from bitdustfs.net.supplier import Supplier
from bitdustfs.net.wire import LIST_MAX

log = logging.getLogger(__name__)

LIST_DEADLINE = 60.0  #: seconds that one supplier has to list all it keeps
FRAGMENT_USUAL = 8192  #: bytes per fragment that a contract is supposed to hold at the least
POSITIONS_KEPT = 4  #: positions of one vault that a supplier may have fragments of, over time
FRAGMENTS_MIN = 10_000  #: fragments that any supplier may list
LISTED_MAX = 1_000_000  #: fragments of one position that are heard of at all: bounds memory

Listing = tuple[bytes, list[bytes]]  #: who listed, and its blocks in order


class Census:
    """What was listed, by position. Positions for which nobody answered are not in it."""

    def __init__(self, listings: Mapping[int, Listing], least: int = 1) -> None:
        """Takes time in proportion to what is listed: made in a thread.

        `least`: what fewer positions list is not to be had, and may be made up.
        """
        self.lists = {position: blocks for position, (_, blocks) in listings.items()}
        self.listed_by = {position: node for position, (node, _) in listings.items()}
        masks: dict[bytes, int] = {}
        for position, blocks in self.lists.items():
            for block in blocks:
                masks[block] = masks.get(block, 0) | 1 << position
        everybody = sum(1 << position for position in self.lists)
        self._blocks = frozenset(b for b, mask in masks.items() if mask.bit_count() >= least)
        self._unlisted = {
            block: frozenset(p for p in self.lists if not positions >> p & 1)
            for block, positions in masks.items()
            if positions != everybody
        }

    def blocks(self) -> Set[bytes]:
        """All blocks that so many list that they may be had from them."""
        return self._blocks

    @property
    def unlisted(self) -> Mapping[bytes, frozenset[int]]:
        """Blocks that some list lacks although another has them, and the positions that lack
        them.
        """
        return self._unlisted

    def lists_it(self, block: bytes, position: int) -> bool:
        """Whether the supplier at `position` says that it keeps its fragment of the block."""
        blocks = self.lists.get(position, [])
        at = bisect_left(blocks, block)
        return at < len(blocks) and blocks[at] == block

    def holders(self, block: bytes) -> set[int]:
        """The positions that list the block."""
        return {position for position in self.lists if self.lists_it(block, position)}


async def take_census(circle: Circle) -> Census:
    """Asks for every position's list."""

    async def ask(position: int) -> Listing:
        usual = circle.family.members[position].space // FRAGMENT_USUAL
        limit = min(LISTED_MAX, max(FRAGMENTS_MIN, usual))
        failure: PeerError | None = None
        for node in circle.holders(position):
            try:
                return node, await list_in_time(circle.supplier(node), position, limit)
            except PeerError as error:
                circle.health(node).fault(error)
                failure = error
        raise failure or DeadlineExceeded("nobody has this position")

    answers = await ask_all(range(circle.family.group.n), ask)
    return await trio.to_thread.run_sync(Census, answers.given, circle.family.group.meta_k)


async def obtainable(fetcher: Fetcher, census: Census, blocks: Collection[bytes]) -> set[bytes]:
    """Those of the blocks that are real, and listed by enough suppliers to be made again.

    What a machine left half uploaded when it died, or what a liar made up, is nobody's loss.
    """
    real: set[bytes] = set()
    for block in blocks:
        if len(census.holders(block)) < fetcher.circle.family.group.meta_k:
            continue
        try:
            header = await fetcher.header(block)
        except Unavailable as error:
            log.info("block %s: %s", block.hex(), error)
            continue
        if len(census.holders(block)) >= header.k:
            real.add(block)
    return real


async def list_in_time(
    supplier: Supplier,
    position: int,
    limit: int = LISTED_MAX,
    deadline: float = LIST_DEADLINE,
) -> list[bytes]:
    """As `list_all`. Raises DeadlineExceeded when it takes more than `deadline` seconds."""
    with trio.move_on_after(deadline):
        return await list_all(supplier, position, limit)
    raise DeadlineExceeded(
        f"supplier {supplier.node.hex()[:12]} takes too long to list what it keeps"
    )


async def list_all(supplier: Supplier, position: int, limit: int = LISTED_MAX) -> list[bytes]:
    """Ids of the blocks whose fragment `position` the supplier says it keeps, in order.

    It looks at no more than a few times `limit` fragments, of whatever position.
    """
    blocks: list[bytes] = []
    looked, after, more = 0, b"", True
    while more and len(blocks) < limit and looked < POSITIONS_KEPT * limit:
        keys, more = await page_after(supplier, after)
        looked += len(keys)
        blocks += [key[:16] for key in keys if key[16] == position]
        after = keys[-1] if keys else after
    return blocks


async def page_after(supplier: Supplier, after: bytes) -> tuple[list[bytes], bool]:
    """Keys (block id, position byte) that follow `after`, in order; whether there are more.

    Raises PeerError; ProtocolViolation for a list that is not in order, and so might have no end.
    """
    page = await supplier.list(after, LIST_MAX)
    keys = [key for key, _ in page.fragments]
    if any(a >= b for a, b in itertools.pairwise([after, *keys])):
        raise ProtocolViolation("a list that is not in order")
    return keys, page.more and bool(keys)
