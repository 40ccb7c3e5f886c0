"""Who this machine's router is, and where this machine is on its side. As Linux says it."""

import ipaddress
import socket
from pathlib import Path
from typing import NamedTuple

ROUTES = Path("/proc/self/net/route")  #: of this process's network namespace; see proc(5)
_UP, _GATEWAY = 0x1, 0x2  #: flags of linux/route.h
ROUTES_MAX = 64 * 1024  #: bytes of the table that are read


class Gateway(NamedTuple):
    """The router, and this machine's address on the way there."""

    router: ipaddress.IPv4Address
    own: ipaddress.IPv4Address


def default_gateway(routes: Path = ROUTES) -> Gateway | None:
    """The router of the default route with the least metric, over IPv4; None where there is none.

    Raises OSError.
    """
    with routes.open("rb") as table:
        text = table.read(ROUTES_MAX).decode("ascii", "replace")
    router = read_routes(text)
    if router is None:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((str(router), 9))  # nothing is sent
        own = ipaddress.IPv4Address(probe.getsockname()[0])
    return Gateway(router, own)


def read_routes(text: str) -> ipaddress.IPv4Address | None:
    """The router of /proc/net/route: columns Iface, Destination, Gateway, Flags, RefCnt, Use,
    Metric, Mask; addresses are hexadecimal numbers in this machine's byte order.
    """
    found: list[tuple[int, ipaddress.IPv4Address]] = []
    for line in text.splitlines()[1:]:
        words = line.split()
        try:
            target, router, flags, mask = (int(words[at], 16) for at in (1, 2, 3, 7))
            metric = int(words[6])
        except (IndexError, ValueError):  # a line cut off by ROUTES_MAX
            continue
        if target == mask == 0 and flags & _UP and flags & _GATEWAY and 0 < router < 1 << 32:
            found.append((metric, ipaddress.IPv4Address(socket.htonl(router))))
    return min(found)[1] if found else None
