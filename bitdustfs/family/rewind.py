"""A root of the past becomes the newest one again: the answer to a thief of the key, and to a slip.

Suppliers of a vault with a retention keep a ring of past roots, each with its family, and all that
these roots refer to (supplier/retention.py). Every root that is shown was signed by the owner, so
one supplier that shows it is enough; when it was the newest is that supplier's word. So moments are
dated by what the middle one of all says who have them, and a moment is *confirmed* where a quorum
of the family that it names has it. Where there is one, a confirmed moment is taken.

The root goes on under a ballot of the next lineage, as after refounding: nothing that anybody holds
of the history that was left counts against it. It names the suppliers of then, as far as they
answer, and else those that have their positions now. The family says where the history was left:
by that, suppliers take back what was killed since. The root that was left stays in the ring, so
that a rewinding is undone by another one.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import trio

from bitdustfs.core.hashing import digest
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import majority
from bitdustfs.core.policy import Refounding, rewinding_words
from bitdustfs.core.quorum import Known, check_known_untrusted, is_quorum
from bitdustfs.core.records import (
    Ballot,
    Family,
    Member,
    open_claim_untrusted,
)
from bitdustfs.core.roots import lasting
from bitdustfs.errors import (
    Malformed,
    PeerError,
    ProtocolViolation,
    Refused,
    Unavailable,
    UsageError,
)
from bitdustfs.family.hire import agree, agree_to_retain
from bitdustfs.family.refound import NextOrder, begin_history
from bitdustfs.family.retaining import where
from bitdustfs.net.ask import ask_all
from bitdustfs.net.supplier import Connect, Supplier

log = logging.getLogger(__name__)

PROMISE_DEADLINE = 10.0  #: seconds that a supplier has to promise
DEADLINE = 60.0  #: seconds for all that one supplier shows
WAVES_MAX = 8  #: times that suppliers are asked of whom others told
SUPPLIERS_MAX = 256  #: that are asked, at most
NAME_DIGITS = 8  #: hexadecimal digits of a moment's name
ROOTS_MAX = 2000  #: past roots that one supplier may show; an honest one has a few dozen


class PastMoment(NamedTuple):
    """A root that was the newest one: from `since` until `left`, Unix seconds by this machine's
    clock. `holders`: who shows it.
    """

    known: Known
    since: int
    left: int
    holders: frozenset[bytes]

    @property
    def name(self) -> str:
        """By which it is called where times do not tell: a thief's suppliers say what they like."""
        return lasting(self.known.root).hex()[:NAME_DIGITS]

    @property
    def confirmed(self) -> bool:
        """Whether a quorum of its family shows it."""
        return is_quorum(self.known.family, self.holders)


class Sight(NamedTuple):
    """One supplier's word on a root: how many seconds ago it became the newest, and was left."""

    known: Known
    since: int
    left: int


@dataclass
class Lookback:
    """What suppliers show of a vault's past. `highest`: the ballots that they promised."""

    newest: dict[bytes, Known] = field(default_factory=dict)
    highest: dict[bytes, Ballot] = field(default_factory=dict)
    sights: dict[bytes, list[Sight]] = field(default_factory=dict)
    failures: dict[bytes, str] = field(default_factory=dict)

    def families(self) -> list[Family]:
        """All that anybody named."""
        shown = [sight.known for sights in self.sights.values() for sight in sights]
        return [known.family for known in (*self.newest.values(), *shown)]

    @property
    def best(self) -> Known | None:
        """The newest root of all."""
        return max(self.newest.values(), key=lambda known: known.root.order, default=None)

    def moments(self, now: int) -> list[PastMoment]:
        """What may be gone back to, the oldest first. `now`: Unix seconds."""
        seen: dict[bytes, dict[bytes, Sight]] = {}
        for node, sights in self.sights.items():
            for sight in sights:
                seen.setdefault(lasting(sight.known.root), {})[node] = sight
        found = [self._moment(sights, now) for sights in seen.values()]
        return sorted(found, key=lambda m: (m.since, m.known.root.order))

    def _moment(self, sights: Mapping[bytes, Sight], now: int) -> PastMoment:
        known = next(iter(sights.values())).known
        holders = {n for n, at in self.newest.items() if lasting(at.root) == lasting(known.root)}
        since, left = (_middle(ago) for ago in zip(*(s[1:] for s in sights.values()), strict=True))
        return PastMoment(known, now - since, now - left, frozenset(holders | sights.keys()))


def _middle(values: Iterable[int]) -> int:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def choose(moments: Iterable[PastMoment], when: int) -> PastMoment:
    """What was the newest root at a time (Unix seconds). Raises UsageError where nobody knows."""
    until = [moment for moment in moments if moment.since <= when]
    if not until:
        raise UsageError("no root of that time, or of before, is kept by any supplier that answers")
    confirmed = [moment for moment in until if moment.confirmed]
    return (confirmed or until)[-1]


