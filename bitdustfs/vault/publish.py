"""Publishing: upload what is new, then move the root, so that another machine can mount it.

    finish a root that was signed before and not confirmed
    -> commit a generation; where suppliers have no room, what is deleted already goes first
    -> the journal since the last root, or (a checkpoint) new leaves, into metadata blocks
    -> close the open blocks; wait until each has the acknowledgements that a root needs
    -> sign the root, sync it here (*proposed*)
    -> accept at a quorum of voters
    -> record it here (*published*)

One at a time. A root that was signed is sent again, the same bytes, until it is confirmed. A change
of the family is made inside, out of the family that is accepted by then. Where it changes the
voters, its root needs majorities of the former and of the new ones, and a second root follows at
once, whose family names the new ones alone.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Collection

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.courier import Courier
from bitdustfs.blocks.pen import Pen
from bitdustfs.blocks.space import Space
from bitdustfs.blocks.writer import ExtentWriter, Plain
from bitdustfs.cache.rows import Checkpoint, Proposed, Published
from bitdustfs.cache.state import State
from bitdustfs.core.families import settled_family
from bitdustfs.core.journal import encode_journal
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import (
    Ballot,
    JournalRef,
    Root,
    RootContent,
    open_family_untrusted,
    open_root_untrusted,
)
from bitdustfs.core.roots import (
    ancestors_with,
    keeping_snapshots,
    open_root_content_untrusted,
    sign_root,
)
from bitdustfs.core.sealing import Kind, Suite
from bitdustfs.failpoints import reach
from bitdustfs.fs.names import split_time
from bitdustfs.net.register import RootRegister
from bitdustfs.tree.catalogue import Catalogue
from bitdustfs.tree.checkpoint import Checkpointer
from bitdustfs.tree.commit import Committer
from bitdustfs.tree.tree import Tree
from bitdustfs.units import MIB
from bitdustfs.vault.claimant import Claimant
from bitdustfs.vault.claims import Claims
from bitdustfs.vault.reclaim import Reclaimer
from bitdustfs.vault.seat import SeatBench

log = logging.getLogger(__name__)

JOURNAL_MAX = 4 * MIB  #: published journal bytes at which the tree is rewritten
JOURNAL_REFS_MAX = 200

FamilyChange = Callable[[bytes], bytes]  #: from a signed family to its signed successor
#: a root that names another family was accepted
OnFamily = Callable[[Root, Published], Awaitable[None]]


class Publisher:
    """Moves the root of one vault forward, while the pen is not lost."""

    def __init__(
        self,
        key: VaultKey,
        suite: Suite,
        pen: Pen,
        tree: Tree,
        checkpointer: Checkpointer,
        catalogue: Catalogue,
        writer: ExtentWriter,
        state: State,
        committer: Committer,
        courier: Courier,
        space: Space,
        reclaimer: Reclaimer,
        register: RootRegister,
        claims: Claims,
        seats: SeatBench,
        circle: Circle,
        on_family: OnFamily,
        wall: Callable[[], int],
    ) -> None:
        self._key, self._suite, self._pen = key, suite, pen
        self._tree, self._checkpointer, self._writer = tree, checkpointer, writer
        self._catalogue = catalogue
        self._state, self._committer, self._courier = state, committer, courier
        self._space, self._reclaimer = space, reclaimer
        self._register, self._seats = register, seats
        self._claimant = Claimant(key, pen, state, register, claims)
        self._circle, self._on_family, self._wall = circle, on_family, wall
        self._lock = trio.Lock()
        row = state.published()
        # a change of the voters that another mount did not come to the end of
        self._unsettled = row is not None and self._names_former(row.family)

    @property
    def published(self) -> Published:
        row = self._state.published()
        assert row is not None
        return row

    @property
    def due(self) -> bool:
        """Whether anything is not published yet."""
        return self._unsettled or self._committer.generation > self.published.generation

    @property
    def wants_seat(self) -> bool:
        """Whether the next root should give this machine a vote, or take one away."""
        return not self._seats.fits(self._circle.family, len(self._circle.beside()))

    async def publish(
        self,
        change: FamilyChange | None = None,
        again: bool = False,
        snapshot: bytes = b"",
        scheduled: bool = False,
    ) -> None:
        """Returns when everything written before the call is published.

        `change` makes the family that the root is to name, out of the one that is accepted by then:
        what was pending is finished first. `again`: moves the root also where nothing changed; what
        was begun for the last one may be evicted after that. `snapshot`: keeps the tree of this
        commit under that name; `scheduled`: nobody asked for it. Raises Unavailable, Superseded,
        LocalError or DiskFull, what `change` raises, and UsageError for a name that cannot be;
        nothing is lost by that.
        """
        async with self._lock:
            await self._finish_proposed()
            await self._settle_family()
            if snapshot:
                await self._catalogue.check_new(snapshot)
            published = self.published
            successor = b"" if change is None else change(published.family)
            moves = bool(successor)
            if not successor and self.wants_seat:
                beside = len(self._circle.beside())
                successor = await self._seats.change(self._key, published.family, beside)
            full = (
                published.journal_bytes >= JOURNAL_MAX
                or len(published.journal) >= JOURNAL_REFS_MAX
                or self._state.journal_bytes() >= JOURNAL_MAX
            )
            checkpoint = (full or bool(snapshot)) and not self._tree.frozen
            promised = self._space.promised
            unwanted = await self._reclaimer.unwanted() if self._courier.crowded else []
            keeps = await self._catalogue.any()
            generation = await self._committer.commit(sync=True, freeze=checkpoint)
            await self._drop(unwanted, frozen=checkpoint)
            same = generation == published.generation and not checkpoint
            if same and not successor and not again:
                self._space.kept(promised)  # what was admitted came to nothing
                return
            if same and not self._rebased(published):
                proposal = generation, published.journal, published.journal_bytes
            elif checkpoint:
                proposal = await self._checkpoint(generation)
                if snapshot:
                    marked = await self._mark(snapshot, generation, scheduled)
                    proposal = await self._journal(published, marked)
            else:
                proposal = await self._journal(published, generation)
            await self._courier.wait_acknowledged(moves)
            await self._propose(published, *proposal, successor, keeps)
            self._space.kept(promised)
            await self._settle_family()

    async def claim_again(self, rival: Ballot) -> None:
        """Claims above a claim of another machine that came to nothing, and goes on under it.

        `rival`: its ballot. What is newest here is signed again under the new ballot. Raises what
        Claimant.above does.
        """
        async with self._lock:
            await self._claimant.above(rival)
            await self._finish_proposed()

    async def confirm(self) -> None:
        """Claims the vault for a mount that began without enough suppliers, and goes on under that.

        Raises what Claimant.confirm does.
        """
        async with self._lock:
            await self._claimant.confirm()
            await self._finish_proposed()

    def _names_former(self, family: bytes) -> bool:
        return bool(open_family_untrusted(family, self._key.vault_id).former)

    async def _settle_family(self) -> None:
        """Ends a change of the voters: from here on the new ones decide alone."""
        published = self.published
        if not self._unsettled:
            return
        # checkpoints are made by publishes that settled first: else the journal would undo them
        assert not self._rebased(published)
        reach("family-settle")
        successor = settled_family(self._key, published.family)
        same = published.generation, published.journal, published.journal_bytes
        await self._propose(published, *same, successor, keeps=False)

    async def _propose(
        self,
        published: Published,
        generation: int,
        journal: tuple[JournalRef, ...],
        journal_bytes: int,
        successor: bytes,
        keeps: bool,
    ) -> None:
        """Signs the next root, syncs it here, and has it accepted.

        `keeps`: its tree has snapshots, whatever was changed since.
        """
        previous = open_root_untrusted(published.root, self._key.vault_id)
        checkpoint = self._state.checkpoint()
        before = open_root_content_untrusted(self._key, previous)
        content = RootContent(
            self._tree.base, journal, self._key.name_key, generation, 0,
            ancestors=ancestors_with(before, previous.uid),
        )  # fmt: skip
        same = generation == published.generation and bool(before.features.incompatible)
        if keeps or same or await self._catalogue.any():
            content = keeping_snapshots(content)
        root = sign_root(
            self._key, self._suite, self._pen.require(), previous.seq + 1, previous.uid,
            successor or published.family, content, int(time.time()),
        )  # fmt: skip
        based_on = checkpoint.generation if checkpoint else 0
        guarded = bool(content.features.incompatible)
        row = Proposed(root, generation, journal, journal_bytes, based_on, successor, guarded)
        reach("root-propose")
        await trio.to_thread.run_sync(self._state.set_proposed, row)
        reach("root-proposed")
        await self._finish_proposed()

    async def _finish_proposed(self) -> None:
        """Sends a root that was signed and not confirmed: always the same bytes."""
        proposed = self._state.proposed()
        if proposed is None:
            return
        self._pen.require()  # a mount that turned read-only meanwhile moves no root
        family = proposed.family or self.published.family
        named = open_family_untrusted(family, self._key.vault_id)
        reach("root-accept")
        await self._register.accept(proposed.root, family, named, self._pen.claim)
        reach("root-accepted")
        row = Published(
            proposed.root, family, proposed.generation, proposed.journal, proposed.journal_bytes,
            proposed.based_on, proposed.guarded,
        )  # fmt: skip
        await trio.to_thread.run_sync(self._state.set_published, row)
        reach("root-published")
        root = open_root_untrusted(proposed.root, self._key.vault_id)
        self._pen.advance(root.seq)
        self._unsettled = bool(named.former)
        if proposed.family:
            self._register.follow(named)
            await self._on_family(root, row)

    async def _drop(self, unwanted: Collection[bytes], frozen: bool) -> None:
        """What nobody needs makes room. Where that is cut short, no checkpoint stays begun."""
        try:
            await self._reclaimer.drop(unwanted)
        except BaseException:
            if frozen:
                self._tree.thaw()
            raise

    async def _checkpoint(self, generation: int) -> tuple[int, tuple[JournalRef, ...], int]:
        """Rewrites the tree at `generation`; the journal list is empty after it."""
        row = self._state.checkpoint()
        if row is not None and row.generation == generation:  # the leaves have all of it already
            self._tree.thaw()
            return generation, (), 0
        row = None
        try:
            row = Checkpoint(await self._checkpointer.write_frozen(), generation)
            await self._writer.close_open()
            reach("checkpoint-commit")
            await trio.to_thread.run_sync(self._state.set_checkpoint, row)
            reach("checkpoint-committed")
        finally:  # memory follows the disk, also when the commit's own answer was an error
            if row is not None and self._state.checkpoint() == row:
                self._checkpointer.finish(row.index)
            else:
                self._tree.thaw()
        return generation, (), 0

    async def _mark(self, name: bytes, generation: int, scheduled: bool) -> int:
        """Keeps the tree that was checkpointed just now; the generation that says so.

        Nothing of it can go meanwhile: no root without it is published before this one.
        """
        reach("snapshot-mark")
        await self._catalogue.make(
            name, split_time(self._wall()), self._pen.seq, generation, self._tree.base, scheduled
        )
        marked = await self._committer.commit(sync=True)
        reach("snapshot-marked")
        return marked

    async def _journal(
        self, published: Published, generation: int
    ) -> tuple[int, tuple[JournalRef, ...], int]:
        """Puts the batches since the last root into the metadata block."""
        changes: dict[bytes, bytes | None] = {}
        after = published.generation
        for batch in self._state.batches(after, generation):
            changes.update(batch.changes)
        pieces = encode_journal(changes)
        places = await self._writer.append(True, [Plain(Kind.JOURNAL, p) for p in pieces])
        await self._writer.close_open()
        refs = tuple(JournalRef(place, generation) for place in places)
        journal = refs if self._rebased(published) else published.journal + refs
        size = sum(len(p) for p in pieces)
        total = size if self._rebased(published) else published.journal_bytes + size
        return generation, journal, total

    def _rebased(self, published: Published) -> bool:
        """Whether a checkpoint was committed that the last root does not name yet."""
        checkpoint = self._state.checkpoint()
        return checkpoint is not None and checkpoint.generation > published.based_on
