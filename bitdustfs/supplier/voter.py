"""A supplier's vote in the root register of each vault.

What it promised and accepted, and the lease.

The rules are those of core/acceptor.py. This module keeps the state in the vault's row, synced
before anybody is answered, and does what follows from a new family.

The lease is a courtesy between machines of one owner: a writer that renews is not replaced without
being asked. It is kept in memory. After a restart every writer has one lease's time to show itself,
but for one that released the vault: that stands in the row.
"""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from bitdustfs.core.acceptor import Acceptor, ceiling_at, remembered
from bitdustfs.core.records import (
    Ballot,
    family_hash,
    open_claim_untrusted,
    open_family_untrusted,
    open_root_untrusted,
    root_records,
)
from bitdustfs.errors import Refused
from bitdustfs.net import wire
from bitdustfs.supplier.herald import Herald
from bitdustfs.supplier.retention import Retention
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.supplier.vaultrows import VaultRows

LEASE = 60.0  #: seconds after which a writer that no longer renews may be replaced without asking
FORMER_MAX = 64  #: nodes of families before that are remembered


class Voter:
    """One supplier as a voter of all its vaults. `own`: its node key. Thread-safe."""

    def __init__(
        self,
        own: bytes,
        rows: VaultRows,
        clock: Callable[[], float],
        wall: Callable[[], float],
        retention: Retention,
    ) -> None:
        self._own, self._rows, self._clock, self._wall = own, rows, clock, wall
        self._retention = retention
        self.herald = Herald()  #: who waits for a newer root
        self._started = clock()
        self._renewed: dict[bytes, float] = {}  # vault -> when its writer last showed itself

    def prepare(self, vault: bytes, claim: bytes, take_over: bool) -> wire.CurrentIs:
        """Promises the ballot of a signed claim. Raises Refused, Malformed, Forged."""
        body = open_claim_untrusted(claim, vault)
        with self._rows.changing(vault) as row:
            live = not take_over and self._lease_live(vault, row)
            try:
                promised = self._acceptor(row).prepare(body.ballot, claim, live)
            except Refused as error:
                raise self._with_sight(error, vault) from error
            self._promise(vault, row, promised)
            self._renewed[vault] = self._clock()
        return wire.CurrentIs(claim, row.root, row.family)

    def heed(self, vault: bytes, claim: bytes) -> None:
        """Whoever asks for something as a writer shows its claim: a higher one is promised.

        Raises Refused for a lower one, Malformed, Forged.
        """
        with self._rows.changing(vault) as row:
            if claim != row.claim:
                body = open_claim_untrusted(claim, vault)
                self._promise(vault, row, self._acceptor(row).heed(body.ballot, claim))

    def _acceptor(self, row: VaultRow) -> Acceptor:
        return replace(acceptor(row), ceiling=ceiling_at(self._wall()))

    def _promise(self, vault: bytes, row: VaultRow, state: Acceptor) -> None:
        self._rows.write(
            vault,
            msgspec.structs.replace(
                row, promised=state.promised, claim=state.claim, released=False
            ),
        )

    def accept(self, vault: bytes, root: bytes, family: bytes, claim: bytes) -> None:
        """A root from its writer. Raises Refused, Malformed, Forged."""
        self.heed(vault, claim)
        self._keep(vault, root, family)
        self._renewed[vault] = self._clock()

    def learn(self, vault: bytes, shown: wire.CurrentIs) -> None:
        """A root that another supplier of the family holds: as if from its writer, but late.

        Raises Refused when it is not newer, Malformed or Forged.
        """
        self._keep(vault, shown.root, shown.family)
        if shown.claim:
            self.heed(vault, shown.claim)

    def _keep(self, vault: bytes, root: bytes, family: bytes) -> None:
        opened = open_root_untrusted(root, vault)
        named = open_family_untrusted(family, vault)
        if family_hash(family) != opened.family_hash or named.epoch != opened.family_epoch:
            raise Refused("malformed", "the root names another family")
        with self._rows.changing(vault) as row:
            state = self._acceptor(row).accept(opened, root, family, named.epoch)
            kept = msgspec.structs.replace(
                row, promised=state.promised, root=state.root or b"", family=state.family or b"",
                claim=state.claim,
            )  # fmt: skip
            moved = self._moved(vault, row, kept)
            if kept.root != row.root:
                moved = self._retention.accepted(vault, row, moved, opened, named)
            self._rows.write(vault, moved)
        self._retention.revive(vault)
        self.herald.tell(vault)

    def _moved(self, vault: bytes, row: VaultRow, kept: VaultRow) -> VaultRow:
        """What a new family changes in the row besides."""
        if kept.family == row.family:
            return kept
        # what let others in was said in the old family
        kept = msgspec.structs.replace(kept, warrants=(), former=_former(row, kept.family, vault))
        named = open_family_untrusted(kept.family, vault)
        if named.position(self._own) == row.standing:  # the position is its own from now on
            kept = msgspec.structs.replace(kept, standing=-1)
        return kept

    def news(self, row: VaultRow, known: tuple[Ballot, int]) -> wire.CurrentIs | wire.Done:
        """What is accepted, if that is newer than what is known to whoever asks."""
        if not row.root or root_records.peek_untrusted(row.root).order <= known:
            return wire.Done()
        return wire.CurrentIs(row.claim, row.root, row.family)

    def renew(self, vault: bytes, claim: bytes) -> None:
        """The holder of the claim is alive. Raises Refused, Malformed, Forged."""
        self.heed(vault, claim)
        self._renewed[vault] = self._clock()
        self._retention.revive(vault)

    def release(self, vault: bytes, claim: bytes) -> None:
        """The holder of the claim has unmounted: known also after a restart.

        Raises Refused, Malformed, Forged.
        """
        with self._rows.changing(vault):
            self.heed(vault, claim)
            row = self._rows.known(vault)
            self._rows.write(vault, msgspec.structs.replace(row, released=True))

    def _with_sight(self, error: Refused, vault: bytes) -> Refused:
        """Whoever has the lease, and when it was seen last, where this process saw it at all."""
        if error.code != "lease-held" or vault not in self._renewed:
            return error
        seconds = self._clock() - self._renewed[vault]
        return Refused(error.code, f"{error.detail} (seen {seconds:.0f} s ago)", error.proof)

    def owner_here(self, vault: bytes) -> bool:
        """Whether a writer has shown itself since this process runs, within its lease."""
        return vault in self._renewed and self._lease_live(vault, self._rows.known(vault))

    def _lease_live(self, vault: bytes, row: VaultRow) -> bool:
        since = self._clock() - self._renewed.get(vault, self._started)
        return not row.released and since < LEASE


def acceptor(row: VaultRow) -> Acceptor:
    """The register's state out of a vault row."""
    return remembered(row.promised, row.claim, row.root, row.family)


def _former(row: VaultRow, family: bytes, vault: bytes) -> tuple[bytes, ...]:
    """Nodes of this family's predecessors that are not of it, the last ones."""
    there = open_family_untrusted(family, vault)
    nodes = list(row.former)
    if row.family:
        before = open_family_untrusted(row.family, vault)
        nodes += [member.node for member in before.everybody]
    out = dict.fromkeys(node for node in nodes if there.member(node) is None)
    return tuple(out)[-FORMER_MAX:]
