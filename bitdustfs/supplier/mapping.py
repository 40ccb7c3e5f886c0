"""A supplier's port, TCP and UDP, mapped at the router that it is behind, as long as it runs.

It is asked for when a router is there and this machine's address is private, renewed at half of
its lifetime, asked for again when the router has forgotten it or is another one, and taken back at
a clean end. Whether others come in is not known by that (proofs.py).
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import trio

from bitdustfs.net.addresses import is_at_home, is_wildcard, split
from bitdustfs.net.hostnames import joined_address
from bitdustfs.net.routers.gateway import Gateway, default_gateway
from bitdustfs.net.routers.mapper import map_first
from bitdustfs.net.routers.packets import TCP, UDP
from bitdustfs.net.routers.router import OpenPort, Router, RouterRefuses

log = logging.getLogger(__name__)

LOOK_EVERY = 30.0  #: seconds between looks at whether router and mapping are what they were
REFUSED_AGAIN = 300.0  #: seconds until a router that refused is asked again
RENEWED_MAX = 1800.0  #: seconds after which a mapping without end is asked for again, too
END_DEADLINE = 3.0  #: seconds for taking mappings back

FirstMapped = Callable[[Gateway, int, int, int], Awaitable[tuple[Router, OpenPort]]]


class Mapping(NamedTuple):
    """What stands: ports outside, and when to renew (trio's clock)."""

    router: Router
    gateway: Gateway
    tcp: OpenPort
    udp: OpenPort | None
    renew: float


@dataclass(frozen=True)
class Outcome:
    """`address`: where the router leads here from, by TCP; "" for nowhere.

    `said`: how it is, the rest of a sentence; "" where there is no router to ask.
    """

    address: str = ""
    said: str = ""


class PortMapping:
    """For a supplier that listens at `listen`. It changes within `keep` alone."""

    def __init__(
        self,
        listen: str,
        gateway: Callable[[], Gateway | None] = default_gateway,
        first: FirstMapped = map_first,
    ) -> None:
        self._host, self._port = split(listen)
        self._gateway, self._first = gateway, first
        self._mapping: Mapping | None = None
        self._for: Gateway | None = None
        self._look_at = 0.0
        self.outcome = Outcome()

    async def keep(self) -> None:
        """Looks after the mapping, if it is time; ends within a minute."""
        if trio.current_time() < self._look_at:
            return
        self._look_at = trio.current_time() + LOOK_EVERY
        gateway = self._behind()
        if gateway != self._for:  # another network: what was mapped is out of reach
            self._mapping, self._for, self.outcome = None, gateway, Outcome()
        if gateway is None:
            return
        try:
            if self._mapping is None or not await self._stands(self._mapping):
                await self._map(gateway)
        except RouterRefuses as error:
            self._refused(str(error))

    def _behind(self) -> Gateway | None:
        """The router, if this machine is behind one that has to let others in."""
        if ":" in self._host and not is_wildcard(self._host):
            return None
        try:
            found = self._gateway()
        except OSError as error:
            log.warning("where the router is cannot be told: %s", error)
            return None
        if found is None or not is_at_home(found.own):
            return None
        here = is_wildcard(self._host) or self._host == str(found.own)
        return found if here else None

    async def _stands(self, mapping: Mapping) -> bool:
        if trio.current_time() >= mapping.renew:
            return False
        return await mapping.router.remembers()

    async def _map(self, gateway: Gateway) -> None:
        """Asks for TCP, then for the same port of UDP: others expect both at one."""
        before = self._mapping
        if before is None:
            router, tcp = await self._first(gateway, TCP, self._port, self._port)
        else:
            router = before.router
            tcp = await router.map(TCP, self._port, before.tcp.port)
        udp: OpenPort | None = None
        self._mapping = Mapping(router, gateway, tcp, udp, trio.current_time())
        try:
            udp = await router.map(UDP, self._port, tcp.port)
        except RouterRefuses as error:
            log.warning("the router maps TCP, and UDP not: it %s", error)
        lifetime = min([tcp.lifetime, *([udp.lifetime] if udp else [])])
        renew = trio.current_time() + min(lifetime / 2, RENEWED_MAX)
        self._mapping = Mapping(router, gateway, tcp, udp, renew)
        said = f"port {tcp.port} is mapped by {router.name}"
        if udp is None or udp.port != tcp.port:
            said += ", for TCP alone: the router gives no such port of UDP"
        address = joined_address(tcp.host, tcp.port)
        if address != self.outcome.address:
            log.info("the router leads here from %s (%s)", address, router.name)
        self.outcome = Outcome(address, said)

    def _refused(self, why: str) -> None:
        said = f"the router {why}"
        if said != self.outcome.said:
            log.warning("%s", said)
        if self._mapping is None:
            self._look_at = trio.current_time() + REFUSED_AGAIN
        self._mapping, self.outcome = None, Outcome("", said)

    async def take_back(self) -> None:
        """At the end; what a router does not confirm in time ends with its lifetime."""
        mapping, self._mapping = self._mapping, None
        if mapping is None:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + END_DEADLINE):
            for protocol, mapped in ((TCP, mapping.tcp), (UDP, mapping.udp)):
                if mapped is None:
                    continue
                try:
                    await mapping.router.unmap(protocol, self._port, mapped.port)
                except RouterRefuses as error:
                    log.warning("port %d stays mapped for a while: the router %s",
                                mapped.port, error)  # fmt: skip
