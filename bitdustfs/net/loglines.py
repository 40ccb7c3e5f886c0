"""What is logged stays little: a limit for each place in the code, and none says the same for ever.

A stranger who sends a million datagrams must not fill the disk with lines about them, nor must a
supplier that is away for a month. What is left out is counted, and the next line says how much that
was.
"""

import logging
import math
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable

LOGGERS = ("bitdustfs.net", "bitdustfs.supplier")  #: whose lines strangers can cause
AT_ONCE, EVERY = 20, 10.0  #: lines of one place at once, and seconds for one more
AGAIN = 3600.0  #: seconds until the same line is said again
TEXTS_MAX = 1000  #: lines that are remembered for that

Line = tuple[str, int, str, str]  #: its place in the code, its text, and what was raised where


class FewLines(logging.Filter):
    """For a handler. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock, self._lock = clock, threading.Lock()
        self._places: dict[tuple[str, int], tuple[float, float, int]] = {}
        self._texts: OrderedDict[Line, tuple[float, int]] = OrderedDict()  # when, how many not

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is said; it says how many were not before it."""
        if not record.name.startswith("bitdustfs"):
            return True
        with self._lock:
            silent = self._may_be_said(record)
        if silent:
            record.msg, record.args = f"{record.getMessage()} (and {silent} more like it)", None
        return silent is not None

    def _may_be_said(self, record: logging.LogRecord) -> int | None:
        """How many lines like it were not said before; None: this one is not said either."""
        line, silent = _line_of(record), 0
        if self._is_repeated(line):
            return None
        if record.name.startswith(LOGGERS):
            said, silent = self._few(record)
            if not said:
                return None  # and nothing keeps the same line from being said soon
        return silent + self._note(line)

    def _is_repeated(self, line: Line) -> bool:
        """Whether this very line was said within AGAIN; it is counted then."""
        then, silent = self._texts.get(line, (-math.inf, 0))
        if self._clock() - then >= AGAIN:
            return False
        self._texts[line] = (then, silent + 1)
        self._texts.move_to_end(line)
        return True

    def _note(self, line: Line) -> int:
        """The line is said now; how often it was not."""
        _, silent = self._texts.pop(line, (0.0, 0))
        self._texts[line] = (self._clock(), 0)
        if len(self._texts) > TEXTS_MAX:
            self._texts.popitem(last=False)
        return silent

    def _few(self, record: logging.LogRecord) -> tuple[bool, int]:
        """Whether the line's place may say one; how many it could not."""
        place, now = (record.pathname, record.lineno), self._clock()
        left, then, silent = self._places.get(place, (float(AT_ONCE), now, 0))
        left = min(AT_ONCE, left + (now - then) / EVERY)
        said = left >= 1
        self._places[place] = (left - 1, now, 0) if said else (left, now, silent + 1)
        return said, silent


def _line_of(record: logging.LogRecord) -> Line:
    return record.pathname, record.lineno, record.getMessage(), _raised(record)


def _raised(record: logging.LogRecord) -> str:
    """The type of the error whose traceback the record has, and where it was raised; or ""."""
    error = record.exc_info[1] if record.exc_info else None
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None:
        return ""
    frames = traceback.walk_tb(error.__traceback__)
    where = [f"{frame.f_code.co_filename}:{line}" for frame, line in frames]
    return f"{type(error).__qualname__} at {where[-1] if where else 'no place'}"
