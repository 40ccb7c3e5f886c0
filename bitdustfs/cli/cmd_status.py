"""`bitdust status` and `bitdust suppliers`: how safe a mount's content is, and who keeps it."""

import argparse
import time
from collections.abc import Sequence

from bitdustfs.cli.cmd_pin import pin_sentences
from bitdustfs.cli.exit_codes import CODES
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.mount_words import add_mountpoint
from bitdustfs.cli.named import names, say_named, say_verdict
from bitdustfs.cli.periods import period_words
from bitdustfs.cli.progress import progress_bar
from bitdustfs.cli.schedule_words import given_up
from bitdustfs.cli.texts import NODE_DIGITS
from bitdustfs.errors import UsageError
from bitdustfs.mount.client import MountClient, status_of
from bitdustfs.mount.mountpoint import NOT_MOUNTED, attached_unasked, mountpoint_of
from bitdustfs.mount.risk_words import trend_words
from bitdustfs.mount.statements import (
    FollowsLine,
    ReserveLine,
    Status,
    SupplierLine,
    VisitLine,
)
from bitdustfs.plain import say
from bitdustfs.system.judging import judged, worst
from bitdustfs.units import ago, format_size, within

SILENT = 60.0  #: seconds without an answer about new roots, after which what is shown may be old


def add_status(parser: argparse.ArgumentParser) -> None:
    _add_arguments(parser)
    parser.add_argument(
        "--check", action="store_true",
        help="for cron and monit: one line a mount (of all, where none is named), in time, and an "
        "exit code: 0 nothing is to be done, 4 look at it, 3 data is not safe",
    )  # fmt: skip
    parser.add_argument(
        "--risk", action="store_true",
        help="how likely it is that anything is lost within a year, reckoned now, which takes "
        "seconds, and what would help most",
    )  # fmt: skip
    parser.set_defaults(run=run_status)


def add_suppliers(parser: argparse.ArgumentParser) -> None:
    _add_arguments(parser)
    parser.set_defaults(run=run_suppliers)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_mountpoint(parser)
    add_json(parser)


def run_check(args: argparse.Namespace) -> int:
    """What is wrong with any mount, and the worst code. Raises UsageError where nothing is mounted,
    BitdustError where a mount does not answer in time.
    """
    there = [mountpoint_of(args.mountpoint)] if args.mountpoint else attached_unasked()
    if not there:
        raise UsageError(NOT_MOUNTED)
    found = [(mountpoint, status_of(mountpoint)) for mountpoint in there]
    for mountpoint, status in found:
        if not args.json:
            say_named(f"{mountpoint}: {'; '.join((status.verdict, *status.warnings))}")
    if args.json:
        say_json([status for _, status in found])
    return CODES[worst([judged(status) for _, status in found])]


def run_status(args: argparse.Namespace) -> int:
    if args.check:
        return run_check(args)
    if args.risk:
        return run_risk(args)
    status = MountClient(args.mountpoint).status()
    if args.json:
        say_json(status)
    else:
        _print_status(status)
    return 0


def run_risk(args: argparse.Namespace) -> int:
    """The chance of a loss, and what would help."""
    mount = MountClient(args.mountpoint)
    with progress_bar("reckoning", "case") as show:
        told = mount.risk(show)
    if args.json:
        say_json(told)
        return 0
    say_named(told.risk.said)
    if trend := trend_words(told.risk.chance, told.risk.month_ago):
        say_named(trend)
    if told.risk.weak:
        say_named(told.risk.weak)
    for remedy in told.risk.remedies:
        say_named(remedy.said)
    if not told.risk.remedies:
        say_named("nothing simple would make it much better")
    return 0


def run_suppliers(args: argparse.Namespace) -> int:
    lines = MountClient(args.mountpoint).suppliers().suppliers
    if args.json:
        say_json(lines)
    else:
        _print_table(lines)
    return 0


def _print_status(status: Status) -> None:
    say_verdict(status.verdict)
    say_named(f"vault {status.vault[:NODE_DIGITS]}, {status.state}")
    if status.message and status.message not in status.verdict:
        say_named(status.message)
    if status.follows is not None:
        say_named(follows_words(status.follows))
    _print_content(status)
    if status.bandwidth != "0":
        say_named(f"its traffic is kept within {status.bandwidth}")
    if status.paused and status.paused not in status.verdict:
        say_named(status.paused)
    _print_safety(status)
    for line in status.suppliers:
        say(
            f"  {line.position}  {line.node[:NODE_DIGITS]}  {line.state:7}  {_heard(line):28}  "
            f"{line.address}  {_sending(line)}  {names().of(line.node)}".rstrip()
        )
    _print_bench(status.bench)
    _print_visits(status.visits)
    if sentence := _retention(status):
        say_named(sentence)
    for sentence in (*pin_sentences(status.pins, status.pins_why), *given_up(status.thinned)):
        say_named(sentence)
    for sentence in status.warnings:
        say_named(f"warning: {sentence}")


