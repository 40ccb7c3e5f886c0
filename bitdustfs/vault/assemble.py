"""Opens a vault and wires it: every object gets what it needs when it is made.

    open state and files -> find and claim the root -> close what a crash left open
    -> bring the state to the root -> tree and file system -> (with the pen) all that writes
    -> start the tasks -> the caller's turn -> commit, release the lease

The order below is the order of need: what is made first needs nothing of what is made later.
"""

import logging
import os
import random
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.courier import Courier
from bitdustfs.blocks.crash import recover_open_blocks
from bitdustfs.blocks.cutter import Cutter
from bitdustfs.blocks.deferral import Deferral
from bitdustfs.blocks.deletion import Deletion
from bitdustfs.blocks.evict import Eviction
from bitdustfs.blocks.flow import Flow
from bitdustfs.blocks.ledger import Ledger
from bitdustfs.blocks.loans import Loans
from bitdustfs.blocks.pen import Pen
from bitdustfs.blocks.reserves import Reserves
from bitdustfs.blocks.throttle import Throttle
from bitdustfs.blocks.writer import ExtentWriter
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.pinnedfiles import PinnedFiles
from bitdustfs.cache.state import State
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Ballot, Family, open_family_untrusted
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import Unavailable
from bitdustfs.fs.content import Content, WritableContent
from bitdustfs.fs.flush import Flusher
from bitdustfs.fs.lookups import Lookups
from bitdustfs.fs.purge import NoPurger, Purger
from bitdustfs.fs.window import Windows
from bitdustfs.fs.xattrs import WritableXattrs, Xattrs
from bitdustfs.net.register import RootRegister
from bitdustfs.net.supplier import Connect
from bitdustfs.rebuild.allowance import Allowance
from bitdustfs.rebuild.audit import Auditor
from bitdustfs.rebuild.rebuilder import Rebuilder
from bitdustfs.rebuild.watch import find_stand_ins
from bitdustfs.tree.catalogue import Catalogue
from bitdustfs.tree.checkpoint import Checkpointer
from bitdustfs.tree.commit import CommitDue, Committer
from bitdustfs.units import GIB
from bitdustfs.vault.claims import Claims
from bitdustfs.vault.compact import Compactor
from bitdustfs.vault.directories import Directories
from bitdustfs.vault.followed import FamilyMove
from bitdustfs.vault.following import FollowingVault, has_own_work
from bitdustfs.vault.ground import Ground
from bitdustfs.vault.held import Held
from bitdustfs.vault.lease import Lease
from bitdustfs.vault.opening import claim, claim_later, settle
from bitdustfs.vault.publish import Publisher
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.reclaim import Reclaimer, RootNeeds
from bitdustfs.vault.safety import ReadSafety, Safety
from bitdustfs.vault.seat import SeatBench
from bitdustfs.vault.settings import Settings
from bitdustfs.vault.tending import Task, look_after, tending
from bitdustfs.vault.thinning import Thinning
from bitdustfs.vault.uses import Uses
from bitdustfs.vault.vaults import WaitingVault, WritableVault

log = logging.getLogger(__name__)

BACKLOG = 1 * GIB  #: bytes beyond the cache's size above which writers wait for suppliers
BACKLOG_WAIT = 2.0  #: seconds that one write waits at most


@asynccontextmanager
async def open_vault(
    folder: OwnedFolder,
    key: VaultKey,
    suite: Suite,
    family: Family,
    connect: Connect,
    settings: Settings,
) -> AsyncIterator[ReadVault]:
    """Opens the vault that was kept by `family` when it was last heard of.

    A WritableVault where this machine may write, else a ReadVault that says why not. Raises
    LeaseHeld, Unavailable, LocalError. On leaving: commits; publishing is the caller's.
    """
    # in a thread: a hundred thousand rows are decoded, and sessions with suppliers are under way
    state = await trio.to_thread.run_sync(
        State, folder.path / "state", key.cache_key, key.vault_id, suite
    )
    files, pinned = BlockFiles(folder.path), PinnedFiles(folder.path)
    try:
        circle = Circle(family, connect, settings.is_own)
        seats = SeatBench(key.vault_id, folder, state)
        register = RootRegister(key.vault_id, circle.session, family, seats, circle.heard_since)
        claims = Claims(key, register, state, bytes.fromhex(folder.identity["machine"]))
        opening = await claim(
            key, register, claims, state,
            read_only=settings.read_only, take_over=settings.take_over, copied=seats.copied,
        )  # fmt: skip
        circle.move(opening.known.family)
        if not opening.complete:
            await find_stand_ins(circle)
        ground = Ground(
            key, suite, state, files, pinned, folder.path, circle, settings.cache_limit, opening,
            register, claims, seats,
        )  # fmt: skip
        recover_open_blocks(state, files, ground.sealers, suite)
        try:
            await settle(key, state, ground.reader, opening)
        except Unavailable:
            if opening.complete:
                raise
            await find_stand_ins(circle, patient=True)
            await settle(key, state, ground.reader, opening)
        if opening.ballot is None:
            watching = trio.CancelScope()
            vault = _read_vault(ground, settings, watching)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look_after, vault, watching)
                nursery.start_soon(vault.aside, "reading ahead", ground.ahead.run)
                yield vault
                nursery.cancel_scope.cancel()
        else:
            async with _writing(ground, opening.ballot, settings) as writable:
                yield writable
    finally:
        files.close()
        state.close()


