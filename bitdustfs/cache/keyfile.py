"""Key files: the vault's 32 secret bytes on disk, as words, or behind a passphrase.

    bitdust key 1                      bitdust key 1 protected
    <64 hex digits>                    <hex of salt (16) | ops u32 | memory u64 | secretbox>
    <8 hex digits: checksum>           <8 hex digits: checksum>

Passphrases go through Argon2id (RFC 9106) with bounded parameters, so that a hostile key file
cannot make opening it take all memory. Words are BIP-39's English list: 24 words for 32 bytes.
"""

import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from shlex import quote

from mnemonic import Mnemonic
from nacl import pwhash, secret
from nacl.exceptions import CryptoError

from bitdustfs.cache.folder import write_durably
from bitdustfs.config import default_key_path
from bitdustfs.core.hashing import tagged
from bitdustfs.core.keys import SECRET_SIZE, VaultKey
from bitdustfs.errors import KeyFileError
from bitdustfs.units import KIB, MIB

PLAIN, PROTECTED = "bitdust key 1", "bitdust key 1 protected"
_HEAD = struct.Struct(">16sIQ")
WORDS, SHORT = 24, 4  #: of a key; letters by which each is known
_NO_LETTERS = re.compile(r"[\s\d.,:;()\[\]-]+")
OPS_MAX, MEMORY_MAX = 16, 1024 * MIB
OPS, MEMORY = pwhash.argon2id.OPSLIMIT_MODERATE, pwhash.argon2id.MEMLIMIT_MODERATE


def save(path: Path, key: VaultKey, passphrase: str | None = None) -> None:
    """Writes a key file, mode 0600, synced; protected when a passphrase is given."""
    if passphrase is None:
        title, body = PLAIN, key.secret
    else:
        salt = os.urandom(16)
        box = secret.SecretBox(_stretch(passphrase, salt, OPS, MEMORY))
        title, body = PROTECTED, _HEAD.pack(salt, OPS, MEMORY) + box.encrypt(key.secret)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = f"{title}\n{body.hex()}\n{_checksum(title, body)}\n"
    write_durably(path, text.encode())


def load(path: Path, ask: Callable[[], str] | None = None) -> VaultKey:
    """The key in a file. `ask` is called for a passphrase when it needs one. Raises
    KeyFileError.
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_bytes()[: 4 * KIB].decode("ascii").split("\n")
    except FileNotFoundError:
        raise KeyFileError(
            f"there is no key file {path}; for a new vault: bitdust vault create --bootstrap "
            f"HOST:PORT{_option(path)}; from its 24 words: {_restore(path)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"the key file {path} cannot be read: {error}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError(
            f"others may read the key file {path}; run: chmod 600 {quote(str(path))}"
        )
    if len(lines) < 3 or lines[0] not in (PLAIN, PROTECTED):
        raise KeyFileError(f"{path} is not a bitdust key file")
    try:
        body = bytes.fromhex(lines[1])
    except ValueError:
        body = b""
    if _checksum(lines[0], body) != lines[2]:
        raise _damaged(path, "is damaged")
    if lines[0] == PROTECTED:
        if ask is None:
            raise KeyFileError(f"the key file {path} is locked by a passphrase")
        body = _unlock(path, body, ask())
    if len(body) != SECRET_SIZE:
        raise _damaged(path, "is damaged")
    return VaultKey(body)


def is_locked(path: Path) -> bool:
    """Whether a key file needs a passphrase, as far as it can be read."""
    try:
        with path.open("rb") as file:
            return file.readline(4 * KIB).strip() == PROTECTED.encode()
    except OSError:
        return False


def _restore(path: Path) -> str:
    """The command that makes the key file from its words."""
    return f"bitdust key restore{_option(path)}"


def _option(path: Path) -> str:
    """The words that name the key file in a command; "" for the one that is meant without."""
    return "" if path == default_key_path() else f" --key {quote(str(path))}"


def _damaged(path: Path, what: str) -> KeyFileError:
    return KeyFileError(
        f"the key file {path} {what}; move it away, and restore it from its 24 words: "
        f"{_restore(path)}"
    )


def to_words(key: VaultKey) -> str:
    """The key as 24 words."""
    words: str = Mnemonic("english").to_mnemonic(key.secret)
    return words


def count_words(text: str) -> int:
    """How many words there are; the numbers of a numbered list are none."""
    return len(_words_of(text))


def from_words(text: str) -> VaultKey:
    """The key of 24 words, however they are spaced, numbered or capitalised; of each the first
    four letters are enough, which no two words of the list share. Raises KeyFileError.
    """
    words = _words_of(text)
    if len(words) != WORDS:
        raise KeyFileError(f"a key is {WORDS} words; these are {len(words)}")
    mnemonic = Mnemonic("english")
    whole = {w: w for w in mnemonic.wordlist} | {
        w[:SHORT]: w for w in mnemonic.wordlist if len(w) > SHORT
    }
    for number, word in enumerate(words, 1):
        if word not in whole:
            raise KeyFileError(
                f"word {number}, {word!r}, is not in the word list; check its spelling"
            )
    words = [whole[word] for word in words]
    try:
        return VaultKey(bytes(mnemonic.to_entropy(words)))
    except (ValueError, LookupError):
        raise KeyFileError(
            "the words do not fit together: one is wrong or they are out of order"
        ) from None


def _words_of(text: str) -> list[str]:
    return [word for word in _NO_LETTERS.split(text.lower()) if word]


def _checksum(title: str, body: bytes) -> str:
    return tagged("key file", title.encode(), body)[:4].hex()


def _stretch(passphrase: str, salt: bytes, ops: int, memory: int) -> bytes:
    typed = passphrase.encode(errors="surrogateescape")  # of whatever encoding it was
    return pwhash.argon2id.kdf(
        secret.SecretBox.KEY_SIZE, typed, salt, opslimit=ops, memlimit=memory
    )


def _unlock(path: Path, body: bytes, passphrase: str) -> bytes:
    if len(body) < _HEAD.size:
        raise _damaged(path, "is damaged")
    salt, ops, memory = _HEAD.unpack_from(body)
    if not (1 <= ops <= OPS_MAX and 8 * KIB <= memory <= MEMORY_MAX):
        raise _damaged(path, "asks for absurd amounts of work: it is damaged")
    try:
        return secret.SecretBox(_stretch(passphrase, salt, ops, memory)).decrypt(body[_HEAD.size :])
    except CryptoError:
        raise KeyFileError(f"wrong passphrase for the key file {path}") from None
