"""Files of what is pinned: sealed extents that this machine keeps, whatever else it reads.

    pinned/<id>    sparse; holds sealed extents of a block, of pinned files and of their leaves

They are beside what was fetched (blockfiles.py), which comes and goes by blocks. Nothing indexes
them: every reader checks the hash in its reference. Whether an extent is here is asked of its ends:
ciphertext does not begin or end in zeros, and an extent is written at once. Only a crash can leave
one with a hole inside; after one, all of their bytes are looked at (`thorough`).
"""

import logging
import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from bitdustfs.cache.folder import fsync_folder, local_error
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.hashing import digest
from bitdustfs.core.records import Place

log = logging.getLogger(__name__)

END = 16  #: bytes of each end of an extent that are looked at
NONE = bytes(END)


def ends_are_here(read: Callable[[bytes, int, int], bytes | None], place: Place) -> bool:
    """Whether a sparse file has the ends of an extent. `read`: (block, offset, length)."""
    last = place.offset + place.length - END
    ends = (read(place.block, at, END) for at in (place.offset, last))
    return all(end is not None and len(end) == END and end != NONE for end in ends)


class PinnedFiles:
    """The folder `pinned` under `path`. Thread-safe; methods block on the disk."""

    def __init__(self, path: Path) -> None:
        self._folder = path / "pinned"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = threading.Lock()
        self._sizes = {
            bytes.fromhex(file.name): file.stat().st_blocks * 512 for file in self._folder.iterdir()
        }
        self._unsynced: set[bytes] = set()

    @property
    def total(self) -> int:
        """Bytes that all take."""
        return sum(list(self._sizes.values()))

    def read(self, block: bytes, offset: int, length: int) -> bytes | None:
        """Bytes, or None. May be anything: the caller checks the hash."""
        if block not in self._sizes:
            return None
        try:
            fd = os.open(self._path(block), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return os.pread(fd, length, offset)
        except OSError as error:  # a bad sector: suppliers may have it
            log.error("%s cannot be read at %d: %s", block.hex(), offset, error)
            return None
        finally:
            os.close(fd)

    def lacking(self, places: Collection[Place], thorough: bool) -> list[Place]:
        """Those of `places` that are not here. `thorough`: all of their bytes are looked at."""
        return [place for place in places if not self._holds(place, thorough)]

    def _holds(self, place: Place, thorough: bool) -> bool:
        if place.block not in self._sizes:
            return False
        if thorough:
            found = self.read(place.block, place.offset, place.length)
            return found is not None and digest(found) == place.hash
        return ends_are_here(self.read, place)

    def store(self, place: Place, sealed: Buffer) -> None:
        """Keeps an extent; it survives power loss after `sync`. Raises DiskFull or LocalError."""
        try:
            fd = os.open(self._path(place.block), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                written = 0
                while written < len(sealed):
                    written += os.pwrite(fd, memoryview(sealed)[written:], place.offset + written)
                taken = os.fstat(fd).st_blocks * 512
            finally:
                os.close(fd)
        except OSError as error:
            raise local_error(error) from error
        with self._lock:
            self._sizes[place.block] = max(taken, self._sizes.get(place.block, 0) + len(sealed))
            self._unsynced.add(place.block)

    def sync(self) -> None:
        """All that was kept survives power loss. Raises DiskFull or LocalError."""
        with self._lock:
            unsynced, self._unsynced = self._unsynced, set()
        try:
            for block in unsynced:
                with suppress(FileNotFoundError):
                    fd = os.open(self._path(block), os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        os.fdatasync(fd)
                        taken = os.fstat(fd).st_blocks * 512
                    finally:
                        os.close(fd)
                    with self._lock:
                        self._sizes[block] = taken
            if unsynced:
                fsync_folder(self._folder)
        except OSError as error:
            with self._lock:
                self._unsynced |= unsynced
            raise local_error(error) from error

    def keep_only(self, blocks: Collection[bytes]) -> None:
        """Drops the files of all other blocks."""
        with self._lock:
            gone = [block for block in self._sizes if block not in blocks]
            for block in gone:
                del self._sizes[block]
                self._unsynced.discard(block)
        for block in gone:
            self._path(block).unlink(missing_ok=True)

    def _path(self, block: bytes) -> Path:
        return self._folder / block.hex()
