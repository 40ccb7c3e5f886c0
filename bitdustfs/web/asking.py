"""Questions that many ask at once, and answers that nobody waits for too long."""

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

import trio

T = TypeVar("T")

STALE = 15.0  #: seconds after which an answer says nothing of now


class Shared(Generic[T]):
    """One answer for all who ask within `fresh` seconds: whoever comes meanwhile waits for it."""

    def __init__(self, fresh: float, ask: Callable[[], Awaitable[T]]) -> None:
        self._fresh, self._ask = fresh, ask
        self._turn = trio.Lock()
        self._answers: list[T] = []  # the last one, or none
        self._until = 0.0  # of trio's clock
        self._failed: tuple[float, Exception] | None = None  # when, and how

    async def answer(self) -> T:
        """Raises what the question raises, to all who waited; the next who comes asks anew then."""
        came = trio.current_time()
        async with self._turn:
            if self._failed is not None and self._failed[0] > came:
                raise self._failed[1]
            if not self._answers or trio.current_time() >= self._until:
                try:
                    self._answers = [await self._ask()]
                except Exception as error:
                    self._failed = trio.current_time(), error
                    raise
                self._until = trio.current_time() + self._fresh
            return self._answers[0]

    def forget(self) -> None:
        """Something was changed: the next who comes sees it."""
        self._until = 0.0


class Prompt(Generic[T]):
    """What each of many places answered last. One that is slow is asked on, in a thread, and holds
    up nobody who looks.
    """

    def __init__(self, nursery: trio.Nursery, limiter: trio.CapacityLimiter) -> None:
        self._nursery, self._limiter = nursery, limiter
        self._asked: dict[Path, trio.Event] = {}
        self._answers: dict[Path, tuple[float, Callable[[], T]]] = {}  # and when it was asked

    async def look(
        self,
        places: Collection[Path],
        question: Callable[[Path], T],
        patience: float,
        unknown: Callable[[Path], T],
    ) -> list[T]:
        """The last answer of each place, in their order, once all answered or after `patience`
        seconds. `unknown`: what is said of one that has not answered for STALE seconds. Raises
        what a question raised.
        """
        oldest = trio.current_time() - STALE
        self._answers = {
            place: known
            for place, known in self._answers.items()
            if place in places and known[0] >= oldest
        }
        asked = [self._ask(place, question) for place in places]
        with trio.move_on_after(patience):
            for event in asked:
                await event.wait()
        return [
            self._answers[place][1]() if place in self._answers else unknown(place)
            for place in places
        ]

    def _ask(self, place: Path, question: Callable[[Path], T]) -> trio.Event:
        """Asks, unless it is being asked already."""
        if place not in self._asked:
            self._asked[place] = trio.Event()
            self._nursery.start_soon(self._hear, place, question)
        return self._asked[place]

    async def _hear(self, place: Path, question: Callable[[Path], T]) -> None:
        began = trio.current_time()
        try:
            said = await trio.to_thread.run_sync(
                question, place, abandon_on_cancel=True, limiter=self._limiter
            )
            self._answers[place] = began, lambda: said
        except Exception as error:
            self._answers[place] = began, _raising(error)  # for who looks
        finally:
            self._asked.pop(place).set()


def _raising(error: Exception) -> Callable[[], NoReturn]:
    def answer() -> NoReturn:
        raise error

    return answer
