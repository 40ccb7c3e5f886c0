"""This machine's state of a vault, for one mount at a time."""

import logging

import trio

from bitdustfs import config
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.machine import machine_id
from bitdustfs.errors import StateLocked
from bitdustfs.mount.mountpoint import attached_marker
from bitdustfs.vault.assemble import open_state_folder

log = logging.getLogger(__name__)

LOCK_WAIT = 180.0  #: seconds that a mount waits for this machine's previous one to finish
LOCK_TICK = 0.2


async def take_state_folder(vault: bytes) -> OwnedFolder:
    """The folder, once a mount that was taken away has uploaded what it had.

    Raises StateLocked while the vault is mounted here, or when that takes too long, and
    StateForeign.
    """
    give_up = trio.current_time() + LOCK_WAIT
    while True:
        try:
            return open_state_folder(config.home(), vault, machine_id())
        except StateLocked as error:
            if attached_marker(vault).exists() or trio.current_time() > give_up:
                raise
            log.info("%s; waiting for it to finish", error)
            await trio.sleep(LOCK_TICK)
