"""How much a vault holds and may still take: what `df` shows, and who is refused in time.

Two bounds, both in bytes of plaintext. The *quota*: live + dirty stays within what the contracts
hold less a reserve. The *placeable*: what suppliers still have free, k times the fullest one's, less
what waits on this machine; it is smaller than the quota while deleted data is not yet given back.
Data beyond either is refused with ENOSPC before it is taken (promise 4); deletes always pass.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.core.placement import acknowledgements_needed, capacity, slop
from bitdustfs.core.records import Family, Member
from bitdustfs.errors import NoSpace, PeerError

log = logging.getLogger(__name__)

GIVE_BACK_EVERY = 10.0  #: seconds between attempts to give space back for a writer
GIVE_BACK_DEADLINE = 20.0  #: seconds that a writer waits for it
USAGE_DEADLINE = 5.0  #: seconds that suppliers have to tell what is used


class Space:
    """The space of one vault. `pending` bytes wait here for suppliers; the uploader keeps it true."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._free: dict[bytes, int] = {}  # node -> bytes free at its last answer
        self._placed: dict[bytes, int] = {}  # node -> bytes it acknowledged since
        self.pending = 0
        self._giving = trio.Lock()
        self._gave = -GIVE_BACK_EVERY
        self.give_back: Callable[[], Awaitable[None]] = self.refresh

    @property
    def _family(self) -> Family:
        return self._fetcher.family

    @property
    def capacity(self) -> int:
        """Bytes of content that the contracts hold."""
        return capacity(self._family)

    @property
    def reserve(self) -> int:
        """Bytes of it that are kept free."""
        return sum(slop(g.k, min(m.space for m in g.members)) for g in self._family.groups)

    def _room(self, member: Member) -> int:
        told = self._free.get(member.node, member.space)
        return max(0, min(told, member.space) - self._placed.get(member.node, 0))

    def placeable(self) -> int:
        """Bytes that suppliers can still take.

        Blocks need `acknowledgements_needed` of a group, so what the others say does not count: one
        that is full, or lies, stops nobody (promise 9).
        """
        room = 0
        for group in self._family.groups:
            rooms = sorted((self._room(m) for m in group.members), reverse=True)
            room += group.k * rooms[acknowledgements_needed(group.k, group.n) - 1]
        return room - self.pending

    def used(self, member: Member) -> int:
        """Bytes that a supplier keeps of this vault, as far as it has told."""
        return member.space - self._room(member)

    def full(self) -> list[Member]:
        """Suppliers that have much less left than the group needs of each."""
        short = []
        for group in self._family.groups:
            rooms = sorted((self._room(m) for m in group.members), reverse=True)
            usual = rooms[acknowledgements_needed(group.k, group.n) - 1]
            short += [m for m in group.members if self._room(m) < usual // 2]
        return short

    def left(self, live: int, dirty: int) -> int:
        """Bytes of file content that may still be written."""
        placeable = self.placeable() - self.reserve // 2  # the other half is for metadata
        return max(0, min(self.capacity - live, placeable) - dirty)

    async def admit(self, live: int, dirty: int, more: int) -> None:
        """Returns when `more` bytes of content are sure to find a place; else raises NoSpace.

        Where only deleted data is in the way, it is given back first.
        """
        if more <= self.left(live, dirty):
            return
        if more <= self.capacity - live - dirty:
            await self._give_back()
        if more > self.left(live, dirty):
            raise NoSpace

    async def admit_names(self) -> None:
        """As `admit`, for new names: they must not eat what deletes and compaction need."""
        if self.placeable() < self.reserve // 4:
            await self._give_back()
            if self.placeable() < self.reserve // 4:
                raise NoSpace

    async def _give_back(self) -> None:
        """Lets the vault give back what it can, once for all who wait."""
        async with self._giving:
            if trio.current_time() - self._gave > GIVE_BACK_EVERY:
                with trio.move_on_after(GIVE_BACK_DEADLINE):
                    await self.give_back()
                self._gave = trio.current_time()

    def placed(self, node: bytes, length: int) -> None:
        """A supplier acknowledged a fragment of `length` bytes."""
        self._placed[node] = self._placed.get(node, 0) + length

    async def refresh(self) -> None:
        """Asks all suppliers what is used; who does not answer counts as at its last answer."""

        async def ask(node: bytes) -> None:
            before = self._placed.get(node, 0)
            try:
                usage = await self._fetcher.suppliers[node].usage()
            except PeerError as error:
                log.debug("%s tells no usage: %s", node.hex()[:12], error)
                return
            self._free[node] = usage.space - usage.used
            self._placed[node] = self._placed.get(node, 0) - before

        with trio.move_on_after(USAGE_DEADLINE):
            async with trio.open_nursery() as nursery:
                for group in self._family.groups:
                    for member in group.members:
                        nursery.start_soon(ask, member.node)
