"""Names that the owner of this machine gave to suppliers, vaults and machines.

They are kept in one file here, `names`, a line each: the whole hexadecimal key, a space, the name.
They are for what is shown on this machine. Nothing that is sent or stored elsewhere has them.
"""

import re
from pathlib import Path

from bitdustfs.cache.folder import write_durably
from bitdustfs.errors import LocalError, UsageError

NAME_MAX = 40  #: characters
NAMES_MAX = 1000
DIGITS_MIN = 8  #: hexadecimal digits, from which on a word is looked up
_KEY = re.compile(rf"\b[0-9a-f]{{{DIGITS_MIN},64}}\b")


class Nicknames:
    """The names, from their keys. Of a file that cannot be read nothing is shown, nor replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, str] = {}
        self._trouble, lines = "", []
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._trouble = f"the names in {path} cannot be read: {error.strerror}"
        for line in lines[:NAMES_MAX]:
            key, _, name = line.partition(" ")
            if _KEY.fullmatch(key) and _is_name(name):
                self._names[key] = name

    def all(self) -> dict[str, str]:
        """Name by key, in the order of names. Raises LocalError where they cannot be read."""
        self._check_read()
        return dict(sorted(self._names.items(), key=lambda item: item[1]))

    def of(self, key: str) -> str:
        """The name of a key, or of how one begins that only it begins with; "" for none."""
        found = {name for known, name in self._names.items() if _same(known, key)}
        return found.pop() if len(found) == 1 else ""

    def key_of(self, name: str) -> str:
        """The key that has the name; "" for none. Raises LocalError where they cannot be read."""
        self._check_read()
        return next((key for key, known in self._names.items() if known == name), "")

    def give(self, key: str, name: str) -> None:
        """Keeps the name of a whole key, or, for "", no name any more. Raises UsageError, and
        LocalError where the names cannot be read: they would be lost.
        """
        self._check_read()
        if name:
            check_name(name)
        if name and self.key_of(name) not in ("", key):
            raise UsageError(f"{name} is the name of {self.key_of(name)[:16]} already")
        if name and key not in self._names and len(self._names) >= NAMES_MAX:
            raise UsageError(f"there are {NAMES_MAX} names already")
        self._names.pop(key, None)
        if name:
            self._names[key] = name
        lines = "".join(f"{key} {name}\n" for key, name in self._names.items())
        write_durably(self._path, lines.encode())

    def _check_read(self) -> None:
        if self._trouble:
            raise LocalError(self._trouble)

    def dress(self, text: str) -> str:
        """The same text, with the name before each key, or beginning of one, that has one."""
        if not self._names:
            return text
        return _KEY.sub(lambda found: self._dressed(found[0]), text)

    def _dressed(self, key: str) -> str:
        name = self.of(key)
        return f"{name} ({key})" if name else key


def check_name(name: str) -> None:
    """Raises UsageError for what nothing can be called."""
    if not _is_name(name):
        raise UsageError(f"a name has 1 to {NAME_MAX} characters that can be seen, and a letter")


def _same(known: str, key: str) -> bool:
    """Whether one is how the other begins: both may be what somebody was shown."""
    return known.startswith(key) or key.startswith(known)


def _is_name(name: str) -> bool:
    plain = 0 < len(name) <= NAME_MAX and name.isprintable() and name == name.strip()
    return plain and any(c.isalpha() for c in name) and not _KEY.fullmatch(name)