def follows_words(line: FollowsLine) -> str:
    """Which root is shown, and whether that may be old."""
    shown = f"follows: root {line.root}, published {ago(max(0, time.time() - line.published))}"
    if line.why:
        return f"{shown}; a newer one is not shown: {line.why}"
    if line.heard is None:
        return f"{shown}; no supplier has answered yet about newer ones"
    if line.heard > SILENT:
        return f"{shown}; of newer ones was heard last {ago(line.heard)}"
    return f"{shown}; asked {ago(line.heard)}"


def _retention(status: Status) -> str:
    """What suppliers keep of what was deleted."""
    if not status.retain and not status.retained:
        return ""
    time_ = f"for {period_words(status.retain)}" if status.retain else "by the retention of before"
    what = f"suppliers keep what is deleted, and past roots, {time_}"
    if status.retained_until is not None:
        until = time.strftime("%F %R", time.localtime(status.retained_until))
        what += f": {format_size(status.retained)} now, the last of it until {until}"
    return what


def _sending(line: SupplierLine) -> str:
    """What it still lacks, how fast it gets it, and when it has it."""
    if not line.owed and line.lacks:
        return f"lacks {line.lacks} {'fragment' if line.lacks == 1 else 'fragments'}"
    if not line.owed:
        return "has everything"
    if line.rate <= 0 or line.state != "online":
        return f"lacks {format_size(line.owed)}"
    return (
        f"lacks {format_size(line.owed)}, gets {format_size(line.rate)}/s, has it "
        f"{within(line.owed / line.rate)}"
    )


def _heard(line: SupplierLine) -> str:
    """When it was heard last."""
    return "no answer yet" if line.heard is None else f"last answered {ago(line.heard)}"


def _print_content(status: Status) -> None:
    say_named(
        f"{status.inodes} files and folders, {format_size(status.live)}; "
        f"{format_size(status.dirty)} in memory, {status.owed_blocks} blocks still to upload"
    )
    if status.to_send:
        left = "" if status.seconds_left is None else f", {within(status.seconds_left)}"
        say_named(
            f"{format_size(status.to_send)} to be sent until all is published, "
            f"{format_size(status.rate)}/s{left}"
        )


def _print_safety(status: Status) -> None:
    for sentence in status.safety:
        say_named(sentence)
    if status.risk is not None:
        say_named(status.risk.said)
    if status.thinnest:
        say_named(f"the thinnest block is {status.thinnest}")
    if status.rebuilding.total:
        say_named(f"rebuilding: {status.rebuilding.done} of {status.rebuilding.total} blocks")


def _print_bench(bench: Sequence[ReserveLine]) -> None:
    ready = sum(reserve.ready for reserve in bench)
    say_named(f"{ready} reserves stand by for a time when you are away")
    for reserve in bench:
        if reserve.stands_in_for is not None:
            say_named(
                f"  {reserve.node[:NODE_DIGITS]} has a copy of position {reserve.stands_in_for}"
            )
        for position in reserve.keeps_for:
            say_named(
                f"  {reserve.node[:NODE_DIGITS]} keeps what is new for position {position} for now"
            )


def _print_visits(visits: Sequence[VisitLine]) -> None:
    for visit in visits:
        say_named(
            f"  {visit.node[:NODE_DIGITS]} read {format_size(visit.bytes)} to stand in for "
            f"position {visit.position}, last on {time.strftime('%F', time.localtime(visit.until))}"
        )


def _print_table(lines: Sequence[SupplierLine]) -> None:
    say(
        "pos  supplier          state    uptime  latency    stored  audits (failed)  way      "
        "address"
    )
    for line in lines:
        uptime = "-" if line.uptime is None else f"{100 * line.uptime:.0f} %"
        say(
            f"{line.position:3}  {line.node[:NODE_DIGITS]}  {line.state:7}  {uptime:>6}  "
            f"{1000 * line.latency:4.0f} ms  {format_size(line.stored):>9}  "
            f"{line.audits:6} ({line.audits_failed})       {line.way:7}  {line.address}  "
            f"{names().of(line.node)}".rstrip()
        )