@asynccontextmanager
async def _writing_later(
    ground: Ground, settings: Settings, watching: trio.CancelScope
) -> AsyncIterator[WritableVault]:
    """What a mount that began with too few suppliers becomes when they are back.

    `watching`: the task of the vault that is only read; the other one has a task of its own.
    """
    opening = await claim_later(
        ground.key, ground.register, ground.claims, ground.state, ground.reader,
        ground.opening.known,
    )  # fmt: skip
    assert opening.ballot is not None
    watching.cancel()
    ground.circle.move(opening.known.family)
    async with _writing(ground.after(opening), opening.ballot, settings) as vault:
        yield vault


def _read_vault(ground: Ground, settings: Settings, watching: trio.CancelScope) -> ReadVault:
    windows = Windows()
    tree = ground.tree(CommitDue())
    content = Content(tree, ground.reader, ground.ahead, windows)
    lookups = Lookups(tree, windows)
    volume = ground.volume(tree, content, lookups, NoPurger(tree, content, lookups))
    diverged = ground.opening.keeps
    offline = ground.offline(tree)
    safety = ReadSafety(
        tree, ground.state, ground.circle, offline, diverged, diverged and ground.is_adrift()
    )
    pinning = ground.pinning(volume, trio.Lock(), settings.metered)
    own = {**safety.answers(), **pinning.answers()}
    xattrs, message = Xattrs(tree, ground.reader, own), ground.opening.message
    parts = ground.parts(volume, content, xattrs, Catalogue(tree), safety, pinning, offline)
    known = ground.opening.known
    if settings.read_only and not ground.opening.keeps and not has_own_work(ground.state, known):
        return FollowingVault(parts, message, ground.follower(parts, lookups))
    if settings.read_only or ground.opening.keeps:
        return ReadVault(parts, message)
    return WaitingVault(parts, message, partial(_writing_later, ground, settings, watching))


@asynccontextmanager
async def _writing(
    ground: Ground, ballot: Ballot, settings: Settings
) -> AsyncIterator[WritableVault]:
    """The vault, its tasks running; at the end a last commit, and the lease given back."""
    vault, tasks = _writable_vault(ground, ballot, settings)
    await vault.ledger.reckon(ground.circle.family)
    async with tending(vault, settings, (*tasks, ("reading ahead", ground.ahead.run))):
        yield vault
    await vault.lease.release()


