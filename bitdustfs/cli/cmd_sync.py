"""`bitdust sync`: publish everything written so far; returns when that is done.

Exit code 0: all that this machine wrote is published; 1: it is not, and it is said why.
"""

import argparse

from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import say_named
from bitdustfs.cli.progress import progress_bar
from bitdustfs.mount.client import MountClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser)
    add_json(parser)
    parser.set_defaults(run=run_sync)


def run_sync(args: argparse.Namespace) -> int:
    with progress_bar("publishing", "block") as show:
        done = MountClient(args.mountpoint).sync(show)
    say_json(done) if args.json else say_named(done.said)
    return 0
