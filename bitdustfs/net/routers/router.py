"""A router that maps ports: what it is asked, in whatever way it understands."""

from abc import ABC, abstractmethod
from typing import NamedTuple

LIFETIME = 3600  #: seconds for which a port is asked for; the half of it later it is asked again


class RouterRefuses(Exception):
    """The router maps nothing; why, the rest of a sentence that begins with "the router"."""


class Silent(RouterRefuses):
    """Nothing was heard of it in time. What it mapped before may well stand."""


class OpenPort(NamedTuple):
    """Where others come in, and for how many seconds that holds. `host`: an IPv4 address."""

    host: str
    port: int
    lifetime: float


class Router(ABC):
    """Protocols are numbers of IANA: 6 is TCP, 17 UDP. Every call ends within ANSWERED_IN."""

    #: how it is spoken with, for people
    name: str

    @abstractmethod
    async def map(self, protocol: int, internal: int, external: int) -> OpenPort:
        """Has an external port lead to an internal one of this machine; it may be another port than
        was asked for. Asked again it is renewed. Raises RouterRefuses, Silent.
        """

    @abstractmethod
    async def unmap(self, protocol: int, internal: int, external: int) -> None:
        """Takes the mapping back. Raises RouterRefuses, Silent; then it ends with its lifetime."""

    @abstractmethod
    async def remembers(self) -> bool:
        """False if the router has forgotten mappings since the last call: it was restarted. Raises
        Silent.
        """


#: seconds within which a router answers; all tries included
ANSWERED_IN = 10.0
