"""What is logged stays little: a limit for each place in the code, and none says the same for ever.

A stranger who sends a million datagrams must not fill the disk with lines about them, nor must a
supplier that is away for a month. What is left out is counted, and the next line says how much that
was.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

LOGGERS = ("bitdustfs.net", "bitdustfs.supplier")  #: whose lines strangers can cause
AT_ONCE, EVERY = 20, 10.0  #: lines of one place at once, and seconds for one more
AGAIN = 3600.0  #: seconds until the same line is said again
TEXTS_MAX = 1000  #: lines that are remembered for that


class FewLines(logging.Filter):
    """For a handler. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock, self._lock = clock, threading.Lock()
        self._places: dict[tuple[str, int], tuple[float, float, int]] = {}
        self._texts: OrderedDict[tuple[str, int, str], tuple[float, int]] = (
            OrderedDict()
        )  # when, and how many not

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is said; it says how many were not before it."""
        if not record.name.startswith("bitdustfs"):
            return True
        with self._lock:
            said, silent = self._again(record)
            if said and record.name.startswith(LOGGERS):
                said, more = self._few(record)
                silent += more
        if said and silent:
            record.msg, record.args = f"{record.getMessage()} (and {silent} more like it)", None
        return said

    def _again(self, record: logging.LogRecord) -> tuple[bool, int]:
        """Whether this very line was not said for a while; how often it was not."""
        now, key = self._clock(), (record.pathname, record.lineno, record.getMessage())
        then, silent = self._texts.pop(key, (now - AGAIN, 0))
        said = now - then >= AGAIN
        self._texts[key] = (now, 0) if said else (then, silent + 1)
        if len(self._texts) > TEXTS_MAX:
            self._texts.popitem(last=False)
        return said, silent

    def _few(self, record: logging.LogRecord) -> tuple[bool, int]:
        """Whether the line's place may say one; how many it could not."""
        place, now = (record.pathname, record.lineno), self._clock()
        left, then, silent = self._places.get(place, (float(AT_ONCE), now, 0))
        left = min(AT_ONCE, left + (now - then) / EVERY)
        said = left >= 1
        self._places[place] = (left - 1, now, 0) if said else (left, now, silent + 1)
        return said, silent
