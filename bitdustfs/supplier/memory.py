"""A supplier in this process, with faults to order: whole families in one test.

It decides exactly as the real server does (the same `SupplierService`), and misbehaves on command:
`break_` (refuses connections), `hang_` (never answers), `slow_` (answers late), `corrupt_` (returns
altered bytes), `heal`.
"""

import trio

from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import DeadlineExceeded, Refused, Unreachable
from bitdustfs.net import wire
from bitdustfs.net.supplier import Supplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Role, Session

DEADLINE = 10.0  #: seconds that a hanging supplier holds a caller


class MemorySupplier(Supplier):
    """The session of `vault` with a service that lives here."""

    def __init__(
        self, service: SupplierService, vault: bytes, role: Role = "owner", asker: bytes = b""
    ) -> None:
        self.service, self._session = service, Session(vault, role, asker)
        self.node = service.node.verify_key.encode()
        self.calls: list[str] = []
        self._sent = 0
        self.heal()

    @property
    def vault(self) -> bytes:
        """The vault that the session is about."""
        return self._session.vault

    @property
    def sent(self) -> int:
        return self._sent

    def heal(self) -> None:
        """Behaves again."""
        self._broken = self._hanging = self._corrupt = False
        self._delay = 0.0

    def break_(self) -> None:
        self._broken = True

    def hang_(self) -> None:
        self._hanging = True

    def slow_(self, seconds: float) -> None:
        self._delay = seconds

    def corrupt_(self) -> None:
        self._corrupt = True

    def ear(self) -> Supplier:
        return MemoryEar(self)

    async def call(self, request: wire.Request, payload: Buffer = b"") -> tuple[wire.Reply, Buffer]:
        return await self.call_as(self._session, request, payload)

    async def call_as(
        self, session: Session, request: wire.Request, payload: Buffer
    ) -> tuple[wire.Reply, Buffer]:
        """A request in another session with the same supplier."""
        await trio.lowlevel.checkpoint()
        self.calls.append(type(request).__name__)
        if self._broken:
            raise Unreachable("the supplier is broken on purpose")
        with trio.move_on_after(DEADLINE) as scope:
            if self._hanging:
                await trio.sleep_forever()
            if self._delay:
                await trio.sleep(self._delay)
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"no answer within {DEADLINE:g} s")
        self._sent += len(payload)
        reply, data = await self._answer(session, request, payload)
        if isinstance(reply, wire.Fault):
            raise Refused(reply.code, reply.detail, reply.proof)
        if self._corrupt and data:
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        return reply, data

    async def _answer(
        self, session: Session, request: wire.Request, payload: Buffer
    ) -> tuple[wire.Reply, bytes]:
        async def work() -> tuple[wire.Reply, bytes]:
            return self.service.handle(session, request, payload)

        if isinstance(request, wire.Await):
            return await self.service.voter.herald.answer(session.vault, request.seconds, work)
        return await work()


class MemoryEar(Supplier):
    """A session of the role follower with a supplier, which misbehaves as that one does."""

    def __init__(self, supplier: MemorySupplier) -> None:
        self.node, self._supplier = supplier.node, supplier

    async def call(self, request: wire.Request, payload: Buffer = b"") -> tuple[wire.Reply, Buffer]:
        session = Session(self._supplier.vault, "follower")
        return await self._supplier.call_as(session, request, payload)
