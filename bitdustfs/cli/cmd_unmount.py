"""`bitdust unmount`: publish, then unmount; returns when all is safe."""

import argparse
from pathlib import Path

from bitdustfs.cli.progress import progress_bar
from bitdustfs.errors import BitdustError
from bitdustfs.mount.unmount import unmount
from bitdustfs.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mountpoint", type=Path)
    parser.set_defaults(run=run_unmount)


def run_unmount(args: argparse.Namespace) -> int:
    """Exit code 0: all that this machine wrote is published; 1: it is not, or the mount stays, and
    it is said which.
    """
    mountpoint: Path = args.mountpoint
    with progress_bar("publishing", "block") as show:
        done = unmount(mountpoint, show)
    what = "was a dead mount; it is cleared away" if done.was_dead else "is unmounted"
    if done.trouble:
        raise BitdustError(f"{mountpoint} {what}, but {done.trouble}")
    say(f"{mountpoint} {what} {done.said}")
    return 0