async def look_back(vault: bytes, start: Iterable[Supplier], connect: Connect) -> Lookback:
    """Asks suppliers, and those of all families that they name, what they keep of the past.

    `start`: who is known, also by its address alone. Who does not answer is in `failures`.
    """
    past = Lookback()
    asked: set[bytes] = set()
    waiting = list(start)
    for _ in range(WAVES_MAX):
        async with trio.open_nursery() as nursery:
            for supplier in waiting:
                nursery.start_soon(_ask, vault, supplier, past)
        asked |= {supplier.node for supplier in waiting}
        told = {m.node: m for family in past.families() for m in family.everybody}
        fresh = [m for node, m in told.items() if node not in asked]
        waiting = [connect(member) for member in fresh[: SUPPLIERS_MAX - len(asked)]]
        if not waiting:
            break
    return past


async def _ask(vault: bytes, supplier: Supplier, past: Lookback) -> None:
    """Learns what one supplier has. What it shows that is not genuine counts for nothing."""
    try:
        with trio.fail_after(DEADLINE):
            current = await supplier.current()
            known = check_known_untrusted(vault, current.root, current.family)
            claim = open_claim_untrusted(current.claim, vault) if current.claim else None
            ballots = [known.root.ballot] if known is not None else []
            ballots += [claim.ballot] if claim is not None else []
            if known is not None:
                past.newest[supplier.node] = known
            if ballots:
                past.highest[supplier.node] = max(ballots)
            await _hear(vault, supplier, past)
    except (PeerError, Malformed) as error:
        past.failures[supplier.node] = str(error)
    except trio.TooSlowError:
        past.failures[supplier.node] = f"it did not show all that it has within {DEADLINE:.0f} s"


async def _hear(vault: bytes, supplier: Supplier, past: Lookback) -> None:
    told = await supplier.past()
    sights = past.sights.setdefault(supplier.node, [])
    families: dict[bytes, Family] = {}
    for number, since, left in reversed(told.roots[-ROOTS_MAX:]):  # if time is short, the newest
        try:
            shown = await supplier.past_root(number)
        except Refused:  # it was superfluous meanwhile
            continue
        known = check_known_untrusted(vault, shown.root, shown.family)
        if known is None:
            raise Malformed("a past root of no bytes")
        family = families.setdefault(digest(known.raw_family), known.family)  # held once
        sights.append(Sight(replace(known, family=family), since, left))


async def rewind(key: VaultKey, past: Lookback, moment: PastMoment, connect: Connect) -> Family:
    """Makes a moment's root the newest one again; the family that has it.

    Raises LeaseHeld, Superseded, and Unavailable where too few of its suppliers answer.
    """
    then = moment.known
    members = _members(past, then.family)
    alive = [member.node for member in members if member.node in past.newest]
    if len(alive) < majority(len(members)):
        raise Unavailable(
            f"{len(alive)} of the {len(members)} suppliers of then, or of those in their places, "
            f"answer, and {majority(len(members))} are needed; try again when more are back"
        )
    there = [past.newest[node] for node in alive]
    lineage = max(past.highest[node].lineage for node in alive) + 1
    seq = max(then.root.seq, *(known.root.seq for known in there)) + 1
    epoch = max(then.family.epoch, *(known.family.epoch for known in there)) + 1
    words = rewinding_words(Refounding(lineage, 0, then.root.seq), then.root.ballot.lineage)
    order = NextOrder(lineage, seq, epoch)
    return await begin_history(key, then, members, order, words, connect)


async def promise_again(key: VaultKey, family: Family, connect: Connect) -> dict[str, str]:
    """Has the suppliers of then promise what they did then: who does not, and why.

    Somebody with the key may have made the contracts smaller meanwhile.
    """
    retain = family.policy.retain

    async def ask(member: Member) -> None:
        try:
            await agree(connect(member), key.vault_id, member.space)
            if retain:
                session = connect(member)
                await agree_to_retain(session, key.vault_id, key.signing, member.space, retain)
        except Malformed as error:
            raise ProtocolViolation(str(error)) from error

    answers = await ask_all(family.members, ask, each=PROMISE_DEADLINE)
    return {where(member): str(error) for member, error in answers.failed.items()}


def _members(past: Lookback, then: Family) -> tuple[Member, ...]:
    """Who gets which position: who had it then, if it answers; else who has it now, if that does.

    Whom nobody hears keeps it: rebuilding knows what to do.
    """
    best = past.best
    now = best.family.members if best is not None else ()
    members = list(then.members)
    for position, member in enumerate(members):
        if member.node in past.newest or position >= len(now):
            continue
        other = now[position]
        if other.node in past.newest and then.position(other.node) is None:
            members[position] = other
    return tuple(members)
