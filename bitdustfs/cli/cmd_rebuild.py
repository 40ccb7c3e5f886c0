"""`bitdust rebuild`: make what suppliers lack again, now, and replace those to be replaced."""

import argparse

from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import say_named
from bitdustfs.cli.progress import progress_bar
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.statements import RebuildOutcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser)
    add_json(parser)
    parser.set_defaults(run=run_rebuild)


def run_rebuild(args: argparse.Namespace) -> int:
    """Exit code 0: every supplier has what it should have; 3: something still waits."""
    with progress_bar("rebuilding", "block") as show:
        outcome = MountClient(args.mountpoint).rebuild(show)
    say_json(outcome) if args.json else _print_outcome(outcome)
    return 3 if outcome.waiting or outcome.failure else 0


def _print_outcome(outcome: RebuildOutcome) -> None:
    say_named(
        f"{outcome.placed} fragments were made again, {outcome.replaced} suppliers replaced; "
        f"{outcome.safety}"
    )
    if outcome.waiting:
        say_named(f"{outcome.waiting} blocks wait until more of their suppliers are back")
    if outcome.failure:
        say_named(outcome.failure)
