"""`bitdust completion` and `bitdust manual`: for the shell, and for man(1).

Both are made of the commands' own definitions, so they are those of this version.
"""

import argparse
from pathlib import Path

import shtab

from bitdustfs.cli import cmd_mount
from bitdustfs.cli.main import make_parser
from bitdustfs.cli.manpages import man_pages
from bitdustfs.plain import say

SHELLS = ("bash", "zsh", "fish")


def add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="whose script is printed")
    parser.set_defaults(run=run_completion)


def add_manual(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, metavar="DIR", help="a folder of MANPATH; man1 and man8")
    parser.set_defaults(run=run_manual)


def run_completion(args: argparse.Namespace) -> int:
    """On standard output."""
    for line in shtab.complete(make_parser(), args.shell).split("\n"):
        say(line)
    return 0


def run_manual(args: argparse.Namespace) -> int:
    """Writes the pages into man1 and man8 of the folder."""
    mount = argparse.ArgumentParser(prog="mount.bitdust", description=cmd_mount.__doc__)
    cmd_mount.add_arguments(mount, helper=True)
    made = man_pages(make_parser(), mount)
    for name, text in made.items():
        path = args.dir / f"man{name[-1]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    say(f"{len(made)} pages written; MANPATH={args.dir}: man bitdust-status")
    return 0
