"""How often something may be done: a leaky bucket for each key. No I/O."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import trio

DEBT_MAX = 30.0  #: seconds that are owed at most: who asks much, and goes, is no burden to others
KEYS_MAX = 10_000  #: keys that are remembered, those used least lately forgotten first


class Rates:
    """`rate` units a second for each key, and `burst` at once."""

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def admits(self, key: Hashable, amount: float = 1.0) -> bool:
        """Whether `amount` may be spent now; it is spent then."""
        level = self._level(key)
        admitted = level >= amount
        self._keep(key, level - amount if admitted else level)
        return admitted

    def spend(self, key: Hashable, amount: float = 1.0) -> float:
        """Spends `amount`; the seconds until that is made good, 0 where there was enough.

        That is DEBT_MAX at most, or what `amount` alone takes if that is more.
        """
        level = max(self._level(key) - amount, -max(DEBT_MAX * self._rate, amount))
        self._keep(key, level)
        return max(0.0, -level / self._rate)

    def _level(self, key: Hashable) -> float:
        now = self._clock()
        level, then = self._levels.pop(key, (self._burst, now))
        return min(self._burst, level + (now - then) * self._rate)

    def _keep(self, key: Hashable, level: float) -> None:
        self._levels[key] = (level, self._clock())
        if len(self._levels) > KEYS_MAX:
            self._levels.popitem(last=False)
