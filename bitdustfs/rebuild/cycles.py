"""How likely a family loses data once somebody leaves, by plan.py's own rules in virtual time.

A family is complete nearly always. A *cycle* begins when somebody leaves for ever, and ends when
everybody's place is filled again, or when fewer than k are left: then something is lost. Who leaves
is away for good, and nobody can tell; what the plan makes of that, and how long a place takes to be
filled, is the time in which others may leave.

Losses are rare, so departures are made frequent, and each path is weighed by its likelihood ratio
(importance sampling; balanced failure biasing: Shahabuddin, Management Science 40(3), 1994). What
is counted has the right mean whatever the bias is; only its scatter depends on it. A chance of one
in a million takes some hundred cycles.

Positions may be hollow besides: their suppliers lack something, and no audit showed it yet. Where
so many of those that are left are hollow that fewer than k have everything, something may be lost.

What is asked for is the chance within a year. So a cycle is followed for a year at most: of a large
family with a small k somebody is away at any time, and nearly none of its cycles would ever end.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bitdustfs.rebuild.lifetimes import YEAR
from bitdustfs.rebuild.plan import LATE, Presence, plan

HIRE = 30 * 86400.0  #: seconds until somebody is found where no reserve stands by: by hand
PUSH = 1.5  #: departures that are to come while a place is filled; an exponent of the weight
#: times as many departures as it takes to lose something are biased, and so many at most
PUSHED, PUSHES_MAX = 2, 24
SPEED_MIN = 0.01  #: share of time that is reckoned with at least
STEPS_MAX = 4000  #: of one cycle; of one that takes more, all that may still come counts as lost
KEPT_MAX = 20_000  #: answers that are kept of each question
INSTANT = 1.0  #: seconds past a bound at which it counts as passed

_Situation = TypeVar("_Situation")
_Recalled = TypeVar("_Recalled")


@dataclass(frozen=True)
class Terms:
    """What a family repairs itself by. Times are seconds."""

    k: int
    patience: float
    margin: int
    fill: float  #: to fill a place, while k others are there
    reserves: int  #: that stand by
    mounted: float  #: share of time in which the owner looks after it
    uptimes: Sequence[float]  #: of the positions: share of time
    hollow: Sequence[float]  #: of the positions: probability


@dataclass(frozen=True)
class Cause:
    """Something that takes the suppliers of these positions away for ever, so often a second."""

    rate: float
    positions: frozenset[int]


@dataclass(frozen=True)
class PathsTaken:
    """Means over cycles. `loss`: probability; `length`: seconds; `steps`: what it took."""

    loss: float
    length: float
    steps: float


class Repairing:
    """What the rules make of who is left: the same for all cycles, and reckoned once for each."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.everybody = frozenset(range(len(terms.uptimes)))
        self._plans: dict[tuple[int, ...], int | None] = {}
        self._speed: dict[frozenset[int], float] = {}
        self._lost: dict[frozenset[int], float] = {}

    def to_replace(self, away: Mapping[int, float]) -> int | None:
        """Whose place is filled next, by the plan; `away`: seconds of those who left."""
        terms = self.terms
        late, bound = terms.patience * LATE, terms.patience
        key = tuple(
            0 if p not in away else 1 + (away[p] > late) + (away[p] > bound)
            for p in range(len(terms.uptimes))
        )
        if key not in self._plans:
            _make_room(self._plans)
            there = [
                Presence(away.get(p, 0.0), uptime=uptime) for p, uptime in enumerate(terms.uptimes)
            ]
            self._plans[key] = plan(
                (), there, k=terms.k, patience=terms.patience, margin=terms.margin
            ).replace
        return self._plans[key]

    def next_bound(self, away: Mapping[int, float]) -> float:
        """Seconds until somebody is away for so long that the plan may change."""
        bounds = (self.terms.patience * LATE, self.terms.patience)
        return min(b - t for t in away.values() for b in bounds if t <= b) + INSTANT

    def speed(self, left: frozenset[int], clock: float) -> float:
        """Share of time in which a place can be filled: k of these have to be there."""
        if left not in self._speed:
            _make_room(self._speed)
            uptimes = [self.terms.uptimes[p] for p in left]
            self._speed[left] = 1 - fewer_than(self.terms.k, uptimes)
        return max(SPEED_MIN, self._speed[left] * clock)

    def lost(self, left: frozenset[int]) -> float:
        """The probability that something is lost where nobody else is left."""
        if left not in self._lost:
            _make_room(self._lost)
            whole = [1 - self.terms.hollow[p] for p in left]
            self._lost[left] = fewer_than(self.terms.k, whole)
        return self._lost[left]


