"""What this machine can do: which AEAD is fast, and malloc settings that large buffers want."""

import ctypes
from pathlib import Path

from bitdustfs.core.sealing import Suite, best_suite

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def suite() -> Suite:
    """AEGIS-256 where the CPU has AES instructions."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        flags = []
    return best_suite("aes" in flags)


def keep_large_buffers() -> None:
    """Stops malloc from giving megabyte buffers back on every free: sealing is then far faster.

    glibc only; elsewhere nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 3 << 20)  # whole slices and blocks still go back at once
        libc.mallopt(_M_TRIM_THRESHOLD, 32 << 20)
        libc.mallopt(_M_ARENA_MAX, 2)  # each arena keeps its own freed megabytes
    except (OSError, AttributeError):
        return
