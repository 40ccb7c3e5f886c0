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

    async def call(self, request: wire.Request, payload: Buffer = b"") -> tuple[wire.Reply, Buffer]:
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
        reply, data = self.service.handle(self._session, request, payload)
        if isinstance(reply, wire.Fault):
            raise Refused(reply.code, reply.detail, reply.proof)
        if self._corrupt and data:
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        return reply, data
