"""The shelf on disk.

    shelf/<vault>/<block>.<position>   header length u32 | chunks length u32 | header | chunks | payload
    index/                             LMDB: fragment sizes, vault rows, tombstones, what is in the trash

A fragment is written aside, synced, renamed, its folder synced, and indexed in a synced transaction;
only then is it acknowledged. After a crash a file without an index row is simply put again.
"""

import errno
import logging
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import lmdb

from bitdustfs.cache.folder import OwnedFolder, fsync_folder
from bitdustfs.core.codec import encode
from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import Malformed, Refused
from bitdustfs.failpoints import reach
from bitdustfs.supplier.shelf import (
    FragmentRow,
    Shelf,
    TrashRow,
    VaultRow,
    check_range,
    counted,
    decode_fragment_row,
    decode_trash_row,
    decode_vault_row,
    encode_vault_row,
    killed,
)
from bitdustfs.units import GIB

log = logging.getLogger(__name__)

FILE_PREFIX = struct.Struct(">II")


class DiskShelf(Shelf):
    """The real one. `folder` is owned and locked by the caller for as long as the shelf is open."""

    def __init__(self, folder: OwnedFolder) -> None:
        self._files = folder.path / "shelf"
        self._files.mkdir(mode=0o700, exist_ok=True)
        self._env = lmdb.open(
            str(folder.path / "index"), map_size=1024 * GIB, max_dbs=8, metasync=True
        )
        self._env.reader_check()
        self._rows = self._env.open_db(b"vaults")
        self._index = self._env.open_db(b"fragments")
        self._tombstones = self._env.open_db(b"tombstones")
        self._trash = self._env.open_db(b"trash")
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
        try:
            with self._lock, self._env.begin(write=True) as txn:
                yield txn
        except OSError as error:
            raise _refusal(error) from error
        except lmdb.DiskError as error:
            raise Refused("no-space", str(error)) from error
        except lmdb.Error as error:
            raise Refused("failed", str(error)) from error

    def vault(self, vault: bytes) -> VaultRow | None:
        with self._env.begin() as txn:
            return self._vault(txn, vault)

    def _vault(self, txn: lmdb.Transaction, vault: bytes) -> VaultRow | None:
        raw = txn.get(vault, db=self._rows)
        return None if raw is None else decode_vault_row(raw)

    def set_vault(self, vault: bytes, row: VaultRow) -> None:
        with self._write() as txn:
            now = self._vault(txn, vault)
            if now is not None:  # use is counted by store and kill alone
                row = counted(row, now.used - row.used, now.fragments - row.fragments)
            reach("shelf-register")
            txn.put(vault, encode_vault_row(row), db=self._rows)
        folder = self._files / vault.hex()
        if not folder.exists():
            folder.mkdir(mode=0o700)
            fsync_folder(self._files)

    def all_rows(self) -> Iterator[tuple[bytes, VaultRow]]:
        with self._env.begin(db=self._rows) as txn, txn.cursor() as cursor:
            for vault, raw in cursor:
                try:
                    yield bytes(vault), decode_vault_row(raw)
                except Malformed as error:  # it must not stop the others
                    log.error("the row of vault %s is damaged: %s", vault.hex()[:12], error)

    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None:
        with self._env.begin(db=self._index) as txn:
            raw = txn.get(vault + key)
        return None if raw is None else decode_fragment_row(raw)

    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        with self._env.begin(db=self._index) as txn, txn.cursor() as cursor:
            if not cursor.set_range(vault + block) or not cursor.key().startswith(vault + block):
                return None
            return decode_fragment_row(cursor.value()).header_hash

    def _path(self, vault: bytes, key: bytes) -> Path:
        return self._files / vault.hex() / f"{key[:-1].hex()}.{key[-1]}"

    def store(
        self, vault: bytes, key: bytes, header: bytes, chunks: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        path = self._path(vault, key)
        aside = path.with_name(f"{path.name}.new{threading.get_ident()}")
        try:
            with open(aside, "wb", buffering=0, opener=_private) as file:
                prefix = FILE_PREFIX.pack(len(header), len(chunks))
                reach("shelf-write")
                for part in (prefix + header + chunks, payload):
                    _write_all(file, part)
                reach("shelf-sync")
                os.fsync(file.fileno())
            reach("shelf-rename")
            os.rename(aside, path)
            fsync_folder(path.parent)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise _refusal(error) from error
        row = FragmentRow(len(header), len(chunks), len(payload), header_hash)
        with self._write() as txn:
            reach("shelf-index")
            vault_row = self._vault(txn, vault)
            if vault_row is None:
                raise Refused("unknown-vault")
            if txn.put(vault + key, encode(row), db=self._index, overwrite=False):
                txn.put(vault, encode_vault_row(counted(vault_row, row.size, 1)), db=self._rows)

    def _row(self, vault: bytes, key: bytes) -> FragmentRow:
        row = self.fragment(vault, key)
        if row is not None:
            return row
        with self._env.begin(db=self._trash) as txn:
            raw = txn.get(vault + key)
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
                row = decode_fragment_row(cursor.value())
                found.append((bytes(cursor.key()[32:]), row.size))
                more = cursor.next()
        return found

    def kill(self, vault: bytes, block: bytes, record: bytes, now: int) -> None:
        with self._write() as txn:
            txn.put(vault + block, record, db=self._tombstones)
            row = self._vault(txn, vault)
            with txn.cursor(self._index) as cursor:
                found = cursor.set_range(vault + block)
                while found and bytes(cursor.key()).startswith(vault + block):
                    fragment = decode_fragment_row(cursor.value())
                    trashed = encode(TrashRow(fragment, now))
                    txn.put(bytes(cursor.key()), trashed, db=self._trash)
                    if row is not None:
                        row = counted(row, -fragment.size, -1)
                    found = cursor.delete()
            if row is not None:
                txn.put(vault, encode_vault_row(row), db=self._rows)
            reach("shelf-kill")

    def drop(self, vault: bytes, keys: Sequence[bytes]) -> None:
        with self._write() as txn:
            row = self._vault(txn, vault)
            for key in keys:
                raw = txn.pop(vault + key, db=self._index)
                if raw is not None and row is not None:
                    row = counted(row, -decode_fragment_row(raw).size, -1)
            if row is not None:
                txn.put(vault, encode_vault_row(row), db=self._rows)
        for key in keys:
            self._path(vault, key).unlink(missing_ok=True)

    def forget(self, vault: bytes) -> None:
        names = [key for key, _ in self.keys(vault, b"", 1 << 40)]
        names += [name[32:] for name, _ in self.trash() if name.startswith(vault)]
        with self._write() as txn:
            for table in (self._index, self._trash, self._tombstones):
                with txn.cursor(table) as cursor:
                    found = cursor.set_range(vault)
                    while found and bytes(cursor.key()).startswith(vault):
                        found = cursor.delete()
            txn.delete(vault, db=self._rows)
        for key in names:
            self._path(vault, key).unlink(missing_ok=True)
        with suppress(
            OSError
        ):  # a stray file in it, of a put that was never finished: at the next start
            (self._files / vault.hex()).rmdir()

    def vaults(self) -> list[bytes]:
        with self._env.begin(db=self._rows) as txn, txn.cursor() as cursor:
            return [bytes(key) for key in cursor.iternext(keys=True, values=False)]

    def trash(self) -> list[tuple[bytes, TrashRow]]:
        with self._env.begin(db=self._trash) as txn, txn.cursor() as cursor:
            rows = [(bytes(key), decode_trash_row(raw)) for key, raw in cursor]
        return sorted(rows, key=killed)

    def discard(self, names: Sequence[bytes]) -> None:
        with self._write() as txn:
            for name in names:
                txn.delete(name, db=self._trash)
        for name in names:
            self._path(name[:32], name[32:]).unlink(missing_ok=True)

    def tombstone(self, vault: bytes, block: bytes) -> bytes | None:
        with self._env.begin(db=self._tombstones) as txn:
            raw = txn.get(vault + block)
        return None if raw is None else bytes(raw)


def _refusal(error: OSError) -> Refused:
    """What a customer is told when this supplier's disk refuses."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Refused("no-space" if full else "failed", error.strerror or "")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_all(file: BinaryIO, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
