"""Where things are: BITDUST_HOME, or the XDG folders. Another BITDUST_HOME is another machine.

And `config.toml` in it: what mounts and suppliers are told where their command lines say nothing.
Each of them reads its own section; what words there are is defined where they are heeded
(mount/mount_config.py, supplier/supplier_config.py). What is wrong is named with its line.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from bitdustfs.errors import LocalError, UsageError
from bitdustfs.units import parse_size

SECTIONS = ("mount", "supplier")
CONFIG_MAX = 64 << 10  #: bytes of the file

Reader = Callable[[Any], Any]  #: the value of a word, from its TOML value. Raises UsageError


def home() -> Path:
    """This machine's folder for keys, state and logs; made when missing, for its owner only."""
    named = os.environ.get("BITDUST_HOME")
    path = Path(named) if named else Path(platformdirs.user_data_dir("bitdust"))
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"cannot make {path}: {error.strerror}; set BITDUST_HOME") from error
    return path.absolute()


def default_key_path() -> Path:
    """Where the key lives when no file is named."""
    return home() / "keys" / "vault.key"


def peers_path(vault: bytes) -> Path:
    """Addresses of this vault's suppliers, as last known: a convenience, never needed."""
    return home() / f"peers-{vault.hex()[:16]}"


def unfounded_path(vault: bytes) -> Path:
    """A file that is there while a key was made here and no vault with it as yet."""
    return home() / f"unfounded-{vault.hex()[:16]}"


def deleting_path(vault: bytes) -> Path:
    """Which suppliers a vault that is being deleted still has to be deleted at."""
    return home() / f"deleting-{vault.hex()[:16]}"


def names_path() -> Path:
    """Names of suppliers, vaults and machines, as this machine's owner gave them."""
    return home() / "names"


def own_suppliers_path() -> Path:
    """A folder with a file for each supplier that ran on this machine, by its node key.

    In it stands the supplier's folder.
    """
    return home() / "own-suppliers"


def config_path() -> Path:
    """The configuration file. It need not be there."""
    return home() / "config.toml"


def read_section(section: str, words: Mapping[str, Reader], path: Path | None = None) -> Any:
    """What `config.toml` says in a section: values by word, of those that it has.

    Raises UsageError, "FILE:LINE: what is wrong", and LocalError where it cannot be read.
    """
    path = path or config_path()
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > CONFIG_MAX:
        raise UsageError(f"{path}: it has more than {CONFIG_MAX} bytes")
    text = _text_of(data, path)
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(_syntax(path, str(error))) from None
    for name, value in said.items():
        if name not in SECTIONS or not isinstance(value, dict):
            sections = " and ".join(f"[{each}]" for each in SECTIONS)
            line = _line_of(text, "", name)
            raise UsageError(f"{path}:{line}: {name!r} is no section; there are {sections}")
    found = {}
    for word, value in said.get(section, {}).items():
        line = _line_of(text, section, word)
        if word not in words:
            there = ", ".join(words)
            raise UsageError(f"{path}:{line}: {word!r} is no word of [{section}]; it has {there}")
        try:
            found[word] = words[word](value)
        except UsageError as error:
            raise UsageError(f"{path}:{line}: {word}: {error}") from None
    return found


def _text_of(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: this is no UTF-8") from None


def _syntax(path: Path, error: str) -> str:
    """tomllib names the place behind what is wrong."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", error)
    return f"{path}:{found[2]}: {found[1]}, at column {found[3]}" if found else f"{path}: {error}"


def _line_of(text: str, section: str, word: str) -> int:
    """The number of the line where a word of a section stands, or of the section itself; "": of
    what stands above all sections, or of the section of that name.
    """
    inside, header = "", 1
    key = re.compile(rf"""\s*["']?{re.escape(word)}["']?\s*(=|\.)""")
    for number, line in enumerate(text.split("\n"), 1):
        if found := re.match(r"\s*\[+\s*[\"']?([^\]\"'.]*)", line):
            inside = found[1].strip()
            if inside == (section or word):
                header = number
        elif inside == section and key.match(line):
            return number
        elif not inside and re.match(rf"\s*{re.escape(section)}\s*(=|\.)", line) and section:
            header = number  # an inline table, or a dotted key
    return header


# -- values of words


def size_word(value: object) -> int:
    """Bytes, from a number or from "10G"."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        return parse_size(value)
    raise UsageError('write a size, for example "10G"')


def bool_word(value: object) -> bool:
    """true or false."""
    if isinstance(value, bool):
        return value
    raise UsageError("write true or false")


def number_word(low: float, high: float) -> Reader:
    """A number within bounds."""

    def read(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        raise UsageError(f"write a number from {low:g} to {high:g}")

    return read


def choice_word(*choices: str) -> Reader:
    """One of these."""

    def read(value: object) -> str:
        if value in choices:
            return str(value)
        raise UsageError(f"write one of {', '.join(choices)}")

    return read


def texts_word(check: Callable[[str], str]) -> Reader:
    """A list of texts, each of which `check` lets pass or raises UsageError for."""

    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise UsageError('write a list, for example ["one", "two"]')
        return tuple(check(each) for each in value)

    return read


def text_word(check: Callable[[str], str]) -> Reader:
    """One text, as of `texts_word`."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise UsageError("write a text in quotes")
        return check(value)

    return read
