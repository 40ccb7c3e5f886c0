"""What stands in the way of a mount, said before anything is begun, and what to do about it.

libfuse says these things on standard error only, which a mount in the background does not show.
"""

import os
import shutil
from pathlib import Path
from shlex import quote

from bitdustfs.errors import LocalError, UsageError
from bitdustfs.mount.mountpoint import check_ours, is_dead, socket_path
from bitdustfs.mount.options import MountOptions

DEVICE, FUSE_CONF = Path("/dev/fuse"), Path("/etc/fuse.conf")


def check_mountable(
    options: MountOptions, uid: int, device: Path = DEVICE, conf: Path = FUSE_CONF
) -> None:
    """Raises UsageError or LocalError where the user `uid` cannot mount so. A dead mount of ours is
    no obstacle: see remains.clear_dead.
    """
    mountpoint, typed = options.mountpoint, quote(str(options.mountpoint))
    if is_dead(mountpoint):
        check_ours(mountpoint)
    elif not mountpoint.is_dir():
        there = mountpoint.exists()
        todo = "it is something else" if there else f"make it first: mkdir -p {typed}"
        raise UsageError(f"{mountpoint} is not a folder; {todo}")
    elif os.path.ismount(mountpoint):
        if socket_path(mountpoint).exists():
            raise UsageError(f"a vault is mounted at {mountpoint} already: bitdust status {typed}")
        raise UsageError(f"something is mounted at {mountpoint} already")
    elif uid and not os.access(mountpoint, os.W_OK):
        raise UsageError(
            f"{mountpoint} is not writable for you, and FUSE lets users mount only on folders of "
            f"their own: sudo chown {uid} {typed}"
        )
    if not device.exists():
        raise LocalError(
            f"this machine has no {device}: modprobe fuse as root (a container needs --device "
            f"{device} and the capability SYS_ADMIN)"
        )
    if uid and not shutil.which("fusermount3"):
        raise LocalError("fusermount3 is missing, by which users mount: install the package fuse3")
    if uid and options.allow_other and not _lets_others_in(conf):
        raise UsageError(
            f"allow_other needs the line user_allow_other in {conf}, where a user mounts: "
            f"echo user_allow_other | sudo tee -a {conf}"
        )


def _lets_others_in(conf: Path) -> bool:
    try:
        return "user_allow_other" in map(str.strip, conf.read_text().splitlines())
    except (OSError, UnicodeDecodeError):
        return False
