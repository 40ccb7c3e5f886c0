"""`bitdust invite`: one line by which a friend joins, and you keep data for each other."""

import argparse
import sys
from pathlib import Path

from bitdustfs.cache.nicknames import check_name
from bitdustfs.cli.periods import parse_period
from bitdustfs.cli.qr import qr_lines
from bitdustfs.cli.texts import SUPPLIER_DIR_HELP
from bitdustfs.plain import complain, say
from bitdustfs.supplier.befriend import invite, own_supplier
from bitdustfs.units import format_size, parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--space", default="50G", help="what the friend gets here (50G)")
    parser.add_argument("--for", dest="period", default="7d", metavar="TIME",
                        help="how long somebody may join by it: 48h, 7d (7d)")  # fmt: skip
    parser.add_argument(
        "--name", dest="called", default="", help="who it is for; stays on this machine"
    )
    parser.add_argument("--no-qr", action="store_true", help="no QR code on the terminal")
    parser.add_argument("--dir", type=Path, help=SUPPLIER_DIR_HELP)
    parser.set_defaults(run=run_invite)


def run_invite(args: argparse.Namespace) -> int:
    """The line alone goes to standard output, so that it can be sent on by a program."""
    space, seconds = parse_size(args.space), parse_period(args.period)
    if args.called:
        check_name(args.called)
    line, near = invite(own_supplier(args.dir), space, seconds, args.called)
    if sys.stdout.isatty() and not args.no_qr:
        for row in qr_lines(line):
            say(row)
    say(line)
    complain(
        f"send this line to one friend, who says: bitdust join LINE. It gives {format_size(space)} "
        f"here to whoever comes by it first, within {args.period}; so show it to nobody else"
    )
    if near:
        complain(
            "your supplier knows private addresses of itself alone: the friend has to be in the "
            "same network, or to be reachable from here; else start it with --announce"
        )
    return 0
