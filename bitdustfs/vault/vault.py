"""An open vault on this machine, and the tasks that run until its mount ends.

How it is opened says opening.py. While it may write: commit, upload, publish, renew the lease, audit,
give space back, evict.
"""

import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.space import Space
from bitdustfs.blocks.store import CACHE_LIMIT, Store
from bitdustfs.blocks.upload import Uploader
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.state import Published, State
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import acknowledgements_needed
from bitdustfs.core.records import Ballot, Family, Root, open_family_untrusted, root_records
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import BitdustError, LocalError, Superseded, Unavailable
from bitdustfs.fs.content import Content
from bitdustfs.fs.volume import Volume
from bitdustfs.net.register import Known, RootRegister
from bitdustfs.net.supplier import Connect
from bitdustfs.rebuild.audit import Auditor
from bitdustfs.rebuild.rebuilder import Rebuilder
from bitdustfs.rebuild.watch import Watch, find_stand_ins
from bitdustfs.tree.commit import Committer
from bitdustfs.tree.tree import Tree
from bitdustfs.units import GIB, MIB
from bitdustfs.vault.opening import Opening, claim, settle
from bitdustfs.vault.publish import FamilyChange, Publisher
from bitdustfs.vault.reclaim import Parts, Reclaimer

log = logging.getLogger(__name__)

AFTER_FAILURE = 5.0  #: seconds until a task that this machine's disk stopped begins again
RENEW_EVERY = 15.0  #: seconds between renewals of the lease
PUBLISH_EVERY = 30.0  #: seconds after which anything committed is published
PUBLISH_BYTES = 4 * MIB  #: bytes waiting that make publishing due at once
PUBLISH_TICK = 2.0
USAGE_EVERY = 20.0  #: seconds between questions to suppliers about what is used
CENSUS_FRESH = 60.0  #: seconds that a census may be old when local copies go because of it
BACKLOG = 1 * GIB  #: bytes beyond the cache's size above which writers wait for suppliers
BACKLOG_WAIT = 2.0  #: seconds that one write waits at most
EVICT_EVERY = 2.0  #: seconds between looks at how much this disk keeps
WITNESS_DEADLINE = 10.0  #: seconds that the first root waits for the DHT's witness
LAST_COMMIT = 30.0  #: seconds that a last commit may take when a mount ends by force
RELEASE_DEADLINE = 5.0  #: seconds that giving the lease back may take


