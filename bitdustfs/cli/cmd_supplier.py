"""`bitdust supplier run`, `invite`, `replace`, `forgive`: arguments, what is printed.

What is asked of one that runs is in supplier_asked.py.
"""

import argparse
import logging
import time
from pathlib import Path

from bitdustfs.cli.friend_choice import NO_FRIENDS, friend_named
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint, is_mount_word
from bitdustfs.cli.named import say_named
from bitdustfs.cli.progress import progress_bar
from bitdustfs.cli.supplier_asked import add_caps, add_own
from bitdustfs.cli.texts import (
    BANDWIDTH_HELP,
    INVITATION_HELP,
    NODE_DIGITS,
    OWN_HELP,
    SUPPLIER_DIR_HELP,
)
from bitdustfs.cli.token_words import read_token
from bitdustfs.core.bandwidth import parse_bandwidth
from bitdustfs.errors import UsageError
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.commands import Replace
from bitdustfs.mount.outcomes import replaced
from bitdustfs.net.addresses import check_address
from bitdustfs.net.loglines import FewLines
from bitdustfs.plain import log_plainly, say
from bitdustfs.supplier import daemon
from bitdustfs.supplier.admission import invite
from bitdustfs.supplier.befriend import own_supplier
from bitdustfs.supplier.caps import relay_words
from bitdustfs.supplier.offering import Offering
from bitdustfs.supplier.presence import check_announced
from bitdustfs.supplier.supplier_config import (
    TRASH_DAYS_MAX,
    configured_offering,
    through_words,
    whom_word,
)
from bitdustfs.units import parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="keep fragments for others until stopped (SIGTERM)")
    run.add_argument("--dir", type=Path, required=True, help="folder for shelf, index and key")
    run.add_argument("--space", help="bytes to donate, for example 10G")
    run.add_argument(
        "--listen", metavar="HOST:PORT",
        help="address to serve at; 0.0.0.0 or [::] for all of this machine's, also those to come",
    )  # fmt: skip
    run.add_argument(
        "--announce", action="append", metavar="HOST:PORT",
        help="address to be found at, where that is another one (behind a router); also a name, "
        "whose address may change (repeatable)",
    )  # fmt: skip
    run.add_argument(
        "--bootstrap", action="append", metavar="HOST:PORT",
        help="any node of the network, to be found by others (repeatable)",
    )  # fmt: skip
    run.add_argument(
        "--trash-days", type=float, metavar="DAYS",
        help="how long deleted blocks stay readable, where there is room (3)",
    )  # fmt: skip
    run.add_argument(
        "--for", dest="customers", nargs="+", metavar="WHOM",
        help="with whom it makes contracts: anyone; invited, those who show a token; or vaults, by "
        "their first digits (invited). Contracts that were made stay",
    )  # fmt: skip
    run.add_argument(
        "--relay", nargs="+", metavar="WHOM",
        help="whose nodes are reached through this one: off; circle, nodes of families whose "
        "fragments it keeps, and friends; or keys of nodes besides (circle)",
    )  # fmt: skip
    run.add_argument(
        "--through", action="append", metavar="HOST:PORT",
        help="this node cannot be dialled: it is reached through that relay (up to three)",
    )  # fmt: skip
    run.add_argument("--bandwidth", metavar="SIZE", help=BANDWIDTH_HELP)
    add_caps(run)
    run.add_argument(
        "--no-port-mapping", dest="port_mapping", action="store_false", default=None,
        help="do not ask the router to let others in (PCP, NAT-PMP, UPnP)",
    )  # fmt: skip
    run.add_argument(
        "--no-lan", dest="lan", action="store_false", default=None,
        help="do not tell those in this machine's networks who know its key where it is",
    )  # fmt: skip
    run.add_argument(
        "--log", type=Path, metavar="FILE",
        help="where it logs, within a bound (standard error, for a journal)",
    )  # fmt: skip
    run.set_defaults(run=run_supplier)
    invite = verbs.add_parser("invite", help="print a token by which one vault gets a contract")
    invite.add_argument("--dir", type=Path, help=SUPPLIER_DIR_HELP)
    invite.add_argument("--space", default="100G", help="bytes that it is good for, at most (100G)")
    invite.add_argument("--days", type=float, default=30, help="how long it is good for (30)")
    invite.set_defaults(run=run_invite)
    replace = verbs.add_parser("replace", help="give a position of a mounted vault to another one")
    add_mountpoint(replace)
    replace.add_argument("position", type=int, help="see bitdust suppliers")
    replace.add_argument(
        "--with", dest="address", default="", metavar="HOST:PORT",
        help="the new supplier (else one is found in the network)",
    )  # fmt: skip
    replace.add_argument(
        "--invitation", action="append", default=[], metavar="TOKEN", help=INVITATION_HELP
    )
    replace.add_argument(
        "--friend", default="", metavar="WHO", help="a friend who joined is the new supplier: the "
        "name, or the first digits that bitdust friends shows",
    )  # fmt: skip
    replace.add_argument("--own", action="store_true", help=OWN_HELP)
    add_json(replace)
    replace.set_defaults(run=run_replace)
    forgive = verbs.add_parser(
        "forgive", help="a supplier that a mount holds to be gone was judged wrongly"
    )
    forgive.add_argument(
        "words", nargs="*", metavar="[MOUNTPOINT] [SUPPLIER]",
        help="the supplier: its position, or how its key begins (without: lists those that count "
        "as gone); the mountpoint may be left out where one vault is mounted",
    )  # fmt: skip
    add_json(forgive)
    forgive.set_defaults(run=run_forgive)
    add_own(verbs)


