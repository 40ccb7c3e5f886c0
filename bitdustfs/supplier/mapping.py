"""A supplier's port, TCP and UDP, mapped at the router that it is behind, as long as it runs.

It is asked for when a router is there and this machine's address is private, renewed in time, asked
for again when the router has forgotten it or is another one, and taken back at a clean end. A
router that does not answer, or refuses to renew, ends no mapping: that ends with its lifetime.
Whether others come in is not known by that (proofs.py).
"""

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import trio

from bitdustfs.net.addresses import is_at_home, is_wildcard, split
from bitdustfs.net.hostnames import joined_address
from bitdustfs.net.routers.gateway import Gateway, default_gateway
from bitdustfs.net.routers.packets import TCP, UDP
from bitdustfs.net.routers.router import LIFETIME, OpenPort, Router, RouterRefuses, Silent

log = logging.getLogger(__name__)

LOOK_EVERY = 30.0  #: seconds between looks at whether router and mapping are what they were
#: seconds until a router that refused is asked again: LOOK_EVERY, doubled each time up to this
REFUSED_AGAIN = 300.0
#: shares of a lifetime between which it is asked for again (RFC 6887, section 11.2.1; in RFC 6886,
#: section 3.3, the first of them); of one that lasts longer than what was asked for, of that
RENEWED_AT = (1 / 2, 5 / 8)
RETRY_LEAST = 4.0  #: seconds between two questions for one mapping (RFC 6887, section 11.2.1)
END_DEADLINE = 3.0  #: seconds for taking mappings back

FirstMapped = Callable[[Gateway, int, int, int], Awaitable[tuple[Router, OpenPort]]]


class MappedPort(NamedTuple):
    """A port outside, and until when it is ours (trio's clock)."""

    host: str
    port: int
    until: float


class Mapping(NamedTuple):
    """What stands, and when to ask for it again (trio's clock)."""

    router: Router
    tcp: MappedPort
    udp: MappedPort | None
    renew: float


@dataclass(frozen=True)
class Outcome:
    """`address`: where the router leads here from, by TCP; "" for nowhere.

    `said`: how it is, the rest of a sentence; "" where there is no router to ask.
    """

    address: str = ""
    said: str = ""


def _must_last(mapped: OpenPort) -> None:
    """A port that is mapped for no time is refused (it is what taking one back is answered with).

    Raises RouterRefuses.
    """
    if mapped.lifetime <= 0:
        raise RouterRefuses("maps a port for no time at all")


