"""Where a supplier keeps fragments: the interface, and the kind in memory.

A fragment is kept, then possibly retained (its owner deleted it, and the contract has a retention:
it can be read and counts in the quota), then possibly in the trash (it can be read still, and is in
nobody's quota), then gone. `drop` takes the way past the trash. A block that was killed has a
tombstone for as long as the vault is remembered.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from sortedcontainers import SortedDict

from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import Refused
from bitdustfs.supplier.ring import MemoryRing, Ring
from bitdustfs.supplier.shelfrows import (
    TOMBSTONE_CHARGE,
    FragmentRow,
    RingRow,
    VaultRow,
    charge_of,
    counted,
    encode_vault_row,
    fragment_row,
    summary,
)
from bitdustfs.supplier.steady import Noted
from bitdustfs.supplier.trash import Trash, Trashed, TrashIndex

#: whether a retained fragment is alive again: by its block's tombstone (None: its copy alone was
#: given up) and its key
IsAlive = Callable[[bytes | None, bytes], bool]


class Shelf(ABC):
    """Fragments and rows of many vaults. Thread-safe; every change is durable when it returns.

    Whatever fails raises Refused and has changed nothing that is counted: the call may be made
    again. Rows are held decoded, and the trash is indexed: no call but `forget` takes longer
    because more is kept.
    """

    trash: TrashIndex  #: what is in the trash, by vault and by age
    retained: TrashIndex  #: what is retained, by vault and by the steady time until which it is
    ring: Ring  #: the past roots

    @abstractmethod
    def vault(self, vault: bytes) -> VaultRow | None:
        """The vault's row. Raises Malformed when it is damaged on disk."""

    @abstractmethod
    def set_vault(self, vault: bytes, row: VaultRow) -> None:
        """Keeps the row. What it says of use counts for a new vault only: the shelf counts
        itself.
        """

    @abstractmethod
    def all_rows(self) -> list[tuple[bytes, VaultRow]]:
        """All vaults that have a row that can be read, with its summary."""

    @abstractmethod
    def forget(self, vault: bytes) -> None:
        """Nothing of a vault is kept any more, nor its row. What its files took is free once
        `sweep` was called: there may be a million.
        """

    def sweep(self) -> None:
        """Deletes the files of forgotten vaults, also of those that a stop left behind. It keeps
        nobody waiting.
        """

    @abstractmethod
    def used_total(self) -> int:
        """Bytes of fragments kept for all vaults together, the trash not counted."""

    @abstractmethod
    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None:
        """The row of a fragment that is kept; None also for one in the trash."""

    @abstractmethod
    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        """The hash of the first header kept for this block id, whatever its position.

        Also of one that is retained: nothing else may take its place.
        """

    @abstractmethod
    def store(
        self, vault: bytes, key: bytes, header: bytes, chunks: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        """Keeps a new fragment and counts it in its vault's row. The same one again counts
        nothing.
        """

    @abstractmethod
    def head(self, vault: bytes, key: bytes) -> tuple[bytes, bytes]:
        """(header, chunks), also out of the trash; or Refused not-found."""

    @abstractmethod
    def read(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        """A range of the payload, also out of the trash; or Refused not-found / malformed."""

    @abstractmethod
    def keys(self, vault: bytes, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        """(key, size) in order, after `after`."""

    @abstractmethod
    def kill(self, vault: bytes, block: bytes, record: bytes, now: int, until: int = 0) -> None:
        """Moves all fragments of a block to the trash, and keeps the record as a tombstone.

        The tombstone counts, the fragments do not any more.
        What is in the trash can still be read (by mounts of older roots), and is in nobody's quota.
        `until`: they are retained until then, and count.
        """

    @abstractmethod
    def retire(self, vault: bytes, keys: Sequence[bytes], until: int) -> None:
        """These fragments are retained until then, without a tombstone."""

    @abstractmethod
    def revive(self, vault: bytes, alive: IsAlive, after: bytes, limit: int) -> bytes:
        """Of so many retained fragments after a key those that are alive are kept again.

        Tombstones stay: who asks for one knows whether it counts. The last key that was looked at;
        empty: that was all.
        """

    @abstractmethod
    def release(self, items: Sequence[Trashed], now: int) -> None:
        """Moves these from what is retained to the trash."""

    @abstractmethod
    def keep_past(self, vault: bytes, row: RingRow, family: bytes) -> None:
        """Adds a past root and its family to the ring. They count."""

    @abstractmethod
    def drop_past(self, vault: bytes, numbers: Sequence[int]) -> None:
        """Takes past roots out of the ring."""

    @abstractmethod
    def noted_time(self) -> Noted | None:
        """What `note_time` was told last."""

    @abstractmethod
    def note_time(self, noted: Noted) -> None:
        """Keeps how late it is (steady.py)."""

    @abstractmethod
    def drop(self, vault: bytes, keys: Sequence[bytes]) -> None:
        """Deletes these fragments for good, without a tombstone: others keep the blocks."""

    @abstractmethod
    def discard(self, items: Sequence[Trashed]) -> int:
        """Deletes these from the trash for good; bytes freed.

        Items not there any more free nothing.
        """

    @abstractmethod
    def tombstone(self, vault: bytes, block: bytes) -> bytes | None:
        """The record by which the owner deleted the block."""

    def close(self) -> None:
        """Nothing may use the shelf afterwards."""


#: header, chunks, payload, hash of the header
Kept = tuple[bytes, bytes, bytearray, bytes]
Name = tuple[bytes, bytes]  #: vault, fragment key
LAST = b"\xff" * 18  #: after every key


class MemoryShelf(Shelf):
    """For tests and for whole families in one process. `rows` and `kept` are what is really
    there.
    """

    def __init__(self) -> None:
        self.rows: dict[bytes, VaultRow] = {}
        self.kept: SortedDict = SortedDict()  #: Name -> Kept
        self.trash = self._trash = Trash()
        self.retained = self._retained = Trash()
        self.ring = self._ring = MemoryRing()
        self._noted: Noted | None = None
        self._killed: SortedDict = SortedDict()  # Name -> (Kept, Trashed)
        self._held: SortedDict = SortedDict()  # the same, of those that are retained
        self._tombstones: SortedDict = SortedDict()  # (vault, block) -> record
        self._lock = threading.RLock()

    def vault(self, vault: bytes) -> VaultRow | None:
        return self.rows.get(vault)

    def set_vault(self, vault: bytes, row: VaultRow) -> None:
        encode_vault_row(row)
        with self._lock:
            now = self.rows.get(vault)
            if now is not None:
                row = counted(row, now.used - row.used, now.fragments - row.fragments)
            self.rows[vault] = row

    def all_rows(self) -> list[tuple[bytes, VaultRow]]:
        return [(vault, summary(row)) for vault, row in list(self.rows.items())]

    def used_total(self) -> int:
        return sum(row.used for row in list(self.rows.values()))

    def forget(self, vault: bytes) -> None:
        with self._lock:
            self._trash.remove([self._killed[name][1] for name in _within(self._killed, vault)])
            self._retained.remove([self._held[name][1] for name in _within(self._held, vault)])
            for table in (self.kept, self._killed, self._held, self._tombstones):
                for name in _within(table, vault):
                    del table[name]
            for whole in (self.rows, self._ring.rows, self._ring.families):
                whole.pop(vault, None)

    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None:
        kept = self.kept.get((vault, key))
        return None if kept is None else _row(kept)

    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        with self._lock:
            for name in self.kept.irange((vault, block), (vault, block + b"\xff")):
                found: bytes = self.kept[name][3]
                return found
            for name in self._held.irange((vault, block), (vault, block + b"\xff")):
                held: bytes = self._held[name][0][3]
                return held
        return None

    def store(
        self, vault: bytes, key: bytes, header: bytes, chunks: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        kept = (header, chunks, bytearray(payload), header_hash)
        with self._lock:
            if vault not in self.rows:
                raise Refused("unknown-vault")
            if (vault, key) not in self.kept:
                self._count(vault, _row(kept).size, 1)
                self._take_back(vault, key)
                if (vault, key) in self._killed:  # emptying the trash must not touch it
                    self._trash.remove([self._killed.pop((vault, key))[1]])
            self.kept[vault, key] = kept

    def _count(self, vault: bytes, size: int, fragments: int) -> None:
        if vault in self.rows:
            self.rows[vault] = counted(self.rows[vault], size, fragments)

    def _readable(self, vault: bytes, key: bytes) -> Kept:
        kept: Kept | None = self.kept.get((vault, key))
        for table in (self._held, self._killed):
            if kept is None:
                kept, _ = table.get((vault, key), (None, None))
        if kept is None:
            raise Refused("not-found", key.hex())
        return kept

    def head(self, vault: bytes, key: bytes) -> tuple[bytes, bytes]:
        return self._readable(vault, key)[:2]

    def read(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        payload = self._readable(vault, key)[2]
        check_range(offset, length, len(payload))
        return bytes(payload[offset : offset + length])

    def keys(self, vault: bytes, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        with self._lock:
            for name in self.kept.irange((vault, after), (vault, LAST), inclusive=(False, True)):
                if len(found) >= limit:
                    break
                found.append((name[1], _row(self.kept[name]).size))
        return found

    def kill(self, vault: bytes, block: bytes, record: bytes, now: int, until: int = 0) -> None:
        with self._lock:
            if (vault, block) not in self._tombstones:
                self._count(vault, TOMBSTONE_CHARGE, 0)
            self._tombstones[vault, block] = record
            for name in list(self.kept.irange((vault, block), (vault, block + b"\xff"))):
                if until:
                    self._retain(name, until)
                else:
                    kept = self.kept.pop(name)
                    self._count(vault, -_row(kept).size, -1)
                    self._discard_later(name, kept, now)

    def _discard_later(self, name: Name, kept: Kept, now: int) -> None:
        item = Trashed(now, name[0] + name[1], _row(kept).size)
        if name in self._killed:
            self._trash.remove([self._killed[name][1]])
        self._killed[name] = (kept, item)
        self._trash.add([item])

    def _retain(self, name: Name, until: int) -> None:
        kept = self.kept.pop(name)
        item = Trashed(until, name[0] + name[1], _row(kept).size)
        self._count(name[0], 0, -1)
        self._held[name] = (kept, item)
        self._retained.add([item])

    def _take_back(self, vault: bytes, key: bytes) -> Kept | None:
        """A fragment is not retained any more."""
        if (vault, key) not in self._held:
            return None
        kept: Kept
        kept, item = self._held.pop((vault, key))
        self._retained.remove([item])
        self._count(vault, -item.size, 0)
        return kept

    def retire(self, vault: bytes, keys: Sequence[bytes], until: int) -> None:
        with self._lock:
            for key in keys:
                if (vault, key) in self.kept:
                    self._retain((vault, key), until)

    def revive(self, vault: bytes, alive: IsAlive, after: bytes, limit: int) -> bytes:
        with self._lock:
            found = self._held.irange((vault, after), (vault, LAST), inclusive=(False, True))
            names = list(islice(found, limit))
            for name in names:
                if alive(self.tombstone(vault, name[1][:-1]), name[1]):
                    kept = self._take_back(*name)
                    assert kept is not None
                    self._count(vault, _row(kept).size, 1)
                    self.kept[name] = kept
        return names[-1][1] if len(names) == limit else b""

    def release(self, items: Sequence[Trashed], now: int) -> None:
        with self._lock:
            for item in items:
                kept = self._take_back(item.vault, item.key)
                if kept is not None:
                    self._discard_later((item.vault, item.key), kept, now)

    def keep_past(self, vault: bytes, row: RingRow, family: bytes) -> None:
        with self._lock:
            rows = self._ring.rows.setdefault(vault, {})
            families = self._ring.families.setdefault(vault, {})
            rows[max(rows, default=-1) + 1] = row
            new = families.setdefault(row.family, family) is family
            self._count(vault, charge_of(row.root) + (charge_of(family) if new else 0), 0)

    def drop_past(self, vault: bytes, numbers: Sequence[int]) -> None:
        with self._lock:
            rows, families = self._ring.rows.get(vault, {}), self._ring.families.get(vault, {})
            gone = [row.root for n in numbers if (row := rows.pop(n, None)) is not None]
            named = {row.family for row in rows.values()}
            gone += [families.pop(name) for name in [*families] if name not in named]
            self._count(vault, -sum(map(charge_of, gone)), 0)

    def noted_time(self) -> Noted | None:
        return self._noted

    def note_time(self, noted: Noted) -> None:
        self._noted = noted

    def drop(self, vault: bytes, keys: Sequence[bytes]) -> None:
        with self._lock:
            for key in keys:
                kept = self.kept.pop((vault, key), None)
                if kept is not None:
                    self._count(vault, -_row(kept).size, -1)

    def discard(self, items: Sequence[Trashed]) -> int:
        freed = 0
        with self._lock:
            for item in items:
                if self._killed.pop((item.vault, item.key), None) is not None:
                    freed += item.size
            self._trash.remove(items)
        return freed

    def tombstone(self, vault: bytes, block: bytes) -> bytes | None:
        record: bytes | None = self._tombstones.get((vault, block))
        return record


def _row(kept: Kept) -> FragmentRow:
    return fragment_row(len(kept[0]), len(kept[1]), len(kept[2]), kept[3])


def _within(table: SortedDict, vault: bytes) -> Iterable[Name]:
    """The names of one vault in a table of the shelf in memory."""
    return list(table.irange((vault, b""), (vault, LAST)))


def check_range(offset: int, length: int, size: int) -> None:
    """Raises Refused unless [offset, offset + length) lies within `size` bytes."""
    if offset < 0 or length < 1 or offset + length > size:
        raise Refused("malformed", "the range is outside the fragment")
