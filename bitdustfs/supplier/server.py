"""The supplier's TCP side: TLS, the vault session, pipelined requests; decisions are the service's.

One reader task and one writer task a connection. A peer that breaks the protocol loses its
connection and costs one log line; limits hold before anything is read into memory.

Strangers share what customers leave, and none of them has much of it:

    connections.py   places for connections
    buffers.py       bytes in memory
    turns.py         threads, and requests a second
    talk.py          one session's requests

    relay.py         passes on bytes to others
    halfway.py       dials whom a relay leads here, at the same time as that one dials
"""

import logging
import os
import ssl
from typing import NamedTuple

import trio

from bitdustfs.errors import BitdustError, Forged, Malformed, ProtocolViolation
from bitdustfs.net import wire
from bitdustfs.net.addresses import is_private_host
from bitdustfs.net.hostnames import joined_address
from bitdustfs.net.line import OwnLine, PacedStream
from bitdustfs.net.tls import TlsStream
from bitdustfs.supplier.buffers import SLOWEST, STRANGERS, Buffers
from bitdustfs.supplier.connections import Places, Slot
from bitdustfs.supplier.halfway import Crossing, Halfway
from bitdustfs.supplier.proving import prove
from bitdustfs.supplier.relay import RELAYED_HOST, Relay, RelayRequest, Visitor, answer_at
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session
from bitdustfs.supplier.spares import Spares
from bitdustfs.supplier.talk import Talk
from bitdustfs.supplier.turns import Turns
from bitdustfs.units import FRAME_HEAD_MAX, KIB, MIB

log = logging.getLogger(__name__)

INCOMING_MAX = 64 * MIB  #: bytes of heads and payloads of all connections, in memory at once
OUTGOING_MAX = 24 * MIB  #: bytes of answers of all connections, in memory at once
OPENING_HEAD_MAX = 1 * KIB  #: bytes of a head before there is a session
READ_STRANGER = 4 * KIB  #: bytes read at once before there is a session
OPENING_DEADLINE = 10.0  #: seconds for TLS and the session
OPENING = 2 * KIB  #: bytes that they take, each way

_broken = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class _Opened(NamedTuple):
    """Who came, and whether he asks to be dialled in place of what else is asked in sessions."""

    session: Session
    punches: bool


