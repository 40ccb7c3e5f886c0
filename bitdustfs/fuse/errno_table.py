"""The one table from our errors to errno."""

import errno

from bitdustfs.errors import (
    BitdustError,
    DiskFull,
    FsError,
    LocalError,
    Superseded,
    Unavailable,
    UsageError,
)

_TABLE: tuple[tuple[type[BitdustError], int], ...] = (
    (DiskFull, errno.ENOSPC),
    (LocalError, errno.EIO),
    (Superseded, errno.EROFS),
    (Unavailable, errno.EIO),
    (UsageError, errno.EINVAL),
    (BitdustError, errno.EIO),
)


def errno_of(error: BaseException) -> int:
    """The errno a program gets for `error`; EIO for what we did not foresee."""
    if isinstance(error, FsError):
        return error.errno
    if isinstance(error, BaseExceptionGroup):
        return errno_of(error.exceptions[0])
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    return next((code for kind, code in _TABLE if isinstance(error, kind)), errno.EIO)
