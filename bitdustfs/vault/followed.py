"""The root and family that a mount follows, and what has to follow when the family changes."""

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.ledger import Ledger
from bitdustfs.cache.rows import Published
from bitdustfs.core.quorum import Known
from bitdustfs.core.records import Family, Root, open_family_untrusted
from bitdustfs.rebuild.audit import Auditor
from bitdustfs.rebuild.rebuilder import Rebuilder


class Followed:
    """The root and family that are followed, and who wants to hear when the family changes."""

    def __init__(self, known: Known, circle: Circle) -> None:
        self._known, self._circle = known, circle
        self._moved = trio.Event()

    @property
    def known(self) -> Known:
        """The newest root at the last change of the family, and the family."""
        return self._known

    async def wait_moved(self) -> None:
        """Returns when the family has changed."""
        await self._moved.wait()

    def follow(self, known: Known) -> None:
        """A root of another machine is the newest one."""
        moves = known.raw_family != self._known.raw_family
        self._known = known
        if moves:
            self._circle.move(known.family)
            self._moved.set()
            self._moved = trio.Event()

    def change(self, root: Root, row: Published, family: Family) -> None:
        """A root that names another family was accepted."""
        self._known = Known(root, row.root, family, row.family, confirmed=True)
        self._circle.move(family)
        self._moved.set()
        self._moved = trio.Event()


class FamilyMove:
    """What has to follow when a root that names another family was accepted."""

    def __init__(
        self, followed: Followed, ledger: Ledger, auditor: Auditor, rebuilder: Rebuilder
    ) -> None:
        self._followed, self._ledger = followed, ledger
        self._auditor, self._rebuilder = auditor, rebuilder

    async def __call__(self, root: Root, row: Published) -> None:
        """Everybody follows the family that the root names. Raises LocalError."""
        family = open_family_untrusted(row.family, root.vault)
        before = self._followed.known.family.members
        moved = [p for p, m in enumerate(family.members) if m.node != before[p].node]
        self._auditor.forget(moved)
        self._rebuilder.forget(moved)
        self._followed.change(root, row, family)
        with trio.CancelScope(shield=True):  # what newcomers acknowledged is not to be forgotten
            for position in moved:
                await self._ledger.settle(position, joined=True)
            await self._ledger.reckon(family)
