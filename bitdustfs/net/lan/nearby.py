"""Who is near, as beacons say; and this node's own, where it serves.

What is heard is kept unread until somebody asks for a node: only who knows its key can tell whose
beacon it is. All of it is bounded, since anybody in a network can send anything.
"""

import ipaddress
import logging
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import trio
from nacl.signing import SigningKey

from bitdustfs.errors import Malformed
from bitdustfs.net.addresses import acceptable, is_wildcard, split
from bitdustfs.net.hostnames import joined_address
from bitdustfs.net.lan.beacon import (
    QUESTION,
    Beacon,
    make_beacon,
    port_untrusted,
    read_beacon_untrusted,
    tags_of,
)
from bitdustfs.net.lan.links import Link, home_links
from bitdustfs.net.lan.multicast import Multicast
from bitdustfs.net.rates import Rates

log = logging.getLogger(__name__)

CALL_EVERY = 30.0  #: seconds between beacons that nobody asked for
CALL_LEAST = 2.0  #: seconds between beacons that were asked for
ASK_LEAST = 5.0  #: seconds between questions
AFTER_FAILURE = 10.0  #: seconds until it listens again
FRESH = 100.0  #: seconds for which a beacon counts: three of them may get lost
HEARD_MAX = 256  #: beacons kept that nobody asked for, those heard last
KNOWN_MAX = 256  #: beacons kept of nodes that were asked for, those heard last
HOSTS_MAX = 4  #: addresses of one node
RATE, BURST = 5.0, 50.0  #: datagrams a second from one address; at once
RATE_ALL, BURST_ALL = 50.0, 200.0  #: the same from all


class Near(ABC):
    """Where nodes of the same network are."""

    @abstractmethod
    def of(self, node: bytes) -> tuple[str, ...]:
        """Where the node with a key called from, the last one first."""

    @abstractmethod
    def ask(self) -> None:
        """Somebody is missing: everybody near is asked, if that was not done just now."""


class NobodyNear(Near):
    """Where the local network is left alone."""

    def of(self, node: bytes) -> tuple[str, ...]:
        return ()

    def ask(self) -> None:
        pass


class _Caught(NamedTuple):
    beacon: Beacon
    at: float


class _Call(NamedTuple):
    """Where a node's own beacon was heard, and when last."""

    port: int
    at: float


class Nearby(Near):
    """Listens, and asks, while it runs."""

    def __init__(self, cast: Multicast, now: Callable[[], float] = time.time) -> None:
        self._cast, self._now = cast, now
        self._heard: OrderedDict[tuple[bytes, str], _Caught] = OrderedDict()  # by tag and host
        self._known: OrderedDict[tuple[bytes, str], _Call] = OrderedDict()  # by node and host
        self._of_host, self._in_all = Rates(RATE, BURST), Rates(RATE_ALL, BURST_ALL)
        self._missing, self._asked = trio.Event(), trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. A bug in it ends nothing else."""
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._cast.run, self._take)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await self._ask_now_and_then()
            except Exception:
                log.exception("listening in the local network failed")
                await trio.sleep(AFTER_FAILURE)

    async def _ask_now_and_then(self) -> None:
        while True:
            await self._cast.send(QUESTION)
            await trio.sleep(ASK_LEAST)
            await self._missing.wait()
            self._missing = trio.Event()

    def ask(self) -> None:
        self._missing.set()

    async def wait_asked(self) -> None:
        """Until somebody asks who is there."""
        await self._asked.wait()
        self._asked = trio.Event()

    def _take(self, data: bytes, host: str) -> None:
        if not (self._of_host.admits(host) and self._in_all.admits(None)):
            return
        try:
            beacon = read_beacon_untrusted(data)
        except Malformed as error:
            log.debug("from %s in this network: %s", host, error)
            return
        if beacon is None:
            self._asked.set()
            return
        self._heard[beacon.tag, host] = _Caught(beacon, trio.current_time())
        self._heard.move_to_end((beacon.tag, host))
        if len(self._heard) > HEARD_MAX:
            self._heard.popitem(last=False)

    def of(self, node: bytes) -> tuple[str, ...]:
        self._read(node)
        oldest = trio.current_time() - FRESH
        calls = [
            (known.at, joined_address(host, known.port))
            for (who, host), known in self._known.items()
            if who == node and known.at >= oldest
        ]
        return tuple(address for _, address in sorted(calls, reverse=True)[:HOSTS_MAX])

    def _read(self, node: bytes) -> None:
        """Sorts out what was heard by the node's tags. Each signature is looked at once: what is
        true is kept apart from what anybody can send, and what is false is dropped.
        """
        tags = dict(tags_of(node, self._now()))
        for tag, host in [heard for heard in self._heard if heard[0] in tags]:
            beacon, at = self._heard.pop((tag, host))
            with suppress(Malformed):  # Forged, too: of who knows the key, and has it not
                port = port_untrusted(node, beacon, tags[tag])
                if acceptable(host, port, allow_private=True):
                    self._known[node, host] = _Call(port, at)
                    self._known.move_to_end((node, host))
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)


async def listening_nearby(nursery: trio.Nursery) -> Nearby:
    """It runs in the nursery, and has asked who is there."""
    nearby = Nearby(Multicast())
    await nursery.start(nearby.run)
    return nearby


class Calling:
    """The beacon of a node that serves at `listen`; who asks is heard by `nearby`."""

    def __init__(self, key: SigningKey, listen: str, nearby: Nearby, cast: Multicast) -> None:
        self._key, self._port = key, split(listen)[1]
        self._nearby, self._cast = nearby, cast

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._cast.send(make_beacon(self._key, self._port, time.time()))
            await trio.sleep(CALL_LEAST)
            with trio.move_on_after(CALL_EVERY - CALL_LEAST):
                await self._nearby.wait_asked()


def links_of(listen: str) -> list[Link]:
    """Where a supplier that listens there may be dialled from a network at home. Raises OSError."""
    host = split(listen)[0]
    links = home_links()
    if is_wildcard(host):
        return [link for link in links if host == "::" or not link.v6]
    if ipaddress.ip_address(host).is_loopback:
        return []
    return [link for link in links if link.host == host]
