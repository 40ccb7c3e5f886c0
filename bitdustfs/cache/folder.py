"""A folder that one process owns: identity marker, exclusive lock, durable small files.

Used for a vault's state folder and for a supplier's shelf. The marker guards against the disk that
was not mounted at boot (an empty folder must not silently become a new store), the lock against two
processes on one folder.
"""

import errno
import fcntl
import json
import os
from pathlib import Path

from bitdustfs.errors import DiskFull, LocalError, StateForeign, StateLocked

MARKER = "bitdust.json"


def fsync_folder(path: Path) -> None:
    """Makes creations, renames and deletions in `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def local_error(error: OSError) -> LocalError:
    """What to say of a disk of this machine that refused or failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("this machine's disk is full; free some room for the cache")
    return LocalError(f"this machine's disk failed: {error.strerror}")


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `data` so that after a crash it holds the old bytes or the new, synced.

    What is written aside is a new file of this `mode`: a link that somebody else made there is not
    written through.
    """
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(aside, flags, mode)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, mode)  # whatever the umask
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    fsync_folder(path.parent)


def file_mark(path: Path) -> bytes:
    """What no copy of a file has: its inode's number and change time, which nobody can set.

    Empty where there is no such file.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise local_error(error) from error
    return b"%d %d" % (found.st_ino, found.st_ctime_ns)


class OwnedFolder:
    """Opens `path` for `identity` (JSON-able, compared whole on its "id"), creating it when empty.

    Raises StateLocked when another process has it, StateForeign when it holds something else.
    """

    def __init__(self, path: Path, kind: str, identity: dict[str, str]) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LocalError(f"cannot use {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise StateLocked(
                f"{path} is in use by process {holder}; unmount or stop that first"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        try:
            self.identity = self._check_marker(kind, identity)
        except BaseException:
            self.close()
            raise

    def _check_marker(self, kind: str, identity: dict[str, str]) -> dict[str, str]:
        marker = self.path / MARKER
        wanted = {"kind": kind, "format": "1", **identity}
        try:
            found = json.loads(marker.read_bytes())
            if not isinstance(found, dict):
                raise ValueError("it is no JSON object")
        except FileNotFoundError:
            rest = [p.name for p in self.path.iterdir() if p.name not in ("lock", MARKER + ".new")]
            if rest:
                raise StateForeign(
                    f"{self.path} is not empty and has no {MARKER}; is the right disk mounted?"
                ) from None
            write_durably(marker, json.dumps(wanted).encode())
            return wanted
        except (OSError, ValueError) as error:
            raise StateForeign(f"{marker} cannot be read: {error}") from None
        for name in ("kind", "format", "id"):
            if found.get(name) != wanted[name]:
                raise StateForeign(
                    f"{self.path} belongs to another {kind} ({name} {found.get(name)!r}); "
                    "name the right folder or move this one away"
                )
        return {str(k): str(v) for k, v in found.items()}

    def close(self) -> None:
        """Releases the lock; the folder stays."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
