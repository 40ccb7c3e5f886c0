"""The vault as the kernel shows it at a mountpoint: attached, served, let go."""

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path

import pyfuse3
import trio

from bitdustfs.errors import LocalError
from bitdustfs.fuse.operations import Operations
from bitdustfs.fuse.workers import kept_turns
from bitdustfs.mount.mountpoint import (
    attached_marker,
    ending_marker,
    is_dead,
    sync_filesystem,
    take_away,
)
from bitdustfs.mount.options import MountOptions
from bitdustfs.mount.places import HANDLERS_MAX, ask_for_more, widen

log = logging.getLogger(__name__)

FLUSH_DEADLINE = 60.0  #: seconds that the kernel has to hand over what it holds for a mount


class Attachment:
    """One FUSE session. The order of calls: attach, serve, close (also when serve failed)."""

    def __init__(
        self, options: MountOptions, vault: bytes, operations: Operations, read_only: bool
    ) -> None:
        self._mountpoint = options.mountpoint
        self._fuse_options = fuse_options(options, read_only)
        self._operations = operations
        self._marker, self._ending = attached_marker(vault), ending_marker(vault)
        self._serving = False

    def attach(self) -> None:
        """From here on requests wait to be served. Raises LocalError."""
        self._marker.write_bytes(os.fsencode(self._mountpoint))
        try:
            pyfuse3.init(self._operations, str(self._mountpoint), self._fuse_options)
        except RuntimeError as error:
            self._marker.unlink(missing_ok=True)
            raise LocalError(f"FUSE cannot mount at {self._mountpoint}: {error}") from error
        widen(self._mountpoint)

    async def serve(self) -> None:
        """Answers the kernel until the mountpoint is taken away, or `let_go`."""
        self._serving = True
        try:
            with kept_turns():
                await pyfuse3.main(max_tasks=HANDLERS_MAX)
        finally:
            self._serving = False
            with suppress(FileNotFoundError):
                self._marker.rename(self._ending)

    async def wait_served(self) -> None:
        """Returns once the kernel gets answers here: `serve` runs meanwhile. Raises LocalError."""
        try:
            await trio.to_thread.run_sync(os.stat, self._mountpoint, abandon_on_cancel=True)
        except OSError as error:
            raise LocalError(f"the mount at {self._mountpoint} does not work: {error}") from error
        ask_for_more(self._mountpoint)

    def let_go(self) -> None:
        """Somebody took the mountpoint away: ends `serve` where the kernel does not."""
        if self._serving:
            pyfuse3.terminate()

    async def end_on_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Takes the mountpoint away at SIGTERM and SIGINT. Runs until cancelled."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                log.info("signal %d: unmounting", number)
                await flush_and_take_away(self._mountpoint)
                self.let_go()

    def close(self) -> None:
        """Ends the session; what is still attached is detached.

        A mount that the kernel dropped stays in its table: the marker tells `unmount` whose it was.
        """
        try:
            pyfuse3.close(unmount=True)
        finally:
            self._marker.unlink(missing_ok=True)
            if not is_dead(self._mountpoint):
                self._ending.unlink(missing_ok=True)


def _escaped(word: str) -> str:
    """As a value among libfuse's options, which commas part."""
    return word.replace("\\", "\\\\").replace(",", "\\,")


def fuse_options(options: MountOptions, read_only: bool) -> set[str]:
    """What libfuse and the kernel are told."""
    words = {*pyfuse3.default_options, *options.kernel}
    words |= {f"fsname={_escaped(options.source)}", "subtype=bitdust"}
    words |= {"default_permissions", "noatime"}
    if options.allow_other:
        words.add("allow_other")
    if read_only:
        words.add("ro")
    return words


async def flush_and_take_away(mountpoint: Path) -> None:
    """From inside: has the kernel hand over what programs wrote, then unmounts, in use or not.

    FUSE requests must be answered meanwhile.
    """
    with trio.move_on_after(FLUSH_DEADLINE):
        await trio.to_thread.run_sync(sync_filesystem, mountpoint, abandon_on_cancel=True)
    for lazily in (False, True):
        try:
            await trio.to_thread.run_sync(take_away, mountpoint, lazily, abandon_on_cancel=True)
            return
        except LocalError as error:
            failure = error
    log.warning("the mount could not be taken away: %s", failure)
