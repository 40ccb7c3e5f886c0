"""A family among nodes that come and go, in virtual time: what plans of rebuild/plan.py make of it.

The plan decides; this world only carries it out, within a bandwidth, and counts what moves. Units:
one fragment of one block; time in seconds.

Run as a script it prints a table of small circles of home computers, over so many days:
`python tests/churn.py [DAYS]`.
"""

import random
import sys
from dataclasses import dataclass, field

from bitdustfs.core.placement import (
    acknowledgements_least,
    acknowledgements_wanted,
    majority,
)
from bitdustfs.rebuild.plan import BlockState, Presence, plan

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass
class Node:
    """One supplier. `kept`: (block, position) of all fragments on its disk."""

    number: int
    up: bool = True
    turns_at: float = 0.0  #: when it goes or comes back
    away_since: float = 0.0
    departed: bool = False
    rounds: int = 0
    answered: int = 0
    kept: set[tuple[int, int]] = field(default_factory=set)


class Churn:
    """A family of n with data blocks of k; the owner watches and executes plans all the time."""

    def __init__(self, seed, *, k=4, n=7, spares=9, blocks=120, patience=72 * HOUR, step=600.0,
                 uptime=48 * HOUR, downtime=12 * HOUR, departures=7 * DAY, fragments_a_step=60,
                 local_blocks=20):  # fmt: skip
        self.rng = random.Random(seed)
        self.k, self.n, self.patience, self.step = k, n, patience, step
        self.uptime, self.downtime, self.departures = uptime, downtime, departures
        self.bandwidth, self.local_blocks = fragments_a_step, local_blocks
        self.now = 0.0
        self.nodes = [Node(i, turns_at=self._stay(True)) for i in range(n + spares)]
        self.family = self.nodes[:n]
        self.blocks = list(range(blocks))
        for position, node in enumerate(self.family):
            node.kept = {(block, position) for block in self.blocks}
        self.next_departure = self.rng.expovariate(1 / departures) if departures else None
        self.filling = None  #: (position, node that gets it)
        self.moved = self.least = self.replaced = self.gave_up = 0
        self.readable = self.looks = 0
        self.fewest = n

    def _stay(self, up):
        return self.now + self.rng.expovariate(1 / (self.uptime if up else self.downtime))

    def churn(self):
        """One step of the world's own doing."""
        for node in self.nodes:
            if not node.departed and self.now >= node.turns_at:
                node.up = not node.up
                node.away_since = self.now
                node.turns_at = self._stay(node.up)
        if self.next_departure is not None and self.now >= self.next_departure:
            self.next_departure += self.rng.expovariate(1 / self.departures)
            position = self.rng.randrange(self.n)
            self.depart(self.family[position], position)

    def depart(self, node, position):
        """A member leaves for good, with all that it kept."""
        if node.departed:
            return
        # what anybody must move to make up for it: k read and one written for each of its fragments
        self.least += sum(p == position for _, p in node.kept) * (self.k + 1)
        node.departed, node.kept = True, set()
        if node.up:
            node.up, node.away_since = False, self.now
        self.nodes.append(Node(len(self.nodes), turns_at=self._stay(True)))

    def stored(self, block, living=lambda node: True):
        return frozenset(
            p for p, node in enumerate(self.family) if (block, p) in node.kept and living(node)
        )

    def observe(self):
        """The owner pings everybody, and the referee looks whether anything is lost."""
        for node in self.family:
            node.rounds += 1
            node.answered += node.up
        for block in self.blocks:
            self.fewest = min(self.fewest, len(self.stored(block)))
            self.readable += len(self.stored(block, lambda node: node.up)) >= self.k
            self.looks += 1

    def presence(self):
        return [
            Presence(
                0.0 if n.up else self.now - n.away_since + 1, False, n.answered / max(1, n.rounds)
            )
            for n in self.family
        ]  # fmt: skip

    def plan(self):
        states = []
        for block in self.blocks:
            stored = frozenset(
                p for p, n in enumerate(self.family) if (block, p) in n.kept or n.departed
            )  # fmt: skip  (nobody knows that they are gone)
            if len(stored) < self.n:
                local = block >= len(self.blocks) - self.local_blocks
                states.append(BlockState(b"%08d" % block, self.k, self.n, False, local, stored))
        return plan(states, self.presence(), k=self.k, patience=self.patience, margin=1)

    def work(self):
        """Carries out a plan as far as one step's bandwidth goes; whether it asked for anything."""
        budget = self.bandwidth
        made = self.plan()
        for repair in made.repairs:
            if budget <= 0:
                return True
            for position in repair.positions:
                self.family[position].kept.add((int(repair.block), position))
            budget -= repair.cost
            self.moved += 0 if repair.local else repair.cost
        if self.filling is not None and made.replace != self.filling[0]:
            self.filling, self.gave_up = None, self.gave_up + 1  # it is back
        if made.replace is None:
            return bool(made.repairs)
        if self.filling is None or not self.filling[1].up:
            self.filling = self._hire(made.replace)
        if self.filling is not None:
            self._fill(*self.filling, budget)
        return True

    def _hire(self, position):
        free = [n for n in self.nodes if n.up and n not in self.family]
        best = max(free, key=lambda n: sum(p == position for _, p in n.kept), default=None)
        return None if best is None else (position, best)

    def _fill(self, position, node, budget):
        old = self.family[position]
        for block in self.blocks:
            if (block, position) in node.kept:
                continue
            if budget <= 0:
                return
            if len(self.stored(block, lambda node: node.up) - {position}) < self.k and not old.up:
                continue
            cost = 2 if old.up else self.k + 1
            node.kept.add((block, position))
            self.moved += cost
            budget -= cost
        if all((block, position) in node.kept for block in self.blocks):
            self.family[position], self.filling = node, None
            node.rounds = node.answered = 0
            self.replaced += 1

    def write(self):
        """A new block, if enough members are there to take it."""
        online = [p for p, node in enumerate(self.family) if node.up]
        if len(online) <= self.k:
            return
        block = len(self.blocks)
        self.blocks.append(block)
        for position in online:
            self.family[position].kept.add((block, position))

    def run(self, duration, blocks_a_day=2):
        end, next_block = self.now + duration, self.now
        while self.now < end:
            self.now += self.step
            self.churn()
            self.observe()
            self.work()
            if self.now >= next_block:
                self.write()
                next_block += DAY / blocks_a_day


