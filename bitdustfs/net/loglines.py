"""Lines that others can cause are few: a limit for each place in the code that logs.

A stranger who sends a million datagrams must not fill the disk with lines about them. What is left
out is counted, and the next line of the place says how much that was.
"""

import logging
import threading
import time
from collections.abc import Callable

LOGGERS = ("bitdustfs.net", "bitdustfs.supplier")  #: whose lines strangers can cause
AT_ONCE, EVERY = 20, 10.0  #: lines of one place at once, and seconds for one more


class FewLines(logging.Filter):
    """For a handler. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock, self._lock = clock, threading.Lock()
        self._places: dict[tuple[str, int], tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is said; it says how many were not before it."""
        if not record.name.startswith(LOGGERS):
            return True
        place = record.pathname, record.lineno
        with self._lock:
            now = self._clock()
            left, then, silent = self._places.get(place, (float(AT_ONCE), now, 0))
            left = min(AT_ONCE, left + (now - then) / EVERY)
            said = left >= 1
            self._places[place] = (left - 1, now, 0) if said else (left, now, silent + 1)
        if said and silent:
            record.msg, record.args = f"{record.getMessage()} (and {silent} more like it)", None
        return said
