"""Uploading makes way for programs that read and write: theirs is the processor, within bounds.

What is measured is how many processors of this machine do nothing. While there is one, uploads go
on beside programs. Else they go slowly, a piece of a fragment at a time: a block that is under way
when somebody begins to read or write makes way as well.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from bitdustfs.net.metered import Metered
from bitdustfs.units import MIB

QUIET = 0.5  #: seconds without a write after which nobody writes
LATELY = 0.1  #: seconds without a read or write after which nobody has to make way
BESIDE = 16 * MIB  #: bytes a second that go to suppliers meanwhile, where no processor is idle
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
    """How fast to upload. Those who read and write tell it, and those who wait that they hurry.

    `idle`: how many processors do nothing. `metered`: while bulk work waits, only those who hurry
    have anything uploaded.
    """

    def __init__(
        self, idle: Callable[[], float] | None = None, metered: Metered | None = None
    ) -> None:
        self._idle, self._metered = idle or IdleProcessors(), metered or Metered()
        self._last_read = self._last_write = -QUIET
        self._hurry = self._waiting_blocks = 0
        self._hurried = trio.Event()
        self._turn, self._free_at = trio.Lock(), 0.0  # when the next piece may go

    def wrote(self) -> None:
        """Somebody writes right now."""
        self._last_write = trio.current_time()

    def read(self) -> None:
        """Somebody reads right now."""
        self._last_read = trio.current_time()

    def waiting(self, blocks: int) -> None:
        """So many blocks wait to be uploaded."""
        self._waiting_blocks = blocks

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
        self._hurried = trio.Event()
        try:
            yield
        finally:
            self._hurry -= 1

    async def make_way(self, size: int) -> None:
        """Returns when so many bytes of a fragment may go to its supplier.

        At once if nobody uses the mount, a processor is idle, somebody hurries or too many blocks
        wait; else one after another, in the order in which they were asked for.
        """
        if not self._has_to_make_way():
            return
        async with self._turn:
            while self._has_to_make_way():
                wait = self._free_at - trio.current_time()
                if wait <= 0:
                    self._free_at = trio.current_time() + size / BESIDE
                    return
                with trio.move_on_after(min(wait, LATELY)):
                    await self._hurried.wait()

    async def wait_turn(self) -> None:
        """Returns when the next block may be begun: on a metered network once somebody hurries."""
        while self._metered.pauses and not self.hurried:
            with trio.move_on_after(PAUSED_LOOK):
                await self._hurried.wait()

    def _has_to_make_way(self) -> bool:
        lately = max(self._last_read, self._last_write) + LATELY
        return (
            trio.current_time() < lately
            and not self.hurried
            and self._waiting_blocks < HOLD_BLOCKS
            and self._idle() < IDLE_ENOUGH
        )
