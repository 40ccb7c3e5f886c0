"""`bitdust verify`: is everything there, here and at the suppliers?

Walks the vault's tree, checks this machine's copies, then every fragment at every supplier. Exit
code 0: nothing is wrong; 3: something is, and it is said what; 4: nothing is wrong with what was
looked at, but not everything could be, and it is said what could not.
"""

import argparse

from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import say_named
from bitdustfs.cli.progress import progress_bar
from bitdustfs.errors import UsageError
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.outcomes import verified
from bitdustfs.mount.statements import VerifyOutcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser)
    add_json(parser)
    parser.add_argument("--local", action="store_true", help="only what is on this machine")
    parser.add_argument(
        "--sample", default="100%", metavar="PERCENT",
        help="share of the pieces at suppliers that are fetched and checked (100%%); of the others "
        "it says what audits showed",
    )  # fmt: skip
    parser.set_defaults(run=run_verify)


def parse_share(text: str) -> float:
    """0.05 from "5%". Raises UsageError."""
    try:
        share = float(text.rstrip("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{text!r} is no share; write for example 5%")
    return share


def run_verify(args: argparse.Namespace) -> int:
    share = parse_share(args.sample)
    with progress_bar("verifying") as show:
        outcome = MountClient(args.mountpoint).verify(args.local, share, show)
    if args.json:
        say_json(outcome)
    else:
        for sentence in verified(outcome):
            say_named(sentence)
    return exit_code(outcome)


def exit_code(outcome: VerifyOutcome) -> int:
    """3 for faults, 4 where there are none and something could not be looked at, else 0."""
    if outcome.faults:
        return 3
    return 4 if outcome.unseen else 0
