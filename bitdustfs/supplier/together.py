"""Work that costs the same for one as for many, such as a sync: those who wait have it together.

Whoever comes while nobody works begins at once, alone. Whoever comes meanwhile waits; then one of
the waiting does the work of all of them. So nobody waits for others to come, and no two turns
overlap.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Piece(Generic[T]):
    """What one thread wants done, and how it ended."""

    def __init__(self, what: T) -> None:
        self.what = what
        self.done = False
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Whoever waits for it gets the error."""
        self.error = self.error or error

    def finish(self) -> None:
        """It needs no turn any more."""
        self.done = True


class Together(Generic[T]):
    """Turns of `work`, in threads. An error that it raises is all pieces'; `fail` is for one."""

    def __init__(self, work: Callable[[Sequence[Piece[T]]], None]) -> None:
        self._work = work
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._waiting: list[Piece[T]] = []

    def do(self, what: T) -> None:
        """Returns once a turn that began after the call is over. Raises as the work."""
        piece = Piece(what)
        with self._lock:
            self._waiting.append(piece)
        with self._turn:
            if not piece.done:
                self._take_turn()
        if piece.error is not None:
            raise piece.error

    def _take_turn(self) -> None:
        with self._lock:
            pieces, self._waiting = self._waiting, []
        try:
            self._work(pieces)
        except BaseException as error:  # also where this thread ends by it: nobody was served
            for piece in pieces:
                piece.fail(error)
                piece.finish()
        else:
            for piece in pieces:
                piece.finish()
