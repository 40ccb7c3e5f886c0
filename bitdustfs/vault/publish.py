"""Publishing: upload what is new, then move the root, so that another machine can mount it.

commit a generation -> journal since the last root, or new leaves, into metadata blocks
-> wait until every block has the acknowledgements a root needs -> sign and sync the root
-> accept at a majority of voters
"""

import logging
import time
from collections.abc import Callable
from os import urandom

import msgspec
import trio

from bitdustfs.blocks.store import Piece, Store
from bitdustfs.blocks.upload import Uploader
from bitdustfs.cache.state import Checkpoint, Proposed, Published, State
from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import (
    FORMAT,
    Ballot,
    Family,
    Features,
    JournalRef,
    Root,
    RootContent,
    decode_root_content_untrusted,
    family_hash,
    open_family_untrusted,
    open_root_untrusted,
    seal_record,
)
from bitdustfs.core.sealing import Kind, Sealer, Suite
from bitdustfs.errors import Superseded
from bitdustfs.failpoints import reach
from bitdustfs.net.register import RootRegister
from bitdustfs.net.supplier import Connect
from bitdustfs.tree.commit import Committer
from bitdustfs.tree.tree import Tree
from bitdustfs.units import META_EXTENT_MAX, MIB

log = logging.getLogger(__name__)

JOURNAL_MAX = 4 * MIB  #: published journal bytes at which the tree is rewritten
JOURNAL_REFS_MAX = 200
PIECE_MAX = META_EXTENT_MAX * 3 // 4  #: bytes of items in one journal extent

FamilyChange = Callable[[bytes], bytes]  #: from a signed family to its signed successor
Change = tuple[bytes, bytes | None]
_changes = Decoder(tuple[Change, ...], "published journal", META_EXTENT_MAX)


def seal_root_content(key: VaultKey, suite: Suite, uid: bytes, content: RootContent) -> bytes:
    """The sealed part of a root; `uid` takes the block id's place."""
    sealer = Sealer(key.capability().content_key, key.vault_id, uid, 0)
    return sealer.seal(suite, 0, Kind.ROOT, encode(content))


def open_root_content_untrusted(key: VaultKey, root: Root) -> RootContent:
    """Raises Malformed or Forged."""
    sealer = Sealer(key.capability().content_key, key.vault_id, root.uid, 0)
    plain = sealer.open_unreferenced_untrusted(root.content, 0, Kind.ROOT)
    return decode_root_content_untrusted(plain)


def first_root(key: VaultKey, suite: Suite, ballot: Ballot, family: bytes) -> bytes:
    """The signed root of an empty vault, seq 1."""
    return sign_root(
        key, suite, ballot, 1, bytes(16), family, RootContent(None, (), key.name_key, 0, 0)
    )


def sign_root(
    key: VaultKey,
    suite: Suite,
    ballot: Ballot,
    seq: int,
    parent: bytes,
    family: bytes,
    content: RootContent,
) -> bytes:
    """A signed root with a new uid."""
    uid = urandom(16)
    named = open_family_untrusted(family, key.vault_id)
    sealed = seal_root_content(key, suite, uid, content)
    body = Root(
        FORMAT, Features(), key.vault_id, ballot, seq, uid, parent, int(time.time()),
        named.epoch, family_hash(family), 0, sealed,
    )  # fmt: skip
    return seal_record(key.signing, "root", body)


def repropose(key: VaultKey, root: Root, ballot: Ballot) -> bytes:
    """The same root under a new writer's ballot."""
    return seal_record(key.signing, "root", msgspec.structs.replace(root, ballot=ballot))


async def load_journal(store: Store, content: RootContent) -> dict[bytes, bytes | None]:
    """The changes that a root's journal list adds to its index. Raises Unavailable."""
    changes: dict[bytes, bytes | None] = {}
    for ref in content.journal:
        plain = await store.read_extent(ref.place, Kind.JOURNAL)
        changes.update(_changes.decode_untrusted(plain))
    return changes


def split_changes(changes: dict[bytes, bytes | None]) -> list[bytes]:
    """The plaintexts of journal extents."""
    pieces: list[bytes] = []
    part: list[Change] = []
    size = 0
    for key in sorted(changes):
        value = changes[key]
        part.append((key, value))
        size += len(key) + len(value or b"") + 12
        if size >= PIECE_MAX:
            pieces.append(encode(tuple(part)))
            part, size = [], 0
    if part:
        pieces.append(encode(tuple(part)))
    return pieces


