"""`bitdust sync`: publish everything written so far; returns when that is done."""

import argparse
from pathlib import Path

from bitdustfs.cli.progress import progress_bar
from bitdustfs.mount.client import MountClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mountpoint", type=Path)
    parser.set_defaults(run=run_sync)


def run_sync(args: argparse.Namespace) -> int:
    with progress_bar("publishing", "block") as show:
        MountClient(args.mountpoint).sync(show)
    print("everything written so far is published")
    return 0
