"""Ports mapped by PCP (RFC 6887), and by NAT-PMP (RFC 6886), which it came from."""

import socket
from collections.abc import Callable
from typing import TypeVar

import trio

from bitdustfs.core.hashing import tagged
from bitdustfs.errors import Malformed
from bitdustfs.net.routers import packets
from bitdustfs.net.routers.gateway import Gateway
from bitdustfs.net.routers.packets import Says, SaysAddress, SaysMapped
from bitdustfs.net.routers.router import LIFETIME, OpenPort, Router, RouterRefuses, Silent

#: seconds until it is asked again: doubled each time (RFC 6886, section 3.1), but not for a minute
TRIES = (0.25, 0.5, 1.0, 2.0)
#: seconds that a router's clock may be behind ours, besides 1/16 (RFC 6887, section 8.5); so one
#: that was restarted as soon as it was up is not noticed before the mapping is renewed
EPOCH_SLACK = 2.0
NO_ADDRESS = "0.0.0.0"  #: what NAT-PMP says where the router has none

T = TypeVar("T", bound=Says | SaysAddress | SaysMapped)


class OtherVersion(RouterRefuses):
    """It speaks the other one of the two."""


class Epoch:
    """Does a router still know what it was told? Its clock says it (RFC 6887, section 8.5)."""

    def __init__(self) -> None:
        self._last, self._at = 0.0, -1.0

    def holds(self, epoch: int) -> bool:
        """False if its clock went back since the last call."""
        now, before, at = trio.current_time(), self._last, self._at
        self._last, self._at = float(epoch), now
        if at < 0:
            return True
        passed = now - at
        return epoch >= before + passed * 15 / 16 - EPOCH_SLACK


class _ByDatagram(Router):
    """What both have in common: a datagram, and the answer to it."""

    def __init__(self, gateway: Gateway, port: int = packets.PORT) -> None:
        self._gateway, self._port, self._epoch = gateway, port, Epoch()
        self._held = True

    async def _ask(self, question: bytes, read: Callable[[bytes], T | None]) -> T:
        """The answer that `read` takes; what it does not take is passed over.

        Raises Silent, or what `read` raises but Malformed.
        """
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            try:
                await line.connect((str(self._gateway.router), self._port))
                for seconds in TRIES:
                    await line.send(question)
                    with trio.move_on_after(seconds):
                        while True:
                            data = await line.recv(packets.ANSWER_MAX + 1)
                            try:
                                said = read(data)
                            except Malformed:
                                continue
                            if said is not None:
                                self._held &= self._epoch.holds(said.epoch)
                                return said
            except OSError as error:  # nobody listens there
                raise Silent(f"does not speak {self.name} ({error.strerror or error})") from None
        raise Silent(f"does not answer by {self.name}")

    def _remembered(self, said: Says | SaysAddress | SaysMapped) -> bool:
        held, self._held = self._held, True
        return held and not (isinstance(said, Says) and said.other_version)


def _granted(said: Says | SaysAddress | SaysMapped) -> None:
    """Raises RouterRefuses where that is what was said."""
    if isinstance(said, Says) and said.result:
        kind = OtherVersion if said.other_version else RouterRefuses
        raise kind(f"maps no port: {said.why}")


class NatPmpRouter(_ByDatagram):
    name = "NAT-PMP"

    async def map(self, protocol: int, internal: int, external: int) -> OpenPort:
        address = await self._ask(packets.ask_natpmp_address(), self._address)
        return await self._map(address.host, protocol, internal, external, LIFETIME)

    async def unmap(self, protocol: int, internal: int, external: int) -> None:
        await self._map("", protocol, internal, 0, 0)

    async def remembers(self) -> bool:
        """Any answer has the router's clock, one that refuses, too."""
        said = await self._ask(packets.ask_natpmp_address(), packets.read_natpmp_untrusted)
        return self._remembered(said)

    def _address(self, data: bytes) -> SaysAddress | None:
        said = packets.read_natpmp_untrusted(data)
        _granted(said)
        if not isinstance(said, SaysAddress):
            return None
        if said.host == NO_ADDRESS:
            raise RouterRefuses("maps no port: it has no address of the provider")
        return said

    async def _map(
        self, host: str, protocol: int, internal: int, external: int, lifetime: int
    ) -> OpenPort:
        def read(data: bytes) -> SaysMapped | None:
            said = packets.read_natpmp_untrusted(data)
            _granted(said)
            if not isinstance(said, SaysMapped):
                return None
            return said if (said.protocol, said.internal) == (protocol, internal) else None

        asked = packets.ask_natpmp_map(protocol, internal, external, lifetime)
        said = await self._ask(asked, read)
        return OpenPort(host, said.external, said.lifetime)


class PcpRouter(_ByDatagram):
    """Mappings belong to who knows their nonce (section 11.2): one for each protocol and port.

    `secret`: of which nonces are made, so that this node knows them again after it was restarted. A
    router refuses whoever renews a mapping, or takes it back, by another one (section 11.3).
    """

    name = "PCP"

    def __init__(self, gateway: Gateway, secret: bytes, port: int = packets.PORT) -> None:
        super().__init__(gateway, port)
        self._secret = secret

    def _nonce(self, protocol: int, internal: int) -> bytes:
        """The same ones in one network alone: others could tell by them who is there."""
        where = self._gateway.router.packed + self._gateway.own.packed
        what = bytes([protocol]) + internal.to_bytes(2, "big")
        return tagged("pcp nonce", self._secret, where, what)[: packets.NONCE_SIZE]

    async def map(self, protocol: int, internal: int, external: int) -> OpenPort:
        said = await self._map(protocol, internal, external, LIFETIME)
        return OpenPort(said.host, said.external, said.lifetime)

    async def unmap(self, protocol: int, internal: int, external: int) -> None:
        await self._map(protocol, internal, 0, 0)

    async def remembers(self) -> bool:
        """Any answer has the router's clock, one that refuses, too."""
        asked = packets.ask_pcp_announce(self._gateway.own)
        return self._remembered(await self._ask(asked, packets.read_pcp_untrusted))

    async def _map(self, protocol: int, internal: int, external: int, lifetime: int) -> SaysMapped:
        nonce = self._nonce(protocol, internal)

        def read(data: bytes) -> SaysMapped | None:
            said = packets.read_pcp_untrusted(data)
            _granted(said)
            if not isinstance(said, SaysMapped) or said.nonce != nonce:
                return None
            return said if (said.protocol, said.internal) == (protocol, internal) else None

        asked = packets.ask_pcp_map(
            self._gateway.own, nonce, protocol, internal, external, lifetime
        )
        return await self._ask(asked, read)
