"""Ending a mount from outside: publish, take the mountpoint away, hear how it ended."""

import math
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.mount.client import MountClient, Onlooker
from bitdustfs.mount.mountpoint import (
    check_ours,
    is_dead,
    mountpoint_of,
    sync_filesystem,
    take_away,
)
from bitdustfs.mount.statements import Ended
from bitdustfs.net.control import Progress
from bitdustfs.vault.account import ENDED_BY_DEATH, left_by_the_dead

SAY_AFTER = 4.0  #: seconds after which it is said how long publishing takes, if that is known
SAY_LATEST = 15.0  #: seconds after which it is said what is left
ASK_EVERY = 2.0  #: seconds between questions whether it is known
SHORT_PATIENCE = 5.0  #: seconds without progress that the sync before it may take


def _unheard(sentence: str) -> None:
    """Nobody listens."""


class Unmounting(NamedTuple):
    """How it went. `trouble`: what is not published and why; "" where all is: `said` says so."""

    mountpoint: Path
    was_dead: bool
    trouble: str
    said: str
    verdict: str = ""  #: is my data safe now?


def unmount(
    named: Path | None, watch: Onlooker, tell: Callable[[str], None] = _unheard, now: bool = False
) -> Unmounting:
    """Unmounts, whatever could be published; a dead mount is cleared away.

    `named`: the mountpoint itself; None: the only one.

    `watch` hears of the publishing; `tell` a sentence where that takes its time: what is left, and
    what can be done. `now`: nobody waits for suppliers; this machine keeps what they have not.

    Raises UsageError when no mount of a vault is there, dead or
    alive, LocalError when the mountpoint is in use, and BitdustError when this machine's disk does
    not take what is in memory: it would be lost with the mount.
    """
    mountpoint = mountpoint_of(named)
    if named is not None and mountpoint != Path(os.path.realpath(named)):
        typed = shlex.quote(str(mountpoint))
        raise UsageError(f"{named} lies in the mount at {mountpoint}: bitdust unmount {typed}")
    if is_dead(mountpoint):
        check_ours(mountpoint)
        take_away(mountpoint, lazily=True)
        return _end_of_the_dead(mountpoint)
    mount = MountClient(mountpoint)
    try:
        if not now:
            mount.sync(_Patient(mount, mountpoint, watch, tell), SHORT_PATIENCE)
    except UsageError:
        raise
    except BitdustError:  # the mount tries once more when it ends, and then says how it went
        _keep(mount, mountpoint)
    if now:
        sync_filesystem(mountpoint)
        _keep(mount, mountpoint)
    statements = mount.wait_for_end(now)
    next(statements, None)  # the mount knows that somebody waits
    take_away(mountpoint)
    with suppress(BitdustError, OSError):
        mount.unmounted()  # most have ended already; not where another mount namespace has a copy
    ended = _heard(statements)
    if ended is None:
        lost = "its process ended without saying how; see its log"
        return Unmounting(mountpoint, False, lost, "")
    return Unmounting(mountpoint, False, ended.message, ended.said, ended.verdict)


class _Patient:
    """Passes on how far it is; once it takes long, says how long, and what the choices are."""

    def __init__(
        self, mount: MountClient, mountpoint: Path, watch: Onlooker, tell: Callable[[str], None]
    ) -> None:
        self._mount, self._typed = mount, shlex.quote(str(mountpoint))
        self._watch, self._tell = watch, tell
        self._say_at = time.monotonic() + SAY_AFTER
        self._latest = time.monotonic() + SAY_LATEST

    def __call__(self, progress: Progress) -> None:
        self._watch(progress)
        if time.monotonic() < self._say_at:
            return
        self._say_at = math.inf
        with suppress(BitdustError):  # else it is heard of all the same that it is waited for
            status = self._mount.status()
            if status.seconds_left is None and time.monotonic() < self._latest:
                self._say_at = time.monotonic() + ASK_EVERY  # it has hardly begun
                return
            self._tell(f"{status.verdict}.")
        self._tell(
            "It is waited for. Ctrl-C leaves it mounted, and it goes on; "
            f"bitdust unmount --now {self._typed} leaves the rest to the next mount here"
        )


def _heard(statements: Iterator[Progress | Ended]) -> Ended | None:
    return next((said for said in statements if isinstance(said, Ended)), None)


def _end_of_the_dead(mountpoint: Path) -> Unmounting:
    """Of a mount whose connection to the kernel ended; its process may be publishing still."""
    from bitdustfs.mount.remains import clear_marks  # here: it loads what opens a vault's state

    ended = None
    with suppress(UsageError):
        ended = _heard(MountClient(mountpoint).wait_for_end())
    if ended is not None:
        return Unmounting(mountpoint, True, ended.message, ended.said, ended.verdict)
    trouble = left_by_the_dead(clear_marks(mountpoint))
    return Unmounting(mountpoint, True, trouble, "" if trouble else ENDED_BY_DEATH)


def _keep(mount: MountClient, mountpoint: Path) -> None:
    """Has everything on this machine's disk. Raises BitdustError."""
    try:
        mount.keep()
    except BitdustError as error:
        raise BitdustError(
            f"{mountpoint} stays mounted: what was written last is in memory only, and this "
            f"machine's disk does not take it ({error}). Free some room, then unmount again"
        ) from error
