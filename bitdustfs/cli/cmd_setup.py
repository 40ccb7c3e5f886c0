"""`bitdust setup`: a guided start. Every question has an option, so that scripts need no terminal.

It makes a key or restores one, prepares a supplier that keeps data for others, makes a vault where
you say who keeps it, and a folder to mount it at. It can be run again: what is there stays.
"""

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path
from shlex import join, quote

import trio

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.cache.machine import remember_addresses
from bitdustfs.cli.answering import Asking
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.cli.cmd_vault import parse_order, say_created
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.main import ALL
from bitdustfs.cli.passphrases import ask_words
from bitdustfs.cli.texts import INVITATION_HELP
from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import UsageError
from bitdustfs.family.create import create_vault
from bitdustfs.mount.cpu import suite
from bitdustfs.net.addresses import check_address
from bitdustfs.plain import say
from bitdustfs.supplier.offering import Offering, command_words, last_offering
from bitdustfs.supplier.presence import check_announced, check_listened
from bitdustfs.system import beginning
from bitdustfs.system.placing import program
from bitdustfs.units import format_size, parse_size

COLUMNS = 4  #: of the 24 words
TRIES = 5  #: for one word


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="take what is proposed; ask nothing")
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--new", action="store_true", help="make a new key")
    key.add_argument("--restore", action="store_true", help="a key from its 24 words (stdin)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key file")
    parser.add_argument(
        "--words-later", action="store_true",
        help="do not show the 24 words now: bitdust key words does, and without them a vault is "
        "lost with this machine",
    )  # fmt: skip
    parser.add_argument("--donate", metavar="SIZE", help="bytes that you keep for others; 0: none")
    parser.add_argument("--shelf", type=Path, metavar="FOLDER", help="where (shelf in the home)")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help=f"where your supplier listens ({beginning.LISTEN})"
    )
    parser.add_argument(
        "--announce", action="append", default=[], metavar="HOST:PORT",
        help="where others reach it, behind a router (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--space", dest="size", metavar="SIZE", help="how large your vault is to be (10G)"
    )
    parser.add_argument("--ecc", metavar="K/N", help="any K of N suppliers rebuild all of it")
    parser.add_argument(
        "--bootstrap", action="append", default=[], metavar="HOST:PORT",
        help="any node of the network, to join it (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--supplier", action="append", default=[], metavar="HOST:PORT",
        help="a supplier that is to keep your vault (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--invitation", action="append", default=[], metavar="TOKEN", help=INVITATION_HELP
    )
    parser.add_argument("--mount", type=Path, metavar="FOLDER", help="where to mount (~/vault)")
    parser.add_argument(
        "--install", action=argparse.BooleanOptionalAction, default=None,
        help="have systemd start what was set up, from now on",
    )  # fmt: skip
    parser.set_defaults(run=run, policy=[], schedule=[], retain=None, own=False, space="10G")


def run(args: argparse.Namespace) -> int:
    """Asks what no option says, does it, and ends with what is to be done next."""
    asking = Asking(args.yes)
    key = _key(args, asking)
    offering = _supplier(args, asking)
    made = _vault(args, asking, key)
    mountpoint = _mountpoint(args, asking)
    say("")
    what = _install_words(args, mountpoint if made else None, offering)
    if what and asking.choose(args.install, "--install", "Have systemd start it from now on?"):
        done = subprocess.run([program("bitdust"), *what], check=False)
        if done.returncode:
            say("it is not started yet: see above")
        else:
            what = []
    _say_next(args, key, offering, made, mountpoint, what)
    return Exit.DONE


# -- the key


def _key(args: argparse.Namespace, asking: Asking) -> VaultKey:
    path = args.key or config.default_key_path()
    if path.exists():
        if args.new or args.restore:
            raise UsageError(f"{path} exists already; name another file with --key")
        say(f"there is a key already: {path}")
        return load_key(path)
    if args.restore:
        restored = True
    elif args.new:
        restored = False
    else:
        restored = asking.choose(
            None, "--new or --restore", "Do you have the 24 words of a vault already?", False
        )
    if restored:
        key = beginning.restore_key(path, ask_words())
        say(f"the key of vault {key.vault_id.hex()[:16]} is in {path}")
        return key
    if not args.words_later:
        asking.need_terminal("--words-later: without a terminal the words cannot be asked back")
    key = beginning.make_key(path)
    say(f"a new key is in {path}")
    if not args.words_later:
        _have_words_written(key, asking)
    return key


def _have_words_written(key: VaultKey, asking: Asking) -> None:
    """Shows the words once, and asks for some of them."""
    words = keyfile.to_words(key).split()
    say("These 24 words are the key. Whoever has them has your data, and without them it is lost")
    say("with this machine. Write them down on paper:")
    say("")
    for row in range(0, len(words), COLUMNS):
        numbered = enumerate(words[row : row + COLUMNS], row + 1)
        say("  " + "".join(f"{number:2} {word:12}" for number, word in numbered).rstrip())
    say("")
    for number in beginning.asked_back(len(words)):
        for _ in range(TRIES):
            if beginning.is_word(key, number, asking.answer(f"Word {number}: ")):
                break
            say(f"that is not word {number}; look at what you wrote")
        else:
            raise UsageError("write them down by bitdust key words, then run bitdust setup again")
    say("good: keep the paper away from this machine")


