"""An open vault on this machine: claims the ballot, settles with what others published, and runs.

Opening: ask the voters; take the best root of a majority; compare with this machine's state by
lineage (`uid`); go on from here, adopt the newer root, or, if both moved, keep ours read-only and
say so (promise 10). Then three tasks run until the mount ends: commit, publish, renew.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import trio

from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.state import Batch, Checkpoint, Published, State
from bitdustfs.commit import Committer
from bitdustfs.content import Content
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Ballot, root_records
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import LocalError, Superseded, Unavailable
from bitdustfs.fetch import Fetcher
from bitdustfs.net.register import Known, RootRegister, View
from bitdustfs.net.supplier import Supplier
from bitdustfs.publish import Publisher, load_journal, open_root_content_untrusted, repropose
from bitdustfs.store import FETCHED_LIMIT, Store
from bitdustfs.tree import Tree
from bitdustfs.units import MIB
from bitdustfs.upload import Uploader
from bitdustfs.volume import Volume

log = logging.getLogger(__name__)

RENEW_EVERY = 15.0  #: seconds between renewals of the lease
PUBLISH_EVERY = 30.0  #: seconds after which anything committed is published
PUBLISH_BYTES = 4 * MIB  #: bytes waiting that make publishing due at once
PUBLISH_TICK = 2.0
RELEASE_DEADLINE = 5.0  #: seconds that giving the lease back may take


@dataclass
class Settings:
    """What a mount may choose."""

    read_only: bool = False
    take_over: bool = False
    publish_every: float = PUBLISH_EVERY
    publish_tick: float = PUBLISH_TICK
    fetched_limit: int = FETCHED_LIMIT  #: bytes of fetched extents kept on this disk


@dataclass
class OpenVault:
    """Everything that is open. `message` says why it is read-only, if it is."""

    volume: Volume
    content: Content
    committer: Committer
    store: Store
    fetcher: Fetcher
    state: State
    register: RootRegister
    known: Known
    publisher: Publisher | None = None
    uploader: Uploader | None = None
    message: str = ""
    superseded: trio.Event = field(default_factory=trio.Event)
    ballot: Ballot | None = None

    @property
    def read_only(self) -> bool:
        return self.publisher is None or self.superseded.is_set()

    def state_root(self) -> bytes:
        """The signed bytes of the newest root that is known to be accepted."""
        published = self.state.published()
        return self.known.raw if published is None else published.root

    def supersede(self) -> None:
        """Another machine took over: turn read-only, keep everything."""
        if not self.superseded.is_set():
            self.message = (
                "another machine took this vault over; this mount is read-only and what it had not "
                "published is kept on this machine"
            )
            log.error(self.message)
            self.superseded.set()

    async def release(self) -> None:
        """Ends the lease, as far as voters can be reached: another machine need not wait."""
        ballot, self.ballot = self.ballot, None
        if ballot is not None and not self.superseded.is_set():
            with trio.move_on_after(RELEASE_DEADLINE):
                await self.register.release(ballot)

    async def publish(self, hurry: bool = True) -> None:
        """Publishes all that was written before the call. Raises what Publisher.publish does.

        `hurry`: somebody waits, so uploading does not make way for writers.
        """
        if self.publisher is None or self.uploader is None or self.superseded.is_set():
            raise Superseded(self.message or "this mount is read-only")
        try:
            with self.uploader.hurrying() if hurry else nullcontext():
                await self.publisher.publish()
        except Superseded:
            self.supersede()
            raise


@asynccontextmanager
async def open_vault(
    folder: OwnedFolder,
    key: VaultKey,
    suite: Suite,
    suppliers: Mapping[bytes, Supplier],
    settings: Settings,
) -> AsyncIterator[OpenVault]:
    """Opens the vault whose voters are among `suppliers` (node key -> session).

    Raises LeaseHeld, Unavailable, LocalError. On leaving: commits; publishing is the caller's.
    """
    machine = bytes.fromhex(folder.identity["machine"])
    state = State(folder.path / "state", key.cache_key, key.vault_id, suite)
    files = BlockFiles(folder.path)
    try:
        register = RootRegister(key.vault_id, suppliers)
        known, ballot = await _claim(key, register, machine, settings)
        register.voters = {m.node: suppliers[m.node] for m in known.family.voters}
        fetcher = Fetcher(known.family, suppliers)
        store = Store(
            key.capability(), state, files, fetcher, known.family, suite, settings.fetched_limit
        )
        message = await _settle(key, state, store, known)
        vault = await _assemble(key, state, store, register, fetcher, known)
        vault.message, vault.ballot = message, ballot
        async with trio.open_nursery() as nursery:
            if ballot is not None and not message:
                _start_writing(vault, key, suite, files, ballot, settings, nursery)
            yield vault
            if not vault.read_only:
                await vault.committer.commit(sync=True)
            nursery.cancel_scope.cancel()
        await vault.release()
    finally:
        files.close()
        state.close()


async def _claim(
    key: VaultKey, register: RootRegister, machine: bytes, settings: Settings
) -> tuple[Known, Ballot | None]:
    """The best root, and the ballot under which this machine may write (None: read-only)."""
    view = await register.read()
    known = _best(view)
    register.voters = {
        m.node: register.voters[m.node] for m in known.family.voters if m.node in register.voters
    }
    if settings.read_only:
        return known, None
    generation = view.promised.generation + 1 if view.promised else 1
    ballot = Ballot(generation, machine)
    view = await register.prepare(key.signing, ballot, settings.take_over)
    known = _best(view)
    raw = repropose(key, known.root, ballot)
    await register.accept(raw, known.raw_family)
    view = await register.read()
    return _best(view), ballot


def _best(view: View) -> Known:
    if view.best is None:
        raise Unavailable(
            f"{view.answers} of {view.voters} suppliers answered and none knows a root of this vault"
        )
    return view.best


async def _settle(key: VaultKey, state: State, store: Store, known: Known) -> str:
    """Brings this machine's state to the root found, or says why it must not."""
    store.recover_open()
    published, proposed = state.published(), state.proposed()
    content = open_root_content_untrusted(key, known.root)
    mine = _uid(proposed.root) if proposed else None
    seen = root_records.peek_untrusted(published.root).seq if published else 0
    if known.root.seq < seen:  # promise 8: what this machine saw accepted is not undone
        return (
            f"the suppliers show root {known.root.seq}, but this machine saw root {seen} accepted: "
            "some of them hide the newer one; mounted read-only with what this machine knows"
        )
    if published is not None and known.root.uid == _uid(published.root):
        row = Published(
            known.raw, known.raw_family, published.generation, published.journal,
            published.journal_bytes, published.based_on,
        )  # fmt: skip
        state.set_published(row)  # and forgets a proposal that no majority has: it is signed anew
        return ""
    if proposed is not None and known.root.uid == mine:
        state.set_published(
            Published(
                known.raw,
                known.raw_family,
                proposed.generation,
                proposed.journal,
                proposed.journal_bytes,
                proposed.based_on,
            )
        )
        return ""
    if published is not None and state.last_generation() > published.generation:
        return (
            "another machine published since, and this one holds work that it had not published; "
            "mounted read-only to keep it: copy what you need, then move "
            "this machine's state folder away and mount again"
        )
    changes = await load_journal(store, content)
    base = Checkpoint(content.index, content.generation)
    batch = None
    generation = content.generation
    if changes:
        generation += 1
        batch = Batch(generation, tuple(sorted(changes.items())))
    size = sum(len(k) + len(v or b"") for k, v in changes.items())
    state.adopt(
        Published(known.raw, known.raw_family, generation, content.journal, size, base.generation),
        base,
        batch,
    )
    return ""


