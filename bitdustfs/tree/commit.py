"""Commits: what changed becomes a batch in this machine's journal, whole or not at all.

One commit at a time; the next batch fills meanwhile. What a batch refers to is sealed and synced
before it (promise 3). `sync=True` returns when everything before the call survives power loss.
"""

import logging

import trio

from bitdustfs.blocks.store import Store
from bitdustfs.cache.state import Batch, State
from bitdustfs.core.items import key_object
from bitdustfs.errors import BitdustError
from bitdustfs.fs.content import Content
from bitdustfs.tree.tree import Tree

log = logging.getLogger(__name__)

INTERVAL = 1.0  #: seconds between commits while something changes


class Committer:
    """Generations of one vault's state on this machine."""

    def __init__(self, tree: Tree, content: Content, store: Store, state: State) -> None:
        self._tree, self._content, self._store, self._state = tree, content, store, state
        self._lock = trio.Lock()
        self._due = trio.Event()
        self.generation = state.last_generation()
        self._synced = self.generation
        self.taken = self.generation  #: newest generation that changes were taken for
        self.changed_in: dict[int, int] = {}  # inode -> generation of its last change
        self.failure: BitdustError | None = None
        tree.on_change = content.on_dirty = self._set_due

    def _set_due(self) -> None:
        self._due.set()

    async def commit(self, sync: bool, freeze: bool = False) -> int:
        """Commits all that was changed before the call; the generation that now holds it.

        `freeze` starts a checkpoint at exactly this generation. Raises LocalError or DiskFull, or
        Unavailable for a leaf of the tree; the changes stay, and are in the next attempt.
        """
        async with self._lock:
            with trio.CancelScope(shield=True):
                try:
                    await self._commit(sync, freeze)
                except BitdustError as error:
                    self.failure = error
                    raise
            self.failure = None
            return self.generation

    async def _commit(self, sync: bool, freeze: bool) -> None:
        await self._content.seal(full_only=False)
        # no await from here to the thread: batch, parts and frozen overlay are of one instant
        changes = self._tree.take_batch()
        parts = self._store.take_parts()
        if changes:
            self.taken = self.generation + 1
        if freeze:
            self._tree.freeze()
        if not changes:
            if sync and self._synced < self.generation:
                await trio.to_thread.run_sync(self._state.sync)
                self._synced = self.generation
            self._store.put_back_parts(parts)
            return
        batch = Batch(self.generation + 1, tuple(sorted(changes.items())), parts)
        try:
            await trio.to_thread.run_sync(self._store.commit, batch, sync)
        except BaseException:
            self._tree.put_back(changes)
            self._store.put_back_parts(parts)
            if freeze:
                self._tree.thaw()
            raise
        self.generation = batch.generation
        self._tree.committed()
        if sync:
            self._synced = self.generation
        self.note(batch)

    def note(self, batch: Batch) -> None:
        """What a committed batch changed is published only with its generation."""
        for key, _ in batch.changes:
            self.changed_in[key_object(key)] = batch.generation

    def forget(self, generation: int) -> None:
        """Everything up to a generation is published."""
        self.changed_in = {i: at for i, at in self.changed_in.items() if at > generation}

    async def run(self) -> None:
        """Commits every INTERVAL while there is something to commit; until cancelled."""
        while True:
            await self._due.wait()
            await trio.sleep(INTERVAL)
            self._due = trio.Event()
            try:
                await self.commit(sync=False)
            except BitdustError as error:  # a full disk; or a leaf that nobody gives just now
                log.error("changes cannot be kept on this machine, will retry: %s", error)
                self._due.set()
