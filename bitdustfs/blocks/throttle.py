"""Uploading makes way for programs that read and write: theirs is the processor, within bounds.

What is measured is how many processors of this machine do nothing. While there is one, uploads go
on beside programs. Else they take a share of the time, one block at a time.

A program that reads waits for each answer, and answers come from one thread: the one that runs the
mount's tasks, uploads among them. Where that thread has not much time left, an idle processor helps
nobody who reads.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

QUIET = 0.5  #: seconds without a read or write after which nobody uses the mount
SHARE = 0.2  #: of the time, that uploading takes of who uses the mount where no processor is idle
REST_MIN, REST_MAX = 0.3, 5.0  #: seconds from one block to the next meanwhile
HOLD_BLOCKS = 96  #: waiting blocks (1.3 GiB) from which nobody holds uploading back
IDLE_ENOUGH = 1.0  #: processors that do nothing, from which nobody has to make way
THREAD_FULL = 0.6  #: of its time, from which the mount's thread has none left for uploads
LOOK_EVERY = 0.25  #: seconds over which that is measured


class PerSecond:
    """How much a counter grew in a second, on the average since the last look.

    A look is taken when it is asked for, and LOOK_EVERY or more are over.
    """

    def __init__(self, counter: Callable[[], float]) -> None:
        self._counter = counter
        self._at, self._counted, self._rate = time.monotonic(), counter(), 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if now - self._at >= LOOK_EVERY:
            counted = self._counter()
            self._rate = (counted - self._counted) / (now - self._at)
            self._at, self._counted = now, counted
        return self._rate


def idle_seconds() -> float:
    """Of all processors since the start of the machine; 0 where the kernel does not tell."""
    try:
        with open("/proc/stat", "rb") as file:
            fields = file.readline().split()
        ticks = int(fields[4]) + int(fields[5])  # nothing to do, or waiting for a disk
    except (OSError, IndexError, ValueError):
        return 0.0
    return ticks / os.sysconf("SC_CLK_TCK")


class Throttle:
    """When to upload. Those who read and write tell it, and those who wait that they hurry.

    `idle`: how many processors do nothing. `own`: which part of its time this thread computes.
    """

    def __init__(
        self, idle: Callable[[], float] | None = None, own: Callable[[], float] | None = None
    ) -> None:
        self._idle, self._own = idle or PerSecond(idle_seconds), own or PerSecond(time.thread_time)
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

        At once if nobody uses the mount, there is room beside who does, somebody hurries or too
        many blocks wait; else when those who use it had their share since the last block.
        """
        while not self.hurried and waiting_blocks() < HOLD_BLOCKS:
            now = trio.current_time()
            quiet_at = max(self._last_read, self._last_write) + QUIET
            if now >= quiet_at or self._room_beside(now):
                return
            if now >= self._rest_until:
                self._rest_until = now + REST_MAX  # one at a time; `uploaded` knows better
                return
            if self._hurried.is_set():
                self._hurried = trio.Event()
            with trio.move_on_after(min(self._rest_until - now, quiet_at - now, LOOK_EVERY)):
                await self._hurried.wait()

    def _room_beside(self, now: float) -> bool:
        """Whether who uses the mount would not notice an upload."""
        thread_full = self._own() >= THREAD_FULL  # measured from one question to the next
        reading = now < self._last_read + QUIET
        return self._idle() >= IDLE_ENOUGH and not (reading and thread_full)

    def uploaded(self, seconds: float) -> None:
        """A block's turn is over, which took so long."""
        rest = min(REST_MAX, max(REST_MIN, seconds * (1 / SHARE - 1)))
        self._rest_until = trio.current_time() + rest
