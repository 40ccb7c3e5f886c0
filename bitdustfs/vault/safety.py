"""How safe a file is, in one word: what `user.bitdust.state` and `user.bitdust.health` say.

state    dirty (in memory), local (survives this machine's power loss), published (survives the
         loss of this machine)
health   how many more suppliers may be lost before a part of the file is: "3"; "thin" while a part
         is at no more suppliers than reading it takes, and its copy on this machine is kept;
         "local" while a part is only on this machine; "unreadable" while too few of a part's
         suppliers answer
"""

from collections.abc import Collection

from bitdustfs.cache.state import State
from bitdustfs.core.items import EXTENT, decode_extent, kind_range
from bitdustfs.fs.attributes import load_inode
from bitdustfs.fs.content import Content
from bitdustfs.fs.xattrs import Own
from bitdustfs.rebuild.rebuilder import Rebuilder
from bitdustfs.tree.commit import Committer
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree

STATE, HEALTH = b"user.bitdust.state", b"user.bitdust.health"


class ReadSafety:
    """In a mount that only looks: nothing changes, and nobody watches the suppliers.

    `unpublished`: inodes that this machine changed before, in commits that no root names.
    """

    def __init__(self, unpublished: Collection[int]) -> None:
        self._unpublished = unpublished

    def answers(self) -> Own:
        """The attributes by their names."""
        return {STATE: self.state, HEALTH: self.health}

    async def state(self, inode: int) -> str:
        """local or published."""
        return "local" if inode in self._unpublished else "published"

    async def health(self, inode: int) -> str:
        """local: what suppliers have is not looked at here."""
        return "local"


class Safety:
    """In a mount that writes."""

    def __init__(
        self,
        tree: Tree,
        content: Content,
        committer: Committer,
        state: State,
        rebuilder: Rebuilder,
    ) -> None:
        self._tree, self._content, self._committer = tree, content, committer
        self._state, self._rebuilder = state, rebuilder

    def answers(self) -> Own:
        """The attributes by their names."""
        return {STATE: self.state, HEALTH: self.health}

    def state_now(self, inode: int) -> str:
        """dirty, local or published."""
        if self._content.is_dirty(inode):
            return "dirty"
        published = self._state.published()
        generation = 0 if published is None else published.generation
        changed = self._committer.changed_in.get(inode, 0)
        return "published" if changed <= generation else "local"

    async def state(self, inode: int) -> str:
        """dirty, local or published."""
        return self.state_now(inode)

    async def health(self, inode: int) -> str:
        """How many more suppliers may be lost; or thin, local, or unreadable."""
        if self.state_now(inode) != "published":
            return "local"
        blocks = await self._tree.run(_blocks_of, inode)
        margin, local = self._rebuilder.margin_of(blocks)
        if margin >= 0:
            rows = map(self._state.blocks.get, blocks)
            return "thin" if any(row is not None and row.thin for row in rows) else str(margin)
        return "local" if local else "unreadable"


def _blocks_of(tx: Transaction, inode: int) -> set[bytes]:
    """The blocks that a file's content is in."""
    load_inode(tx, inode)
    extents = (decode_extent(value) for _, value in tx.scan(*kind_range(inode, EXTENT)))
    return {extent.place.block for extent in extents if extent.place is not None}
