"""Remounting: a mount that stays turns read-only for programs, or writable again.

The kernel keeps programs from writing, by mount(2) with MS_REMOUNT, which is root's. FUSE passes
nothing of that on, so the mount's process is told over its socket. It holds on to the vault: it
goes on publishing, and no other machine can write meanwhile.
"""

import ctypes
import errno
import os
from pathlib import Path

from bitdustfs.errors import LocalError, UsageError
from bitdustfs.mount.client import MountClient

#: mount(2), the same on all of Linux
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_NOATIME = 1, 2, 4, 32, 1024
WORD_FLAGS = {"noexec": 8, "sync": 16, "dirsync": 128}
ALWAYS = MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOATIME


def remount(mountpoint: Path, read_only: bool, words: frozenset[str]) -> None:
    """Read-only or writable, and with these `words` of WORD_FLAGS: the others are taken back.

    What was written before is on this machine's disk when it turned read-only. Raises UsageError
    where no mount runs or this is not root, LocalError where files are open for writing, and
    BitdustError with the mount's own sentence where it may not write.
    """
    if os.geteuid():
        raise UsageError(f"only root may remount {mountpoint}: unmount it, then mount it again")
    mount = MountClient(mountpoint)
    flags = ALWAYS | sum(WORD_FLAGS[word] for word in words)
    if read_only:
        mount.keep()  # somebody is there
        _change(mountpoint, flags | MS_RDONLY)  # it hands over what programs wrote
        mount.turn(read_only=True)
    else:
        mount.turn(read_only=False)
        _change(mountpoint, flags)


def _change(mountpoint: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not libc.mount(None, os.fsencode(mountpoint), None, ctypes.c_ulong(flags), None):
        return
    code = ctypes.get_errno()
    if code == errno.EBUSY:
        raise LocalError(
            f"{mountpoint} stays writable: files are open for writing there; close them first"
        )
    raise LocalError(f"{mountpoint} cannot be remounted: {os.strerror(code)}")