# -- small circles: home computers with daily rhythms

SMALL = ((1, 2), (1, 3), (2, 3), (2, 4), (4, 7))
UPTIMES = (0.3, 0.5, 0.7, 0.9)
WITHIN = 10 * 60.0  #: seconds in which what was written should be published
MINUTE = 60.0


def rhythm(rng, uptime, end):
    """When a home computer is on: (from, to), one stretch a day at about its own hour.

    One that is off for much of each day stays off altogether in one day of ten.
    """
    off = 0.1 if uptime < 0.8 else 0.0
    hour, stretches = rng.uniform(0, DAY), []
    for day in range(-1, int(end / DAY) + 1):
        length = DAY * min(1.0, uptime / (1 - off) * rng.uniform(0.8, 1.2))
        start = day * DAY + hour + rng.gauss(0, HOUR)
        if rng.random() >= off:
            stretches.append((start, start + length))
    return stretches


@dataclass
class Written:
    """One block. `had`: when each position got its fragment; `published`, `spare`: see Evening."""

    at: float
    had: dict[int, float] = field(default_factory=dict)
    published: float | None = None
    spare: float | None = None  #: when one more could be lost than reading takes


class Evening:
    """Friends of one owner who writes a block every two hours, mounted all the time.

    A root is published when its blocks have enough holders and enough voters are there. `seat`: the
    owner has a vote where the number of friends is even. `before`: by the rule that knew neither k
    after a minute nor the seat. Once in `disk` seconds a friend's disk dies and comes back empty; a
    second one does not die before what the first one had is there again.
    """

    def __init__(self, seed, k, n, uptime, *, days=60, seat=True, before=False, disk=20 * DAY,
                 step=300.0):  # fmt: skip
        self.rng = random.Random(seed)
        self.k, self.n, self.end, self.step = k, n, days * DAY, step
        self.seat, self.before = seat and not before, before
        self.on = [rhythm(self.rng, uptime, self.end) for _ in range(n)]
        self.deaths = self._deaths(disk)
        self.blocks: list[Written] = []
        self.open: set[int] = set()  # blocks that somebody lacks, or that no root names
        self.evicted: set[int] = set()  # blocks that the owner's machine has dropped
        self.lost = self.died = 0

    def _deaths(self, mean):
        at, deaths = 0.0, []
        while mean and (at := at + self.rng.expovariate(1 / mean)) < self.end:
            deaths.append((at, self.rng.randrange(self.n)))
        return deaths

    def there(self, now):
        return {p for p, stretches in enumerate(self.on) if any(a <= now < b for a, b in stretches)}

    def quorum(self, there):
        seat = self.seat and self.n % 2 == 0
        return len(there) + seat >= majority(self.n + seat)

    def enough(self, holders, waited):
        """Whether a root may name a block that so many hold."""
        wanted = acknowledgements_wanted(self.k, self.n)
        if self.before or waited < MINUTE:
            return holders >= wanted
        return holders >= acknowledgements_least(self.k, self.n, False)

    def run(self):
        now, due = 0.0, 0.0
        while now < self.end:
            self._die(now)
            if now >= due:
                self.open.add(len(self.blocks))
                self.blocks.append(Written(now))
                due += 2 * HOUR
            self._deliver(now, self.there(now))
            now += self.step
        return self

    def _deliver(self, now, there):
        """Everybody who is there gets what it lacks: from the owner's copy, or from k others."""
        for number in sorted(self.open):
            block = self.blocks[number]
            if number not in self.evicted or len(block.had.keys() & there) >= self.k:
                for position in there - block.had.keys():
                    block.had[position] = now
            self._publish(block, now, there)
            if block.published is not None and self._is_spare(block):
                block.spare = now if block.spare is None else block.spare
                self.evicted.add(number)  # as early as it may: nothing hides behind local copies
                if len(block.had) == self.n:
                    self.open.discard(number)

    def _is_spare(self, block):
        return len(block.had) >= min(self.n, self.k + 1)

    def _publish(self, block, now, there):
        if block.published is not None or not self.quorum(there):
            return
        for waited in (0.0, MINUTE):
            if self.enough(len(block.had), max(now - block.at, waited)):
                block.published = now + waited
                return

    def _die(self, now):
        """A disk dies: all that its friend kept is gone, and nobody else's at that moment."""
        while self.deaths and self.deaths[0][0] <= now:
            if not all(self._is_spare(self.blocks[number]) for number in self.evicted):
                return
            _, position = self.deaths.pop(0)
            self.died += 1
            for number, block in enumerate(self.blocks):
                block.had.pop(position, None)
                self.open.add(number)
                self.lost += number in self.evicted and len(block.had) < self.k

    # -- what came of it

    def judged(self):
        """The blocks that were written early enough to be judged."""
        return [block for block in self.blocks if block.at < self.end - 3 * DAY]

    def share_in_time(self):
        blocks = self.judged()
        in_time = [b.published is not None and b.published - b.at <= WITHIN for b in blocks]
        return sum(in_time) / len(blocks)

    def hours_until_spare(self):
        """Mean, of those that came so far; and how many did not within the time that was left."""
        hours = [(b.spare - b.at) / HOUR for b in self.judged() if b.spare is not None]
        late = len(self.judged()) - len(hours)
        return (sum(hours) / len(hours) if hours else float("inf")), late


def table(days, seeds):
    """The rows that `python tests/churn.py` prints."""
    for k, n in SMALL:
        for uptime in UPTIMES:
            row = [f"{k}/{n}", f"{uptime:.0%}"]
            for rules in ({"before": True}, {"seat": False}, {"seat": True}):
                lives = [Evening(s, k, n, uptime, days=days, **rules).run() for s in seeds]
                spare = [life.hours_until_spare() for life in lives]
                row += [
                    f"{sum(life.share_in_time() for life in lives) / len(lives):.1%}",
                    f"{sum(hours for hours, _ in spare) / len(spare):.1f}",
                    str(sum(late for _, late in spare)),
                    str(sum(life.lost for life in lives)),
                ]
            yield row


HEAD = ("published within 10 min", "hours to k + 1", "later", "lost")


def main():
    days, seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 60, range(5)
    print("| code | up |", " | ".join(f"{w}: {h}" for w in RULES for h in HEAD), "|")
    print("|---" * (2 + len(RULES) * len(HEAD)) + "|")
    for row in table(days, seeds):
        print("|", " | ".join(row), "|", flush=True)


RULES = ("before", "members vote", "with the seat")

if __name__ == "__main__":
    main()
