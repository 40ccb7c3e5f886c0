"""Which fragments the suppliers say they keep: the ground that audits and repairs stand on."""

import itertools
import logging
from bisect import bisect_left
from collections.abc import Collection, Set

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.errors import PeerError, ProtocolViolation, Unavailable
from bitdustfs.net.supplier import Supplier
from bitdustfs.net.wire import LIST_MAX

log = logging.getLogger(__name__)

LIST_DEADLINE = 60.0  #: seconds that one supplier has to list all it keeps
FRAGMENT_USUAL = 8192  #: bytes per fragment that a contract is supposed to hold at the least
POSITIONS_KEPT = 4  #: positions of one vault that a supplier may have fragments of, over time
FRAGMENTS_MIN = 10_000  #: fragments that any supplier may list


class Census:
    """What was listed, by position: sorted block ids. Lists are claims; audits test them."""

    def __init__(self) -> None:
        self.lists: dict[int, list[bytes]] = {}
        #: whose list each is: the position's own supplier, or a stand-in
        self.listed_by: dict[int, bytes] = {}

    def lists_it(self, block: bytes, position: int) -> bool:
        """Whether the supplier at `position` says that it keeps its fragment of the block."""
        blocks = self.lists.get(position, [])
        at = bisect_left(blocks, block)
        return at < len(blocks) and blocks[at] == block

    def holders(self, block: bytes) -> set[int]:
        """The positions that list the block."""
        return {position for position in self.lists if self.lists_it(block, position)}

    def blocks(self) -> Set[bytes]:
        """All blocks that anybody lists."""
        return set().union(*self.lists.values())


async def take_census(fetcher: Fetcher) -> Census:
    """Asks every member of the family, or who stands in for it, for its list.

    Positions for which nobody answers are not in it.
    """
    census = Census()

    async def ask(nodes: list[bytes], position: int, limit: int) -> None:
        for node in nodes:
            try:
                with trio.fail_after(LIST_DEADLINE):
                    census.lists[position] = await list_all(
                        fetcher.suppliers[node], position, limit
                    )
                census.listed_by[position] = node
                return
            except (PeerError, trio.TooSlowError) as error:
                fetcher.health[node].fault(error)

    async with trio.open_nursery() as nursery:
        for number, group in enumerate(fetcher.family.groups):
            for position, member in enumerate(group.members):
                limit = max(FRAGMENTS_MIN, member.space // FRAGMENT_USUAL)
                nursery.start_soon(ask, fetcher.holders(number, position), position, limit)
    return census


async def obtainable(fetcher: Fetcher, census: Census, blocks: Collection[bytes]) -> set[bytes]:
    """Those of the blocks that are real, and listed by enough suppliers to be made again.

    What a machine left half uploaded when it died, or what a liar made up, is nobody's loss.
    """
    real: set[bytes] = set()
    for block in blocks:
        try:
            header = await fetcher.header(block)
        except Unavailable as error:
            log.info("block %s: %s", block.hex(), error)
            continue
        if len(census.holders(block)) >= header.k:
            real.add(block)
    return real


async def list_in_time(supplier: Supplier, position: int) -> list[bytes]:
    """As `list_all`. Raises Unavailable when that takes too long."""
    with trio.move_on_after(LIST_DEADLINE):
        return await list_all(supplier, position)
    raise Unavailable(f"supplier {supplier.node.hex()[:12]} takes too long to list what it keeps")


async def list_all(
    supplier: Supplier, position: int, limit: int = FRAGMENTS_MIN * 1000
) -> list[bytes]:
    """Ids of the blocks whose fragment `position` the supplier says it keeps, in order.

    It looks at no more than a few times `limit` fragments, of whatever position.
    """
    blocks: list[bytes] = []
    after = b""
    looked = 0
    while len(blocks) < limit and looked < POSITIONS_KEPT * limit:
        page = await supplier.list(after, LIST_MAX)
        keys = [key for key, _ in page.fragments]
        if any(a >= b for a, b in itertools.pairwise([after, *keys])):
            raise ProtocolViolation("a list that is not in order")
        looked += len(keys)
        blocks += [key[:16] for key in keys if key[16] == position]
        if not page.more or not keys:
            break
        after = keys[-1]
    return blocks
