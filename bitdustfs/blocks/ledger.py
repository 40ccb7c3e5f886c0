"""Who acknowledged what.

The block table's acknowledgements, newcomers', and those who wait for them.

A position's acknowledgement counts once it is durable in the table. So does that of a reserve that
keeps a fragment for a position that is away (loans.py). That of a supplier on this very
machine does not. While a position is given to another supplier (family/replace.py), that *newcomer*
acknowledges new blocks too; its word counts for the root that takes it into the family, and for all
roots from then on.

Promise 3: a root names a block once the wanted number hold it; when the minute is over
(deferral.py), once the least do. Such a block is *thin*. It is delivered before others that are
named already, and its local copy stays.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import msgspec
import trio

from bitdustfs.blocks.deferral import Deferral
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.records import Family
from bitdustfs.net.supplier import Supplier


def _nobody() -> frozenset[int]:
    return frozenset()


class Ledger:
    """The acknowledgements of one vault's blocks. `beside`: positions on this very machine."""

    def __init__(
        self,
        table: BlockTable,
        deferral: Deferral,
        beside: Callable[[], frozenset[int]] = _nobody,
    ) -> None:
        self._table, self._deferral, self._beside = table, deferral, beside
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
        return [b for b in self._table.waiting() if self.is_waiting(b, with_newcomers)]

    def is_waiting(self, block: bytes, with_newcomers: bool = False) -> bool:
        """Whether a root may not name this block yet."""
        return self.wait_for(block, with_newcomers) > 0

    def wait_for(self, block: bytes, with_newcomers: bool = False) -> float:
        """Seconds after which a root may name this block, if nothing changes; infinite: never."""
        row = self._table.get(block)
        if row is None or not row.waits:
            return 0.0
        holders = row.holders
        if with_newcomers:
            holders |= self._their.get(block, set()) - self._beside()
        if len(holders) >= row.wanted:
            return 0.0
        if len(holders) < row.least:
            return math.inf
        return self._deferral.left(block, set(row.owed) - holders)

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

    def owes(self, positions: Collection[int]) -> bool:
        """Whether this machine has a block that one of these positions lacks. Looks at all owed."""
        lacking = {*positions, *self._newcomers}
        rows = map(self._table.get, self._table.owed())
        return any(row is not None and row.local and lacking & {*row.owed} for row in rows)

    # -- what happens

    async def acknowledged(self, block: bytes, positions: Collection[int]) -> None:
        """These positions have the block, durably. Raises LocalError."""
        if positions:
            change = partial(_acknowledged, positions, self._beside())
            row = await trio.to_thread.run_sync(self._table.change, block, change)
            if row is not None and row.safe:
                self._deferral.forget(block)

    async def let_go(self, blocks: Iterable[bytes]) -> None:
        """A root is about to name these blocks, for ever after. Raises LocalError."""
        changes = {b: _named for b in blocks if (row := self._table.get(b)) and row.waits}
        if changes:
            await trio.to_thread.run_sync(self._table.change_all, changes)
        for block in changes:
            self._deferral.forget(block)

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
        self._deferral.forget(block)
        self.notify()

    # -- when the family is another one

    async def reckon(self, family: Family) -> None:
        """Whose word counts under this family, for all blocks. Raises LocalError.

        A reserve's copy counts while it is on the bench, and is the position's own fragment once
        the reserve has the position.
        """
        nodes = tuple(member.node for member in family.members)
        bench = frozenset(member.node for member in family.bench)
        beside = self._beside()
        change = partial(_reckoned, nodes, bench, beside)

        def reckon() -> None:
            rows = self._table.snapshot()
            changes = [
                block for block, row in rows.items()
                if (row.copies or row.beside or (beside and not beside.isdisjoint(row.acked)))
                and change(row) is not None
            ]  # fmt: skip
            self._table.change_all(dict.fromkeys(changes, change))

        await trio.to_thread.run_sync(reckon)

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
        if joined:
            self._deferral.served(position)
        if joined and theirs:  # durable first: until then the newcomer's word must not be lost
            change = partial(_acknowledged, (position,), self._beside())
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


def _acknowledged(
    positions: Collection[int], beside: Collection[int], row: BlockRow
) -> BlockRow | None:
    """The row after these positions acknowledged the block, too; some are `beside` this machine."""
    if row.state != CLOSED:  # it died meanwhile
        return None
    acked = tuple(sorted({*row.acked, *positions}))
    row = msgspec.structs.replace(row, acked=acked, beside=_among(acked, beside))
    return msgspec.structs.replace(row, safe=row.safe or row.enough)


def _named(row: BlockRow) -> BlockRow | None:
    """The row of a block that a root names with fewer holders than it should have."""
    return msgspec.structs.replace(row, safe=True) if row.waits else None


def _without(gone: Collection[int], row: BlockRow) -> BlockRow | None:
    """The row after these positions were found without it."""
    left = tuple(p for p in row.acked if p not in gone)
    if row.state != CLOSED or left == row.acked:
        return None
    return msgspec.structs.replace(row, acked=left, beside=_among(left, row.beside))


def _reckoned(
    nodes: Sequence[bytes], bench: Collection[bytes], beside: Collection[int], row: BlockRow
) -> BlockRow | None:
    """The row where these `nodes` have the positions, and these the bench; None for the same."""
    if row.state != CLOSED:
        return None
    own = {position for position, node in row.copies if nodes[position] == node}
    acked = tuple(sorted({*row.acked, *own}))
    copies = tuple(c for c in row.copies if c[0] not in own and c[1] in bench)
    made = msgspec.structs.replace(
        row, acked=acked, copies=copies, beside=_among(acked, beside)
    )  # fmt: skip
    return None if made == row else made


def _among(positions: Iterable[int], others: Collection[int]) -> tuple[int, ...]:
    return tuple(position for position in positions if position in others)
