"""Commits: what changed becomes a batch in this machine's journal, whole or not at all.

    seal dirty windows -> in one instant: take the batch, take what open blocks gained, (freeze)
    -> in a thread: sync the block files, then the batch into LMDB, (sync it)

One commit at a time; the next batch fills meanwhile. What a batch refers to is sealed and synced
before it (promise 3). `sync=True` returns when everything before the call survives power loss.
A commit that fails puts everything back, and the next one tries again.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from bitdustfs.blocks.writer import ExtentWriter
from bitdustfs.cache.rows import Batch
from bitdustfs.cache.state import State
from bitdustfs.core.items import SNAPSHOT_PREFIX, key_object
from bitdustfs.errors import BitdustError, DiskFull
from bitdustfs.tree.tree import Tree

log = logging.getLogger(__name__)

#: seconds that a change waits for its commit; with the commit itself it is safe within a second
INTERVAL = 0.5


class CommitDue:
    """Set by whoever changes something; the committer takes it back when it begins."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._since = 0.0

    def set(self) -> None:
        """Something is to be committed."""
        if not self._event.is_set():
            self._since = trio.current_time()
            self._event.set()

    async def take(self) -> float:
        """Returns when something is to be committed: since when, on trio's clock."""
        await self._event.wait()
        return self._since

    def clear(self) -> None:
        """What comes from here on is another commit's."""
        self._event = trio.Event()


SNAPSHOTS = 0  #: among objects that changed: a snapshot was made


def _makes_snapshot(change: tuple[bytes, bytes | None]) -> bool:
    key, value = change
    return value is not None and key.startswith(SNAPSHOT_PREFIX)


def changed_since_published(state: State) -> dict[int, int]:
    """Inode, or SNAPSHOTS -> generation of its last change, of all commits that no accepted root
    names.
    """
    published = state.published()
    changed: dict[int, int] = {}
    for batch in state.batches(published.generation if published else 0):
        inodes = {key_object(key) for key, _ in batch.changes} - {SNAPSHOTS}
        made = {SNAPSHOTS} if any(map(_makes_snapshot, batch.changes)) else set()
        changed.update(dict.fromkeys(inodes | made, batch.generation))
    return changed


class Committer:
    """Generations of one vault's state on this machine.

    `seal` brings everything dirty into extents and items before the batch is taken. `give_reserve`
    frees room that was held on this disk, and tells whether there was some. `changed_in` tells for
    each inode that programs changed, and for SNAPSHOTS, the generation of its last change that is
    not published; other housekeeping does not count.
    """

    def __init__(
        self,
        tree: Tree,
        writer: ExtentWriter,
        state: State,
        seal: Callable[[], Awaitable[None]],
        due: CommitDue,
        give_reserve: Callable[[], bool],
    ) -> None:
        self._tree, self._writer, self._state = tree, writer, state
        self._seal, self._due, self._give_reserve = seal, due, give_reserve
        self._lock = trio.Lock()
        self.generation = state.last_generation()
        self._synced = self.generation
        self.taken = self.generation  #: newest generation that changes were taken for
        self.written = 0  #: newest generation of this mount in which programs changed something
        self.changed_in = changed_since_published(state)

    async def commit(self, sync: bool, freeze: bool = False) -> int:
        """Commits all that was changed before the call; the generation that now holds it.

        `freeze` starts a checkpoint at exactly this generation. Raises LocalError or DiskFull, or
        Unavailable for a leaf of the tree; the changes stay, and are in the next attempt.
        """
        async with self._lock:
            with trio.CancelScope(shield=True):
                try:
                    await self._commit(sync, freeze)
                except DiskFull:
                    if not await trio.to_thread.run_sync(self._give_reserve):
                        raise
                    await self._commit(sync, freeze)
            return self.generation

    async def _commit(self, sync: bool, freeze: bool) -> None:
        await self._seal()
        # no await from here to the thread: batch, parts and frozen overlay are of one instant
        changes, written = self._tree.take_batch()
        parts = self._writer.take_parts()
        if changes:
            self.taken = self.generation + 1
        if not changes:
            self._writer.put_back_parts(parts)
            if freeze:
                self._tree.freeze()
            try:
                if sync and self._synced < self.generation:
                    await trio.to_thread.run_sync(self._state.sync)
            except BaseException:
                if freeze:
                    self._tree.thaw()
                raise
            if sync:
                self._synced = self.generation
            return
        if freeze:
            self._tree.freeze()
        batch = Batch(self.generation + 1, tuple(sorted(changes.items())), parts)
        try:
            await trio.to_thread.run_sync(self._write, batch, sync)
        except BaseException:
            self._tree.put_back(changes, written)
            self._writer.put_back_parts(parts)
            if freeze:
                self._tree.thaw()
            raise
        self.generation = batch.generation
        self._tree.committed()
        if sync:
            self._synced = self.generation
        if written:
            self.written = batch.generation
        # what a committed batch changed is published only with its generation
        made = {SNAPSHOTS} if any(map(_makes_snapshot, changes.items())) else set()
        objects = written - {SNAPSHOTS} | made
        self.changed_in.update(dict.fromkeys(objects, batch.generation))

    def _write(self, batch: Batch, sync: bool) -> None:
        """In a thread: what the batch refers to is on disk before it is."""
        self._writer.sync_open()
        self._state.append(batch, sync)

    def forget(self, generation: int) -> None:
        """Everything up to a generation is published."""
        self.changed_in = {i: at for i, at in self.changed_in.items() if at > generation}

    async def run(self) -> None:
        """Commits what changed INTERVAL after its first change; until cancelled.

        Synced, so that a power cut costs no more than a kill.
        """
        while True:
            await trio.sleep_until(await self._due.take() + INTERVAL)
            self._due.clear()
            try:
                await self.commit(sync=True)
            except BitdustError as error:  # a full disk; or a leaf that nobody gives just now
                log.error("changes cannot be kept on this machine, will retry: %s", error)
                self._due.set()
