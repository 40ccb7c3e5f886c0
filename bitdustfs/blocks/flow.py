"""How fast uploads are, and what is left of them: bytes, a second, for each supplier.

What counts is what was given to the network, so that a big fragment on a slow line shows at once.
It runs ahead of what suppliers have by what the kernel buffers.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.core.spans import slice_length

TICK = 2.0  #: seconds between two looks at what was sent
WINDOW = 30.0  #: seconds that a rate is taken over


@dataclass(frozen=True)
class Left:
    """What is to be sent. Positions are those whose suppliers are there; bytes are of fragments."""

    waiting: int  #: of blocks that no root may name yet
    here: int  #: bytes of these blocks themselves
    owed: Mapping[int, int]  #: position -> what it lacks of all blocks; also of those not there
    complete: int  #: positions that lack nothing, and were not found to have damage


class Flow:
    """The uploads of one vault."""

    def __init__(self, circle: Circle, table: BlockTable) -> None:
        self._circle, self._table = circle, table
        self._looks: deque[tuple[float, dict[bytes, int]]] = deque()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._look()
            await trio.sleep(TICK)

    def _look(self) -> None:
        now = trio.current_time()
        self._looks.append((now, self._sent()))
        while now - self._looks[0][0] > WINDOW:
            self._looks.popleft()

    def _sent(self) -> dict[bytes, int]:
        return {m.node: self._circle.session(m).sent for m in self._circle.family.members}

    def sent(self) -> int:
        """Bytes that were sent to the present suppliers since the mount began."""
        return sum(self._sent().values())

    def rates(self) -> dict[bytes, float]:
        """Bytes a second to each supplier, of late; 0 where nothing was sent."""
        if not self._looks:
            return {}
        now, sent = trio.current_time(), self._sent()
        since, first = self._begun(sent)
        seconds = max(now - since, TICK)
        return {node: (sent[node] - first.get(node, 0)) / seconds for node in sent}

    def _begun(self, sent: Mapping[bytes, int]) -> tuple[float, dict[bytes, int]]:
        """The look from which on something was sent: a rate does not count the rest before it."""
        total = sum(self._looks[0][1].values())
        begun = self._looks[0]
        for look in self._looks:
            if sum(look[1].values()) != total:
                break
            begun = look
        return begun

    def left(self, is_waiting: Callable[[bytes], bool]) -> Left:
        """What is still to be sent. `is_waiting`: whether a root may not name a block yet."""
        members = self._circle.family.members
        there = {p for p, m in enumerate(members) if self._circle.health(m.node).there}
        owed: dict[int, int] = {}
        waiting = here = 0
        for block in self._table.owed():
            row = self._table.get(block)
            if row is None:
                continue
            length = slice_length(row.length, row.k)
            for position in row.owed:
                owed[position] = owed.get(position, 0) + length
            if is_waiting(block):
                here += row.length
                waiting += length * len(there.intersection(row.owed))
        at = self._circle.damage.blocks().values()
        lacking = owed.keys() | frozenset[int]().union(*at)
        return Left(waiting, here, owed, len(members) - len(lacking))
