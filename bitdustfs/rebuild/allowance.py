"""How many bytes audits may fetch: a bucket that outlives the mount, so that often is not more.

The bucket takes BURST of a day's budget, and the rest flows in over the day: in any 24 hours no
more than the budget is given out, whether one mount or many ask. What looks into a failed audit
goes on credit, DEBT_MAX of the day's budget at most; the next audits wait until it is paid back.
"""

import time
from collections.abc import Callable

import trio

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.units import CHUNK_SIZE, KIB

BURST = 0.2  #: of a day's budget: what may be fetched at once
DEBT_MAX = 0.5  #: of a day's budget
DAY = 86400.0

_kept = Decoder(tuple[float, float], "what audits may fetch", KIB)


def last_pause(daily: int) -> float:
    """Seconds between two audits of a long mount that fetch so many bytes a day, a chunk each."""
    return CHUNK_SIZE * DAY / ((1 - BURST) * daily)


class Allowance:
    """Of one mount. `load` and `save` keep it on this machine.

    `daily`: bytes. `wall`: Unix seconds, for the time between mounts; a clock that was turned back
    gives nothing.
    """

    def __init__(
        self,
        daily: int,
        load: Callable[[], bytes | None],
        save: Callable[[bytes], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._save, self._wall, self._changed = save, wall, False
        self._left, self._at, self._looked = BURST * daily, trio.current_time(), wall()
        self._set(daily)
        if (raw := load()) is not None:
            left, then = _kept.decode_untrusted(raw)
            self._left = left
            self._earn(max(0.0, wall() - then))

    def _set(self, daily: int) -> None:
        self.pause = last_pause(daily)  #: seconds in which one chunk more may be fetched
        self._most, self._least = BURST * daily, -DEBT_MAX * daily
        self._rate = CHUNK_SIZE / self.pause  # bytes a second
        self._left = min(self._most, max(self._least, self._left))

    def change(self, daily: int) -> None:
        """So many bytes a day from here on; what was earned before stays, as far as it fits."""
        self._look()
        self._set(daily)

    def wait(self) -> float:
        """Seconds until a chunk may be fetched; 0 where it may be now."""
        self._look()
        return max(0.0, (CHUNK_SIZE - self._left) / self._rate)

    def spend(self, size: int) -> None:
        """So many bytes are asked for, whether `wait` allowed it or not."""
        self._look()
        self._left = max(self._least, self._left - size)
        self._changed = True

    def keep(self) -> None:
        """Writes to this machine's disk what was spent since the last time, if anything was: in a
        thread. Raises LocalError.
        """
        if self._changed:
            self._changed = False
            self._save(encode((self._left, self._looked)))

    def _look(self) -> None:
        now = trio.current_time()
        self._earn(now - self._at)
        self._at, self._looked = now, self._wall()

    def _earn(self, seconds: float) -> None:
        self._left = min(self._most, max(self._least, self._left + seconds * self._rate))
