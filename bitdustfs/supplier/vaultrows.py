"""The rows of vaults, changed by one thread at a time from reading to writing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bitdustfs.errors import Refused
from bitdustfs.supplier.shelf import Shelf
from bitdustfs.supplier.shelfrows import VaultRow


class VaultRows:
    """What the parts of a service share: each changes other fields of the same rows.
    Thread-safe.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.RLock()

    def known(self, vault: bytes) -> VaultRow:
        """Raises Refused unknown-vault where there is no contract."""
        row = self._shelf.vault(vault)
        if row is None:
            raise Refused("unknown-vault", "there is no contract with this vault here")
        return row

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes a row until the block is left."""
        with self._lock:
            yield

    @contextmanager
    def changing(self, vault: bytes) -> Iterator[VaultRow]:
        """The row of a vault, which nobody else changes until the block is left."""
        with self._lock:
            yield self.known(vault)

    def write(self, vault: bytes, row: VaultRow) -> None:
        """Keeps a row, durably, unless it is there already."""
        with self._lock:
            if row != self._shelf.vault(vault):
                self._shelf.set_vault(vault, row)
