"""`bitdust pin`, `unpin` and `pins`: folders that this machine keeps, to be read without a network.

A pin is about this machine only. It follows the folder when that is renamed, and takes in what is
put there later.
"""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import say_named
from bitdustfs.cli.progress import progress_bar
from bitdustfs.errors import UsageError
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.mountpoint import attached_unasked, mountpoint_of
from bitdustfs.mount.statements import PinLine
from bitdustfs.plain import say
from bitdustfs.units import format_size

SNAPSHOTS = ".snapshots"


class PinTarget(NamedTuple):
    """`inside`: its path from the mountpoint on; `inode`: 0 where it is not there."""

    mount: MountClient
    inode: int
    inside: str


def add_pin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a folder or file in a mount")
    parser.add_argument(
        "--no-wait", action="store_true", help="return at once; it is fetched in the background"
    )
    add_json(parser)
    parser.set_defaults(run=run_pin)


def add_unpin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a folder or file in a mount that is pinned")
    add_json(parser)
    parser.set_defaults(run=run_unpin)


def add_pins(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser)
    add_json(parser)
    parser.set_defaults(run=run_pins)


def run_pin(args: argparse.Namespace) -> int:
    """Exit code 0: all of it is here, or nobody waits for that; 3: it is not."""
    target = _target(args.path)
    if not target.inode:
        raise UsageError(f"{args.path} is not there")
    with progress_bar("pinning", "B") as show:
        said = target.mount.pin(target.inode, target.inside, not args.no_wait, show)
    [line] = [each for each in said.pins if each.inode == target.inode]
    if args.json:
        say_json(line)
    else:
        say_named(f"{args.path} is pinned: {_here(line)}")
        if said.why and not line.complete:
            say_named(said.why)
    return Exit.DONE if line.complete or args.no_wait else Exit.FAULTS


def run_unpin(args: argparse.Namespace) -> int:
    target = _target(args.path)
    said = target.mount.unpin(target.inode, target.inside)
    if args.json:
        say_json(said)
    else:
        say_named(f"{args.path} is not pinned any more; it is here while the cache has room")
    return Exit.DONE


def run_pins(args: argparse.Namespace) -> int:
    said = MountClient(args.mountpoint).pins()
    if args.json:
        say_json(said)
        return Exit.DONE
    for sentence in pin_sentences(said.pins, said.why):
        say_named(sentence)
    if not said.pins:
        say("nothing is pinned: bitdust pin PATH keeps a folder on this machine")
    return Exit.DONE


def pin_sentences(pins: list[PinLine], why: str) -> list[str]:
    """One a pin, and why not all is here."""
    lines = [f"pinned: {line.path or 'the whole vault'}, {_here(line)}" for line in pins]
    return [*lines, why] if why else lines


def _here(line: PinLine) -> str:
    if not line.files:
        return "not looked at yet, or not there any more"
    if line.complete:
        what = "file or folder" if line.files == 1 else "files and folders"
        return f"{line.files} {what}, {format_size(line.bytes)}, all here"
    return (
        f"{line.files_here} of {line.files} files and folders, {format_size(line.bytes_here)} of "
        f"{format_size(line.bytes)} here"
    )


def _target(path: Path) -> PinTarget:
    """Raises UsageError where no mount is, and for what is in a snapshot."""
    absolute = Path(os.path.abspath(path))
    if absolute not in attached_unasked():
        absolute = Path(os.path.realpath(absolute.parent)) / absolute.name
    mountpoint = mountpoint_of(absolute)
    if not absolute.is_relative_to(mountpoint):
        raise UsageError(f"{path} is no file or folder in a mount")
    inside = absolute.relative_to(mountpoint)
    if inside.parts[:1] == (SNAPSHOTS,):
        raise UsageError(
            f"{path} is in a snapshot: what a snapshot keeps cannot be pinned; copy it out of there"
        )
    try:
        inode = absolute.lstat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        inode = 0
    said = os.fsencode("" if not inside.parts else str(inside)).decode(errors="replace")
    return PinTarget(MountClient(mountpoint), inode, said)
