"""A mount while it runs: opens the vault, attaches it to FUSE, answers the control socket, ends well."""

import ctypes
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyfuse3
import trio

from bitdustfs import config
from bitdustfs.cache.machine import known_addresses, machine_id, remember_addresses
from bitdustfs.core.items import ROOT_INODE, inode_key
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import open_root_untrusted
from bitdustfs.errors import BitdustError, LocalError, StateLocked, Unavailable
from bitdustfs.family.find import (
    connector,
    find_family,
    owner_credentials,
)
from bitdustfs.family.staffing import Staffing
from bitdustfs.fs.volume import Caller
from bitdustfs.fuse.operations import Operations
from bitdustfs.mount.answers import Answers
from bitdustfs.mount.cpu import suite
from bitdustfs.net import control
from bitdustfs.net.dht.discover import ANNOUNCE_EVERY, announce_vault, joined, newest_hint
from bitdustfs.vault.vault import OpenVault, Settings, open_state_folder, open_vault

log = logging.getLogger(__name__)

LAST_PUBLISH = 120.0  #: seconds that the end of a mount waits for suppliers
LAST_ATTEMPT = 15.0  #: the same, when it is known that too few are there
LAST_COPIES = 20.0  #: seconds that it then gives slow suppliers to take their share, too
LAST_RECLAIM = 5.0  #: seconds that it spends on giving space back
LOCK_WAIT = 180.0  #: seconds that a mount waits for this machine's previous one to finish
DURABLE_DEADLINE = 20.0  #: seconds that fsync with durability=published waits for suppliers
DURABLE_AGAIN = 2.0  #: the same, after that was in vain
FLUSH_DEADLINE = (
    60.0  #: seconds that the kernel has to hand over what it holds, when a signal ends a mount
)
HANDLERS_MAX = 20  # libfuse keeps a buffer of 1 MiB for each


@dataclass
class MountOptions:
    """A parsed command line."""

    mountpoint: Path
    key_path: Path | None = None
    bootstrap: list[str] = field(default_factory=list)
    read_only: bool = False
    take_over: bool = False
    allow_other: bool = False
    published: bool = False
    foreground: bool = False
    cache: int | None = None
    kernel: set[str] = field(default_factory=set)  #: mount options that the kernel carries out


async def run_mount(options: MountOptions, key: VaultKey, ready: Callable[[str], None]) -> None:
    """Mounts, calls `ready` with a warning or "", returns when the mount ended and all is settled."""
    folder = await _state_folder(key)
    try:
        async with trio.open_nursery() as network:
            credentials = owner_credentials(key)
            addresses = [*options.bootstrap, *known_addresses(key.vault_id)]
            known = await find_family(key, addresses, credentials, network)
            connect = connector(credentials, network)
            settings = Settings(options.read_only, options.take_over)
            if options.cache is not None:
                settings.cache_limit = options.cache
            async with open_vault(folder, key, suite(), known.family, connect, settings) as vault:
                remember_addresses(vault.known.family)
                await _ensure_root(vault)
                if not vault.read_only:
                    vault.witnessing = trio.Event()
                announce = partial(_announce, key, vault, addresses)
                network.start_soon(vault.aside, "talking to the DHT", announce)
                await _Mounted(options, key, vault).run(ready)
            network.cancel_scope.cancel()
    finally:
        folder.close()


async def _announce(key: VaultKey, vault: OpenVault, addresses: list[str]) -> None:
    """Keeps the vault's DHT record fresh while it is mounted: addresses by hand may be forgotten.

    First it hears what that record bears witness of: a newer root than the suppliers showed.
    """
    members = [a for m in vault.known.family.voters for a in m.addresses]
    async with joined([*addresses, *members][:16]) as dht:
        hint = await newest_hint(dht, key.capability())
        if hint is not None:
            vault.heed_witness(hint.ballot, hint.root_seq)
        if vault.witnessing is not None:
            vault.witnessing.set()
        while not vault.read_only:
            root = open_root_untrusted(vault.state_root(), key.vault_id)
            family, raw = vault.known.family, vault.known.raw_family
            await announce_vault(dht, key, root, family, raw, suite())
            with trio.move_on_after(ANNOUNCE_EVERY):
                await vault.moved.wait()


async def _state_folder(key: VaultKey):  # type: ignore[no-untyped-def]
    """This machine's state, waiting while a mount that has just ended still uploads."""
    give_up = trio.current_time() + LOCK_WAIT
    while True:
        try:
            return open_state_folder(config.home(), key.vault_id, machine_id())
        except StateLocked as error:
            if _mounted_here(key) or trio.current_time() > give_up:
                raise
            log.info("%s; waiting for it to finish", error)
            await trio.sleep(0.2)


def _mounted_here(key: VaultKey) -> bool:
    """Whether a mount of this vault is attached (not merely finishing its uploads)."""
    return (config.home() / "run" / f"{key.vault_id.hex()[:16]}.attached").exists()


async def _ensure_root(vault: OpenVault) -> None:
    has_root = await vault.volume.tree.run(lambda tx: tx.get(inode_key(ROOT_INODE)) is not None)
    if not has_root:  # in a mount that only looks it stays in memory: an empty folder
        await vault.volume.make_root(Caller(os.getuid(), os.getgid()))


