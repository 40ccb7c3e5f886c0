"""`bitdust rebuild`: make what suppliers lack again, now, and replace those to be replaced."""

import argparse

from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import say_named
from bitdustfs.cli.progress import progress_bar
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.outcomes import rebuilt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser)
    add_json(parser)
    parser.set_defaults(run=run_rebuild)


def run_rebuild(args: argparse.Namespace) -> int:
    """Exit code 0: every supplier has what it should have; 3: some lack something, or something is
    lost.
    """
    with progress_bar("rebuilding", "block") as show:
        outcome = MountClient(args.mountpoint).rebuild(show)
    if args.json:
        say_json(outcome)
    else:
        for sentence in rebuilt(outcome):
            say_named(sentence)
    left = outcome.incomplete or outcome.waiting or outcome.lost or outcome.failure
    return Exit.FAULTS if left else Exit.DONE
