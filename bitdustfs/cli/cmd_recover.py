"""`bitdust vault recover`: a tree again, from blocks alone, when all roots are lost."""

import argparse
from pathlib import Path

import trio

from bitdustfs import config
from bitdustfs.cache.machine import known_addresses, machine_id
from bitdustfs.cli.answering import add_yes, meant
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.results import VaultRecovered
from bitdustfs.errors import UsageError
from bitdustfs.family.recovery import Recovery
from bitdustfs.mount.cpu import suite
from bitdustfs.net.addresses import check_address
from bitdustfs.plain import complain, say
from bitdustfs.vault.recover import Recovered

TEXT = """\
The last resort, when no supplier knows a root of the vault any more. Give the addresses of all
suppliers that kept it, as far as you know them. What their blocks tell is put together to a tree
again and published as a new root; nothing is deleted. If the tree itself is lost, too, files come
back under the paths they had when they were written; files of up to 512 bytes are then lost, and
deleted ones may be back."""
LOSS = """\
This publishes what the blocks tell over the root that suppliers know. What only that root tells is
lost: what was written last, files of up to 512 bytes, and what was deleted may be back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = TEXT
    parser.add_argument("--key", type=Path, help="the key file")
    parser.add_argument(
        "--supplier", action="append", default=[], metavar="HOST:PORT",
        help="a supplier's address (repeatable; those remembered here are asked as well)",
    )  # fmt: skip
    parser.add_argument(
        "--over-root", action="store_true", help="although a root is known that is of no use: it "
        "asks, unless --yes is said",
    )  # fmt: skip
    add_yes(parser)
    add_json(parser)
    parser.set_defaults(run=run_recover)


def run_recover(args: argparse.Namespace) -> int:
    key = load_key(args.key)
    addresses = [check_address(a) for a in args.supplier]
    addresses += [a for a in known_addresses(key.vault_id) if a not in addresses]
    if not addresses:
        raise UsageError("no supplier's address is known here; name them with --supplier")
    if args.over_root and not meant(args.yes, LOSS, "recover"):
        return Exit.FAILED
    recovery = Recovery(key, config.home(), machine_id(), suite(), args.over_root, _say)
    outcome = trio.run(recovery.run, addresses)
    if args.json:
        say_json(_said(outcome))
    else:
        _print_outcome(outcome)
    return 0


def _said(outcome: Recovered) -> VaultRecovered:
    return VaultRecovered(
        whole=outcome.index,
        blocks=outcome.blocks,
        unreadable=outcome.unreadable,
        files=outcome.files,
        unnamed=outcome.unnamed,
    )


def _print_outcome(outcome: Recovered) -> None:
    if outcome.index:
        say(f"the tree is whole again, from {outcome.blocks} blocks; mount the vault")
    else:
        say(
            f"{outcome.files} files were put together from {outcome.blocks} blocks, "
            f"{outcome.unnamed} of them without a known name (in lost+found); "
            "mount the vault and look"
        )
    if outcome.unreadable:
        say(f"{outcome.unreadable} blocks could not be read; more suppliers would help")


def _say(text: str) -> None:
    complain(text)
