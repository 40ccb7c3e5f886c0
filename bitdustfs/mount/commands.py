"""What a mount can be asked: one struct a command. What it answers is in statements.py.

How they travel says net/control.py.
"""

from typing import Annotated

import msgspec

from bitdustfs.net.control import Command, Commands

STALL = 30.0  #: seconds without any progress, with too few suppliers, after which sync gives up

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 60)]
SnapshotName = Annotated[str, msgspec.Meta(max_length=1024)]
InodeNumber = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
PathSaid = Annotated[str, msgspec.Meta(max_length=8192)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class AskStatus(Command, frozen=True, kw_only=True, tag="status"):
    """Answered by Status."""


class AskSuppliers(Command, frozen=True, kw_only=True, tag="suppliers"):
    """Answered by Suppliers."""


class Sync(Command, frozen=True, kw_only=True, tag="sync"):
    """Publish all that was written before. Answered by Synced.

    `patience`: seconds without progress, with too few suppliers, after which it fails. `within`:
    seconds after which it is answered anyway.
    """

    patience: Seconds = STALL
    within: Seconds | None = None


class Keep(Command, frozen=True, kw_only=True, tag="keep"):
    """Have all that was written before on this machine's disk. Answered by Completed."""


class Turn(Command, frozen=True, kw_only=True, tag="turn"):
    """Remounting. `read_only`: programs cannot write any more; have all of it on this disk. Else:
    may they write? Answered by Completed.
    """

    read_only: bool


class Replace(Command, frozen=True, kw_only=True, tag="replace"):
    """Give a position to another supplier. Answered by Replaced.

    `address`: of the new supplier; "" has one found in the network. `own`: it may be on this
    machine. `tokens`: by which it invited the owner. `node`: the key of the supplier that is meant;
    where the position has another one, nothing is done. "": whoever has it.
    """

    position: int
    address: str = ""
    own: bool = False
    tokens: tuple[str, ...] = ()
    node: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")] = ""


class AskGone(Command, frozen=True, kw_only=True, tag="gone"):
    """Who counts as gone, of the family or of one before? Answered by GoneSuppliers."""


class Forgive(Command, frozen=True, kw_only=True, tag="forgive"):
    """A supplier that counts as gone was judged wrongly. Answered by Forgiven.

    `supplier`: the first hexadecimal digits of its key, or its position.
    """

    supplier: Annotated[str, msgspec.Meta(max_length=64)]


class Rebuild(Command, frozen=True, kw_only=True, tag="rebuild"):
    """Make now what is missing, and replace whoever is due. Answered by RebuildOutcome."""


class AskMap(Command, frozen=True, kw_only=True, tag="map"):
    """Which suppliers have which blocks. Answered by BlockMap."""


class AskRisk(Command, frozen=True, kw_only=True, tag="risk"):
    """How likely is it that anything is lost? Reckoned now, which takes seconds. Answered by
    RiskSaid.
    """


class AskPolicy(Command, frozen=True, kw_only=True, tag="policy"):
    """What the family's policy is. Answered by PolicySaid."""


class SetPolicy(Command, frozen=True, kw_only=True, tag="set"):
    """Change some words of the family's policy (core/policy.py). Answered by Completed."""

    words: dict[str, int]


class SetSpace(Command, frozen=True, kw_only=True, tag="space"):
    """Make the vault one of `size` bytes. Answered by Resized.

    `tokens`: by which suppliers invited the owner to more.
    """

    size: Size
    tokens: tuple[str, ...] = ()


class Verify(Command, frozen=True, kw_only=True, tag="verify"):
    """Check tree, local copies and fragments. Answered by VerifyOutcome.

    `local`: only what is on this machine. `sample`: share of the fragments' chunks that is fetched.
    """

    local: bool = False
    sample: Share = 1.0


class AskSnapshots(Command, frozen=True, kw_only=True, tag="snapshots"):
    """Which snapshots are kept. Answered by SnapshotList."""


class AskSchedule(Command, frozen=True, kw_only=True, tag="schedule"):
    """When snapshots are made by themselves. Answered by ScheduleSaid. SetPolicy changes it."""


class MakeSnapshot(Command, frozen=True, kw_only=True, tag="snapshot"):
    """Keep the vault as it is now under a name. Answered by SnapshotMade.

    What the kernel holds of it was handed over before. `patience`: as of Sync.
    """

    name: SnapshotName
    patience: Seconds = STALL


class DropSnapshot(Command, frozen=True, kw_only=True, tag="drop-snapshot"):
    """Keep a snapshot no more. Answered by SnapshotDropped. `patience`: as of Sync."""

    name: SnapshotName
    patience: Seconds = STALL


class Pin(Command, frozen=True, kw_only=True, tag="pin"):
    """Keep an inode, and what is below it, on this machine. Answered by PinsSaid.

    `path`: how it is called, from the mountpoint on. `wait`: until it is here, as far as it can be
    had now.
    """

    inode: InodeNumber
    path: PathSaid = ""
    wait: bool = True


class Unpin(Command, frozen=True, kw_only=True, tag="unpin"):
    """Do so no more. Answered by PinsSaid. `inode` 0: what was pinned by `path`; it is gone."""

    inode: InodeNumber = 0
    path: PathSaid = ""


class AskPins(Command, frozen=True, kw_only=True, tag="pins"):
    """What is kept on this machine so, and how much of it is here. Answered by PinsSaid."""


class WaitEnd(Command, frozen=True, kw_only=True, tag="wait-end"):
    """Say when the mount has ended. Answered by a Progress at once, and by Ended at the end.

    `now`: it is not to publish any more then.
    """

    now: bool = False


class Unmounted(Command, frozen=True, kw_only=True, tag="unmounted"):
    """The mountpoint was taken away: end, also where the kernel is silent. Answered by
    Completed.
    """


MountCommand = (
    AskStatus | AskSuppliers | AskGone | AskPolicy | Forgive | Sync | Keep | Turn | Replace
    | Rebuild | SetPolicy | SetSpace | Verify | AskSnapshots | AskSchedule | MakeSnapshot
    | DropSnapshot | AskMap | AskRisk | Pin | Unpin | AskPins
    | WaitEnd | Unmounted
)  # fmt: skip

MOUNT_COMMANDS: Commands[MountCommand] = Commands(MountCommand)
