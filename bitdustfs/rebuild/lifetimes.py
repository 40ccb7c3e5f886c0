"""How often suppliers leave for ever: what was seen of them, and what is assumed before that. Pure.

Each supplier has a rate of its own, at which it leaves and takes everything along: its disk dies,
its owner loses interest. Rates of one family scatter exponentially about a mean that is the
family's. So whoever stayed long stays longer, as it is seen of volunteers' computers, and who left
says something of those who are there. The mean has a Gamma prior: with nothing seen yet it is one
departure a supplier and year, 0.2 to 2.4 with nine chances in ten. All rates are per year.

With the family's mean m, who stayed for t years has the likelihood 1 / (1 + m t), and who left
after t years m / (1 + m t)^2; the own rate of one that stayed has the mean m / (1 + m t).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

YEAR = 365.25 * 86400.0  #: seconds
PRIOR_SHAPE, PRIOR_MEAN = 2.0, 1.0  #: of the family's mean: departures a supplier and year
DISK = 0.02  #: departures a year of the best there is: disks die, however long somebody stayed
HOLLOW = 0.01  #: share of suppliers that may lack things they say they have, before any audit
_GRID = [10 ** (exponent / 100) for exponent in range(-400, 201)]  # means that are looked at


@dataclass(frozen=True)
class Life:
    """How long one supplier was seen to live, in years, and whether it left then."""

    age: float
    left: bool = False


class Level:
    """What is known of a family's mean rate, from the lives of all that ever were in it."""

    def __init__(self, lives: Iterable[Life]) -> None:
        seen = list(lives)
        logs = [_log_weight(mean, seen) for mean in _GRID]
        most = max(logs)
        self._below = list(accumulate(math.exp(log - most) for log in logs))

    def quantile(self, share: float) -> float:
        """The mean rate below which it is with the probability `share`."""
        bound = share * self._below[-1]
        return next(mean for mean, w in zip(_GRID, self._below, strict=True) if w >= bound)


def _log_weight(mean: float, lives: list[Life]) -> float:
    """Prior and likelihood, for a grid of equal steps of the logarithm (hence the whole shape)."""
    log = PRIOR_SHAPE * (math.log(mean) - mean / PRIOR_MEAN)
    for life in lives:
        log -= (1 + life.left) * math.log1p(mean * life.age)
        log += life.left * math.log(mean)
    return log


def own_rate(unit: float, mean: float, age: float) -> float:
    """One of the rates that a supplier may have that stayed for `age` years; above DISK.

    `unit`: drawn from the exponential distribution of mean 1.
    """
    return DISK + unit / (1 / mean + age)


def usual_rate(mean: float, age: float) -> float:
    """The mean of these."""
    return DISK + 1 / (1 / mean + age)


def hollowness(audits: int, failed: int) -> float:
    """The probability that a supplier lacks something it should have, and nobody knows.

    Rule of succession for the share that it lacks; of one that never failed, times HOLLOW.
    """
    return min(1.0, (1.0 if failed else HOLLOW) * (failed + 1) / (audits + 2))