def _uid(raw_root: bytes) -> bytes:
    return root_records.peek_untrusted(raw_root).uid


async def _assemble(
    key: VaultKey,
    state: State,
    store: Store,
    register: RootRegister,
    fetcher: Fetcher,
    known: Known,
) -> OpenVault:
    checkpoint = state.checkpoint()
    tree = Tree(store, checkpoint.index if checkpoint else None)
    content = Content(tree, store)
    volume = Volume(tree, content, key.name_key)
    for batch in state.batches(checkpoint.generation if checkpoint else 0):
        tree.overlay.update(dict(batch.changes))
    store.birth_seq = known.root.seq + 1
    committer = Committer(tree, content, store, state)
    return OpenVault(volume, content, committer, store, fetcher, state, register, known)


def _start_writing(
    vault: OpenVault,
    key: VaultKey,
    suite: Suite,
    files: BlockFiles,
    ballot: Ballot,
    settings: Settings,
    nursery: trio.Nursery,
) -> None:
    def writer() -> tuple[Ballot, int] | None:
        return None if vault.superseded.is_set() else (ballot, vault.store.birth_seq)

    uploader = Uploader(key, vault.state, files, vault.fetcher, writer, vault.supersede)
    vault.store.on_closed = uploader.add
    vault.uploader = uploader
    vault.content.on_write = uploader.wrote
    vault.publisher = Publisher(
        key, suite, ballot, vault.volume.tree, vault.store, vault.state, vault.committer,
        uploader, vault.register,
    )  # fmt: skip
    nursery.start_soon(uploader.run)
    nursery.start_soon(vault.committer.run)
    nursery.start_soon(_publish_loop, vault, settings)
    nursery.start_soon(_renew_loop, vault, ballot)


async def _publish_loop(vault: OpenVault, settings: Settings) -> None:
    """Publishes when enough waits or enough time passed."""
    assert vault.publisher is not None
    last = trio.current_time()
    while not vault.superseded.is_set():
        await trio.sleep(settings.publish_tick)
        late = trio.current_time() - last >= settings.publish_every
        if not (vault.publisher.due and (late or vault.store.unclosed >= PUBLISH_BYTES)):
            continue
        try:
            await vault.publish(hurry=False)
        except (Unavailable, LocalError) as error:
            log.warning("not published yet, will retry: %s", error)
        except Superseded:
            return
        last = trio.current_time()


async def _renew_loop(vault: OpenVault, ballot: Ballot) -> None:
    while not vault.superseded.is_set():
        await trio.sleep(RENEW_EVERY)
        try:
            await vault.register.renew(ballot)
        except Superseded:
            vault.supersede()


def open_state_folder(home: Path, vault: bytes, machine: bytes) -> OwnedFolder:
    """This machine's folder for a vault. Raises StateLocked or StateForeign."""
    identity = {"id": vault.hex(), "machine": machine.hex()}
    return OwnedFolder(home / "vaults" / vault.hex(), "vault", identity)
