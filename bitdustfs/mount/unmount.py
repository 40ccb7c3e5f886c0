"""Ending a mount from outside: publish, take the mountpoint away, hear how it ended."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.mount.client import MountClient, Onlooker
from bitdustfs.mount.mountpoint import is_dead, take_away
from bitdustfs.mount.statements import Ended

SHORT_PATIENCE = 5.0  #: seconds without progress that the sync before it may take


class Unmounting(NamedTuple):
    """How it went. `trouble`: why not everything is published, or ""."""

    was_dead: bool
    trouble: str


def unmount(mountpoint: Path, watch: Onlooker) -> Unmounting:
    """Unmounts, whatever could be published; a dead mount is cleared away.

    `watch` hears of the publishing. Raises UsageError when no mount runs there, LocalError when the
    mountpoint is in use.
    """
    if is_dead(mountpoint):
        take_away(mountpoint, lazily=True)
        return Unmounting(True, "")
    mount = MountClient(mountpoint)
    trouble = ""
    try:
        mount.sync(watch, SHORT_PATIENCE)  # the mount tries once more when it ends
    except UsageError:
        raise
    except BitdustError as error:
        trouble = str(error)
    statements = mount.wait_for_end()
    next(statements, None)  # the mount knows that somebody waits
    take_away(mountpoint)
    with suppress(BitdustError, OSError):
        mount.unmounted()  # most have ended already; not where another mount namespace has a copy
    for statement in statements:
        if isinstance(statement, Ended):
            return Unmounting(False, statement.message or trouble)
    return Unmounting(False, trouble or "its process ended without saying how; see its log")
