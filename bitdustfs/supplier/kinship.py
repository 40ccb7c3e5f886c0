"""What suppliers of one family are to each other while the owner is away.

Each watches the others by its own pings and says, signed, whose position is away. With enough such
words a reserve of the bench is let in to read fragments, for one position and within a budget; what
it has read is kept for the owner to see. Decisions only: asking around is guard.py's, keeping is
standing.py's.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from nacl.signing import SigningKey

from bitdustfs.core.patience import NO_TIME, step
from bitdustfs.core.records import (
    Attestation,
    Family,
    Leaving,
    Visit,
    open_family_untrusted,
    root_records,
    seal_record,
)
from bitdustfs.core.warrants import (
    EVIDENCE_SECONDS,
    Holding,
    check_attestation_untrusted,
    check_warrants_untrusted,
)
from bitdustfs.errors import Malformed, Refused
from bitdustfs.net import wire
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.units import MIB

FAMILIES_KEPT = 64  #: families, and sets of warrants, that are held opened
BUDGET_SHARE, BUDGET_EXTRA = 2, 64 * MIB  #: a stand-in may read twice what is kept here, and some
REQUESTS_SHARE, REQUESTS_EXTRA = 16, 10_000  #: requests for each fragment kept here, and some
BUDGET_SECONDS = 86400.0  #: in so much time
RENEW_BEFORE = EVIDENCE_SECONDS / 2  #: seconds left of a warrant when a stand-in asks for another


class Kinship:
    """One supplier's view of the others in the families it belongs to. Thread-safe.

    `clock` measures how long others are away: CLOCK_MONOTONIC, which nobody sets and which stands
    still while this machine sleeps and could see nobody. `wall` dates what is signed.
    """

    def __init__(
        self,
        node: SigningKey,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._node, self._clock, self._wall = node, clock, wall
        self.own = node.verify_key.encode()
        self.leaving = False  #: whether this supplier is being given up by whoever runs it
        self._hurried: set[bytes] = set()  # vaults in which somebody asked for a round now
        self._complete: set[bytes] = set()  # vaults whose copies here are all that can be had
        self._looked: dict[bytes, float] = {}  # vault -> when its last round was
        self._away: dict[bytes, dict[bytes, float]] = {}  # vault -> those that were missed: seconds
        self._families: dict[bytes, tuple[bytes, Family]] = {}  # vault -> as signed, opened
        self._held: dict[bytes, tuple[VaultRow, float, list[Holding]]] = {}  # until the time

    def family(self, vault: bytes, row: VaultRow) -> Family | None:
        """The newest family of a vault that is known here."""
        if not row.family:
            return None
        known = self._families.get(vault)
        if known is None or known[0] != row.family:
            if len(self._families) >= FAMILIES_KEPT:  # an opened one may have half a megabyte
                self._families.clear()
            known = self._families[vault] = (row.family, open_family_untrusted(row.family, vault))
        return known[1]

    # -- who is there

    def observe(
        self,
        vault: bytes,
        family: Family,
        answered: Collection[bytes] | None,
        unasked: Collection[bytes] = (),
    ) -> None:
        """One round of this supplier's own pings to all others of a family but the `unasked`.

        None: so few answered that it says nothing of them. The time before counts for nobody then.
        """
        now, before = self._clock(), self._away.get(vault, {})
        passed, self._looked[vault] = now - self._looked.get(vault, now), now
        if answered is None:
            return
        self._away[vault] = {
            member.node: before[member.node]
            + step(0.0 if member.node in unasked else passed, family.policy.patience)
            if member.node in before
            else NO_TIME
            for member in family.everybody
            if member.node not in answered and member.node != self.own
            if member.node in before or member.node not in unasked
        }

    def away(self, vault: bytes, node: bytes) -> float:
        """Seconds for which a node left all pings unanswered, by the last round; 0: it answered."""
        return self._away.get(vault, {}).get(node, 0.0)

    def absent(self, vault: bytes, family: Family, node: bytes) -> bool:
        """Whether it is away past the patience."""
        return self.away(vault, node) > family.policy.patience

    def forget(self, vault: bytes) -> None:
        """A vault is not kept here any more."""
        for known in (self._looked, self._away, self._families, self._held):
            known.pop(vault, None)
        self._hurried.discard(vault)
        self._complete.discard(vault)

    # -- what this supplier is about

    def leave(self) -> None:
        """From now on it says to everybody that it goes."""
        self.leaving = True

    def hurry(self, vault: bytes) -> None:
        """Somebody asked for a round of questions now."""
        self._hurried.add(vault)

    def take_hurry(self, vault: bytes) -> bool:
        """Whether somebody asked for a round since the last call."""
        hurried = vault in self._hurried
        self._hurried.discard(vault)
        return hurried

    def gathered(self, vault: bytes, everything: bool) -> None:
        """Whether the copy that this supplier has of another's position is all that can be had."""
        if everything:
            self._complete.add(vault)
        else:
            self._complete.discard(vault)

    def complete(self, vault: bytes) -> bool:
        """As it was said last by `gathered`."""
        return vault in self._complete

    # -- what is answered

    def kin(self, vault: bytes, row: VaultRow) -> wire.KinIs:
        """How this supplier stands."""
        family = self.family(vault, row)
        root = root_records.peek_untrusted(row.root).order if row.root else None
        standing = row.standing if row.standing >= 0 else None
        leaving = b"" if family is None else self._leaving(vault, family, standing)
        epoch = family.epoch if family else 0
        own = None if family is None else family.position(self.own)
        copies = tuple(position for position in row.copies if position != own)
        return wire.KinIs(epoch, root, standing, self.complete(vault), leaving, copies)

    def _leaving(self, vault: bytes, family: Family, standing: int | None) -> bytes:
        """Signed: this supplier goes, and its position, or the one it stands in for, needs
        another.
        """
        position = family.position(self.own)
        position = standing if position is None else position
        if not self.leaving or position is None:
            return b""
        body = Leaving(vault, family.epoch, position, self.own, self._now())
        return seal_record(self._node, "leaving", body)

    def attest(self, vault: bytes, row: VaultRow, position: int, owner_here: bool) -> bytes:
        """Signed: the position's member is away past patience, by our own pings. Raises Refused."""
        family = self.family(vault, row)
        if family is None or position >= len(family.members):
            raise Refused("malformed", "there is no such position")
        member = family.members[position].node
        if owner_here:
            raise Refused("unauthorised", "the owner is here and decides")
        if not self.absent(vault, family, member):
            raise Refused("unauthorised", "that supplier was here lately")
        body = Attestation(vault, family.epoch, position, member, self.own, self._now())
        return seal_record(self._node, "attestation", body)

    def attested(self, family: Family, position: int, record: bytes, by: bytes) -> bool:
        """Whether a record is the genuine word of `by` that a position's member is away."""
        try:
            word = check_attestation_untrusted(family, position, record, self._wall())
        except Malformed:
            return False
        return word.by == by

    def holding(self, vault: bytes, row: VaultRow, records: Iterable[bytes]) -> tuple[bytes, ...]:
        """The warrants of the row and those of `records`, as far as they hold in its family."""
        family = self.family(vault, row)
        if family is None:
            return ()
        both = [*row.warrants, *(r for r in records if r not in row.warrants)]
        if len(both) == len(row.warrants):
            return row.warrants
        return tuple(held.raw for held in check_warrants_untrusted(family, both, self._wall()))

    def stand_ins(self, vault: bytes, row: VaultRow) -> dict[int, list[bytes]]:
        """The nodes that may stand in for each position now, by the warrants kept here."""
        found: dict[int, list[bytes]] = {}
        for held in self._holding(vault, row):
            found.setdefault(held.warrant.position, []).append(held.warrant.stand_in)
        return found

    def fresh(self, vault: bytes, row: VaultRow, position: int) -> bool:
        """Whether this supplier's own warrant for a position holds for some time yet."""
        return any(
            (held.warrant.position, held.warrant.stand_in) == (position, self.own)
            and held.until - self._wall() > RENEW_BEFORE
            for held in self._holding(vault, row)
        )

    def _holding(self, vault: bytes, row: VaultRow) -> list[Holding]:
        """The warrants kept here that hold now; they are checked again when one has ended."""
        family = self.family(vault, row)
        if family is None or not row.warrants:
            return []
        known, now = self._held.get(vault), self._wall()
        if known is not None and now < known[1]:
            before, _, held = known
            if (before.family, before.warrants) == (row.family, row.warrants):
                return held
        held = check_warrants_untrusted(family, row.warrants, now)
        if len(self._held) >= FAMILIES_KEPT:
            self._held.clear()
        ends = min((one.until for one in held), default=now + EVIDENCE_SECONDS)
        self._held[vault] = row, ends, held
        return held

    def _now(self) -> int:
        """Unix seconds, as records are dated."""
        return max(0, int(self._wall()))


