"""Who waits for a newer root, at one supplier: answers to Await are held back here.

A follower asks before there is something to say (net/hearing.py). Its answer waits for the voter to
keep a root, in the loop that the question came in, and holds neither a thread nor memory meanwhile.
"""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import trio

from bitdustfs.net import wire

WAITING_OF_ONE = 64  #: answers held back of one vault; more are given at once
WAITING_MAX = 512  #: of all vaults

W = TypeVar("W", bound=tuple[wire.Reply, *tuple[object, ...]])


class _Waiter:
    """One answer that is held back."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.moved = trio.Event()

    def renew(self) -> None:
        """What comes from here on counts."""
        self.moved = trio.Event()

    def wake(self) -> None:
        """From any thread."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self.moved.set)


class Herald:
    """Whom to tell of a vault's new root. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listed: dict[bytes, set[_Waiter]] = {}
        self._count = 0

    @property
    def waiting(self) -> int:
        """How many answers are held back."""
        return self._count

    def tell(self, vault: bytes) -> None:
        """A root was kept."""
        with self._lock:
            waiting = list(self._listed.get(vault, ()))
        for each in waiting:
            each.wake()

    async def answer(self, vault: bytes, seconds: float, ask: Callable[[], Awaitable[W]]) -> W:
        """What `ask` comes to, once that is no Done; Done after so many seconds, or at once where
        too many wait already.
        """
        with self._held_back(vault) as waiter:
            until = trio.current_time() + seconds
            while True:
                if waiter is not None:
                    waiter.renew()  # before it is asked: what is kept after that is not missed
                answer = await ask()
                if waiter is None or not isinstance(answer[0], wire.Done):
                    return answer
                with trio.move_on_at(until) as scope:
                    await waiter.moved.wait()
                if scope.cancelled_caught:
                    return answer

    @contextmanager
    def _held_back(self, vault: bytes) -> Iterator[_Waiter | None]:
        """Among those who are told; None: too many are."""
        with self._lock:
            there = self._listed.setdefault(vault, set())
            waiter = None
            if len(there) < WAITING_OF_ONE and self._count < WAITING_MAX:
                waiter = _Waiter()
                there.add(waiter)
                self._count += 1
        try:
            yield waiter
        finally:
            with self._lock:
                if waiter is not None:
                    there.discard(waiter)
                    self._count -= 1
                if not there:
                    self._listed.pop(vault, None)
