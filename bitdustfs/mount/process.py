"""The process behind a mount: what it is made of, and in which order it begins and ends.

state folder -> the family, by any address -> the vault opened -> FUSE -> commands answered
the mountpoint is taken away -> settled -> whoever waits is told -> the vault closed
"""

import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from bitdustfs.blocks.throttle import Throttle
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.machine import known_addresses, remember_addresses
from bitdustfs.cache.secrecy import lock_vault_key
from bitdustfs.core.items import ROOT_INODE, inode_key
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Family
from bitdustfs.errors import Superseded, Unavailable
from bitdustfs.family.find import Ways
from bitdustfs.family.remembering import keep_hearing, keep_remembering, recall
from bitdustfs.family.staffing import Staffing
from bitdustfs.fs.names import Caller
from bitdustfs.fuse.kernelcache import KernelCache
from bitdustfs.fuse.operations import Operations, WritableOperations
from bitdustfs.mount.announcing import Announcing
from bitdustfs.mount.answers import MountAnswers, WritableMountAnswers
from bitdustfs.mount.attachment import Attachment
from bitdustfs.mount.commands import MOUNT_COMMANDS, MountCommand
from bitdustfs.mount.cpu import suite
from bitdustfs.mount.durability import durability
from bitdustfs.mount.ending import Farewell, ReadSettling, Settling
from bitdustfs.mount.foresight import Foresight
from bitdustfs.mount.garbage import leave_out_what_stays
from bitdustfs.mount.mount_config import MountReload
from bitdustfs.mount.mountpoint import socket_path
from bitdustfs.mount.options import MountOptions
from bitdustfs.mount.statefolder import take_state_folder
from bitdustfs.mount.statements import Ended
from bitdustfs.mount.status import Describer, WritableDescriber
from bitdustfs.mount.telling import keep_told
from bitdustfs.net import listening, notify
from bitdustfs.net.control import Say, Statement
from bitdustfs.net.lan.nearby import NobodyNear, listening_nearby
from bitdustfs.net.line import OwnLine
from bitdustfs.net.metered import Metered
from bitdustfs.vault.account import lost_at_the_end
from bitdustfs.vault.assemble import family_kept, open_vault
from bitdustfs.vault.following import FollowingVault
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.settings import Settings
from bitdustfs.vault.vaults import WaitingVault, WritableVault

log = logging.getLogger(__name__)

COUNT_WITHIN = 2.0  #: seconds that a mount without suppliers waits for how much is here

Ready = Callable[[str], None]  #: the mount works; called with a warning or ""
TellWait = Callable[[str], None]  #: told what the mount waits for before it works
Announcer = Callable[[ReadVault], Announcing]
Aside = tuple[str, Callable[[], Awaitable[None]]]  #: what it does, for the log; and its function


async def run_mount(options: MountOptions, key: VaultKey, ready: Ready, tell: TellWait) -> None:
    """Mounts, calls `ready`, returns when the mount ended and all is settled.

    `tell` hears what is waited for before.

    Raises UsageError, Unavailable, LeaseHeld, LocalError when it cannot be mounted.
    """
    lock_vault_key(key)  # here: a forked child has no locks of its parent
    folder = await take_state_folder(key.vault_id, tell)
    try:
        async with trio.open_nursery() as network:
            addresses = [*options.bootstrap, *known_addresses(key.vault_id)]
            line, metered = OwnLine(options.bandwidth), Metered(options.metered)
            network.start_soon(metered.run)
            near = await listening_nearby(network) if options.lan else NobodyNear()
            throttle = Throttle(metered=metered)
            ways = Ways(
                key, addresses, network, recall(folder), line=line, make_way=throttle.make_way,
                near=near,
            )  # fmt: skip
            family = await _find_family(ways, key, folder)
            settings = Settings(
                options.read_only, options.take_over, cache_limit=options.cache,
                audits=options.audits, witness=True,
                is_own=ways.is_own, metered=metered, throttle=throttle,
            )  # fmt: skip
            async with (
                open_vault(folder, key, suite(), family, ways.connect, settings) as vault,
                trio.open_nursery() as beside,
            ):
                beside.start_soon(
                    vault.aside, "remembering addresses",
                    partial(keep_remembering, ways, vault.state),
                )  # fmt: skip
                beside.start_soon(
                    vault.aside, "asking suppliers how they are reached",
                    partial(keep_hearing, ways),
                )  # fmt: skip
                remember_addresses(vault.known.family)
                await _ensure_root(vault)
                leave_out_what_stays()

                def announcing(vault: ReadVault) -> Announcing:
                    return Announcing(key, vault, ways.seeker, suite())

                shown = await vault.as_of(options.at) if options.at else vault
                await Mount(options, key, shown, announcing, line, metered).run(ready)
                beside.cancel_scope.cancel()
            network.cancel_scope.cancel()
    finally:
        folder.close()


