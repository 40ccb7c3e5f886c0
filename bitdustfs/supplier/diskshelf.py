"""The shelf on disk.

    shelf/<vault>/<block>.<position>
        header length u32 | chunks length u32 | header | chunks | payload
    arriving/                                    files that have no name yet
    index/                                       LMDB tables:
        vaults        vault                      VaultRow
        fragments     vault, block, position     FragmentRow
        trash         vault, block, position     TrashRow; the file stays (disktrash.py)
        retained      vault, block, position     TrashRow; the file stays (the same)
        ring          vault, number              RingRow (diskring.py)
        clock         "clock"                    how late it was (steady.py)
        tombstones    vault, block               block-dead record

A fragment is written aside, synced, renamed, its folder synced, and indexed in a synced
transaction; only then is it acknowledged. After a crash a file without an index row is simply put
again. Fragments that come while others are synced have folder and transaction together
(together.py).

Summaries of vault rows are held in memory as well, read once at the start; of whole rows those used
last, within a bound: a row may have half a megabyte. Nothing is held, and nothing read at the
start, for each fragment. Memory follows LMDB: it changes after a transaction is durable, and when
one fails the row that it concerned is read again, since a failed commit leaves open which of its
pages reached the disk.
"""

import errno
import logging
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import lmdb

from bitdustfs.cache.folder import OwnedFolder, fsync_folder
from bitdustfs.core.codec import encode
from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import Malformed, Refused
from bitdustfs.failpoints import reach
from bitdustfs.supplier.diskring import DiskRing
from bitdustfs.supplier.disktrash import DiskTrash, trashed
from bitdustfs.supplier.fragmentfile import FragmentWriter
from bitdustfs.supplier.shelf import IsAlive, Shelf, check_range
from bitdustfs.supplier.shelfrows import (
    TOMBSTONE_CHARGE,
    VAULT_SIZE,
    FragmentRow,
    RingRow,
    TrashRow,
    VaultRow,
    counted,
    decode_fragment_row,
    decode_trash_row,
    decode_vault_row,
    encode_vault_row,
    fragment_row,
    summary,
    weight,
)
from bitdustfs.supplier.steady import Noted
from bitdustfs.supplier.together import Piece, Together
from bitdustfs.supplier.trash import Trashed
from bitdustfs.units import GIB, MIB

log = logging.getLogger(__name__)

FILE_PREFIX = struct.Struct(">II")
CLOCK_KEY, CLOCK = b"clock", struct.Struct(">QQ")
WHOLE_MAX, WHOLE_COUNT = 16 * MIB, 1000  #: bytes, and rows, of what is held of whole rows
_NOTHING = VaultRow(0, 0)


