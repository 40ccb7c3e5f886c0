"""The file of one new fragment: written and synced, where possible past the kernel's cache.

A fragment that was just written is read by nobody soon, and copying it into the kernel's cache was
the larger half of what a supplier spent on it. A direct write needs the payload in a spare buffer
(spares.py), and a file system that takes it; else the file is written as any other.
"""

import errno
import os
from pathlib import Path

from bitdustfs.core.erasure import Buffer
from bitdustfs.failpoints import reach
from bitdustfs.supplier.spares import Spare, spare_of

WRITTEN = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class FragmentWriter:
    """Writes the files of one shelf. Thread-safe."""

    def __init__(self) -> None:
        self._direct = True  # as long as the file system does not say otherwise

    def write(self, path: Path, front: bytes, payload: Buffer) -> None:
        """Makes the file of `front` and payload durable; not its name. Raises OSError."""
        reach("shelf-write")
        spare = spare_of(payload, len(front)) if self._direct else None
        if spare is None or not self._write_direct(path, front, spare):
            self._write_cached(path, front, payload)

    def _write_cached(self, path: Path, front: bytes, payload: Buffer) -> None:
        fd = os.open(path, WRITTEN, 0o600)
        try:
            for part in (front, payload):
                _write_all(fd, part)
            _sync(fd)
        finally:
            os.close(fd)

    def _write_direct(self, path: Path, front: bytes, spare: Spare) -> bool:
        """False where this file system does not take direct writes."""
        try:
            fd = os.open(path, WRITTEN | os.O_DIRECT, 0o600)
        except OSError as error:
            self._give_up(error)
            return False
        try:
            try:
                _write_all(fd, spare.whole(front))
            except OSError as error:
                self._give_up(error)
                return False
            os.ftruncate(fd, len(front) + spare.length)
            _sync(fd)
        finally:
            os.close(fd)
        return True

    def _give_up(self, error: OSError) -> None:
        """Raises the error unless it says that there are no direct writes here."""
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise error
        self._direct = False


def _write_all(fd: int, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync(fd: int) -> None:
    reach("shelf-sync")
    os.fdatasync(fd)
