"""`bitdust vault rewind`: makes a root of the past the newest one again."""

import argparse
import re
import time
from datetime import datetime
from pathlib import Path

import msgspec
import trio

from bitdustfs import config
from bitdustfs.cache.machine import machine_id, remember_addresses
from bitdustfs.cli.answering import add_yes, meant
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.periods import parse_period
from bitdustfs.cli.vault_words import add_bootstrap, addresses_of
from bitdustfs.errors import Unavailable, UsageError
from bitdustfs.family.recovery import look_at_past, rewind_vault
from bitdustfs.family.rewind import NAME_DIGITS, Lookback, PastMoment, choose
from bitdustfs.mount.cpu import suite
from bitdustfs.plain import complain, say

TEXT = """\
Makes the vault what it was at a time: after a thief of the key, a program that encrypted all files,
or a slip. Suppliers of a vault with a retention (bitdust vault create --retain 14d) keep for so
long what was deleted, and past roots: the last one of each hour for a day, then of each day.
Without --to it lists them. What the vault is now is kept as well: rewind once more to come back.
Who has the vault mounted elsewhere is fenced off, and keeps what was not published."""
NAME = re.compile(f"[0-9a-f]{{{NAME_DIGITS}}}")
RISK = """\
The vault becomes what it was at {since}: root {seq}, which {holders} suppliers show{sure}.
What was written or deleted since is not in it. It stays at the suppliers for the retention. What
only this machine has, not published yet, and what it has pinned, is put aside with its state."""
UNSURE = ",\nfewer than a majority: they may be wrong about the time"


class PastLine(msgspec.Struct, frozen=True, kw_only=True):
    """A past root that a vault can be rewound to. Times are as most who show it say."""

    since: int  #: when it became the newest
    left: int  #: when another one followed
    seq: int  #: its number in the history that it is of
    suppliers: int  #: that show it
    of: int  #: suppliers that the vault had then
    confirmed: bool  #: so many show it as had to accept it
    name: str  #: eight digits by which --to takes it, whatever is said of its time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = TEXT
    parser.add_argument(
        "--to",
        metavar="TIME",
        help="2026-11-26T18:00, or how long ago: 3h, or the eight digits of a line of the list. "
        "Without it: that list",
    )
    parser.add_argument("--key", type=Path, help="the key file")
    add_bootstrap(parser)
    add_yes(parser)
    add_json(parser)
    parser.set_defaults(run=run_rewind)


def run_rewind(args: argparse.Namespace) -> int:
    """Lists, or asks and goes back."""
    key, now = load_key(args.key), int(time.time())
    when = parse_when(args.to, now) if args.to and not NAME.fullmatch(args.to) else 0
    addresses = addresses_of(key.vault_id, args.bootstrap)
    if not addresses:
        raise UsageError("no supplier's address is known here; add --bootstrap HOST:PORT")
    past = trio.run(look_at_past, key, addresses)
    if not past.newest:
        said = "; ".join([*past.failures.values()][:3])
        raise Unavailable(f"no supplier of this vault answers ({said})")
    moments = past.moments(now)
    if not args.to:
        _say_moments(moments, past, args.json)
        return Exit.DONE
    moment = choose(moments, when) if when else _named(moments, args.to)
    if not meant(args.yes, _risk(moment), "rewind"):
        return Exit.FAILED
    done = trio.run(
        rewind_vault, key, addresses, config.home(), machine_id(), suite(), past, moment
    )
    remember_addresses(done.family)
    say(f"the vault is what it was at {_time(moment.since)}; mount it as usual")
    if done.aside is not None:
        say(f"what this machine had of the history that was left is in {done.aside}")
    for who, why in done.short.items():
        complain(f"{who} does not promise the space of then: {why}")
    return Exit.DONE


def parse_when(text: str, now: int) -> int:
    """Unix seconds of a time in ISO 8601 (of this machine's zone unless it names one), or of a
    length of time before now. Raises UsageError.
    """
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        pass
    try:
        return now - int(parse_period(text))
    except UsageError:
        raise UsageError(
            f"{text!r} is no time; write for example 2026-11-26T18:00, or 3h for three hours ago"
        ) from None


def _named(moments: list[PastMoment], name: str) -> PastMoment:
    found = [moment for moment in moments if moment.name == name]
    if not found:
        raise UsageError(f"no supplier that answers shows {name}; bitdust vault rewind lists them")
    return found[0]


def _risk(moment: PastMoment) -> str:
    return RISK.format(
        since=_time(moment.since), seq=moment.known.root.seq, holders=len(moment.holders),
        sure="" if moment.confirmed else UNSURE,
    )  # fmt: skip


def _say_moments(moments: list[PastMoment], past: Lookback, as_json: bool) -> None:
    lines = [
        PastLine(
            since=moment.since, left=moment.left, seq=moment.known.root.seq,
            suppliers=len(moment.holders), of=moment.known.family.group.n,
            confirmed=moment.confirmed, name=moment.name,
        )
        for moment in moments
    ]  # fmt: skip
    if as_json:
        say_json(lines)
        return
    for line in lines:
        sure = "" if line.confirmed else "  (fewer than a majority show it)"
        say(
            f"{_time(line.since)}  until {_time(line.left)}  {line.name}  root {line.seq}  "
            f"{line.suppliers} of {line.of} suppliers{sure}"
        )
    if not lines:
        say(
            "no past root is kept: bitdust vault set retain=14d has suppliers keep them from now on"
        )
        return
    if past.best is not None:
        say(f"now it is root {past.best.root.seq}")
    say(f"to go back to the last of them: bitdust vault rewind --to {_time(lines[-1].since)}")
    silent = len(past.failures)
    if silent:
        complain(f"{silent} suppliers did not show what they keep")


def _time(seconds: int) -> str:
    """As --to takes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
