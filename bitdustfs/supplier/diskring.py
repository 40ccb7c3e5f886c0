"""The ring of past roots of a shelf on disk: LMDB tables beside its others.

    ring            vault, number u64            RingRow
    ring-families   vault, hash of the family    the signed family

A family is kept as long as a root names it.
"""

import logging
import struct
from collections.abc import Iterable

import lmdb

from bitdustfs.core.codec import encode
from bitdustfs.core.hashing import HASH_SIZE
from bitdustfs.errors import Malformed, Refused
from bitdustfs.supplier.ring import Ring, RingEntry, entry_of
from bitdustfs.supplier.shelfrows import VAULT_SIZE, RingRow, charge_of, decode_ring_row

log = logging.getLogger(__name__)

NUMBER = struct.Struct(">Q")


class DiskRing(Ring):
    """The ring in one environment. What changes it is part of the shelf's transactions."""

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env
        self.rows, self.families = env.open_db(b"ring"), env.open_db(b"ring-families")

    def of(self, vault: bytes) -> list[RingEntry]:
        with self._env.begin() as txn:
            return [entry_of(number, row) for number, row in self._all(txn, vault)]

    def get(self, vault: bytes, number: int) -> tuple[bytes, bytes]:
        with self._env.begin() as txn:
            raw = txn.get(vault + NUMBER.pack(number), db=self.rows)
            if raw is None:
                raise Refused("not-found", "that root is not kept any more")
            row = decode_ring_row(raw)
            return row.root, bytes(txn.get(vault + row.family, b"", db=self.families))

    # -- as part of a transaction; each returns the bytes by which use changes

    def add(self, txn: lmdb.Transaction, vault: bytes, row: RingRow, family: bytes) -> int:
        """Keeps a root after all others of the vault."""
        number = max((number for number, _ in self._all(txn, vault)), default=-1) + 1
        txn.put(vault + NUMBER.pack(number), encode(row), db=self.rows)
        new = txn.put(vault + row.family, family, db=self.families, overwrite=False)
        return charge_of(row.root) + (charge_of(family) if new else 0)

    def drop(self, txn: lmdb.Transaction, vault: bytes, numbers: Iterable[int]) -> int:
        """These are not kept any more."""
        size = 0
        for number in numbers:
            raw = txn.pop(vault + NUMBER.pack(number), db=self.rows)
            for row in [] if raw is None else _readable(bytes(raw)):
                size -= charge_of(row.root)
        named = {row.family for _, row in self._all(txn, vault)}
        with txn.cursor(self.families) as cursor:
            more = cursor.set_range(vault)
            while more and bytes(cursor.key())[:VAULT_SIZE] == vault:
                if bytes(cursor.key())[-HASH_SIZE:] in named:
                    more = cursor.next()
                else:
                    size -= charge_of(bytes(cursor.value()))
                    more = cursor.delete()
        return size

    def _all(self, txn: lmdb.Transaction, vault: bytes) -> list[tuple[int, RingRow]]:
        found = []
        with txn.cursor(self.rows) as cursor:
            more = cursor.set_range(vault)
            while more and bytes(cursor.key())[:VAULT_SIZE] == vault:
                number = NUMBER.unpack(cursor.key()[VAULT_SIZE:])[0]
                found += [(number, row) for row in _readable(bytes(cursor.value()))]
                more = cursor.next()
        return found


def _readable(raw: bytes) -> list[RingRow]:
    """A row; none where it is damaged: it must not stop the others."""
    try:
        return [decode_ring_row(raw)]
    except Malformed as error:
        log.error("a past root is damaged: %s", error)
        return []
