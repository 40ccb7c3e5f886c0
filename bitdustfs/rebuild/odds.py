"""The chance that anything of a vault is lost within a year, with a range, and what would help.

lifetimes.py says how often suppliers may leave, cycles.py what becomes of a family then. Here rates
are drawn many times over: each draw has a chance of its own. Their mean is the chance; the range
leaves out one draw of twenty on either side. The same question has the same answer: draws and paths
are seeded, and alternatives are judged by the same draws.

Run as a process it answers one question: JSON in, how far it is and JSON out (main).
"""

import math
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from bitdustfs.rebuild.cycles import Cause, Repairing, Terms, cycles, present_cycle
from bitdustfs.rebuild.lifetimes import (
    YEAR,
    Level,
    Life,
    hollowness,
    own_rate,
    usual_rate,
)

LEAST = 1e-8  #: a year; below it faults of this software and a lost key are what is to be feared
LEAST_ASSUMED = 1e-4  #: the least that is claimed while most is assumed, not measured
DRAWS, LARGE = 600, 20  #: sets of rates; fewer where a family has more suppliers than that
CYCLES = 20  #: of a draw, at most
CYCLES_MIN, PILOT = 2, 20  #: of a draw at least; to see what they take
PILOT_STEPS = 1000  #: of the latter; after so many it is known well enough
DRAWS_MIN = 20  #: the range leaves out one of them on either side
QUICK = 0.2  #: share of the draws that is enough for comparing
#: positions looked at in one reckoning, about; at most, with DRAWS_MIN draws; and so many a step
WORK, WORK_MAX, OVERHEAD = 2_000_000, 4_000_000, 10
OUTSIDE = 0.05  #: share of the draws that the range leaves out on either side
TOGETHER = 0.1  #: departures a year of all suppliers of one network at once: a fire, a provider
PATIENCE_MIN = 86400.0  #: seconds below which no patience is recommended: nights are no departures
STANDS_OUT = 1.25  #: times what the one in the middle scores: from there on somebody is the weakest
HELPS = 0.7  #: of the chance: what leaves more of it is not worth a word
LINE = 1_000_000  #: bytes a second in which a place is filled: what a home's line is sure to do
SEED = 15


Stepping = Callable[[int, int], None]


class SupplierSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One position's supplier as it was seen."""

    age: float = 0.0  #: years since it was first seen
    uptime: float = 0.8  #: share of time
    audits: int = 0
    audits_failed: int = 0
    network: str = ""  #: what it shares with whoever falls with it; "": nothing
    away: float | None = None  #: seconds, of one that is not expected back; None: it is there


class OddsQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A family. `lives`: years that suppliers were seen, and whether they left for ever then."""

    k: int
    patience: float  #: seconds
    margin: int
    fill: float  #: seconds to fill one place
    suppliers: tuple[SupplierSeen, ...]
    reserves: int = 0
    mounted: float = 1.0  #: share of time in which its owner looks after it
    lives: tuple[tuple[float, bool], ...] = ()
    least: float = LEAST  #: no smaller chance is claimed


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """Something that would help, and the chance with it.

    `what`: replace (the weakest), reserve (one for each), patience (of so many seconds: `to`) or
    supplier (one more, of another network: a new vault).
    """

    what: str
    chance: float = 1.0
    to: float = 0.0


class Odds(msgspec.Struct, frozen=True, kw_only=True):
    """Chances in a year that anything is lost; the range is `low` to `high`."""

    chance: float
    low: float
    high: float
    weakest: int = -1  #: position of the supplier that is most likely to leave; -1: all are alike
    remedies: tuple[Remedy, ...] = ()  #: the best first


def seconds_to_fill(size: int, k: int, bandwidth: float = 0.0) -> float:
    """How long it takes to fill the place of a supplier that kept `size` bytes.

    k fragments are read for each that is written. `bandwidth`: the policy's, in bytes a second; 0:
    it has none.
    """
    return (k + 1) * size / min(LINE, bandwidth or LINE)


class Draw(NamedTuple):
    """Rates a year, as they may be: of the positions, and of all of one network at once."""

    rates: tuple[float, ...]
    together: float


def reckon(question: OddsQuestion, effort: float = 1.0) -> Odds:
    """The chance as things are. `effort`: share of the draws."""
    share = effort * min(1.0, LARGE / len(question.suppliers))
    draws = _draws(question, max(DRAWS_MIN, round(DRAWS * share)))
    repairing, rng = Repairing(_terms(question)), random.Random(SEED)
    count, most = _affordable(question, repairing, draws[len(draws) // 2], effort)
    draws = draws[:: math.ceil(len(draws) / most)]
    chances = sorted(_chance(question, repairing, draw, count, rng) for draw in draws)
    out = int(OUTSIDE * len(chances))
    mean = math.fsum(chances) / len(chances)
    said = [min(1.0, max(question.least, c)) for c in (mean, chances[out], chances[-1 - out])]
    return Odds(chance=said[0], low=said[1], high=said[2])


def advise(question: OddsQuestion, on_step: Stepping = lambda done, total: None) -> Odds:
    """The same, with the weakest supplier and with what would help.

    `on_step` hears how many cases are reckoned, and of how many.
    """
    weakest = weakest_of(question)
    cases = _alternatives(question, weakest)
    on_step(0, 1 + len(cases))
    now, remedies = reckon(question), []
    if now.chance > question.least:
        for done, (remedy, other) in enumerate(cases, start=1):
            on_step(done, 1 + len(cases))
            remedies.append(msgspec.structs.replace(remedy, chance=reckon(other).chance))
    helping = [remedy for remedy in remedies if remedy.chance <= HELPS * now.chance]
    helping.sort(key=lambda remedy: (remedy.chance, remedy.what))
    return msgspec.structs.replace(now, weakest=weakest, remedies=tuple(helping))


def weakest_of(question: OddsQuestion) -> int:
    """The position of the supplier that is most likely to leave; -1 where none stands out."""
    mean = Level(Life(*life) for life in question.lives).quantile(0.5)
    beside = Counter(seen.network for seen in question.suppliers if seen.network)

    def score(seen: SupplierSeen) -> float:
        neighbours = TOGETHER if beside[seen.network] > 1 else 0.0
        hollow = hollowness(seen.audits, seen.audits_failed)
        return usual_rate(mean, seen.age) + neighbours + hollow

    scores = [score(seen) for seen in question.suppliers]
    if len(scores) < 2 or max(scores) < STANDS_OUT * sorted(scores)[(len(scores) - 1) // 2]:
        return -1
    return max(range(len(scores)), key=scores.__getitem__)


def _alternatives(question: OddsQuestion, weakest: int) -> list[tuple[Remedy, OddsQuestion]]:
    """What could be otherwise; the chances are still to be reckoned."""
    changed, suppliers = msgspec.structs.replace, question.suppliers
    found = [(Remedy(what="supplier"), changed(question, suppliers=(*suppliers, SupplierSeen())))]
    if weakest >= 0:
        others = (*suppliers[:weakest], SupplierSeen(), *suppliers[weakest + 1 :])
        found.append((Remedy(what="replace"), changed(question, suppliers=others)))
    if question.reserves < len(suppliers):
        found.append((Remedy(what="reserve"), changed(question, reserves=len(suppliers))))
    if (shorter := question.patience / 3) >= PATIENCE_MIN:
        found.append((Remedy(what="patience", to=shorter), changed(question, patience=shorter)))
    return found


def _draws(question: OddsQuestion, count: int) -> list[Draw]:
    """Rates as they may be, the family's mean spread evenly over what is known of it."""
    level = Level(Life(*life) for life in question.lives)
    drawn = []
    for number in range(count):
        mean = level.quantile((number + 0.5) / count)
        rates = tuple(
            own_rate(_unit(number, position), mean, seen.age)
            for position, seen in enumerate(question.suppliers)
        )
        drawn.append(Draw(rates, TOGETHER * _unit(number, -1)))
    return drawn


