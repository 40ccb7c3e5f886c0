"""How long a root waits for more suppliers than it cannot do without.

A block's minute begins with its first delivery. It ends early where nothing would come of waiting:
every supplier that lacks the block has taken nothing for a minute already. So with a friend away
for the night the first block waits for a minute, and the next ones do not. All is kept in memory:
after a mount begins, its first block waits again.
"""

import math
from collections.abc import Collection, Iterable

import trio

SOON = 60.0  #: seconds


class Deferral:
    """Of one vault's uploads."""

    def __init__(self) -> None:
        self._tried: dict[bytes, float] = {}  # block -> when its first delivery began, trio's clock
        self._failing: dict[int, float] = {}  # position -> when it took nothing first, the same

    def tried(self, block: bytes, absent: Iterable[int]) -> None:
        """A delivery of a block begins, to all that lack it but the `absent` positions."""
        self._tried.setdefault(block, trio.current_time())
        for position in absent:
            self.failed(position)

    def failed(self, position: int) -> None:
        """A position's supplier took nothing."""
        self._failing.setdefault(position, trio.current_time())

    def served(self, position: int) -> None:
        """A position's supplier took what it was sent, or is another one."""
        self._failing.pop(position, None)

    def forget(self, block: bytes) -> None:
        """Nobody waits for the block any more."""
        self._tried.pop(block, None)

    def left(self, block: bytes, lacking: Collection[int]) -> float:
        """Seconds that a block is still waited for; `lacking`: positions that could take it."""
        now = trio.current_time()
        in_vain = max((self._failing.get(p, now) for p in lacking), default=-math.inf)
        return max(0.0, min(self._tried.get(block, now), in_vain) + SOON - now)
