"""What others wrote, made fit for a terminal and for a log: the one place that cleans text.

A terminal obeys escape sequences, a log is read line by line, and some characters make text look
like another one. So whatever cannot be printed is shown as its escape, newlines included: one
sentence stays one line. Everything goes out through here: what commands say by `say`, what is
logged by `PlainFormatter`. What suppliers answer is cut to TEXT_MAX besides, by `told`.
"""

import logging
import sys
from typing import TextIO

TEXT_MAX = 200  #: characters of what a peer says that are kept


def plain(text: object) -> str:
    """One line in which every character is printable."""
    said = str(text)
    if said.isprintable():
        return said
    return "".join(c if c.isprintable() or _is_of_a_path(c) else repr(c)[1:-1] for c in said)


def _is_of_a_path(character: str) -> bool:
    """Whether it stands for a byte of a path here that is no UTF-8, and no control (PEP 383).

    What peers say is UTF-8, which has no such characters.
    """
    return "\udca0" <= character <= "\udcff"


def told(text: str) -> str:
    """What a peer said: plain, and not longer than anybody reads."""
    return plain(text[:TEXT_MAX])


def say(text: object = "", to: TextIO | None = None) -> None:
    """One line of a command, on standard output where nothing else is named."""
    print(plain(text), file=to or sys.stdout)


def complain(text: object) -> None:
    """One line of a command, on standard error."""
    say(text, sys.stderr)


class PlainFormatter(logging.Formatter):
    """One record is one line; lines of a traceback are set off: none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return plain(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(f"    {plain(line)}" for line in text.split("\n"))

    def formatStack(self, stack_info: str) -> str:
        return "\n".join(f"    {plain(line)}" for line in stack_info.split("\n"))


def log_plainly(level: int) -> None:
    """Logs go to standard error, each record on one line."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
