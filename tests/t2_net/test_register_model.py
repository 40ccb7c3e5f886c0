"""The root register against its promises: random crashes, losses, reorderings and two writers.

A voter is the real acceptor. Messages are lost, delayed and reordered; writers die and come back
with higher ballots. What must hold: a root that a majority accepted is never forgotten by any later
writer, and roots confirmed one after another never go back.
"""

import random
from dataclasses import dataclass, field

import pytest

from bitdustfs.core.acceptor import Acceptor
from bitdustfs.core.placement import majority
from bitdustfs.core.records import Ballot, Features, Root
from bitdustfs.errors import Refused


def root_of(ballot, seq, uid):
    return Root(1, Features(), bytes(32), ballot, seq, uid, bytes(16), 0, 0, bytes(32), 0, b"")


@dataclass
class Writer:
    """One mount: claims a ballot, re-proposes the best root found, extends it."""

    machine: bytes
    ballot: Ballot | None = None
    base: Root | None = None
    known: list = field(default_factory=list)


class World:
    def __init__(self, seed, voters=7):
        self.rng = random.Random(seed)
        self.voters = [Acceptor() for _ in range(voters)]
        self.stored = {}  # raw -> Root
        self.confirmed = []  # roots that some writer saw accepted by a majority
        self.generation = 0

    def reachable(self):
        """The voters whose answers arrive this time, in random order."""
        count = self.rng.randrange(len(self.voters) + 1)
        return self.rng.sample(range(len(self.voters)), count)

    def prepare(self, writer):
        self.generation += self.rng.randrange(1, 3)
        ballot = Ballot(self.generation, writer.machine)
        answers = []
        for i in self.reachable():
            try:
                self.voters[i] = self.voters[i].prepare(ballot, lease_live=False)
            except Refused:
                continue
            if self.rng.random() < 0.9:  # else the answer is lost; the promise stays
                answers.append(self.voters[i])
        writer.ballot = writer.base = None
        if len(answers) < majority(len(self.voters)):
            return
        known = [self.stored[a.root] for a in answers if a.root is not None]
        best = max(known, key=lambda r: r.order, default=None)
        lost = [r for r in self.confirmed if best is None or r.order > best.order]
        assert not lost, "a confirmed root is hidden from a new writer"
        writer.ballot = ballot
        seq, uid = (best.seq, best.uid) if best else (0, bytes(16))
        writer.base = root_of(ballot, seq, uid)
        if not self.accept(writer, writer.base):
            writer.ballot = None  # dies, or tries again later

    def accept(self, writer, root):
        raw = repr(root).encode()
        self.stored[raw] = root
        got = 0
        for i in self.reachable():
            try:
                self.voters[i] = self.voters[i].accept(root, raw, b"family", 0)
            except Refused:
                continue
            got += self.rng.random() < 0.9
        if got < majority(len(self.voters)):
            return False
        assert all(root.order > r.order or root == r for r in self.confirmed), "the root went back"
        self.confirmed.append(root)
        return True

    def extend(self, writer):
        """Publishes on top of the base; the same bytes again when it was not confirmed."""
        if writer.ballot is None or writer.base is None:
            return
        uid = self.rng.randbytes(16)
        root = root_of(writer.ballot, writer.base.seq + 1, uid)
        for _ in range(self.rng.randrange(1, 4)):
            if self.accept(writer, root):
                writer.base = root
                return
        writer.ballot = None


@pytest.mark.parametrize("voters", [1, 3, 4, 7])
def test_promise_3_a_majority_root_is_never_lost_or_undone(voters):
    confirmed = 0
    for seed in range(150):
        world = World(seed, voters)
        writers = [Writer(b"a" * 16), Writer(b"b" * 16)]
        for _ in range(60):
            writer = world.rng.choice(writers)
            if writer.ballot is None or world.rng.random() < 0.2:
                world.prepare(writer)
            else:
                world.extend(writer)
        confirmed += len(world.confirmed)
        lineage = [r.uid for r in world.confirmed]
        order = [r.order for r in world.confirmed]
        assert order == sorted(order) and len(lineage) == len(order)
    assert confirmed > 300, "the model hardly ever confirms anything: it tests nothing"


def test_stale_and_fenced_requests_are_refused():
    low, high = Ballot(1, b"a" * 16), Ballot(2, b"b" * 16)
    state = Acceptor().prepare(high, lease_live=True)
    with pytest.raises(Refused, match="fenced"):
        state.prepare(low, lease_live=False)
    with pytest.raises(Refused, match="fenced"):
        state.accept(root_of(low, 9, b"u" * 16), b"raw", b"f", 0)
    with pytest.raises(Refused, match="lease-held"):
        state.prepare(Ballot(3, b"c" * 16), lease_live=True)
    state = state.accept(root_of(high, 5, b"u" * 16), b"raw", b"f", 0)
    assert state.accept(root_of(high, 5, b"u" * 16), b"raw", b"f", 0) == state
    with pytest.raises(Refused, match="stale"):
        state.accept(root_of(high, 5, b"v" * 16), b"other", b"f", 0)
