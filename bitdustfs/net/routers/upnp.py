"""Ports mapped by UPnP IGD: the router is found by SSDP, and asked by SOAP (igd.py)."""

import math
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import trio

from bitdustfs.errors import Malformed
from bitdustfs.net.routers import igd
from bitdustfs.net.routers.gateway import Gateway
from bitdustfs.net.routers.httpanswer import HttpAnswer, read_answer_untrusted
from bitdustfs.net.routers.igd import Failed, IgdService, Url
from bitdustfs.net.routers.router import (
    ANSWERED_IN,
    LIFETIME,
    OpenPort,
    Router,
    RouterRefuses,
    Silent,
)

T = TypeVar("T")

FOUND_IN = 2.5  #: seconds in which a router answers who is there
CALL_IN = 4.0  #: seconds for one question and its answer
RECEIVED, RECEIVES_MAX = 16 * 1024, 256  #: bytes at once of an answer; how often
ANSWERS_MAX = 32  #: datagrams of the router that are read in one search
LABEL = "bitdust"  #: what the router shows of a mapping: no name, no key
NAMES = {6: "TCP", 17: "UDP"}
#: external ports that are asked for where another machine has the wanted one, and how many
OTHER_PORTS, OTHERS_TRIED = range(20_000, 60_000), 3
_mreqn = struct.Struct("=4s4si")  #: group, own address, interface (ip(7))


class UpnpRouter(Router):
    """A router that was found. `own`: this machine's address on its side."""

    name = "UPnP"

    def __init__(self, service: IgdService, own: str) -> None:
        self._service, self._own = service, own
        self._kept: dict[tuple[int, int], int] = {}  # protocol, external port: internal port

    async def map(self, protocol: int, internal: int, external: int) -> OpenPort:
        """Where another machine has the port, another one is asked for."""
        with _in_time():
            host = await self.address()
            if not host:
                raise RouterRefuses("maps no port by UPnP: it has no address of the provider")
            for port in (external, *random.sample(OTHER_PORTS, OTHERS_TRIED)):
                failed = await self._add(protocol, internal, port, LIFETIME)
                if failed is not None and failed.code == igd.PERMANENT_ONLY:
                    failed = await self._add(protocol, internal, port, 0)
                if failed is None:
                    self._forget(protocol, internal)
                    self._kept[protocol, port] = internal
                    return OpenPort(host, port, await self._lifetime(protocol, port))
                if failed.code not in igd.CONFLICTS:
                    raise RouterRefuses(f"maps no port by UPnP: {failed.why}")
        raise RouterRefuses("maps no port by UPnP: others have those that were asked for")

    def _forget(self, protocol: int, internal: int) -> None:
        """What was mapped to this port before is another one now."""
        kept = self._kept.items()
        self._kept = {at: port for at, port in kept if (at[0], port) != (protocol, internal)}

    async def address(self) -> str:
        """Its address outside; "" for none. Raises RouterRefuses, Silent."""
        said = await self._ask("GetExternalIPAddress", {})
        if isinstance(said, Failed):
            raise RouterRefuses(f"says no address by UPnP: {said.why}")
        return _read(lambda: igd.host_untrusted(said))

    async def _add(self, protocol: int, internal: int, port: int, lifetime: int) -> Failed | None:
        said = await self._ask("AddPortMapping", {
            **_named(protocol, port), "NewInternalPort": internal, "NewInternalClient": self._own,
            "NewEnabled": 1, "NewPortMappingDescription": LABEL, "NewLeaseDuration": lifetime,
        })  # fmt: skip
        return said if isinstance(said, Failed) else None

    async def _lifetime(self, protocol: int, port: int) -> float:
        """Seconds for which it holds; some routers know no end of it."""
        entry = await self._entry(protocol, port)
        if entry is None:  # one that does not say
            return LIFETIME
        return entry.lifetime or math.inf

    async def _entry(self, protocol: int, port: int) -> igd.PortEntry | None:
        """What is mapped there; None where the router does not say it. Raises Silent, and
        RouterRefuses for what cannot be.
        """
        said = await self._ask("GetSpecificPortMappingEntry", _named(protocol, port))
        if isinstance(said, Failed):
            return igd.PortEntry("", 0, False, 0) if said.code == igd.NO_SUCH_ENTRY else None
        return _read(lambda: igd.entry_untrusted(said))

    async def unmap(self, protocol: int, internal: int, external: int) -> None:
        self._kept.pop((protocol, external), None)
        with _in_time():
            said = await self._ask("DeletePortMapping", _named(protocol, external))
        if isinstance(said, Failed) and said.code != igd.NO_SUCH_ENTRY:
            raise RouterRefuses(f"does not end a mapping by UPnP: {said.why}")

    async def remembers(self) -> bool:
        with _in_time():
            for (protocol, port), internal in list(self._kept.items()):
                try:
                    entry = await self._entry(protocol, port)
                except Silent:
                    raise
                except RouterRefuses:  # it is no answer: nothing is known by it
                    continue
                if entry is not None and (entry.client, entry.port) != (self._own, internal):
                    return False
        return True

    async def _ask(self, action: str, words: dict[str, str | int]) -> dict[str, str] | Failed:
        question = igd.ask(self._service, action, words)
        answer = await _fetch(self._service.control, question, self._own)
        return _read(lambda: igd.read_said_untrusted(answer, action))


