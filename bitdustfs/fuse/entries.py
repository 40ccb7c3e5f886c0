"""What the kernel is told of an inode, and for how long it may believe it."""

from typing import Any

import pyfuse3

from bitdustfs.core.items import Inode, Time
from bitdustfs.fs.names import Caller
from bitdustfs.fs.past import is_fleeting
from bitdustfs.fs.volume import Seen
from bitdustfs.fuse.shown import ShownOwner

CACHE_SECONDS = 3600.0  #: how long the kernel may keep what only this mount can change
UNSETTLED_SECONDS = 1.0  #: the same, while it is not sure how much of a file is no hole


def caller_of(ctx: Any) -> Caller:
    """Who asks; the kernel applied the umask already."""
    return Caller(ctx.uid, ctx.gid)


def entry_of(found: Seen, written: bool, shown: ShownOwner) -> pyfuse3.EntryAttributes:
    """What the kernel is told of an inode. `written`: somebody has it open for writing.

    Then the kernel may hold pages that were not handed over, and a file with data must not be shown
    without: tar -S archives a file of no blocks as one hole, and does not read it.
    """
    attributes: Inode = found.attributes
    blocks = -(-found.stored // 512)
    sure = found.settled and not written
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = found.inode
    entry.generation = 0
    entry.entry_timeout = CACHE_SECONDS
    entry.attr_timeout = CACHE_SECONDS if sure else UNSETTLED_SECONDS
    if is_fleeting(found.inode):  # in a list of snapshots not even the attributes are true
        entry.entry_timeout = entry.attr_timeout = 0
    entry.st_mode, entry.st_nlink = attributes.mode, attributes.nlink
    entry.st_uid = attributes.uid if shown.uid is None else shown.uid
    entry.st_gid = attributes.gid if shown.gid is None else shown.gid
    entry.st_rdev = attributes.rdev
    entry.st_size = attributes.size
    entry.st_blksize = 128 * 1024
    entry.st_blocks = max(1, blocks) if written else blocks
    entry.st_atime_ns = _nanoseconds(attributes.atime)
    entry.st_mtime_ns = _nanoseconds(attributes.mtime)
    entry.st_ctime_ns = _nanoseconds(attributes.ctime)
    return entry


def absent_from(folder: int) -> pyfuse3.EntryAttributes:
    """What the kernel is told of a name that is not in a folder."""
    absent = pyfuse3.EntryAttributes()  # st_ino 0: the kernel remembers the absence
    absent.st_ino = 0
    absent.entry_timeout = 0 if is_fleeting(folder) else CACHE_SECONDS
    return absent


def not_kept(entry: pyfuse3.EntryAttributes) -> pyfuse3.EntryAttributes:
    """The same, to be asked for again."""
    entry.entry_timeout = entry.attr_timeout = 0
    return entry


def _nanoseconds(time_: Time) -> int:
    return time_[0] * 1_000_000_000 + time_[1]
