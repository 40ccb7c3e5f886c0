"""The LMDB half of this machine's state of one vault: journal, block rows, what is published.

    table     key              value
    meta      name             Checkpoint, Published, Proposed rows; identity
    journal   generation u64   batch, sealed with the cache key
    blocks    block id         BlockRow

All writes go through one lock; `sync=True` returns only when the transaction survives power loss.
LMDB is opened with metasync off: a commit without `sync` may be lost, never torn (libraries differ
here; see lmdb's own documentation of MDB_NOMETASYNC).
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from bitdustfs.cache.folder import local_error
from bitdustfs.core.block import ExtentEntry
from bitdustfs.core.codec import U16, U32, U63, Decoder, encode
from bitdustfs.core.records import Ballot, JournalRef, Place, Record, root_records
from bitdustfs.core.sealing import Kind, Sealer, Suite
from bitdustfs.errors import DiskFull, LocalError
from bitdustfs.failpoints import reach
from bitdustfs.units import GIB, MIB

MAP_SIZE = 1024 * GIB  # sparse; never resized
ROW_LIMIT = 256 * MIB

OPEN, CLOSED, DEAD = 0, 1, 2


class BlockRow(Record, frozen=True):
    """What is known of one block.

    `length` grows with each batch while OPEN. CLOSED: `directory` is in place and all bytes synced.
    `header` is set, synced, before the first put. `acked`: positions known to hold their fragment.
    DEAD: to be deleted by the signed record `kill`; `acked`: positions that confirmed it.
    """

    state: int
    meta: bool
    group: U16
    k: U16
    n: U16
    length: U32
    directory: Place | None = None
    header: bytes = b""
    acked: tuple[int, ...] = ()
    local: bool = True
    kill: bytes = b""
    safe: bool = False  #: it once had the acknowledgements that a root needs

    @property
    def owed(self) -> tuple[int, ...]:
        """Positions still to be served."""
        return tuple(i for i in range(self.n) if i not in self.acked)


class BlockPart(Record, frozen=True):
    """What one batch added to one open block."""

    block: bytes
    length: U32
    entries: tuple[ExtentEntry, ...]


class Batch(Record, frozen=True):
    """One commit: changed items (None deletes) and what they rely on in open blocks."""

    generation: U63
    changes: tuple[tuple[bytes, bytes | None], ...]
    parts: tuple[BlockPart, ...] = ()


class Checkpoint(Record, frozen=True):
    """The leaves that everything up to `generation` was rewritten into."""

    index: Place | None
    generation: U63


class Published(Record, frozen=True):
    """The newest root followed and the family it names; signed bytes."""

    root: bytes
    family: bytes
    generation: U63
    journal: tuple[JournalRef, ...]
    journal_bytes: U63
    based_on: U63  #: generation of the checkpoint that the root's index is


class Proposed(Record, frozen=True):
    """A signed root that was sent and not yet confirmed: only these bytes may be sent again."""

    root: bytes
    generation: U63
    journal: tuple[JournalRef, ...]
    journal_bytes: U63
    based_on: U63
    family: bytes = b""  #: the family it names, when that is a new one


_batches = Decoder(Batch, "journal batch", ROW_LIMIT)
_orders = Decoder(tuple[Ballot, U63], "root order", 1024)
_rows = Decoder(BlockRow, "block row", 64 * 1024)
_meta: dict[str, Decoder[Any]] = {
    "checkpoint": Decoder(Checkpoint, "checkpoint row", ROW_LIMIT),
    "published": Decoder(Published, "published row", ROW_LIMIT),
    "proposed": Decoder(Proposed, "proposed row", ROW_LIMIT),
}


class State:
    """Opens (or makes) the tables under `path`. One instance a process and path."""

    def __init__(self, path: Path, cache_key: bytes, vault: bytes, suite: Suite) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        try:
            self._env = lmdb.open(str(path), map_size=MAP_SIZE, max_dbs=8, metasync=False)
        except lmdb.Error as error:
            raise LocalError(f"the local state in {path} cannot be opened: {error}") from error
        self._env.reader_check()
        self._meta = self._env.open_db(b"meta")
        self._journal = self._env.open_db(b"journal")
        self._blocks = self._env.open_db(b"blocks")
        self._lock = threading.Lock()
        self._sealer = Sealer(cache_key, vault, bytes(16), 0)
        self._suite = suite

    def close(self) -> None:
        """Syncs and closes; nothing may use the state afterwards."""
        with self._lock:
            self._env.sync(True)
            self._env.close()

    @contextmanager
    def _write(self, sync: bool) -> Iterator[lmdb.Transaction]:
        with self._writing(), self._lock:
            with self._env.begin(write=True) as txn:
                yield txn
                reach("state-commit")
            if sync:
                self._env.sync(True)
            reach("state-committed")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What a disk that refuses raises becomes an error of ours."""
        try:
            yield
        except OSError as error:
            raise local_error(error) from error
        except (lmdb.MapFullError, lmdb.DiskError) as error:
            raise DiskFull("this machine's disk is full; free some room for its state") from error
        except lmdb.Error as error:
            raise LocalError(f"the local state cannot be written: {error}") from error

    # -- journal

    def append(self, batch: Batch, sync: bool) -> None:
        """Commits one batch. Its block bytes must be on disk already (promise 3)."""
        sealed = self._sealer.seal(self._suite, 0, Kind.BATCH, encode(batch))
        with self._write(sync) as txn:
            txn.put(_u64(batch.generation), sealed, db=self._journal)
            for part in batch.parts:
                self._grow(txn, part)

    def _grow(self, txn: lmdb.Transaction, part: BlockPart) -> None:
        raw = txn.get(part.block, db=self._blocks)
        if raw is None:
            raise LocalError("a batch refers to a block without a row")
        row = _rows.decode_untrusted(raw)
        if row.state == OPEN and part.length > row.length:
            grown = msgspec.structs.replace(row, length=part.length)
            txn.put(part.block, encode(grown), db=self._blocks)

    def sync(self) -> None:
        """Makes every commit so far survive power loss."""
        with self._writing(), self._lock:
            self._env.sync(True)

    def journal_bytes(self) -> int:
        """Bytes of the batches since the checkpoint."""
        with self._env.begin(db=self._journal) as txn, txn.cursor() as cursor:
            return sum(len(raw) for raw in cursor.iternext(keys=False, values=True))

    def batches(self, after: int = 0, upto: int | None = None) -> Iterator[Batch]:
        """Committed batches of generations in (after, upto], oldest first."""
        with self._env.begin(db=self._journal) as txn, txn.cursor() as cursor:
            found = cursor.set_range(_u64(after + 1))
            while found and (upto is None or bytes(cursor.key()) <= _u64(upto)):
                plain = self._sealer.open_unreferenced_untrusted(
                    cursor.value(), 0, Kind.BATCH, limit=ROW_LIMIT
                )
                yield _batches.decode_untrusted(plain)
                found = cursor.next()

    def last_generation(self) -> int:
        """The newest committed generation, 0 for none."""
        with self._env.begin(db=self._journal) as txn, txn.cursor() as cursor:
            newest = int.from_bytes(cursor.key(), "big") if cursor.last() else 0
        checkpoint = self.checkpoint()
        return max(newest, checkpoint.generation if checkpoint else 0)

    # -- what the tree and the root stand on

    def _row(self, name: str) -> Record | None:
        with self._env.begin(db=self._meta) as txn:
            raw = txn.get(name.encode())
        row: Record | None = None if raw is None else _meta[name].decode_untrusted(raw)
        return row

    def checkpoint(self) -> Checkpoint | None:
        row = self._row("checkpoint")
        assert row is None or isinstance(row, Checkpoint)
        return row

    def published(self) -> Published | None:
        row = self._row("published")
        assert row is None or isinstance(row, Published)
        return row

    def proposed(self) -> Proposed | None:
        row = self._row("proposed")
        assert row is None or isinstance(row, Proposed)
        return row

    def set_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Moves the tree's base and forgets the batches it contains: the next root names the base."""
        with self._write(sync=True) as txn:
            txn.put(b"checkpoint", encode(checkpoint), db=self._meta)
            self._trim(txn, checkpoint.generation)

    def _trim(self, txn: lmdb.Transaction, upto: int) -> None:
        with txn.cursor(self._journal) as cursor:
            found = cursor.first()
            while found and bytes(cursor.key()) <= _u64(upto):
                found = cursor.delete()

    def set_proposed(self, proposed: Proposed) -> None:
        """Synced before the root's first put."""
        with self._write(sync=True) as txn:
            txn.put(b"proposed", encode(proposed), db=self._meta)

    def seen(self) -> tuple[Ballot, int] | None:
        """The order of the newest root that this machine ever saw at a majority; never goes down."""
        with self._env.begin(db=self._meta) as txn:
            raw = txn.get(b"seen")
        return None if raw is None else _orders.decode_untrusted(raw)

    def _saw(self, txn: lmdb.Transaction, raw_root: bytes) -> None:
        raw = txn.get(b"seen", db=self._meta)
        order = root_records.peek_untrusted(raw_root).order
        if raw is None or order > _orders.decode_untrusted(raw):
            txn.put(b"seen", encode(order), db=self._meta)

    def set_published(self, published: Published) -> None:
        """Records a root that a majority accepted."""
        with self._write(sync=True) as txn:
            self._saw(txn, published.root)
            txn.put(b"published", encode(published), db=self._meta)
            txn.delete(b"proposed", db=self._meta)

    def adopt(
        self, published: Published, checkpoint: Checkpoint, batch: Batch | None, confirmed: bool
    ) -> None:
        """Replaces tree and journal by those of a root from elsewhere, in one transaction.

        `confirmed`: the root was seen at a majority. What this machine was about to delete is forgotten: that
        was decided by a history which may not be this root's (after a refounding). It is found again.
        """
        with self._write(sync=True) as txn:
            if confirmed:
                self._saw(txn, published.root)
            self._forget_dead(txn)
            txn.drop(self._journal, delete=False)
            txn.put(b"published", encode(published), db=self._meta)
            txn.delete(b"proposed", db=self._meta)
            txn.put(b"checkpoint", encode(checkpoint), db=self._meta)
            if batch is not None:
                sealed = self._sealer.seal(self._suite, 0, Kind.BATCH, encode(batch))
                txn.put(_u64(batch.generation), sealed, db=self._journal)

    def _forget_dead(self, txn: lmdb.Transaction) -> None:
        with txn.cursor(self._blocks) as cursor:
            found = cursor.first()
            while found:
                dead = _rows.decode_untrusted(cursor.value()).state == DEAD
                found = cursor.delete() if dead else cursor.next()

    # -- blocks

    def put_block(self, block: bytes, row: BlockRow, sync: bool = True) -> None:
        with self._write(sync) as txn:
            txn.put(block, encode(row), db=self._blocks)

    def change_block(
        self, block: bytes, change: Callable[[BlockRow], BlockRow | None]
    ) -> BlockRow | None:
        """Replaces one row by what `change` makes of it as it is; the new row, None for no change."""
        return self.change_blocks({block: change}).get(block)

    def change_blocks(
        self, changes: Mapping[bytes, Callable[[BlockRow], BlockRow | None]]
    ) -> dict[bytes, BlockRow]:
        """The same of many, in one synced transaction. `change` is called under the lock of all writes."""
        changed: dict[bytes, BlockRow] = {}
        with self._write(sync=True) as txn:
            for block, change in changes.items():
                raw = txn.get(block, db=self._blocks)
                row = None if raw is None else change(_rows.decode_untrusted(raw))
                if row is not None:
                    txn.put(block, encode(row), db=self._blocks)
                    changed[block] = row
        return changed

    def forget_block(self, block: bytes) -> None:
        with self._write(sync=True) as txn:
            txn.delete(block, db=self._blocks)

    def block(self, block: bytes) -> BlockRow | None:
        with self._env.begin(db=self._blocks) as txn:
            raw = txn.get(block)
        return None if raw is None else _rows.decode_untrusted(raw)

    def blocks(self) -> list[tuple[bytes, BlockRow]]:
        """All rows, oldest block first."""
        with self._env.begin(db=self._blocks) as txn, txn.cursor() as cursor:
            return [(bytes(k), _rows.decode_untrusted(v)) for k, v in cursor]

    # -- small named values that outlive a process (contacts, histories)

    def get_value(self, name: str) -> bytes | None:
        with self._env.begin(db=self._meta) as txn:
            raw = txn.get(b"value/" + name.encode())
        return None if raw is None else bytes(raw)

    def set_value(self, name: str, value: bytes) -> None:
        with self._write(sync=False) as txn:
            txn.put(b"value/" + name.encode(), value, db=self._meta)


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")
