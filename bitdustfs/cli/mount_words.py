"""How commands name a mount: by its mountpoint, by what lies in it, or not at all."""

import argparse
from pathlib import Path

MOUNTPOINT_HELP = "the mountpoint, or what lies in it (where one vault is mounted: that one)"


def add_mountpoint(parser: argparse.ArgumentParser, whole: bool = False) -> None:
    """An argument that may be left out. `whole`: nothing in it will do for it."""
    text = MOUNTPOINT_HELP.replace(", or what lies in it", "") if whole else MOUNTPOINT_HELP
    parser.add_argument("mountpoint", nargs="?", type=Path, metavar="MOUNTPOINT", help=text)


def is_mount_word(word: str) -> bool:
    """Whether a word that may be a mountpoint or something else is meant as one."""
    return "/" in word or word in (".", "..") or Path(word).is_dir()
