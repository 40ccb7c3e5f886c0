"""Checks: the clock, limits of processes, room on disks."""

import ctypes
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from shlex import quote

from bitdustfs.blocks.evict import CACHE_LIMIT
from bitdustfs.supplier.daemon import DESCRIPTORS
from bitdustfs.supplier.desk import NEARLY_FULL
from bitdustfs.system.diagnosis import Observation, ok, warning, wrong
from bitdustfs.units import KIB, MIB, format_size

AHEAD_MAX = 120.0  #: seconds that a file here may be newer than the clock says
LOCKED = 256 * KIB  #: bytes that the pages of keys need
FULL = 64 * MIB  #: bytes free below which nothing can be written any more (cache/diskroom.py)
#: file systems on which memory maps of several machines, or crashes, are not what LMDB relies on
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph")
FORGETTING = ("tmpfs", "ramfs")
STA_UNSYNC, TIMEX_BYTES, STATUS_AT = 0x40, 208, 40  #: adjtimex(2) on 64-bit Linux


def clock_synchronised() -> bool | None:
    """Whether the kernel says that something keeps its clock right; None: it cannot be asked."""
    if ctypes.sizeof(ctypes.c_long) != 8:
        return None
    told = ctypes.create_string_buffer(TIMEX_BYTES)
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(told) < 0:  # modes 0: it only looks
            return None
    except (OSError, AttributeError):
        return None
    return not int.from_bytes(told.raw[STATUS_AT : STATUS_AT + 4], "little") & STA_UNSYNC


def check_clock(
    home: Path, synchronised: Callable[[], bool | None] = clock_synchronised,
    wall: Callable[[], float] = time.time,
) -> Iterator[Observation]:  # fmt: skip
    """Contracts and invitations have dates. What was written here cannot lie in the future."""
    newest = max((_changed(path) for path in _some_files(home)), default=0.0)
    if newest - wall() > AHEAD_MAX:
        days = (newest - wall()) / 86400
        yield wrong(
            "clock", f"the clock is behind what was written in {home}, by {days:.1f} days or more",
            "set it: timedatectl set-ntp true, as root",
        )  # fmt: skip
    elif synchronised() is False:
        yield warning(
            "clock", "nothing keeps the clock right, as far as the kernel knows",
            "timedatectl set-ntp true, as root (in a container that is the host's affair)",
        )  # fmt: skip
    else:
        yield ok("clock", "the clock is kept right, or at least not behind what was written here")


def _some_files(home: Path) -> Iterator[Path]:
    """What a mount or a supplier writes often. (Inodes' change times are the kernel's own.)"""
    for pattern in ("machine", "peers-*", "logs/*", "vaults/*/*", "run/*"):
        yield from home.glob(pattern)


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0


def check_limits() -> Iterator[Observation]:
    """Of this user's processes (getrlimit(2))."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < DESCRIPTORS:
        yield warning(
            "open-files", f"a process may have {files} files open; a supplier wants {DESCRIPTORS}",
            f"LimitNOFILE={DESCRIPTORS} in its unit, or a line in /etc/security/limits.conf",
        )  # fmt: skip
    else:
        yield ok("open-files", "a process may have enough files open")
    _, locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if locked != resource.RLIM_INFINITY and locked < LOCKED and os.geteuid():
        yield warning(
            "memlock", f"{format_size(locked)} of memory can be locked: keys may go to swap",
            f"LimitMEMLOCK={LOCKED} in the unit, or a line in /etc/security/limits.conf",
        )  # fmt: skip
    else:
        yield ok("memlock", "keys can be kept out of swap")


def check_disk(
    check: str, folder: Path, wanted: int = CACHE_LIMIT, kind: str | None = None
) -> Iterator[Observation]:
    """The disk of a folder that is there. `wanted`: bytes that it would take; `kind`: for tests."""
    kind = kind or file_system_of(folder)
    if kind in REMOTE:
        yield wrong(
            check, f"{folder} is on {kind}: what is kept there is not safe after a crash",
            "use a folder on a disk of this machine (BITDUST_HOME, or --dir of a supplier)",
        )  # fmt: skip
    elif kind in FORGETTING:
        yield warning(
            check, f"{folder} is on {kind}, in memory: a reboot forgets what is not published",
            "use a folder on a disk (BITDUST_HOME, or --dir of a supplier)",
        )  # fmt: skip
    stat = os.statvfs(folder)
    free, typed = stat.f_bavail * stat.f_frsize, quote(str(folder))
    if free < FULL:
        yield wrong(
            check, f"the disk of {folder} is full: {format_size(free)} left",
            f"delete something there: df -h {typed}",
        )  # fmt: skip
    elif free < min(wanted, NEARLY_FULL):
        yield warning(check, f"the disk of {folder} has {format_size(free)} left", f"df -h {typed}")
    elif stat.f_files and stat.f_favail < 1000:
        yield warning(
            check, f"the disk of {folder} takes {stat.f_favail} more files only", f"df -i {typed}"
        )
    else:
        yield ok(check, f"the disk of {folder} has {format_size(free)} free")


def file_system_of(folder: Path, table: Iterable[str] | None = None) -> str:
    """The type of the file system that a folder is on; "" where the table does not tell."""
    lines = table or Path("/proc/self/mountinfo").read_text(errors="surrogateescape").split("\n")
    found = os.stat(folder).st_dev
    device = f"{os.major(found)}:{os.minor(found)}"
    for line in lines:
        words, _, more = line.partition(" - ")
        if words.split(" ")[2:3] == [device]:
            return more.split(" ")[0]
    return ""
