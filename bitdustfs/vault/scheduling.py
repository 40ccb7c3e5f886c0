"""Snapshots are made by themselves: one where an hour has begun and something changed.

A mount looks once an hour, and at its beginning where one began since the last root. So what a
machine had written when it was put away is kept, too.
"""

import logging
import math
from collections.abc import Callable

import trio

from bitdustfs.core.schedule import HOUR, Made, auto_name, has_begun, is_due
from bitdustfs.errors import BitdustError, Superseded, Unavailable
from bitdustfs.tree.catalogue import KeptSnapshot
from bitdustfs.tree.changes import changed_since
from bitdustfs.tree.tree import Tree
from bitdustfs.vault.thinning import SECOND, Thinning
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

TICK = 60.0  #: seconds between looks at the clock; a suspended machine sleeps through trio's own
PATIENCE = 300.0  #: seconds that one attempt waits for suppliers, and for another root
APART = 1800.0  #: seconds between two at least, however fast the clock goes


class Scheduling:
    """Makes the snapshots of one vault's schedule. `wall`: nanoseconds since 1970."""

    def __init__(self, vault: WritableVault, thinning: Thinning, wall: Callable[[], int]) -> None:
        self._vault, self._thinning, self._wall = vault, thinning, wall
        self._hour = vault.known.root.time // HOUR  # the one that was looked at last
        self._made_at = -math.inf  # on trio's clock
        self._same = (-1, 0)  # number of a snapshot, and a generation that was as it shows

    async def run(self) -> None:
        """Until the pen is lost."""
        while not self._vault.pen.lost:
            try:
                await self.look()
            except Superseded:
                return
            except BitdustError as error:
                log.warning("no scheduled snapshot yet, will retry: %s", error)
            await trio.sleep(TICK)

    async def look(self) -> None:
        """Makes one if it is time, and thins. Raises what publishing raises."""
        now = self._wall() // SECOND
        if has_begun(now, self._hour):
            if self._thinning.schedule.on:
                if not await self._begin_hour(now):
                    return
                await self._thinning.by_rows()
            self._hour = now // HOUR
        await self._thinning.by_share()

    async def _begin_hour(self, now: int) -> bool:
        """Whether nothing is left to do about it."""
        kept = await self._vault.catalogue.kept()
        scheduled = [k for k in kept if k.scheduled]
        if not is_due(now, [Made(k.item.number, k.item.time[0]) for k in scheduled]):
            return True
        if trio.current_time() - self._made_at < APART:
            return False
        if await self._is_same(scheduled):
            return True
        made = await self._make(await self._free_name(now))
        self._same = made.item.number, made.item.generation
        self._made_at = trio.current_time()
        return True

    async def _is_same(self, scheduled: list[KeptSnapshot]) -> bool:
        """Whether there is nothing that the last one does not show.

        What programs wrote since is known here, but not what was written before this mount.
        """
        vault = self._vault
        generation = await vault.committer.commit(sync=False)
        if not scheduled:
            return (await vault.volume.totals()).inodes <= 1
        item = scheduled[-1].item
        number, same = self._same
        if number == item.number:
            return vault.committer.written <= same
        if await changed_since(Tree(vault.reader, item.index), vault.volume.tree):
            return False
        self._same = item.number, generation
        return True

    async def _free_name(self, now: int) -> str:
        """Somebody may have given it by hand, or a clock that went back."""
        name, count = auto_name(now), 1
        while await self._vault.catalogue.find(name.encode()) is not None:
            count += 1
            name = f"{auto_name(now)}-{count}"
        return name

    async def _make(self, name: str) -> KeptSnapshot:
        """It may be on this machine only, as yet. Raises Unavailable, and what publishing raises.

        An attempt that comes too late would be called by a time that is long over.
        """
        failure: BitdustError = Unavailable("too few suppliers answer")
        with trio.move_on_after(PATIENCE):
            try:
                await self._vault.publish(hurry=False, snapshot=name.encode(), scheduled=True)
            except BitdustError as error:
                log.info("snapshot %s is not published: %s", name, error)
                failure = error
        made = await self._vault.catalogue.find(name.encode())
        if made is None:
            raise failure
        return made
