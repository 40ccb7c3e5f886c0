"""This machine's state of a vault, for one mount at a time."""

import logging
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio

from bitdustfs import config
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.machine import machine_id
from bitdustfs.errors import BitdustError, StateLocked
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.mountpoint import attached_marker, ending_marker
from bitdustfs.vault.assemble import open_state_folder

log = logging.getLogger(__name__)

LOCK_WAIT = 180.0  #: seconds that a mount waits for this machine's previous one to finish
LOCK_TICK = 0.2
TELL_EVERY = 5.0  #: seconds between words about what is waited for
TOLD_IN = 3.0  #: seconds in which the previous mount says how far it is


async def take_state_folder(vault: bytes, tell: Callable[[str], None]) -> OwnedFolder:
    """The folder, once a mount that was taken away has uploaded what it had.

    `tell` hears what is waited for, and how far that is. Raises StateLocked while the vault is
    mounted here, or when that takes too long, and StateForeign.
    """
    give_up, told = trio.current_time() + LOCK_WAIT, -math.inf
    while True:
        try:
            return open_state_folder(config.home(), vault, machine_id())
        except StateLocked as error:
            if attached_marker(vault).exists() or trio.current_time() > give_up:
                raise
            if trio.current_time() - told >= TELL_EVERY:
                if told < 0:
                    log.info("%s; waiting for it to finish", error)
                told = trio.current_time()
                tell(f"the previous mount of this vault still uploads; waiting{await _far(vault)}")
        await trio.sleep(LOCK_TICK)


async def _far(vault: bytes) -> str:
    """How far the previous mount is, as it says itself: the end of a sentence."""

    def ask() -> str:
        mountpoint = Path(os.fsdecode(ending_marker(vault).read_bytes()))
        return f": {MountClient(mountpoint).status().verdict}"

    with trio.move_on_after(TOLD_IN), suppress(OSError, BitdustError):
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
    return ""
