"""Space comes back: blocks that nothing refers to are proven dead, and deleted.

A block is deleted in steps, each after what justifies it is durable (promise 3):

    no item refers to it (its use count says so, then every entry of its directory is looked up)
    -> no kept snapshot refers to it (held.py)
    -> a root that no longer needs it is accepted by a majority
    -> the signed block-dead record, naming that root, is synced here (blocks/deletion.py)
    -> its local file goes, and the suppliers are told until each has confirmed

Blocks never come back to life: items only ever refer to what was just written. Which blocks may be
unused is known from what changed since the last look (idle.py).
"""

import logging
from collections.abc import Collection

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.deletion import Deletion
from bitdustfs.blocks.evict import born_for
from bitdustfs.blocks.space import Space
from bitdustfs.blocks.throttle import Throttle
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, Published
from bitdustfs.cache.state import State
from bitdustfs.core.block import ExtentEntry
from bitdustfs.core.items import use_key
from bitdustfs.core.records import open_root_untrusted, root_records
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import LocalError, Malformed, Unavailable
from bitdustfs.fs.flush import Flusher
from bitdustfs.rebuild.audit import Auditor
from bitdustfs.rebuild.rebuilder import Needs
from bitdustfs.tree.checkpoint import Checkpointer
from bitdustfs.tree.commit import Committer
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree
from bitdustfs.vault.compact import Compactor
from bitdustfs.vault.directories import Directories
from bitdustfs.vault.held import Held, in_use
from bitdustfs.vault.idle import Idle
from bitdustfs.vault.uses import Uses

log = logging.getLogger(__name__)

TICK = 5.0  #: seconds between two looks
REST = 20  #: times as long as the last look took that is rested after it
THIN_METADATA = 0.3  #: live share of a metadata block below which its leaves are rewritten
CHECK_STEP = 256  #: directory entries looked up in one transaction


class RootNeeds:
    """Which blocks the index, the leaves and the journal of the published root are in."""

    def __init__(self, state: State, tree: Tree) -> None:
        self._state, self._tree = state, tree
        self._walked = 0  # generation of the checkpoint whose leaves were walked; 0: there is none
        self._leaves: frozenset[bytes] = frozenset()  # blocks of its index and leaves

    @property
    def published(self) -> Published:
        """The newest root that is known to be accepted."""
        row = self._state.published()
        assert row is not None
        return row

    @property
    def seq(self) -> int:
        """Its seq."""
        return root_records.peek_untrusted(self.published.root).seq

    async def walk(self) -> dict[bytes, int]:
        """Finds the blocks that the last checkpoint is in: bytes of it in each; {} for no
        change.
        """
        checkpoint = self._state.checkpoint()
        if checkpoint is None or self._walked == checkpoint.generation:
            return {}
        sizes: dict[bytes, int] = {}
        for place in await self._tree.nodes():
            sizes[place.block] = sizes.get(place.block, 0) + place.length
        if self._state.checkpoint() != checkpoint:
            return {}  # another one meanwhile: next time
        self._walked, self._leaves = checkpoint.generation, frozenset(sizes)
        return sizes

    def blocks(self) -> frozenset[bytes] | None:
        """The blocks, of the very root that is published at the call; None: not known now."""
        published = self.published
        if published.based_on != self._walked:
            return None
        return self._leaves.union(ref.place.block for ref in published.journal)


