"""The first steps on a machine, without a word: a key, a supplier, whether a vault is there.

`bitdust setup` asks and tells (cli/cmd_setup.py). Each step can be done again: what is there stays.
"""

import os
import random
import shutil
from pathlib import Path

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.cache.machine import known_addresses, note_own_supplier
from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import UsageError
from bitdustfs.supplier.nodekey import node_key
from bitdustfs.supplier.offering import Offering, last_offering, remember
from bitdustfs.supplier.supplier_config import configured_offering
from bitdustfs.units import GIB, format_size

ASKED = 3  #: words of a key that are asked back
LISTEN = "[::]:4100"  #: where a supplier listens unless told otherwise
DONATED_SHARE, DONATED_MAX = 4, 100 * GIB  #: what is proposed: of free space, and at most
LEAST = GIB  #: bytes below which nothing is proposed


def make_key(path: Path) -> VaultKey:
    """A new key, kept in a file. Raises UsageError where a file is there."""
    _check_free(path)
    key = VaultKey(os.urandom(32))
    config.unfounded_path(key.vault_id).touch(mode=0o600)
    keyfile.save(path, key)
    return key


def restore_key(path: Path, words: str) -> VaultKey:
    """The key of 24 words, kept in a file. Raises UsageError."""
    _check_free(path)
    key = keyfile.from_words(words)
    keyfile.save(path, key)
    return key


def _check_free(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists already; name another file with --key")


def asked_back(count: int = keyfile.WORDS, rng: random.Random | None = None) -> list[int]:
    """Which words, from 1 on, are asked for, to see that they are written down."""
    return sorted((rng or random.SystemRandom()).sample(range(1, count + 1), ASKED))


def is_word(key: VaultKey, number: int, said: str) -> bool:
    """Whether that is a key's word of this number: whole, or its first four letters."""
    word = keyfile.to_words(key).split()[number - 1]
    typed = said.strip().lower()
    return typed == word or (len(typed) >= keyfile.SHORT and typed == word[: keyfile.SHORT])


def has_vault(key: VaultKey) -> bool:
    """Whether this machine knows a vault of this key."""
    state = config.home() / "vaults" / key.vault_id.hex()
    return state.exists() or bool(known_addresses(key.vault_id))


def shelf_folder() -> Path:
    """Where a supplier is made unless told otherwise."""
    return config.home() / "shelf"


def proposed_donation(folder: Path) -> int:
    """Bytes that may be given without being missed; 0 where there is not much."""
    there = next(above for above in (folder, *folder.parents) if above.exists())
    share = shutil.disk_usage(there).free // DONATED_SHARE
    whole = min(DONATED_MAX, share) // GIB * GIB
    return whole if whole >= LEAST else 0


def prepare_supplier(
    folder: Path, space: int, listen: str, announce: tuple[str, ...], bootstrap: tuple[str, ...]
) -> Offering:
    """A supplier that can be started from now on. Raises UsageError, LocalError, OSError."""
    said = {"space": space, "listen": listen}
    more = {"announce": announce, "bootstrap": bootstrap}
    offering = configured_offering(folder, said | {k: v for k, v in more.items() if v})
    there = next(above for above in (folder, *folder.parents) if above.exists())
    free = shutil.disk_usage(there).free
    if last_offering(folder) is None and space > free:
        raise UsageError(f"{there} has room for {format_size(free)} only")
    key = node_key(folder)
    remember(offering)
    note_own_supplier(key.verify_key.encode(), folder)
    return offering
