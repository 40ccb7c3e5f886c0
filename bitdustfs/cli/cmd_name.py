"""`bitdust name`: names for suppliers, vaults and machines, beside their keys.

Names are kept on this machine and shown on it. They are sent nowhere.
"""

import argparse

import msgspec

from bitdustfs.cache.machine import machine_id
from bitdustfs.cache.nicknames import DIGITS_MIN, Nicknames
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.texts import NODE_DIGITS
from bitdustfs.config import names_path
from bitdustfs.errors import UsageError
from bitdustfs.mount.client import MountClient
from bitdustfs.plain import say

POSITION_DIGITS = 2  #: of a position in decimal


class NameLine(msgspec.Struct, frozen=True, kw_only=True):
    """A name that was given here."""

    key: str  #: of a supplier, a vault or a machine; as much of it as was known when it was given
    name: str  #: "": none
    here: bool  #: it is this machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "who", nargs="?", metavar="WHO",
        help="a supplier's position in the vault that is mounted, or a key as it is shown (of a "
        "supplier, a vault or a machine), or a name (without: lists the names)",
    )  # fmt: skip
    parser.add_argument("given", nargs="?", metavar="NAME", help="its name (without: shows it)")
    parser.add_argument("--forget", action="store_true", help="it has no name any more")
    add_json(parser)
    parser.set_defaults(run=run_name)


def run_name(args: argparse.Namespace) -> int:
    """Lists, shows or gives a name."""
    names, own = Nicknames(names_path()), machine_id().hex()
    if args.who is None:
        keys = [*dict.fromkeys((*names.all(), own))]
    else:
        keys = [_key_of(args.who, names)]
        if args.given is not None or args.forget:
            names.give(keys[0], "" if args.forget else args.given)
    lines = [NameLine(key=key, name=names.of(key), here=own.startswith(key)) for key in keys]
    if args.json:
        say_json(lines)
    elif args.who is not None:
        say(f"{lines[0].name or 'no name'}  {lines[0].key[:NODE_DIGITS]}")
    else:
        for line in lines:
            here = "  (this machine)" if line.here else ""
            say(f"{line.name or 'this machine has no name'}  {line.key}{here}")
    return 0


def _key_of(word: str, names: Nicknames) -> str:
    """The whole key that a word means. Raises UsageError."""
    word = names.key_of(word) or word.lower()
    if word.isascii() and word.isdigit() and len(word) <= POSITION_DIGITS:
        lines = MountClient(None).suppliers().suppliers
        known = [line.node for line in lines if line.position == int(word)]
    elif len(word) >= DIGITS_MIN and not word.strip("0123456789abcdef"):
        known = [word] if len(word) in (32, 64) else _begun(word, names)
    else:
        known = []
    if len(known) != 1:
        raise UsageError(
            f"{word} names nothing that is known here: write a supplier's position, a name, or a "
            "key as bitdust suppliers shows it"
        )
    return known[0]


def _begun(word: str, names: Nicknames) -> list[str]:
    """The keys that begin so: of those that have names, and of the vault that is mounted."""
    keys = {*names.all(), machine_id().hex()}
    try:
        status = MountClient(None).status()
        keys |= {status.vault, *(s.node for s in status.suppliers), *(r.node for r in status.bench)}
    except UsageError:  # nothing is mounted: a short key is named as it is
        pass
    found = [key for key in keys if key.startswith(word)]
    return found or [word]
