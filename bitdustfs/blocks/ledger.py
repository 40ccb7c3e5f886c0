"""Who acknowledged what.

The block table's acknowledgements, newcomers', and those who wait for them.

A position's acknowledgement counts once it is durable in the table. While a position is given to
another supplier (family/replace.py), that *newcomer* acknowledges new blocks too; its word counts
for the root that takes it into the family, and for all roots from then on.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import partial

import msgspec
import trio

from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.placement import acknowledgements_needed
from bitdustfs.net.supplier import Supplier


class Ledger:
    """The acknowledgements of one vault's blocks."""

    def __init__(self, table: BlockTable) -> None:
        self._table = table
        self._newcomers: dict[int, Supplier] = {}  # position -> who is to have it
        self._their: dict[bytes, set[int]] = {}  # block -> positions that newcomers acknowledged
        self._changed = trio.Event()

    # -- what is known

    @property
    def owed_positions(self) -> int:
        """How many fragments are still to be placed."""
        return self._table.owed_positions

    @property
    def owed_blocks(self) -> int:
        """How many blocks some position lacks."""
        return self._table.owed_count

    def waiting(self, with_newcomers: bool = False) -> list[bytes]:
        """Blocks that a root may not name yet (promise 3), oldest first.

        `with_newcomers`: for the root that takes them into the family.
        """
        waiting = self._table.waiting()
        if not with_newcomers:
            return waiting
        return [block for block in waiting if self.is_waiting(block, True)]

    def is_waiting(self, block: bytes, with_newcomers: bool = False) -> bool:
        """Whether a root may not name this block yet."""
        row = self._table.get(block)
        if row is None or not row.waits:
            return False
        also = self._their.get(block, ()) if with_newcomers else ()
        return len({*row.acked, *also}) < acknowledgements_needed(row.k, row.n)

    def newcomer(self, position: int) -> Supplier | None:
        """The supplier that a position goes to, where one does."""
        return self._newcomers.get(position)

    def newcomer_has(self, block: bytes, position: int) -> bool:
        """Whether the newcomer of a position acknowledged the block."""
        return position in self._their.get(block, ())

    def is_due(self, block: bytes) -> bool:
        """Whether this machine has the block, and owes it to somebody who has not got it."""
        row = self._table.get(block)
        return (
            row is not None
            and row.state == CLOSED
            and row.local
            and not {*row.owed} <= self._their.get(block, set())
        )

    # -- what happens

    async def acknowledged(self, block: bytes, positions: Collection[int]) -> None:
        """These positions have the block, durably. Raises LocalError."""
        if positions:
            change = partial(_acknowledged, positions)
            await trio.to_thread.run_sync(self._table.change, block, change)

    async def lost(self, lost: Mapping[bytes, Collection[int]]) -> bool:
        """Audits found that positions lack what they acknowledged: it is owed again.

        Whether anything changed by that. Raises LocalError.
        """
        changes = {block: partial(_without, gone) for block, gone in lost.items()}
        rows = await trio.to_thread.run_sync(self._table.change_all, changes)
        return bool(rows)

    def forget(self, block: bytes) -> None:
        """The block is dead: nobody needs it any more."""
        self._their.pop(block, None)
        self.notify()

    # -- newcomers

    def welcome(self, position: int, supplier: Supplier) -> None:
        """A position goes to another supplier: what is new goes there, too."""
        self._newcomers[position] = supplier

    def newcomer_acknowledged(self, block: bytes, position: int) -> None:
        """The newcomer of a position has the block."""
        self._their.setdefault(block, set()).add(position)

    async def settle(self, position: int, joined: bool) -> None:
        """The newcomer is of the family from here on, or (not `joined`) is none any more."""
        self._newcomers.pop(position, None)
        theirs = [block for block, positions in self._their.items() if position in positions]
        if joined and theirs:  # durable first: until then the newcomer's word must not be lost
            change = partial(_acknowledged, (position,))
            changes = dict.fromkeys(theirs, change)
            await trio.to_thread.run_sync(self._table.change_all, changes)
        for block in theirs:
            left = self._their.get(block, set())  # the block may have died meanwhile
            left.discard(position)
            if not left:
                self._their.pop(block, None)
        self.notify()

    # -- waiting

    def notify(self) -> None:
        """Something changed that somebody may wait for."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        """Returns when something changed after the call."""
        await self._changed.wait()


def _acknowledged(positions: Iterable[int], row: BlockRow) -> BlockRow | None:
    """The row after these positions acknowledged the block, too."""
    if row.state != CLOSED:  # it died meanwhile
        return None
    row = msgspec.structs.replace(row, acked=tuple(sorted({*row.acked, *positions})))
    return msgspec.structs.replace(row, safe=row.safe or row.enough)


def _without(gone: Collection[int], row: BlockRow) -> BlockRow | None:
    """The row after these positions were found without it."""
    left = tuple(p for p in row.acked if p not in gone)
    changed = row.state == CLOSED and left != row.acked
    return msgspec.structs.replace(row, acked=left) if changed else None
