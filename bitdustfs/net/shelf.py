"""Where a supplier keeps fragments: the interface, and its two kinds (memory, disk).

On disk:
    shelf/<vault>/<block>.<position>   header length u32 | leaves length u32 | header | leaves | payload
    index/                             LMDB: fragment sizes, vault rows, tombstones

A fragment is written aside, synced, renamed, its folder synced, and indexed in a synced transaction;
only then is it acknowledged. After a crash a file without an index row is simply put again.
"""

import os
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import lmdb

from bitdustfs.cache.folder import OwnedFolder, fsync_folder
from bitdustfs.core.codec import U32, U63, Decoder, encode
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.records import Ballot, Record
from bitdustfs.errors import Refused
from bitdustfs.units import FAMILY_MAX, GIB, KIB, ROOT_MAX

FILE_PREFIX = struct.Struct(">II")
KEY_SIZE = 17  # block id + position byte


class VaultRow(Record, frozen=True):
    """What a supplier remembers of one vault: its contract, its use, its register."""

    space: U63
    until: int
    used: U63 = 0
    fragments: U63 = 0
    promised: Ballot | None = None
    root: bytes = b""
    family: bytes = b""


class FragmentRow(Record, frozen=True):
    """One kept fragment: bytes of the parts of its file, and the hash of its header."""

    header: U32
    leaves: U32
    payload: U32
    header_hash: bytes

    @property
    def size(self) -> int:
        return self.header + self.leaves + self.payload


_vaults = Decoder(VaultRow, "vault row", ROOT_MAX + FAMILY_MAX + KIB)
_fragments = Decoder(FragmentRow, "fragment row", KIB)


def fragment_key(block: bytes, position: int) -> bytes:
    """How fragments of a vault are ordered: by block id, then position."""
    return block + bytes([position])


