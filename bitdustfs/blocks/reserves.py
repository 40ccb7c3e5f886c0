"""Who keeps the new fragments of a position whose supplier is away: for now, until it is back.

A reserve that stands in for the position gets them in any case: else it would gather them from k
others. Where too few hold a block without, other reserves of the bench get them, one position of
the block each. What they acknowledge counts. Whoever is back gets its fragments from here, as ever;
then the copies are dropped (family/staffing.py).
"""

import logging
from collections.abc import Collection

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.loans import Loans
from bitdustfs.blocks.pen import Pen
from bitdustfs.cache.rows import BlockRow
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member, claim_ballot
from bitdustfs.errors import PeerError

log = logging.getLogger(__name__)


class Reserves:
    """The bench, as the courier sees it."""

    def __init__(self, key: VaultKey, pen: Pen, circle: Circle, loans: Loans) -> None:
        self._key, self._pen, self._circle, self._loans = key, pen, circle, loans
        self._ready: set[bytes] = set()  # nodes that promised this ballot

    def choose(self, row: BlockRow, absent: Collection[int]) -> dict[int, Member]:
        """Who is to get the fragments of positions that are away and that nobody keeps."""
        chosen: dict[int, Member] = {}
        there = row.holders
        taken = {node for _, node in row.copies}
        lacking = [position for position in absent if position not in there]
        for position in lacking:
            node = self._circle.stand_ins.get(position)
            member = None if node is None else self._circle.family.member(node)
            if member is not None and self._is_fit(member, position, taken):
                chosen[position] = member
                taken.add(member.node)
        for position in lacking:
            if position in chosen or len(there) + len(chosen) >= row.wanted:
                continue
            member = self._free(position, taken)
            if member is not None:
                chosen[position] = member
                taken.add(member.node)
        return chosen

    def _free(self, position: int, taken: Collection[bytes]) -> Member | None:
        """The next reserve that stands in for nobody; first one that has some of the position."""
        standing = self._circle.stand_ins.values()
        bench = [m for m in self._circle.family.bench if m.node not in standing]
        known = self._circle.copies.of(position)
        for member in sorted(bench, key=lambda member: member.node not in known):
            if self._is_fit(member, position, taken):
                return member
        return None

    def _is_fit(self, member: Member, position: int, taken: Collection[bytes]) -> bool:
        return (
            member.node not in taken
            and not self._circle.is_beside(member.node)
            and self._circle.health(member.node).reachable
            and self._loans.is_open(position, member.node)
        )

    async def prepare(self, member: Member) -> bool:
        """Has a reserve promise this mount's ballot: only then it takes anything. Once a mount."""
        if member.node not in self._ready:
            claim = claim_ballot(self._key.signing, self._pen.ballot)
            try:
                await self._circle.session(member).prepare(claim, True)
            except PeerError as error:
                self._circle.health(member.node).fault(error)
                log.info("reserve %s takes nothing: %s", member.node.hex()[:12], error)
                return False
            self._ready.add(member.node)
        return True

    def fenced(self, node: bytes) -> None:
        """A node refused this ballot: if it is a reserve, it is asked to promise it again."""
        self._ready.discard(node)
