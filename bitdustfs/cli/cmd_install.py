"""`bitdust install`, `bitdust uninstall`: systemd units and links, and away with them.

As a user: units of the user's own systemd, which start at the first login (or at boot, after
loginctl enable-linger), and links in ~/.local/bin. As root: units of the system, and what mount(8)
runs, in /sbin. Nothing that was not written from here is replaced or removed.
"""

import argparse
import os
from pathlib import Path
from shlex import join

from bitdustfs import config
from bitdustfs.cli.cmd_mount import with_word
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.errors import UsageError
from bitdustfs.mount.options import MountOptions
from bitdustfs.plain import complain, say
from bitdustfs.system.installing import Artifact, Installed
from bitdustfs.system.placing import (
    Destination,
    Manager,
    mount_pieces,
    names_of,
    run_as,
    supplier_pieces,
)

NOT_IN_UNITS = {"foreground", "remount", "take-over"}


def add_install(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mount", type=Path, metavar="FOLDER", help="a unit that mounts there")
    parser.add_argument("-o", dest="options", default="", metavar="OPTS", help="mount options")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key file of that vault")
    parser.add_argument(
        "--passphrase", type=Path, metavar="FILE",
        help="a file with the passphrase of the key file, which systemd hands over",
    )  # fmt: skip
    parser.add_argument(
        "--supplier", type=Path, metavar="FOLDER",
        help="a unit that runs the supplier there, with the words it ran with last",
    )  # fmt: skip
    parser.add_argument(
        "--run-as", default="", metavar="USER",
        help="as root: whose units they are (the owner of the folder)",
    )  # fmt: skip
    parser.add_argument("--no-start", action="store_true", help="do not start them now")
    _add_where(parser)
    parser.set_defaults(run=run_install)


def add_uninstall(parser: argparse.ArgumentParser) -> None:
    _add_where(parser)
    parser.set_defaults(run=run_uninstall)


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show it, and change nothing")
    parser.add_argument(
        "--user", action="store_true", help="as root: units of root's own systemd, as for a user"
    )
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="FOLDER",
        help="write below this folder instead of /, and start nothing (for packages)",
    )  # fmt: skip


def run_install(args: argparse.Namespace) -> int:
    """Writes what is due, tells systemd, and starts it."""
    system = not (os.geteuid() or args.user)
    pieces = pieces_of(args, system)
    installed = Installed()
    due = installed.check(pieces)
    if args.dry_run:
        for piece in due:
            _show(piece)
        return 0
    installed.install(due)
    for piece in due:
        say(f"wrote {piece.path}")
    if not due:
        say("everything is there already")
    names = names_of(pieces)
    if not names or args.root != Path("/"):
        return Exit.DONE
    return _start(Manager(not system), names, args.no_start)


def pieces_of(args: argparse.Namespace, system: bool) -> list[Artifact]:
    """What a command line asks for. Raises UsageError."""
    root = args.root.absolute()
    pieces = Destination(root, "root" if system else "").links()
    if args.mount:
        mountpoint = Path(os.path.realpath(args.mount))
        if not mountpoint.is_dir():
            raise UsageError(f"{mountpoint} is not a folder; make it first")
        _check_options(args.options, mountpoint)
        place = Destination(root, run_as(args.run_as, mountpoint) if system else "")
        key, passphrase = (p and p.absolute() for p in (args.key, args.passphrase))
        pieces += mount_pieces(place, mountpoint, key, args.options, passphrase)
    elif args.options or args.key or args.passphrase:
        raise UsageError("-o, --key and --passphrase are of a mount: say --mount FOLDER")
    if args.supplier:
        folder = args.supplier.absolute()
        place = Destination(root, run_as(args.run_as, folder) if system else "")
        pieces += supplier_pieces(place, folder)
    return pieces


def _check_options(options: str, mountpoint: Path) -> None:
    made = MountOptions(mountpoint, config.default_key_path())
    for word in options.split(","):
        if word in NOT_IN_UNITS:
            raise UsageError(f"{word} is no option for a unit")
        made = with_word(made, word)


def _show(piece: Artifact) -> None:
    say(f"{piece.path}{f' -> {piece.target}' if piece.target else ':'}")
    for line in piece.text.splitlines():
        say(f"    {line}")


def _start(manager: Manager, names: list[str], later: bool) -> int:
    """The exit code. What systemd could not be told is said, as commands. `later`: no start now."""
    steps = [("daemon-reload",)] + ([] if later else [("start", *names)])
    for number, step in enumerate(steps):
        if why := manager.run(*step):
            complain(f"systemd was not told: {why}")
            complain(f"run: {'; '.join(join(manager.command(*s)) for s in steps[number:])}")
            return Exit.DONE if later else Exit.FAILED
    if not later:
        say(f"started: {' '.join(names)}")
    return Exit.DONE


def run_uninstall(args: argparse.Namespace) -> int:
    """Stops the units that are taken away first. What was changed since stays, and is named."""
    installed = Installed()
    ours, changed = installed.ours(), installed.changed()
    for path in ours:
        say(f"{'would remove' if args.dry_run else 'removes'} {path}")
    for path in changed:
        complain(f"{path} is not as it was written: it stays")
    if not ours:
        say("nothing is installed from here")
    if args.dry_run:
        return 0
    units = sorted({path.name for path in ours if path.suffix == ".service"})
    manager = Manager(bool(os.geteuid() or args.user))
    if units and args.root == Path("/") and (why := manager.run("stop", *units)):
        complain(f"systemd did not stop them: {why}")
    installed.remove()
    if units and args.root == Path("/"):
        manager.run("daemon-reload")
    return 0
