"""The index of the trash of a shelf on disk: LMDB tables beside that of the trash itself.

    trash         vault, block, position     TrashRow
    trash-order   killed u64, name, size u64 nothing: the oldest comes first
    trash-bytes   vault, or ALL              bytes u64
                  ROWS                       entries of `trash` when the others were written last

What is retained has the same three tables under its own name, ordered by the steady time until
which it is.

All change in one transaction. Nothing is held in memory, and nothing is read at a start: a vault
that is emptied puts a million fragments into the trash. A program that knows only `trash` leaves
another number of entries; then the two others are made anew, once.
"""

import logging
import struct
from collections.abc import Iterable, Iterator
from itertools import islice

import lmdb

from bitdustfs.errors import Malformed
from bitdustfs.supplier.shelfrows import decode_trash_row
from bitdustfs.supplier.trash import ENTRY, NAME_SIZE, Trashed, TrashIndex, unpack

log = logging.getLogger(__name__)

ALL, ROWS = b"all", b"rows"  #: no vault's key is as short
COUNT = struct.Struct(">Q")
ROWS_AT_ONCE = 10_000  #: rows that are indexed in one transaction


class DiskTrash(TrashIndex):
    """The index in one environment. `rows` is LMDB's handle of the trash, or what `name` says."""

    def __init__(self, env: lmdb.Environment, name: bytes = b"trash") -> None:
        self._env = env
        self.rows = env.open_db(name)
        self._order, self._bytes = env.open_db(name + b"-order"), env.open_db(name + b"-bytes")
        with env.begin() as txn:
            known = self._get(txn, ROWS) == txn.stat(self.rows)["entries"]
        if not known:
            self._make_anew()

    @property
    def total(self) -> int:
        return self.of(ALL)

    def of(self, vault: bytes) -> int:
        with self._env.begin() as txn:
            return self._get(txn, vault)

    def due(self, before: float, excess: int, limit: int) -> list[Trashed]:
        found: list[Trashed] = []
        with self._env.begin(db=self._order) as txn, txn.cursor() as cursor:
            for packed in cursor.iternext(keys=True, values=False):
                item = unpack(bytes(packed))
                if len(found) >= limit or (item.killed > before and excess <= 0):
                    break
                found.append(item)
                excess -= item.size
        return found

    # -- as part of a transaction that changes the rows

    def add(self, txn: lmdb.Transaction, items: Iterable[Trashed]) -> None:
        """These are in the trash now."""
        self._add(txn, items)
        self._note(txn)

    def _add(self, txn: lmdb.Transaction, items: Iterable[Trashed]) -> None:
        for item in items:
            if txn.put(ENTRY.pack(*item), b"", db=self._order, overwrite=False):
                self._add_bytes(txn, item, item.size)

    def remove(self, txn: lmdb.Transaction, items: Iterable[Trashed]) -> None:
        """These are in it no more."""
        for item in items:
            if txn.delete(ENTRY.pack(*item), db=self._order):
                self._add_bytes(txn, item, -item.size)
        self._note(txn)

    def _note(self, txn: lmdb.Transaction) -> None:
        self._set(txn, ROWS, txn.stat(self.rows)["entries"])

    def _add_bytes(self, txn: lmdb.Transaction, item: Trashed, size: int) -> None:
        for key in (item.vault, ALL):
            self._set(txn, key, self._get(txn, key) + size)

    def _get(self, txn: lmdb.Transaction, key: bytes) -> int:
        raw = txn.get(key, db=self._bytes)
        return 0 if raw is None else int(COUNT.unpack(raw)[0])

    def _set(self, txn: lmdb.Transaction, key: bytes, value: int) -> None:
        if value:
            txn.put(key, COUNT.pack(value), db=self._bytes)
        else:
            txn.delete(key, db=self._bytes)

    def _make_anew(self) -> None:
        """Some rows a transaction: all of them would take too much memory. ROWS comes last."""
        with self._env.begin(write=True) as txn:
            txn.drop(self._order, delete=False)
            txn.drop(self._bytes, delete=False)
        after = b""
        while True:
            with self._env.begin(write=True) as txn, txn.cursor(self.rows) as cursor:
                more = cursor.set_range(after)
                some = [(bytes(name), bytes(raw)) for name, raw in islice(cursor, ROWS_AT_ONCE)]
                if not more or not some:
                    self._note(txn)
                    return
                self._add(txn, trashed(some))
            after = some[-1][0] + b"\0"


def trashed(rows: Iterable[tuple[bytes, bytes]]) -> Iterator[Trashed]:
    """Rows of the trash as its index has them. A damaged one is left out.

    It must not stop the others.
    """
    for name, raw in rows:
        try:
            row = decode_trash_row(raw)
            if len(name) != NAME_SIZE:
                raise Malformed("a name of the trash of a wrong length")
        except Malformed as error:
            log.error("%s in the trash is damaged: %s", name.hex(), error)
            continue
        yield Trashed(row.killed, name, row.fragment.size)