def _writable_vault(
    ground: Ground, ballot: Ballot, settings: Settings
) -> tuple[WritableVault, tuple[Task, ...]]:
    """The vault; and tasks that it needs, but does not know."""
    key, suite, state, files = ground.key, ground.suite, ground.state, ground.files
    table, circle, reader, space = state.blocks, ground.circle, ground.reader, ground.space
    opening = ground.opening
    pen = Pen(ballot, opening.claim, opening.known.root.seq + 1, opening.waits)
    lease = Lease(ground.register, pen)
    throttle = settings.throttle or Throttle(metered=settings.metered)
    due, deferral, loans = CommitDue(), Deferral(), Loans(table)
    ledger = Ledger(table, deferral, circle.beside)
    courier = Courier(
        pen, circle, table, Cutter(key, pen, table, files), ledger, deferral,
        Reserves(circle, loans), loans, space, throttle, lease.renew,
        lambda: lease.stalled,
    )  # fmt: skip
    eviction = Eviction(ground.room, files, table, courier.is_busy, ground.spared.has)

    windows = Windows()
    tree = ground.tree(due)
    lookups = Lookups(tree, windows)
    writer = ExtentWriter(
        ground.sealers, suite, table, files, lambda: circle.family.group, pen,
        lookups.describe, courier.kick,
    )  # fmt: skip
    flusher = Flusher(tree, windows, writer)

    async def wait_for_room() -> None:
        """Slows a writer down to the speed of uploads while far more waits here than fits.

        Not for long, and not at all while suppliers take nothing: then work piles up here.
        """
        if ground.room.surplus() >= BACKLOG or ground.disk.lacking():
            with trio.move_on_after(BACKLOG_WAIT), throttle.hurrying():
                courier.kick()
                await courier.progress()

    content = WritableContent(
        tree, reader, ground.ahead, windows, flusher, space, throttle, wait_for_room, due.set
    )
    purger = Purger(tree, content, lookups)
    volume = ground.volume(tree, content, lookups, purger)
    committer = Committer(tree, writer, state, flusher.seal_all, due, ground.disk.give)
    checkpointer = Checkpointer(tree, writer)

    async def on_lost(lost: Mapping[bytes, Collection[int]]) -> None:
        if await ledger.lost(lost):
            courier.kick()

    allowance = Allowance(
        settings.audits, partial(state.get_value, "audits"), partial(state.set_value, "audits")
    )
    auditor = Auditor(
        ground.fetcher, ground.watch, table, on_lost, random.Random(os.urandom(16)), allowance,
        settings.metered,
    )  # fmt: skip
    uses, roots = Uses(tree), RootNeeds(state, tree)
    directories = Directories(table, reader, ground.fetcher)
    condemn = ground.watch.reputation.condemn
    deletion = Deletion(key, pen, circle, table, files, ledger, condemn)
    catalogue = Catalogue(tree)
    held = Held(tree, reader, catalogue, uses, table)
    thinning = Thinning(
        catalogue, held, space, circle,
        partial(state.get_value, "thinned"), partial(state.set_value, "thinned"), settings.wall,
    )  # fmt: skip
    compactor = Compactor(tree, uses, table, directories, reader, writer, flusher, held.may_hold)
    reclaimer = Reclaimer(
        key.vault_id, circle, tree, table, roots, uses, directories, committer, checkpointer,
        flusher, auditor, deletion, compactor, held, space, throttle,
    )  # fmt: skip
    rebuilder = Rebuilder(
        pen, ground.fetcher, table, courier, auditor, ground.watch, reclaimer.needs,
        settings.metered,
    )  # fmt: skip
    publisher = Publisher(
        key, suite, pen, tree, checkpointer, catalogue, writer, state, committer, courier, space,
        reclaimer, ground.register, ground.claims, ground.seats, circle,
        FamilyMove(ground.followed, ledger, auditor, rebuilder), settings.wall,
    )  # fmt: skip
    flow = Flow(circle, table)
    offline = ground.offline(tree)
    safety = Safety(
        tree, content, committer, state, ledger, circle, offline, ground.register, rebuilder, flow,
        lambda: writer.unclosed, lambda: throttle.paused, lambda: pen.waits,
    )  # fmt: skip
    pinning = ground.pinning(volume, flusher.lock, settings.metered)
    xattrs = WritableXattrs(
        tree, reader, {**safety.answers(), **pinning.answers()}, pinning.setters(lookups.path),
        writer, flusher, space,
    )  # fmt: skip
    parts = ground.parts(volume, content, xattrs, catalogue, safety, pinning, offline)
    vault = WritableVault(
        parts, content, xattrs,
        settings=settings, pen=pen, lease=lease, writer=writer, committer=committer,
        ledger=ledger, loans=loans, courier=courier, flow=flow, throttle=throttle,
        room=ground.room, eviction=eviction, auditor=auditor, rebuilder=rebuilder,
        reclaimer=reclaimer, publisher=publisher, held=held, thinning=thinning,
    )  # fmt: skip
    return vault, (("purging", purger.keep_purging), ("sealing", flusher.run))


def family_kept(folder: OwnedFolder, key: VaultKey, suite: Suite) -> Family | None:
    """The family of the root that this machine followed last, where there was one."""
    state = State(folder.path / "state", key.cache_key, key.vault_id, suite)
    try:
        row = state.published()
    finally:
        state.close()
    return None if row is None else open_family_untrusted(row.family, key.vault_id)


def open_state_folder(home: Path, vault: bytes, machine: bytes) -> OwnedFolder:
    """This machine's folder for a vault. Raises StateLocked or StateForeign."""
    identity = {"id": vault.hex(), "machine": machine.hex()}
    return OwnedFolder(home / "vaults" / vault.hex(), "vault", identity)
