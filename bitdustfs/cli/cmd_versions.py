"""`bitdust versions PATH` and `bitdust undelete PATH`: one file or folder in all snapshots.

They look below .snapshots in the mountpoint, as anybody may.
"""

import argparse
import os
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import msgspec

from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.mountpoint import mountpoint_of
from bitdustfs.plain import say
from bitdustfs.units import format_size


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What a path was, in the last snapshot that shows it so."""

    snapshot: str
    path: str  #: where it is to be seen
    size: int
    modified: float


class Target(NamedTuple):
    """A path in a mount, which need not be there any more: absolute, and from the mountpoint on."""

    path: Path
    mountpoint: Path
    inside: Path


def add_versions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a file or folder in a mount, there or not")
    add_json(parser)
    parser.set_defaults(run=run_versions)


def add_undelete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a file or folder in a mount that is not there")
    parser.add_argument(
        "--from", dest="snapshot", metavar="NAME", help="the snapshot (the last one that has it)"
    )
    parser.set_defaults(run=run_undelete)


def run_versions(args: argparse.Namespace) -> int:
    target = _target(args.path)
    versions = _versions(target)
    if args.json:
        say_json(versions)
        return 0
    if not versions:
        say(f"no snapshot has {args.path}")
    for version in versions:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(version.modified))
        say(f"{when}  {format_size(version.size):>10}  {version.path}")
    return 0


def run_undelete(args: argparse.Namespace) -> int:
    """The path is there again, whole: it is copied beside its place, then renamed."""
    target = _target(args.path)
    if os.path.lexists(target.path):
        again = f"bitdust versions {quote(str(args.path))}"
        raise UsageError(f"{args.path} is there; what it was: {again}")
    found = [v for v in _versions(target, every=True) if args.snapshot in (None, v.snapshot)]
    if not found:
        where = f"snapshot {args.snapshot} does not have" if args.snapshot else "no snapshot has"
        raise UsageError(f"{where} {args.path}")
    version = found[-1]
    if not target.path.parent.is_dir():
        raise UsageError(f"{target.path.parent} is not there; undelete that folder")
    aside = Path(tempfile.mkdtemp(prefix=".undelete-", dir=target.path.parent))
    try:
        copied = aside / target.path.name
        done = subprocess.run(
            ["cp", "-a", "--", version.path, copied], capture_output=True, check=False
        )
        if done.returncode:
            raise LocalError(os.fsdecode(done.stderr).strip() or "cp failed")
        put_in_place(copied, target.path)
    except FileExistsError:
        raise UsageError(f"{args.path} came meanwhile: it stays as it is") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    say(f"{args.path} is there again, as of snapshot {version.snapshot}")
    return 0


def put_in_place(copied: Path, path: Path) -> None:
    """Raises FileExistsError where something is there by now: nothing is replaced."""
    if stat.S_ISDIR(copied.lstat().st_mode):
        path.mkdir()  # a folder may be renamed over an empty one
        copied.rename(path)
    else:
        os.link(copied, path, follow_symlinks=False)


def _target(path: Path) -> Target:
    """Raises UsageError where no mount is."""
    parent = Path(os.path.realpath(path.parent))
    absolute = parent / path.name
    mountpoint = mountpoint_of(parent)
    if not absolute.is_relative_to(mountpoint):
        raise UsageError(f"{path} is no file or folder in a mount")
    return Target(absolute, mountpoint, absolute.relative_to(mountpoint))


def _versions(target: Target, every: bool = False) -> list[Version]:
    """The oldest first; of those that are alike, the last, or `every` one."""
    found: list[Version] = []
    before: tuple[int, ...] = ()
    for line in MountClient(target.mountpoint).snapshots().snapshots:
        path = target.mountpoint / ".snapshots" / line.name / target.inside
        try:
            seen = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            before = ()
            continue
        size = 0 if stat.S_ISDIR(seen.st_mode) else seen.st_size
        version = Version(
            snapshot=line.name, path=str(path), size=size, modified=seen.st_mtime_ns / 1e9
        )
        alike = (seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        if alike == before and not every:
            found[-1] = version
        else:
            found.append(version)
        before = alike
    return found