async def _find_family(ways: Ways, key: VaultKey, folder: OwnedFolder) -> Family:
    """Who keeps the vault; where nobody answers, as this machine heard last. Raises Unavailable."""
    try:
        return (await ways.find_family()).family
    except Unavailable as error:
        family = family_kept(folder, key, suite())
        if family is None:
            raise
        log.info("%s; going on with what this machine has", error)
        return family


async def _ensure_root(vault: ReadVault) -> None:
    has_root = await vault.volume.tree.run(lambda tx: tx.get(inode_key(ROOT_INODE)) is not None)
    if not has_root:  # in a mount that only looks it stays in memory: an empty folder
        await vault.volume.make_root(Caller(os.getuid(), os.getgid()))


@dataclass(frozen=True)
class Serving:
    """What a mount does with one open vault. `aside`: what else runs meanwhile."""

    vault: ReadVault
    answers: MountAnswers
    settling: ReadSettling
    aside: Sequence[Aside] = ()


class Mount:
    """An open vault, attached to a mountpoint. One that waits becomes writable when it may be."""

    def __init__(
        self,
        options: MountOptions,
        key: VaultKey,
        vault: ReadVault,
        announcing: Announcer,
        line: OwnLine,
        metered: Metered,
    ) -> None:
        self._options, self._key, self._vault = options, key, vault
        self._announcing, self._line, self._metered = announcing, line, metered
        self._operations = _operations_of(vault, options)
        # one that waits is not read-only for the kernel, which could not be told otherwise
        looks = vault.read_only and not isinstance(vault, WaitingVault)
        self._attachment = Attachment(options, key.vault_id, self._operations, looks)
        self._farewell, self._socket = Farewell(), socket_path(options.mountpoint)
        self._reload = MountReload(options)
        self._serving = self._serving_of(vault)
        self._served = trio.Event()
        self._later = LaterEnd()

    def _serving_of(self, vault: ReadVault) -> Serving:
        if isinstance(vault, WritableVault):
            return self._writing(vault)
        describer = Describer(self._key, vault, self._line)
        answers = MountAnswers(vault, describer, self._attachment, self._farewell)
        aside: tuple[Aside, ...] = ()
        if isinstance(vault, FollowingVault):
            kernel = KernelCache(self._operations)
            aside = (
                ("following the vault", partial(vault.follow, kernel)),
                ("telling the kernel what is new", kernel.run),
            )
        return Serving(vault, answers, ReadSettling(vault), aside)

    def _writing(self, vault: WritableVault) -> Serving:
        vault.set_limits(self._reload.options.cache, self._reload.options.audits)
        staffing = Staffing(self._key, vault)
        describer = WritableDescriber(self._key, vault, staffing, self._line)
        answers = WritableMountAnswers(vault, describer, staffing, self._attachment, self._farewell)
        aside = (
            ("replacing suppliers", partial(vault.pen.once_confirmed, staffing.run)),
            ("reckoning what may be lost", Foresight(vault).run),
        )
        settling = Settling(vault, staffing, self._farewell.hurry)
        return Serving(vault, answers, settling, aside)

    async def run(self, ready: Ready) -> None:
        """Until the mountpoint is taken away and everything is settled."""
        self._attachment.attach()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(listening.serve, self._socket, MOUNT_COMMANDS, self._answer)
                await nursery.start(self._attachment.end_on_signals)
                await nursery.start(self._reload_on_signals)
                self._start_aside(nursery, self._vault, self._serving)
                if isinstance(self._vault, WaitingVault):
                    nursery.start_soon(self._write_later, self._vault)
                nursery.start_soon(self._say_ready, ready)
                await self._attachment.serve()
                self._served.set()
                notify.stopping("publishing what is not published yet")
                with trio.CancelScope(shield=True):
                    await self._farewell.tell(await self._end())
                nursery.cancel_scope.cancel()
        finally:
            self._attachment.close()

    async def _reload_on_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """SIGHUP: reads config.toml again, and opens its log again. Runs until cancelled."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                notify.reloading()
                self._reload.reread(self._apply)
                notify.ready(await self._verdict())

    def _apply(self, options: MountOptions) -> None:
        self._line.change(options.bandwidth)
        self._metered.heed(options.metered)
        if isinstance(self._serving.vault, WritableVault):
            self._serving.vault.set_limits(options.cache, options.audits)

    async def _say_ready(self, ready: Ready) -> None:
        """Commands are listened to; once files can be had as well, the mount works."""
        await self._attachment.wait_served()
        await self._serving.vault.offline.wait_looked(COUNT_WITHIN)
        account = await self._serving.vault.account()
        ready(account.on_mount())
        notify.ready(account.verdict())
        await self._vault.aside("telling the service manager", partial(keep_told, self._verdict))

    async def _verdict(self) -> str:
        return (await self._serving.vault.account()).verdict()

    async def _answer(self, command: MountCommand, say: Say) -> Statement:
        return await self._serving.answers.answer(command, say)

    def _start_aside(self, nursery: trio.Nursery, vault: ReadVault, serving: Serving) -> None:
        announcing = self._announcing(vault).run
        if isinstance(vault, WritableVault):  # what the DHT bears witness of is asked after a claim
            announcing = partial(vault.pen.once_confirmed, announcing)
        nursery.start_soon(vault.aside, "talking to the DHT", announcing)
        for what, task in serving.aside:
            nursery.start_soon(vault.aside, what, task)

    async def _end(self) -> Ended:
        if self._later.began:
            return await self._later.wait()
        return await self._serving.settling.settle()

    async def _write_later(self, waiting: WaitingVault) -> None:
        """From when the vault may be written until the mount has ended."""
        ended = Ended(message=lost_at_the_end("the mount was interrupted"))
        try:
            async with waiting.writable() as vault, trio.open_nursery() as nursery:
                ended = await self._write(vault, nursery)
                nursery.cancel_scope.cancel()
        except Superseded as error:
            log.warning("%s", error)
            waiting.warn(str(error))
        finally:
            self._later.end(ended)

    async def _write(self, vault: WritableVault, nursery: trio.Nursery) -> Ended:
        self._later.begin()
        with trio.CancelScope(shield=True):  # its end is waited for
            await _ensure_root(vault)
            assert isinstance(self._operations, WritableOperations)
            self._operations.show(vault, durability(vault, self._options.published).wait)
            self._serving = self._writing(vault)
            self._start_aside(nursery, vault, self._serving)
            log.info("enough suppliers answer: the mount is writable now")
            await self._served.wait()
            ended = await self._serving.settling.settle()
        return ended


def _operations_of(vault: ReadVault, options: MountOptions) -> Operations:
    if isinstance(vault, WritableVault):
        operations = WritableOperations(vault, options.owner)
        operations.show(vault, durability(vault, options.published).wait)
        return operations
    kind = WritableOperations if isinstance(vault, WaitingVault) else Operations
    return kind(vault, options.owner)


class LaterEnd:
    """How a vault ended that was opened for writing while it was mounted."""

    def __init__(self) -> None:
        self._ended = Ended(message="")
        self._over = trio.Event()
        self.began = False

    def begin(self) -> None:
        """It is open."""
        self.began = True

    def end(self, ended: Ended) -> None:
        """It is closed."""
        self._ended = ended
        self._over.set()

    async def wait(self) -> Ended:
        """How it ended, once it is closed."""
        await self._over.wait()
        return self._ended
