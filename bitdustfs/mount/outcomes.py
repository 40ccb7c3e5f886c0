"""What came of a command, in sentences: the same on a terminal and on the page."""

import time

from bitdustfs.mount.statements import RebuildOutcome, Replaced, SnapshotMade, VerifyOutcome
from bitdustfs.units import format_size


def name_by_time(now: float) -> str:
    """What a snapshot is called that was given no name. `now`: Unix seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


def rebuilt(outcome: RebuildOutcome) -> list[str]:
    """Of `rebuild`."""
    said = [
        f"{outcome.placed} fragments were made again, {outcome.replaced} suppliers replaced; "
        f"{outcome.safety}"
    ]
    if outcome.incomplete:
        said.append(
            f"some suppliers still lack their share of {outcome.incomplete} blocks: those that "
            "come back get it by themselves; one that is gone has to be replaced"
        )
    if outcome.waiting:
        said.append(f"{outcome.waiting} blocks wait until more of their suppliers are back")
    if outcome.lost:
        said.append(f"{outcome.lost} blocks are lost: nobody has enough of them to make them again")
    return said + list(filter(None, [outcome.failure]))


def verified(outcome: VerifyOutcome) -> list[str]:
    """Of `verify`; what follows from it comes last."""
    said = [
        f"{outcome.inodes} files and folders in {outcome.blocks} blocks were looked at; "
        f"{outcome.extents_checked} pieces here and {outcome.chunks_checked} at suppliers "
        "were checked"
    ]
    if outcome.snapshots:
        said.append(f"{outcome.snapshots} snapshots were walked")
    if outcome.margin is not None and outcome.margin >= 0:
        said.append(
            f"every block that is at suppliers would survive the loss of {outcome.margin} more of "
            "those that answer"
        )
    if outcome.unsent:
        said.append(f"{outcome.unsent} blocks are only on this machine as yet")
    said += [f"fault: {sentence}" for sentence in outcome.faults]
    if outcome.more_faults:
        said.append(f"and {outcome.more_faults} more faults")
    said += [f"not looked at: {sentence}" for sentence in outcome.unseen]
    return [*said, *outcome.proved, *outcome.owed, outcome.verdict]


def snapshot_made(made: SnapshotMade) -> str:
    """Of `snapshot create`."""
    if made.left:
        return (
            f"snapshot {made.name} is kept on this machine only, and published later: {made.left}"
        )
    return f"snapshot {made.name} is made and published"


def replaced(position: int, done: Replaced) -> str:
    """Of `supplier replace`, where another one took the position."""
    return f"position {position} has another supplier; {format_size(done.bytes)} were sent to it"
