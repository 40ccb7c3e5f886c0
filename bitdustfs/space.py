"""How much a vault holds and may still take: what `df` shows, and who is refused in time.

Two bounds, both in bytes of plaintext. The *quota*: live + dirty stays within what the contracts
hold less a reserve. The *placeable*: what suppliers still have free, k times the fullest one's, less
what waits on this machine; it is smaller than the quota while deleted data is not yet given back.
Data beyond either is refused with ENOSPC before it is taken (promise 4); deletes always pass.
"""

import logging
from collections.abc import Mapping

import trio

from bitdustfs.core.placement import capacity, slop
from bitdustfs.core.records import Family
from bitdustfs.errors import NoSpace, PeerError
from bitdustfs.net.supplier import Supplier

log = logging.getLogger(__name__)

USAGE_DEADLINE = 5.0  #: seconds that suppliers have to tell what is used


class Space:
    """The space of one vault. `pending` bytes wait here for suppliers; the uploader keeps it true."""

    def __init__(self, family: Family, suppliers: Mapping[bytes, Supplier]) -> None:
        self._family, self._suppliers = family, suppliers
        self.capacity = capacity(family)
        self.reserve = sum(slop(g.k, min(m.space for m in g.members)) for g in family.groups)
        self._free: dict[bytes, int] = {}  # node -> bytes free at its last answer
        self.pending = 0
        self._placed = 0  # bytes acknowledged since suppliers were last asked

    def placeable(self) -> int:
        """Bytes that suppliers can still take, as far as they have told."""
        room = 0
        for group in self._family.groups:
            free = [self._free.get(m.node, m.space) for m in group.members]
            room += group.k * max(0, min(free))
        return room - self.pending - self._placed

    def left(self, live: int, dirty: int) -> int:
        """Bytes of file content that may still be written."""
        placeable = self.placeable() - self.reserve // 2  # the other half is for metadata
        return max(0, min(self.capacity - live, placeable) - dirty)

    def check_data(self, live: int, dirty: int, more: int) -> None:
        """Raises NoSpace when `more` bytes of content cannot be promised a place."""
        if more > self.left(live, dirty):
            raise NoSpace

    def check_names(self) -> None:
        """Raises NoSpace when new names would eat what deletes and compaction need."""
        if self.placeable() < self.reserve // 4:
            raise NoSpace

    def placed(self, length: int) -> None:
        """A block of `length` bytes went from this machine's care into that of suppliers."""
        self._placed += length

    async def refresh(self) -> None:
        """Asks all suppliers what is used; who does not answer counts as at its last answer."""
        before = self._placed

        async def ask(node: bytes) -> None:
            try:
                usage = await self._suppliers[node].usage()
            except PeerError as error:
                log.debug("%s tells no usage: %s", node.hex()[:12], error)
                return
            self._free[node] = usage.space - usage.used

        with trio.move_on_after(USAGE_DEADLINE):
            async with trio.open_nursery() as nursery:
                for group in self._family.groups:
                    for member in group.members:
                        nursery.start_soon(ask, member.node)
        self._placed -= before
