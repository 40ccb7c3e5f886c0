"""This machine's networks in which others of the house may be."""

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from bitdustfs.net.addresses import is_at_home
from bitdustfs.net.interfaces import numbered_addresses

LINKS_MAX = 16  #: addresses by which is sent and heard


class Link(NamedTuple):
    """An address of this machine, and the number of its interface."""

    host: str
    interface: int

    @property
    def v6(self) -> bool:
        return ":" in self.host


def home_links() -> list[Link]:
    """Of interfaces whose IPv4 addresses are of a private network: elsewhere are strangers, and of
    those without any. Raises OSError.
    """
    return chosen(Link(str(address), number) for address, number in numbered_addresses())


def chosen(links: Iterable[Link]) -> list[Link]:
    """Those of them that are at home."""
    every = list(dict.fromkeys(links))
    elsewhere = {
        link.interface
        for link in every
        if not link.v6 and not is_at_home(ipaddress.ip_address(link.host))
    }
    return [link for link in every if link.interface not in elsewhere][:LINKS_MAX]
