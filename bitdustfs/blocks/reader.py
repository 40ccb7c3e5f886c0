"""Opens extents: from memory, from this machine's files, or from suppliers.

Whatever came, and from wherever, is checked against the hash in its reference before it is opened:
what fails is not here, and is asked for elsewhere (promise 5). Several readers of one extent fetch
it once.

What the operating system has in memory is opened at once, in the loop's thread: handing it to
another takes longer. While this machine's disk is slow, a thread waits for it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.runs import runs, stretches
from bitdustfs.blocks.sealers import Sealers
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.pinnedfiles import PinnedFiles
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import Forged, Malformed, Unavailable
from bitdustfs.units import MIB

PLAIN_CACHE = 32 * MIB  #: bytes of opened extents kept in memory
OPENING = 2  #: threads that open runs of extents
TOGETHER = 2  #: extents that are opened in a thread together, rather than one after the other
SLOW_READ = 0.02  #: seconds; whoever may wait for the disk so long is not the loop's thread
SLOW_FOR = 1.0  #: seconds that a disk counts as slow after that

_Key = tuple[bytes, int]  # block and ordinal


class _UnderWay:
    """An extent on its way into memory, and those who wait for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self._failure = ""

    def fail(self, why: str) -> None:
        self._failure = why

    def check(self) -> None:
        """Those who waited are not to try one after the other. Raises Unavailable."""
        if self._failure:
            raise Unavailable(self._failure)


