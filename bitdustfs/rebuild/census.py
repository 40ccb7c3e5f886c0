"""Which fragments the suppliers say they keep: the ground that audits and repairs stand on."""

import itertools

import trio

from bitdustfs.errors import PeerError, ProtocolViolation
from bitdustfs.fetch import Fetcher
from bitdustfs.net.supplier import Supplier
from bitdustfs.net.wire import LIST_MAX

BLOCKS_MAX = 10_000_000  #: fragments of one vault that one supplier may claim (160 TB at 4/7)
LIST_DEADLINE = 60.0  #: seconds that one supplier has to list all it keeps


class Census:
    """What was listed: block -> positions, and who has not answered."""

    def __init__(self) -> None:
        self.kept: dict[bytes, set[int]] = {}
        self.silent: set[bytes] = set()


async def take_census(fetcher: Fetcher) -> Census:
    """Asks every member of the family for its list. Lists are claims: audits test them."""
    census = Census()

    async def ask(node: bytes, position: int) -> None:
        try:
            with trio.fail_after(LIST_DEADLINE):
                keys = await _list_all(fetcher.suppliers[node], position)
        except (PeerError, trio.TooSlowError) as error:
            fetcher.health[node].fault(error)
            census.silent.add(node)
            return
        for block in keys:
            census.kept.setdefault(block, set()).add(position)

    async with trio.open_nursery() as nursery:
        for group in fetcher.family.groups:
            for position, member in enumerate(group.members):
                nursery.start_soon(ask, member.node, position)
    return census


async def _list_all(supplier: Supplier, position: int) -> list[bytes]:
    """Ids of the blocks whose fragment `position` the supplier says it keeps."""
    blocks: list[bytes] = []
    after = b""
    while len(blocks) < BLOCKS_MAX:
        page = await supplier.list(after, LIST_MAX)
        keys = [key for key, _ in page.fragments]
        if any(a >= b for a, b in itertools.pairwise([after, *keys])):
            raise ProtocolViolation("a list that is not in order")
        blocks += [key[:16] for key in keys if key[16] == position]
        if not page.more or not keys:
            break
        after = keys[-1]
    return blocks
