"""What a supplier answers its kin, and what it keeps of that.

Warrants, visits, whom it stands in for.

`kinship` decides; here the vault's row is changed by it, durably, before anybody is answered.
"""

import msgspec

from bitdustfs.core.records import Visit, stand_down_records
from bitdustfs.errors import Refused
from bitdustfs.net import wire
from bitdustfs.supplier.kinship import Kinship, Visitors
from bitdustfs.supplier.retention import Retention
from bitdustfs.supplier.session import Session, check_owner
from bitdustfs.supplier.shelf import Shelf
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.supplier.vaultrows import VaultRows
from bitdustfs.supplier.voter import Voter

EVERYTHING = 1 << 40  #: more fragments than a vault has


class Standing:
    """How one supplier stands in the families it belongs to. Thread-safe."""

    def __init__(
        self,
        rows: VaultRows,
        shelf: Shelf,
        kinship: Kinship,
        visitors: Visitors,
        voter: Voter,
        retention: Retention,
    ) -> None:
        self._rows, self._shelf, self._kinship = rows, shelf, kinship
        self._visitors, self._voter, self._retention = visitors, voter, retention

    def answer(self, session: Session, row: VaultRow, request: wire.Request) -> wire.Reply | None:
        """To what suppliers of one family ask each other; None: it is another kind of question."""
        vault = session.vault
        if session.role == "former" and not isinstance(request, wire.Kin | wire.Current):
            raise Refused("unauthorised", "this node is not of the family any more")
        match request:
            case wire.Kin():
                return self._kinship.kin(vault, row)
            case wire.Current():
                return wire.CurrentIs(row.claim, row.root, row.family)
            case wire.Hurry():
                self._kinship.hurry(vault)
                return wire.Done()
            case wire.Warrants(records):
                return wire.WarrantsAre(self.merge_warrants(vault, records))
            case wire.Attest(position):
                owner_here = self._voter.owner_here(vault)
                return wire.AttestedIs(self._kinship.attest(vault, row, position, owner_here))
        return None

    def admit(self, session: Session, row: VaultRow, request: wire.Request) -> None:
        """Raises Refused unless this member may read what it asks for: a stand-in, in its
        budget.
        """
        if session.role != "member":
            return
        if not isinstance(request, wire.Read | wire.Head | wire.List | wire.Usage):
            check_owner(session)
        size = request.length if isinstance(request, wire.Read) else 0
        if self._visitors.admit(session.vault, row, session.node, size):
            self.note_visits(session.vault)

    def note_visits(self, vault: bytes) -> tuple[Visit, ...]:
        """Keeps in the vault's row what stand-ins have read; all of it that is remembered."""
        with self._rows.changing(vault) as row:
            visits = self._visitors.take(vault, row.visits)
            self._rows.write(vault, msgspec.structs.replace(row, visits=visits))
        return visits

    def merge_warrants(self, vault: bytes, records: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The warrants known here and those of `records` that hold; new ones are kept."""
        with self._rows.changing(vault) as row:
            holding = self._kinship.holding(vault, row, records)
            self._rows.write(vault, msgspec.structs.replace(row, warrants=holding))
        return holding

    def warranted(self, vault: bytes, position: int) -> bool:
        """Whether the warrants kept here let this supplier stand in for a position."""
        row = self._shelf.vault(vault)
        if row is None:
            return False
        return self._kinship.own in self._kinship.stand_ins(vault, row).get(position, [])

    def freshly_warranted(self, vault: bytes, position: int) -> bool:
        """The same, and for some time yet."""
        row = self._shelf.vault(vault)
        return row is not None and self._kinship.fresh(vault, row, position)

    # -- standing in

    def stand(self, vault: bytes, position: int) -> None:
        """From now on this supplier stands in for a position, or, -1, for none."""
        with self._rows.changing(vault) as row:
            self._rows.write(vault, msgspec.structs.replace(row, standing=position))
            self._kinship.gathered(vault, False)

    def copies(self, vault: bytes, position: int) -> list[bytes]:
        """The keys of all fragments of a position that are kept here."""
        keys = self._shelf.keys(vault, b"", EVERYTHING)
        return [key for key, _ in keys if key[16] == position]

    def drop_copies(self, vault: bytes, position: int) -> None:
        """Deletes all fragments of a position, and does not stand in for it any more.

        Where the vault has a retention they stay that long: its key may be a thief's.
        """
        until = self._retention.until(vault)
        if until:
            self._shelf.retire(vault, self.copies(vault, position), until)
        else:
            self._shelf.drop(vault, self.copies(vault, position))
        with self._rows.changing(vault) as row:
            left = tuple(p for p in row.copies if p != position)
            self._rows.write(vault, msgspec.structs.replace(row, copies=left))
            if row.standing == position:
                self.stand(vault, -1)

    def stand_down(self, vault: bytes, record: bytes) -> None:
        """Gives up copies by their owner's record. Raises Refused, Malformed, Forged."""
        body = stand_down_records.open_untrusted(record, vault)
        family = self._kinship.family(vault, self._rows.known(vault))
        if body.vault != vault or body.supplier != self._kinship.own:
            raise Refused("malformed", "the record is of another supplier or vault")
        if family is not None and body.family_epoch < family.epoch:
            raise Refused("stale", "a newer family is known here")
        if family is not None and family.position(self._kinship.own) == body.position:
            raise Refused("malformed", "the position is this supplier's own")
        self.drop_copies(vault, body.position)