@dataclass
class Settings:
    """What a mount may choose."""

    read_only: bool = False
    take_over: bool = False
    publish_every: float = PUBLISH_EVERY
    publish_tick: float = PUBLISH_TICK
    reclaims: bool = True  #: whether dead blocks are deleted
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
    found: tuple[Ballot, int]  #: order of the newest root as voters showed it at the mount
    publisher: Publisher | None = None
    uploader: Uploader | None = None
    reclaimer: Reclaimer | None = None
    rebuilder: Rebuilder | None = None
    auditor: Auditor = field(init=False)
    watch: Watch = field(init=False)
    message: str = ""
    troubles: list[str] = field(default_factory=list)  #: what status should warn of
    witnessing: trio.Event | None = None  #: set once the DHT record was asked for, if it is
    moved: trio.Event = field(default_factory=trio.Event)  #: set when the family changes
    superseded: trio.Event = field(default_factory=trio.Event)
    ballot: Ballot | None = None

    def __post_init__(self) -> None:
        save = partial(self.state.set_value, "watch")
        self.watch = Watch(self.fetcher, partial(self.state.get_value, "watch"), save)
        self.auditor = Auditor(self.fetcher, self.watch, random.Random(os.urandom(16)))

    @property
    def read_only(self) -> bool:
        return self.publisher is None or self.superseded.is_set()

    def state_root(self) -> bytes:
        """The signed bytes of the newest root that is known to be accepted."""
        published = self.state.published()
        return self.known.raw if published is None else published.root

    def published_seq(self) -> int:
        """Seq of the newest root that is known to be accepted."""
        return root_records.peek_untrusted(self.state_root()).seq

    def stop_writing(self, message: str) -> None:
        """Turns read-only for good; what was accepted and not published is kept here."""
        if self.superseded.is_set():
            return
        self.message = message
        log.error(message)
        self.superseded.set()
        if self.uploader is not None:
            self.uploader.stop(Superseded(message))

    def supersede(self) -> None:
        """Another machine took over."""
        self.stop_writing(
            "another machine took this vault over; this mount is read-only and what it had not "
            "published is kept on this machine"
        )

    async def heed_fence(self) -> None:
        """A supplier refused this writer's ballot: superseded, or was it away when that was claimed?"""
        if self.ballot is None or self.superseded.is_set():
            return
        try:
            await self.register.renew(self.ballot)
        except Superseded:
            self.supersede()

    def heed_witness(self, ballot: Ballot, seq: int) -> None:
        """The DHT record saw the root (ballot, seq): newer than what voters showed means read-only."""
        if (ballot, seq) > self.found:
            self.stop_writing(
                f"the network remembers root {seq} of this vault, and the suppliers showed only root "
                f"{self.found[1]}: some of them may hide the newer one; this mount is read-only"
            )

    def too_few(self) -> str:
        """Why nothing can be published just now; "" when enough suppliers answer."""
        group = self.known.family.group
        online = sum(self.fetcher.health[m.node].reachable for m in group.members)
        needed = acknowledgements_needed(group.k, group.n)
        if online >= needed:
            return ""
        return (
            f"{online} of {group.n} suppliers answer and {needed} are needed: what is new stays on this "
            "machine, and is published by itself when they are back"
        )

    async def release(self) -> None:
        """Ends the lease, as far as voters can be reached: another machine need not wait."""
        ballot, self.ballot = self.ballot, None
        if ballot is not None and not self.superseded.is_set():
            with trio.move_on_after(RELEASE_DEADLINE):
                await self.register.release(ballot)

    async def wait_for_room(self) -> None:
        """Slows a writer down to the speed of uploads while far more waits here than the cache holds.

        Not for long, and not at all while suppliers take nothing: then work piles up here.
        """
        if self.uploader is None or self.store.surplus() < BACKLOG:
            return
        with trio.move_on_after(BACKLOG_WAIT), self.uploader.hurrying():
            await self.uploader.progress()

    async def give_back(self) -> None:
        """Gives deleted data's space back now: somebody has to wait for it."""
        if self.reclaimer is None:
            return
        try:
            await self.auditor.recent(CENSUS_FRESH)
            for _ in range(2):  # what dies is deleted after a root without it
                await self.publish()
                await self.reclaimer.step()
        except (Unavailable, LocalError, Superseded) as error:
            log.info("no space could be given back: %s", error)
        await self.space.refresh()

    async def aside(self, what: str, task: Callable[[], Awaitable[None]]) -> None:
        """Runs a task without which the mount can go on: its bug is shown by status, not fatal.

        It begins again while this machine's disk refuses, or too few suppliers answer.
        """
        while True:
            try:
                await task()
                return
            except (LocalError, Unavailable) as error:
                log.warning("%s waits: %s", what, error)
                await trio.sleep(AFTER_FAILURE)
            except Exception:
                log.exception("%s stopped by our own fault", what)
                self.troubles.append(
                    f"{what} stopped by a bug of bitdustfs; see the log, and mount again"
                )
                return

    def family_changed(self, root: Root, row: Published) -> None:
        """A root that names another family was accepted: everybody follows it from here on."""
        family = open_family_untrusted(row.family, root.vault)
        before = self.known.family.voters
        moved = [p for p, m in enumerate(family.voters) if m.node != before[p].node]
        self.auditor.forget(moved)
        if self.uploader is not None:
            for position in moved:
                self.uploader.settle_move(0, position, welcome=True)
        if self.rebuilder is not None:
            self.rebuilder.forget(moved)
        self.known = Known(root, row.root, family, row.family, confirmed=True)
        self.fetcher.move(family)
        self.moved.set()
        self.moved = trio.Event()

    async def publish(self, hurry: bool = True, change: FamilyChange | None = None) -> None:
        """Publishes all that was written before the call. Raises what Publisher.publish does.

        `hurry`: somebody waits, so uploading does not make way for writers.
        """
        if self.witnessing is not None:
            with trio.move_on_after(WITNESS_DEADLINE):
                await self.witnessing.wait()
        if self.publisher is None or self.uploader is None or self.superseded.is_set():
            raise Superseded(self.message or "this mount is read-only")
        try:
            with self.uploader.hurrying() if hurry else nullcontext():
                await self.publisher.publish(change)
            self.committer.forget(self.publisher.published.generation)
        except Superseded:
            self.supersede()
            raise


