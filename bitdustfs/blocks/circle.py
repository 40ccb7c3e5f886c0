"""The family as this machine reaches it: a session and a health for each supplier.

Position by position: who has it, who stands in for it, who is asked for its fragments just now.
When the family changes, `move` is told; what is known of earlier suppliers stays.
"""

from collections.abc import Callable, Collection

import trio

from bitdustfs.blocks.damage import Damage
from bitdustfs.blocks.health import Health, Sighted
from bitdustfs.core.records import Family, Member
from bitdustfs.errors import Unavailable
from bitdustfs.net.supplier import Connect, Supplier

ASKED_JUST_NOW = 15.0  #: seconds; while a mount runs, its watch asks more often than that

IsOwn = Callable[[Member], bool]  #: whether a supplier is on this very machine


def nobody_is(member: Member) -> bool:
    """No supplier is on this machine."""
    return False


def addresses_of(circle: "Circle", member: Member) -> tuple[str, ...]:
    """Where a member or a reserve is: where it was reached last, then what the family says."""
    reached = circle.session(member).reached_at()
    return tuple(dict.fromkeys((*((reached,) if reached else ()), *member.addresses)))


class Copies:
    """Which reserves have some fragments of which positions, although they do not stand in."""

    def __init__(self) -> None:
        self._at: dict[bytes, frozenset[int]] = {}  # reserve -> positions

    def heard(self, node: bytes, positions: Collection[int]) -> None:
        """A reserve says of which it has some."""
        self._at[node] = frozenset(positions)

    def came(self, position: int, node: bytes) -> None:
        """A reserve was given one."""
        self._at[node] = self.kept_by(node) | {position}

    def went(self, position: int, node: bytes) -> None:
        """A reserve dropped those of a position."""
        self._at[node] = self.kept_by(node) - {position}

    def kept_by(self, node: bytes) -> frozenset[int]:
        """The positions that a reserve has some of."""
        return self._at.get(node, frozenset())

    @property
    def nodes(self) -> frozenset[bytes]:
        """The reserves that have some."""
        return frozenset(node for node, positions in self._at.items() if positions)

    def of(self, position: int) -> list[bytes]:
        """The reserves that have some of a position."""
        return [node for node, positions in self._at.items() if position in positions]

    def keep_of(self, nodes: Collection[bytes]) -> None:
        """Others are no reserves any more."""
        self._at = {node: at for node, at in self._at.items() if node in nodes}


class Circle:
    """The suppliers of one vault. `connect` makes the session with a member, one for each."""

    def __init__(self, family: Family, connect: Connect, is_own: IsOwn = nobody_is) -> None:
        self.connect, self._is_own = connect, is_own
        self._family = family
        self._sessions: dict[bytes, Supplier] = {}
        self._health: dict[bytes, Health] = {}
        self._stand_ins: dict[int, bytes] = {}
        self._own: dict[bytes, tuple[str, bool]] = {}  # node -> reached where, whether beside
        self.copies = Copies()
        self.damage = Damage()  #: fragments that were found wrong, until they are made again
        self.move(family)

    @property
    def family(self) -> Family:
        """The family that is followed."""
        return self._family

    def move(self, family: Family) -> None:
        """From now on the suppliers are those of `family`."""
        self._family = family
        reserves = {member.node for member in family.bench}
        self._stand_ins = {p: n for p, n in self._stand_ins.items() if n in reserves}
        self.copies.keep_of(reserves)
        self._own.clear()
        for member in family.members:
            self.session(member)

    def session(self, member: Member) -> Supplier:
        """The session with a member or a reserve; its health is kept from then on."""
        if member.node not in self._sessions:
            health = self.health(member.node)
            self._sessions[member.node] = Sighted(member.node, self.connect(member), health)
        return self._sessions[member.node]

    def supplier(self, node: bytes) -> Supplier:
        """The session with somebody who was a member or a reserve before."""
        return self._sessions[node]

    def health(self, node: bytes) -> Health:
        """What was seen of a node, of the family or not."""
        known = self._health.get(node)
        if known is None:
            known = self._health[node] = Health()
        return known

    def heard_since(self, node: bytes, time: float) -> bool:
        """Whether a node answered anything after `time` of the loop's clock."""
        heard = self.health(node).heard_at
        return heard is not None and heard > time

    def last_errors(self) -> list[str]:
        """What those said who failed last, each sentence once."""
        return sorted({seen.last_error for seen in self._health.values() if seen.last_error})

    def online(self) -> int:
        """How many positions' suppliers answered when they were asked last."""
        return sum(self.health(member.node).there for member in self._family.members)

    @property
    def nobody_answers(self) -> bool:
        """Whether all who may have anything were asked just now, and none answered since."""
        nodes = {member.node for member in self._family.members} | set(self._stand_ins.values())
        nodes.update(self.copies.nodes)
        since = trio.current_time() - ASKED_JUST_NOW
        return all(self.health(node).missed_since(since) for node in nodes)

    def require_somebody(self) -> None:
        """Raises Unavailable while it is known that nobody answers. Who is back is found by the
        watch: whoever reads until then does not wait for it.
        """
        if self.nobody_answers:
            raise Unavailable(
                "no supplier answers, and this machine does not have it; it can be read when they "
                "are back"
            )

    # -- on this very machine

    def is_beside(self, node: bytes) -> bool:
        """Whether a member or a reserve is on this machine, and goes where it goes."""
        member = self._family.member(node)
        if member is None:
            return False
        session = self._sessions.get(node)
        at = "" if session is None else session.reached_at()
        known = self._own.get(node)
        if known is None or known[0] != at:  # it may have moved
            known = self._own[node] = (at, self._is_own(member))
        return known[1]

    def beside(self) -> frozenset[int]:
        """The positions whose suppliers are on this machine."""
        members = enumerate(self._family.members)
        return frozenset(p for p, m in members if self.is_beside(m.node))

    def online_elsewhere(self) -> int:
        """As `online`, those on this machine not counted."""
        members = [m for m in self._family.members if not self.is_beside(m.node)]
        return sum(self.health(member.node).there for member in members)

    # -- positions

    @property
    def stand_ins(self) -> dict[int, bytes]:
        """Position -> the reserve that has a copy of it."""
        return dict(self._stand_ins)

    def add_stand_in(self, position: int, node: bytes) -> None:
        """A reserve has a copy of a position: it is read where the position's own supplier
        fails.
        """
        for member in self._family.bench:
            if member.node == node and position < self._family.group.n:
                self.session(member)
                self._stand_ins[position] = node

    def drop_stand_in(self, position: int) -> None:
        """The copy of a position is gone."""
        self._stand_ins.pop(position, None)

    def holders(self, position: int) -> list[bytes]:
        """Who may have a position's fragments: its own supplier, then who stands in for it."""
        nodes = [self._family.members[position].node]
        if position in self._stand_ins:
            nodes.append(self._stand_ins[position])
        return nodes

    def serving(self, position: int) -> bytes:
        """The key of the supplier that is asked for a position's fragments just now."""
        nodes = self.holders(position)
        return next((node for node in nodes if self.health(node).usable), nodes[0])
