"""Where passphrases and words come from: a terminal, a file descriptor, a service's credential.

Without a terminal a passphrase is the first line of the first of these that is there:

    BITDUST_PASSPHRASE_FD=N         what can be read from the open file descriptor N
    $CREDENTIALS_DIRECTORY/bitdust-passphrase
                                    systemd's LoadCredential=bitdust-passphrase:FILE
    standard input

A variable or an argument with the passphrase itself there is not: others could see it.
"""

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bitdustfs.cache import keyfile
from bitdustfs.errors import UsageError
from bitdustfs.plain import complain

FD, CREDENTIAL = "BITDUST_PASSPHRASE_FD", "bitdust-passphrase"
LINE_MAX = 4096  #: bytes of a passphrase


def ask_passphrase(prompt: str = "Passphrase of the key file: ") -> str:
    """One passphrase. Raises UsageError where the place that was named does not have it."""
    if FD in os.environ:
        return _of_descriptor(os.environ[FD])
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / CREDENTIAL
    if credential.is_absolute() and credential.exists():
        return _first_line(credential.read_bytes())
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    return sys.stdin.readline().rstrip("\n")


def ask_new_passphrase() -> str:
    """The same for a file that is to be locked; a terminal is asked twice. Raises UsageError."""
    first = ask_passphrase("New passphrase: ")
    if sys.stdin.isatty() and FD not in os.environ and getpass.getpass("Again: ") != first:
        raise UsageError("the two passphrases differ; nothing was changed")
    if not first:
        raise UsageError("an empty passphrase protects nothing; nothing was changed")
    return first


def ask_words() -> str:
    """The 24 words of a key, in as many lines as anybody likes; the last word ends it.

    What does not fit together is for keyfile.from_words to say.
    """
    if sys.stdin.isatty():
        complain("Type the 24 words, in one line or several; four letters of each are enough:")
    return read_words(iter(sys.stdin.readline, ""))


def read_words(lines: Iterator[str], count: Callable[[str], int] = keyfile.count_words) -> str:
    """Lines up to the one that has the last word, or up to an empty one behind some words."""
    said = ""
    for line in lines:
        if not line.strip() and said.strip():
            break
        said += line
        if count(said) >= keyfile.WORDS:
            break
    return said


def _of_descriptor(word: str) -> str:
    try:
        return _first_line(os.read(int(word), LINE_MAX))
    except (ValueError, OSError) as error:
        raise UsageError(f"{FD}={word}: no passphrase can be read there: {error}") from None


def _first_line(data: bytes) -> str:
    return data.partition(b"\n")[0].removesuffix(b"\r").decode(errors="surrogateescape")
