"""A mountpoint as the machine sees it, from inside the mount's process and from outside."""

import ctypes
import errno
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bitdustfs import config
from bitdustfs.errors import LocalError, UsageError

log = logging.getLogger(__name__)

OURS = "fuse.bitdust"  #: the type of our mounts in the kernel's table
NOT_MOUNTED = (
    "no vault is mounted here (as seen from this BITDUST_HOME): mount.bitdust FOLDER mounts one"
)


def socket_path(mountpoint: Path) -> Path:
    """Where the mount at `mountpoint`, an absolute path without links, listens for commands."""
    name = hashlib.blake2b(os.fsencode(mountpoint), digest_size=6).hexdigest()
    return _run_folder() / f"{name}.sock"


def attached_marker(vault: bytes) -> Path:
    """The file that is there while a mount of this vault is attached, not merely uploading."""
    return _run_folder() / f"{vault.hex()[:16]}.attached"


def markers_of(mountpoint: Path) -> list[Path]:
    """The markers of the vaults that were attached there, and stay where a mount died."""
    marked = {**_marked("*.attached"), **_marked("*.ending")}
    return [marker for marker, path in marked.items() if path == mountpoint]


def ending_marker(vault: bytes) -> Path:
    """The file that is there from when such a mount is taken away until it has uploaded all.

    It stays where the kernel dropped the mount, which is then in its table still.
    """
    return _run_folder() / f"{vault.hex()[:16]}.ending"


def _run_folder() -> Path:
    folder = config.home() / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def attached() -> list[Path]:
    """Where vaults are mounted from this BITDUST_HOME, dead mounts included."""
    paths = set(_marked("*.attached").values())
    return sorted(path for path in paths if os.path.ismount(path) or is_dead(path))


def attached_unasked() -> list[Path]:
    """The same by the kernel's table: no mount is asked, so none that hangs holds it up."""
    return sorted(path for path in set(_marked("*.attached").values()) if mounted_at(path))


def _marked(pattern: str) -> dict[Path, Path]:
    """Markers, and the mountpoints that they name. A mount may take its marker away meanwhile."""
    found = {}
    for marker in _run_folder().glob(pattern):
        with suppress(FileNotFoundError):
            found[marker] = Path(os.fsdecode(marker.read_bytes()))
    return found


def mountpoint_of(named: Path | None) -> Path:
    """The mountpoint, absolute and without links, that a command means.

    `named`: the mountpoint or whatever lies in it; None: the only one of this BITDUST_HOME, else
    the only one that was taken away and still uploads. Raises
    UsageError. Where no mount of ours is at or above `named`, it is that path.
    """
    if named is None:
        ending = set(_marked("*.ending").values())
        there = attached() or sorted(path for path in ending if socket_path(path).exists())
        if len(there) == 1:
            return there[0]
        if there:
            raise UsageError(
                f"several vaults are mounted; name one of {', '.join(map(str, there))}"
            )
        raise UsageError(NOT_MOUNTED)
    path = Path(os.path.realpath(named))
    for above in (path, *path.parents):
        if socket_path(above).exists():
            return above
        if os.path.ismount(above):  # another file system's, or of another BITDUST_HOME
            break
    return path


def is_dead(path: Path) -> bool:
    """Whether a mount is there whose process has ended."""
    try:
        os.stat(path)
        os.listdir(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


class Mounted(NamedTuple):
    """What the kernel's table says of a mount."""

    kind: str  #: the type of its file system
    device: int  #: as in st_dev


def mounted_at(mountpoint: Path) -> Mounted | None:
    """What is mounted there last; None where nothing is. It does not ask the mount itself."""
    found, wanted = None, os.fsencode(mountpoint)
    # other white space than blanks and newlines is written as it is
    for line in Path("/proc/self/mountinfo").read_bytes().removesuffix(b"\n").split(b"\n"):
        words, _, more = line.partition(b" - ")
        fields = words.split(b" ")
        if _unescaped(fields[4]) == wanted:  # the last one lies on top
            major, minor = map(int, fields[2].split(b":"))
            found = Mounted(more.split(b" ")[0].decode(), os.makedev(major, minor))
    return found


def check_ours(mountpoint: Path) -> None:
    """Raises UsageError where the dead mount that `mountpoint` shows is none of a vault."""
    mounted = mounted_at(mountpoint)
    if mounted is None:
        raise UsageError(f"{mountpoint} lies in a dead mount; name the folder that is mounted")
    if mounted.kind != OURS:
        typed = shlex.quote(str(mountpoint))
        raise UsageError(
            f"a dead mount of type {mounted.kind} is at {mountpoint}: fusermount3 -u -z {typed}"
        )


def _unescaped(path: bytes) -> bytes:
    """Mountinfo writes space, tab, newline and backslash as three octal digits."""
    head, *rest = path.split(b"\\")
    return head + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def take_away(mountpoint: Path, lazily: bool = False) -> None:
    """Unmounts from outside. `lazily`: in use or not. Raises LocalError."""
    tool = shutil.which("fusermount3")
    if tool:
        command = [tool, "-u", *(["-z"] if lazily else [])]
    else:
        command = ["umount", *(["-l"] if lazily else [])]
    done = subprocess.run([*command, str(mountpoint)], capture_output=True, check=False)
    if done.returncode:
        why = os.fsdecode(done.stderr).strip()  # it names the mountpoint, which may not be UTF-8
        raise LocalError(f"{mountpoint} cannot be unmounted: {why}")


def sync_filesystem(path: Path) -> None:
    """syncfs(2): returns when the kernel handed over all that it held for this mount."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            log.warning(
                "the kernel could not hand everything over: %s", os.strerror(ctypes.get_errno())
            )
    finally:
        os.close(fd)
