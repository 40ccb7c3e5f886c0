"""The UDP socket of a node: over IPv4, IPv6 or both, by what it is bound to.

Bound to all addresses of a machine that has several, the kernel would choose from which one an
answer leaves. Whoever asked expects it from the one that he asked: so it leaves from there (RFC
3542, section 6; ip(7), IP_PKTINFO).
"""

import errno
import ipaddress
import socket
import struct
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any, Protocol

import trio

from bitdustfs.net.addresses import is_wildcard
from bitdustfs.net.dht.datagram import Endpoint
from bitdustfs.net.line import OwnLine

ASKERS_MAX = 1000  #: endpoints of which it is remembered where they asked
IP_PKTINFO = 8  #: of linux/in.h; the standard library does not name it
_PACKET_4 = struct.Struct("=i4s4s")  #: interface, own address, the header's destination
_PACKET_6 = struct.Struct("=16si")  #: own address, interface
_AUXILIARY = 128  #: bytes of what comes beside a datagram
_MAPPED = "::ffff:"


class DatagramSocket(Protocol):
    """What a node sends and receives by: a UDP socket, or what plays one in tests."""

    async def bind(self, address: Endpoint) -> None: ...

    def getsockname(self) -> Any: ...

    async def sendto(self, data: bytes, address: Endpoint, /) -> int: ...

    def recvfrom(self, size: int, /) -> Awaitable[tuple[bytes, Any]]: ...

    def close(self) -> None: ...


class UdpSocket:
    """Bind it first. Endpoints are plain: an IPv4 address is never written as one of IPv6.

    Datagrams are small and answered within a second: they never wait for the `line`, which is told
    of them.
    """

    def __init__(self, line: OwnLine | None = None) -> None:
        self._line = line or OwnLine()
        self._bound: trio.socket.SocketType | None = None
        self._both = self._chosen = False
        self._asked: OrderedDict[Endpoint, bytes] = OrderedDict()  # own address, packed

    async def bind(self, address: Endpoint) -> None:
        """To one address, to all of IPv4 ("0.0.0.0"), or to all ("::"). Raises OSError."""
        host, port = address
        if host == "::" and not _has_ipv6():
            host = "0.0.0.0"
        self._both, self._chosen = host == "::", is_wildcard(host)
        made = trio.socket.socket(_family(host), trio.socket.SOCK_DGRAM)
        try:
            if made.family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not self._both)
                if self._chosen:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            elif self._chosen:
                made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            await made.bind((host, port))
        except BaseException:
            made.close()
            raise
        self._bound = made

    @property
    def _socket(self) -> trio.socket.SocketType:
        if self._bound is None:
            raise OSError(errno.ENOTCONN, "not bound yet")
        return self._bound

    def getsockname(self) -> Any:
        return self._socket.getsockname()

    async def sendto(self, data: bytes, address: Endpoint, /) -> int:
        """Raises OSError, also where there is no way to that family."""
        self._line.up.charge(len(data))
        host, port = address
        if self._both and ":" not in host:
            host = _MAPPED + host
        own = self._asked.get(address)
        if own is None:
            return await self._socket.sendto(data, (host, port))
        try:
            return await self._socket.sendmsg([data], [_from(own)], 0, (host, port))
        except OSError:  # the address that was asked is not this machine's any more
            self._asked.pop(address, None)
            return await self._socket.sendto(data, (host, port))

    async def recvfrom(self, size: int, /) -> tuple[bytes, Any]:
        """A datagram and the endpoint that it came from."""
        where: Any
        data, beside, _, where = await self._socket.recvmsg(size, _AUXILIARY)
        self._line.down.charge(len(data))
        endpoint = str(where[0]).removeprefix(_MAPPED), int(where[1])
        if self._chosen:
            self._note(endpoint, beside)
        return data, endpoint

    def _note(self, endpoint: Endpoint, beside: Any) -> None:
        for level, kind, value in beside:
            own = b""
            if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                own = _PACKET_6.unpack_from(value)[0]
            elif (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
                own = _PACKET_4.unpack_from(value)[1]
            if own:
                self._asked[endpoint] = own
                self._asked.move_to_end(endpoint)
        if len(self._asked) > ASKERS_MAX:
            self._asked.popitem(last=False)

    def close(self) -> None:
        if self._bound is not None:
            self._bound.close()


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _has_ipv6() -> bool:
    """Whether the kernel has IPv6, and it is not switched off."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _from(own: bytes) -> tuple[int, int, bytes]:
    """What has a datagram leave from an own address."""
    if len(own) == 4:
        return socket.IPPROTO_IP, IP_PKTINFO, _PACKET_4.pack(0, own, bytes(4))
    mapped = ipaddress.IPv6Address(own).ipv4_mapped
    if mapped is not None:
        return socket.IPPROTO_IP, IP_PKTINFO, _PACKET_4.pack(0, mapped.packed, bytes(4))
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PACKET_6.pack(own, 0)
