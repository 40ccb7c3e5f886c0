"""A running mount as a command sees it: one method a command. Each blocks until it is answered."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bitdustfs.errors import Unavailable, UsageError
from bitdustfs.mount import commands
from bitdustfs.mount.commands import STALL, MountCommand
from bitdustfs.mount.mountpoint import is_dead, mountpoint_of, socket_path, sync_filesystem
from bitdustfs.mount.statements import (
    Ended,
    Forgiven,
    GoneSuppliers,
    PinsSaid,
    PolicySaid,
    RebuildOutcome,
    Replaced,
    Resized,
    RiskSaid,
    ScheduleSaid,
    SnapshotDropped,
    SnapshotList,
    SnapshotMade,
    Status,
    Suppliers,
    Synced,
    VerifyOutcome,
)
from bitdustfs.net.control import Completed, Progress, S, ask, converse

ANSWERED_IN = 5.0  #: seconds that a mount or a supplier has for an answer

Onlooker = Callable[[Progress], None]


class MountClient:
    """The mount that `named` means (see mountpoint_of), reached through a socket in this home.

    Raises UsageError when several are meant, or none, or a dead mount is there. Every method raises
    UsageError when no mount runs there, and BitdustError with the mount's own sentence when the
    command failed.
    """

    def __init__(self, named: Path | None) -> None:
        absolute = mountpoint_of(named)
        if is_dead(absolute):
            raise UsageError(
                f"the mount at {absolute} is dead: its process ended; clear it away with "
                f"bitdust unmount {shlex.quote(str(absolute))}, then mount again: what was fsynced "
                "is kept"
            )
        self._mountpoint, self._socket = absolute, socket_path(absolute)
        self._nobody = f"no bitdust mount runs at {absolute} (as seen from this BITDUST_HOME)"

    def _ask(self, command: MountCommand, expected: type[S], watch: Onlooker) -> S:
        return ask(self._socket, self._nobody, command, expected, watch)

    def status(self) -> Status:
        return self._ask(commands.AskStatus(), Status, ignore)

    def risk(self, watch: Onlooker) -> RiskSaid:
        """Reckoned now: it takes seconds."""
        return self._ask(commands.AskRisk(), RiskSaid, watch)

    def suppliers(self) -> Suppliers:
        return self._ask(commands.AskSuppliers(), Suppliers, ignore)

    def sync(self, watch: Onlooker, patience: float = STALL, within: float | None = None) -> Synced:
        """Returns when all that was written before is published. See commands.Sync."""
        return self._ask(commands.Sync(patience=patience, within=within), Synced, watch)

    def keep(self) -> None:
        """Returns when all that was written before is on this machine's disk."""
        self._ask(commands.Keep(), Completed, ignore)

    def turn(self, read_only: bool) -> None:
        """The kernel lets programs write no more, or is to let them write again."""
        self._ask(commands.Turn(read_only=read_only), Completed, ignore)

    def rebuild(self, watch: Onlooker) -> RebuildOutcome:
        return self._ask(commands.Rebuild(), RebuildOutcome, watch)

    def replace(self, asked: commands.Replace, watch: Onlooker) -> Replaced:
        """Returns once the new supplier has everything and the old one is out."""
        return self._ask(asked, Replaced, watch)

    def gone(self) -> GoneSuppliers:
        """Who counts as gone at this mount, and why."""
        return self._ask(commands.AskGone(), GoneSuppliers, ignore)

    def forgive(self, supplier: str) -> Forgiven:
        """`supplier`: see commands.Forgive."""
        return self._ask(commands.Forgive(supplier=supplier), Forgiven, ignore)

    def policy(self) -> PolicySaid:
        return self._ask(commands.AskPolicy(), PolicySaid, ignore)

    def set_policy(self, words: dict[str, int]) -> None:
        self._ask(commands.SetPolicy(words=words), Completed, ignore)

    def set_space(self, size: int, tokens: Sequence[str] = ()) -> Resized:
        """The vault is one of `size` bytes from here on. `tokens`: as for `replace`."""
        command = commands.SetSpace(size=size, tokens=tuple(tokens))
        return self._ask(command, Resized, ignore)

    def verify(self, local: bool, sample: float, watch: Onlooker) -> VerifyOutcome:
        return self._ask(commands.Verify(local=local, sample=sample), VerifyOutcome, watch)

    def snapshots(self) -> SnapshotList:
        return self._ask(commands.AskSnapshots(), SnapshotList, ignore)

    def schedule(self) -> ScheduleSaid:
        return self._ask(commands.AskSchedule(), ScheduleSaid, ignore)

    def make_snapshot(self, name: str, watch: Onlooker) -> SnapshotMade:
        """Of all that programs wrote before the call: the kernel hands it over first."""
        sync_filesystem(self._mountpoint)
        return self._ask(commands.MakeSnapshot(name=name), SnapshotMade, watch)

    def drop_snapshot(self, name: str, watch: Onlooker) -> SnapshotDropped:
        return self._ask(commands.DropSnapshot(name=name), SnapshotDropped, watch)

    def pin(self, inode: int, path: str, wait: bool, watch: Onlooker) -> PinsSaid:
        """An inode and what is below it is kept on this machine. See commands.Pin."""
        return self._ask(commands.Pin(inode=inode, path=path, wait=wait), PinsSaid, watch)

    def unpin(self, inode: int, path: str) -> PinsSaid:
        """Not so any more. See commands.Unpin."""
        return self._ask(commands.Unpin(inode=inode, path=path), PinsSaid, ignore)

    def pins(self) -> PinsSaid:
        return self._ask(commands.AskPins(), PinsSaid, ignore)

    def wait_for_end(self, now: bool = False) -> Iterator[Progress | Ended]:
        """First a Progress: from then on the mount waits for us to hear of its end. Then Ended.

        `now`: nothing is published at the end.
        """
        return converse(self._socket, self._nobody, commands.WaitEnd(now=now), Ended)

    def unmounted(self) -> None:
        """Tells the mount that its mountpoint was taken away."""
        self._ask(commands.Unmounted(), Completed, ignore)


def ignore(progress: Progress) -> None:
    """Nobody watches."""


def status_of(mountpoint: Path) -> Status:
    """What a mount says of itself. Raises as `asked_in_time`."""
    return asked_in_time(mountpoint, commands.AskStatus(), Status)


def asked_in_time(mountpoint: Path, command: MountCommand, expected: type[S]) -> S:
    """A mount's answer to what takes no time. Raises UsageError where none runs, and BitdustError
    where it does not answer, or not within ANSWERED_IN.
    """
    nobody = f"no bitdust mount runs at {mountpoint} (as seen from this BITDUST_HOME)"
    try:
        path = socket_path(mountpoint)
        return ask(path, nobody, command, expected, ignore, ANSWERED_IN)
    except Unavailable as error:
        raise Unavailable(f"the mount at {mountpoint} hangs: {error}") from None