class Publisher:
    """Moves the root of one vault forward. `writer`: the promised ballot, None once it is lost."""

    def __init__(
        self,
        key: VaultKey,
        suite: Suite,
        writer: Callable[[], tuple[Ballot, int] | None],
        tree: Tree,
        store: Store,
        state: State,
        committer: Committer,
        uploader: Uploader,
        register: RootRegister,
        connect: Connect,
    ) -> None:
        self._connect = connect
        self.on_family: Callable[[Root, Published], None] = lambda root, row: None
        self._key, self._suite, self._writer = key, suite, writer
        self._tree, self._store, self._state = tree, store, state
        self._committer, self._uploader, self._register = committer, uploader, register
        self._lock = trio.Lock()

    @property
    def published(self) -> Published:
        row = self._state.published()
        assert row is not None
        return row

    @property
    def due(self) -> bool:
        """Whether anything is not published yet."""
        return self._committer.generation > self.published.generation

    async def publish(self, change: FamilyChange | None = None) -> None:
        """Returns when everything written before the call is published.

        `change` makes the family that the root is to name, out of the one that is accepted by then: what was
        pending is finished first. Raises Unavailable, Superseded, LocalError or DiskFull, and what `change`
        raises; nothing is lost by that.
        """
        async with self._lock:
            await self._finish_proposed()
            published = self.published
            successor = b"" if change is None else change(published.family)
            full = (
                published.journal_bytes >= JOURNAL_MAX
                or len(published.journal) >= JOURNAL_REFS_MAX
                or self._state.journal_bytes() >= JOURNAL_MAX
            )
            checkpoint = full and not self._tree.frozen
            generation = await self._committer.commit(sync=True, freeze=checkpoint)
            same = generation == published.generation and not checkpoint
            if same and not successor:
                return
            if same and not self._rebased(published):
                proposal = generation, published.journal, published.journal_bytes
            elif checkpoint:
                proposal = await self._checkpoint(generation)
            else:
                proposal = await self._journal(published, generation)
            await self._uploader.wait_acknowledged(bool(successor))
            root = self._next_root(published, *proposal, successor)
            reach("root-propose")
            await trio.to_thread.run_sync(self._state.set_proposed, root)
            await self._finish_proposed()

    def _ballot(self) -> Ballot:
        writer = self._writer()
        if writer is None:
            raise Superseded("this mount is read-only")
        return writer[0]

    async def _finish_proposed(self) -> None:
        """Sends a root that was signed and not confirmed: always the same bytes."""
        proposed = self._state.proposed()
        if proposed is None:
            return
        self._ballot()  # a mount that turned read-only meanwhile moves no root
        family = proposed.family or self.published.family
        if proposed.family:
            self._change_voters(open_family_untrusted(family, self._key.vault_id))
        reach("root-accept")
        await self._register.accept(proposed.root, family)
        reach("root-accepted")
        row = Published(
            proposed.root,
            family,
            proposed.generation,
            proposed.journal,
            proposed.journal_bytes,
            proposed.based_on,
        )
        await trio.to_thread.run_sync(self._state.set_published, row)
        root = open_root_untrusted(proposed.root, self._key.vault_id)
        self._store.birth_seq = root.seq + 1
        if proposed.family:
            self._register.former = {}
            self.on_family(open_root_untrusted(proposed.root, self._key.vault_id), row)

    def _change_voters(self, family: Family) -> None:
        """From here on majorities of the old voters and of the new ones must agree."""
        voters = {member.node: self._connect(member) for member in family.voters}
        if voters.keys() != self._register.voters.keys():
            self._register.former = self._register.voters
            self._register.voters = voters

    async def _checkpoint(self, generation: int) -> tuple[int, tuple[JournalRef, ...], int]:
        """Rewrites the tree at `generation`; the journal list is empty after it."""
        row = None
        try:
            row = Checkpoint(await self._tree.write_frozen(), generation)
            await self._store.close_open()
            reach("checkpoint-commit")
            await trio.to_thread.run_sync(self._state.set_checkpoint, row)
        finally:  # memory follows the disk, also when the commit's own answer was an error
            if row is not None and self._state.checkpoint() == row:
                self._tree.finish_checkpoint(row.index)
            else:
                self._tree.thaw()
        return generation, (), 0

    async def _journal(
        self, published: Published, generation: int
    ) -> tuple[int, tuple[JournalRef, ...], int]:
        """Puts the batches since the last root into the metadata block."""
        changes: dict[bytes, bytes | None] = {}
        after = published.generation
        for batch in self._state.batches(after, generation):
            changes.update(batch.changes)
        pieces = split_changes(changes)
        places = await self._store.append(True, [Piece(Kind.JOURNAL, p) for p in pieces])
        await self._store.close_open()
        refs = tuple(JournalRef(place, generation) for place in places)
        journal = refs if self._rebased(published) else published.journal + refs
        size = sum(len(p) for p in pieces)
        total = size if self._rebased(published) else published.journal_bytes + size
        return generation, journal, total

    def _rebased(self, published: Published) -> bool:
        """Whether a checkpoint was committed that the last root does not name yet."""
        checkpoint = self._state.checkpoint()
        return checkpoint is not None and checkpoint.generation > published.based_on

    def _next_root(
        self,
        published: Published,
        generation: int,
        journal: tuple[JournalRef, ...],
        journal_bytes: int,
        successor: bytes,
    ) -> Proposed:
        previous = open_root_untrusted(published.root, self._key.vault_id)
        checkpoint = self._state.checkpoint()
        content = RootContent(self._tree.base, journal, self._key.name_key, generation, 0)
        root = sign_root(
            self._key, self._suite, self._ballot(), previous.seq + 1, previous.uid,
            successor or published.family, content,
        )  # fmt: skip
        based_on = checkpoint.generation if checkpoint else 0
        return Proposed(root, generation, journal, journal_bytes, based_on, successor)
