"""The boundary to one supplier, as its customer sees it.

Implementations: `memory.MemorySupplier` and `peer.PeerSupplier`; each brings only `call`, and one
contract suite holds both to this page. What a caller must know when a call goes wrong:

- Each call ends by its own deadline, retries nothing, and raises a PeerError: Refused when the
  supplier said no, Unreachable when nothing was sent, DeadlineExceeded or ProtocolViolation when it
  may or may not have been carried out.
- Every call may be repeated: put, kill, prepare and accept of the same bytes again succeed.
- Cancelling a call loses its answer, not the connection; what was sent may still be carried out.
  Only a connection on which nothing at all was heard for some seconds is given up with it, and the
  one for puts while the payload is being sent: it would hold memory, and what comes after it.
- While a call waits, its connection is the one that other small calls use: an answer to one of them
  shows that the supplier is there, on that connection.
- Nothing returned is verified here beyond its shape. Whoever uses it checks signatures and hashes.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

from bitdustfs.core.erasure import Buffer
from bitdustfs.core.records import Ballot, Member, Visit
from bitdustfs.errors import ProtocolViolation
from bitdustfs.net import wire
from bitdustfs.units import READ_MAX

T = TypeVar("T", bound=wire.Message)

#: how a node is reached: at an address of its own, by a port of its router's, through a relay, or
#: past one by dialling at the same time (net/punching.py)
DIRECT, MAPPED, RELAYED, PUNCHED = "direct", "mapped", "relayed", "punched"

MakeWay = Callable[[int], Awaitable[None]]  #: returns when so many bytes of a fragment may be sent
Connect = Callable[[Member], "Supplier"]  #: the session with a member of a family, one for each


async def for_nobody(size: int) -> None:
    """What is sent makes way for nobody."""


def _due(kind: type[T], reply: wire.Reply) -> T:
    """The reply, if it is of the kind that answers the request; else ProtocolViolation."""
    if not isinstance(reply, kind):
        raise ProtocolViolation(f"{type(reply).__name__} where {kind.__name__} was due")
    return reply


class Supplier(ABC):
    """One supplier, in the session of one vault. `node` is its 32-byte public key."""

    node: bytes

    @property
    def sent(self) -> int:
        """Bytes of payload that were given to the network so far, answered or not."""
        return 0

    def reached_at(self) -> str:
        """The address at which it was reached last; "" before that, and where it has none."""
        return ""

    def way(self) -> str:
        """How it is reached: direct, mapped (by a port of its router), relayed or punched."""
        return DIRECT

    @abstractmethod
    async def call(self, request: wire.Request, payload: Buffer = b"") -> tuple[wire.Reply, Buffer]:
        """One request and its answer (never a Fault: that is raised as Refused)."""

    async def _ask(self, kind: type[T], request: wire.Request, payload: Buffer = b"") -> T:
        reply, _ = await self.call(request, payload)
        return _due(kind, reply)

    async def put(
        self,
        block: bytes,
        position: int,
        claim: bytes,
        header: bytes,
        chunks: bytes,
        payload: Buffer,
    ) -> None:
        """Returns once the fragment is synced at the supplier."""
        await self._ask(wire.Done, wire.Put(block, position, claim, header, chunks), payload)

    async def head(self, block: bytes, position: int) -> wire.HeadIs:
        """Signed header and chunk hashes of a fragment."""
        return await self._ask(wire.HeadIs, wire.Head(block, position))

    async def read(self, block: bytes, position: int, offset: int, length: int) -> Buffer:
        """Exactly `length` bytes (at most READ_MAX) of a fragment's payload.

        Where this node may not use all of its line, in several requests: others are answered in
        between.
        """
        pieces, stop = list[Buffer](), offset + length
        while offset < stop:
            size = min(stop - offset, self.request_max)
            reply, data = await self.call(wire.Read(block, position, offset, size))
            _due(wire.Bytes, reply)
            if len(data) != size:
                raise ProtocolViolation(f"{len(data)} bytes where {size} were asked for")
            pieces.append(data)
            offset += size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def list(self, after: bytes = b"", limit: int = wire.LIST_MAX) -> wire.Listed:
        """Fragments kept, ordered by block id + position byte, after the key `after`."""
        return await self._ask(wire.Listed, wire.List(after, limit))

    async def kill(self, record: bytes, claim: bytes) -> None:
        """Deletes a block by its owner-signed block-dead record."""
        await self._ask(wire.Done, wire.Kill(record, claim))

    # -- where this node may not use all of its line: what takes long then is nobody's fault

    @property
    def request_max(self) -> int:
        """Bytes that one request asks for, at most."""
        return READ_MAX

    def asking(self, length: int) -> AbstractAsyncContextManager[None]:
        """Enters once it is this node's turn to ask for so many bytes; inside they are read."""
        return nullcontext()

    def coming(self, length: int) -> float:
        """Seconds that they may take longer from then on."""
        return 0.0

    def held_up(self, length: int) -> float:
        """Seconds that they may take longer in all."""
        return 0.0

    def bearable(self, least: float) -> float:
        """Bytes a second that what is sent has to come to, where it is `least` without a bound."""
        return least

    def invitation(self) -> bytes:
        """The token by which this supplier invited us, or nothing."""
        return b""

    async def promise(self, space: int, until: int) -> bytes:
        """The supplier's signed contract for `space` bytes until a Unix time."""
        asked = wire.Promise(space, until, self.invitation())
        return (await self._ask(wire.ContractIs, asked)).record

    async def give_back(self) -> None:
        """Ends the contract of a vault that came to nothing: what it promised, and its root, go.

        An older supplier refuses.
        """
        await self._ask(wire.Done, wire.Promise(0, 0))

    async def end_vault(self, record: bytes) -> None:
        """Has all that is kept of the vault deleted, by an owner-signed vault-end record, and the
        contract ended. Refused (lease-held) while it is mounted somewhere.

        An older supplier refuses (unauthorised) where it keeps something.
        """
        await self._ask(wire.Done, wire.Promise(0, 0, record))

    async def join(self, token: bytes, line: str) -> None:
        """Comes by its invitation as a friend, with a line that answers it. It has both then.

        Refused when it was taken back, is too old, or another node came by it. Only in a session
        of the role friend; an older supplier refuses that (forged).
        """
        await self._ask(wire.Done, wire.Join(token, line))

    async def retain(self, space: int, until: int, record: bytes) -> bytes:
        """The signed contract of a vault that has one, after an owner-signed retention record.

        It says what holds now: an older supplier refuses (forged), or says nothing of it.
        """
        return (await self._ask(wire.ContractIs, wire.Promise(space, until, record))).record

    async def past(self) -> wire.PastIs:
        """What is kept by the retention. An older supplier closes the connection."""
        return await self._ask(wire.PastIs, wire.Pasts())

    async def past_root(self, number: int) -> wire.CurrentIs:
        """One of the past roots, with its family. Refused not-found where it is gone meanwhile."""
        return await self._ask(wire.CurrentIs, wire.ShowPast(number))

    async def usage(self) -> wire.UsageIs:
        """What is promised and used."""
        return await self._ask(wire.UsageIs, wire.Usage())

    async def prepare(self, claim: bytes, take_over: bool) -> wire.CurrentIs:
        """Asks for the promise of a ballot; answers what is accepted."""
        return await self._ask(wire.CurrentIs, wire.Prepare(claim, take_over))

    async def accept(self, root: bytes, family: bytes, claim: bytes) -> None:
        """Stores a signed root and its family, written under a claim."""
        await self._ask(wire.Done, wire.Accept(root, family, claim))

    async def current(self) -> wire.CurrentIs:
        """What is promised and accepted."""
        return await self._ask(wire.CurrentIs, wire.Current())

    def ear(self) -> "Supplier":
        """A session of its own in which to `hear` of new roots; its maker closes it.

        An older supplier refuses it (forged).
        """
        return self

    async def hear(self, known: tuple[Ballot, int], seconds: int) -> wire.CurrentIs | None:
        """What is accepted, once that is newer than `known`; None: nothing is in so many seconds.

        Only in an `ear`.
        """
        reply, _ = await self.call(wire.Await(known, seconds))
        return None if isinstance(reply, wire.Done) else _due(wire.CurrentIs, reply)

    async def renew(self, claim: bytes) -> None:
        """Renews the lease of the claim's holder."""
        await self._ask(wire.Done, wire.Renew(claim))

    async def release(self, claim: bytes) -> None:
        """Ends the lease of the claim's holder."""
        await self._ask(wire.Done, wire.Release(claim))

    async def ping(self) -> None:
        """Returns when the supplier answered."""
        await self._ask(wire.Done, wire.Ping())

    async def kin(self) -> wire.KinIs:
        """How the supplier stands: what it knows, whom it stands in for, whether it leaves."""
        return await self._ask(wire.KinIs, wire.Kin())

    async def attest(self, position: int) -> bytes:
        """Its signed word that a position's holder is away; Refused when it is not, as it saw."""
        return (await self._ask(wire.AttestedIs, wire.Attest(position))).record

    async def warrants(self, records: tuple[bytes, ...] = ()) -> tuple[bytes, ...]:
        """Shows warrants, and gets all that hold there."""
        return (await self._ask(wire.WarrantsAre, wire.Warrants(records))).records

    async def visits(self) -> tuple[Visit, ...]:
        """What stand-ins have read there, one entry for each and its position."""
        return (await self._ask(wire.VisitsAre, wire.Visits())).visits

    async def hurry(self) -> None:
        """Asks a member or reserve to look around now."""
        await self._ask(wire.Done, wire.Hurry())

    async def stand_down(self, record: bytes, claim: bytes) -> None:
        """Has superfluous copies of a position deleted, by an owner-signed record."""
        await self._ask(wire.Done, wire.StandDown(record, claim))

    async def aclose(self) -> None:
        """Ends connections, if any. Further calls may open them again."""
