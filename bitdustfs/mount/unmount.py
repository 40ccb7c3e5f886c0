"""Ending a mount from outside: publish, take the mountpoint away, hear how it ended."""

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.mount.client import MountClient, Onlooker
from bitdustfs.mount.mountpoint import is_dead, mountpoint_of, take_away
from bitdustfs.mount.statements import Ended

SHORT_PATIENCE = 5.0  #: seconds without progress that the sync before it may take


class Unmounting(NamedTuple):
    """How it went. `trouble`: what is not published and why; "" where all is: `said` says so."""

    mountpoint: Path
    was_dead: bool
    trouble: str
    said: str
    verdict: str = ""  #: is my data safe now?


def unmount(named: Path | None, watch: Onlooker) -> Unmounting:
    """Unmounts, whatever could be published; a dead mount is cleared away.

    `named`: the mountpoint itself; None: the only one.

    `watch` hears of the publishing. Raises UsageError when no mount runs there, LocalError when the
    mountpoint is in use, and BitdustError when this machine's disk does not take what is in memory:
    it would be lost with the mount.
    """
    mountpoint = mountpoint_of(named)
    if named is not None and mountpoint != Path(os.path.realpath(named)):
        typed = shlex.quote(str(mountpoint))
        raise UsageError(f"{named} lies in the mount at {mountpoint}: bitdust unmount {typed}")
    if is_dead(mountpoint):
        take_away(mountpoint, lazily=True)
        return Unmounting(mountpoint, True, "", "")
    mount = MountClient(mountpoint)
    try:
        mount.sync(watch, SHORT_PATIENCE)
    except UsageError:
        raise
    except BitdustError:  # the mount tries once more when it ends, and then says how it went
        _keep(mount, mountpoint)
    statements = mount.wait_for_end()
    next(statements, None)  # the mount knows that somebody waits
    take_away(mountpoint)
    with suppress(BitdustError, OSError):
        mount.unmounted()  # most have ended already; not where another mount namespace has a copy
    for statement in statements:
        if isinstance(statement, Ended):
            return Unmounting(
                mountpoint, False, statement.message, statement.said, statement.verdict
            )
    return Unmounting(mountpoint, False, "its process ended without saying how; see its log", "")


def _keep(mount: MountClient, mountpoint: Path) -> None:
    """Has everything on this machine's disk. Raises BitdustError."""
    try:
        mount.keep()
    except BitdustError as error:
        raise BitdustError(
            f"{mountpoint} stays mounted: what was written last is in memory only, and this "
            f"machine's disk does not take it ({error}). Free some room, then unmount again"
        ) from error
