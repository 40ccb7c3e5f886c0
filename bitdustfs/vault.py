"""An open vault on this machine: claims the ballot, settles with what others published, and runs.

Opening: ask the voters; take the best root of a majority; compare with this machine's state by
lineage (`uid`); go on from here, adopt the newer root, or, if both moved, keep ours read-only and
say so (promise 10). Then three tasks run until the mount ends: commit, publish, renew.
"""

import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trio

from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.state import Batch, Checkpoint, Published, State
from bitdustfs.commit import Committer
from bitdustfs.content import Content
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import majority
from bitdustfs.core.records import Ballot, open_root_untrusted, root_records
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import LocalError, Superseded, Unavailable
from bitdustfs.fetch import Fetcher
from bitdustfs.net.register import Known, RootRegister, View
from bitdustfs.net.supplier import Supplier
from bitdustfs.publish import Publisher, load_journal, open_root_content_untrusted, repropose
from bitdustfs.rebuild.audit import Auditor
from bitdustfs.space import Space
from bitdustfs.store import CACHE_LIMIT, Store
from bitdustfs.tree import Tree
from bitdustfs.units import MIB
from bitdustfs.upload import Uploader
from bitdustfs.volume import Volume

log = logging.getLogger(__name__)

RENEW_EVERY = 15.0  #: seconds between renewals of the lease
PUBLISH_EVERY = 30.0  #: seconds after which anything committed is published
PUBLISH_BYTES = 4 * MIB  #: bytes waiting that make publishing due at once
PUBLISH_TICK = 2.0
USAGE_EVERY = 20.0  #: seconds between questions to suppliers about what is used
EVICT_EVERY = 2.0  #: seconds between looks at how much this disk keeps
RELEASE_DEADLINE = 5.0  #: seconds that giving the lease back may take


@dataclass
class Settings:
    """What a mount may choose."""

    read_only: bool = False
    take_over: bool = False
    publish_every: float = PUBLISH_EVERY
    publish_tick: float = PUBLISH_TICK
    cache_limit: int = CACHE_LIMIT  #: bytes kept on this disk, what is not yet safe excepted


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
    space: Space
    publisher: Publisher | None = None
    uploader: Uploader | None = None
    message: str = ""
    troubles: list[str] = field(default_factory=list)  #: what status should warn of
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

    def heed_witness(self, ballot: Ballot, seq: int) -> None:
        """The DHT record saw the root (ballot, seq): newer than what voters showed means read-only."""
        newest = max(self.known.root.order, root_records.peek_untrusted(self.state_root()).order)
        if (ballot, seq) > newest and not self.superseded.is_set():
            self.message = (
                f"the network remembers root {seq} of this vault, and the suppliers show only root "
                f"{newest[1]}: some of them may hide the newer one; this mount is read-only"
            )
            log.error(self.message)
            self.superseded.set()

    async def release(self) -> None:
        """Ends the lease, as far as voters can be reached: another machine need not wait."""
        ballot, self.ballot = self.ballot, None
        if ballot is not None and not self.superseded.is_set():
            with trio.move_on_after(RELEASE_DEADLINE):
                await self.register.release(ballot)

    async def aside(self, what: str, task: Callable[[], Awaitable[None]]) -> None:
        """Runs a task without which the mount can go on: its bug is shown by status, not fatal."""
        try:
            await task()
        except Exception:
            log.exception("%s stopped by our own fault", what)
            self.troubles.append(
                f"{what} stopped by a bug of bitdustfs; see the log, and mount again"
            )

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
        known, ballot, message = await _claim(key, register, machine, settings, state.published())
        register.voters = {m.node: suppliers[m.node] for m in known.family.voters}
        fetcher = Fetcher(known.family, suppliers)
        store = Store(
            key.capability(), state, files, fetcher, known.family, suite, settings.cache_limit
        )
        message = await _settle(key, state, store, known) or message
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
    key: VaultKey,
    register: RootRegister,
    machine: bytes,
    settings: Settings,
    published: Published | None,
) -> tuple[Known, Ballot | None, str]:
    """The best root, the ballot under which this machine may write, or None and why not.

    Nothing is claimed before it is sure that the suppliers show at least what this machine saw.
    """
    view = await register.read()
    known = _best(view)
    register.voters = {
        m.node: register.voters[m.node] for m in known.family.voters if m.node in register.voters
    }
    message = _too_few(view) or _rollback(known, published)
    if settings.read_only or message:
        return known, None, message
    generation = view.promised.generation + 1 if view.promised else 1
    ballot = Ballot(generation, machine)
    view = await register.prepare(key.signing, ballot, settings.take_over)
    newest = _best(view)
    if newest.root.order < known.root.order:
        newest = known
    raw = repropose(key, newest.root, ballot)
    await register.accept(raw, newest.raw_family)
    root = open_root_untrusted(raw, key.vault_id)
    return replace(newest, root=root, raw=raw, confirmed=True), ballot, ""