class ExtentReader:
    """The extents of one vault. `fetched_limit`: bytes that fetched extents may take on this
    disk.
    """

    def __init__(
        self,
        sealers: Sealers,
        files: BlockFiles,
        pinned: PinnedFiles,
        fetcher: Fetcher,
        fetched_limit: Callable[[], int],
    ) -> None:
        self._sealers, self._files, self._fetcher = sealers, files, fetcher
        self._pinned = pinned
        self._fetched_limit = fetched_limit
        self._plain: OrderedDict[_Key, bytes] = OrderedDict()
        self._plain_size = 0
        self._under_way: dict[_Key, _UnderWay] = {}
        self._opening = trio.CapacityLimiter(OPENING)
        self._slow_until = 0.0  # on the clock of perf_counter

    async def read_extent(self, place: Place, kind: Kind) -> bytes:
        """The plaintext at `place`. Raises Unavailable when too few suppliers can give it.

        Never anything but what the owner wrote there.
        """
        key = (place.block, place.ordinal)
        while True:
            plain = self._plain.get(key)
            if plain is not None:
                self._plain.move_to_end(key)
                return plain
            under_way = self._under_way.get(key)
            if under_way is None:
                break
            await under_way.done.wait()
            under_way.check()
        slow, alone = perf_counter() < self._slow_until, kind is Kind.DATA
        plain = None if slow else self._open_local(place, kind, alone)
        if plain is not None:
            self._remember(key, plain)
            return plain
        mine = self._under_way[key] = _UnderWay()
        try:
            if slow:
                plain = await trio.to_thread.run_sync(self._open_local, place, kind, alone)
            if plain is None:
                plain = await self._fetch(place, kind)
        except Unavailable as error:
            mine.fail(str(error))
            raise
        finally:
            del self._under_way[key]
            mine.done.set()
        self._remember(key, plain)
        return plain

    async def read_run(self, places: Sequence[Place]) -> list[bytes]:
        """The plaintexts at places of file content that follow each other in a file.

        Several that are not in memory are opened together, in a thread. Raises Unavailable.
        """
        here = [self._plain.get((place.block, place.ordinal)) for place in places]
        lacking = [place for place, plain in zip(places, here, strict=True) if plain is None]
        if len(lacking) >= TOGETHER:
            wanted = self.expect(lacking)
            why = await self.bring(wanted) if wanted else ""
            if why:
                raise Unavailable(why)
        return [
            await self.read_extent(place, Kind.DATA) if plain is None else plain
            for place, plain in zip(places, here, strict=True)
        ]

    # -- ahead of whoever will ask

    def expect(self, places: Sequence[Place]) -> list[Place]:
        """Those of `places` that are neither in memory nor on their way, each once.

        From here on they are: whoever asks for one waits until the caller has called `bring`. Two
        items of a file may lie in one extent, before and behind what was written over its middle.
        """
        wanted: list[Place] = []
        for place in places:
            key = (place.block, place.ordinal)
            if key not in self._plain and key not in self._under_way:
                self._under_way[key] = _UnderWay()
                wanted.append(place)
        return wanted

    def held_up(self, length: int) -> float:
        """Seconds that fetching so much may take longer: this node may not use all of its line."""
        return self._fetcher.held_up(length)

    async def bring(self, places: Sequence[Place]) -> str:
        """Opens extents of file content that were expected, each once; those who wait hear what
        failed.

        Returns why one is not to be had, or "".
        """
        left = {(place.block, place.ordinal): place for place in places}  # still on their way
        failures: list[str] = []
        try:
            keys = list(left)
            opened = await trio.to_thread.run_sync(
                self._open_run, list(left.values()), limiter=self._opening
            )
            for key, plain in zip(keys, opened, strict=True):
                if plain is not None:
                    del left[key]
                    self._brought(key, plain)
            if left:
                async with trio.open_nursery() as nursery:
                    for run in runs(list(left.values())):
                        nursery.start_soon(self._bring_fetched, run, left, failures)
        finally:
            self.abandon(left.values())
        return failures[0] if failures else ""

    def abandon(self, places: Iterable[Place]) -> None:
        """What was expected is not brought: whoever waits for it looks for it itself."""
        for place in places:
            under_way = self._under_way.pop((place.block, place.ordinal), None)
            if under_way is not None:
                under_way.done.set()

    async def _bring_fetched(
        self, places: Sequence[Place], left: dict[_Key, Place], failures: list[str]
    ) -> None:
        """Those of a run; none is among those `left` after that: others may expect it again."""
        limit, block = self._fetched_limit(), places[0].block
        opened = await self._fetcher.fetch_run(
            places,
            partial(self._open_fetched, limit),
            partial(self._files.store_fetched, block, limit=limit),
        )
        for place, plain in zip(places, opened, strict=True):
            key = (place.block, place.ordinal)
            del left[key]
            if isinstance(plain, Unavailable):
                failures.append(str(plain))
                under_way = self._under_way.pop(key)
                under_way.fail(str(plain))
                under_way.done.set()
            else:
                self._brought(key, plain)

    def _brought(self, key: _Key, plain: bytes) -> None:
        self._remember(key, plain)
        self._under_way.pop(key).done.set()

    # -- from the disk, or from suppliers

    def _open_run(self, places: Sequence[Place]) -> list[bytes | None]:
        return [self._open_local(place, Kind.DATA, False) for place in places]

    async def _fetch(self, place: Place, kind: Kind) -> bytes:
        sealed = await self._fetcher.fetch(place)
        self._files.store_fetched(place.block, place.offset, [sealed], self._fetched_limit())
        # `fetch` compared its hash already
        sealer = self._sealers.of(place.block)
        return sealer.open_unreferenced_untrusted(sealed, place.ordinal, kind)

    def _open_fetched(
        self, limit: int, places: Sequence[Place], pieces: Sequence[Buffer | None]
    ) -> list[bytes | None]:
        """In a thread: the plaintext of pieces of one block as they came; None for what is amiss.

        What is right stays on this disk, within `limit` bytes.
        """
        sealer, opened = self._sealers.of(places[0].block), list[bytes | None]()
        right: list[tuple[int, Buffer]] = []
        for place, piece in zip(places, pieces, strict=True):
            plain = None
            if piece is not None:
                with suppress(Malformed):
                    plain = sealer.open_untrusted(piece, place.hash, place.ordinal, Kind.DATA)
                    right.append((place.offset, piece))
            opened.append(plain)
        for offset, stretch in stretches(right):
            self._files.store_fetched(places[0].block, offset, stretch, limit)
        return opened

    async def read_sealed_local(self, place: Place) -> bytes | None:
        """The sealed bytes in this machine's own block file, unchecked; None without one."""
        return await trio.to_thread.run_sync(
            self._files.read, place.block, place.offset, place.length
        )

    def _open_local(self, place: Place, kind: Kind, alone: bool) -> bytes | None:
        """The plaintext from this machine's files, or None; what fails its hash is not here.

        `alone`: what follows is not wanted, too.
        """
        sealer = self._sealers.of(place.block)
        where = place.block, place.offset, place.length
        for read in (
            partial(self._files.read, *where, alone),
            partial(self._pinned.read, *where),
            partial(self._files.read_fetched, *where, alone),
        ):
            began = perf_counter()
            sealed = read()
            ended = perf_counter()
            if ended - began > SLOW_READ:
                self._slow_until = ended + SLOW_FOR
            if sealed is None:
                continue
            try:
                return sealer.open_untrusted(sealed, place.hash, place.ordinal, kind)
            except Forged:
                continue
        return None

    def _remember(self, key: _Key, plain: bytes) -> None:
        old = self._plain.pop(key, b"")
        self._plain[key] = plain
        self._plain_size += len(plain) - len(old)
        while self._plain_size > PLAIN_CACHE:
            self._plain_size -= len(self._plain.popitem(last=False)[1])
