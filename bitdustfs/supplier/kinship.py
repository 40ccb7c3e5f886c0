"""What suppliers of one family are to each other while the owner is away.

Each watches the others by its own pings and says, signed, whose position is away. With enough such
words a reserve of the bench is let in to read fragments, for one position and within a budget; what
it has read is kept for the owner to see. Decisions only: asking around is guard.py's, keeping is
standing.py's.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nacl.signing import SigningKey

from bitdustfs.core.records import (
    Attestation,
    Family,
    Leaving,
    Visit,
    open_family_untrusted,
    root_records,
    seal_record,
)
from bitdustfs.core.warrants import check_warrants_untrusted, stand_ins
from bitdustfs.errors import Refused
from bitdustfs.net import wire
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.units import MIB

BUDGET_SHARE, BUDGET_EXTRA = 2, 64 * MIB  #: a stand-in may read twice what is kept here, and some
BUDGET_SECONDS = 86400.0  #: in so much time


class Kinship:
    """One supplier's view of the others in the families it belongs to. Thread-safe."""

    def __init__(self, node: SigningKey, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self.own = node.verify_key.encode()
        self.leaving = False  #: whether this supplier is being given up by whoever runs it
        self._hurried: set[bytes] = set()  # vaults in which somebody asked for a round now
        self._complete: set[bytes] = set()  # vaults whose copies here are all that can be had
        self._away_since: dict[tuple[bytes, bytes], float] = {}
        self._families: dict[bytes, tuple[bytes, Family]] = {}  # vault -> as signed, opened
        self._let_in: dict[bytes, tuple[VaultRow, dict[int, list[bytes]]]] = {}

    def family(self, vault: bytes, row: VaultRow) -> Family | None:
        """The newest family of a vault that is known here."""
        if not row.family:
            return None
        known = self._families.get(vault)
        if known is None or known[0] != row.family:
            known = self._families[vault] = (row.family, open_family_untrusted(row.family, vault))
        return known[1]

    # -- who is there

    def observe(self, vault: bytes, node: bytes, answered: bool) -> None:
        """One of this supplier's own pings."""
        if answered:
            self._away_since.pop((vault, node), None)
        else:
            self._away_since.setdefault((vault, node), self._clock())

    def away(self, vault: bytes, node: bytes) -> float:
        """Seconds since the first of the pings in a row that a node left unanswered; 0: none."""
        since = self._away_since.get((vault, node))
        return 0.0 if since is None else max(self._clock() - since, 1e-9)

    def absent(self, vault: bytes, family: Family, node: bytes) -> bool:
        """Whether it is away past the patience."""
        return self.away(vault, node) > family.policy.patience

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
        body = Leaving(vault, family.epoch, position, self.own)
        return seal_record(self._node, "leaving", body)

    def attest(self, vault: bytes, row: VaultRow, position: int, owner_here: bool) -> bytes:
        """Signed: the position's member is away past patience, by our own pings. Raises Refused."""
        family = self.family(vault, row)
        if family is None or position >= len(family.voters):
            raise Refused("malformed", "there is no such position")
        member = family.voters[position].node
        if owner_here:
            raise Refused("unauthorised", "the owner is here and decides")
        if not self.absent(vault, family, member):
            raise Refused("unauthorised", "that supplier was here lately")
        body = Attestation(vault, family.epoch, position, member, self.own)
        return seal_record(self._node, "attestation", body)

    def holding(self, vault: bytes, row: VaultRow, records: Iterable[bytes]) -> tuple[bytes, ...]:
        """The warrants of the row and those of `records`, as far as they hold in its family."""
        family = self.family(vault, row)
        if family is None:
            return ()
        both = [*row.warrants, *(r for r in records if r not in row.warrants)]
        if len(both) == len(row.warrants):
            return row.warrants
        return tuple(raw for raw, _ in check_warrants_untrusted(family, both))

    def stand_ins(self, vault: bytes, row: VaultRow) -> dict[int, list[bytes]]:
        """The nodes that may stand in for each position, by the warrants kept here."""
        family = self.family(vault, row)
        if family is None or not row.warrants:
            return {}
        known = self._let_in.get(vault)
        if known is None or (known[0].family, known[0].warrants) != (row.family, row.warrants):
            known = self._let_in[vault] = (row, stand_ins(family, row.warrants))
        return known[1]


@dataclass
class _Budget:
    """Bytes that one stand-in has read, since when."""

    since: float
    used: int = 0

    def spend(self, size: int) -> None:
        """So many bytes more were read."""
        self.used += size


class Visitors:
    """What stand-ins read here: within a budget, and noted for the owner. Thread-safe."""

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
            if budget.used + size > BUDGET_SHARE * row.used + BUDGET_EXTRA:
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