@asynccontextmanager
async def open_vault(
    folder: OwnedFolder,
    key: VaultKey,
    suite: Suite,
    family: Family,
    connect: Connect,
    settings: Settings,
) -> AsyncIterator[OpenVault]:
    """Opens the vault that was kept by `family` when it was last heard of.

    Raises LeaseHeld, Unavailable, LocalError. On leaving: commits; publishing is the caller's.
    """
    machine = bytes.fromhex(folder.identity["machine"])
    state = State(folder.path / "state", key.cache_key, key.vault_id, suite)
    files = BlockFiles(folder.path)
    try:
        register = RootRegister(key.vault_id, {m.node: connect(m) for m in family.voters})
        register.witnesses = {m.node: connect(m) for m in family.bench}
        opening = await claim(
            key, connect, register, family.epoch, machine, state,
            read_only=settings.read_only, take_over=settings.take_over,
        )  # fmt: skip
        known = opening.known
        fetcher = Fetcher(known.family, connect)
        if not opening.complete:
            await find_stand_ins(fetcher)
        store = Store(
            key.capability(), state, files, fetcher, known.family, suite, settings.cache_limit
        )
        await settle(key, state, store, opening)
        vault = await _assemble(key, state, store, register, fetcher, opening)
        async with trio.open_nursery() as nursery:
            if opening.ballot is not None:
                _start_writing(vault, key, suite, files, opening.ballot, settings, nursery)
            nursery.start_soon(vault.aside, "watching suppliers", vault.watch.run)
            try:
                yield vault
            except (Exception, trio.Cancelled, KeyboardInterrupt):
                await _last_commit(vault)
                raise
            if vault.publisher is not None:
                await vault.committer.commit(sync=True)
            nursery.cancel_scope.cancel()
        await vault.release()
    finally:
        files.close()
        state.close()


async def _last_commit(vault: OpenVault) -> None:
    """Something ended the mount by force: what was accepted should be on this disk all the same."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_COMMIT):
        try:
            if vault.publisher is not None:
                await vault.committer.commit(sync=True)
        except BitdustError as error:
            log.error("what was in memory could not be kept: %s", error)


async def _assemble(
    key: VaultKey,
    state: State,
    store: Store,
    register: RootRegister,
    fetcher: Fetcher,
    opening: Opening,
) -> OpenVault:
    known = opening.known
    checkpoint = state.checkpoint()
    tree = Tree(store, checkpoint.index if checkpoint else None)
    space = Space(fetcher)
    content = Content(tree, store, space)
    volume = Volume(tree, content, key.name_key, space)
    for batch in state.batches(checkpoint.generation if checkpoint else 0):
        tree.replay(dict(batch.changes))
    store.birth_seq = known.root.seq + 1
    store.describe = volume.describe
    committer = Committer(tree, content, store, state)
    published = state.published()
    for batch in state.batches(published.generation if published else 0):
        committer.note(batch)
    return OpenVault(
        volume, content, committer, store, fetcher, state, register, known, space,
        message=opening.message, ballot=opening.ballot, found=opening.found,
    )  # fmt: skip


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
        key, vault.state, files, vault.fetcher, vault.space, writer, vault.heed_fence
    )
    vault.store.on_closed = uploader.add
    vault.store.may_evict, vault.store.on_evicted = uploader.may_evict, uploader.evicted
    vault.uploader = uploader
    vault.content.on_write = uploader.wrote
    vault.content.wait_for_room = vault.wait_for_room
    vault.publisher = Publisher(
        key, suite, writer, vault.volume.tree, vault.store, vault.state, vault.committer,
        uploader, vault.register, vault.fetcher.connect,
    )  # fmt: skip
    vault.publisher.on_family = vault.family_changed
    nursery.start_soon(uploader.run)
    nursery.start_soon(vault.committer.run)
    nursery.start_soon(_publish_loop, vault, settings)
    parts = Parts(
        key, vault.volume.tree, vault.content, vault.store, vault.state, files, vault.fetcher,
        vault.committer, vault.publisher, uploader, vault.space, vault.auditor,
    )  # fmt: skip
    vault.reclaimer = Reclaimer(parts)
    vault.space.give_back = vault.give_back
    if settings.reclaims:
        nursery.start_soon(vault.aside, "giving space back", vault.reclaimer.run)
    vault.auditor.acknowledged = uploader.acknowledged
    vault.auditor.on_lost = uploader.lost
    vault.reclaimer.on_liar = vault.watch.condemn
    vault.rebuilder = Rebuilder(
        vault.fetcher, vault.auditor, vault.watch, uploader, writer, vault.reclaimer.needs
    )
    nursery.start_soon(vault.aside, "purging", vault.volume.keep_purging)
    nursery.start_soon(vault.aside, "rebuilding", vault.rebuilder.run)
    nursery.start_soon(vault.aside, "auditing", vault.auditor.run)
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
        except Superseded:
            return
        except BitdustError as error:
            log.warning("not published yet, will retry: %s", error)
        last = trio.current_time()


async def _usage_loop(vault: OpenVault) -> None:
    """Keeps `df` true: what suppliers have free is asked again when it can have changed."""
    while True:
        await vault.space.refresh()
        await trio.sleep(USAGE_EVERY)


async def _evict_loop(vault: OpenVault) -> None:
    while not vault.superseded.is_set():
        await trio.sleep(EVICT_EVERY)
        if not vault.store.surplus() or vault.uploader is None:
            continue
        census = await vault.auditor.recent(CENSUS_FRESH)
        try:
            await vault.store.evict(census.holders, vault.published_seq())
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
