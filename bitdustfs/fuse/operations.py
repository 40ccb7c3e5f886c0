"""pyfuse3 requests to volume calls and back. Every handler is wrapped (handlers.py)."""

import errno
import functools
import logging
import os
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyfuse3

from bitdustfs.errors import BitdustError, FsError
from bitdustfs.fs.content import WritableContent
from bitdustfs.fs.names import now, split_time
from bitdustfs.fs.past import is_past
from bitdustfs.fs.volume import Changes, Seen
from bitdustfs.fs.xattrs import WritableXattrs
from bitdustfs.fuse.entries import absent_from, caller_of, entry_of, not_kept
from bitdustfs.fuse.handlers import Handler, guarded
from bitdustfs.fuse.listings import Listings
from bitdustfs.fuse.shown import AS_KEPT, ShownOwner
from bitdustfs.fuse.sides import Sides
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

PAGE = 64  #: directory entries answered at once
BLOCK = 4096
WRITING = os.O_WRONLY | os.O_RDWR


def writes(handler: Handler) -> Handler:
    """Refuses with EROFS while the vault is read-only, and for what is in a snapshot."""

    @functools.wraps(handler)
    async def run(self: "Operations", *args: Any) -> Any:
        if self._vault.read_only or await self._sides.changes_past(args):
            raise pyfuse3.FUSEError(errno.EROFS)
        return await handler(self, *args)

    return run  # type: ignore[return-value]


async def nothing_to_wait_for() -> None:
    """What fsync waits for where nothing was written."""


