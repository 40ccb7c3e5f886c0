"""Extended attributes of a vault's inodes, and the ones bitdustfs itself answers.

`user.bitdust.state` tells how safe a file is: dirty (in memory), local (survives this machine's
power loss), published (survives the loss of this machine). `user.bitdust.health` tells how many more
suppliers may be lost before a part of the file is: "3"; "local" while a part is only on this machine;
"unreadable" while too few of a part's suppliers answer.
"""

import errno

from bitdustfs.blocks.store import Piece
from bitdustfs.core.items import (
    EXTENT,
    XATTR,
    Xattr,
    decode_extent,
    decode_xattr,
    encode_item,
    kind_range,
    xattr_key,
)
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import FsError
from bitdustfs.fs.content import load_inode
from bitdustfs.fs.orphans import release_xattr
from bitdustfs.tree.tree import Transaction
from bitdustfs.tree.usage import count
from bitdustfs.units import NAME_MAX, XATTR_INLINE_MAX, XATTR_MAX
from bitdustfs.vault.vault import OpenVault

STATE = b"user.bitdust.state"
HEALTH = b"user.bitdust.health"
OWN_PREFIX = b"user.bitdust."
NEVER = (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")
ENODATA = errno.ENODATA


class Xattrs:
    """The xattr calls of one open vault."""

    def __init__(self, vault: OpenVault) -> None:
        self._vault, self._tree, self._store = vault, vault.volume.tree, vault.store

    async def get(self, inode: int, name: bytes) -> bytes:
        """The value; ENODATA when there is none."""
        if name == STATE:
            return self.state(inode).encode()
        if name == HEALTH:
            return (await self.health(inode)).encode()
        if name in NEVER and not await self._tree.run(_has_any, inode):
            raise FsError(ENODATA)
        value = await self._tree.run(lambda tx: tx.get(xattr_key(inode, name)))
        if value is None:
            raise FsError(ENODATA)
        item = decode_xattr(value)
        parts = [await self._store.read_extent(place, Kind.XATTR) for place in item.extents]
        return item.value + b"".join(parts)

    def state(self, inode: int) -> str:
        """dirty, local or published."""
        if self._vault.content.is_dirty(inode):
            return "dirty"
        published = self._vault.state.published()
        generation = 0 if published is None else published.generation
        changed = self._vault.committer.changed_in.get(inode, 0)
        return "published" if changed <= generation else "local"

    async def health(self, inode: int) -> str:
        """How many more suppliers may be lost; or local, or unreadable."""
        if self.state(inode) != "published" or self._vault.rebuilder is None:
            return "local"
        blocks = await self._tree.run(_blocks_of, inode)
        margin, local = self._vault.rebuilder.margin_of(blocks)
        if margin >= 0:
            return str(margin)
        return "local" if local else "unreadable"

    async def list(self, inode: int) -> list[bytes]:
        def names(tx: Transaction) -> list[bytes]:
            load_inode(tx, inode)
            return [key[9:] for key, _ in tx.scan(*kind_range(inode, XATTR))]

        return await self._tree.run(names)

    async def set(self, inode: int, name: bytes, value: bytes) -> None:
        """Sets or replaces; create-only and replace-only are pyfuse3's get before set."""
        if name.startswith(OWN_PREFIX):
            raise FsError(errno.EPERM)
        if name in NEVER[1:]:
            raise FsError(errno.EOPNOTSUPP)
        if not 0 < len(name) <= NAME_MAX:
            raise FsError(errno.ERANGE)
        if len(value) > XATTR_MAX:
            raise FsError(errno.E2BIG)
        if len(value) <= XATTR_INLINE_MAX:
            await self._put(inode, name, Xattr(1, value))
            return
        async with self._vault.content.sealing:
            places = await self._store.append(True, [Piece(Kind.XATTR, value, inode)])
            await self._put(inode, name, Xattr(1, b"", tuple(places)))

    async def _put(self, inode: int, name: bytes, item: Xattr) -> None:
        encoded = encode_item(item)

        def put(tx: Transaction) -> None:
            load_inode(tx, inode)
            release_xattr(tx, tx.get(xattr_key(inode, name)))
            for place in item.extents:
                count(tx, place.block, 1, 1)
            tx.put(xattr_key(inode, name), encoded)

        await self._tree.run(put)

    async def remove(self, inode: int, name: bytes) -> None:
        def drop(tx: Transaction) -> None:
            value = tx.get(xattr_key(inode, name))
            if value is None:
                raise FsError(ENODATA)
            release_xattr(tx, value)
            tx.delete(xattr_key(inode, name))

        await self._tree.run(drop)


def _blocks_of(tx: Transaction, inode: int) -> set[bytes]:
    """The blocks that a file's content is in."""
    load_inode(tx, inode)
    extents = (decode_extent(value) for _, value in tx.scan(*kind_range(inode, EXTENT)))
    return {extent.place.block for extent in extents if extent.place is not None}


def _has_any(tx: Transaction, inode: int) -> bool:
    return next(tx.scan(*kind_range(inode, XATTR)), None) is not None
