"""Writes units and links, and takes away exactly what it wrote. Nothing of others is touched.

What was written is remembered in `installed` of the home: each path, and a hash of what it holds.
That file is written before the first of them, so that a crash leaves nothing that is not known. A
path that holds something else than what was written there is somebody else's: it is neither
replaced nor removed.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bitdustfs import config
from bitdustfs.cache.folder import write_durably
from bitdustfs.errors import LocalError, UsageError

UNIT_MODE = 0o644


@dataclass(frozen=True)
class Artifact:
    """One thing that is to be there: a file with `text`, or a link to `target`."""

    path: Path
    text: str = ""
    target: str = ""

    @property
    def mark(self) -> str:
        """What `mark_of` says of it once it is there."""
        return f"-> {self.target}" if self.target else _hash(self.text.encode())


class _Inventory(msgspec.Struct):
    """The file `installed`. `folders`: that were made for the pieces."""

    pieces: dict[str, str] = {}
    folders: list[str] = []


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def mark_of(path: Path) -> str:
    """What is at a path: where it links to, or a hash of what it holds; "" where nothing is."""
    try:
        if path.is_symlink():
            return f"-> {os.readlink(path)}"
        return _hash(path.read_bytes())
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"unreadable: {error.strerror}"


class Installed:
    """What this home installed, as its list says. Raises LocalError where that cannot be read."""

    def __init__(self, home: Path | None = None) -> None:
        self._list = (home or config.home()) / "installed"
        try:
            kept = msgspec.json.decode(self._list.read_bytes(), type=_Inventory)
        except FileNotFoundError:
            kept = _Inventory()
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise LocalError(f"{self._list} cannot be read: {error}") from None
        self._marks, self._folders = kept.pieces, {*kept.folders}

    def check(self, pieces: Iterable[Artifact]) -> list[Artifact]:
        """Those that are not there yet as they should be.

        Raises UsageError for a path that holds something which was not written from here.
        """
        due = []
        for piece in pieces:
            there = mark_of(piece.path)
            if there == piece.mark:
                continue
            if there and there != self._marks.get(str(piece.path)):
                raise UsageError(
                    f"{piece.path} is there already and was not written by bitdust install from "
                    "here; move it away, or leave it and do without this one"
                )
            due.append(piece)
        return due

    def install(self, pieces: Sequence[Artifact]) -> None:
        """Writes pieces that `check` said are due. Raises OSError."""
        folders = {folder for piece in pieces for folder in _missing(piece.path.parent)}
        # what is replaced is ours until it is, and what replaces it is ours from then on
        for piece in pieces:
            if not mark_of(piece.path):
                self._marks[str(piece.path)] = piece.mark
        self._folders |= {*map(str, folders)}
        self._save()
        for piece in pieces:
            piece.path.parent.mkdir(parents=True, exist_ok=True)
            if piece.target:
                _link(piece)
            else:
                write_durably(piece.path, piece.text.encode(), UNIT_MODE)
            self._marks[str(piece.path)] = piece.mark
        self._save()

    def ours(self) -> list[Path]:
        """What was written and is still as it was."""
        return [Path(p) for p, mark in self._marks.items() if mark_of(Path(p)) == mark]

    def changed(self) -> list[Path]:
        """What was written and is something else by now; it stays."""
        there = {p: mark_of(Path(p)) for p in self._marks}
        return [Path(p) for p, mark in self._marks.items() if there[p] not in ("", mark)]

    def remove(self) -> None:
        """Takes away what is `ours`, and folders that were made for it and are empty."""
        for path in self.ours():
            path.unlink()
        for folder in sorted(self._folders, key=len, reverse=True):
            with suppress(OSError):  # others put something there
                Path(folder).rmdir()
        self._list.unlink(missing_ok=True)

    def _save(self) -> None:
        write_durably(
            self._list, msgspec.json.encode(_Inventory(self._marks, sorted(self._folders)))
        )


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _link(piece: Artifact) -> None:
    aside = piece.path.with_name(piece.path.name + ".new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(piece.target)
    os.replace(aside, piece.path)
