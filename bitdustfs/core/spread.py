"""How far apart the suppliers of a family are.

What goes down together should not be hired together.

By default no two suppliers found in the network share a /24 (IPv4) or a /48 (IPv6); on private
networks, whose prefixes say little, no two share a host. Loopback is everybody's own and never
counts. Addresses that the owner names himself are taken as they are.
"""

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum


class Spread(IntEnum):
    """The policy `spread`: what two suppliers of a family must not have in common."""

    NONE = 0
    HOST = 1
    NETWORK = 2


def neighbourhood(address: str, spread: int = Spread.NETWORK) -> str:
    """What an address ("host:port") has in common with its neighbours; "" when that does not count.

    What leads through a relay ("relay:KEY@host:port") is the relay's neighbour: it falls with it.
    A spread that is not known (of a newer program) counts as the widest that is.
    """
    host = address.rpartition("@")[2].rpartition(":")[0].strip("[]")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return "" if spread == Spread.NONE else host
    if spread == Spread.NONE or ip.is_loopback:
        return ""
    if spread == Spread.HOST or not ip.is_global:
        return str(ip)
    return str(ipaddress.ip_network(f"{ip}/{24 if ip.version == 4 else 48}", strict=False))


def apart(addresses: Iterable[str], taken: Collection[str], spread: int) -> list[str]:
    """Those addresses, in their order, that are no neighbours of `taken` addresses or of each
    other.
    """
    seen = {neighbourhood(address, spread) for address in taken}
    chosen = []
    for address in addresses:
        where = neighbourhood(address, spread)
        if not where or where not in seen:
            chosen.append(address)
            seen.add(where)
    return chosen


def joined(signs: Sequence[Collection[str]]) -> list[str]:
    """Who belongs together: a name for each, the same for all that have any sign in common, be it
    through others. "" for who has no sign.
    """
    names: dict[str, str] = {}  # sign -> the name of those who have it
    for own in signs:
        if own:
            merged = {names.get(sign, sign) for sign in own}
            name = min(merged)
            names.update(dict.fromkeys(own, name))
            names.update({sign: name for sign, known in names.items() if known in merged})
    return [names[min(own)] if own else "" for own in signs]
