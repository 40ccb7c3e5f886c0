"""`bitdust key`: show, words, restore, protect."""

import argparse
import getpass
import sys
from pathlib import Path

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import UsageError
from bitdustfs.plain import complain, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, run, text in (
        ("show", run_show, "which vault the key opens"),
        ("words", run_words, "print the key as 24 words, to be written down"),
        ("restore", run_restore, "make a key file from 24 words on standard input"),
        ("protect", run_protect, "lock the key file by a passphrase"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--key", type=Path, help="the key file")
        verb.set_defaults(run=run)


def load_key(path: Path | None) -> VaultKey:
    """The key at `path` or the default place, asking for a passphrase on the terminal."""
    return keyfile.load(path or config.default_key_path(), ask_passphrase)


def ask_passphrase() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    return getpass.getpass("Passphrase of the key file: ")


def run_show(args: argparse.Namespace) -> int:
    say(load_key(args.key).vault_id.hex())
    return 0


def run_words(args: argparse.Namespace) -> int:
    say(keyfile.to_words(load_key(args.key)))
    return 0


def run_restore(args: argparse.Namespace) -> int:
    path = args.key or config.default_key_path()
    if path.exists():
        raise UsageError(f"{path} exists already; name another file with --key")
    if sys.stdin.isatty():
        complain("Type the 24 words, then Ctrl-D:")
    keyfile.save(path, keyfile.from_words(sys.stdin.read()))
    say(f"key file written to {path}")
    return 0


def run_protect(args: argparse.Namespace) -> int:
    path = args.key or config.default_key_path()
    key = load_key(path)
    if sys.stdin.isatty():
        first = getpass.getpass("New passphrase: ")
        if first != getpass.getpass("Again: "):
            raise UsageError("the two passphrases differ; nothing was changed")
    else:
        first = sys.stdin.readline().rstrip("\n")
    if not first:
        raise UsageError("an empty passphrase protects nothing; nothing was changed")
    keyfile.save(path, key, first)
    say(f"{path} now needs its passphrase")
    return 0
