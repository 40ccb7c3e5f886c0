"""The owner's seat: the machine that writes votes too, where the suppliers are even in number.

Of two friends, or of four, more than half has to agree to a root: both, or three. The seat makes
the owner's machine one more voter, so that one friend of two, or two of four, are enough for it. A
machine without the seat needs as many suppliers as if there were none: a majority of n + 1 voters,
n even, is n / 2 + 1. So a seat that is lost with its machine costs nothing.

A machine that publishes and has no seat takes one: the family names a new one, in a change of the
voters like any other (core/families.py). Seats are not handed over: whoever writes next, elsewhere,
makes its own.

A seat is a voter like any other (core/acceptor.py), and may never forget. Its record is in this
machine's synced state. A file beside it is written anew before each vote is recorded, and the
record names that very file, by its inode's number and change time. So a state that was copied, or
came back from a backup, whole or in part, holds no seat: its record and its file do not belong
together. (Only an image of a whole disk is not noticed: docs/threat-model.md.)
"""

import os
from collections.abc import Callable, Iterator, Mapping

import msgspec
import trio

from bitdustfs.cache.folder import OwnedFolder, file_mark, local_error, write_durably
from bitdustfs.cache.rows import SeatRow, Seats
from bitdustfs.cache.state import State
from bitdustfs.core.acceptor import Acceptor, remembered
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.families import next_family
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import majority
from bitdustfs.core.records import (
    Family,
    open_claim_untrusted,
    open_family_untrusted,
    open_root_untrusted,
)
from bitdustfs.errors import LocalError, Refused, Unreachable
from bitdustfs.failpoints import reach
from bitdustfs.net import wire
from bitdustfs.net.supplier import Supplier

KEPT = 4  #: seats that are remembered; the newest is in use, or is about to be

Step = Callable[[Acceptor], Acceptor]


class Seat(Supplier):
    """One seat as the register's owner side asks it: like a supplier that only votes."""

    def __init__(self, vault: bytes, name: bytes, bench: "SeatBench") -> None:
        self._vault, self.node, self._bench = vault, name, bench

    async def call(self, request: wire.Request, payload: Buffer = b"") -> tuple[wire.Reply, Buffer]:
        """Answers what is about the register. Raises Refused, Unreachable, Malformed."""
        try:
            return await self._answer(request), b""
        except LocalError as error:  # this disk refuses: then this voter is not there
            raise Unreachable(str(error)) from error

    async def _answer(self, request: wire.Request) -> wire.Reply:
        match request:
            case wire.Current():
                return self._shown(self._bench.row(self.node))
            case wire.Prepare():
                return self._shown(await self._heed(request.claim))
            case wire.Renew() | wire.Release():
                await self._heed(request.claim)
            case wire.Accept():
                await self._accept(request)
            case _:
                raise Refused("malformed", "a seat only votes")
        return wire.Done()

    def _shown(self, row: SeatRow) -> wire.CurrentIs:
        return wire.CurrentIs(row.claim, row.root, row.family)

    async def _heed(self, claim: bytes) -> SeatRow:
        ballot = open_claim_untrusted(claim, self._vault).ballot
        return await self._bench.step(self.node, lambda acceptor: acceptor.heed(ballot, claim))

    async def _accept(self, request: wire.Accept) -> None:
        ballot = open_claim_untrusted(request.claim, self._vault).ballot
        root = open_root_untrusted(request.root, self._vault)
        epoch = open_family_untrusted(request.family, self._vault).epoch
        await self._bench.step(
            self.node,
            lambda acceptor: acceptor.heed(ballot, request.claim).accept(
                root, request.root, request.family, epoch
            ),
        )


class SeatBench(Mapping[bytes, Supplier]):
    """The seats that this machine holds, by their names. `folder`: where `state` is.

    Raises LocalError.
    """

    def __init__(self, vault: bytes, folder: OwnedFolder, state: State) -> None:
        self._vault, self._state, self._file = vault, state, folder.path / "seat"
        self._lock = trio.Lock()
        seats = state.seats()
        genuine = bool(seats.mark) and seats.mark == file_mark(self._file)
        self.copied = bool(seats.mark) and not genuine  #: whether the state is a copy of another
        self._rows = {row.name: row for row in seats.rows} if genuine else {}  # what is synced

    def __getitem__(self, name: bytes) -> Supplier:
        return Seat(self._vault, self._rows[name].name, self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def fits(self, family: Family, beside: int) -> bool:
        """Whether a family has the seat that this machine should have, or none where it should not.

        `beside`: how many of its suppliers are on this very machine. With the seat they must not be
        a quorum: a root has to outlive this machine.
        """
        n = family.group.n
        if n % 2 or 1 + beside >= majority(n + 1):
            return not family.seat
        return family.seat in self._rows

    async def change(self, key: VaultKey, family: bytes, beside: int) -> bytes:
        """The signed successor of a family that did not fit, which fits. Raises LocalError."""
        opened = open_family_untrusted(family, self._vault)
        without = msgspec.structs.replace(opened, seat=b"")
        seat = b"" if self.fits(without, beside) else await self._new()
        return next_family(key, family, seat=seat)

    async def _new(self) -> bytes:
        """A seat that has not voted yet, synced before a family names it."""
        async with self._lock:
            # a family that named it came to nothing
            unused = [row for row in self._rows.values() if not row.claim]
            row = unused[-1] if unused else SeatRow(os.urandom(32))
            others = {name: other for name, other in self._rows.items() if name != row.name}
            await self._write({**others, row.name: row})  # the newest is last
        return row.name

    def row(self, name: bytes) -> SeatRow:
        """What a seat promised and accepted."""
        return self._rows[name]

    async def step(self, name: bytes, step: Step) -> SeatRow:
        """Takes one step with a seat, synced before it is told. Raises Refused, LocalError."""
        async with self._lock:
            row = self._rows[name]
            claim = row.claim
            promised = open_claim_untrusted(claim, self._vault).ballot if claim else None
            after = step(remembered(promised, claim, row.root, row.family))
            changed = msgspec.structs.replace(
                row, claim=after.claim, root=after.root or b"", family=after.family or b""
            )
            if changed != row:
                reach("seat-step")
                await self._write({**self._rows, name: changed})
                reach("seat-stepped")
            return changed

    async def _write(self, rows: Mapping[bytes, SeatRow]) -> None:
        kept = tuple(rows.values())[-KEPT:]
        with trio.CancelScope(shield=True):  # memory and disk go together
            await trio.to_thread.run_sync(self._record, kept)
        self._rows = {row.name: row for row in kept}

    def _record(self, rows: tuple[SeatRow, ...]) -> None:
        try:
            write_durably(self._file, b"")
        except OSError as error:
            raise local_error(error) from error
        self._state.set_seats(Seats(rows, file_mark(self._file)))
