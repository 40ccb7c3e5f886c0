"""What to rebuild, and whom to replace: a pure decision, from what is known to what is to be done.

Three rules keep it calm. A fragment is made again only where its position's supplier is online and
lacks it, so whoever flaps is served what is owed and nothing else. A position goes to another
supplier only when its own is gone (left, or proven a liar), or was away past the policy's patience;
past a quarter of it already when some block has fewer than k + margin fragments at suppliers that
were away for less. And one position changes at a time. tests/churn.py measures what these rules
cost and save.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

LATE = 1 / 4  #: share of the patience that is enough when little is left


@dataclass(frozen=True)
class Presence:
    """One position's supplier. `away`: seconds since it last answered, 0 while it is online."""

    away: float = 0.0
    gone: bool = False  #: it said that it leaves, or was proven a liar
    uptime: float = 1.0  #: share of pings answered, ever
    beside: bool = False  #: it is on the owner's machine, and lost with it

    @property
    def online(self) -> bool:
        return not self.away and not self.gone

    @property
    def counts(self) -> bool:
        """Whether what it keeps can be reckoned with when the owner's machine is lost."""
        return self.online and not self.beside


@dataclass(frozen=True)
class BlockState:
    """One block that some position lacks. `stored`: positions that have their fragment, intact."""

    block: bytes
    k: int
    n: int
    meta: bool
    local: bool  #: whether this machine has the block: making fragments downloads nothing
    stored: frozenset[int]

    def reachable(self, presence: Sequence[Presence]) -> int:
        """How many of its fragments can be had right now."""
        return sum(presence[p].online for p in self.stored)

    @property
    def lost(self) -> bool:
        """Whether nobody can make it again, whoever comes back."""
        return not self.local and len(self.stored) < self.k

    def margin(self, presence: Sequence[Presence]) -> int:
        """How many more suppliers may be lost besides this machine; see spare."""
        return spare([presence[p] for p in self.stored], self.k)


@dataclass(frozen=True)
class Repair:
    """Make the fragments of one block at `positions`, all from the same k (or the local copy)."""

    block: bytes
    positions: tuple[int, ...]
    local: bool
    cost: int  #: fragments moved over the network


@dataclass(frozen=True)
class Plan:
    """Repairs in order; the position to give to another supplier, if any; what must wait.

    `waiting`: blocks of which k fragments are not to be had right now. `lost`: blocks of which
    suppliers have fewer than k fragments, whoever comes back, as far as is known here.
    `margin`: how many more suppliers may be lost before the thinnest block, `thinnest`, is lost
    with them; `thinnest` is None when no block lacks anything.
    """

    repairs: tuple[Repair, ...]
    replace: int | None
    waiting: tuple[bytes, ...]
    lost: tuple[bytes, ...]
    margin: int
    thinnest: bytes | None


def plan(
    blocks: Iterable[BlockState],
    presence: Sequence[Presence],
    *,
    k: int,
    patience: float,
    margin: int,
    refused: Collection[int] = (),
) -> Plan:
    """The plan for one group with data blocks of k fragments.

    `blocks`: those that some position lacks. `refused`: positions for which no other supplier was
    found lately. Thinnest blocks first; of equal ones metadata first; of those the local ones.
    """
    lacking = list(blocks)
    repairs, waiting = [], []
    for state in sorted(lacking, key=lambda s: _rank(s, presence)):
        positions = tuple(p for p in range(state.n) if p not in state.stored and presence[p].online)
        if not positions or state.lost:
            continue
        if not state.local and state.reachable(presence) < state.k:
            waiting.append(state.block)
            continue
        cost = len(positions) + (0 if state.local else state.k)
        repairs.append(Repair(state.block, positions, state.local, cost))
    margins: dict[bytes | None, int] = {s.block: s.margin(presence) for s in lacking}
    margins[None] = spare(presence, k)
    thinnest = min(margins, key=lambda block: (margins[block], block is not None))
    replace = _to_replace(lacking, presence, k, patience, margin, refused)
    lost = tuple(state.block for state in lacking if state.lost)
    return Plan(tuple(repairs), replace, tuple(waiting), lost, margins[thinnest], thinnest)


def spare(presence: Iterable[Presence], k: int) -> int:
    """How many of these may be lost, and the owner's machine, so that k are left.

    0 also where k are there with the one on that machine only; below 0 fewer than k are there.
    """
    there = list(presence)
    online, counted = sum(p.online for p in there), sum(p.counts for p in there)
    return max(counted - k, min(online - k, 0))


def _rank(state: BlockState, presence: Sequence[Presence]) -> tuple[int, bool, bool, bytes]:
    return (state.reachable(presence) - state.k, not state.meta, not state.local, state.block)


def _to_replace(
    lacking: Collection[BlockState],
    presence: Sequence[Presence],
    k: int,
    patience: float,
    margin: int,
    refused: Collection[int],
) -> int | None:
    """Those gone first, then the least reliable of those away for too long."""
    near = {p for p, seen in enumerate(presence) if not seen.gone and seen.away <= patience * LATE}
    left = min([len(near) - k, *(len(s.stored & near) - s.k for s in lacking if not s.local)])
    bound = patience * (LATE if left < margin else 1.0)
    due = [
        p for p, seen in enumerate(presence)
        if p not in refused and (seen.gone or seen.away > bound)
    ]  # fmt: skip
    return min(due, key=lambda p: (not presence[p].gone, presence[p].uptime, p), default=None)