def _best(view: View) -> Known:
    if view.best is None:
        raise Unavailable(
            f"{view.answers} of {view.voters} suppliers answered and none knows a root of this vault"
        )
    return view.best


def _too_few(view: View) -> str:
    """Why a view without a majority is only good for looking (promise 8); "" with one."""
    if view.majority:
        return ""
    assert view.best is not None
    minutes = max(0, int(time.time()) - view.best.root.time) // 60
    return (
        f"only {view.answers} of {view.voters} suppliers answered and {majority(view.voters)} are "
        f"needed to write; mounted read-only with the newest state they know, published "
        f"{minutes} minutes ago"
    )


def _rollback(known: Known, published: Published | None) -> str:
    """Why a root older than one this machine saw accepted is not followed (promise 8)."""
    if published is None or not published.confirmed:
        return ""
    seen = root_records.peek_untrusted(published.root)
    if known.root.order >= seen.order:
        return ""
    return (
        f"the suppliers show root {known.root.seq}, but this machine saw root {seen.seq} accepted: "
        "some of them hide the newer one; mounted read-only with what this machine knows"
    )


async def _settle(key: VaultKey, state: State, store: Store, known: Known) -> str:
    """Brings this machine's state to the root found, or says why it must not."""
    store.recover_open()
    published, proposed = state.published(), state.proposed()
    content = open_root_content_untrusted(key, known.root)
    message = _rollback(known, published)
    if message:
        return message
    for mine in (published, proposed):
        if mine is not None and known.root.uid == _uid(mine.root):
            if not known.confirmed:
                return ""  # whatever a few voters say, what this machine recorded stays
            state.set_published(  # and forgets a proposal that no majority has: it is signed anew
                Published(
                    known.raw, known.raw_family, mine.generation, mine.journal,
                    mine.journal_bytes, mine.based_on, known.confirmed,
                )
            )  # fmt: skip
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
        Published(
            known.raw, known.raw_family, generation, content.journal, size, base.generation,
            known.confirmed,
        ),
        base,
        batch,
    )  # fmt: skip
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
    space = Space(known.family, register.voters)
    content = Content(tree, store, space)
    volume = Volume(tree, content, key.name_key, space)
    for batch in state.batches(checkpoint.generation if checkpoint else 0):
        tree.overlay.update(dict(batch.changes))
    store.birth_seq = known.root.seq + 1
    committer = Committer(tree, content, store, state)
    return OpenVault(volume, content, committer, store, fetcher, state, register, known, space)


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

    uploader = Uploader(
        key, vault.state, files, vault.fetcher, vault.space, writer, vault.supersede
    )
    vault.store.on_closed = uploader.add
    vault.store.on_evict = uploader.evicted
    vault.uploader = uploader
    vault.content.on_write = uploader.wrote
    vault.publisher = Publisher(
        key, suite, ballot, vault.volume.tree, vault.store, vault.state, vault.committer,
        uploader, vault.register,
    )  # fmt: skip
    nursery.start_soon(uploader.run)
    nursery.start_soon(vault.committer.run)
    nursery.start_soon(_publish_loop, vault, settings)
    auditor = Auditor(vault.fetcher, random.Random(os.urandom(16)))
    nursery.start_soon(vault.aside, "auditing", auditor.run)
    nursery.start_soon(vault.aside, "asking for used space", partial(_usage_loop, vault))
    nursery.start_soon(vault.aside, "evicting", partial(_evict_loop, vault))
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


async def _usage_loop(vault: OpenVault) -> None:
    """Keeps `df` true: what suppliers have free is asked again when it can have changed."""
    while True:
        await vault.space.refresh()
        await trio.sleep(USAGE_EVERY)


async def _evict_loop(vault: OpenVault) -> None:
    while True:
        await trio.sleep(EVICT_EVERY)
        try:
            await vault.store.evict()
        except LocalError as error:
            log.warning("nothing could be evicted: %s", error)


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
