"""The LMDB environment of one vault's state: transactions, durability, errors.

One writer at a time, under a lock of this process. `sync=True` returns only when the transaction
survives power loss. LMDB is opened with metasync off: a commit without `sync` may be lost by a
power cut, never torn (lmdb's documentation of MDB_NOMETASYNC).

A write may have been committed although it raised: the sync after the commit can fail on its own.
So what is kept in memory too is changed by `Write.after`, at the commit itself: memory shows what
the database holds, also after such an error. Until a later sync succeeds, such a commit may be lost
by a power cut; `settle` makes it durable. That takes a commit more: after a failed sync the kernel
may call the page clean that it could not write, and the next sync has nothing to do (Rebello et
al., "Can applications recover from fsync failures?", 2020). Only LMDB's meta page is at stake: with
metasync off, each commit syncs its data pages before it writes the meta page.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from bitdustfs.cache.folder import local_error
from bitdustfs.errors import DiskFull, LocalError
from bitdustfs.failpoints import reach
from bitdustfs.units import GIB, MIB

MAP_SIZE = 1024 * GIB  # sparse; never resized
FULL = MIB  #: bytes free below which a failed write is the full disk's fault
TABLES = ("meta", "journal", "blocks")
SYNCED_AGAIN = b"synced again"  #: key in `meta`: written only so that a commit writes something


class Write:
    """A transaction under way: `txn` is LMDB's."""

    def __init__(self, txn: lmdb.Transaction) -> None:
        self.txn = txn
        self._after: list[Callable[[], None]] = []

    def after(self, change: Callable[[], None]) -> None:
        """`change` is called right after the commit, before any other write begins."""
        self._after.append(change)

    def committed(self) -> None:
        """The database calls this: memory follows."""
        for change in self._after:
            change()


class Database:
    """Opens (or makes) the environment at `path`. One instance a process and path."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        self._path = path
        try:
            self._env = lmdb.open(str(path), map_size=MAP_SIZE, max_dbs=8, metasync=False)
            self._env.reader_check()
            self._tables = {name: self._env.open_db(name.encode()) for name in TABLES}
        except lmdb.Error as error:
            raise LocalError(f"the local state in {path} cannot be opened: {error}") from error
        self._lock = threading.Lock()
        self._unsure = False  # a commit is not synced: just now, or since a sync failed

    def table(self, name: str) -> Any:
        """LMDB's handle of one of TABLES."""
        return self._tables[name]

    @contextmanager
    def write(self, sync: bool) -> Iterator[Write]:
        """A transaction that is committed at the end of the block. Raises LocalError or
        DiskFull.
        """
        with self._errors(), self._lock:
            with self._env.begin(write=True) as txn:
                write = Write(txn)
                yield write
                if sync and self._unsure:
                    self._touch(txn)
                reach("state-commit")
            self._unsure = self._unsure or sync  # before memory shows it to other threads
            write.committed()
            if sync:
                self._sync()
            reach("state-committed")

    @contextmanager
    def read(self, table: str) -> Iterator[lmdb.Transaction]:
        """A short read transaction over one table."""
        with self._env.begin(db=self._tables[table]) as txn:
            yield txn

    def sync(self) -> None:
        """Makes every commit so far survive power loss. Raises LocalError or DiskFull."""
        with self._errors(), self._lock:
            if self._unsure:
                self._commit_again()
            self._sync()

    def settle(self) -> None:
        """Makes durable what was committed without its sync succeeding; else does nothing.

        Raises LocalError or DiskFull.
        """
        if self._unsure:
            with self._errors(), self._lock:
                if self._unsure:  # else it was a sync under way in another thread
                    self._commit_again()
                    self._sync()

    def _touch(self, txn: lmdb.Transaction) -> None:
        """Has the commit write a meta page, whatever else is in it."""
        txn.put(SYNCED_AGAIN, b"", db=self._tables["meta"])

    def _commit_again(self) -> None:
        with self._env.begin(write=True) as txn:
            self._touch(txn)

    def _sync(self) -> None:
        self._unsure = True
        reach("state-sync")
        self._env.sync(True)
        self._unsure = False

    def close(self) -> None:
        """Syncs and closes; nothing may use the database afterwards."""
        with self._lock:
            self._env.sync(True)
            self._env.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What a disk that refuses raises becomes an error of ours."""
        try:
            yield
        except OSError as error:
            raise local_error(error) from error
        except lmdb.Error as error:
            # LMDB calls a write that the full disk cut short an input/output error
            full = isinstance(error, lmdb.MapFullError | lmdb.DiskError) or self._is_full()
            if full:
                raise DiskFull(
                    "this machine's disk is full; free some room for its state"
                ) from error
            raise LocalError(f"the local state cannot be written: {error}") from error

    def _is_full(self) -> bool:
        stat = os.statvfs(self._path)
        return stat.f_bavail * stat.f_frsize < FULL
