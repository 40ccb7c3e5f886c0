"""`bitdust sync`: publish everything written so far; returns when that is done.

What is written after the call is not waited for. `--for 10m` waits for so long; publishing then
goes on by itself. `--once` is for timers: one line, no progress.

Exit code 0: all that this machine wrote is published; 1: it is not, and it is said why; 3: the time
is over, and it is said what is left.
"""

import argparse

from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import say_named
from bitdustfs.cli.periods import parse_period
from bitdustfs.cli.progress import progress_bar
from bitdustfs.mount.client import MountClient, ignore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser)
    parser.add_argument(
        "--for", dest="period", metavar="TIME",
        help="wait for so long, for example 10m (until it is done, or nothing moves)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="for timers: show no progress")
    add_json(parser)
    parser.set_defaults(run=run_sync)


def run_sync(args: argparse.Namespace) -> int:
    within = parse_period(args.period) if args.period else None
    mount = MountClient(args.mountpoint)
    if args.once:
        done = mount.sync(ignore, within=within)
    else:
        with progress_bar("publishing", "block") as show:
            done = mount.sync(show, within=within)
    say_json(done) if args.json else say_named(done.said)
    return Exit.DONE if done.published else Exit.FAULTS
