"""Which addresses of strangers may be dialled (design: peers' addresses).

IP literals only, ports from 1024 on; nothing that is multicast, link-local or nobody's. Loopback
and private ranges only where they are wanted: in swarms and home networks.
"""

import ipaddress
import socket
from collections.abc import Iterable

from bitdustfs.errors import UsageError


def split(address: str) -> tuple[str, int]:
    """(host, port) of "host:port" or "[v6]:port". Raises ValueError."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def check_address(text: str) -> str:
    """ "host:port" as given by a user. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is not an address; write HOST:PORT")
    return text


def is_private_host(host: str) -> bool:
    """Whether a host that the user names is this machine, or of a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host


def is_here(address: str) -> bool:
    """Whether an address is of this machine's own interfaces; loopback, which all have, is not."""
    try:
        host, _ = split(address)
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    if ip.is_loopback or ip.is_unspecified:
        return False
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # only one's own addresses can be bound
    except OSError:
        return False
    return True


def acceptable(host: str, port: int, allow_private: bool) -> bool:
    """Whether a connection to where a stranger says that a node is may be tried."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if not 1024 <= port <= 65535 or address.is_multicast or address.is_unspecified:
        return False
    if address.is_link_local:
        return False
    return allow_private or address.is_global


def dialable(addresses: Iterable[str], allow_private: bool) -> tuple[str, ...]:
    """Those of a node's addresses that may be tried."""
    found = []
    for address in addresses:
        try:
            host, port = split(address)
        except ValueError:
            continue
        if acceptable(host, port, allow_private):
            found.append(address)
    return tuple(found)


def network_of(host: str) -> str:
    """What is cheap for one stranger to have in numbers: the /24 or /48 around an address.

    Of addresses that are not global (a private network's, loopback) the address itself: their
    prefixes say nothing.
    """
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if not ip.is_global:
        return str(ip)
    return str(ipaddress.ip_network(f"{ip}/{24 if ip.version == 4 else 48}", strict=False))