def run_supplier(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    offering = offering_of(args)
    if args.log:
        log_plainly(logging.INFO, FewLines(), args.log)
    daemon.run(offering)
    return 0


def offering_of(args: argparse.Namespace) -> Offering:
    """What a command line and config.toml say of a supplier. Raises UsageError."""
    if args.trash_days is not None and not 0 <= args.trash_days <= TRASH_DAYS_MAX:
        raise UsageError(f"--trash-days is a number of days, up to {TRASH_DAYS_MAX}")
    values = {
        "space": args.space and parse_size(args.space),
        "listen": args.listen and check_address(args.listen),
        "announce": args.announce
        and tuple(check_announced(check_address(a)) for a in args.announce),
        "bootstrap": args.bootstrap and tuple(check_address(a) for a in args.bootstrap),
        "trash_days": args.trash_days,
        "relay": args.relay and relay_words(args.relay),
        "through": args.through and through_words(args.through),
        "port_mapping": args.port_mapping,
        "lan": args.lan,
        "for": args.customers and whom_word(args.customers),
        "bandwidth": args.bandwidth and parse_bandwidth(args.bandwidth),
        "relay_rate": args.relay_rate and parse_size(args.relay_rate),
        "relay_circuits": args.relay_circuits,
    }
    said = {word: value for word, value in values.items() if value is not None}
    return configured_offering(args.dir, said)


def run_invite(args: argparse.Namespace) -> int:
    """The supplier need not run."""
    space = parse_size(args.space)
    if not 0 < args.days <= 3650:
        raise UsageError("--days is a number of days, up to 3650")
    say(invite(own_supplier(args.dir).key, space, int(time.time() + args.days * 86400)))
    return 0


def run_replace(args: argparse.Namespace) -> int:
    """Returns once the new supplier has everything and the old one is out."""
    if args.address:
        check_address(args.address)
    mount, tokens = MountClient(args.mountpoint), [*map(read_token, args.invitation)]
    friend = friend_named(args.friend) if args.friend else NO_FRIENDS
    address = args.address or next(iter(friend.addresses), "")
    with progress_bar("filling", "block") as show:
        asked = Replace(
            position=args.position, address=address, own=args.own, tokens=(*tokens, *friend.tokens)
        )
        done = mount.replace(asked, show)
    friend.note(bytes.fromhex(mount.status().vault), friend.nodes)
    if args.json:
        say_json(done)
        return 0
    if done.same:
        say(f"position {args.position} keeps its supplier, which is at {args.address} now")
        return 0
    say(replaced(args.position, done))
    return 0


def run_forgive(args: argparse.Namespace) -> int:
    """Returns once the mount judges the supplier like any other again."""
    words: list[str] = args.words
    named = Path(words.pop(0)) if words and (len(words) > 1 or is_mount_word(words[0])) else None
    if len(words) > 1:
        raise UsageError("name one supplier, behind the mountpoint if that is named")
    mount = MountClient(named)
    if words:
        node = mount.forgive(words[0]).node
        say_named(f"supplier {node[:NODE_DIGITS]} does not count as gone any more")
        return 0
    gone = mount.gone().suppliers
    if args.json:
        say_json(gone)
        return 0
    for line in gone:
        say_named(f"{line.node[:NODE_DIGITS]}  it {line.why}")
    if not gone:
        say_named("no supplier counts as gone")
    return 0
