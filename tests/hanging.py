"""A file system in which reading never ends and writing is at once: what local work waits for.

    python hanging.py MOUNTPOINT

It is attached and served as every mount is, and says "ready". Files `cold-0`, `cold-1` ... are read
for ever, as from suppliers that hang; the file `local` is written and synced at once.
"""

import os
import stat
import sys
from pathlib import Path

import pyfuse3
import trio

from bitdustfs.fuse.operations import Operations
from bitdustfs.mount.attachment import Attachment
from bitdustfs.mount.options import MountOptions

COLD = 64  #: files
SIZE = 4 << 20  #: bytes of each
LOCAL = 2  #: inode of the local file; those of the cold ones follow


class Hanging(Operations):
    """Nothing behind it."""

    def __init__(self):
        pyfuse3.Operations.__init__(self)

    def _entry(self, inode):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_nlink = inode, 1
        entry.st_mode = stat.S_IFDIR | 0o755 if inode == 1 else stat.S_IFREG | 0o644
        entry.st_size = 0 if inode <= LOCAL else SIZE
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        entry.entry_timeout = entry.attr_timeout = 3600
        return entry

    async def lookup(self, parent, name, ctx):
        if name == b"local":
            return self._entry(LOCAL)
        if name.startswith(b"cold-"):
            return self._entry(LOCAL + 1 + int(name[5:]))
        raise pyfuse3.FUSEError(2)

    async def getattr(self, inode, ctx):
        return self._entry(inode)

    async def setattr(self, inode, attr, fields, fh, ctx):
        return self._entry(inode)

    async def forget(self, forgotten):
        """Nothing was held."""

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode)

    async def getxattr(self, inode, name, ctx):
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    async def release(self, fh):
        """Nothing was held."""

    async def read(self, fh, off, size):
        if fh == LOCAL:
            return b""
        await trio.sleep_forever()

    async def write(self, fh, off, buf):
        return len(buf)

    async def fsync(self, fh, datasync):
        """It is done."""


async def main(mountpoint):
    options = MountOptions(mountpoint, Path("none"))
    attachment = Attachment(options, b"v" * 32, Hanging(), False)
    attachment.attach()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attachment.serve)
            await attachment.wait_served()
            print("ready", flush=True)
    finally:
        attachment.close()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