class Shelf(ABC):
    """Fragments and rows of many vaults. Thread-safe; every change is durable when it returns."""

    @abstractmethod
    def vault(self, vault: bytes) -> VaultRow | None: ...

    @abstractmethod
    def set_vault(self, vault: bytes, row: VaultRow) -> None: ...

    @abstractmethod
    def promised_total(self) -> int:
        """Bytes promised to all vaults together."""

    @abstractmethod
    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None: ...

    @abstractmethod
    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        """The hash of the first header kept for this block id, whatever its position."""

    @abstractmethod
    def store(
        self, vault: bytes, key: bytes, header: bytes, leaves: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        """Keeps a new fragment and counts it in its vault's row."""

    @abstractmethod
    def head(self, vault: bytes, key: bytes) -> tuple[bytes, bytes]:
        """(header, leaves), or Refused not-found."""

    @abstractmethod
    def read(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        """A range of the payload, or Refused not-found / malformed."""

    @abstractmethod
    def keys(self, vault: bytes, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        """(key, size) in order, after `after`."""

    @abstractmethod
    def kill(self, vault: bytes, block: bytes, record: bytes) -> None:
        """Drops all fragments of a block and keeps the record as a tombstone for ever."""

    @abstractmethod
    def tombstone(self, vault: bytes, block: bytes) -> bytes | None: ...

    def close(self) -> None:
        """Nothing may use the shelf afterwards."""


class MemoryShelf(Shelf):
    """For tests and for whole families in one process."""

    def __init__(self) -> None:
        self.rows: dict[bytes, VaultRow] = {}
        self.kept: dict[tuple[bytes, bytes], tuple[bytes, bytes, bytearray, bytes]] = {}
        self.tombstones: dict[tuple[bytes, bytes], bytes] = {}

    def vault(self, vault: bytes) -> VaultRow | None:
        return self.rows.get(vault)

    def set_vault(self, vault: bytes, row: VaultRow) -> None:
        self.rows[vault] = row

    def promised_total(self) -> int:
        return sum(row.space for row in self.rows.values())

    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None:
        kept = self.kept.get((vault, key))
        if kept is None:
            return None
        return FragmentRow(len(kept[0]), len(kept[1]), len(kept[2]), kept[3])

    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        for (owner, key), kept in self.kept.items():
            if owner == vault and key.startswith(block):
                return kept[3]
        return None

    def store(
        self, vault: bytes, key: bytes, header: bytes, leaves: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        if (vault, key) not in self.kept:
            self._count(vault, len(header) + len(leaves) + len(payload), 1)
        self.kept[vault, key] = (header, leaves, bytearray(payload), header_hash)

    def _count(self, vault: bytes, size: int, fragments: int) -> None:
        self.rows[vault] = counted(self.rows[vault], size, fragments)

    def _kept(self, vault: bytes, key: bytes) -> tuple[bytes, bytes, bytearray, bytes]:
        if (vault, key) not in self.kept:
            raise Refused("not-found", key.hex())
        return self.kept[vault, key]

    def head(self, vault: bytes, key: bytes) -> tuple[bytes, bytes]:
        return self._kept(vault, key)[:2]

    def read(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        payload = self._kept(vault, key)[2]
        check_range(offset, length, len(payload))
        return bytes(payload[offset : offset + length])

    def keys(self, vault: bytes, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        mine = sorted(key for owner, key in self.kept if owner == vault and key > after)
        return [(key, self._size(vault, key)) for key in mine[:limit]]

    def _size(self, vault: bytes, key: bytes) -> int:
        row = self.fragment(vault, key)
        return row.size if row else 0

    def kill(self, vault: bytes, block: bytes, record: bytes) -> None:
        self.tombstones[vault, block] = record
        for key in [k for owner, k in self.kept if owner == vault and k.startswith(block)]:
            self._count(vault, -self._size(vault, key), -1)
            del self.kept[vault, key]

    def tombstone(self, vault: bytes, block: bytes) -> bytes | None:
        return self.tombstones.get((vault, block))


def counted(row: VaultRow, size: int, fragments: int) -> VaultRow:
    """The vault row after `size` bytes in `fragments` fragments came (or, negative, went)."""
    return VaultRow(
        row.space, row.until, row.used + size, row.fragments + fragments, row.promised, row.root,
        row.family,
    )  # fmt: skip


def check_range(offset: int, length: int, size: int) -> None:
    """Raises Refused unless [offset, offset + length) lies within `size` bytes."""
    if offset < 0 or length < 1 or offset + length > size:
        raise Refused("malformed", "the range is outside the fragment")


class DiskShelf(Shelf):
    """The real one. `folder` is owned and locked by the caller for as long as the shelf is open."""

    def __init__(self, folder: OwnedFolder) -> None:
        self._files = folder.path / "shelf"
        self._files.mkdir(mode=0o700, exist_ok=True)
        self._env = lmdb.open(
            str(folder.path / "index"), map_size=1024 * GIB, max_dbs=4, metasync=True
        )
        self._env.reader_check()
        self._rows = self._env.open_db(b"vaults")
        self._index = self._env.open_db(b"fragments")
        self._tombstones = self._env.open_db(b"tombstones")
        self._lock = threading.Lock()
        for stray in self._files.glob("*/*.new*"):
            stray.unlink()

    def close(self) -> None:
        with self._lock:
            self._env.sync(True)
            self._env.close()

    @contextmanager
    def _write(self) -> Iterator[lmdb.Transaction]:
        """A transaction that is durable when the block is left. One at a time."""
        with self._lock, self._env.begin(write=True) as txn:
            yield txn

    def vault(self, vault: bytes) -> VaultRow | None:
        with self._env.begin() as txn:
            return self._vault(txn, vault)

    def _vault(self, txn: lmdb.Transaction, vault: bytes) -> VaultRow | None:
        raw = txn.get(vault, db=self._rows)
        return None if raw is None else _vaults.decode_untrusted(raw)

    def set_vault(self, vault: bytes, row: VaultRow) -> None:
        with self._write() as txn:
            now = self._vault(txn, vault)
            if now is not None:  # use is counted by store and kill alone
                row = counted(row, now.used - row.used, now.fragments - row.fragments)
            txn.put(vault, encode(row), db=self._rows)
        folder = self._files / vault.hex()
        if not folder.exists():
            folder.mkdir(mode=0o700)
            fsync_folder(self._files)

    def promised_total(self) -> int:
        with self._env.begin(db=self._rows) as txn, txn.cursor() as cursor:
            return sum(_vaults.decode_untrusted(raw).space for _, raw in cursor)

    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None:
        with self._env.begin(db=self._index) as txn:
            raw = txn.get(vault + key)
        return None if raw is None else _fragments.decode_untrusted(raw)

    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        with self._env.begin(db=self._index) as txn, txn.cursor() as cursor:
            if not cursor.set_range(vault + block) or not cursor.key().startswith(vault + block):
                return None
            return _fragments.decode_untrusted(cursor.value()).header_hash

    def _path(self, vault: bytes, key: bytes) -> Path:
        return self._files / vault.hex() / f"{key[:-1].hex()}.{key[-1]}"

    def store(
        self, vault: bytes, key: bytes, header: bytes, leaves: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        path = self._path(vault, key)
        aside = path.with_name(f"{path.name}.new{threading.get_ident()}")
        try:
            with open(aside, "wb", buffering=0, opener=_private) as file:
                prefix = FILE_PREFIX.pack(len(header), len(leaves))
                for part in (prefix + header + leaves, payload):
                    _write_all(file, part)
                os.fsync(file.fileno())
            os.rename(aside, path)
            fsync_folder(path.parent)
        except OSError as error:
            aside.unlink(missing_ok=True)
            code = "no-space" if error.errno in (28, 122) else "failed"
            raise Refused(code, error.strerror or "") from error
        row = FragmentRow(len(header), len(leaves), len(payload), header_hash)
        with self._write() as txn:
            vault_row = self._vault(txn, vault)
            if vault_row is None:
                raise Refused("unknown-vault")
            if txn.put(vault + key, encode(row), db=self._index, overwrite=False):
                txn.put(vault, encode(counted(vault_row, row.size, 1)), db=self._rows)

    def _row(self, vault: bytes, key: bytes) -> FragmentRow:
        row = self.fragment(vault, key)
        if row is None:
            raise Refused("not-found", key.hex())
        return row

    def head(self, vault: bytes, key: bytes) -> tuple[bytes, bytes]:
        row = self._row(vault, key)
        raw = self._pread(vault, key, FILE_PREFIX.size, row.header + row.leaves)
        return raw[: row.header], raw[row.header :]

    def read(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        row = self._row(vault, key)
        check_range(offset, length, row.payload)
        return self._pread(vault, key, FILE_PREFIX.size + row.header + row.leaves + offset, length)

    def _pread(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        try:
            fd = os.open(self._path(vault, key), os.O_RDONLY | os.O_CLOEXEC)
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
        start = vault + after + (b"\0" if after else b"")
        with self._env.begin(db=self._index) as txn, txn.cursor() as cursor:
            more = cursor.set_range(start)
            while more and cursor.key().startswith(vault) and len(found) < limit:
                row = _fragments.decode_untrusted(cursor.value())
                found.append((bytes(cursor.key()[32:]), row.size))
                more = cursor.next()
        return found

    def kill(self, vault: bytes, block: bytes, record: bytes) -> None:
        dropped = []
        with self._write() as txn:
            txn.put(vault + block, record, db=self._tombstones)
            row = self._vault(txn, vault)
            with txn.cursor(self._index) as cursor:
                found = cursor.set_range(vault + block)
                while found and bytes(cursor.key()).startswith(vault + block):
                    fragment = _fragments.decode_untrusted(cursor.value())
                    dropped.append(bytes(cursor.key()[32:]))
                    if row is not None:
                        row = counted(row, -fragment.size, -1)
                    found = cursor.delete()
            if row is not None:
                txn.put(vault, encode(row), db=self._rows)
        for key in dropped:
            self._path(vault, key).unlink(missing_ok=True)

    def tombstone(self, vault: bytes, block: bytes) -> bytes | None:
        with self._env.begin(db=self._tombstones) as txn:
            raw = txn.get(vault + block)
        return None if raw is None else bytes(raw)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_all(file: BinaryIO, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
