"""Nodes that ask to be dialled: is a port of theirs open to the world? Tried on their behalf.

Only the address that the question came from is dialled, once it proved by a token that it receives,
and only so often: nobody has us dial anybody else.
"""

import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple

import trio
from nacl.signing import SigningKey

from bitdustfs.errors import Malformed, PeerError
from bitdustfs.net.addresses import acceptable
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.bounds import Neighbourhoods
from bitdustfs.net.dht.datagram import Body, DialBack, DialledBack, Endpoint
from bitdustfs.net.dht.udp import DatagramSocket, UdpSocket
from bitdustfs.net.handshake import meet
from bitdustfs.net.hostnames import joined_address
from bitdustfs.net.rates import Rates
from bitdustfs.net.tls import make_context
from bitdustfs.units import DATAGRAM_MAX

TRIED_FOR = 3.0  #: seconds for TCP and TLS; as long for datagrams, beside
PINGED_EVERY = 0.7  #: seconds after which a datagram is sent again
ANSWERED_IN = 6.0  #: seconds that an asker waits
RATE, BURST = 0.1, 6.0  #: dials a second for one network; at once
RATE_ALL, BURST_ALL = 1.0, 16.0  #: the same for all together
AT_ONCE = 4  #: dials under way
WAITING_MAX = 8  #: askers that wait for one of those


class ToDial(NamedTuple):
    """Who wants to be dialled, and under which id the answer is due."""

    node: bytes  #: its key
    endpoint: Endpoint
    id: bytes
    port: int


#: sends an answer to whom it is for, under the id of the question
TellDialled = Callable[[Endpoint, bytes, DialledBack], Awaitable[object]]


class DialBacks:
    """What one node does for others. It runs as long as its node does."""

    def __init__(
        self,
        key: SigningKey,
        neighbourhoods: Neighbourhoods,
        allow_private: bool,
        make_socket: Callable[[], DatagramSocket] = UdpSocket,
    ) -> None:
        self._key, self._neighbourhoods = key, neighbourhoods
        self._allow_private, self._make_socket = allow_private, make_socket
        self._of_network, self._in_all = Rates(RATE, BURST), Rates(RATE_ALL, BURST_ALL)
        self._wanted, self._waiting = trio.open_memory_channel[ToDial](WAITING_MAX)

    def ask(self, body: Body, endpoint: Endpoint, question: DialBack) -> None:
        """Takes a question whose token was right; one too many is dropped."""
        sender = self._neighbourhoods.sender(endpoint)
        if not acceptable(endpoint[0], question.port, self._allow_private):
            return
        if self._of_network.admits(sender) and self._in_all.admits(None):
            with suppress(trio.WouldBlock):
                self._wanted.send_nowait(ToDial(body.sender, endpoint, body.id, question.port))

    async def run(self, answer: TellDialled) -> None:
        """Dials, and has each answer sent, until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._serve, answer)

    async def _serve(self, answer: TellDialled) -> None:
        async for asked in self._waiting.clone():
            await answer(asked.endpoint, asked.id, await self._dial(asked))

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
            met = await meet(joined_address(host, port), node, self._context, bulk=False)
            there.add("tcp")
            await met.aclose()

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """Of a key for this alone: who is dialled need not know us."""
        return make_context(os.urandom(32), server_side=False)

    async def _by_udp(self, node: bytes, host: str, port: int, there: set[str]) -> None:
        """From a socket of its own: where a node sent something, routers let answers in."""
        line = self._make_socket()
        ping = Body(datagram.VERSION, self._key.verify_key.encode(), False, os.urandom(16), b"",
                    datagram.DhtPing())  # fmt: skip
        try:
            await line.bind(("::" if ":" in host else "0.0.0.0", 0))
            while "udp" not in there:
                await line.sendto(datagram.encode_datagram(self._key, ping), (host, port))
                with trio.move_on_after(PINGED_EVERY):
                    await _answered(line, node, ping.id)
                    there.add("udp")
        except OSError:  # no way there now
            return
        finally:
            line.close()


async def _answered(line: DatagramSocket, node: bytes, question: bytes) -> None:
    """Waits for the node's answer; what else comes is passed over. Raises OSError."""
    while True:
        data, _ = await line.recvfrom(DATAGRAM_MAX + 1)
        with suppress(Malformed):
            body = datagram.open_datagram_untrusted(data)
            if (body.sender, body.id) == (node, question):
                return
