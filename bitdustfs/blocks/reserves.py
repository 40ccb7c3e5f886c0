"""Who keeps the new fragments of a position whose supplier is away: for now, until it is back.

A reserve that stands in for the position gets them in any case: else it would gather them from k
others. Where too few hold a block without, other reserves of the bench get them, one position of
the block each. What they acknowledge counts. Whoever is back gets its fragments from here, as ever;
then the copies are dropped (family/staffing.py).
"""

from collections.abc import Collection

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.loans import Loans
from bitdustfs.cache.rows import BlockRow
from bitdustfs.core.records import Member


class Reserves:
    """The bench, as the courier sees it."""

    def __init__(self, circle: Circle, loans: Loans) -> None:
        self._circle, self._loans = circle, loans

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