class DiskShelf(Shelf):
    """The real one. `folder` is owned and locked by the caller for as long as the shelf is open."""

    def __init__(self, folder: OwnedFolder) -> None:
        self._files = folder.path / "shelf"
        self._files.mkdir(mode=0o700, exist_ok=True)
        self._arriving, self._leaving = folder.path / "arriving", folder.path / "leaving"
        self._leaving.mkdir(mode=0o700, exist_ok=True)
        self._sweeping = threading.Lock()
        self._env = lmdb.open(
            str(folder.path / "index"), map_size=1024 * GIB, max_dbs=16, metasync=True
        )
        self._env.reader_check()
        self._rows = self._env.open_db(b"vaults")
        self._index = self._env.open_db(b"fragments")
        self._tombstones = self._env.open_db(b"tombstones")
        self._clock = self._env.open_db(b"clock")
        self.trash = self._trash = DiskTrash(self._env)
        self.retained = self._retained = DiskTrash(self._env, b"retained")
        self.ring = self._ring = DiskRing(self._env)
        self._lock = threading.RLock()  # over transactions, and what is in memory of them
        self._vaults: dict[bytes, VaultRow] = {}  # summaries
        self._whole: OrderedDict[bytes, VaultRow] = OrderedDict()  # rows, those used last
        self._weight = 0  # bytes, of those
        self._damaged: dict[bytes, str] = {}  # vault -> what is wrong with its row
        self._used = 0  # bytes, over all vaults
        self._writer = FragmentWriter()
        self._arrivals = Together(self._index_all)
        with self._env.begin() as txn:
            for vault, raw in txn.cursor(self._rows):
                self._hold(vault, raw)
        self._clear_away()

    def _clear_away(self) -> None:
        """What was arriving when the process ended goes."""
        if self._arriving.exists():
            _remove_files(self._arriving, "")
            return
        for vault in self._files.iterdir():  # shelves of before had them among the fragments
            _remove_files(vault, ".new")
        self._arriving.mkdir(mode=0o700)

    def close(self) -> None:
        with self._lock:
            self._env.sync(True)
            self._env.close()

    # -- memory and LMDB

    def _hold(self, vault: bytes, raw: bytes | None) -> None:
        """What memory has of a vault becomes what LMDB has."""
        row: VaultRow | None = None
        self._damaged.pop(vault, None)
        try:
            row = None if raw is None else decode_vault_row(raw)
        except Malformed as error:  # it must not stop the others
            log.error("the row of vault %s is damaged: %s", vault.hex()[:12], error)
            self._damaged[vault] = str(error)
        self._remember(vault, row)

    def _remember(self, vault: bytes, row: VaultRow | None) -> None:
        before = self._vaults.get(vault, _NOTHING)
        self._used += (row or _NOTHING).used - before.used
        self._weight -= weight(self._whole.pop(vault, _NOTHING))
        if row is None:
            self._vaults.pop(vault, None)
            return
        self._vaults[vault] = summary(row)  # never absent meanwhile: it is read without the lock
        self._whole[vault] = row
        self._weight += weight(row)
        while self._weight > WHOLE_MAX or len(self._whole) > WHOLE_COUNT:
            self._weight -= weight(self._whole.popitem(last=False)[1])

    @contextmanager
    def _write(self, vault: bytes = b"") -> Iterator[tuple[lmdb.Transaction, "_Effects"]]:
        """A transaction that is durable when the block is left. One at a time.

        `vault`: the one whose row may change by it. The row in `_Effects` is written at the end of
        the block.
        """
        with self._lock:
            change = _Effects(self.vault(vault))
            try:
                with self._env.begin(write=True) as txn:
                    yield txn, change
                    if change.changed:
                        self._put_row(txn, vault, change.row)
            except (OSError, lmdb.Error) as error:
                if vault:
                    self._read_again(vault)
                raise _refusal(error) from error
            if change.changed:
                self._remember(vault, change.row)

    def _put_row(self, txn: lmdb.Transaction, vault: bytes, row: VaultRow | None) -> None:
        if row is None:
            txn.delete(vault, db=self._rows)
        else:
            txn.put(vault, encode_vault_row(row), db=self._rows)

    def _read_again(self, vault: bytes) -> None:
        """After a failed transaction: memory follows what LMDB holds, whatever that is."""
        try:
            with self._env.begin(db=self._rows) as txn:
                self._hold(vault, txn.get(vault))
        except lmdb.Error:  # nothing can be read: what memory has is the best there is
            log.exception("the index cannot be read after a change failed")

    # -- vaults

    def vault(self, vault: bytes) -> VaultRow | None:
        if vault in self._damaged:
            raise Malformed(self._damaged[vault])
        row = self._whole.get(vault)
        if row is not None or vault not in self._vaults:
            return row
        with self._lock:
            with self._env.begin(db=self._rows) as txn:
                self._hold(vault, txn.get(vault))
            return self._whole.get(vault)

    def set_vault(self, vault: bytes, row: VaultRow) -> None:
        folder = self._files / vault.hex()
        with self._lock:
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
                fsync_folder(self._files)
            with self._write(vault) as (_, change):
                reach("shelf-register")
                change.replace(row)
        reach("shelf-registered")

    def all_rows(self) -> list[tuple[bytes, VaultRow]]:
        return list(self._vaults.items())

    def used_total(self) -> int:
        return self._used

    def forget(self, vault: bytes) -> None:
        with self._lock:
            with self._write(vault) as (txn, change):
                for index in (self._trash, self._retained):
                    with txn.cursor(index.rows) as cursor:
                        killed = list(trashed(_prefixed(cursor, vault, delete=True)))
                    index.remove(txn, killed)
                for table in (self._index, self._tombstones, self._ring.rows, self._ring.families):
                    with txn.cursor(table) as cursor:
                        for _ in _prefixed(cursor, vault, delete=True):
                            pass
                change.forget()
            # by another name: the vault may come back and keep fragments before these are gone
            with suppress(FileNotFoundError):
                os.rename(self._files / vault.hex(), self._leaving / os.urandom(16).hex())

    def sweep(self) -> None:
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            for folder in self._leaving.iterdir():
                _remove_files(folder, "")
                folder.rmdir()
        finally:
            self._sweeping.release()

    # -- fragments

    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None:
        with self._env.begin(db=self._index) as txn:
            raw = txn.get(vault + key)
        return None if raw is None else decode_fragment_row(raw)

    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        with self._env.begin(db=self._index) as txn, txn.cursor() as cursor:
            for _, raw in _prefixed(cursor, vault + block):
                return decode_fragment_row(raw).header_hash
        with self._env.begin(db=self._retained.rows) as txn, txn.cursor() as cursor:
            for _, raw in _prefixed(cursor, vault + block):
                return decode_trash_row(raw).fragment.header_hash
        return None

    def _path(self, vault: bytes, key: bytes) -> Path:
        return self._files / vault.hex() / f"{key[:-1].hex()}.{key[-1]}"

    def store(
        self, vault: bytes, key: bytes, header: bytes, chunks: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        if self.vault(vault) is None:
            raise Refused("unknown-vault")
        aside = self._arriving / str(threading.get_ident())
        front = FILE_PREFIX.pack(len(header), len(chunks)) + header + chunks
        row = fragment_row(len(header), len(chunks), len(payload), header_hash)
        try:
            self._writer.write(aside, front, payload)
            self._arrivals.do(_Arrival(vault, key, row, aside))
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise _refusal(error) from error

    def _index_all(self, pieces: Sequence[Piece["_Arrival"]]) -> None:
        """Fragments whose files are written and synced get their names, and then their rows."""
        named: dict[bytes, list[Piece[_Arrival]]] = {}
        for piece in pieces:
            vault, key, _, aside = piece.what
            try:
                reach("shelf-rename")
                os.rename(aside, self._path(vault, key))
            except OSError as error:
                piece.fail(error)
            else:
                named.setdefault(vault, []).append(piece)
        for vault, arrived in named.items():
            try:
                fsync_folder(self._files / vault.hex())
                self._index_those([piece.what for piece in arrived])
            except (OSError, Refused, Malformed) as error:
                for piece in arrived:
                    piece.fail(error)

    def _index_those(self, arrived: Sequence["_Arrival"]) -> None:
        """One vault's, in one synced transaction. Raises Refused."""
        vault = arrived[0].vault
        with self._write(vault) as (txn, change):
            reach("shelf-index")
            if change.row is None:
                raise Refused("unknown-vault")
            if not all(self._path(vault, arrival.key).exists() for arrival in arrived):
                raise Refused("unknown-vault", "it was forgotten, and came back, meanwhile")
            for _, key, row, _ in arrived:
                if txn.put(vault + key, encode(row), db=self._index, overwrite=False):
                    change.count(row.size, 1)
                    self._take_back(txn, change, vault + key)
                    self._forget_trashed(txn, vault + key)
        reach("shelf-indexed")

    def _row(self, vault: bytes, key: bytes) -> FragmentRow:
        row = self.fragment(vault, key)
        if row is not None:
            return row
        with self._env.begin() as txn:
            raw = txn.get(vault + key, db=self._retained.rows)
            raw = raw or txn.get(vault + key, db=self._trash.rows)
        if raw is None:
            raise Refused("not-found", key.hex())
        return decode_trash_row(raw).fragment

    def head(self, vault: bytes, key: bytes) -> tuple[bytes, bytes]:
        row = self._row(vault, key)
        raw = self._pread(vault, key, FILE_PREFIX.size, row.header + row.chunks)
        return raw[: row.header], raw[row.header :]

    def read(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        row = self._row(vault, key)
        check_range(offset, length, row.payload)
        return self._pread(vault, key, FILE_PREFIX.size + row.header + row.chunks + offset, length)

    def _pread(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        try:
            fd = _open_to_read(self._path(vault, key))
        except FileNotFoundError:
            raise Refused("damaged", "the fragment's file is gone") from None
        try:
            data = os.pread(fd, length, offset)
        except OSError as error:
            raise Refused("damaged", error.strerror or "") from error
        finally:
            os.close(fd)
        if len(data) != length:
            raise Refused("damaged", "the fragment's file is shorter than it was")
        return data

    def keys(self, vault: bytes, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        start = after + (b"\0" if after else b"")
        with self._env.begin(db=self._index) as txn, txn.cursor() as cursor:
            for name, raw in islice(_prefixed(cursor, vault, start), limit):
                found.append((name[VAULT_SIZE:], decode_fragment_row(raw).size))
        return found

    def drop(self, vault: bytes, keys: Sequence[bytes]) -> None:
        with self._write(vault) as (txn, change):
            for key in keys:
                raw = txn.pop(vault + key, db=self._index)
                if raw is not None:
                    change.count(-decode_fragment_row(raw).size, -1)
        for key in keys:
            self._path(vault, key).unlink(missing_ok=True)

    def kill(self, vault: bytes, block: bytes, record: bytes, now: int, until: int = 0) -> None:
        with self._write(vault) as (txn, change):
            if txn.replace(vault + block, record, db=self._tombstones) is None:
                change.count(TOMBSTONE_CHARGE, 0)
            with txn.cursor(self._index) as cursor:
                rows = [
                    (name, decode_fragment_row(raw))
                    for name, raw in _prefixed(cursor, vault + block, delete=True)
                ]
            if until:
                self._retain(txn, change, rows, until)
            else:
                change.count(-sum(row.size for _, row in rows), -len(rows))
                self._discard_later(txn, rows, now)
            reach("shelf-kill")
        reach("shelf-killed")

    def _forget_trashed(self, txn: lmdb.Transaction, name: bytes) -> None:
        """Emptying the trash must not touch a file that is kept again."""
        raw = txn.pop(name, db=self._trash.rows)
        if raw is not None:
            self._trash.remove(txn, trashed([(name, bytes(raw))]))

    def _discard_later(
        self, txn: lmdb.Transaction, rows: Sequence[tuple[bytes, FragmentRow]], now: int
    ) -> None:
        """Rows that are in no other table come into the trash."""
        before = list[tuple[bytes, bytes]]()
        for name, row in rows:
            old = txn.replace(name, encode(TrashRow(row, now)), db=self._trash.rows)
            if old is not None:
                before.append((name, bytes(old)))
        self._trash.remove(txn, trashed(before))
        self._trash.add(txn, [Trashed(now, name, row.size) for name, row in rows])

    # -- what is retained

    def _retain(
        self,
        txn: lmdb.Transaction,
        change: "_Effects",
        rows: Sequence[tuple[bytes, FragmentRow]],
        until: int,
    ) -> None:
        """Rows that were taken out of the index are retained. They count as before."""
        for name, row in rows:
            txn.put(name, encode(TrashRow(row, until)), db=self._retained.rows)
        change.count(0, -len(rows))
        self._retained.add(txn, [Trashed(until, name, row.size) for name, row in rows])

    def _take_back(
        self, txn: lmdb.Transaction, change: "_Effects", name: bytes
    ) -> FragmentRow | None:
        """A fragment is not retained any more, and does not count. None: it was not, or its row is
        damaged.
        """
        raw = txn.pop(name, db=self._retained.rows)
        found = [] if raw is None else list(trashed([(name, bytes(raw))]))
        if raw is None or not found:
            return None
        self._retained.remove(txn, found)
        change.count(-found[0].size, 0)
        return decode_trash_row(raw).fragment

    def retire(self, vault: bytes, keys: Sequence[bytes], until: int) -> None:
        with self._write(vault) as (txn, change):
            found = [(vault + key, txn.pop(vault + key, db=self._index)) for key in keys]
            rows = [(name, decode_fragment_row(raw)) for name, raw in found if raw is not None]
            self._retain(txn, change, rows, until)

    def revive(self, vault: bytes, alive: IsAlive, after: bytes, limit: int) -> bytes:
        start = after + (b"\0" if after else b"")
        with self._write(vault) as (txn, change):
            with txn.cursor(self._retained.rows) as cursor:
                names = [name for name, _ in islice(_prefixed(cursor, vault, start), limit)]
            for name in names:
                dead = txn.get(name[:-1], db=self._tombstones)
                if not alive(None if dead is None else bytes(dead), name[VAULT_SIZE:]):
                    continue
                row = self._take_back(txn, change, name)
                if row is not None:
                    txn.put(name, encode(row), db=self._index)
                    change.count(row.size, 1)
            reach("shelf-revive")
        reach("shelf-revived")
        return names[-1][VAULT_SIZE:] if len(names) == limit else b""

    def release(self, items: Sequence[Trashed], now: int) -> None:
        for vault in {item.vault for item in items}:
            # where the vault's row is damaged, nothing is counted, and nobody else has to wait
            with self._write(b"" if vault in self._damaged else vault) as (txn, change):
                rows = list[tuple[bytes, FragmentRow]]()
                for item in items:
                    if item.vault == vault:
                        row = self._take_back(txn, change, item.name)
                        if row is not None:
                            rows.append((item.name, row))
                        self._retained.remove(txn, [item])  # also where its row is damaged
                self._discard_later(txn, rows, now)

    # -- past roots, and the clock

    def keep_past(self, vault: bytes, row: RingRow, family: bytes) -> None:
        with self._write(vault) as (txn, change):
            change.count(self._ring.add(txn, vault, row, family), 0)
            reach("shelf-past")
        reach("shelf-pasted")

    def drop_past(self, vault: bytes, numbers: Sequence[int]) -> None:
        with self._write(vault) as (txn, change):
            change.count(self._ring.drop(txn, vault, numbers), 0)

    def noted_time(self) -> Noted | None:
        with self._env.begin(db=self._clock) as txn:
            raw = txn.get(CLOCK_KEY)
        return None if raw is None else CLOCK.unpack(raw)

    def note_time(self, noted: Noted) -> None:
        with self._write() as (txn, _):
            txn.put(CLOCK_KEY, CLOCK.pack(*noted), db=self._clock)

    # -- the trash

    def discard(self, items: Sequence[Trashed]) -> int:
        freed, gone = 0, list[Trashed]()
        with self._write() as (txn, _):
            for item in items:
                if txn.delete(item.name, db=self._trash.rows):
                    freed += item.size
                    gone.append(item)
            self._trash.remove(txn, items)
        for item in gone:  # one that was put again since is of its new row
            with self._lock, self._env.begin(db=self._index) as txn:
                if txn.get(item.name) is None:
                    self._path(item.vault, item.key).unlink(missing_ok=True)
        return freed

    def tombstone(self, vault: bytes, block: bytes) -> bytes | None:
        with self._env.begin(db=self._tombstones) as txn:
            raw = txn.get(vault + block)
        return None if raw is None else bytes(raw)


class _Arrival(NamedTuple):
    """A fragment whose file is written and synced."""

    vault: bytes
    key: bytes
    row: FragmentRow
    aside: Path  #: where its file is


class _Effects:
    """What one transaction means for what is held in memory."""

    def __init__(self, row: VaultRow | None) -> None:
        self.row, self.changed = row, False

    def replace(self, row: VaultRow) -> None:
        """The row becomes this one, but for its use, which only `count` changes."""
        now = self.row
        if now is not None:
            row = counted(row, now.used - row.used, now.fragments - row.fragments)
        self.row, self.changed = row, True

    def count(self, size: int, fragments: int) -> None:
        """Use of the vault changes; of one without a row nothing is counted."""
        if self.row is not None:
            self.row, self.changed = counted(self.row, size, fragments), True

    def forget(self) -> None:
        """The row goes."""
        self.row, self.changed = None, True


def _prefixed(
    cursor: lmdb.Cursor, prefix: bytes, start: bytes = b"", delete: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a table under a prefix, from prefix + `start` on; deletes what it has
    shown.
    """
    more = cursor.set_range(prefix + start)
    while more and bytes(cursor.key()).startswith(prefix):
        key, value = cursor.item()
        yield bytes(key), bytes(value)
        more = cursor.delete() if delete else cursor.next()


def _open_to_read(path: Path) -> int:
    """Without noting on the disk that it was read, which only the file's owner may have."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _remove_files(folder: Path, part: str) -> None:
    """Removes the files with this part in their names; there may be a million others."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if part in entry.name:
                os.unlink(entry.path)


def _refusal(error: OSError | lmdb.Error) -> Refused:
    """What a customer is told when this supplier's disk refuses."""
    if isinstance(error, lmdb.Error):
        return Refused("no-space" if isinstance(error, lmdb.DiskError) else "failed", str(error))
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Refused("no-space" if full else "failed", error.strerror or "")