class PortMapping:
    """For a supplier that listens at `listen`. It changes within `keep` alone."""

    def __init__(
        self,
        listen: str,
        first: FirstMapped,
        gateway: Callable[[], Gateway | None] = default_gateway,
    ) -> None:
        self._host, self._port = split(listen)
        self._gateway, self._first = gateway, first
        self._mapping: Mapping | None = None
        self._for: Gateway | None = None
        self._wish = self._port  # the port outside that is asked for
        self._look_at, self._pause = 0.0, LOOK_EVERY
        self._warned, self._forgot = "", False  # what was said
        self.outcome = Outcome()

    async def keep(self) -> None:
        """Looks after the mapping, if it is time; ends within a minute."""
        if trio.current_time() < self._look_at:
            return
        gateway = self._behind()
        if gateway != self._for:  # another network: what was mapped is out of reach
            self._mapping, self._for, self.outcome = None, gateway, Outcome()
            self._wish, self._pause = self._port, LOOK_EVERY
        self._look_in(LOOK_EVERY)
        if gateway is None:
            return
        try:
            if self._mapping is None:
                router, tcp = await self._first(gateway, TCP, self._port, self._wish)
                _must_last(tcp)
                await self._also_udp(router, tcp, None)
            elif not await self._stands(self._mapping):
                before = self._mapping
                tcp = await before.router.map(TCP, self._port, before.tcp.port)
                _must_last(tcp)
                await self._also_udp(before.router, tcp, before.udp)
        except RouterRefuses as error:
            self._refused(str(error))
        if self._mapping is not None:
            self._look_at = min(self._look_at, self._mapping.renew)

    def _look_in(self, seconds: float) -> None:
        self._look_at = trio.current_time() + seconds

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
        now = trio.current_time()
        if now >= mapping.renew:
            return False
        try:
            remembers = await mapping.router.remembers()
        except Silent as error:  # one missed answer says nothing
            log.debug("the router %s", error)
            return True
        if not remembers:
            if not self._forgot:  # it is said once
                log.info("the router has forgotten port %d: it is asked again", mapping.tcp.port)
            self._mapping = mapping._replace(tcp=mapping.tcp._replace(until=now), udp=None)
        self._forgot = not remembers
        return remembers

    async def _also_udp(self, router: Router, tcp: OpenPort, before: MappedPort | None) -> None:
        """TCP is mapped; asks for the same port of UDP: others expect both at one. `before`: what
        was mapped of UDP.
        """
        began = trio.current_time()
        held, silent = MappedPort(tcp.host, tcp.port, began + tcp.lifetime), False
        self._mapping, self._wish = Mapping(router, held, before, began), tcp.port
        lifetime, udp = tcp.lifetime, before
        try:
            mapped = await router.map(UDP, self._port, tcp.port)
            _must_last(mapped)
            udp = MappedPort(mapped.host, mapped.port, trio.current_time() + mapped.lifetime)
            lifetime = min(lifetime, mapped.lifetime)
        except RouterRefuses as error:
            silent = isinstance(error, Silent)
            self._warn(f"the router maps TCP, and UDP not: it {error}")
        if udp is not None and udp.until <= trio.current_time():
            udp = None
        renewed = max(RETRY_LEAST, min(lifetime, LIFETIME) * random.uniform(*RENEWED_AT))
        pause = min(LOOK_EVERY, renewed) if silent else renewed
        self._mapping = Mapping(router, held, udp, trio.current_time() + pause)
        self._pause = LOOK_EVERY
        self._say(self._mapping)

    def _warn(self, said: str) -> None:
        """Logs it, once."""
        if said != self._warned:
            log.warning("%s", said)
        self._warned = said

    def _say(self, mapping: Mapping, besides: str = "") -> None:
        tcp, udp = mapping.tcp, mapping.udp
        said = f"port {tcp.port} is mapped by {mapping.router.name}"
        if udp is None or udp.port != tcp.port:
            said += ", for TCP alone: the router gives no such port of UDP"
        address = joined_address(tcp.host, tcp.port)
        if address != self.outcome.address:
            log.info("the router leads here from %s (%s)", address, mapping.router.name)
        self.outcome = Outcome(address, said + besides)

    def _refused(self, why: str) -> None:
        """It does not map, or does not renew."""
        said, now = f"the router {why}", trio.current_time()
        self._warn(said)
        mapping = self._mapping
        if mapping is not None and now < mapping.tcp.until:
            left = min(mapping.tcp.until - now, LIFETIME)
            self._mapping = mapping._replace(renew=now + max(RETRY_LEAST, left / 2))
            self._say(self._mapping, f"; it is not renewed: {said}")
            return
        self._mapping, self.outcome = None, Outcome("", said)
        self._look_in(self._pause)
        self._pause = min(2 * self._pause, REFUSED_AGAIN)

    async def take_back(self) -> None:
        """At the end; what a router does not confirm in time ends with its lifetime."""
        mapping, self._mapping = self._mapping, None
        if mapping is None:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + END_DEADLINE):
            async with trio.open_nursery() as nursery:
                for protocol, held in ((TCP, mapping.tcp), (UDP, mapping.udp)):
                    if held is not None:
                        nursery.start_soon(self._take_back, mapping.router, protocol, held)

    async def _take_back(self, router: Router, protocol: int, held: MappedPort) -> None:
        try:
            await router.unmap(protocol, self._port, held.port)
        except RouterRefuses as error:
            log.warning("port %d stays mapped for a while: the router %s", held.port, error)
