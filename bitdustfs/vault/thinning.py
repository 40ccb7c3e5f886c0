"""Scheduled snapshots go: by their rows, by the share of the quota, and for writers.

What was made by hand never goes. By the share and for writers the one made first goes first, only
as many as it takes, and none where that would give nothing back. What only this machine knows is
which went and why: it says so for a while.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.space import Space
from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.schedule import Made, Schedule, kept_by_rows
from bitdustfs.errors import Malformed
from bitdustfs.tree.catalogue import Catalogue, KeptSnapshot
from bitdustfs.units import KIB
from bitdustfs.vault.held import Held

log = logging.getLogger(__name__)

TOLD = 100  #: of those that went, so many are remembered
Why = Literal["rows", "share", "writers"]
SECOND = 1_000_000_000  #: nanoseconds


class Thinned(NamedTuple):
    """A snapshot that went: when (Unix seconds), and why."""

    name: str
    when: int
    why: Why


_told = Decoder(tuple[Thinned, ...], "snapshots that were thinned", 64 * KIB)


class Thinning:
    """Of one vault that is written. `load`, `save`: what this machine remembers of it.

    `wall`: nanoseconds since 1970.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        held: Held,
        space: Space,
        circle: Circle,
        load: Callable[[], bytes | None],
        save: Callable[[bytes], None],
        wall: Callable[[], int],
    ) -> None:
        self._catalogue, self._held, self._space, self._circle = catalogue, held, space, circle
        self._save, self._wall = save, wall
        self._looked: tuple[int, int, int] | None = None  # at which situation the share was fine
        self._one = trio.Lock()  # the schedule's task and a writer's: what goes is chosen once
        self.told = _read(load())  #: the last that went, the latest at the end

    @property
    def schedule(self) -> Schedule:
        """As the family says now."""
        return self._circle.family.policy.schedule

    @property
    def share(self) -> int:
        """Bytes that snapshots may take by the schedule."""
        return self._space.capacity * self.schedule.share // 100

    async def by_rows(self) -> None:
        """Those go that no row of the schedule keeps. Raises Unavailable."""
        async with self._one:
            scheduled = {_made(k): k for k in await self._catalogue.kept() if k.scheduled}
            kept = kept_by_rows(scheduled.keys(), self.schedule, self._wall() // SECOND)
            await self._drop([k for made, k in scheduled.items() if made not in kept], "rows")

    async def by_share(self) -> None:
        """Those made first go, until all take no more than their share. Raises Unavailable."""
        if not self.schedule.on or self._space.held <= self.share:
            return
        situation = self._catalogue.version, self._space.held, self.share
        if situation == self._looked:
            return
        async with self._one:
            await self._give_up(self._held.taken, self.share, "share")
        self._looked = self._catalogue.version, self._space.held, self.share

    async def for_quota(self) -> None:
        """Those made first go, until the quota has what writers lack of it who wait.

        None goes where all would not be enough. Raises Unavailable.
        """
        async with self._one:
            size = self._space.wanted().quota
            if 0 < size <= self._held.yields().quota:
                await self._give_up(self._held.bytes, self._held.bytes() - size, "writers")

    async def for_placeable(self) -> bool:
        """The same until suppliers have that room, once what died is deleted; whether any went."""
        async with self._one:
            size = self._space.wanted().placeable
            if not 0 < size <= self._held.yields().placeable:
                return False
            return await self._give_up(self._held.taken, self._held.taken() - size, "writers")

    async def _give_up(
        self, measure: Callable[[Sequence[KeptSnapshot]], int], most: int, why: Why
    ) -> bool:
        """As many as it takes for what is measured to be `most`, or as little as can be."""
        await self._held.refresh()
        kept = await self._catalogue.kept()
        scheduled = [k for k in kept if k.scheduled]

        def without(count: int) -> int:
            gone = {k.item.number for k in scheduled[:count]}
            return measure([k for k in kept if k.item.number not in gone])

        least = max(most, without(len(scheduled)))
        count, enough = 0, len(scheduled)
        while count < enough:
            await trio.lowlevel.checkpoint()  # some ms a thousand blocks: others have turns
            middle = (count + enough) // 2
            if without(middle) <= least:
                enough = middle
            else:
                count = middle + 1
        await self._drop(scheduled[:count], why)
        return bool(count)

    async def _drop(self, snapshots: Sequence[KeptSnapshot], why: Why) -> None:
        """It is published with the next root."""
        for kept in snapshots:
            if kept not in await self._catalogue.kept():
                continue  # somebody deleted it meanwhile
            await self._catalogue.drop(kept.name)
            name = kept.name.decode(errors="replace")
            log.info("snapshot %s went: %s", name, why)
            self.told = [*self.told, Thinned(name, self._wall() // SECOND, why)][-TOLD:]
        if snapshots:
            self._save(encode(tuple(self.told)))
            await self._held.refresh()
            self._space.hold(self._held.bytes(), self._held.yields())


def _made(kept: KeptSnapshot) -> Made:
    return Made(kept.item.number, kept.item.time[0])


def _read(raw: bytes | None) -> list[Thinned]:
    """What cannot be read is forgotten: it decides nothing."""
    try:
        return [] if raw is None else list(_told.decode_untrusted(raw))
    except Malformed:
        return []
