"""Uploading makes way for writers: the processor is theirs while they write, within bounds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

QUIET = 0.5  #: seconds without a write after which uploading starts by itself
HOLD_MAX = 15.0  #: seconds that a busy writer may hold uploading back
HOLD_BLOCKS = 96  #: waiting blocks (1.3 GiB) that end the hold


class Throttle:
    """When to upload. Writers tell it that they write, those who wait that they hurry."""

    def __init__(self) -> None:
        self._last_write = -QUIET
        self._hurry = 0
        self._hurried = trio.Event()

    def wrote(self) -> None:
        """Somebody writes right now."""
        self._last_write = trio.current_time()

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
        """While somebody waits for the suppliers, writers hold nothing back."""
        self._hurry += 1
        self._hurried.set()
        try:
            yield
        finally:
            self._hurry -= 1

    async def wait_for_quiet(self, waiting_blocks: Callable[[], int]) -> None:
        """Returns when uploading may go on: nobody writes, somebody hurries, it waited long
        enough, or too many blocks wait.
        """
        began = trio.current_time()
        while not self.hurried and waiting_blocks() < HOLD_BLOCKS:
            now = trio.current_time()
            quiet_at = self._last_write + QUIET
            if now >= quiet_at or now - began >= HOLD_MAX:
                return
            self._hurried = trio.Event()
            with trio.move_on_after(quiet_at - now):
                await self._hurried.wait()
