"""`bitdust unmount`: publish, then unmount; returns when all is safe.

If that takes its time, it is said how much is left, how long it takes at this rate, and what can be
done. `--now` does not wait for suppliers: this machine keeps what they have not, and the next mount
here goes on with it.
"""

import argparse

from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import complain_named, say_named, say_verdict
from bitdustfs.cli.progress import progress_bar
from bitdustfs.cli.results import UnmountSaid
from bitdustfs.errors import BitdustError
from bitdustfs.mount.unmount import Unmounting, unmount


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser, whole=True)
    parser.add_argument(
        "--now", action="store_true",
        help="do not wait for suppliers: the next mount here publishes the rest",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=run_unmount)


def run_unmount(args: argparse.Namespace) -> int:
    """Exit code 0: all that this machine wrote is published; 1: it is not, or the mount stays, and
    it is said which.
    """
    with progress_bar("publishing", "block") as show:
        done = unmount(args.mountpoint, show, complain_named, args.now)
    mountpoint = done.mountpoint
    what = "was a dead mount; it is cleared away" if done.was_dead else "is unmounted"
    if args.json:
        say_json(_said(done))
    elif done.verdict:
        say_verdict(done.verdict)
    if done.trouble:
        raise BitdustError(f"{mountpoint} {what}, but {done.trouble}")
    if not args.json:
        say_named(f"{mountpoint} {what} {done.said}")
    return 0


def _said(done: Unmounting) -> UnmountSaid:
    return UnmountSaid(
        mountpoint=str(done.mountpoint),
        dead=done.was_dead,
        published=not done.trouble,
        trouble=done.trouble,
        verdict=done.verdict,
    )
