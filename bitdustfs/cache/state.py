"""This machine's state of one vault: its journal, its block rows, what tree and root stand on.

table     key              value
meta      name             Checkpoint, Published, Proposed, Seats; newest order seen; named values
journal   generation u64   batch, sealed with the cache key
blocks    block id         BlockRow (cache/blocktable.py)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.database import Database, Write
from bitdustfs.cache.rows import Batch, Checkpoint, Proposed, Published, Seats
from bitdustfs.core.codec import U63, Decoder, encode
from bitdustfs.core.records import Ballot, Record, root_records
from bitdustfs.core.sealing import Kind, Sealer, Suite
from bitdustfs.errors import LocalError, Malformed
from bitdustfs.units import KIB, MIB

ROW_LIMIT = 256 * MIB  #: bytes of one batch, or of one meta row, that are read back
R = TypeVar("R", bound=Record)

_VALUE = b"value/"  #: how the keys of named values begin, in the table `meta`
_batches = Decoder(Batch, "journal batch", ROW_LIMIT)
_orders = Decoder(tuple[Ballot, U63], "root order", KIB)
_decoders: dict[type[Record], Decoder[Any]] = {
    Checkpoint: Decoder(Checkpoint, "checkpoint row", ROW_LIMIT),
    Published: Decoder(Published, "published row", ROW_LIMIT),
    Proposed: Decoder(Proposed, "proposed row", ROW_LIMIT),
    Seats: Decoder(Seats, "seats row", ROW_LIMIT),
}
_names: dict[type[Record], bytes] = {
    Checkpoint: b"checkpoint",
    Published: b"published",
    Proposed: b"proposed",
    Seats: b"seats",
}
#: how guarded rows begin. No msgpack does: to a program that knows no snapshots, would follow its
#: own root without a look into it and delete their blocks, the state is damaged
_GUARD = b"\xc1"


class State:
    """Opens (or makes) the state under `path`. One instance a process and path. Thread-safe.

    Every method that changes something raises LocalError or DiskFull.
    """

    def __init__(self, path: Path, cache_key: bytes, vault: bytes, suite: Suite) -> None:
        self._database = Database(path)
        self.blocks = BlockTable(self._database)
        self._meta = self._database.table("meta")
        self._journal = self._database.table("journal")
        self._sealer = Sealer(cache_key, vault, bytes(16), 0)
        self._suite = suite
        self._known: dict[type[Record], Record | None] = {
            kind: _read(self._database, kind) for kind in _names
        }

    def close(self) -> None:
        """Syncs and closes; nothing may use the state afterwards."""
        self._database.close()

    def sync(self) -> None:
        """Makes every commit so far survive power loss."""
        self._database.sync()

    # -- journal

    def append(self, batch: Batch, sync: bool) -> None:
        """Commits one batch. Its block bytes must be on disk already (promise 3)."""
        sealed = self._sealer.seal(self._suite, 0, Kind.BATCH, encode(batch))
        with self._database.write(sync) as write:
            write.txn.put(_u64(batch.generation), sealed, db=self._journal)
            self.blocks.grow(write, batch.parts)

    def journal_bytes(self) -> int:
        """Bytes of the batches since the checkpoint."""
        with self._database.read("journal") as txn, txn.cursor() as cursor:
            return sum(len(raw) for raw in cursor.iternext(keys=False, values=True))

    def batches(self, after: int = 0, upto: int | None = None) -> Iterator[Batch]:
        """Committed batches of generations in (after, upto], oldest first."""
        with self._database.read("journal") as txn, txn.cursor() as cursor:
            found = cursor.set_range(_u64(after + 1))
            while found and (upto is None or bytes(cursor.key()) <= _u64(upto)):
                plain = self._sealer.open_unreferenced_untrusted(
                    cursor.value(), 0, Kind.BATCH, limit=ROW_LIMIT
                )
                yield _batches.decode_untrusted(plain)
                found = cursor.next()

    def last_generation(self) -> int:
        """The newest committed generation, 0 for none."""
        return _last_generation(self._database, self.checkpoint())

    # -- what the tree and the root stand on

    def checkpoint(self) -> Checkpoint | None:
        """The leaves that the tree stands on, None for an empty tree."""
        return self._row(Checkpoint)

    def published(self) -> Published | None:
        """The newest root followed, None before the first."""
        return self._row(Published)

    def proposed(self) -> Proposed | None:
        """The root that was signed and is not confirmed yet, if any."""
        return self._row(Proposed)

    def _row(self, kind: type[R]) -> R | None:
        row = self._known[kind]
        assert row is None or isinstance(row, kind)
        return row

    def _put(self, write: Write, row: Checkpoint | Published | Proposed | Seats) -> None:
        """Into the transaction now, into memory at its commit."""
        guarded = isinstance(row, Published | Proposed) and row.guarded
        raw = _GUARD + encode(row) if guarded else encode(row)
        write.txn.put(_names[type(row)], raw, db=self._meta)
        write.after(lambda: self._known.update({type(row): row}))

    def set_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Moves the tree's base, forgets the batches it contains: the next root names the base."""
        with self._database.write(sync=True) as write:
            self._put(write, checkpoint)
            with write.txn.cursor(self._journal) as cursor:
                found = cursor.first()
                while found and bytes(cursor.key()) <= _u64(checkpoint.generation):
                    found = cursor.delete()

    def set_proposed(self, proposed: Proposed) -> None:
        """Synced before the root's first put."""
        with self._database.write(sync=True) as write:
            self._put(write, proposed)

    def seen(self) -> tuple[Ballot, int] | None:
        """The order of the newest root this machine ever saw at a majority; never goes down."""
        with self._database.read("meta") as txn:
            raw = txn.get(b"seen")
        return None if raw is None else _orders.decode_untrusted(raw)

    def set_published(self, published: Published) -> None:
        """Records a root that a majority accepted."""
        with self._database.write(sync=True) as write:
            self._saw(write, published.root)
            self._follow(write, published)

    def _saw(self, write: Write, raw_root: bytes) -> None:
        raw = write.txn.get(b"seen", db=self._meta)
        order = root_records.peek_untrusted(raw_root).order
        if raw is None or order > _orders.decode_untrusted(raw):
            write.txn.put(b"seen", encode(order), db=self._meta)

    def _follow(self, write: Write, published: Published) -> None:
        """Another root is the newest; nothing is proposed any more."""
        self._put(write, published)
        write.txn.delete(_names[Proposed], db=self._meta)
        write.after(lambda: self._known.update({Proposed: None}))

    def adopt(
        self, published: Published, checkpoint: Checkpoint, batch: Batch | None, confirmed: bool
    ) -> None:
        """Replaces tree and journal by those of a root from elsewhere, in one transaction.

        `confirmed`: the root was seen at a majority. What this machine was about to delete is
        forgotten: that was decided by a history which may not be this root's (after a refounding).
        It is found again.
        """
        with self._database.write(sync=True) as write:
            if confirmed:
                self._saw(write, published.root)
            self.blocks.forget_dead(write)
            write.txn.drop(self._journal, delete=False)
            self._follow(write, published)
            self._put(write, checkpoint)
            if batch is not None:
                sealed = self._sealer.seal(self._suite, 0, Kind.BATCH, encode(batch))
                write.txn.put(_u64(batch.generation), sealed, db=self._journal)

    def follow(self, published: Published, batch: Batch | None) -> None:
        """A root from elsewhere, that changed what `batch` says of the one followed before it."""
        with self._database.write(sync=True) as write:
            self._saw(write, published.root)
            if batch is not None:
                sealed = self._sealer.seal(self._suite, 0, Kind.BATCH, encode(batch))
                write.txn.put(_u64(batch.generation), sealed, db=self._journal)
            self._follow(write, published)

    # -- what this machine claimed

    def claim(self) -> bytes:
        """The signed claim that this machine made last; empty bytes before the first."""
        return self.get_value("claim") or b""

    def machine(self) -> bytes:
        """The name that it claimed under, which is its own one if this state is a copy."""
        return self.get_value("machine") or b""

    def set_claim(self, claim: bytes, machine: bytes) -> None:
        """Synced before anybody hears of the claim."""
        with self._database.write(sync=True) as write:
            write.txn.put(b"value/claim", claim, db=self._meta)
            write.txn.put(b"value/machine", machine, db=self._meta)

    def overtaken(self) -> bool:
        """Whether this machine saw another one write after it, and wrote nothing since."""
        return bool(self.get_value("overtaken"))

    def set_overtaken(self, overtaken: bool) -> None:
        """Synced: the next mount may find nobody who could tell it so."""
        if overtaken != self.overtaken():
            with self._database.write(sync=True) as write:
                write.txn.put(b"value/overtaken", b"1" if overtaken else b"", db=self._meta)

    def seats(self) -> Seats:
        """The owner's seats that this machine holds."""
        return self._row(Seats) or Seats()

    def set_seats(self, seats: Seats) -> None:
        """Synced before anybody hears what a seat promised or accepted."""
        with self._database.write(sync=True) as write:
            self._put(write, seats)

    # -- small named values that outlive a process (contacts, histories)

    def get_value(self, name: str) -> bytes | None:
        """The value kept under a name, None where there is none."""
        with self._database.read("meta") as txn:
            raw = txn.get(_VALUE + name.encode())
        return None if raw is None else bytes(raw)

    def set_value(self, name: str, value: bytes) -> None:
        """Keeps a value; it may be lost by a power cut."""
        with self._database.write(sync=False) as write:
            write.txn.put(_VALUE + name.encode(), value, db=self._meta)


