"""Which addresses of strangers may be dialled (design: peers' addresses).

IP literals only, written as usual, ports from 1024 on; nothing that is multicast, link-local, of a
named interface (a zone), or nobody's; nothing that leads to an IPv4 address hidden in an IPv6 one,
which may be of any kind. Loopback and private ranges only where they are wanted: in swarms and home
networks.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from bitdustfs.errors import UsageError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: how a node writes an address of its own; nothing else is read, so nothing else is shown or logged
WRITTEN = re.compile(
    r"(?:(?P<v4>[0-9.]{7,15})|\[(?P<v6>[0-9a-f:.]{2,39})\]):(?P<port>[0-9]{1,5})", re.ASCII
)

#: "relay:KEY@HOST:PORT": the node with that key, reached through the relay at HOST:PORT
RELAYED = re.compile(r"relay:(?P<node>[0-9a-f]{64})@(?P<relay>[^@]+)", re.ASCII)


def _networks(text: str) -> list[IpNetwork]:
    return [ipaddress.ip_network(word) for word in text.split()]


_AT_HOME = _networks("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16")

#: how names end that are only good within a private network (RFC 6762, 8375 and customs)
PRIVATE_NAMES = (".localhost", ".local", ".home.arpa", ".internal", ".lan", ".home")

#: by version: registered for special purposes (RFC 6890 and its registry), and never a node's
NEVER: dict[int, list[IpNetwork]] = {
    4: _networks(
        "0.0.0.0/8 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24"
        " 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4"
    ),
    6: _networks(
        "::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23"
        " 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fec0::/10"
    ),
}


def split(address: str) -> tuple[str, int]:
    """(host, port) of "host:port" or "[v6]:port"; where it leads through a relay, the relay's.

    Raises ValueError.
    """
    through = relayed(address)
    host, _, port = (through.relay if through else address).rpartition(":")
    return host.strip("[]"), int(port)


class Relayed(NamedTuple):
    """The node with the key `node`, reached through the relay at `relay` (HOST:PORT)."""

    node: bytes
    relay: str

    def __str__(self) -> str:
        return f"relay:{self.node.hex()}@{self.relay}"


def relayed(address: str) -> Relayed | None:
    """What an address that leads through a relay says; None for one that is dialled."""
    parts = RELAYED.fullmatch(address)
    return Relayed(bytes.fromhex(parts["node"]), parts["relay"]) if parts else None


def check_address(text: str) -> str:
    """ "host:port" as given by a user. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{text!r} is not an address; write HOST:PORT")
    return text


def is_address(text: str) -> bool:
    """Whether what somebody says of himself is HOST:PORT, as a user may write it."""
    try:
        check_address(text)
    except UsageError:
        return False
    through = relayed(text)
    if through is not None:
        return is_address(through.relay)
    host, port = split(text)
    return port >= 1024 and not host.startswith("-") and not {*host} & {*"/@%"}


def is_private_host(host: str) -> bool:
    """Whether a host that the user names is this machine, or of a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        name = host.lower().rstrip(".")
        return "." not in name or name.endswith(PRIVATE_NAMES)


def is_at_home(address: IpAddress) -> bool:
    """Whether an IPv4 address is of those that homes give out (RFC 1918): not one of a provider's
    NAT, which lie in 100.64.0.0/10, nor of a range for other special purposes.
    """
    return any(address in network for network in _AT_HOME)


def is_v6(address: str) -> bool:
    """Whether "host:port" has a literal of IPv6."""
    return ":" in split(address)[0]


def is_wildcard(host: str) -> bool:
    """Whether to listen there means at all addresses of this machine."""
    return host in ("0.0.0.0", "::")


def is_here(address: str) -> bool:
    """Whether an address is of this machine's own interfaces; loopback, which all have, is not.
    What leads through a relay here is not here, either.
    """
    if relayed(address) is not None:
        return False
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


@lru_cache(4096)
def acceptable(host: str, port: int, allow_private: bool) -> bool:
    """Whether a connection to where a stranger says that a node is may be tried."""
    address = _literal(host)
    if address is None or not 1024 <= port <= 65535:
        return False
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return False
    never = any(address in network for network in NEVER[address.version])
    if never and not address.is_loopback:  # ::1 lies in ::/96
        return False
    return allow_private or address.is_global


def _literal(host: str) -> IpAddress | None:
    """The address that is written as every program writes it, without a zone; else None."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return address if str(address) == host.lower() and "%" not in host else None


def dialable(addresses: Iterable[str], allow_private: bool) -> tuple[str, ...]:
    """Those of a node's addresses that may be tried."""
    found = []
    for address in addresses:
        through = relayed(address)
        parts = WRITTEN.fullmatch(through.relay if through else address)
        if parts is None:
            continue
        host, port = parts["v4"] or parts["v6"], int(parts["port"])
        if bool(parts["v6"]) is (":" in host) and acceptable(host, port, allow_private):
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