# -- keeping data for others


def _supplier(args: argparse.Namespace, asking: Asking) -> Offering | None:
    folder = (args.shelf or beginning.shelf_folder()).absolute()
    before = last_offering(folder)
    if before is not None and args.donate is None:
        say(f"there is a supplier already, of {format_size(before.space)}: {folder}")
        return before
    proposed = beginning.proposed_donation(folder)
    said = asking.value(
        args.donate, "--donate", "How much of this machine's disk do you keep for others? 0: none",
        format_size(proposed).replace(" ", ""),
    )  # fmt: skip
    space = parse_size(said)
    if not space:
        return None
    listen = args.listen or beginning.LISTEN
    check_address(listen)
    announce = tuple(check_announced(check_address(a)) for a in args.announce)
    if not announce:
        check_listened(listen)
    bootstrap = tuple(check_address(a) for a in args.bootstrap)
    offering = beginning.prepare_supplier(folder, space, listen, announce, bootstrap)
    say(f"your supplier keeps up to {format_size(space)} for others, in {folder}")
    say(f"  it listens at {listen}: at a router, forward its TCP and UDP port to this machine")
    return offering


# -- the vault


def _vault(args: argparse.Namespace, asking: Asking, key: VaultKey) -> bool:
    """Whether there is one."""
    if beginning.has_vault(key) and not config.unfounded_path(key.vault_id).exists():
        say(f"this machine knows vault {key.vault_id.hex()[:16]} already")
        return True
    if not config.unfounded_path(key.vault_id).exists():  # a key of a vault that is elsewhere
        return False
    if not (args.bootstrap or args.supplier):
        return False
    size = asking.value(args.size, "--space", "How large is your vault to be?", "10G")
    order = replace(parse_order(args), size=parse_size(size))
    order.check()
    created = trio.run(create_vault, key, order, suite())
    config.unfounded_path(key.vault_id).unlink(missing_ok=True)
    remember_addresses(created.family)
    say_created(key, order, args.key or config.default_key_path(), created.founders)
    return True


def _mountpoint(args: argparse.Namespace, asking: Asking) -> Path:
    said = asking.value(
        None if args.mount is None else str(args.mount), "--mount",
        "Where is it to be mounted?", str(Path.home() / "vault"),
    )  # fmt: skip
    path = Path(said).expanduser().absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


# -- what comes next


def _install_words(
    args: argparse.Namespace, mountpoint: Path | None, offering: Offering | None
) -> list[str]:
    words = []
    if mountpoint:
        words += ["--mount", str(mountpoint), *(["--key", str(args.key)] if args.key else [])]
    if offering:
        words += ["--supplier", str(offering.folder)]
    return ["install", *words] if words else []


def _say_next(
    args: argparse.Namespace,
    key: VaultKey,
    offering: Offering | None,
    made: bool,
    mountpoint: Path,
    install: list[str],
) -> None:
    """Commands that work as they stand. `install`: the words for it, unless it was done."""
    source = f"{quote(str(args.key))} " if args.key else ""
    say("What comes next:")
    if install:
        say(f"  {join(['bitdust', *install])}    # starts it with systemd, or by hand:")
        if offering:
            say(f"  {join(['bitdust', *command_words(offering)])}")
        if made:
            say(f"  mount.bitdust {source}{quote(str(mountpoint))}")
    if not made:
        _say_join(args, key, offering, source, mountpoint)
    say("  bitdust doctor    # is anything wrong here?")


def _say_join(
    args: argparse.Namespace,
    key: VaultKey,
    offering: Offering | None,
    source: str,
    mountpoint: Path,
) -> None:
    if not config.unfounded_path(key.vault_id).exists():  # the vault is elsewhere
        known = ",".join(args.bootstrap) or "HOST:PORT"
        say(f"  mount.bitdust {source}{quote(str(mountpoint))} -o bootstrap={known}")
        if not args.bootstrap:
            say("    # HOST:PORT: of any supplier of the vault, or node of the network")
        return
    if "join" in ALL:
        say("  bitdust join LINE    # comes by what a friend's bitdust invite printed")
        say("  bitdust invite       # or prints such a line for a friend")
        say("  bitdust vault create # once there are enough friends")
        return
    keyed = f" --key {quote(str(args.key))}" if args.key else ""
    if offering:
        say(f"  bitdust supplier invite --dir {quote(str(offering.folder))}    # for a friend")
    say(
        f"  bitdust vault create{keyed} --supplier HOST:PORT --invitation TOKEN ...    # of friends"
    )
