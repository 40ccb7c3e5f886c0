"""`bitdust supplier status`, `pause`, `resume`, `set`, `customers`, `leave`.

What is asked of a supplier that runs here, over its control socket.
"""

import argparse
import sys
import time
from pathlib import Path

from bitdustfs.cli.answering import add_yes, meant
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.named import complain_named, names, say_named
from bitdustfs.cli.progress import progress_bar
from bitdustfs.cli.texts import BANDWIDTH_HELP, NODE_DIGITS, SUPPLIER_DIR_HELP
from bitdustfs.core.bandwidth import parse_bandwidth
from bitdustfs.errors import UsageError
from bitdustfs.mount.client import ignore
from bitdustfs.net.control import Command, Completed, Progress, S, ask
from bitdustfs.plain import say
from bitdustfs.supplier.befriend import own_folder
from bitdustfs.supplier.orders import (
    AskCustomers,
    AskSelf,
    Customers,
    Donate,
    Leave,
    Pause,
    RelaySelf,
    Resume,
    SupplierSelf,
)
from bitdustfs.units import ago, format_size, parse_size


def add_caps(parser: argparse.ArgumentParser) -> None:
    """What a relay passes on, at most: for `run` and `set`."""
    parser.add_argument(
        "--relay-rate", metavar="SIZE", help="bytes a second that it passes on as a relay, for all "
        "nodes together; half of that for one friend (8M)",
    )  # fmt: skip
    parser.add_argument(
        "--relay-circuits", type=int, metavar="COUNT", help="connections that it passes on at "
        "once, from 4 to 128; a quarter of them, or 8, to one node (128)",
    )  # fmt: skip


def add_own(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """What is asked of a supplier that runs here."""
    for name, command, text in (
        ("status", AskSelf(), "how a running supplier is: space, traffic, who knows it"),
        ("pause", Pause(), "make no new contracts for now, also after a restart"),
        ("resume", Resume(), "make contracts again"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--dir", type=Path, help=SUPPLIER_DIR_HELP)
        add_json(verb)
        verb.set_defaults(run=run_self, command=command)
    verb = verbs.add_parser(
        "set", help="how much a running supplier donates, sends or passes on, after a restart too"
    )
    verb.add_argument("--dir", type=Path, help=SUPPLIER_DIR_HELP)
    verb.add_argument("--space", help="bytes to donate, for example 10G")
    verb.add_argument("--bandwidth", metavar="SIZE", help=BANDWIDTH_HELP)
    add_caps(verb)
    add_json(verb)
    verb.set_defaults(run=run_self, command=None)
    verb = verbs.add_parser("customers", help="for whom a running supplier keeps how much")
    verb.add_argument("--dir", type=Path, help=SUPPLIER_DIR_HELP)
    add_json(verb)
    verb.set_defaults(run=run_customers)
    leave = verbs.add_parser(
        "leave",
        help="hand what a running supplier keeps over to others; it ends when that is done, "
        "watched or not",
    )
    leave.add_argument("--dir", type=Path, required=True, help="the supplier's folder")
    add_yes(leave)
    leave.set_defaults(run=run_leave)


def _ask(named: Path | None, command: Command, expected: type[S]) -> S:
    folder = named or own_folder()
    return ask(folder / "control", f"no supplier runs in {folder}", command, expected, ignore)


def run_self(args: argparse.Namespace) -> int:
    """Status, pause, resume, set."""
    order = args.command or _change(args)
    told = _ask(args.dir, order, SupplierSelf)
    if args.json:
        say_json(told)
        return 0
    hours = told.uptime / 3600
    heard = "nobody asked for anything yet" if told.asked is None else f"asked {ago(told.asked)}"
    for sentence in (
        f"supplier {told.node[:NODE_DIGITS]} at {told.address}, {told.state}, since {hours:.1f} h; "
        f"{heard}",
        f"{format_size(told.space)} donated: {format_size(told.promised)} promised to "
        f"{told.customers} vaults, {format_size(told.used)} used by {told.fragments} fragments"
        f"{_retained(told.retained)}, {format_size(told.trash)} of trash; the disk has "
        f"{format_size(told.free)} free",
        f"{format_size(told.received)} came and {format_size(told.served)} went since it was "
        f"started; it knows {told.network} nodes of the network",
        told.reached,
        *([_relaying(told.relay)] if told.relay else []),
        *([f"its traffic is kept within {told.bandwidth}"] if told.bandwidth != "0" else []),
        *(f"warning: {sentence}" for sentence in told.warnings),
    ):
        say_named(sentence)
    return 0


def _change(args: argparse.Namespace) -> Donate:
    """What `set` says. Raises UsageError."""
    words = (args.space, args.bandwidth, args.relay_rate, args.relay_circuits)
    if all(word is None for word in words):
        raise UsageError("say --space 10G, --bandwidth up:1M/down:8M, or --relay-rate 1M")
    space = None if args.space is None else parse_size(args.space)
    bandwidth = None if args.bandwidth is None else str(parse_bandwidth(args.bandwidth))
    rate = None if args.relay_rate is None else parse_size(args.relay_rate)
    return Donate(
        space=space, bandwidth=bandwidth, relay_rate=rate, relay_circuits=args.relay_circuits
    )


def _retained(size: int) -> str:
    return f" ({format_size(size)} of it deleted, and retained)" if size else ""


def _relaying(relay: RelaySelf) -> str:
    return (
        f"as a relay it passed on {format_size(relay.passed)}, at most {format_size(relay.rate)} a "
        f"second; {relay.nodes} nodes are reached through it, by {relay.circuits} of "
        f"{relay.circuits_max} circuits"
    )


def run_customers(args: argparse.Namespace) -> int:
    """A line each."""
    lines = _ask(args.dir, AskCustomers(), Customers).customers
    if args.json:
        say_json(lines)
        return 0
    say("vault             promised       used  until       owner   ")
    for line in lines:
        depends = "needs what is here" if line.depends else ""
        say(
            f"{line.vault[:NODE_DIGITS]}  {format_size(line.promised):>9}  "
            f"{format_size(line.used):>9}  {time.strftime('%F', time.localtime(line.until))}  "
            f"{'mounted' if line.owner_here else 'away':7}  {depends}  "
            f"{names().of(line.vault)}".rstrip()
        )
    return 0


def _end(told: SupplierSelf) -> str:
    return (
        f"This ends supplier {told.node[:NODE_DIGITS]} for good. It hands over the "
        f"{format_size(told.used)} that it keeps for {told.customers} vaults, and its contracts "
        "end. Once begun, nothing stops that."
    )


def run_leave(args: argparse.Namespace) -> int:
    """Returns once nobody depends on the supplier any more; it has ended then."""
    nobody = f"no supplier runs in {args.dir}"
    told = _ask(args.dir, AskSelf(), SupplierSelf)
    if told.state != "leaving" and not meant(args.yes, _end(told), "leave"):
        return Exit.FAILED
    with progress_bar("handing over", "fragment") as bar:
        heard = ""

        def show(progress: Progress) -> None:
            nonlocal heard
            if progress.what != heard and not sys.stderr.isatty():  # else the bar says it
                complain_named(progress.what)
            heard = progress.what
            bar(progress)

        ask(args.dir / "control", nobody, Leave(), Completed, show)
    say("nobody depends on this supplier any more; it has ended, and its folder may be deleted")
    return 0
