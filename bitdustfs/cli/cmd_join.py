"""`bitdust join`: comes by a friend's invitation; from then on you keep data for each other."""

import argparse
from pathlib import Path

import trio

from bitdustfs.cache.nicknames import Nicknames, check_name
from bitdustfs.cli.friend_words import name_friends
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.named import say_named
from bitdustfs.cli.results import DealSaid
from bitdustfs.cli.texts import NODE_DIGITS, SUPPLIER_DIR_HELP
from bitdustfs.cli.token_words import read_token
from bitdustfs.config import names_path
from bitdustfs.plain import say
from bitdustfs.supplier.befriend import Agreed, join, own_supplier, read_line
from bitdustfs.units import format_size, parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("line", help="what bitdust invite printed there, or @FILE with that")
    parser.add_argument("--space", help="what the friend gets here (as much as he gives)")
    parser.add_argument(
        "--name", dest="called", default="", help="what you call the friend; stays here"
    )
    parser.add_argument("--dir", type=Path, help=SUPPLIER_DIR_HELP)
    add_json(parser)
    parser.set_defaults(run=run_join)


def run_join(args: argparse.Namespace) -> int:
    """Says what has been agreed, and what is still to be done, if anything."""
    line = read_line(read_token(args.line))
    space = parse_size(args.space) if args.space else line.invitation.space
    if args.called:
        check_name(args.called)
    own = own_supplier(args.dir)
    agreed = trio.run(join, own, line, space)
    if args.called:
        Nicknames(names_path()).give(line.invitation.supplier.hex(), args.called)
    name_friends(own.friendship.deals.all().values())
    say_json(_said(agreed)) if args.json else say_agreed(agreed)
    return 0


def _said(agreed: Agreed) -> DealSaid:
    return DealSaid(
        node=agreed.deal.node.hex(),
        gives=agreed.deal.gives,
        given=agreed.deal.space,
        settled=not agreed.answer,
        answer=agreed.answer,
        why=agreed.why,
    )


def say_agreed(agreed: Agreed) -> None:
    """In plain words."""
    deal = agreed.deal
    node = deal.node.hex()[:NODE_DIGITS]
    say_named(
        f"{node} keeps up to {format_size(deal.gives)} for you, and your supplier keeps up to "
        f"{format_size(deal.space)} for {node}"
    )
    if agreed.answer:
        say(f"the friend's supplier does not know it yet: {agreed.why}")
        say("so pass this line back; your friend joins by it as you did:")
        say(agreed.answer)
        return
    if agreed.why:
        say(f"the friend's supplier was not reached ({agreed.why}); it knows the deal all the same")
    say("with as many friends as you want: bitdust vault create; bitdust friends shows them")
