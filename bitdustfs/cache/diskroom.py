"""Room on this machine's disk, kept for what makes room.

Deleting takes room before it gives any: its journal, the root without what was deleted, the rows of
what is evicted. So this machine's own writes stop while less than `low` bytes are free, and a file
`reserve` holds some bytes for the case that other programs fill the disk: they are given back to
the disk when a write finds it full, and taken again once there is room.
"""

import logging
import os
import threading
import time
from pathlib import Path

from bitdustfs.units import MIB

log = logging.getLogger(__name__)

LOW_MAX, LOW_SHARE = 64 * MIB, 8  #: bytes left free; of a small disk at most this part
AHEAD = 32 * MIB  #: bytes free beyond that for which room is made: more than memory holds dirty
RESERVE_MAX, RESERVE_SHARE = 16 * MIB, 32  #: the same, held by the file
PLENTY = 1024 * MIB  #: bytes free beyond what is needed that nothing takes within GLANCE
GLANCE = 0.1  #: seconds that an answer of the disk is good for, while there is plenty


class DiskRoom:
    """The disk that `folder` lies on. Thread-safe; every method asks the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "reserve"
        stat = os.statvfs(folder)
        size = stat.f_blocks * stat.f_frsize
        self.low = min(LOW_MAX, size // LOW_SHARE)  #: bytes free below which nothing is added
        self._reserve = min(RESERVE_MAX, size // RESERVE_SHARE)
        self._lock = threading.Lock()
        self._held = False  # whether the reserve is known to be there
        self._answer = (-GLANCE, 0)  # when the disk was asked last, and what was free
        self.refresh()

    def free(self) -> int:
        """Bytes that may still be written."""
        stat = os.statvfs(self._folder)
        return stat.f_bavail * stat.f_frsize

    def is_short(self, owed: int) -> bool:
        """Whether nothing may be added to `owed` bytes that are to be written already.

        Every write asks: while there is plenty, the disk is not asked each time.
        """
        now = time.monotonic()
        at, free = self._answer
        if now - at < GLANCE and free >= self.low + owed + PLENTY:
            return False
        free = self.free()
        self._answer = (now, free)
        return free < self.low + owed

    def lacking(self) -> int:
        """Bytes that should be free and are not, so that writers need not stop."""
        return max(0, self.low + max(self.low, AHEAD) - self.free())

    def at_rest(self) -> bool:
        """Whether the reserve is held, and there is no need to give it."""
        return self._held and self.free() >= self._reserve

    def refresh(self) -> None:
        """Takes the reserve where there is room for it, and gives it where the disk is full."""
        free = self.free()
        if free >= self.low + self._reserve:
            self._take()
        elif free < self._reserve:
            self.give()

    def give(self) -> bool:
        """Gives the reserve back to the disk; whether there was one."""
        with self._lock:
            self._held = False
            try:
                held = self._path.stat().st_blocks * 512
            except FileNotFoundError:
                return False
            self._path.unlink()
        log.warning("this machine's disk is full; %d bytes held in reserve are free now", held)
        return held > 0

    def _take(self) -> None:
        with self._lock:
            if self._path.exists():
                self._held = True
                return
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._reserve)
                self._held = True
            except OSError as error:  # filled just now, or a file system without it
                log.info("no reserve on this machine's disk: %s", error.strerror)
                self._path.unlink()
            finally:
                os.close(fd)