class Operations(pyfuse3.Operations):
    """One mount that is looked at. What would change something, the kernel refuses (option ro)."""

    supports_dot_lookup = True
    enable_writeback_cache = False  # with it the kernel would never hear of another size
    enable_acl = False

    def __init__(self, vault: ReadVault, owner: ShownOwner = AS_KEPT) -> None:
        super().__init__()
        self._owner = owner
        self._vault, self._volume, self._content = vault, vault.volume, vault.content
        self._sides = Sides(vault)
        self._handles: dict[int, int] = {}  # handle -> inode
        self._next_handle = 1
        self.listings = Listings()
        self._keeps = True  # whether the kernel may keep what it is told

    @contextmanager
    def fleeting(self) -> Iterator[None]:
        """What the kernel is told of names and attributes meanwhile is not kept by it."""
        self._keeps = False
        try:
            yield
        finally:
            self._keeps = True

    def opened(self) -> frozenset[int]:
        """The inodes that programs have open."""
        return frozenset(self._handles.values())

    def _entry(self, found: Seen) -> pyfuse3.EntryAttributes:
        """What the kernel is told of an inode."""
        entry = entry_of(found, False, self._owner)
        return entry if self._keeps else not_kept(entry)

    # -- looking

    @guarded
    async def lookup(self, parent: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        found = await self._sides.lookup(parent, name)
        if found is None:
            return absent_from(parent) if self._keeps else not_kept(absent_from(parent))
        return self._entry(found)

    @guarded
    async def forget(self, forgotten: Sequence[tuple[int, int]]) -> None:
        for inode, count in forgotten:
            try:
                await self._sides.forget(inode, count)
            except BitdustError as error:  # nobody waits for an answer; the orphan stays listed
                log.warning("inode %d is purged at the next mount: %s", inode, error)

    @guarded
    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._entry(await self._sides.volume(inode).getattr(inode))

    @guarded
    async def readlink(self, inode: int, ctx: Any) -> bytes:
        return await self._sides.volume(inode).readlink(inode)

    @guarded
    async def opendir(self, inode: int, ctx: Any) -> int:
        await self._sides.find(inode)
        return self.listings.open(inode)

    @guarded
    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        folder, cookie, now = self.listings.inode(fh), start_id, self._vault.showing.turn
        turn, live = self.listings.turn(fh, not start_id, now), self._sides.volume(folder)
        while True:
            listed = self._sides.listed(folder, turn)
            page = await listed.readdir(folder, cookie, PAGE)
            if listed is not self._sides.listed(folder, turn):
                continue  # another root is shown since
            for entry in page:
                told = self._entry(entry.found)
                told = told if listed is live else not_kept(told)
                if not pyfuse3.readdir_reply(token, entry.name, told, entry.cookie):
                    return
                if entry.name not in (b".", b".."):
                    live.hold(entry.found, folder, entry.name)
                cookie = entry.cookie
            if not page:
                if cookie == start_id:  # else the kernel asks once more
                    self.listings.end(fh)
                return

    @guarded
    async def releasedir(self, fh: int) -> None:
        self.listings.close(fh)

    @guarded
    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        totals = await self._volume.totals()
        space = self._vault.space
        free, available = space.free(totals.live, self._content.dirty)
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK
        data.f_blocks = space.capacity // BLOCK
        data.f_bfree = free // BLOCK
        data.f_bavail = available // BLOCK
        data.f_files = 1 << 40
        data.f_ffree = data.f_favail = (1 << 40) - totals.inodes
        data.f_namemax = 255
        return data

    # -- attributes

    @guarded
    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        return await self._sides.xattrs(inode).get(inode, name)

    @guarded
    async def listxattr(self, inode: int, ctx: Any) -> list[bytes]:
        return await self._sides.xattrs(inode).list(inode, ctx.uid == 0)

    # -- open files

    def _open(self, inode: int, flags: int) -> pyfuse3.FileInfo:
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        self._handles[handle] = inode
        return pyfuse3.FileInfo(fh=handle, keep_cache=True)

    @guarded
    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if flags & WRITING and (self._vault.read_only or is_past(inode)):
            raise FsError(errno.EROFS)
        await self._sides.find(inode)
        return self._open(inode, flags)  # no await since it was there

    @guarded
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._sides.read(self._handles[fh], off, size)

    @guarded
    async def flush(self, fh: int) -> None:
        raise FsError(errno.ENOSYS)  # the kernel wrote everything before asking

    @guarded
    async def release(self, fh: int) -> None:
        self._handles.pop(fh, None)


class WritableOperations(Operations):
    """One mount that is also written, from when `show` was given a vault that may be."""

    enable_writeback_cache = True
    _writable: WritableContent
    _writable_xattrs: WritableXattrs

    def __init__(self, vault: ReadVault, owner: ShownOwner = AS_KEPT) -> None:
        super().__init__(vault, owner)
        self._durable: Callable[[], Awaitable[None]] = nothing_to_wait_for
        self._synchronous: set[int] = set()  # handles opened with O_SYNC or O_DSYNC
        self._writers: set[int] = set()  # handles opened for writing
        self._written: Counter[int] = Counter()  # inode -> how many of them it has

    def show(self, vault: WritableVault, durable: Callable[[], Awaitable[None]]) -> None:
        """Shows the same files from a vault that may be written. `durable`: fsync waits for it."""
        vault.volume.adopt(self._volume)
        self._vault, self._volume, self._content = vault, vault.volume, vault.content
        self._sides = Sides(vault)
        self._writable, self._writable_xattrs = vault.content, vault.xattrs
        self._durable = durable

    def _entry(self, found: Seen) -> pyfuse3.EntryAttributes:
        return entry_of(found, found.inode in self._written, self._owner)

    # -- making and removing

    @guarded
    @writes
    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> Any:
        mode = stat.S_IFDIR | stat.S_IMODE(mode)
        return self._entry(await self._volume.create(parent, name, mode, caller_of(ctx)))

    @guarded
    @writes
    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, ctx: Any) -> Any:
        return self._entry(await self._volume.create(parent, name, mode, caller_of(ctx), rdev=rdev))

    @guarded
    @writes
    async def symlink(self, parent: int, name: bytes, target: bytes, ctx: Any) -> Any:
        mode = stat.S_IFLNK | 0o777
        made = await self._volume.create(parent, name, mode, caller_of(ctx), target=target)
        return self._entry(made)

    @guarded
    @writes
    async def link(self, inode: int, new_parent: int, new_name: bytes, ctx: Any) -> Any:
        return self._entry(await self._volume.link(inode, new_parent, new_name))

    @guarded
    @writes
    async def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        await self._volume.unlink(parent, name)

    @guarded
    @writes
    async def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        await self._volume.rmdir(parent, name)

    @guarded
    @writes
    async def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, ctx: Any
    ) -> None:
        await self._volume.rename(parent, name, new_parent, new_name, flags, caller_of(ctx))

    # -- attributes

    @guarded
    @writes
    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        if fields.update_size:
            await self._writable.truncate(inode, attr.st_size)
        modified = split_time(attr.st_mtime_ns) if fields.update_mtime else None
        if fields.update_size and modified is None:
            modified = now()
        changes = Changes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=self._owner.new_uid(attr.st_uid) if fields.update_uid else None,
            gid=self._owner.new_gid(attr.st_gid) if fields.update_gid else None,
            atime=split_time(attr.st_atime_ns) if fields.update_atime else None,
            mtime=modified,
            ctime=split_time(attr.st_ctime_ns) if fields.update_ctime else None,
        )
        return self._entry(await self._volume.setattr(inode, changes))

    @guarded
    @writes
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        await self._writable_xattrs.set(inode, name, value)

    @guarded
    @writes
    async def removexattr(self, inode: int, name: bytes, ctx: Any) -> None:
        await self._writable_xattrs.remove(inode, name)

    # -- open files

    def _open(self, inode: int, flags: int) -> pyfuse3.FileInfo:
        info = super()._open(inode, flags)
        if flags & (os.O_SYNC | os.O_DSYNC):
            self._synchronous.add(info.fh)
        if flags & WRITING:
            self._writers.add(info.fh)
            self._written[inode] += 1
        return info

    @guarded
    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if flags & (WRITING | os.O_TRUNC) and (self._vault.read_only or is_past(inode)):
            raise FsError(errno.EROFS)
        if flags & os.O_TRUNC:  # no setattr follows
            await self._writable.truncate(inode, 0)
            await self._volume.setattr(inode, Changes(mtime=now()))
        found = await self._volume.getattr(inode) if flags & WRITING else None
        info = self._open(inode, flags)
        if found is not None and not found.stored:
            # the kernel was told of no blocks. No await since the handle is there: nobody is told
            # so again. The call does not wait: no pages are dropped
            pyfuse3.invalidate_inode(inode, attr_only=True)
        return info

    @guarded
    async def release(self, fh: int) -> None:
        inode = self._handles.pop(fh)
        self._synchronous.discard(fh)
        if fh in self._writers:
            self._writers.remove(fh)
            self._written[inode] -= 1
            if not self._written[inode]:
                del self._written[inode]

    @guarded
    @writes
    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        mode = stat.S_IFREG | stat.S_IMODE(mode)
        made = await self._volume.create(parent, name, mode, caller_of(ctx))
        return self._open(made.inode, flags), self._entry(made)

    @guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        if self._vault.read_only:  # nothing of a snapshot is open for writing
            raise FsError(errno.EROFS)
        await self._writable.write(self._handles[fh], off, buf)
        if fh in self._synchronous:
            await self._durable()
        return len(buf)

    @guarded
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._durable()

    @guarded
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._durable()