def _unit(draw: int, position: int) -> float:
    """Exponential, of mean 1: the same in every question for one position of one draw."""
    return random.Random(f"{SEED} {draw} {position}").expovariate(1.0)


def _terms(question: OddsQuestion) -> Terms:
    seen = question.suppliers
    return Terms(
        question.k, question.patience, question.margin, question.fill, question.reserves,
        question.mounted, [s.uptime for s in seen],
        [hollowness(s.audits, s.audits_failed) for s in seen],
    )  # fmt: skip


def _causes(question: OddsQuestion, draw: Draw) -> list[Cause]:
    """What takes suppliers away: each alone, and all of one network together."""
    found = [Cause(rate / YEAR, frozenset([p])) for p, rate in enumerate(draw.rates)]
    networks = Counter(seen.network for seen in question.suppliers if seen.network)
    for network, count in networks.items():
        if count > 1:
            there = frozenset(p for p, s in enumerate(question.suppliers) if s.network == network)
            found.append(Cause(draw.together / YEAR, there))
    return found


def _affordable(
    question: OddsQuestion, repairing: Repairing, draw: Draw, effort: float
) -> tuple[int, int]:
    """Cycles of each draw, and draws at most: fewer where each cycle takes long."""
    causes, rng = _causes(question, draw), random.Random(SEED)
    spent, tried = 0.0, 0
    while tried < PILOT and spent < PILOT_STEPS:
        spent += cycles(repairing, causes, 1, rng).steps
        tried += 1
    cost = spent / tried * (len(question.suppliers) + OVERHEAD)
    count = max(CYCLES_MIN, min(CYCLES, round(WORK / DRAWS / cost)))
    return count, max(DRAWS_MIN, round(WORK_MAX * effort / (count * cost)))


def _chance(
    question: OddsQuestion, repairing: Repairing, draw: Draw, count: int, rng: random.Random
) -> float:
    """The chance of a loss within a year with these rates."""
    causes = _causes(question, draw)
    away = {p: s.away for p, s in enumerate(question.suppliers) if s.away is not None}
    lost = [repairing.lost(repairing.everybody)]  # hollow ones: as things are
    if away:
        lost.append(present_cycle(repairing, causes, away, count, rng).loss)
    later = cycles(repairing, causes, count, rng)
    pause = 1 / math.fsum(cause.rate for cause in causes)
    often = later.loss / (pause + later.length)
    if max(lost) >= 1:
        return 1.0
    return -math.expm1(math.fsum(math.log1p(-p) for p in lost) - often * YEAR)


def main() -> None:
    """Answers the question on standard input. The first argument is how nice it is meanwhile."""
    os.nice(int(sys.argv[1]))
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=OddsQuestion)

    def tell(done: int, total: int) -> None:
        sys.stdout.buffer.write(b"%d %d\n" % (done, total))
        sys.stdout.buffer.flush()

    sys.stdout.buffer.write(msgspec.json.encode(advise(question, tell)))


if __name__ == "__main__":
    main()
