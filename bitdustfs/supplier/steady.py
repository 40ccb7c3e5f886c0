"""Time as a supplier counts it: what a promise over days is measured by.

A wall clock is set by others, and by mistake: a jump of a year must not end a retention. So while
the process runs, steady time goes on by the monotonic clock alone. Over a restart it goes on by the
wall clock, but by OFF_MAX at most, and never back. It may be late, then what is kept is kept
longer; it is never early by more than OFF_MAX for each restart.
"""

import threading
from collections.abc import Callable

NOTE_EVERY = 300  #: seconds between two times that are written down
OFF_MAX = 86400  #: seconds that one restart counts for, at most

#: steady time, and the wall clock's then
Noted = tuple[int, int]


class SteadyTime:
    """Whole seconds; at the very first start those of Unix time. Thread-safe.

    `load`, `save`: what outlives the process.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wall: Callable[[], float],
        load: Callable[[], Noted | None],
        save: Callable[[Noted], None],
    ) -> None:
        self._clock, self._wall, self._save = clock, wall, save
        self._lock = threading.Lock()
        noted, now = load(), int(wall())
        self._time: float = now
        if noted is not None:
            time, at = noted
            self._time = time + min(max(0, now - at), OFF_MAX)
        self._at = clock()
        self._noted = -NOTE_EVERY

    def now(self) -> int:
        """The present time."""
        with self._lock:
            at = self._clock()
            self._time += max(0.0, at - self._at)
            self._at = at
            return int(self._time)

    def note(self) -> None:
        """Writes it down, durably, unless that was done a moment ago."""
        now = self.now()
        if now - self._noted >= NOTE_EVERY:
            self._save((now, int(self._wall())))
            self._noted = now

    def date(self, time: int) -> int:
        """Unix seconds of a steady time, by the wall clock as it is."""
        return int(self._wall()) + time - self.now()
