"""Checks: the home (BITDUST_HOME): who may read it, its key files, what its logs complain of."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.errors import KeyFileError, UsageError
from bitdustfs.mount import mount_config
from bitdustfs.supplier import supplier_config
from bitdustfs.system.diagnosis import Observation, ok, warning, wrong

RECENT = 86400.0  #: seconds in which a line of a log counts
LOG_TAIL = 256 << 10  #: bytes of a log that are looked at
LEVELS = ("ERROR", "CRITICAL")
SHOWN_MAX = 160  #: characters of a line that are shown


def check_home(home: Path, uid: int) -> Iterator[Observation]:
    """Its owner alone may look into it; it can be written."""
    found = home.stat()
    typed = quote(str(home))
    if found.st_uid != uid and uid:
        yield wrong(
            "home", f"{home} belongs to another user", f"sudo chown -R {uid} {typed}"
        )  # fmt: skip
    elif stat.S_IMODE(found.st_mode) & 0o077:
        yield warning("home", f"others may look into {home}", f"chmod 700 {typed}")
    elif not os.access(home, os.W_OK | os.X_OK):
        yield wrong("home", f"{home} cannot be written", f"chmod 700 {typed}")
    else:
        yield ok("home", f"{home} is its owner's alone")


def check_keys(home: Path) -> Iterator[Observation]:
    """Each file in keys/: whole, and its owner's alone. No passphrase is asked for."""
    files = [path for path in sorted((home / "keys").glob("*")) if path.is_file()]
    if not config.default_key_path().exists():
        yield warning(
            "key", f"there is no key at {config.default_key_path()}",
            "bitdust setup (with a key file elsewhere: name it by --key and -o key=)",
        )  # fmt: skip
    for path in files:
        try:
            keyfile.load(path, _locked)
            yield ok("key", f"{path} is whole")
        except _Locked:
            yield ok("key", f"{path} is whole as far as can be seen, behind its passphrase")
        except KeyFileError as error:
            said, _, todo = str(error).partition("; ")
            yield wrong("key", said, todo or f"move {path} away if it is no key")


def check_config() -> Iterator[Observation]:
    """config.toml, both sections; where there is none, nothing is said."""
    path = config.config_path()
    if not path.exists():
        return
    try:
        config.read_section("mount", mount_config.WORDS)
        config.read_section("supplier", supplier_config.WORDS)
        yield ok("config", f"{path} is well-formed")
    except UsageError as error:
        todo = f"edit {quote(str(path))}, then bitdust doctor"
        yield wrong("config", f"config.toml is not heeded: {error}", todo)


class _Locked(Exception):
    """A passphrase would be needed."""


def _locked() -> str:
    raise _Locked


def check_logs(home: Path, now: float | None = None) -> Iterator[Observation]:
    """Lines of the last day that report errors."""
    since = time.strftime("%F %T", time.localtime((now or time.time()) - RECENT))
    bad = False
    for path in sorted((home / "logs").glob("*.log")):
        lines = [line for line in _tail(path) if _is_error(line, since)]
        if lines:
            bad = True
            last = lines[-1][:SHOWN_MAX]
            yield warning(
                "logs", f"{len(lines)} errors in {path} within a day, the last one: {last}",
                f"less {quote(str(path))}",
            )  # fmt: skip
    if not bad:
        yield ok("logs", "mounts logged no error within a day")


def _is_error(line: str, since: str) -> bool:
    """As plain.py writes them: date, time, level, place."""
    words = line.split(" ", 3)
    return len(words) == 4 and words[2] in LEVELS and line[: len(since)] >= since


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
