"""How safe things are: of one file, in one word, and of the whole vault, as an account.

The words are what `user.bitdust.state` and `user.bitdust.health` say:

state    dirty (in memory), local (survives this machine's power loss), published (survives the
         loss of this machine)
health   how many more suppliers may be lost before a part of the file is: "3"; "thin" while a part
         is at no more suppliers than reading it takes, and its copy on this machine is kept;
         "local" while a part is only on this machine, or can be read only there right now;
         "unreadable" while too few of a part's suppliers answer to make it out of what they have
         (what happens to lie whole at one that answers can be read all the same); "unknown" in a
         mount that only looks, which does not see after what suppliers have

Who answered is what was seen last (blocks/health.py).
"""

from collections.abc import Callable, Collection

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.flow import Flow
from bitdustfs.blocks.ledger import Ledger
from bitdustfs.cache.state import State
from bitdustfs.core.items import EXTENT, decode_extent, kind_range
from bitdustfs.core.placement import acknowledgements_least
from bitdustfs.fs.attributes import load_inode
from bitdustfs.fs.content import Content
from bitdustfs.fs.xattrs import Own
from bitdustfs.net.register import RootRegister
from bitdustfs.rebuild.rebuilder import Rebuilder
from bitdustfs.tree.commit import SNAPSHOTS, Committer, changed_since_published
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree
from bitdustfs.vault.account import Account
from bitdustfs.vault.offline import Offline

STATE, HEALTH = b"user.bitdust.state", b"user.bitdust.health"


class ReadSafety:
    """In a mount that only looks: nothing changes, and nobody looks after the suppliers.

    `diverged`, `adrift`: see Account. What this machine changed before, in commits that no root
    names, is unpublished here, too.
    """

    def __init__(
        self,
        tree: Tree,
        state: State,
        circle: Circle,
        offline: Offline,
        diverged: bool,
        adrift: bool,
    ) -> None:
        self._offline = offline
        self._tree, self._state, self._circle = tree, state, circle
        self._diverged, self._adrift = diverged, adrift
        self._unpublished = frozenset(changed_since_published(state))

    def answers(self) -> Own:
        """The attributes by their names."""
        return {STATE: self.state, HEALTH: self.health}

    async def state(self, inode: int) -> str:
        """local or published."""
        return "local" if self._adrift or inode in self._unpublished else "published"

    async def health(self, inode: int) -> str:
        """local, unreadable, thin or unknown: what suppliers have is not looked at here."""
        if await self.state(inode) == "local":
            return "local"
        rows = [self._state.blocks.get(b) for b in await self._tree.run(_blocks_of, inode)]
        if _served(self._circle) < self._circle.family.group.k:
            here = all(row is not None and row.local for row in rows)
            return "local" if here else "unreadable"
        return "thin" if any(row is not None and row.thin for row in rows) else "unknown"

    async def account(self, why: str) -> Account:
        """What is known now. `why`: nothing may be written, where that was not asked for."""
        circle, blocks = self._circle, self._state.blocks
        group, online = circle.family.group, circle.online()
        return Account(
            writes=False, why=why, unpublished=len(self._unpublished - {SNAPSHOTS}),
            snapshot=SNAPSHOTS in self._unpublished, unkept=False,
            diverged=self._diverged, adrift=self._adrift, waiting=len(blocks.waiting()),
            thin=len(blocks.thin()), k=group.k, n=group.n, online=online, served=_served(circle),
            silence=_silence(circle),
            margin=max(circle.online_elsewhere() - group.k, min(online - group.k, 0)),
            audited=False, stuck="", complete=Flow(circle, blocks).left(blocks.is_owed).complete,
            here=sum(row.length for row in map(blocks.get, blocks.waiting()) if row is not None),
            offline=self._offline.said,
        )  # fmt: skip


