"""Opens extents: from memory, from this machine's files, or from suppliers.

Whatever came, and from wherever, is checked against the hash in its reference before it is opened:
what fails is not here, and is asked for elsewhere (promise 5). Several readers of one extent fetch
it once.
"""

from collections import OrderedDict
from collections.abc import Callable

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.sealers import Sealers
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import Forged, Unavailable
from bitdustfs.units import MIB

PLAIN_CACHE = 24 * MIB  #: bytes of opened extents kept in memory


class _UnderWay:
    """An extent on its way from the suppliers, and those who wait for it."""

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
        fetcher: Fetcher,
        fetched_limit: Callable[[], int],
    ) -> None:
        self._sealers, self._files, self._fetcher = sealers, files, fetcher
        self._fetched_limit = fetched_limit
        self._plain: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._plain_size = 0
        self._fetching: dict[tuple[bytes, int], _UnderWay] = {}

    async def read_extent(self, place: Place, kind: Kind) -> bytes:
        """The plaintext at `place`. Raises Unavailable when too few suppliers can give it.

        Never anything but what the owner wrote there.
        """
        key = (place.block, place.ordinal)
        while True:
            plain = self._plain.get(key) or self._open_local(place, kind)
            if plain is not None:
                self._remember(key, plain)
                return plain
            under_way = self._fetching.get(key)
            if under_way is None:
                break
            await under_way.done.wait()
            under_way.check()
        fetch = self._fetching[key] = _UnderWay()
        try:
            sealed = await self._fetcher.fetch(place)
            self._files.store_fetched(place.block, place.offset, sealed, self._fetched_limit())
            plain = self._sealers.of(place.block).open_untrusted(
                sealed, place.hash, place.ordinal, kind
            )
        except Unavailable as error:
            fetch.fail(str(error))
            raise
        finally:
            del self._fetching[key]
            fetch.done.set()
        self._remember(key, plain)
        return plain

    async def read_sealed_local(self, place: Place) -> bytes | None:
        """The sealed bytes in this machine's own block file, unchecked; None without one."""
        return await trio.to_thread.run_sync(
            self._files.read, place.block, place.offset, place.length
        )

    def _open_local(self, place: Place, kind: Kind) -> bytes | None:
        """The plaintext from this machine's files, or None; what fails its hash is not here."""
        sealer = self._sealers.of(place.block)
        for read in (self._files.read, self._files.read_fetched):
            sealed = read(place.block, place.offset, place.length)
            if sealed is None:
                continue
            try:
                return sealer.open_untrusted(sealed, place.hash, place.ordinal, kind)
            except Forged:
                continue
        return None

    def _remember(self, key: tuple[bytes, int], plain: bytes) -> None:
        old = self._plain.pop(key, b"")
        self._plain[key] = plain
        self._plain_size += len(plain) - len(old)
        while self._plain_size > PLAIN_CACHE:
            self._plain_size -= len(self._plain.popitem(last=False)[1])