def _make_room(kept: dict[_Situation, _Recalled]) -> None:
    """Of a large family nearly all that is asked is new: what is kept must not grow with it."""
    if len(kept) >= KEPT_MAX:
        kept.clear()


def fewer_than(k: int, chances: Sequence[float]) -> float:
    """The probability that fewer than k of independent things are so.

    It is summed up from what is tiny, by what is so or by what is not, so that it stays exact.
    """
    failing = len(chances) - k + 1
    if k <= 0 or failing <= 0:
        return float(k > 0)
    if failing < k:
        return _reaching(failing, [1 - chance for chance in chances])
    counts = [1.0]  # the probabilities of none, one, two, ... up to k - 1
    for chance in chances:
        counts = _one_more(chance, [*counts, 0.0])[:k]
    return min(1.0, math.fsum(counts))


def _reaching(count: int, chances: Sequence[float]) -> float:
    """The probability that `count` or more are so."""
    counts, reached = [1.0, *[0.0] * (count - 1)], 0.0
    for chance in chances:
        reached += counts[-1] * chance
        counts = _one_more(chance, counts)
    return min(1.0, reached)


def _one_more(chance: float, counts: Sequence[float]) -> list[float]:
    """Probabilities of none, one, two, ... once one more of them may be so."""
    fails = 1 - chance
    pairs = zip(counts, [0.0, *counts], strict=False)
    return [same * fails + less * chance for same, less in pairs]


