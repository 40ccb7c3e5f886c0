"""How many requests may be under way at once, so that local work never queues behind the network.

A read that waits for suppliers holds a place until it is answered, which takes READ_DEADLINE where
they hang. There are two kinds of places. Handlers read requests from the kernel, in `serve`. Before
that the kernel lets no more than `max_background` reads ahead and written pages through at once, of
all files together, and its default is 12: as few programs that read hold all of them, and then a
local fsync waits, since its pages are not handed over.

FUSE takes that number from the reply to its INIT request, which pyfuse3 does not let anybody set.
So it is written to the connection's control file. That belongs to whoever mounted, in the file
system fusectl, which systemd mounts at CONTROL. Where nobody did, root mounts it aside, unseen.

How much the kernel asks for at once, of a file that is read in order, only root may set.
"""

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bitdustfs.mount.mountpoint import mounted_at

log = logging.getLogger(__name__)

#: requests in the background that the kernel lets through at once. Each of a write holds 1 MiB
BACKGROUND_MAX = 128
#: requests served at once: those, and as many that programs wait for. libfuse keeps a buffer of
#: 1 MiB for each, of which only what came is ever touched
HANDLERS_MAX = 2 * BACKGROUND_MAX
CONTROL = Path("/sys/fs/fuse/connections")
#: KiB that the kernel reads ahead, and asks for at once: a request costs as much as 100 KiB of it
READ_AHEAD = 1024
BACKING = Path("/sys/class/bdi")

#: Linux, the same on all machines
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
CMD_CREATE = 6


def widen(mountpoint: Path) -> None:
    """Lets BACKGROUND_MAX requests through at once. Where that cannot be set, it is logged."""
    try:
        _let_through(_device(mountpoint))
    except OSError as error:
        log.info("many reads of absent suppliers may hold local work up: %s", error)


def ask_for_more(mountpoint: Path) -> None:
    """Has the kernel read READ_AHEAD ahead, once requests are served: INIT sets it back.

    Where that cannot be set, it is logged.
    """
    try:
        device = _device(mountpoint)
        path = BACKING / f"{os.major(device)}:{os.minor(device)}" / "read_ahead_kb"
        path.write_text(str(READ_AHEAD))
    except OSError as error:  # usual, but for root
        log.info("files are read by small requests: %s", error)


def _let_through(device: int) -> None:
    connection = str(os.minor(device))
    with control_folder() as folder:
        for name, value in (
            ("max_background", BACKGROUND_MAX),
            ("congestion_threshold", BACKGROUND_MAX * 3 // 4),
        ):
            fd = os.open(f"{connection}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(fd, "w") as file:
                file.write(str(value))


def _device(mountpoint: Path) -> int:
    """The device of the mount at `mountpoint`. Asking the mount itself would wait for ourselves."""
    mounted = mounted_at(mountpoint)
    if mounted is None:
        raise FileNotFoundError(f"{mountpoint} is no mount")
    return mounted.device


@contextmanager
def control_folder() -> Iterator[int]:
    """A descriptor of fusectl's folder. Raises OSError."""
    try:
        folder = os.open(CONTROL, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not os.listdir(folder):  # nothing is mounted there: with fusectl we would be in it
            os.close(folder)
            raise FileNotFoundError(f"fusectl is not mounted at {CONTROL}")
    except FileNotFoundError:
        folder = _mounted_aside()
    try:
        yield folder
    finally:
        os.close(folder)


def _mounted_aside() -> int:
    """fusectl, mounted nowhere: it goes with the descriptor. Raises OSError, but for root."""
    context = _system(FSOPEN, ctypes.c_char_p(b"fusectl"), 0)
    try:
        _system(FSCONFIG, context, CMD_CREATE, None, None, 0)
        return _system(FSMOUNT, context, 0, 0)
    finally:
        with suppress(OSError):
            os.close(context)


def _system(number: int, *arguments: object) -> int:
    """A system call that libc has no name for everywhere. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = int(libc.syscall(number, *arguments))
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "fusectl")
    return done
