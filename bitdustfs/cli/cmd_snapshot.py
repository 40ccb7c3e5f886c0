"""`bitdust snapshot`: keep a vault as it is now under a name, and look at it later.

Snapshots are shown below .snapshots in the mountpoint, read-only. They cost what was deleted or
written over since.
"""

import argparse
import time
from pathlib import Path

from bitdustfs.cli.answering import add_yes, meant
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint, is_mount_word
from bitdustfs.cli.named import say_named
from bitdustfs.cli.progress import progress_bar
from bitdustfs.cli.schedule_words import (
    HELP,
    WORDS,
    given_up,
    parse_schedule,
    said,
    schedule_lines,
)
from bitdustfs.core.schedule import OFF, schedule_words
from bitdustfs.errors import UsageError
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.outcomes import name_by_time, snapshot_made
from bitdustfs.mount.statements import SnapshotLine
from bitdustfs.plain import say
from bitdustfs.units import format_size

NAMED = "the mountpoint may be left out where one vault is mounted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    create = verbs.add_parser("create", help="keep all that was written so far under a name")
    create.add_argument(
        "words", nargs="*", metavar="[MOUNTPOINT] [NAME]", help=f"{NAMED}; without NAME: the time"
    )
    add_json(create)
    create.set_defaults(run=run_create)
    listing = verbs.add_parser("list", help="the snapshots, and what deleting each gives back")
    add_mountpoint(listing)
    add_json(listing)
    listing.set_defaults(run=run_list)
    for name, text, run in (
        ("show", "one snapshot: when it was made, what it takes", run_show),
        ("delete", "keep a snapshot no more; what only it refers to is given back", run_delete),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("words", nargs="+", metavar="[MOUNTPOINT] NAME", help=NAMED)
        if run is run_delete:
            add_yes(verb)
        add_json(verb)
        verb.set_defaults(run=run)
    schedule = verbs.add_parser("schedule", help="when they are made by themselves, and kept")
    schedule.add_argument(
        "words", nargs="*", metavar="[MOUNTPOINT] [WORD ...]",
        help=f"{HELP}. Without any it shows the schedule; {NAMED}",
    )  # fmt: skip
    add_json(schedule)
    schedule.set_defaults(run=run_schedule)


def _meant(words: list[str]) -> tuple[MountClient, str]:
    """The mount, and the name behind it, "" for none."""
    words = list(words)
    named = Path(words.pop(0)) if words and (len(words) > 1 or is_mount_word(words[0])) else None
    if len(words) > 1:
        raise UsageError("name one snapshot, behind the mountpoint if that is named")
    return MountClient(named), words[0] if words else ""


def run_create(args: argparse.Namespace) -> int:
    """Exit code 0: it is published; 3: it is only on this machine as yet."""
    mount, name = _meant(args.words)
    name = name or name_by_time(time.time())
    with progress_bar("publishing", "block") as show:
        made = mount.make_snapshot(name, show)
    if args.json:
        say_json(made)
    else:
        say_named(snapshot_made(made))
    return Exit.FAULTS if made.left else Exit.DONE


def run_list(args: argparse.Namespace) -> int:
    found = MountClient(args.mountpoint).snapshots()
    if args.json:
        say_json(found)
        return 0
    if not found.snapshots:
        say("no snapshot is kept")
        return 0
    say(f"{'made':20}  {'size':>10}  {'gives back*':>11}  {'by':8}  name")
    for line in found.snapshots:
        by = "schedule" if line.scheduled else "hand"
        say(f"{_when(line)}  {format_size(line.live):>10}  {_back(line):>11}  {by:8}  {line.name}")
    for sentence in given_up(found.thinned):
        say(sentence)
    if found.held is not None:
        say(f"together they keep {format_size(found.held)} that nothing else refers to")
    say("* an estimate: blocks that no other snapshot needs, as far as was looked at")
    return 0


def run_show(args: argparse.Namespace) -> int:
    line = _one(*_meant(args.words))
    if args.json:
        say_json(line)
        return 0
    say(f"snapshot {line.name}, made {_when(line)}")
    say(f"{line.inodes} files and folders, {format_size(line.live)}")
    if line.gives_back is not None:
        say(f"deleting it gives back about {format_size(line.gives_back)}, or more")
    say(f"to be seen in .snapshots/{line.name}")
    return 0


def _one(mount: MountClient, name: str) -> SnapshotLine:
    for line in mount.snapshots().snapshots:
        if line.name == name:
            return line
    raise UsageError(f"there is no snapshot {name}: bitdust snapshot list shows them")


def run_schedule(args: argparse.Namespace) -> int:
    """Shows or sets it: the vault's family knows of it, and so does each machine from then on."""
    words: list[str] = args.words
    named = words and words[0] not in WORDS and is_mount_word(words[0])
    where = Path(words.pop(0)) if named else None
    parse_schedule(words, OFF)  # a wrong word is said before anybody is asked
    mount = MountClient(where)
    told = mount.schedule()
    if words:
        mount.set_policy(schedule_words(parse_schedule(words, said(told))))
        told = mount.schedule()
    if args.json:
        say_json(told)
        return 0
    for sentence in schedule_lines(said(told)):
        say(sentence)
    return 0


def _loss(line: SnapshotLine) -> str:
    return (
        f"This deletes snapshot {line.name}, made {_when(line)}. What it alone refers to is gone "
        "for good."
    )


def run_delete(args: argparse.Namespace) -> int:
    """Exit code 0: that is published; 3: it is only so on this machine as yet."""
    mount, name = _meant(args.words)
    if not meant(args.yes, _loss(_one(mount, name)), "delete"):
        return Exit.FAILED
    with progress_bar("publishing", "block") as show:
        done = mount.drop_snapshot(name, show)
    if args.json:
        say_json(done)
    elif done.left:
        say_named(f"snapshot {name} is deleted on this machine; published later: {done.left}")
    else:
        say(f"snapshot {name} is deleted; its space comes back in the next minutes")
    return Exit.FAULTS if done.left else Exit.DONE


def _when(line: SnapshotLine) -> str:
    return name_by_time(line.made)


def _back(line: SnapshotLine) -> str:
    return "?" if line.gives_back is None else format_size(line.gives_back)
