"""Ports mapped by UPnP IGD, through the miniupnpc package, where it is installed.

It is a C library that waits: each call runs in a thread, and is waited for only so long.
"""

import importlib
import math
import random
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from bitdustfs.net.routers.gateway import Gateway
from bitdustfs.net.routers.router import ANSWERED_IN, LIFETIME, OpenPort, Router, RouterRefuses

T = TypeVar("T")

DISCOVERY_MS = 2000  #: milliseconds in which routers answer who is there
LABEL = "bitdust"  #: what the router shows of a mapping: no name, no key
NAMES = {6: "TCP", 17: "UDP"}
#: external ports that are asked for where another machine has the wanted one, and how many
OTHER_PORTS, OTHERS_TRIED = range(20_000, 60_000), 3
AT_ONCE = 2  #: threads that wait for routers, also such as were given up

_threads = trio.CapacityLimiter(AT_ONCE)


def is_installed() -> bool:
    """Whether UPnP can be spoken here."""
    try:
        importlib.import_module("miniupnpc")
    except ImportError:
        return False
    return True


class UpnpRouter(Router):
    """A router that was found; `_igd` is miniupnpc's."""

    name = "UPnP"

    def __init__(self, igd: Any, own: str) -> None:
        self._igd, self._own = igd, own
        self._kept: set[tuple[int, int]] = set()  # protocol, external port

    async def map(self, protocol: int, internal: int, external: int) -> OpenPort:
        """Where another machine has the port (UPnP error 718), another one is asked for."""

        def ask() -> OpenPort:
            host = str(self._igd.externalipaddress())
            for port in (external, *random.sample(OTHER_PORTS, OTHERS_TRIED)):
                try:
                    return OpenPort(host, port, self._add(protocol, internal, port))
                except Exception as error:
                    if "ConflictInMappingEntry" not in str(error):
                        raise
            raise RouterRefuses("maps no port by UPnP: others have those that were asked for")

        mapped = await _in_time(ask)
        self._kept.add((protocol, mapped.port))
        return mapped

    def _add(self, protocol: int, internal: int, port: int) -> float:
        """Seconds for which it holds; some routers know no end of it (UPnP error 725)."""
        words = (port, NAMES[protocol], self._own, internal, LABEL, "")
        try:
            self._igd.addportmapping(*words, LIFETIME)
            return LIFETIME
        except Exception as error:
            if "OnlyPermanentLeasesSupported" not in str(error):
                raise
            self._igd.addportmapping(*words, 0)
            return math.inf

    async def unmap(self, protocol: int, internal: int, external: int) -> None:
        self._kept.discard((protocol, external))
        await _in_time(lambda: self._igd.deleteportmapping(external, NAMES[protocol]))

    async def remembers(self) -> bool:
        def ask() -> bool:
            kept = sorted(self._kept)
            return all(self._igd.getspecificportmapping(port, NAMES[p]) for p, port in kept)

        return await _in_time(ask)


async def find_upnp(gateway: Gateway) -> UpnpRouter:
    """The router of a network, if it speaks UPnP. Raises RouterRefuses."""

    def look() -> UpnpRouter:
        found = importlib.import_module("miniupnpc").UPnP(
            multicastif=str(gateway.own), discoverdelay=DISCOVERY_MS
        )
        if not found.discover():
            raise RouterRefuses("does not speak UPnP")
        found.selectigd()
        return UpnpRouter(found, str(gateway.own))

    if not is_installed():
        raise RouterRefuses("is not asked by UPnP: the miniupnpc package is not installed")
    return await _in_time(look)


async def _in_time(call: Callable[[], T]) -> T:
    """What a call says. Raises RouterRefuses, also where it takes too long."""
    with trio.move_on_after(ANSWERED_IN):
        try:
            return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=_threads)
        except (RouterRefuses, trio.Cancelled):
            raise
        except Exception as error:  # miniupnpc raises Exception itself, with the router's words
            raise RouterRefuses(f"maps no port by UPnP: {str(error)[:80]!r}") from None
    raise RouterRefuses(f"does not answer by UPnP within {ANSWERED_IN:.0f} s")
