"""What a supplier's space is promised to and taken by: offers, the trash, contracts that ended."""

import logging
from collections.abc import Callable

from bitdustfs.supplier.kinship import Kinship
from bitdustfs.supplier.shelf import Shelf, VaultRow

log = logging.getLogger(__name__)

TRASH_SECONDS = 3 * 86400.0  #: how long deleted blocks can still be read, where there is room


class Housekeeping:
    """The space of one supplier: `space` bytes that it donates. Thread-safe."""

    def __init__(
        self,
        shelf: Shelf,
        space: int,
        kinship: Kinship,
        wall: Callable[[], float],
        trash_seconds: float,
    ) -> None:
        self.shelf, self.space, self.kinship = shelf, space, kinship
        self._wall, self.trash_seconds = wall, trash_seconds

    def offer(self) -> int:
        """Bytes that may still be promised."""
        promised = sum(row.space for vault, row in self.shelf.all_rows() if self._binds(vault, row))
        return max(0, self.space - promised)

    def _binds(self, vault: bytes, row: VaultRow) -> bool:
        """Whether what was promised to a vault still holds: until its date, and while it is of the family."""
        family = self.kinship.family(vault, row)
        out = family is not None and family.member(self.kinship.own) is None
        return row.until > self._wall() and not out

    def make_room(self) -> int:
        """Forgets vaults whose contracts ended, oldest first, where that is in the way of others; how many.

        As long as there is room their owners may come back to them.
        """
        rows = list(self.shelf.all_rows())
        binding = {vault for vault, row in rows if self._binds(vault, row)}
        taken = sum(row.space if vault in binding else row.used for vault, row in rows)
        ended = sorted((row.until, vault, row) for vault, row in rows if vault not in binding)
        forgotten = 0
        for _, vault, row in ended:
            if row.fragments and taken <= self.space:
                continue
            log.warning("the contract with vault %s has ended: it is forgotten", vault.hex()[:12])
            self.shelf.forget(vault)
            taken -= row.used
            forgotten += 1
        return forgotten

    def tidy(self) -> int:
        """Empties the trash of what is old, or in the way of what was promised; bytes freed."""
        trash = self.shelf.trash()
        size = sum(row.fragment.size for _, row in trash)
        room = self.space - self.shelf.used_total()
        too_old = self._wall() - self.trash_seconds
        names, freed = [], 0
        for name, row in trash:
            if row.killed > too_old and size - freed <= room:
                break
            names.append(name)
            freed += row.fragment.size
        if names:
            self.shelf.discard(names)
        return freed
