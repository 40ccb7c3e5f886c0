"""Purging: an inode without a name loses all that it has, once nobody has it open.

Small ones go at once. Big ones are set aside and dropped in bounded steps, so that whoever unlinked
one need not wait; what a mount did not finish, the next one does (an orphan item says so).
"""

import logging
from collections import deque

import trio

from bitdustfs.core.items import tail_u64
from bitdustfs.fs.content import Content
from bitdustfs.fs.lookups import Lookups
from bitdustfs.fs.orphans import is_orphan, is_regular, orphans_of, purge_step
from bitdustfs.tree.tree import Tree

log = logging.getLogger(__name__)


class Purger:
    """Drops the orphans of one vault."""

    def __init__(self, tree: Tree, content: Content, lookups: Lookups) -> None:
        self._tree, self._content, self._lookups = tree, content, lookups
        self._big: deque[int] = deque()  # orphans that take more than a step to purge
        self._big_due = trio.Event()

    async def purge_if_free(self, inode: int) -> None:
        """An inode lost a name, or the kernel forgot it: if it is an orphan nobody knows, it
        goes.
        """
        if self._lookups.held(inode) or not await self._tree.run(is_orphan, inode):
            return
        if not await self._purge_some(inode):
            self._big.append(inode)  # whoever unlinked it need not wait for that
            self._big_due.set()

    async def _purge_some(self, inode: int) -> bool:
        """One bounded step of dropping an orphan's items, its record last; True when none is
        left.
        """
        self._content.forget(inode)
        if await self._tree.run(is_regular, inode):
            if not await self._content.shrink(inode):
                return False
            self._content.forget(inode)
        return await self._tree.tidy(purge_step, inode)

    async def purge(self, inode: int) -> None:
        """All of it, with turns for others in between."""
        while not await self._purge_some(inode):
            await trio.lowlevel.checkpoint()

    async def purge_orphans(self) -> int:
        """Purges what was unlinked but open when the last mount ended; how many."""
        orphans = await self._tree.run(lambda tx: [tail_u64(k) for k in orphans_of(tx)])
        left = [inode for inode in orphans if not self._lookups.held(inode)]
        for inode in left:
            await self.purge(inode)
        return len(left)

    async def keep_purging(self) -> None:
        """Until cancelled: what earlier mounts left, then big files as they are deleted."""
        orphans = await self.purge_orphans()
        if orphans:
            log.info("%d files unlinked while open were purged", orphans)
        while True:
            while self._big:  # where purging fails, its orphan item stays for the next beginning
                await self.purge(self._big.popleft())
            self._big_due = trio.Event()
            await self._big_due.wait()


class NoPurger(Purger):
    """In a vault that is only looked at: what is an orphan there is for its writer to purge."""

    async def purge_if_free(self, inode: int) -> None:
        """It stays."""