class _Mounted:
    """One attached mount."""

    def __init__(self, options: MountOptions, key: VaultKey, vault: OpenVault) -> None:
        self._options, self._key, self._vault = options, key, vault
        self._ended = trio.Event()
        self._settled = trio.Event()
        self._staffing = Staffing(key, vault)
        self._answers = Answers(key, vault, self._staffing)
        self._end_message = ""
        self._patience = DURABLE_DEADLINE
        self._watchers = 0
        self._watchers_gone = trio.Event()
        self._watchers_gone.set()

    async def run(self, ready: Callable[[str], None]) -> None:
        options, vault = self._options, self._vault
        operations = Operations(vault, self._durable)
        fuse_options = set(pyfuse3.default_options)
        fuse_options |= {"fsname=bitdust", "subtype=bitdust", "default_permissions"}
        fuse_options |= options.kernel
        if options.allow_other:
            fuse_options.add("allow_other")
        if vault.read_only:
            fuse_options.add("ro")
        try:
            pyfuse3.init(operations, str(options.mountpoint), fuse_options)
        except RuntimeError as error:
            raise LocalError(f"FUSE cannot mount at {options.mountpoint}: {error}") from error
        attached = config.home() / "run" / f"{self._key.vault_id.hex()[:16]}.attached"
        path = control.socket_path(options.mountpoint)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(control.serve, path, self._control)
                nursery.start_soon(self._wait_for_signal)
                nursery.start_soon(vault.aside, "replacing suppliers", self._staffing.run)
                attached.write_text(str(options.mountpoint))
                nursery.start_soon(_tell, ready, vault.message)
                await pyfuse3.main(max_tasks=HANDLERS_MAX)
                self._ended.set()
                attached.unlink(missing_ok=True)
                with trio.CancelScope(shield=True):
                    await self._settle()
                    await self._vault.release()  # before anybody is told that it has ended
                    self._settled.set()
                    await self._wait_watchers()
                nursery.cancel_scope.cancel()
        finally:
            attached.unlink(missing_ok=True)
            pyfuse3.close(unmount=True)

    async def _wait_for_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("signal %d: unmounting", number)
                await self._detach()
                pyfuse3.terminate()

    async def _detach(self) -> None:
        """Has the kernel hand over what programs wrote, then takes the mount away, in use or not."""
        mountpoint = str(self._options.mountpoint)
        with trio.move_on_after(FLUSH_DEADLINE):
            await trio.to_thread.run_sync(sync_filesystem, mountpoint, abandon_on_cancel=True)
        for how in (["-u"], ["-u", "-z"]):
            command = ["fusermount3", *how, mountpoint]
            done = await trio.run_process(command, check=False, capture_stderr=True)
            if not done.returncode:
                return
        log.warning("the mount could not be taken away: %s", done.stderr.decode().strip())

    async def _durable(self) -> None:
        """What fsync waits for; also after another machine took over, for what was accepted before."""
        if self._vault.publisher is None:
            return
        await self._vault.committer.commit(sync=True)
        if self._options.published:
            with trio.move_on_after(self._patience):
                await self._vault.publish()
                self._patience = DURABLE_DEADLINE
                return
            self._patience = DURABLE_AGAIN  # others need not wait as long, until it works again
            raise Unavailable(
                "not enough suppliers took it in time: it is safe on this machine, and published when they do"
            )

    async def _settle(self) -> None:
        """After the last request: everything to disk, then to the suppliers."""
        if self._vault.publisher is None:
            return
        try:
            await self._vault.committer.commit(sync=True)
            if self._vault.read_only:
                return
            with trio.fail_after(LAST_ATTEMPT if self._vault.too_few() else LAST_PUBLISH):
                await self._vault.publish()
                await self._last_reclaim()
            await self._staffing.settle()
            if self._vault.uploader is not None:
                with trio.move_on_after(LAST_COPIES):
                    await self._vault.uploader.try_all()
        except (BitdustError, trio.TooSlowError) as error:
            self._end_message = (
                f"not everything could be published ({str(error) or self._vault.too_few() or 'suppliers did not answer in time'});"
                " it is kept on this machine and will be published by the next mount here"
            )
            log.warning(self._end_message)

    async def _last_reclaim(self) -> None:
        """Gives back what died since the last look; what that changes is published, too."""
        vault = self._vault
        if vault.reclaimer is not None and vault.publisher is not None:
            with trio.move_on_after(LAST_RECLAIM):
                await vault.reclaimer.step(compact=False)
            if vault.publisher.due or vault.volume.tree.batch:
                await vault.publish()

    async def _wait_watchers(self) -> None:
        """Lets those who wait for the end hear of it."""
        with trio.move_on_after(2):
            await self._watchers_gone.wait()

    # -- control

    async def _control(self, request: control.Request, say: control.Say) -> dict[str, Any]:
        if request.get("verb") == "wait-end":
            self._watchers += 1
            self._watchers_gone = trio.Event()
            try:
                await say({"waiting": True})
                await self._settled.wait()
                return {"ok": not self._end_message, "message": self._end_message}
            finally:
                self._watchers -= 1
                if not self._watchers:
                    self._watchers_gone.set()
        if request.get("verb") == "unmounted":
            if not self._ended.is_set():
                pyfuse3.terminate()
            return {"ok": True}
        return await self._answers.answer(request, say)


def sync_filesystem(path: str) -> None:
    """syncfs(2): returns when the kernel handed over all that it held for this mount."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            log.warning(
                "the kernel could not hand everything over: %s", os.strerror(ctypes.get_errno())
            )
    finally:
        os.close(fd)


async def _tell(ready: Callable[[str], None], message: str) -> None:
    ready(message)
