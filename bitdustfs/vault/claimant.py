"""Claiming a vault again while it is mounted: above the claim of another machine that came to
nothing, or for the first time, where the mount began without suppliers.

    what do voters hold? -> prepare, above all that was proven -> is it still ours?
    -> this machine's newest root, signed again under the new ballot, synced here as proposed

Whoever calls it has it accepted then. So a root of another machine is found before anything of this
one is shown under the new ballot (promise 10).
"""

import msgspec
import trio

from bitdustfs.blocks.pen import Pen
from bitdustfs.cache.rows import Proposed
from bitdustfs.cache.state import State
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Ballot, Root, open_root_untrusted, root_records
from bitdustfs.core.roots import repropose
from bitdustfs.errors import LocalError, Superseded, Unavailable
from bitdustfs.net.register import RootRegister, View
from bitdustfs.vault.claims import Claims


def _identity(root: Root) -> tuple[bytes, bytes, int]:
    """What stays of a root that is proposed again: not so where a vault was refounded over it."""
    return root.uid, root.family_hash, root.ballot.lineage


class Claimant:
    """Claims one vault for the mount that has the pen."""

    def __init__(
        self, key: VaultKey, pen: Pen, state: State, register: RootRegister, claims: Claims
    ) -> None:
        self._key, self._pen, self._state = key, pen, state
        self._register, self._claims = register, claims

    async def confirm(self) -> None:
        """For a pen that waits. First it is looked at what voters show, so that no claim is made in
        vain. Raises as `above`, and Unavailable where they are too few.
        """
        self._pen.require_held()
        view = await self._register.read()
        if not view.majority:
            raise Unavailable(
                f"{view.answers} of {view.voters} suppliers answer and {view.needed} are needed"
            )
        self._require_own(view)
        self._claims.look(view)
        await self._claim(max(view.proven or self._pen.ballot, self._pen.ballot))
        await trio.to_thread.run_sync(self._state.set_overtaken, False)

    async def above(self, rival: Ballot) -> None:
        """Raises Superseded when another machine's root turns up, LeaseHeld, Fenced, Unavailable or
        LocalError.
        """
        await self._claim(max(rival, self._pen.require()))

    async def _claim(self, ballot: Ballot) -> None:
        view, ballot, claim = await self._claims.prepare(ballot, take_over=False, tries=1)
        try:
            self._require_own(view)
        except Superseded:
            await self._register.release(claim)
            raise
        published = self._state.published()
        if published is None:
            raise LocalError("this machine has no root of the vault")
        row = self._state.proposed() or Proposed(
            published.root, published.generation, published.journal, published.journal_bytes,
            published.based_on, guarded=published.guarded,
        )  # fmt: skip
        root = open_root_untrusted(row.root, self._key.vault_id)
        row = msgspec.structs.replace(row, root=repropose(self._key, root, ballot))
        await trio.to_thread.run_sync(self._state.set_proposed, row)
        self._pen.renew(ballot, claim)

    def _require_own(self, view: View) -> None:
        """Raises Superseded where voters show a root that is not this machine's newest."""
        rows = (self._state.published(), self._state.proposed())
        own = {_identity(root_records.peek_untrusted(row.root)) for row in rows if row is not None}
        if view.best is None or _identity(view.best.root) not in own:
            raise Superseded("another machine published a root")
