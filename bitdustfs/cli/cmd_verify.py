"""`bitdust verify`: is everything there, here and at the suppliers?

Walks the vault's tree, checks this machine's copies, then every fragment at every supplier. Exit
code 0: nothing is wrong; 3: something is, and it is said what.
"""

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bitdustfs.errors import UsageError
from bitdustfs.net.control import ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mountpoint", type=Path)
    parser.add_argument("--local", action="store_true", help="only what is on this machine")
    parser.add_argument(
        "--sample", default="100%", metavar="PERCENT",
        help="share of the pieces at suppliers that are fetched and checked (100%%)",
    )  # fmt: skip
    parser.set_defaults(run=run_verify)


def parse_share(text: str) -> float:
    """0.05 from "5%". Raises UsageError."""
    try:
        share = float(text.rstrip("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{text!r} is no share; write for example 5%")
    return share


def run_verify(args: argparse.Namespace) -> int:
    report: dict[str, Any] = {}
    with tqdm(desc="verifying", leave=False, disable=None) as bar:
        for answer in ask(
            args.mountpoint, "verify", local=args.local, sample=parse_share(args.sample)
        ):
            if "report" in answer:
                report = answer["report"]
            else:
                bar.set_description(answer["what"], refresh=False)
                bar.total, bar.n = answer["total"] or None, answer["progress"]
                bar.refresh()
    print(f"{report['inodes']} files and folders in {report['blocks']} blocks were looked at; "
          f"{report['extents_checked']} pieces here and {report['chunks_checked']} at suppliers "
          "were checked")  # fmt: skip
    if report["margin"] is not None and report["margin"] >= 0:
        print(f"every block at suppliers would survive the loss of {report['margin']} more of them")
    if report["unsent"]:
        print(f"{report['unsent']} blocks are only on this machine as yet")
    for sentence in report["faults"]:
        print(f"fault: {sentence}")
    if report["more_faults"]:
        print(f"and {report['more_faults']} more faults")
    if not report["faults"]:
        print("nothing is wrong")
    return 3 if report["faults"] else 0