class SupplierServer:
    """Serves `service` to every connection that `serve` accepts."""

    def __init__(
        self,
        service: SupplierService,
        context: ssl.SSLContext,
        relay: Relay | None = None,
        line: OwnLine | None = None,
    ) -> None:
        self._service, self._context, self._relay = service, context, relay
        self._halfway = Halfway(service)
        self._line = line = line or OwnLine()
        self._places, self._turns, self._spares = Places(), Turns(), Spares()
        self._incoming = Buffers(INCOMING_MAX, lambda: line.down.bearable(SLOWEST))
        self._outgoing = Buffers(OUTGOING_MAX, lambda: line.up.bearable(SLOWEST))

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Runs until cancelled."""
        await trio.serve_listeners(self._connection, listeners)

    async def _connection(self, transport: trio.SocketStream) -> None:
        try:
            peer = transport.socket.getpeername()[:2]  # fails where the client has gone already
        except OSError:
            await trio.aclose_forcefully(transport)
            return
        await self.serve_one(PacedStream(transport, self._line), peer)

    async def serve_one(
        self, transport: trio.abc.Stream, peer: tuple[str, int], crossing: Crossing | None = None
    ) -> None:
        """Serves one connection, and closes it. `peer`: from where, or (RELAYED_HOST, 0), and then
        `crossing`: by which circuit.

        It is on this node's line already.
        """
        scope = trio.CancelScope()
        place: Slot | None = None
        try:
            place = self._places.enter(crossing.network if crossing else peer[0], scope)
            if place is None:
                log.warning("%s: closed: too many connections from there", peer)
                return
            with scope:
                stream = TlsStream(transport, self._context, server_side=True)
                await self._talk(stream, place, peer, crossing)
            if scope.cancelled_caught:
                log.info("%s: closed: its place or its memory is needed for others", peer)
        except (Malformed, ProtocolViolation) as error:
            log.warning("%s: closed: %s", peer, error)
        except _broken as error:
            log.info("%s: gone: %s", peer, type(error).__name__)
        except ExceptionGroup as group:
            if group.split((BitdustError, *_broken))[1] is not None:
                log.exception("%s: closed by our own fault", peer)
            else:
                log.warning("%s: closed: %s", peer, group.exceptions[0])
        except Exception:  # one client's connection must not end the others'
            log.exception("%s: closed by our own fault", peer)
        finally:
            if place is not None:
                self._places.leave(place)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(transport)

    async def _talk(
        self, stream: TlsStream, place: Slot, peer: tuple[str, int], crossing: Crossing | None
    ) -> None:
        """Opens the session, and serves it until the client ends it."""
        decoder = wire.FrameDecoder(from_server=False, head_limit=OPENING_HEAD_MAX)
        own = self._line.down.own_delay(OPENING) + self._line.up.own_delay(OPENING)
        with trio.move_on_after(OPENING_DEADLINE + own) as opening:
            client_key = await stream.handshake()
            private = peer[0] != RELAYED_HOST and is_private_host(peer[0])
            network = "" if private else place.network
            opened = await self._open(stream, decoder, client_key, network)
        if opening.cancelled_caught:
            raise ProtocolViolation("no session within the opening deadline")
        if not isinstance(opened, _Opened):
            relay = None if peer[0] == RELAYED_HOST else self._relay
            visitor = Visitor(
                client_key, stream, decoder, place, self._places, self._line, joined_address(*peer)
            )
            await answer_at(relay, opened, visitor)
            return
        session = opened.session
        if opened.punches:
            await self._punch(session, stream, decoder, crossing)
            return
        decoder.allow_heads(FRAME_HEAD_MAX)
        end = place.scope.cancel
        incoming = self._incoming.hold((*STRANGERS, *place.share), end)
        outgoing = self._outgoing.hold((*STRANGERS, *place.share), end)
        try:
            visit = Talk(
                self._service, self._places, self._turns, self._spares, stream, decoder, session,
                place, incoming, outgoing, self._line,
            )  # fmt: skip
            await visit.run()
        finally:
            incoming.close()
            outgoing.close()

    async def _punch(
        self,
        session: Session,
        stream: TlsStream,
        decoder: wire.FrameDecoder,
        crossing: Crossing | None,
    ) -> None:
        if crossing is None:
            raise ProtocolViolation("it asks to be dialled, and did not come through a relay")
        transport = await self._halfway.answer(session, stream, decoder, crossing)
        if transport is not None:
            crossing.nursery.start_soon(self._connection, transport)

    async def _open(
        self, stream: TlsStream, decoder: wire.FrameDecoder, client_key: bytes, network: str
    ) -> "RelayRequest | _Opened":
        nonce = os.urandom(32)
        await stream.send_all(wire.encode_frame(0, wire.Challenge(wire.VERSION, nonce)))
        while (frame := decoder.next_untrusted()) is None and decoder.asked is None:
            data = await stream.receive_some(READ_STRANGER)
            if not data:
                break
            decoder.feed(data)
        if frame is not None and isinstance(frame.message, RelayRequest):
            return frame.message
        if frame is None or not isinstance(frame.message, wire.Open | wire.Punch):
            raise ProtocolViolation("the client did not open a session")
        try:
            session = prove(self._service, frame.message, client_key, nonce)
            punches = isinstance(frame.message, wire.Punch)
        except Forged as error:
            fault = wire.Fault("forged", str(error))
            await stream.send_all(wire.encode_frame(frame.id, fault))
            raise
        if not punches:
            await stream.send_all(wire.encode_frame(frame.id, wire.Done()))
        return _Opened(session._replace(network=network), punches)
