"""What is known of every block: rows decoded in memory, written through to the database.

    table blocks    block id -> BlockRow

Nothing that a mount does regularly scans all rows: they are indexed by what is asked for (state,
whether a root may name them, what is owed), and totals are kept. A change shows in memory at its
commit, also where the sync that follows fails: memory shows what the database holds.

Threads: changes are made by worker threads, one at a time. A row never changes in place, so whoever
got one, or a copy of the table, may keep it.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice

import msgspec

from bitdustfs.cache.database import Database, Write
from bitdustfs.cache.rows import CLOSED, DEAD, OPEN, BlockPart, BlockRow
from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import LocalError
from bitdustfs.units import KIB

APPLIED_AT_ONCE = 500  #: rows that change under the lock without a pause
RowChange = Callable[[BlockRow], BlockRow | None]  #: the new row, or None for no change

_rows = Decoder(BlockRow, "block row", 64 * KIB)


class BlockTable:
    """The rows of one vault's blocks."""

    def __init__(self, database: Database) -> None:
        self._database, self._table = database, database.table("blocks")
        self._lock = threading.Lock()  # over everything below
        self._rows: dict[bytes, BlockRow] = {}
        self._states: dict[int, set[bytes]] = {OPEN: set(), CLOSED: set(), DEAD: set()}
        self._waiting: set[bytes] = set()
        self._owed: set[bytes] = set()  # closed, and some position lacks its fragment
        self._thin: set[bytes] = set()  # of these, the ones without enough acknowledgements
        self._owed_here: set[bytes] = set()  # of these, the ones that this machine still has
        self._metadata: set[bytes] = set()
        self._copied: set[bytes] = set()  # closed, and reserves keep fragments of it for others
        self._touched: set[bytes] = set()  # rows that came, went or changed their state
        self.owed_positions = 0  #: fragments that are still to be placed
        self.pending = 0  #: bytes of fragments, each position's, of blocks with too few of them
        with database.read("blocks") as txn, txn.cursor() as cursor:
            for block, raw in cursor:
                self._load(bytes(block), _rows.decode_untrusted(raw))

    # -- looking

    def get(self, block: bytes) -> BlockRow | None:
        """The row of a block, None where this machine knows nothing of it."""
        return self._rows.get(block)

    def snapshot(self) -> dict[bytes, BlockRow]:
        """All rows as they are now: for work in a thread (a copy of references, 25 ns a block)."""
        with self._lock:
            return dict(self._rows)

    def in_state(self, state: int) -> list[bytes]:
        """The blocks that are OPEN, CLOSED or DEAD, oldest first."""
        with self._lock:
            return sorted(self._states[state])

    def is_dead(self, block: bytes) -> bool:
        """Whether the block is being deleted at the suppliers."""
        return block in self._states[DEAD]

    @property
    def any_dead(self) -> bool:
        """Whether some supplier has not confirmed some deletion."""
        return bool(self._states[DEAD])

    def metadata(self) -> list[tuple[bytes, BlockRow]]:
        """The rows of metadata blocks."""
        with self._lock:
            return [(block, self._rows[block]) for block in self._metadata]

    def waiting(self) -> list[bytes]:
        """Blocks that no root may name yet, oldest first."""
        with self._lock:
            return sorted(self._waiting)

    def owed(self) -> list[bytes]:
        """Closed blocks that some position lacks, in no order."""
        with self._lock:
            return list(self._owed)

    @property
    def owed_count(self) -> int:
        """How many closed blocks some position lacks."""
        return len(self._owed)

    def is_owed(self, block: bytes) -> bool:
        """Whether the block is closed and some position lacks it."""
        return block in self._owed

    def thin(self) -> list[bytes]:
        """Closed blocks that a root may name and that fewer hold than should, oldest first."""
        with self._lock:
            return sorted(self._thin - self._waiting)

    def copied(self, position: int, node: bytes) -> dict[bytes, BlockRow]:
        """The closed blocks whose fragment of a position a reserve keeps."""
        with self._lock:
            rows = {block: self._rows[block] for block in self._copied}
        return {block: row for block, row in rows.items() if (position, node) in row.copies}

    def to_deliver(self) -> list[bytes]:
        """Owed blocks that this machine has: those that no root may name yet, then those without
        enough holders, then the others.

        Of each metadata first: where room is short, it is what lets a root without deleted data be
        published, after which there is room again.
        """
        with self._lock:
            waiting = self._owed_here & self._waiting
            thin = (self._owed_here & self._thin) - waiting
            first = [
                block
                for blocks in (waiting, thin)
                for part in (blocks & self._metadata, blocks - self._metadata)
                for block in part
            ]
            return [*first, *(self._owed_here - self._thin)]

    def take_touched(self) -> set[bytes]:
        """The blocks whose rows came, went or changed their state since the last call.

        At the first call, of all that were there.
        """
        with self._lock:
            touched, self._touched = self._touched, set()
            return touched

    # -- changing

    def put(self, block: bytes, row: BlockRow, sync: bool = True) -> None:
        """Sets a row. Raises LocalError or DiskFull."""
        self._write({block: row}, sync)

    def change(self, block: bytes, change: RowChange) -> BlockRow | None:
        """Replaces one row by what `change` makes of it as it is; the new row, None for no
        change.
        """
        return self.change_all({block: change}).get(block)

    def change_all(self, changes: Mapping[bytes, RowChange]) -> dict[bytes, BlockRow]:
        """The same of many, in one synced transaction; the rows that changed."""
        changed: dict[bytes, BlockRow] = {}
        with self._database.write(sync=True) as write:
            for block, change in changes.items():
                old = self._rows.get(block)
                row = None if old is None else change(old)
                if row is not None:
                    changed[block] = row
            self._store(write, changed)
        return changed

    def settle(self) -> None:
        """Makes durable what memory shows, where a sync failed. Raises LocalError or DiskFull."""
        self._database.settle()

    def forget(self, block: bytes) -> None:
        """Drops a row. Raises LocalError or DiskFull."""
        self._write({block: None}, sync=True)

    def grow(self, write: Write, parts: Iterable[BlockPart]) -> None:
        """Open blocks have new lengths, as part of a transaction. Raises LocalError."""
        grown: dict[bytes, BlockRow] = {}
        for part in parts:
            row = self._rows.get(part.block)
            if row is None:
                raise LocalError("a batch refers to a block without a row")
            if row.state == OPEN and part.length > row.length:
                grown[part.block] = msgspec.structs.replace(row, length=part.length)
        self._store(write, grown)

    def forget_dead(self, write: Write) -> None:
        """Drops all DEAD rows, as part of a transaction."""
        self._store(write, dict.fromkeys(self.in_state(DEAD)))

    def _write(self, rows: Mapping[bytes, BlockRow | None], sync: bool) -> None:
        with self._database.write(sync) as write:
            self._store(write, rows)

    def _store(self, write: Write, rows: Mapping[bytes, BlockRow | None]) -> None:
        """Into the transaction now, into memory at its commit."""
        for block, row in rows.items():
            if row is None:
                write.txn.delete(block, db=self._table)
            else:
                write.txn.put(block, encode(row), db=self._table)
        write.after(partial(self._apply, rows))

    def _apply(self, rows: Mapping[bytes, BlockRow | None]) -> None:
        """Some at a time: whoever has a question on the loop's thread waits for the lock."""
        changes = iter(rows.items())
        while some := list(islice(changes, APPLIED_AT_ONCE)):
            with self._lock:
                for block, row in some:
                    self._index(block, row)

    def _load(self, block: bytes, row: BlockRow) -> None:
        """A row at the opening. Most are of blocks that all have: little is to be kept of them."""
        if not row.settled:
            self._index(block, row)
            return
        self._rows[block] = row
        self._states[CLOSED].add(block)
        self._touched.add(block)
        if row.meta:
            self._metadata.add(block)

    def _index(self, block: bytes, row: BlockRow | None) -> None:
        """Takes a row in place of the one before it. Nothing else keeps the indexes."""
        old = self._rows.pop(block, None)
        if old is None or row is None or old.state != row.state:
            self._touched.add(block)
        if old is not None:
            self._states[old.state].discard(block)
            if old.state == CLOSED:
                self.owed_positions -= len(old.owed)
                self.pending -= 0 if old.enough else slice_length(old.length, old.k)
        owed = row is not None and row.state == CLOSED and bool(row.owed)
        _keep(self._owed, block, owed)
        _keep(self._thin, block, owed and row is not None and not row.enough)
        _keep(self._owed_here, block, owed and row is not None and row.local)
        _keep(self._waiting, block, row is not None and row.waits)
        _keep(self._metadata, block, row is not None and row.meta)
        copied = row is not None and row.state == CLOSED and bool(row.copies)
        _keep(self._copied, block, copied)
        if row is None:
            return
        self._rows[block] = row
        self._states[row.state].add(block)
        if row.state == CLOSED:
            self.owed_positions += len(row.owed)
            self.pending += 0 if row.enough else slice_length(row.length, row.k)


def _keep(index: set[bytes], block: bytes, belongs: bool) -> None:
    if belongs:
        index.add(block)
    else:
        index.discard(block)
