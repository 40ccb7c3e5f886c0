"""`bitdust unmount`: publish, then unmount; returns when all is safe."""

import argparse

from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import say_named, say_verdict
from bitdustfs.cli.progress import progress_bar
from bitdustfs.errors import BitdustError
from bitdustfs.mount.unmount import unmount


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser, whole=True)
    parser.set_defaults(run=run_unmount)


def run_unmount(args: argparse.Namespace) -> int:
    """Exit code 0: all that this machine wrote is published; 1: it is not, or the mount stays, and
    it is said which.
    """
    with progress_bar("publishing", "block") as show:
        done = unmount(args.mountpoint, show)
    mountpoint = done.mountpoint
    what = "was a dead mount; it is cleared away" if done.was_dead else "is unmounted"
    if done.verdict:
        say_verdict(done.verdict)
    if done.trouble:
        raise BitdustError(f"{mountpoint} {what}, but {done.trouble}")
    say_named(f"{mountpoint} {what} {done.said}")
    return 0
