"""What others wrote, made fit for a terminal and for a log: the one place that cleans text.

A terminal obeys escape sequences, a log is read line by line, and some characters make text look
like another one. So whatever cannot be printed is shown as its escape, newlines included: one
sentence stays one line. Everything goes out through here: what commands say by `say`, what is
logged by `PlainFormatter`. What suppliers answer is cut to TEXT_MAX besides, by `told`.
"""

import logging
import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TextIO

TEXT_MAX = 200  #: characters of what a peer says that are kept
TONES = {"good": 32, "fair": 33, "bad": 31}  #: green, yellow, red (ECMA-48)
#: least level of logging, and how syslog calls that
LEVELS = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (0, 7),
)
LOG_LEVELS = ("error", "warning", "info", "debug")
LOG_MAX = 4 << 20  #: bytes of one log file; two are kept


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


def say(text: object = "", to: TextIO | None = None, tone: str = "") -> None:
    """One line of a command, on standard output where nothing else is named.

    `tone`: one of TONES, on a terminal that shows colours, unless NO_COLOR is set (no-color.org).
    """
    stream = to or sys.stdout
    said = plain(text)
    if tone and stream.isatty() and not os.environ.get("NO_COLOR") and _has_colours():
        said = f"\x1b[{TONES[tone]}m{said}\x1b[0m"
    print(said, file=stream)


def _has_colours() -> bool:
    return os.environ.get("TERM", "dumb") != "dumb"


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


class PlainLog(logging.StreamHandler[TextIO]):
    """Logs to standard error, each record on one line."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_formatter(to_journal()))


def to_journal() -> bool:
    """Whether standard error is the journal itself (systemd.exec(5), JOURNAL_STREAM)."""
    with suppress(OSError):
        there = os.fstat(2)
        return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
    return False


def _formatter(journal: bool) -> PlainFormatter:
    """The journal has the time itself, and reads the level of each line (sd-daemon(3))."""
    if journal:
        return JournalFormatter("%(name)s: %(message)s")
    return PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class JournalFormatter(PlainFormatter):
    """A record as lines with the syslog level before each."""

    def format(self, record: logging.LogRecord) -> str:
        level = next(code for least, code in LEVELS if record.levelno >= least)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).split("\n"))


class BoundedLog(PlainLog):
    """Standard output and error go to a file, which at LOG_MAX becomes FILE.1; a new one is begun.

    So what libraries and a dying interpreter say is in it, too.
    """

    def __init__(self, path: Path, most: int) -> None:
        super().__init__()
        self._path, self._most = path, most
        sys.stdout.flush()
        sys.stderr.flush()
        self._begin()
        stream = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115 it stays open
        self.setStream(stream)

    def _begin(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def reopen(self) -> None:
        """Goes on in a file of that name, whatever became of the one before."""
        with self.lock or nullcontext(), suppress(OSError):
            self._begin()

    def flush(self) -> None:
        """Behind each line."""
        super().flush()
        with suppress(OSError):  # a full disk: what is there goes on
            if os.fstat(2).st_size >= self._most:
                os.replace(self._path, f"{self._path}.1")
                self._begin()


def reopen_logs() -> None:
    """Files that logs go to are opened anew: logrotate(8) may have moved them away."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, BoundedLog):
            handler.reopen()


def set_log_level(level: str) -> None:
    """One of LOG_LEVELS: less than that is not logged from here on."""
    logging.getLogger().setLevel(level.upper())


def log_plainly(level: int, rarely: logging.Filter, file: Path | None = None) -> None:
    """Logs go to standard error, or to that `file`, from here on; `rarely` bounds how many lines.

    Raises OSError.
    """
    handler = BoundedLog(file, LOG_MAX) if file else PlainLog()
    handler.addFilter(rarely)
    logging.basicConfig(level=level, handlers=[handler], force=file is not None)
