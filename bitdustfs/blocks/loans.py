"""Fragments lent to reserves of the bench, for positions that were away: on record until dropped.

What a reserve acknowledged counts (`BlockRow.copies`), so it must not be dropped before the
position's own supplier has it, and nothing may be sent there while it is being dropped.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import msgspec
import trio

from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import CLOSED, BlockRow

Loan = tuple[int, bytes]  #: a position, and the node of the reserve that has fragments of it


class Loans:
    """The copies of one vault's fragments at reserves."""

    def __init__(self, table: BlockTable) -> None:
        self._table = table
        self._ending: set[Loan] = set()
        self._coming: Counter[Loan] = Counter()  # puts under way

    def is_open(self, position: int, node: bytes) -> bool:
        """Whether a reserve may be sent a position's fragments: it is not about to drop them."""
        return (position, node) not in self._ending

    @contextmanager
    def coming(self, copies: Mapping[int, bytes]) -> Iterator[None]:
        """Fragments of these positions are on their way to these nodes, until it is left."""
        loans = tuple(copies.items())
        self._coming.update(loans)
        try:
            yield
        finally:
            self._coming.subtract(loans)

    async def taken(self, block: bytes, copies: Mapping[int, bytes]) -> None:
        """These nodes have the block's fragments of these positions, durably. Raises LocalError."""
        if copies:
            change = partial(_with, tuple(copies.items()))
            await trio.to_thread.run_sync(self._table.change, block, change)

    async def end(self, position: int, node: bytes, drop: Callable[[], Awaitable[bool]]) -> bool:
        """Has `drop` delete what a node keeps of a position; whether it did.

        Not while some block's own supplier lacks its fragment. Raises LocalError, and what `drop`
        raises.
        """
        loan = (position, node)
        self._ending.add(loan)
        try:
            rows = await trio.to_thread.run_sync(self._table.copied, position, node)
            served = all(position in row.acked for row in rows.values())
            if not served or self._coming[loan] or not await drop():
                return False
            change = partial(_without, loan)
            await trio.to_thread.run_sync(self._table.change_all, dict.fromkeys(rows, change))
            return True
        finally:
            self._ending.discard(loan)


def _with(loans: tuple[Loan, ...], row: BlockRow) -> BlockRow | None:
    if row.state != CLOSED:  # it died meanwhile
        return None
    row = msgspec.structs.replace(row, copies=tuple(sorted({*row.copies, *loans})))
    return msgspec.structs.replace(row, safe=row.safe or row.enough)


def _without(loan: Loan, row: BlockRow) -> BlockRow | None:
    return msgspec.structs.replace(row, copies=tuple(c for c in row.copies if c != loan))
