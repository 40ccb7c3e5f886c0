"""`bitdust friends`: what each keeps for you, what you keep for each, and who is there."""

import argparse
import time
from contextlib import suppress
from pathlib import Path

from bitdustfs.cache.nicknames import DIGITS_MIN, Nicknames
from bitdustfs.cli.friend_words import name_friends
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.texts import NODE_DIGITS, SUPPLIER_DIR_HELP
from bitdustfs.config import names_path
from bitdustfs.errors import BitdustError
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.mountpoint import attached
from bitdustfs.net.supplier import PUNCHED
from bitdustfs.plain import say
from bitdustfs.supplier.befriend import own_supplier
from bitdustfs.supplier.friendlist import KeptThere, end_deals, friend_lines
from bitdustfs.supplier.orders import FriendLine
from bitdustfs.units import ago, format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, help=SUPPLIER_DIR_HELP)
    parser.add_argument(
        "--forget", metavar="WHO", help="no deal with this friend any more, or no such invitation; "
        "vaults that came by it stay where they are",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=run_friends)


def run_friends(args: argparse.Namespace) -> int:
    """Asks all of them whether they are there."""
    own = own_supplier(args.dir)
    name_friends(own.deals.all().values())
    if args.forget:
        named = Nicknames(names_path()).key_of(args.forget)
        ended = end_deals(own, args.forget, named)
        space = format_size(sum(deal.space for deal in ended))
        say(f"nobody gets the {space} any more that were promised so; what is kept already stays")
        return 0
    lines = friend_lines(own, kept_there(), Nicknames(names_path()).all())
    if args.json:
        say_json(lines)
        return 0
    if not lines:
        say("no friend joined yet: bitdust invite prints a line for one")
        return 0
    say(f"friend            state    {'keeps for me':22}  {'I keep':22}  {'seen':12}  address")
    for line in lines:
        say(_row(line))
    for line in lines:
        if not line.settled and line.node:
            say(f"{_called(line)} does not know the deal yet: join by the same line again")
    return 0


def _called(line: FriendLine) -> str:
    return line.name or (line.node or line.invitations[0])[:NODE_DIGITS]


def _row(line: FriendLine) -> str:
    if line.until:
        until = time.strftime("%F %R", time.localtime(line.until))
        gets, which = f"gets {format_size(line.given)}", line.invitations[0][:DIGITS_MIN]
        return f"{_called(line):16}  {line.state:7}  {gets}, until {until}, by {which}"
    seen = "never" if line.seen is None else ago(line.seen)
    way = f"{line.address} ({line.way})" if line.way else line.address
    keeps, kept = _part(line.keeps, line.gives), _part(line.kept, line.given)
    return f"{_called(line):16}  {line.state:7}  {keeps:22}  {kept:22}  {seen:12}  {way}".rstrip()


def _part(used: int | None, space: int) -> str:
    return f"{'?' if used is None else format_size(used)} of {format_size(space)}"


def kept_there() -> dict[bytes, KeptThere]:
    """What suppliers keep of the vaults that are mounted here, by node."""
    found: dict[bytes, KeptThere] = {}
    for mountpoint in attached():
        with suppress(BitdustError):  # a dead mount, or one that ends just now
            for line in MountClient(mountpoint).suppliers().suppliers:
                node = bytes.fromhex(line.node)
                before = found.get(node, KeptThere(0, None))
                heard = [h for h in (before.heard, line.heard) if h is not None]
                way = PUNCHED if PUNCHED in (before.way, line.way) else line.way
                stored = before.stored + line.stored
                found[node] = KeptThere(stored, min(heard, default=None), way)
    return found
