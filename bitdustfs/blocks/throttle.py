"""Uploading makes way for programs that read and write: theirs is the processor, within bounds.

What is measured is how many processors of this machine do nothing. While there is one, uploads go
on beside programs. Else they take a share of the time, one block at a time.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from bitdustfs.net.metered import Metered

QUIET = 0.5  #: seconds without a read or write after which nobody uses the mount
SHARE = 0.2  #: of the time, that uploading takes of who uses the mount where no processor is idle
REST_MIN, REST_MAX = 0.3, 5.0  #: seconds from one block to the next meanwhile
HOLD_BLOCKS = 96  #: waiting blocks (1.3 GiB) from which nobody holds uploading back
IDLE_ENOUGH = 1.0  #: processors that do nothing, from which nobody has to make way
LOOK_EVERY = 0.25  #: seconds over which that is measured
PAUSED_LOOK = 1.0  #: seconds between looks whether bulk work may go on


class IdleProcessors:
    """How many processors do nothing, by the counters of the kernel: since the last look."""

    def __init__(self) -> None:
        self._per_second = os.sysconf("SC_CLK_TCK")
        self._at, self._counted, self._idle = time.monotonic(), _idle_ticks(), 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if now - self._at >= LOOK_EVERY:
            counted = _idle_ticks()
            self._idle = (counted - self._counted) / self._per_second / (now - self._at)
            self._at, self._counted = now, counted
        return self._idle


def _idle_ticks() -> int:
    """Of all processors since the start of the machine; 0 where the kernel does not tell."""
    try:
        with open("/proc/stat", "rb") as file:
            fields = file.readline().split()
        return int(fields[4]) + int(fields[5])  # nothing to do, or waiting for a disk
    except (OSError, IndexError, ValueError):
        return 0


class Throttle:
    """When to upload. Those who read and write tell it, and those who wait that they hurry.

    `idle`: how many processors do nothing. `metered`: while bulk work waits, only those who hurry
    have anything uploaded.
    """

    def __init__(
        self, idle: Callable[[], float] | None = None, metered: Metered | None = None
    ) -> None:
        self._idle, self._metered = idle or IdleProcessors(), metered or Metered()
        self._last_read = self._last_write = self._rest_until = -QUIET
        self._hurry = 0
        self._hurried = trio.Event()

    def wrote(self) -> None:
        """Somebody writes right now."""
        self._last_write = trio.current_time()

    def read(self) -> None:
        """Somebody reads right now."""
        self._last_read = trio.current_time()

    @property
    def busy_writer(self) -> bool:
        """Whether somebody writes right now."""
        return trio.current_time() < self._last_write + QUIET

    @property
    def hurried(self) -> bool:
        """Whether somebody waits for the suppliers."""
        return self._hurry > 0

    @property
    def paused(self) -> str:
        """Why nothing is uploaded although it could be, a sentence; "" where that is not so."""
        return "" if self.hurried else self._metered.said

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """While somebody waits for the suppliers, nobody holds anything back."""
        self._hurry += 1
        self._hurried.set()
        try:
            yield
        finally:
            self._hurry -= 1

    async def wait_turn(self, waiting_blocks: Callable[[], int]) -> None:
        """Returns when the next block may be uploaded; `uploaded` is to be called after that.

        At once if nobody uses the mount, a processor is idle, somebody hurries or too many blocks
        wait; else when those who use it had their share since the last block.
        """
        while self._metered.pauses and not self.hurried:
            await self._wait_hurried(PAUSED_LOOK)
        while not self.hurried and waiting_blocks() < HOLD_BLOCKS:
            now = trio.current_time()
            quiet_at = max(self._last_read, self._last_write) + QUIET
            if now >= quiet_at or self._idle() >= IDLE_ENOUGH:
                return
            if now >= self._rest_until:
                self._rest_until = now + REST_MAX  # one at a time; `uploaded` knows better
                return
            await self._wait_hurried(min(self._rest_until - now, quiet_at - now, LOOK_EVERY))

    async def _wait_hurried(self, seconds: float) -> None:
        """Until somebody hurries, so long at most."""
        if self._hurried.is_set():
            self._hurried = trio.Event()
        with trio.move_on_after(seconds):
            await self._hurried.wait()

    def uploaded(self, seconds: float) -> None:
        """A block's turn is over, which took so long."""
        rest = min(REST_MAX, max(REST_MIN, seconds * (1 / SHARE - 1)))
        self._rest_until = trio.current_time() + rest
