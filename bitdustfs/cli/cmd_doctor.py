"""`bitdust doctor`: everything on this machine that can be wrong, and what to do about it."""

import argparse
from pathlib import Path

from bitdustfs.cli.exit_codes import CODES
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.named import names
from bitdustfs.plain import say
from bitdustfs.system.diagnosis import OK, WARNING, WRONG, Diagnosis
from bitdustfs.system.doctor import all_checks, diagnose

TONES = {OK: "good", WARNING: "fair", WRONG: "bad"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", type=Path, action="append", default=[], metavar="FOLDER",
        help="a supplier's folder, besides those of suppliers that ran here (repeatable)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="do not show what is ok")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One line a finding, and one with what to do; the exit code is of the worst one."""
    found = diagnose(all_checks(args.dir))
    if args.json:
        say_json(found)
    else:
        say_found(found, args.quiet)
    return CODES[found.verdict]


def say_found(found: Diagnosis, quiet: bool) -> None:
    """The lines, and how many of which there are."""
    for finding in found.findings:
        if quiet and finding.verdict == OK:
            continue
        said = names().dress(finding.said)
        say(f"{finding.verdict:7}  {finding.check:11}  {said}", tone=TONES[finding.verdict])
        if finding.todo:
            say(f"{'':22}do: {finding.todo}")
    bad = [sum(f.verdict == verdict for f in found.findings) for verdict in (WRONG, WARNING)]
    if any(bad):
        say(f"bitdustfs {found.program}: {bad[0]} wrong, {bad[1]} warnings")
    else:
        say(f"bitdustfs {found.program}: nothing is wrong here")
