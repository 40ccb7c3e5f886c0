"""Gathering a copy.

All that a position should have and the own shelf lacks, from those who have it.
"""

import logging
from collections.abc import Callable

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.core.records import Member
from bitdustfs.net.supplier import Supplier
from bitdustfs.rebuild.census import obtainable, take_census
from bitdustfs.rebuild.fill import Fill
from bitdustfs.supplier.kin import MemberConnect, NotAsked, OwnShelf, Round
from bitdustfs.supplier.service import SupplierService

log = logging.getLogger(__name__)


async def gather(
    service: SupplierService,
    connect: MemberConnect,
    vault: bytes,
    seen: Round,
    position: int,
    wanted: Callable[[], bool],
) -> bool:
    """Fills the own shelf; whether it has all of the position that can be had.

    `seen` says who is there and who has copies. `wanted` is asked before each block: it stops if
    not. What was gathered stays when this is cancelled or fails: the next call gathers the rest.
    """

    def connect_if_there(member: Member) -> Supplier:
        return connect(vault, member) if member.node in seen.answers else NotAsked(member.node)

    circle = Circle(seen.family, connect_if_there)
    for place, node in seen.copies().items():
        circle.add_stand_in(place, node)
    for member in seen.family.everybody:
        if member.node not in seen.answers:
            circle.health(member.node).slow()  # it was asked a moment ago
    fetcher, census = Fetcher(circle), await take_census(circle)
    keys = await trio.to_thread.run_sync(service.standing.copies, vault, position)
    missing = sorted(set(census.blocks()) - {key[:16] for key in keys})
    if missing:
        shelf = OwnShelf(service.keeper, vault)
        fill = Fill(
            fetcher, shelf, position, bytes, _nothing_here, wanted
        )  # no claim is needed here
        await fill.run(missing)
        gathered = fill.done - len(fill.failed)
        log.info("position %d: %d of %d fragments gathered", position, gathered, fill.done)
        if fill.done < fill.total or await obtainable(fetcher, census, fill.failed):
            return False
    return len(census.lists) >= seen.family.group.k


async def _nothing_here(block: bytes, position: int) -> None:
    """A supplier has no blocks to make fragments of."""
    return