class _Path:
    """One cycle as it goes."""

    def __init__(
        self, repairing: Repairing, causes: Sequence[Cause], rng: random.Random,
        away: Mapping[int, float],
    ) -> None:  # fmt: skip
        self._rules, self._causes, self._rng = repairing, causes, rng
        self._away = dict(away)
        self._reserves = repairing.terms.reserves
        self._filling: int | None = None
        self._by_hand = False  # whether it is filled by somebody who was no reserve
        self._hiring = self._todo = 0.0  # seconds: of looking for somebody, of filling the place
        self._weight, self._worst = 1.0, repairing.lost(repairing.everybody)
        bears = len(repairing.everybody) - repairing.terms.k
        self._pushes = min(PUSHES_MAX, PUSHED * (bears + 1))
        self.loss = self.length = 0.0
        self.steps, self._left = 0, YEAR  # seconds for which it is still followed

    def begin(self) -> None:
        """The first one leaves, or several at once."""
        shares = _biased([c.rate for c in self._causes])
        total = sum(c.rate for c in self._causes)
        [at] = self._rng.choices(range(len(shares)), shares)
        self._weight = self._causes[at].rate / total / shares[at]
        self._take(self._causes[at])

    def run(self) -> None:
        """Until all places are filled, or something is lost, or a year is over."""
        while self._away and self._left > 0:
            if self.steps == STEPS_MAX:
                self.loss += (1 - self._worst) * self._weight
                return
            self.steps += 1
            left = self._rules.everybody.difference(self._away)
            lost = self._rules.lost(left)
            if lost > self._worst:
                self.loss += (lost - self._worst) * self._weight
                self._worst = lost
            if len(left) < self._rules.terms.k:
                return
            self._step(left)

    def _step(self, left: frozenset[int]) -> None:
        """Until somebody else leaves, or the next thing happens that was to come."""
        coming = self._due(left)
        due = min(coming, self._left)
        hitting = [cause for cause in self._causes if cause.positions & left]
        rates = [cause.rate for cause in hitting]
        total = sum(rates)
        pushed = total if self._pushes <= 0 else max(total, PUSH / self._horizon(coming, left))
        after = self._rng.expovariate(pushed)
        self.length += self._weight * -math.expm1(-total * due) / total  # the mean, unbiased
        self._weight *= math.exp((pushed - total) * min(after, due))
        self._left -= min(after, due)
        self._pass(min(after, due), left)
        if after < due:
            shares = _biased(rates) if self._pushes > 0 else [rate / total for rate in rates]
            [at] = self._rng.choices(range(len(shares)), shares)
            self._weight *= rates[at] / (pushed * shares[at])
            self._take(hitting[at])
        elif self._filling is not None and due == coming:
            del self._away[self._filling]
            self._filling = None

    def _due(self, left: frozenset[int]) -> float:
        """Seconds until the next thing happens that was to come."""
        if self._filling is None:
            self._filling = self._rules.to_replace(self._away)
            if self._filling is None:
                return self._rules.next_bound(self._away) / self._clock
            self._by_hand = not self._reserves
            self._hiring = HIRE if self._by_hand else 0.0
            self._todo = self._rules.terms.fill
            self._reserves = max(0, self._reserves - 1)
        return self._hiring + self._todo / self._speed(left)

    def _horizon(self, due: float, left: frozenset[int]) -> float:
        """Seconds in which PUSH departures are to come: those that a place is empty at least.

        While a place is filled it is no less. Else what takes an hour would have as many as what
        takes days, and weights would scatter.
        """
        terms = self._rules.terms
        hiring = 0.0 if self._reserves else HIRE
        empty = terms.patience * LATE / self._clock + terms.fill / self._speed(left)
        return max(INSTANT, due, empty + hiring)

    def _pass(self, seconds: float, left: frozenset[int]) -> None:
        self._away = {p: away + seconds * self._clock for p, away in self._away.items()}
        hiring = min(seconds, self._hiring)
        self._hiring -= hiring
        self._todo -= (seconds - hiring) * self._speed(left)

    @property
    def _clock(self) -> float:
        """How fast time counts: while the owner is away, nothing is done where no reserve is."""
        guarded = self._reserves or (self._filling is not None and not self._by_hand)
        return 1.0 if guarded else self._rules.terms.mounted

    def _speed(self, left: frozenset[int]) -> float:
        return self._rules.speed(left, self._clock)

    def _take(self, cause: Cause) -> None:
        self._pushes -= 1
        for position in cause.positions.difference(self._away):
            self._away[position] = INSTANT


def _biased(rates: Sequence[float]) -> list[float]:
    """Shares in which causes are taken: half by their rates, half all alike."""
    total, count = sum(rates), len(rates)
    return [(rate / total + 1 / count) / 2 for rate in rates]


def cycles(
    repairing: Repairing, causes: Sequence[Cause], count: int, rng: random.Random
) -> PathsTaken:
    """What becomes of a complete family once somebody leaves."""
    paths = [_Path(repairing, causes, rng, {}) for _ in range(count)]
    for path in paths:
        path.begin()
        path.run()
    return _mean(paths)


def present_cycle(
    repairing: Repairing,
    causes: Sequence[Cause],
    away: Mapping[int, float],
    count: int,
    rng: random.Random,
) -> PathsTaken:
    """What becomes of a family that is not complete now. `away`: seconds, by position."""
    paths = [_Path(repairing, causes, rng, away) for _ in range(count)]
    for path in paths:
        path.run()
    return _mean(paths)


def _mean(paths: Sequence[_Path]) -> PathsTaken:
    count = len(paths)
    return PathsTaken(
        min(1.0, math.fsum(p.loss for p in paths) / count),
        math.fsum(p.length for p in paths) / count,
        sum(p.steps for p in paths) / count,
    )