class Safety:
    """In a mount that writes. `unclosed`: bytes in open blocks; `paused`: why uploads wait;
    `waits`: why this mount may not publish yet.
    """

    def __init__(
        self,
        tree: Tree,
        content: Content,
        committer: Committer,
        state: State,
        ledger: Ledger,
        circle: Circle,
        offline: Offline,
        register: RootRegister,
        rebuilder: Rebuilder,
        flow: Flow,
        unclosed: Callable[[], int],
        paused: Callable[[], str],
        waits: Callable[[], str],
    ) -> None:
        self._waits, self._offline = waits, offline
        self._flow, self._unclosed, self._paused = flow, unclosed, paused
        self._tree, self._content, self._committer = tree, content, committer
        self._state, self._ledger = state, ledger
        self._circle, self._register, self._rebuilder = circle, register, rebuilder

    def answers(self) -> Own:
        """The attributes by their names."""
        return {STATE: self.state, HEALTH: self.health}

    def state_now(self, inode: int) -> str:
        """dirty, local or published."""
        if self._content.is_dirty(inode):
            return "dirty"
        changed = self._committer.changed_in.get(inode, 0)
        return "published" if changed <= self._published() else "local"

    def _published(self) -> int:
        """The newest generation that an accepted root names."""
        published = self._state.published()
        return 0 if published is None else published.generation

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

    async def account(self, why: str) -> Account:
        """What is known now. `why`: the pen is lost; "" while it is held."""
        latest = await self._rebuilder.replanned()
        # no await from here on: what is said is of one instant
        circle, published = self._circle, self._published()
        unpublished = {o for o, at in self._committer.changed_in.items() if at > published}
        group, left = circle.family.group, self._flow.left(self._ledger.is_waiting)
        new = self._content.dirty + self._unclosed()  # in no closed block yet
        return Account(
            writes=not why, why=why, unpublished=len(unpublished - {SNAPSHOTS}),
            snapshot=SNAPSHOTS in unpublished,
            unkept=self._content.holds_any() or self._tree.has_written(),
            diverged=False, adrift=False, waiting=len(self._ledger.waiting()),
            thin=len(self._state.blocks.thin()), k=group.k, n=group.n, online=circle.online(),
            served=_served(circle), silence=_silence(circle), margin=latest.margin,
            audited=True, stuck=too_few(circle, self._register.needed) or self._waits(),
            complete=left.complete, here=left.here + new, lost=len(latest.lost),
            to_send=left.waiting + new * group.n // group.k, rate=sum(self._flow.rates().values()),
            paused=self._paused(),
            offline=self._offline.said, waits=self._waits(),
        )  # fmt: skip


def too_few(circle: Circle, for_root: int) -> str:
    """Why nothing can be published just now; "" when enough suppliers answer.

    `for_root`: how many of them a root needs (RootRegister.needed).
    """
    online, needed = circle.online(), to_publish(circle, for_root)
    if online >= needed:
        return ""
    return f"{online} of {circle.family.group.n} suppliers answer and {needed} are needed"


def to_publish(circle: Circle, for_root: int) -> int:
    """How many suppliers have to be there so that anything can be published; see too_few."""
    group = circle.family.group
    here = circle.online() - circle.online_elsewhere()  # votes, and does not count for data
    return max(acknowledgements_least(group.k, group.n, False) + here, for_root)


def _served(circle: Circle) -> int:
    """How many positions can be had: their suppliers answered last, or who stands in did."""
    positions = range(circle.family.group.n)
    return sum(any(circle.health(n).there for n in circle.holders(p)) for p in positions)


def _silence(circle: Circle) -> float | None:
    """Seconds since any supplier answered; None where none has since the mount began."""
    silences = (circle.health(member.node).silence() for member in circle.family.members)
    return min((seconds for seconds in silences if seconds is not None), default=None)


def _blocks_of(tx: Transaction, inode: int) -> Collection[bytes]:
    """The blocks that a file's content is in."""
    load_inode(tx, inode)
    extents = (decode_extent(value) for _, value in tx.scan(*kind_range(inode, EXTENT)))
    return {extent.place.block for extent in extents if extent.place is not None}
