"""What a supplier's space is promised to and taken by: offers, contracts, the trash."""

import logging
from collections.abc import Callable

import msgspec

from bitdustfs.errors import Refused
from bitdustfs.supplier.kinship import Kinship
from bitdustfs.supplier.shelf import Shelf
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.supplier.vaultrows import VaultRows
from bitdustfs.units import MIB, format_size

log = logging.getLogger(__name__)

TRASH_SECONDS = 3 * 86400.0  #: how long deleted blocks can still be read, where there is room
DISCARD_AT_ONCE = 1000  #: fragments of the trash that go in one transaction
CONTRACT_MIN = 4 * MIB  #: bytes of the smallest contract: what a stranger makes us remember costs
CONTRACT_LONGEST = 2 * 365 * 86400  #: seconds from now that a contract may run at most
GRACE_SHARE, GRACE_MAX = 32, 16 * MIB  #: see grace


def grace(space: int) -> int:
    """Bytes that a vault may have here beyond its contract over `space` bytes.

    Owners reckon with the contract. A vault that fills it all the same could never delete again: a
    root without what was deleted has to be published first, and that takes some room.
    """
    return min(space // GRACE_SHARE, GRACE_MAX)


class Housekeeping:
    """The space of one supplier: `space` bytes that it donates. Thread-safe."""

    def __init__(
        self,
        rows: VaultRows,
        shelf: Shelf,
        space: int,
        kinship: Kinship,
        wall: Callable[[], float],
        trash_seconds: float,
    ) -> None:
        self._rows, self._shelf, self._space, self._kinship = rows, shelf, space, kinship
        self._wall, self._trash_seconds = wall, trash_seconds

    def offer(self) -> int:
        """Bytes that may still be promised: none by a supplier that leaves."""
        if self._kinship.leaving:
            return 0
        rows = self._shelf.all_rows()
        return max(0, self._space - sum(r.space for vault, r in rows if self._binds(vault, r)))

    def _binds(self, vault: bytes, row: VaultRow) -> bool:
        """Whether a promise still holds: until its date, and while this supplier is of the
        family.
        """
        family = self._kinship.family(vault, row)
        out = family is not None and family.member(self._kinship.own) is None
        return row.until > self._wall() and not out

    def promise(self, vault: bytes, space: int, until: int) -> VaultRow:
        """The row of a vault once it has a contract over `space` bytes. Raises Refused.

        A contract is never cut short, and ends some years from now at the latest.
        """
        if space < CONTRACT_MIN:
            raise Refused("malformed", f"a contract is over {format_size(CONTRACT_MIN)} at least")
        if self._kinship.leaving:
            raise Refused("no-space", "this supplier leaves")
        until = min(until, int(self._wall()) + CONTRACT_LONGEST)
        with self._rows.alone():
            row = self._shelf.vault(vault) or VaultRow(0, 0)
            free = self.offer() + (row.space if self._binds(vault, row) else 0)
            if space > free:
                raise Refused(
                    "no-space", f"{format_size(space)} asked for, {format_size(free)} to give"
                )
            if space + grace(space) < row.used:
                raise Refused("quota", f"{format_size(row.used)} are in use already")
            promised = msgspec.structs.replace(row, space=space, until=max(until, row.until))
            self._rows.write(vault, promised)
        self.make_room()
        return promised

    def make_room(self) -> int:
        """Forgets vaults whose contracts ended, oldest first, where they are in the way; how many.

        As long as there is room their owners may come back to them.
        """
        rows = self._shelf.all_rows()
        binding = {vault for vault, row in rows if self._binds(vault, row)}
        taken = sum(row.space if vault in binding else row.used for vault, row in rows)
        ended = sorted((r.until, vault, r) for vault, r in rows if vault not in binding)
        forgotten = 0
        for _, vault, row in ended:
            if row.fragments and taken <= self._space:
                continue
            log.warning("the contract with vault %s has ended: it is forgotten", vault.hex()[:12])
            self._shelf.forget(vault)
            taken -= row.used
            forgotten += 1
        return forgotten

    def tidy(self) -> int:
        """Empties the trash of what is old, or in the way of what was promised; bytes freed.

        Takes as long as there is to free: it is called after each deletion.
        """
        trash, freed = self._shelf.trash, 0
        too_old = self._wall() - self._trash_seconds
        while True:
            room = self._space - self._shelf.used_total()
            items = trash.due(too_old, trash.total - room, DISCARD_AT_ONCE)
            if not items:
                return freed
            freed += self._shelf.discard(items)