def peek_value(path: Path, name: str) -> bytes | None:
    """A named value of the state under `path`, which nobody has open; None where there is none."""
    if not path.is_dir():
        return None
    database = Database(path)
    try:
        with database.read("meta") as txn:
            raw = txn.get(_VALUE + name.encode())
        return None if raw is None else bytes(raw)
    finally:
        database.close()


def keeps_unpublished(path: Path) -> bool:
    """Whether the state under `path` holds commits that no root is known to name.

    It takes no key. No process may have the state open. Raises LocalError, also where the state
    is damaged.
    """
    database = Database(path)
    try:
        published = _read(database, Published)
        newest = _last_generation(database, _read(database, Checkpoint))
        return newest > (published.generation if published else 0)
    except Malformed as error:
        raise LocalError(f"the local state in {path} is damaged: {error}") from error
    finally:
        database.close()


def _read(database: Database, kind: type[R]) -> R | None:
    with database.read("meta") as txn:
        raw = txn.get(_names[kind])
    if raw is None:
        return None
    row: R = _decoders[kind].decode_untrusted(bytes(raw).removeprefix(_GUARD))
    return row


def _last_generation(database: Database, checkpoint: Checkpoint | None) -> int:
    with database.read("journal") as txn, txn.cursor() as cursor:
        newest = int.from_bytes(cursor.key(), "big") if cursor.last() else 0
    return max(newest, checkpoint.generation if checkpoint else 0)


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")