class Reclaimer:
    """Gives the space of one vault back while it is mounted for writing."""

    def __init__(
        self,
        vault: bytes,
        circle: Circle,
        tree: Tree,
        table: BlockTable,
        roots: RootNeeds,
        uses: Uses,
        directories: Directories,
        committer: Committer,
        checkpointer: Checkpointer,
        flusher: Flusher,
        auditor: Auditor,
        deletion: Deletion,
        compactor: Compactor,
        held: Held,
        space: Space,
        throttle: Throttle,
    ) -> None:
        self._vault, self._circle, self._tree, self._table = vault, circle, tree, table
        self._roots, self._uses, self._directories = roots, uses, directories
        self._committer, self._checkpointer, self._flusher = committer, checkpointer, flusher
        self._auditor, self._deletion, self._compactor = auditor, deletion, compactor
        self._held, self._space, self._throttle = held, space, throttle
        self._idle = Idle(uses, table)
        self._stepping = trio.Lock()
        self._proven: dict[
            bytes, int
        ] = {}  # dead block -> generation in which nothing refers to it
        self._proven_for = -1  # version of the snapshots that the proofs are good for
        self._condemned: set[bytes] = set()
        self._alive: set[bytes] = set()  # looked up, and in use although it is not counted
        self._unclear: set[bytes] = set()  # whether a snapshot needs it was not to be learnt
        self._situation: tuple[int, int] | None = None  # in which nothing was left to do

    async def run(self) -> None:
        """Until cancelled."""
        took = 0.0
        while True:
            await trio.sleep(max(TICK, REST * took))
            began = trio.current_time()
            try:
                await self.step(compact=not self._throttle.busy_writer)
            except (Unavailable, Malformed, LocalError) as error:
                log.info("space is given back later: %s", error)
            took = trio.current_time() - began

    async def step(self, compact: bool = True) -> None:
        """One look: what is dead goes, and, with `compact`, what is thin is emptied."""
        async with self._stepping:
            await self._step(compact)

    async def _step(self, compact: bool) -> None:
        situation = (self._roots.published.generation, self._auditor.censuses)
        told = self._held.fresh and not (self._tree.touched_uses or self._deletion.untold)
        if situation == self._situation and told:
            return
        await self._idle.look(self._auditor.census)
        await self._held.refresh()
        if self._held.version != self._proven_for:  # what was proven before is proven once more
            self._proven_for = self._held.version
            self._proven.clear()
            self._alive.clear()
            self._unclear.clear()
        await self._walk()
        for block in self._candidates():
            await self._prove(block)
        for block, generation in list(self._proven.items()):
            if self._roots.published.generation < generation:
                continue
            needed = self._roots.blocks()  # by the root as it is now: it may have moved since
            if needed is None or not self._held.fresh or self._held.version != self._proven_for:
                break  # a root that is published by now may have a snapshot that was not looked at
            if block in needed:
                del self._proven[block]
            else:
                await self._condemn(block)
        if await self._deletion.tell():
            await self._space.refresh()
        self._space.hold(self._held.bytes(), self._held.yields())
        if compact:
            if self._space.may_copy:  # else it would eat what deletes need
                await self._compactor.step()
            self._situation = situation

    async def unwanted(self) -> list[bytes]:
        """Blocks that no root has named yet, and that nothing refers to any more.

        The publisher asks, while no root is proposed, and only where suppliers have no room:
        deleting is what makes room, and what is deleted must not have to be uploaded first. To be
        dropped once a commit made after this is durable. Raises Unavailable, Malformed, LocalError.
        """
        if self._tree.frozen is not None:
            return []
        await self._idle.look(self._auditor.census)
        await self._held.refresh()
        found = []
        for block in self._idle.blocks():
            row = self._table.get(block)
            if row is None or row.state != CLOSED or born_for(block) <= self._roots.seq:
                continue
            if self._held.may_hold(block):  # a snapshot that is not published yet may refer to it
                continue
            _, entries = await self._directories.of(block)
            # journals of attempts that failed are needed by nothing: the next attempt writes anew
            entries = tuple(entry for entry in entries if entry.kind != Kind.JOURNAL)
            generation = await self._unused_from(block, entries)
            if generation is not None:
                self._proven[block] = generation
                found.append(block)
        return found

    async def drop(self, unwanted: Collection[bytes]) -> None:
        """What `unwanted` told goes: here, and from the suppliers that took some of it."""
        root = open_root_untrusted(self._roots.published.root, self._vault)
        for block in unwanted:
            row = self._table.get(block)
            if row is not None and row.state == CLOSED:
                await self._deletion.condemn(block, row, root)
                self._proven.pop(block, None)
                self._died(block)
                await self._tree.tidy(_delete, use_key(block))
        if unwanted:
            await self._deletion.tell()
            await self._space.refresh()

    def needs(self) -> Needs:
        """A predicate: whether a root may need a block. What is not known counts as needed."""
        needed = self._roots.blocks()

        def needs(block: bytes) -> bool:
            if block in self._proven or block in self._condemned:
                return False
            if not self._uses.known or needed is None or block in needed:
                return True
            use = self._uses.get(block)
            in_use = use is not None and use.live > 0
            return in_use or block in self._unclear or self._held.needs(block)

        return needs

    async def _walk(self) -> None:
        """After a checkpoint: metadata blocks with few of its leaves are emptied by the next
        one.
        """
        sizes = await self._roots.walk()
        if not sizes or not self._space.may_copy:
            return
        self._alive.clear()
        self._checkpointer.empty_out(
            {
                block
                for block, row in self._table.metadata()
                if block in sizes
                and sizes[block] < THIN_METADATA * row.length
                and not self._held.may_hold(block)
            }
        )

    def _candidates(self) -> list[bytes]:
        """Closed blocks, older than the published root, that nothing seems to refer to."""
        needed = self._roots.blocks()
        if needed is None:
            return []
        settled, seq = (needed, self._alive, self._proven, self._condemned), self._roots.seq
        found = []
        for block in self._idle.blocks():
            if any(block in blocks for blocks in settled) or self._held.holds(block):
                continue
            row = self._table.get(block)
            if (row is None or row.state == CLOSED) and born_for(block) < seq:
                found.append(block)
        return found

    async def _prove(self, block: bytes) -> None:
        """Looks every entry of the block's directory up in the tree; nothing is being mapped."""
        try:
            _, entries = await self._directories.of(block)
        except Unavailable as error:  # left half uploaded by a machine that died, or too few answer
            log.info("block %s cannot be looked into: %s", block.hex(), error)
            if self._is_gone(block):
                await self._tree.tidy(_delete, use_key(block))
            else:
                self._alive.add(block)
            return
        generation = await self._unused_from(block, entries)
        if generation is None:
            log.warning("block %s is in use although it is not counted", block.hex())
            self._alive.add(block)
            return
        try:
            numbers = await self._held.look(block, entries)
        except Unavailable as error:
            log.info("whether a snapshot needs block %s is not known: %s", block.hex(), error)
            self._alive.add(block)
            self._unclear.add(block)
            return
        if numbers is None:  # only now: whatever ends the look early has proven nothing
            self._proven[block] = generation
        else:
            await self._held.record(block, numbers)

    async def _unused_from(self, block: bytes, entries: tuple[ExtentEntry, ...]) -> int | None:
        """The generation from which on nothing of the live tree refers to it; None: it does."""
        async with self._flusher.lock:
            for at in range(0, len(entries), CHECK_STEP):
                part = entries[at : at + CHECK_STEP]
                if await self._tree.run(_in_use, block, part, self._roots.seq):
                    return None
            pending = 1 if self._tree.batch else 0
            return self._committer.taken + pending

    def _died(self, block: bytes) -> None:
        self._condemned.add(block)  # a census from before may list it still
        self._auditor.died(block)

    def _is_gone(self, block: bytes) -> bool:
        """Whether an unused block was deleted by a machine that could not say so in the tree."""
        use, census = self._uses.get(block), self._auditor.census
        complete = len(census.lists) == self._circle.family.group.n
        return use is not None and not use.live and complete and not census.holders(block)

    async def _condemn(self, block: bytes) -> None:
        """The published root does not need the block: it dies."""
        row, _ = await self._directories.of(block)
        root = open_root_untrusted(self._roots.published.root, self._vault)
        await self._deletion.condemn(block, row, root)
        del self._proven[block]
        self._died(block)
        await self._tree.tidy(_delete, use_key(block))


def _delete(tx: Transaction, key: bytes) -> None:
    if tx.get(key) is not None:
        tx.delete(key)


def _in_use(tx: Transaction, block: bytes, entries: tuple[ExtentEntry, ...], seq: int) -> bool:
    """Whether any of these extents is referred to, or was written for a root after that of
    `seq`.
    """
    counted = (Kind.DATA, Kind.XATTR)  # others: journal, leaf or index of a root under way
    under_way = any(entry.seq > seq for entry in entries if entry.kind not in counted)
    return under_way or in_use(tx, block, entries)
