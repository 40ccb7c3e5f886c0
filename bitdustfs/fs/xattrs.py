"""Extended attributes of a vault's inodes, and the ones that bitdustfs itself answers.

Values of up to XATTR_INLINE_MAX bytes lie in their item, larger ones in an extent of their own. The
names that begin with `user.bitdust.` are answered by whoever opened the vault (vault/safety.py).

The kernel asks for permission by the prefix (xattr(7)): user.* as the content, trusted.* and
security.* by capabilities. It leaves system.* to the file system, also when others are let in
(allow_other). So nothing is kept under prefixes that nobody looks after.
"""

import errno
from collections.abc import Awaitable, Callable, Mapping

from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.space import NAME_COST, Space
from bitdustfs.blocks.writer import ExtentWriter, Plain
from bitdustfs.core.items import XATTR, Xattr, decode_xattr, encode_item, kind_range, xattr_key
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import FsError
from bitdustfs.fs.attributes import load_inode
from bitdustfs.fs.flush import Flusher
from bitdustfs.fs.orphans import release_xattr
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree
from bitdustfs.tree.usage import count
from bitdustfs.units import NAME_MAX, XATTR_INLINE_MAX, XATTR_LIST_MAX, XATTR_MAX

OWN_PREFIX = b"user.bitdust."
TRUSTED = b"trusted."
PREFIXES = (b"user.", TRUSTED, b"security.")
ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
CAPABILITY = b"security.capability"  #: the kernel asks for it at every write
ENODATA = errno.ENODATA
BARE_MAX = 4096  #: inodes without attributes that are remembered

Own = Mapping[bytes, Callable[[int], Awaitable[str]]]  #: name -> what answers it for an inode
#: name -> what sets it for an inode; None takes it away
OwnSet = Mapping[bytes, Callable[[int, bytes | None], Awaitable[None]]]


class Xattrs:
    """The xattr calls that change nothing."""

    def __init__(self, tree: Tree, reader: ExtentReader, own: Own) -> None:
        self._tree, self._reader, self._own = tree, reader, own
        self._bare: set[int] = set()  # inodes that have no attributes, as far as it was looked up

    async def get(self, inode: int, name: bytes) -> bytes:
        """The value; ENODATA when there is none, EOPNOTSUPP where there can be none."""
        _check_prefix(name)
        if name in self._own:
            return (await self._own[name](inode)).encode()
        if name in ACLS:
            raise FsError(ENODATA)
        if name == CAPABILITY and await self._is_bare(inode):
            raise FsError(ENODATA)
        value = await self._tree.run(lambda tx: tx.get(xattr_key(inode, name)))
        if value is None:
            raise FsError(ENODATA)
        item = decode_xattr(value)
        parts = [await self._reader.read_extent(place, Kind.XATTR) for place in item.extents]
        return item.value + b"".join(parts)

    async def _is_bare(self, inode: int) -> bool:
        """Whether the inode has no attributes: the kernel asks for one at each write(2)."""
        if inode in self._bare:
            return True
        if await self._tree.run(_has_any, inode):
            return False
        if len(self._bare) >= BARE_MAX:
            self._bare.clear()
        self._bare.add(inode)  # no await since it was looked up
        return True

    def turned(self) -> None:
        """The tree shows another root."""
        self._bare.clear()

    async def list(self, inode: int, privileged: bool) -> list[bytes]:
        """The names that the inode has; those of OWN_PREFIX are not among them.

        trusted.* is shown to whoever is `privileged`. Other prefixes, which older programs kept,
        are not shown: nobody could read them.
        """

        def names(tx: Transaction) -> list[bytes]:
            load_inode(tx, inode)
            return _names(tx, inode)

        found = await self._tree.run(names)
        return [name for name in found if privileged or not name.startswith(TRUSTED)]


class WritableXattrs(Xattrs):
    """The same, and those that change something."""

    def __init__(
        self,
        tree: Tree,
        reader: ExtentReader,
        own: Own,
        own_set: OwnSet,
        writer: ExtentWriter,
        flusher: Flusher,
        space: Space,
    ) -> None:
        super().__init__(tree, reader, own)
        self._own_set = own_set
        self._writer, self._flusher, self._space = writer, flusher, space

    async def set(self, inode: int, name: bytes, value: bytes) -> None:
        """Sets or replaces; create-only and replace-only are pyfuse3's get before set.

        Raises NoSpace where the vault has no room for it. ENOSPC where the names together would be
        too long to be listed ever again.
        """
        _check_prefix(name)
        if name in ACLS:
            raise FsError(errno.EOPNOTSUPP)
        if name in self._own_set:
            await self._own_set[name](inode, value)
            return
        if name.startswith(OWN_PREFIX):
            raise FsError(errno.EPERM)
        if not 0 < len(name) <= NAME_MAX:
            raise FsError(errno.ERANGE)
        if len(value) > XATTR_MAX:
            raise FsError(errno.E2BIG)
        await self._space.admit_metadata(NAME_COST + len(name) + len(value))
        if len(value) <= XATTR_INLINE_MAX:
            await self._put(inode, name, Xattr(1, value))
            return
        async with self._flusher.lock:
            places = await self._writer.append(True, [Plain(Kind.XATTR, value, inode)])
            await self._put(inode, name, Xattr(1, b"", tuple(places)))

    async def _put(self, inode: int, name: bytes, item: Xattr) -> None:
        encoded = encode_item(item)

        def put(tx: Transaction) -> None:
            load_inode(tx, inode)
            before = tx.get(xattr_key(inode, name))
            if before is None:
                listed = sum(len(other) + 1 for other in _names(tx, inode))
                if listed + len(name) + 1 > XATTR_LIST_MAX:
                    raise FsError(errno.ENOSPC)
            release_xattr(tx, before)
            for place in item.extents:
                count(tx, place.block, 1, 1)
            tx.put(xattr_key(inode, name), encoded)

        await self._tree.run(put)
        self._bare.discard(inode)  # no await since it has one

    async def remove(self, inode: int, name: bytes) -> None:
        """Removes; ENODATA when there is none, EOPNOTSUPP where there can be none."""
        _check_prefix(name)
        if name in self._own_set:
            await self._own_set[name](inode, None)
            return

        def drop(tx: Transaction) -> None:
            value = tx.get(xattr_key(inode, name))
            if value is None:
                raise FsError(ENODATA)
            release_xattr(tx, value)
            tx.delete(xattr_key(inode, name))

        await self._tree.run(drop)


def _check_prefix(name: bytes) -> None:
    """EOPNOTSUPP for what nobody looks after, EINVAL for a prefix alone (as ext4)."""
    if name in PREFIXES:
        raise FsError(errno.EINVAL)
    if not name.startswith(PREFIXES) and name not in ACLS:
        raise FsError(errno.EOPNOTSUPP)


def _names(tx: Transaction, inode: int) -> list[bytes]:
    keys = (key[9:] for key, _ in tx.scan(*kind_range(inode, XATTR)))
    return [name for name in keys if name.startswith(PREFIXES)]


def _has_any(tx: Transaction, inode: int) -> bool:
    return next(tx.scan(*kind_range(inode, XATTR)), None) is not None
