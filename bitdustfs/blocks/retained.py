"""What suppliers keep of what was deleted, by the vault's retention, as far as they have told.

It counts in their quotas until it has run out, and nothing that is done here gives it back sooner.
"""

import logging
import time
from collections.abc import Callable

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.core.placement import acknowledgements_least
from bitdustfs.errors import DeadlineExceeded, PeerError, Refused

log = logging.getLogger(__name__)

#: seconds for which one that closed the connection is not asked again: it may be of before
MUTE = 3600.0


class Retained:
    """Of one vault. `wall`: Unix seconds."""

    def __init__(self, circle: Circle, wall: Callable[[], float] = time.time) -> None:
        self._circle, self._wall = circle, wall
        self._bytes: dict[bytes, int] = {}  # node -> bytes at its last answer
        self._until: dict[bytes, float] = {}  # node -> when the last of them go
        self._mute: dict[bytes, float] = {}  # node -> until when it is not asked (trio's clock)

    @property
    def on(self) -> bool:
        """Whether the vault has a retention, or had one that may not be over yet."""
        return "retain" in self._circle.family.words

    async def ask(self, node: bytes) -> None:
        """Hears what a supplier keeps. Who does not say counts as at its last answer."""
        if not self.on or trio.current_time() < self._mute.get(node, 0.0):
            return
        try:
            told = await self._circle.supplier(node).past()
        except PeerError as error:
            log.info("%s does not tell what it retains: %s", node.hex()[:12], error)
            if not isinstance(error, Refused | DeadlineExceeded):
                self._mute[node] = trio.current_time() + MUTE
            return
        self._bytes[node], self._until[node] = told.retained, self._wall() + told.last

    def content(self) -> int:
        """Bytes of content that it takes: as little as so many say as a root cannot do without.

        What the others say does not count, as with the room that is left (space.py).
        """
        group = self._circle.family.group
        told = sorted(self._bytes.get(member.node, 0) for member in group.members)
        return group.k * told[acknowledgements_least(group.k, group.n, False) - 1]

    def until(self) -> float:
        """Unix seconds until which something is retained, as the middle one of them says; 0: none
        says so.
        """
        dates = sorted(date for node, date in self._until.items() if self._bytes.get(node))
        return dates[len(dates) // 2] if dates else 0.0
