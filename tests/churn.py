"""A family among nodes that come and go, in virtual time: what plans of rebuild/plan.py make of it.

The plan decides; this world only carries it out, within a bandwidth, and counts what moves. Units:
one fragment of one block; time in seconds.
"""

import random
from dataclasses import dataclass, field

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