def _named(protocol: int, port: int) -> dict[str, str | int]:
    return {"NewRemoteHost": "", "NewExternalPort": port, "NewProtocol": NAMES[protocol]}


async def find_upnp(gateway: Gateway, port: int = igd.SSDP_PORT) -> UpnpRouter:
    """The router of a network, if it speaks UPnP. `port`: where it is searched. Raises
    RouterRefuses, Silent.
    """
    own = str(gateway.own)
    with _in_time():
        url = await _search(gateway, port)
        description = await _fetch(url, igd.get(url), own)
        services = _read(lambda: igd.read_description_untrusted(description.body, url))
        for service in services:  # of several lines, one that is up
            found = UpnpRouter(service, own)
            try:
                if await found.address():
                    return found
            except RouterRefuses:
                continue
    raise RouterRefuses("maps no port by UPnP: it has no address of the provider")


async def _search(gateway: Gateway, port: int) -> Url:
    """Where the router describes itself; what others answer is passed over. Raises Silent."""
    router, own = str(gateway.router), gateway.own.packed
    try:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            chosen = _mreqn.pack(bytes(4), own, 0)
            line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)
            await line.bind((str(gateway.own), 0))
            with trio.move_on_after(FOUND_IN):
                for device in igd.DEVICES:
                    await line.sendto(igd.search(device), (router, port))
                    with suppress(OSError):  # no way for groups there
                        await line.sendto(igd.search(device), (igd.SSDP_GROUP, port))
                left = ANSWERS_MAX
                while left:
                    data, sender = await line.recvfrom(igd.FOUND_MAX + 1)
                    if sender[0] != router:
                        continue
                    left -= 1
                    try:
                        return igd.read_found_untrusted(data, router)
                    except Malformed:
                        continue
    except OSError as error:
        raise Silent(f"cannot be searched by UPnP ({error.strerror or error})") from None
    raise Silent("does not speak UPnP")


async def _fetch(url: Url, question: bytes, own: str) -> HttpAnswer:
    """One question over TCP, and its answer. Raises Silent, RouterRefuses."""
    data = b""
    try:
        with trio.fail_after(CALL_IN):
            async with await trio.open_tcp_stream(url.host, url.port, local_address=own) as line:
                await line.send_all(question)
                for _ in range(RECEIVES_MAX):
                    more = await line.receive_some(RECEIVED)
                    data += more
                    answer = _read_answer(data, not more)
                    if answer is not None:
                        return answer
    except (OSError, trio.BrokenResourceError, trio.TooSlowError):
        raise Silent("does not answer by UPnP") from None
    raise RouterRefuses("answers by UPnP in too many pieces")


def _read_answer(data: bytes, ended: bool) -> HttpAnswer | None:
    return _read(lambda: read_answer_untrusted(data, ended))


def _read(parse: Callable[[], T]) -> T:
    """What a parser returns. Raises RouterRefuses where what was said is Malformed."""
    try:
        return parse()
    except Malformed as error:
        raise RouterRefuses(f"is not understood by UPnP: {error}") from None


@contextmanager
def _in_time() -> Iterator[None]:
    """Raises Silent when ANSWERED_IN seconds have passed."""
    try:
        with trio.fail_after(ANSWERED_IN):
            yield
    except trio.TooSlowError:
        raise Silent(f"does not answer by UPnP within {ANSWERED_IN:.0f} s") from None
