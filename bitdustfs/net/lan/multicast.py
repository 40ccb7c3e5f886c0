"""Datagrams to everybody in this machine's local networks, over IPv4 and IPv6.

They go no further than the network: one hop (RFC 1112), link-local scope (RFC 4291, section 2.7).
Each is sent from the address at which its sender can be dialled: over IPv6 that is not the
link-local one, which nobody dials.
"""

import logging
import socket
import struct
from collections.abc import Callable

import trio

from bitdustfs.net.lan.beacon import SIZE_MAX
from bitdustfs.net.lan.links import Link, home_links

log = logging.getLogger(__name__)

PORT = 26980
GROUP_4 = "239.255.98.100"  #: of a range for local use (RFC 2365, section 6.1)
GROUP_6 = "ff12::6264"  #: link-local scope, not registered (RFC 4291, section 2.7)
LOOK_EVERY = 15.0  #: seconds between looks at which networks there are
_MULTICAST_ALL_4, _MULTICAST_ALL_6 = 49, 29  #: of linux/in.h, linux/in6.h
_mreqn = struct.Struct("=4s4si")  #: group, own address, interface (ip(7))
_mreq_6 = struct.Struct("=16si")  #: group, interface (ipv6(7))


class Multicast:
    """`links`: where, as they are then."""

    def __init__(self, links: Callable[[], list[Link]] = home_links) -> None:
        self._links = links
        self._ears: dict[tuple[bool, int], trio.CancelScope] = {}

    async def run(
        self,
        heard: Callable[[bytes, str], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Hears until cancelled, also in networks that come later. `heard` is told of each
        datagram, and of who sent it.
        """
        self._ears = {}
        async with trio.open_nursery() as nursery:
            while True:
                there = {(link.v6, link.interface) for link in self._there()}
                for gone in self._ears.keys() - there:
                    self._ears.pop(gone).cancel()
                for v6, interface in there - self._ears.keys():
                    scope = self._ears[v6, interface] = trio.CancelScope()
                    try:
                        ear = _ear(v6, interface)
                    except OSError as error:  # tried again at the next look
                        log.debug("interface %d is not listened to: %s", interface, error)
                        del self._ears[v6, interface]
                        continue
                    nursery.start_soon(self._hear, ear, scope, heard)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await trio.sleep(LOOK_EVERY)

    def _there(self) -> list[Link]:
        try:
            return self._links()
        except OSError as error:
            log.warning("%s", error)
            return []

    async def _hear(
        self,
        ear: trio.socket.SocketType,
        scope: trio.CancelScope,
        heard: Callable[[bytes, str], None],
    ) -> None:
        with ear, scope:
            while True:
                try:
                    data, sender = await ear.recvfrom(SIZE_MAX + 1)
                except OSError as error:  # the interface is gone
                    log.debug("no more is heard on an interface: %s", error)
                    await trio.sleep(LOOK_EVERY)
                    continue
                heard(data, str(sender[0]))

    async def send(self, data: bytes) -> None:
        """From every address, as far as it leaves."""
        for link in self._there():
            try:
                with _mouth(link) as mouth:
                    where = (GROUP_6, PORT, 0, link.interface) if link.v6 else (GROUP_4, PORT)
                    await mouth.sendto(data, where)
            except OSError as error:
                log.debug("nothing is sent from %s: %s", link.host, error)


def _ear(v6: bool, interface: int) -> trio.socket.SocketType:
    """Hears what is sent to the group on one interface; nothing that is sent to this machine alone.

    Raises OSError.
    """
    made = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # mounts and suppliers, each
        if v6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _MULTICAST_ALL_6, 0)
            made.bind((GROUP_6, PORT, 0, interface))
            group = socket.inet_pton(socket.AF_INET6, GROUP_6)
            joined = _mreq_6.pack(group, interface)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
        else:
            made.setsockopt(socket.IPPROTO_IP, _MULTICAST_ALL_4, 0)
            made.bind((GROUP_4, PORT))
            joined = _mreqn.pack(socket.inet_aton(GROUP_4), bytes(4), interface)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    except BaseException:
        made.close()
        raise
    return trio.socket.from_stdlib_socket(made)


def _mouth(link: Link) -> trio.socket.SocketType:
    """Sends on one interface, from one address. Raises OSError."""
    made = socket.socket(socket.AF_INET6 if link.v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.bind((link.host, 0))
        if link.v6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.interface)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        else:
            chosen = _mreqn.pack(bytes(4), socket.inet_aton(link.host), link.interface)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    except BaseException:
        made.close()
        raise
    return trio.socket.from_stdlib_socket(made)
