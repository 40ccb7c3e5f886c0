"""Where passphrases and words come from: a terminal, a file descriptor, a service's credential.

Without a terminal a passphrase is a line of the first of these that is there:

    BITDUST_PASSPHRASE_FD=N         the next line of the open file descriptor N. After the last one
                                    that a command needs it is closed
    $CREDENTIALS_DIRECTORY/bitdust-passphrase
                                    systemd's LoadCredential=bitdust-passphrase:FILE: its first line
    standard input                  the next line

A line ends with a newline or with what it is read from. It has at most LINE_MAX bytes, of whatever
encoding.
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
STANDARD = 2  #: descriptors up to this one are standard streams, which stay open


def ask_passphrase(prompt: str = "Passphrase of the key file: ", last: bool = True) -> str:
    """One passphrase. `last`: the command needs no other. Raises UsageError where the place that
    was named does not have it, or it is too long.
    """
    if FD in os.environ:
        return _of_descriptor(os.environ[FD], last)
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / CREDENTIAL
    if credential.is_absolute() and credential.exists():
        return _line_of(credential.read_bytes().partition(b"\n")[0])
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    return sys.stdin.readline().rstrip("\n")


def ask_first_passphrase() -> str:
    """The same where the command needs another one, too."""
    return ask_passphrase(last=False)


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


def _of_descriptor(word: str, last: bool) -> str:
    try:
        fd = int(word)
        line = _next_line(fd)
        if last and fd > STANDARD:
            os.close(fd)
    except (ValueError, OSError) as error:
        raise UsageError(f"{FD}={word}: no passphrase can be read there: {error}") from None
    return _line_of(line)


def _next_line(fd: int) -> bytes:
    """Up to a newline, or to the end, or one byte too many; what follows can be read later.

    Raises ValueError where nothing is there, and OSError.
    """
    line = bytearray()
    while len(line) <= LINE_MAX:
        byte = os.read(fd, 1)
        if byte == b"\n":
            return bytes(line)
        if not byte:
            if not line:
                raise ValueError("it is at its end")
            break
        line += byte
    return bytes(line)


def _line_of(data: bytes) -> str:
    """A passphrase from its bytes, of which keyfile.py makes the same bytes again."""
    if len(data) > LINE_MAX:
        raise UsageError(f"a passphrase has at most {LINE_MAX} bytes")
    return data.removesuffix(b"\r").decode(errors="surrogateescape")
