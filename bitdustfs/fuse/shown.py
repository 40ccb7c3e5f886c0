"""Whose files are shown to be. Without pyfuse3, for who only reads options of mounts."""

import errno
from typing import NamedTuple

from bitdustfs.errors import FsError


class ShownOwner(NamedTuple):
    """Whose all files are shown to be, as by uid= and gid= of other mounts; None: as is kept.

    The kernel checks permissions by it. What is kept of owners changes by nothing then: owners of
    new files are kept as ever.
    """

    uid: int | None = None
    gid: int | None = None

    def new_uid(self, uid: int) -> int | None:
        """What chown keeps: None where it is shown so already. Raises FsError(EPERM)."""
        return _new_owner(self.uid, uid)

    def new_gid(self, gid: int) -> int | None:
        """The same of a group."""
        return _new_owner(self.gid, gid)


def _new_owner(shown: int | None, wanted: int) -> int | None:
    if shown is None:
        return wanted
    if shown != wanted:
        raise FsError(errno.EPERM)
    return None


AS_KEPT = ShownOwner()
