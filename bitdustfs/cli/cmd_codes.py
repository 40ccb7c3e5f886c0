"""`bitdust vault codes`: how likely a loss is with each code K/N, before anything was measured.

Nothing is known of suppliers that nobody has seen yet: the figures are what is assumed of such
(docs/durability.md), and none below 1 in 10,000 is claimed. They are for comparing codes; a mounted
vault's own are in `bitdust status`.
"""

import argparse

import msgspec

from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.core.placement import default_k
from bitdustfs.core.policy import Policy
from bitdustfs.errors import UsageError
from bitdustfs.mount.risk_words import one_in
from bitdustfs.plain import say
from bitdustfs.rebuild.odds import (
    LEAST_ASSUMED,
    QUICK,
    OddsQuestion,
    SupplierSeen,
    reckon,
    seconds_to_fill,
)
from bitdustfs.units import GROUP_MAX, parse_size

SHOWN = 2  #: codes on either side of the usual one
HINT = 0.1  #: share of the work for the one line of `vault create`


class CodeLine(msgspec.Struct, frozen=True, kw_only=True):
    """One code for so many suppliers of whom nothing is known yet."""

    k: int
    n: int
    space: float  #: times the content that it takes at suppliers
    may_lose: int  #: suppliers
    chance: float  #: of a loss within a year, with a reserve for each who leaves
    chance_alone: float  #: the same where somebody has to be found by hand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "suppliers", nargs="?", type=int, default=7, metavar="N", help="how many suppliers (7)"
    )
    parser.add_argument("--space", default="100G", help="size of the vault's content (100G)")
    add_json(parser)
    parser.set_defaults(run=run_codes)


def run_codes(args: argparse.Namespace) -> int:
    n, size = args.suppliers, parse_size(args.space)
    if not 1 <= n <= GROUP_MAX:
        raise UsageError(f"a vault has 1 to {GROUP_MAX} suppliers")
    usual = default_k(n)
    codes = range(max(1, usual - SHOWN), min(n, usual + SHOWN) + 1)
    lines = (code_line(k, n, size) for k in codes)  # each is said as soon as it is reckoned
    if args.json:
        say_json([*lines])
        return 0
    say(f"{n} suppliers of whom nothing is known yet: all of this is assumed (docs/durability.md)")
    say("code   space taken  may be lost  lost within a year, with reserves  without")
    for line in lines:
        code = f"{line.k}/{line.n}{' *' if line.k == usual else ''}"
        say(
            f"{code:7}{line.space:9.2f} x  {line.may_lose:11}  {one_in(line.chance):>33}  "
            f"{one_in(line.chance_alone)}"
        )
    say("* is what vault create takes where no code is named")
    return 0


def code_line(k: int, n: int, size: int) -> CodeLine:
    """What a code would give. `size`: bytes of content."""
    return CodeLine(
        k=k, n=n, space=n / k, may_lose=n - k,
        chance=reckon(unseen(k, n, size, n), QUICK).chance,
        chance_alone=reckon(unseen(k, n, size, 0), QUICK).chance,
    )  # fmt: skip


def unseen(k: int, n: int, size: int, reserves: int) -> OddsQuestion:
    """The question for a vault to come of `size` bytes, under the usual policy."""
    usual = Policy()
    return OddsQuestion(
        k=k, patience=usual.patience, margin=usual.margin, fill=seconds_to_fill(size // k, k),
        suppliers=(SupplierSeen(),) * n, reserves=reserves,
        least=LEAST_ASSUMED,
    )  # fmt: skip


def hint(k: int, n: int, size: int, reserves: int) -> str:
    """What `vault create` says of its code, a sentence."""
    chance = one_in(reckon(unseen(k, n, size, reserves), HINT).chance)
    return (
        f"chance that anything is lost within a year, all assumed as yet: about {chance}; bitdust "
        f"vault codes {n} compares codes"
    )
