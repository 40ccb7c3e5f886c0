"""The floor: a file system in Python that keeps everything in memory and does nothing else.

`python -m benchmarks.floor MOUNTPOINT` mounts it, in the foreground. No design over pyfuse3 can be
much faster than this one, so what a figure of ours lacks against it is ours to gain. The kernel is
told what it is told of a vault: how long it may keep names and attributes, that it collects writes,
and how many requests it lets through. It keeps what the workload needs: no links, no permissions.
"""

import errno
import os
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyfuse3
import trio

from bitdustfs.mount.places import HANDLERS_MAX, widen

KEPT = 3600.0  #: seconds that the kernel may keep names and attributes


class Node:
    """One inode: a folder has names, a file has data."""

    def __init__(self, mode: int) -> None:
        self.mode, self.names, self.data = mode, dict[bytes, int](), bytearray()
        self.time = time.time_ns()


class Floor(pyfuse3.Operations):
    """Each method does the least that the kernel accepts."""

    enable_writeback_cache = True

    def __init__(self) -> None:
        super().__init__()
        self._nodes = {pyfuse3.ROOT_INODE: Node(stat.S_IFDIR | 0o755)}
        self._last = int(pyfuse3.ROOT_INODE)

    def _entry(self, inode: int) -> Any:
        node, entry = self._nodes[inode], pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_mode, entry.st_nlink = inode, node.mode, 1
        entry.st_size = len(node.data)
        entry.st_blksize, entry.st_blocks = 4096, (len(node.data) + 511) // 512
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = node.time
        entry.entry_timeout = entry.attr_timeout = KEPT
        return entry

    def _add(self, parent: int, name: bytes, mode: int) -> int:
        self._last += 1
        self._nodes[self._last] = Node(mode)
        self._nodes[parent].names[name] = self._last
        return self._last

    async def getattr(self, inode: int, ctx: Any = None) -> Any:
        return self._entry(inode)

    async def lookup(self, parent: int, name: bytes, ctx: Any = None) -> Any:
        found = self._nodes[parent].names.get(name)
        if found is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._entry(found)

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: Any, ctx: Any) -> Any:
        node = self._nodes[inode]
        if fields.update_size:
            del node.data[attr.st_size :]
            node.data.extend(bytes(attr.st_size - len(node.data)))
        if fields.update_mtime:
            node.time = attr.st_mtime_ns
        return self._entry(inode)

    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> Any:
        return self._entry(self._add(parent, name, stat.S_IFDIR | stat.S_IMODE(mode)))

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        inode = self._add(parent, name, stat.S_IFREG | stat.S_IMODE(mode))
        return pyfuse3.FileInfo(fh=inode, keep_cache=True), self._entry(inode)

    async def open(self, inode: int, flags: int, ctx: Any) -> Any:
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(memoryview(self._nodes[fh].data)[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        data = self._nodes[fh].data
        if len(data) < off:
            data.extend(bytes(off - len(data)))
        data[off : off + len(buf)] = buf
        return len(buf)

    async def rename(
        self, parent: int, name: bytes, new: int, new_name: bytes, flags: int, ctx: Any
    ) -> None:
        self._nodes[new].names[new_name] = self._nodes[parent].names.pop(name)

    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        del self._nodes[parent].names[name]

    async def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        del self._nodes[parent].names[name]

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, fh: int, start: int, token: Any) -> None:
        names = [*self._nodes[fh].names.items()][start:]
        for after, (name, inode) in enumerate(names, start + 1):
            if not pyfuse3.readdir_reply(token, name, self._entry(inode), after):
                return

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    async def statfs(self, ctx: Any) -> Any:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = data.f_bfree = data.f_bavail = 1 << 30
        data.f_files = data.f_ffree = data.f_favail = 1 << 30
        data.f_namemax = 255
        return data

    async def forget(self, inodes: Sequence[tuple[int, int]]) -> None:
        """What is unlinked stays in memory: nobody looks."""

    async def flush(self, fh: int) -> None:
        pass

    async def release(self, fh: int) -> None:
        pass

    async def releasedir(self, fh: int) -> None:
        pass

    async def fsync(self, fh: int, datasync: bool) -> None:
        pass


def main() -> None:
    mountpoint = Path(sys.argv[1])
    words = {*pyfuse3.default_options, "fsname=floor", "default_permissions", "noatime"}
    pyfuse3.init(Floor(), str(mountpoint), words)
    widen(mountpoint)
    try:
        trio.run(pyfuse3.main, 1, HANDLERS_MAX)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
