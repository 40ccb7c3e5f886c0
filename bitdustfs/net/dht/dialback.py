"""Nodes that ask to be dialled: is a port of theirs open to the world? Tried on their behalf.

Only the address that the question came from is dialled, once it proved by a token that it receives,
and only so often: nobody has us dial anybody else.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import trio
from nacl.signing import SigningKey

from bitdustfs.errors import Malformed, PeerError
from bitdustfs.net.addresses import acceptable, network_of
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.datagram import Body, DialBack, DialledBack, Endpoint
from bitdustfs.net.dht.udp import DatagramSocket, UdpSocket
from bitdustfs.net.handshake import meet
from bitdustfs.net.hostnames import joined_address
from bitdustfs.net.line import OwnLine
from bitdustfs.net.rates import Rates
from bitdustfs.net.tls import make_context
from bitdustfs.units import DATAGRAM_MAX

log = logging.getLogger(__name__)

TRIED_FOR = 3.0  #: seconds for TCP and TLS; as long for datagrams, beside
PINGED_EVERY, PINGS = 0.7, 4  #: seconds after which a datagram is sent again; how often it is
HEARD_MAX = 16  #: datagrams of whom is dialled whose signatures are looked at
RATE, BURST = 0.1, 6.0  #: dials a second for one network; at once
RATE_ALL, BURST_ALL = 1.0, 16.0  #: the same for all together
AT_ONCE = 4  #: dials under way
WAITING_MAX = 4  #: askers that wait for one of those: for one dial, so that none waits in vain
ANSWERED_IN = 2 * TRIED_FOR + 2.0  #: seconds that an asker waits


class ToDial(NamedTuple):
    """Who wants to be dialled, and under which id the answer is due."""

    node: bytes  #: its key
    endpoint: Endpoint
    id: bytes
    port: int


#: sends an answer to whom it is for, under the id of the question
TellDialled = Callable[[Endpoint, bytes, DialledBack], Awaitable[object]]


class DialBacks(ABC):
    """What one node does for others that ask to be dialled. It runs as long as its node does."""

    @abstractmethod
    def ask(self, body: Body, endpoint: Endpoint, question: DialBack) -> DialledBack | None:
        """Takes a question whose token was right; the answer, if it can be said at once."""

    @abstractmethod
    async def run(self, answer: TellDialled) -> None:
        """Dials, and has each answer sent, until cancelled."""


class NoDialBacks(DialBacks):
    """Of a node that dials nobody."""

    def ask(self, body: Body, endpoint: Endpoint, question: DialBack) -> DialledBack | None:
        return None

    async def run(self, answer: TellDialled) -> None:
        return


class Dialling(DialBacks):
    """Dials by TCP and by datagrams. `allow_private`: also loopback and private addresses.

    `line`: the node's own.
    """

    def __init__(
        self,
        key: SigningKey,
        allow_private: bool,
        make_socket: Callable[[], DatagramSocket] | None = None,
        line: OwnLine | None = None,
    ) -> None:
        self._key, self._allow_private, self._line = key, allow_private, line or OwnLine()
        self._make_socket = make_socket or partial(UdpSocket, self._line)
        # of a key for this alone: who is dialled need not know us
        self._context = make_context(os.urandom(32), server_side=False)
        self._of_network, self._in_all = Rates(RATE, BURST), Rates(RATE_ALL, BURST_ALL)
        self._wanted, self._waiting = trio.open_memory_channel[ToDial](WAITING_MAX)

    def ask(self, body: Body, endpoint: Endpoint, question: DialBack) -> DialledBack | None:
        """One question too many is dropped."""
        host = endpoint[0]
        if question.host != host:
            return DialledBack(host, False, False)
        if not acceptable(host, question.port, self._allow_private):
            return None
        # whatever its ports: that is what would be dialled
        if self._of_network.admits(network_of(host)) and self._in_all.admits(None):
            with suppress(trio.WouldBlock):
                self._wanted.send_nowait(ToDial(body.sender, endpoint, body.id, question.port))
        return None

    async def run(self, answer: TellDialled) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._serve, answer)

    async def _serve(self, answer: TellDialled) -> None:
        async for asked in self._waiting.clone():
            try:
                said = await self._dial(asked)
            except Exception:  # a bug that who was dialled brought out: others are dialled on
                log.exception("dialling %s:%d back failed", asked.endpoint[0], asked.port)
                continue
            await answer(asked.endpoint, asked.id, said)

    async def _dial(self, asked: ToDial) -> DialledBack:
        host, there = asked.endpoint[0], set[str]()
        with trio.move_on_after(TRIED_FOR):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._by_tcp, asked.node, host, asked.port, there)
                nursery.start_soon(self._by_udp, asked.node, host, asked.port, there)
        return DialledBack(host, "tcp" in there, "udp" in there)

    async def _by_tcp(self, node: bytes, host: str, port: int, there: set[str]) -> None:
        """Adds to `there` how the node was reached; so does the next one."""
        with suppress(PeerError):
            met = await meet(joined_address(host, port), node, self._context, False, self._line)
            there.add("tcp")
            await met.aclose()

    async def _by_udp(self, node: bytes, host: str, port: int, there: set[str]) -> None:
        """From a socket of its own: where a node sent something, routers let answers in."""
        line = self._make_socket()
        ping = Body(datagram.VERSION, self._key.verify_key.encode(), False, os.urandom(16), b"",
                    datagram.DhtPing())  # fmt: skip
        sent, heard = datagram.encode_datagram(self._key, ping), 0
        try:
            await line.bind(("::" if ":" in host else "0.0.0.0", 0))
            for _ in range(PINGS):
                await line.sendto(sent, (host, port))
                with trio.move_on_after(PINGED_EVERY):
                    while heard < HEARD_MAX:
                        data, sender = await line.recvfrom(DATAGRAM_MAX + 1)
                        if sender[0] != host:
                            continue
                        heard += 1
                        if _answers(data, node, ping.id):
                            there.add("udp")
                            return
        except OSError:  # no way there now
            return
        finally:
            line.close()


def _answers(data: bytes, node: bytes, question: bytes) -> bool:
    """Whether a datagram is the node's answer to a question."""
    try:
        body = datagram.open_datagram_untrusted(data)
    except Malformed:
        return False
    return (body.sender, body.id) == (node, question)
