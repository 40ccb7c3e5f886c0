"""`bitdust key`: show, words, restore, protect."""

import argparse
from pathlib import Path

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.passphrases import (
    ask_first_passphrase,
    ask_new_passphrase,
    ask_passphrase,
    ask_words,
)
from bitdustfs.cli.results import KeySaid
from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import UsageError
from bitdustfs.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, run, text in (
        ("show", run_show, "which vault the key opens"),
        ("words", run_words, "print the key as 24 words, to be written down"),
        ("restore", run_restore, "make a key file from the 24 words"),
        ("protect", run_protect, "lock the key file by a passphrase"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--key", type=Path, help="the key file")
        if run is run_show:
            add_json(verb)
        verb.set_defaults(run=run)


def load_key(path: Path | None) -> VaultKey:
    """The key at `path` or the default place, asking for a passphrase on the terminal."""
    return keyfile.load(path or config.default_key_path(), ask_passphrase)


def run_show(args: argparse.Namespace) -> int:
    path = args.key or config.default_key_path()
    vault = load_key(path).vault_id.hex()
    if args.json:
        say_json(KeySaid(vault=vault, key=str(path), locked=keyfile.is_locked(path)))
    else:
        say(vault)
    return 0


def run_words(args: argparse.Namespace) -> int:
    say(keyfile.to_words(load_key(args.key)))
    return 0


def run_restore(args: argparse.Namespace) -> int:
    path = args.key or config.default_key_path()
    if path.exists():
        raise UsageError(f"{path} exists already; name another file with --key")
    keyfile.save(path, keyfile.from_words(ask_words()))
    say(f"key file written to {path}")
    return 0


def run_protect(args: argparse.Namespace) -> int:
    path = args.key or config.default_key_path()
    key = keyfile.load(path, ask_first_passphrase)
    keyfile.save(path, key, ask_new_passphrase())
    say(f"{path} now needs its passphrase")
    return 0
