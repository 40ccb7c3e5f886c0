"""The process behind a mount: what it is made of, and in which order it begins and ends.

state folder -> the family, by any address -> the vault opened -> FUSE -> commands answered
the mountpoint is taken away -> settled -> whoever waits is told -> the vault closed
"""

import os
from collections.abc import Awaitable, Callable, Sequence

import trio

from bitdustfs.cache.machine import known_addresses, remember_addresses
from bitdustfs.core.items import ROOT_INODE, inode_key
from bitdustfs.core.keys import VaultKey
from bitdustfs.family.find import connector, find_family, owner_credentials
from bitdustfs.family.own import on_this_machine
from bitdustfs.family.staffing import Staffing
from bitdustfs.fs.volume import Caller
from bitdustfs.fuse.operations import Operations, WritableOperations
from bitdustfs.mount.announcing import Announcing
from bitdustfs.mount.answers import MountAnswers, WritableMountAnswers
from bitdustfs.mount.attachment import Attachment
from bitdustfs.mount.commands import MOUNT_COMMANDS
from bitdustfs.mount.cpu import suite
from bitdustfs.mount.durability import durability
from bitdustfs.mount.ending import Farewell, ReadSettling, Settling
from bitdustfs.mount.mountpoint import socket_path
from bitdustfs.mount.options import MountOptions
from bitdustfs.mount.statefolder import take_state_folder
from bitdustfs.mount.status import Describer, WritableDescriber
from bitdustfs.net import control
from bitdustfs.vault.assemble import open_vault
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.settings import Settings
from bitdustfs.vault.vaults import WritableVault

Ready = Callable[[str], None]  #: the mount works; called with a warning or ""


async def run_mount(options: MountOptions, key: VaultKey, ready: Ready) -> None:
    """Mounts, calls `ready`, returns when the mount ended and all is settled.

    Raises UsageError, Unavailable, LeaseHeld, LocalError when it cannot be mounted.
    """
    folder = await take_state_folder(key.vault_id)
    try:
        async with trio.open_nursery() as network:
            credentials = owner_credentials(key)
            addresses = [*options.bootstrap, *known_addresses(key.vault_id)]
            known = await find_family(key, addresses, credentials, network)
            connect = connector(credentials, network)
            settings = Settings(
                options.read_only, options.take_over, cache_limit=options.cache, witness=True,
                is_own=on_this_machine,
            )  # fmt: skip
            async with open_vault(folder, key, suite(), known.family, connect, settings) as vault:
                remember_addresses(vault.known.family)
                await _ensure_root(vault)
                announcing = Announcing(key, vault, addresses, suite())
                network.start_soon(vault.aside, "talking to the DHT", announcing.run)
                await _mount_of(options, key, vault).run(ready)
            network.cancel_scope.cancel()
    finally:
        folder.close()


async def _ensure_root(vault: ReadVault) -> None:
    has_root = await vault.volume.tree.run(lambda tx: tx.get(inode_key(ROOT_INODE)) is not None)
    if not has_root:  # in a mount that only looks it stays in memory: an empty folder
        await vault.volume.make_root(Caller(os.getuid(), os.getgid()))


def _mount_of(options: MountOptions, key: VaultKey, vault: ReadVault) -> "Mount":
    """The mount that fits what was opened."""
    if isinstance(vault, WritableVault):
        return _writable_mount(options, key, vault)
    attachment, farewell = Attachment(options, key.vault_id, Operations(vault), True), Farewell()
    answers = MountAnswers(vault, Describer(key, vault), attachment, farewell)
    return Mount(options, vault, attachment, answers, ReadSettling(vault), farewell, ())


def _writable_mount(options: MountOptions, key: VaultKey, vault: WritableVault) -> "Mount":
    staffing, farewell = Staffing(key, vault), Farewell()
    operations = WritableOperations(vault, durability(vault, options.published).wait)
    attachment = Attachment(options, key.vault_id, operations, vault.read_only)
    describer = WritableDescriber(key, vault, staffing)
    answers = WritableMountAnswers(vault, describer, staffing, attachment, farewell)
    settling = Settling(vault, staffing)
    aside = (("replacing suppliers", staffing.run),)
    return Mount(options, vault, attachment, answers, settling, farewell, aside)


class Mount:
    """One open vault, attached to a mountpoint. `aside`: what else runs meanwhile."""

    def __init__(
        self,
        options: MountOptions,
        vault: ReadVault,
        attachment: Attachment,
        answers: MountAnswers,
        settling: ReadSettling,
        farewell: Farewell,
        aside: Sequence[tuple[str, Callable[[], Awaitable[None]]]],
    ) -> None:
        self._vault, self._attachment, self._answers = vault, attachment, answers
        self._settling, self._farewell, self._aside = settling, farewell, aside
        self._socket = socket_path(options.mountpoint)

    async def run(self, ready: Ready) -> None:
        """Until the mountpoint is taken away and everything is settled."""
        self._attachment.attach()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    control.serve, self._socket, MOUNT_COMMANDS, self._answers.answer
                )
                await nursery.start(self._attachment.end_on_signals)
                for what, task in self._aside:
                    nursery.start_soon(self._vault.aside, what, task)
                ready((await self._vault.account()).on_mount())
                await self._attachment.serve()
                with trio.CancelScope(shield=True):
                    await self._farewell.tell(await self._settling.settle())
                nursery.cancel_scope.cancel()
        finally:
            self._attachment.close()
