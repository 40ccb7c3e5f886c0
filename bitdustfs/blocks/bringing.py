"""Brings sealed extents to this machine to stay: what is pinned.

What lies in this machine's own blocks is here already; those stay because evicting spares them. Of
all other blocks the extents alone are kept, in files of their own (cache/pinnedfiles.py): they are
taken from what was fetched before, else from suppliers.
"""

from collections.abc import Callable, Sequence

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.runs import runs
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.pinnedfiles import PinnedFiles, ends_are_here
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.hashing import digest
from bitdustfs.core.records import Place
from bitdustfs.errors import LocalError, Unavailable

TOGETHER = 2  #: runs that are fetched at once: whoever reads goes first


def _not_kept(offset: int, pieces: Sequence[Buffer]) -> None:
    """What came by the way is of files that are not pinned."""


class Bringing:
    """The extents of one vault that are to stay on this machine."""

    def __init__(
        self, table: BlockTable, files: BlockFiles, pinned: PinnedFiles, fetcher: Fetcher
    ) -> None:
        self._table, self._files, self._pinned = table, files, pinned
        self._fetcher = fetcher

    def is_own(self, block: bytes) -> bool:
        """Whether the block is on this machine as a whole."""
        row = self._table.get(block)
        return row is not None and row.local

    async def lacking(self, places: Sequence[Place], thorough: bool) -> list[Place]:
        """Those of `places` that are not here to stay. See PinnedFiles.lacking."""
        others = [place for place in places if not self.is_own(place.block)]
        if not others:
            return []
        return await trio.to_thread.run_sync(self._pinned.lacking, others, thorough)

    async def absent(self, places: Sequence[Place]) -> list[Place]:
        """Those that are not here at all, as far as can be told without reading them."""
        lacking = await self.lacking(places, thorough=False)
        return await trio.to_thread.run_sync(self._unfetched, lacking) if lacking else []

    def _unfetched(self, places: Sequence[Place]) -> list[Place]:
        return [p for p in places if not ends_are_here(self._files.read_fetched, p)]

    async def bring(self, places: Sequence[Place], came: Callable[[Place], None]) -> str:
        """Brings them all, each once; `came` is told of each. Why one is not to be had, or "".

        Raises DiskFull or LocalError.
        """
        ordered = sorted(set(places), key=lambda place: (place.block, place.offset))
        taken = await trio.to_thread.run_sync(self._take_fetched, ordered)
        for place in taken:
            came(place)
        left = [place for place in ordered if place not in taken]
        failures, refused = list[Unavailable](), list[LocalError]()
        waiting = list(runs(left))

        async def work() -> None:
            while waiting:
                run = waiting.pop(0)
                try:
                    got = await self._fetcher.fetch_run(run, self._keep, _not_kept)
                except LocalError as error:  # this disk: no other run would fare better
                    refused.append(error)
                    waiting.clear()
                    return
                for place, found in zip(run, got, strict=True):
                    if isinstance(found, Unavailable):
                        failures.append(found)
                    else:
                        came(place)

        async with trio.open_nursery() as nursery:
            for _ in range(TOGETHER):
                nursery.start_soon(work)
        if refused:
            raise refused[0]
        return str(failures[0]) if failures else ""

    async def sync(self) -> None:
        """What was brought survives power loss. Raises DiskFull or LocalError."""
        await trio.to_thread.run_sync(self._pinned.sync)

    def _take_fetched(self, places: Sequence[Place]) -> set[Place]:
        """Keeps those that were fetched before."""
        taken = set()
        for place in places:
            sealed = self._files.read_fetched(place.block, place.offset, place.length)
            if sealed is not None and digest(sealed) == place.hash:
                self._pinned.store(place, sealed)
                taken.add(place)
        return taken

    def _keep(self, places: Sequence[Place], pieces: Sequence[Buffer | None]) -> list[bytes | None]:
        """In a thread: keeps what is as its reference names it."""
        return [self._keep_one(*each) for each in zip(places, pieces, strict=True)]

    def _keep_one(self, place: Place, piece: Buffer | None) -> bytes | None:
        if piece is None or digest(piece) != place.hash:
            return None
        self._pinned.store(place, piece)
        return b""
