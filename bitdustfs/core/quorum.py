"""Who has to agree: quorums of a family, and what the answers of its voters add up to.

Pure. The owner's side of the root register asks (net/register.py); what the answers mean is decided
here, and explored schedule by schedule in the tests.

A quorum of a family is a majority of its voters (the suppliers of its positions, and the owner's
seat where it has one: vault/seat.py) and, where it names former voters, a majority of those as well
(joint consensus: Ongaro, Ousterhout, "In search of an understandable consensus algorithm", 2014,
section 6). So a change of voters takes two roots: one whose family names both, by both majorities,
then one whose family names the new ones alone.

`Poll` collects the answers to one question. The root that orders highest says whose voters count,
so every answer may bring others who are to be asked. It is complete once a quorum of the family of
the best root answered. Then that root is the newest that any quorum ever held: a quorum of any
family before it meets those who know of its successor.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from bitdustfs.core.placement import majority
from bitdustfs.core.records import (
    Ballot,
    BallotClaim,
    Family,
    Member,
    Root,
    family_hash,
    open_claim_untrusted,
    open_family_untrusted,
    open_root_untrusted,
    seat_of,
)
from bitdustfs.errors import Malformed

FOLLOW_MAX = 16  #: newer families that one question follows


@dataclass(frozen=True)
class Known:
    """A root, checked, with the family it names, as signed bytes and decoded.

    `confirmed`: a quorum of that family is known to hold it.
    """

    root: Root
    raw: bytes
    family: Family
    raw_family: bytes
    confirmed: bool = False


@dataclass(frozen=True)
class Shown:
    """What one voter proved: the claim that it promised, the root that it holds."""

    raw_claim: bytes
    claim: BallotClaim | None
    known: Known | None

    @property
    def ballot(self) -> Ballot | None:
        """The highest ballot that is proven by it."""
        seen = [] if self.claim is None else [self.claim.ballot]
        if self.known is not None:
            seen.append(self.known.root.ballot)
        return max(seen, default=None)


def check_shown_untrusted(vault: bytes, claim: bytes, root: bytes, family: bytes) -> Shown:
    """What a voter says that it holds, if genuine. Raises Malformed or Forged."""
    opened = open_claim_untrusted(claim, vault) if claim else None
    return Shown(claim, opened, check_known_untrusted(vault, root, family))


def check_known_untrusted(vault: bytes, root: bytes, family: bytes) -> Known | None:
    """A root and its family, if genuine; None for empty bytes. Raises Malformed or Forged."""
    if not root:
        return None
    opened = open_root_untrusted(root, vault)
    named = open_family_untrusted(family, vault)
    if family_hash(family) != opened.family_hash or named.epoch != opened.family_epoch:
        raise Malformed("a voter's root and family do not belong together")
    return Known(opened, root, named, family)


def rival_untrusted(vault: bytes, proof: bytes, ballot: Ballot, claim: bytes) -> BallotClaim | None:
    """The claim that fences off who claimed `ballot` by `claim`, where `proof` is one."""
    try:
        rival = open_claim_untrusted(proof, vault)
    except Malformed:
        return None
    higher = rival.ballot > ballot or (rival.ballot == ballot and proof != claim)
    return rival if higher else None


def all_voters(family: Family) -> dict[bytes, Member]:
    """Everybody whose vote counts in a family, by node."""
    return {member.node: member for member in (*family.former, *family.voters)}


def is_quorum(family: Family, nodes: Collection[bytes]) -> bool:
    """Whether these are enough of a family's voters, and of the former ones where it names some."""
    return all(
        sum(member.node in nodes for member in voters) >= majority(len(voters))
        for voters in (family.voters, family.former)
        if voters
    )


def members_needed(family: Family, there: Collection[bytes]) -> int:
    """How many of a family's suppliers are needed where `there` answered: a seat is one voice.

    While the voters change, the larger number of those that the former and the new ones need.
    """
    return max(
        majority(len(voters)) - sum(m == seat_of(m.node) and m.node in there for m in voters)
        for voters in (family.voters, family.former)
        if voters
    )


def can_be_quorum(family: Family, without: Collection[bytes]) -> bool:
    """Whether the voters but these could still be a quorum."""
    return is_quorum(family, all_voters(family).keys() - set(without))


def newest_held(shown: Mapping[bytes, Shown]) -> Known | None:
    """The newest root that a quorum of the family which it names holds, of all that were shown.

    Nobody asks the owner's seat but the machine that has it, so it counts as holding what it could
    make a quorum of. A root that half of the other voters hold is seen by each quorum without the
    seat, and the machine with the seat is the one that signed it, unless it was taken over just
    now: only then such a root may still come to nothing.
    """
    holders: dict[bytes, set[bytes]] = {}
    roots: dict[bytes, Known] = {}
    for node, each in shown.items():
        if each.known is not None:
            roots[each.known.raw] = each.known
            holders.setdefault(each.known.raw, set()).add(node)
    for known in sorted(roots.values(), key=lambda known: known.root.order, reverse=True):
        voters = all_voters(known.family)
        seats = {node for node, member in voters.items() if member == seat_of(node)}
        if is_quorum(known.family, holders[known.raw] | seats):
            return replace(known, confirmed=True)
    return None


class Poll:
    """The answers to one question. `family`: whose voters are asked first."""

    def __init__(self, family: Family) -> None:
        self._first = family
        self._asked: set[bytes] = set()
        self._followed = 0
        self.shown: dict[bytes, Shown] = {}

    @property
    def best(self) -> Known | None:
        """The root that orders highest of all that were shown."""
        seen = [each.known for each in self.shown.values() if each.known is not None]
        best = max(seen, key=lambda known: known.root.order, default=None)
        if best is None:
            return None
        holders = {n for n, each in self.shown.items() if each.known and each.known.raw == best.raw}
        return replace(best, confirmed=is_quorum(best.family, holders))

    @property
    def family(self) -> Family:
        """Whose voters count."""
        best = self.best
        return self._first if best is None else best.family

    @property
    def complete(self) -> bool:
        """Whether a quorum answered."""
        return is_quorum(self.family, self.shown)

    def next_voters(self) -> dict[bytes, Member]:
        """Who is to be asked now; each is named once. Nobody: it is over."""
        wanted = {n: m for n, m in all_voters(self.family).items() if n not in self._asked}
        if not wanted or self._followed > FOLLOW_MAX:
            return {}
        self._followed += 1
        self._asked |= wanted.keys()
        return wanted

    def would_be_enough(self, nodes: Collection[bytes]) -> bool:
        """Whether a quorum answered if these did too."""
        return is_quorum(self.family, self.shown.keys() | set(nodes))

    def take(self, answers: Mapping[bytes, Shown]) -> None:
        """Adds what voters showed."""
        self.shown.update(answers)