@dataclass
class _Budget:
    """What one stand-in has read, since when."""

    since: float
    bytes: int = 0
    requests: int = 0

    def spend(self, size: int) -> None:
        """One request more, for so many bytes."""
        self.bytes += size
        self.requests += 1


class Visitors:
    """What stand-ins read here: within a budget of bytes and requests, and noted for the owner.

    Thread-safe.
    """

    def __init__(
        self, kinship: Kinship, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._kinship, self._clock, self._wall = kinship, clock, wall
        self._budgets: dict[tuple[bytes, bytes], _Budget] = {}
        self._counting = threading.Lock()  # over budgets and visits
        self._unnoted: dict[bytes, dict[tuple[bytes, int], int]] = {}  # vault -> who, bytes read

    def admit(self, vault: bytes, row: VaultRow, node: bytes, size: int) -> bool:
        """Raises Refused unless a node may read `size` bytes more: a stand-in, within its budget.

        True: the row knows nothing of this visitor yet, and must before it is answered.
        """
        allowed = self._kinship.stand_ins(vault, row).items()
        position = next((p for p, nodes in allowed if node in nodes), None)
        if position is None:
            raise Refused("unauthorised", "only the owner and stand-ins read here")
        now = self._clock()
        with self._counting:
            budget = self._budgets.setdefault((vault, node), _Budget(now))
            if now - budget.since > BUDGET_SECONDS:
                budget = self._budgets[vault, node] = _Budget(now)
            if (
                budget.bytes + size > BUDGET_SHARE * row.used + BUDGET_EXTRA
                or budget.requests >= REQUESTS_SHARE * row.fragments + REQUESTS_EXTRA
            ):
                raise Refused("busy", "a stand-in has read all that it needs for a day")
            budget.spend(size)
            visits = self._unnoted.setdefault(vault, {})
            visits[node, position] = visits.get((node, position), 0) + size
        return not any((v.stand_in, v.position) == (node, position) for v in row.visits)

    def take(self, vault: bytes, noted: tuple[Visit, ...]) -> tuple[Visit, ...]:
        """`noted`, and what was read since the last call; the newest ones when they are too
        many.
        """
        now = int(self._wall())
        visits = {(visit.stand_in, visit.position): visit for visit in noted}
        with self._counting:
            unnoted = self._unnoted.pop(vault, {})
        for (node, position), size in unnoted.items():
            old = visits.pop((node, position), Visit(node, position, 0, now, now))
            visits[node, position] = Visit(node, position, old.bytes + size, old.since, now)
        return tuple(visits.values())[-wire.VISITS_MAX :]
