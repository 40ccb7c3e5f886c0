"""The supplier's TCP side: TLS, the vault session, pipelined requests; decisions are the service's.

One reader task and one writer task a connection. A peer that breaks the protocol loses its
connection and costs one log line; limits hold before anything is read into memory.

Strangers share what customers leave, and none of them has much of it:

    connections.py   places for connections
    buffers.py       bytes in memory
    turns.py         threads, and requests a second
"""

import logging
import os
import ssl
from functools import partial
from typing import NamedTuple

import trio

from bitdustfs.core.warrants import WARRANTS_BYTES_MAX
from bitdustfs.errors import BitdustError, Forged, Malformed, ProtocolViolation
from bitdustfs.net import wire
from bitdustfs.net.addresses import is_private_host, network_of
from bitdustfs.net.tls import TlsStream
from bitdustfs.supplier.buffers import SLOWEST, STRANGERS, Buffers, Hold
from bitdustfs.supplier.connections import Places, Slot
from bitdustfs.supplier.proving import prove
from bitdustfs.supplier.relay import RELAYED_HOST, Relay, RelayRequest, Visitor, answer_at
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session
from bitdustfs.supplier.shelfrows import FILE_PREFIX
from bitdustfs.supplier.spares import Spare, Spares
from bitdustfs.supplier.turns import Turns
from bitdustfs.units import FAMILY_MAX, FRAME_HEAD_MAX, KIB, MIB, ROOT_MAX

log = logging.getLogger(__name__)

REQUESTS_MAX = 8  #: requests of one connection worked on, or their answers not yet sent, at once
INCOMING_MAX = 64 * MIB  #: bytes of heads and payloads of all connections, in memory at once
OUTGOING_MAX = 24 * MIB  #: bytes of answers of all connections, in memory at once
SMALL = 4 * KIB  #: bytes of a head or an answer that is not reckoned with
OPENING_HEAD_MAX = 1 * KIB  #: bytes of a head before there is a session
READ_STRANGER, READ_SMALL, READ_BULK = 4 * KIB, 32 * KIB, 256 * KIB  #: bytes read at once
SPARE_MIN = 256 * KIB  #: bytes of a payload that goes into a spare buffer
SEND_PIECE = 64 * KIB  #: bytes of an answer that are sent before it is looked how fast they went
OPENING_DEADLINE = 10.0  #: seconds for TLS and the session
TRANSFER_DEADLINE = 10.0  #: seconds for one frame, besides what its bytes take at SLOWEST
ROOM_DEADLINE = 5.0  #: seconds that a payload waits for room in memory
IDLE_STRANGER, IDLE_DEADLINE = 60.0, 600.0  #: seconds without a request before a connection ends

_broken = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class SupplierServer:
    """Serves `service` to every connection that `serve` accepts."""

    def __init__(
        self, service: SupplierService, context: ssl.SSLContext, relay: Relay | None = None
    ) -> None:
        self._service, self._context, self._relay = service, context, relay
        self._places, self._turns, self._spares = Places(), Turns(), Spares()
        self._incoming, self._outgoing = Buffers(INCOMING_MAX), Buffers(OUTGOING_MAX)

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Runs until cancelled."""
        await trio.serve_listeners(self._connection, listeners)

    async def _connection(self, transport: trio.SocketStream) -> None:
        try:
            peer = transport.socket.getpeername()[:2]  # fails where the client has gone already
        except OSError:
            await trio.aclose_forcefully(transport)
            return
        await self.serve_one(transport, peer)

    async def serve_one(self, transport: trio.abc.Stream, peer: tuple[str, int]) -> None:
        """Serves one connection, and closes it. `peer`: from where, or (RELAYED_HOST, 0)."""
        scope = trio.CancelScope()
        place: Slot | None = None
        try:
            place = self._places.enter(peer[0], scope)
            if place is None:
                log.warning("%s: closed: too many connections from there", peer)
                return
            with scope:
                stream = TlsStream(transport, self._context, server_side=True)
                await self._talk(stream, place, peer[0])
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

    async def _talk(self, stream: TlsStream, place: Slot, host: str) -> None:
        """Opens the session, and serves it until the client ends it."""
        decoder = wire.FrameDecoder(from_server=False, head_limit=OPENING_HEAD_MAX)
        with trio.move_on_after(OPENING_DEADLINE) as opening:
            client_key = await stream.handshake()
            opened = await self._open(stream, decoder, client_key, host)
        if opening.cancelled_caught:
            raise ProtocolViolation("no session within the opening deadline")
        if not isinstance(opened, Session):
            relay = None if host == RELAYED_HOST else self._relay
            visitor = Visitor(client_key, stream, decoder, place, self._places)
            await answer_at(relay, opened, visitor)
            return
        session = opened
        decoder.allow_heads(FRAME_HEAD_MAX)
        end = place.scope.cancel
        incoming = self._incoming.hold(STRANGERS, end)
        outgoing = self._outgoing.hold(STRANGERS, end)
        try:
            visit = _Talk(
                self._service, self._places, self._turns, self._spares, stream, decoder, session,
                place, incoming, outgoing,
            )  # fmt: skip
            await visit.run()
        finally:
            incoming.close()
            outgoing.close()

    async def _open(
        self, stream: TlsStream, decoder: wire.FrameDecoder, client_key: bytes, host: str
    ) -> "Session | RelayRequest":
        nonce = os.urandom(32)
        await stream.send_all(wire.encode_frame(0, wire.Challenge(wire.VERSION, nonce)))
        while (frame := decoder.next_untrusted()) is None and decoder.asked is None:
            data = await stream.receive_some(READ_STRANGER)
            if not data:
                break
            decoder.feed(data)
        if frame is not None and isinstance(frame.message, RelayRequest):
            return frame.message
        if frame is None or not isinstance(frame.message, wire.Open):
            raise ProtocolViolation("the client did not open a session")
        try:
            session = prove(self._service, frame.message, client_key, nonce)
        except Forged as error:
            fault = wire.Fault("forged", str(error))
            await stream.send_all(wire.encode_frame(frame.id, fault))
            raise
        await stream.send_all(wire.encode_frame(frame.id, wire.Done()))
        if host == RELAYED_HOST:  # one network: nothing is known of where they are
            return session._replace(network=host)
        return session._replace(network="" if is_private_host(host) else network_of(host))


class _Answer(NamedTuple):
    """What is to be sent: the id of its question, and what both hold of the memory."""

    id: int
    reply: wire.Reply
    payload: bytes
    incoming: int
    outgoing: int


class _Talk:
    """One session: its requests, and what they hold of what all share."""

    def __init__(
        self,
        service: SupplierService,
        places: Places,
        turns: Turns,
        spares: Spares,
        stream: TlsStream,
        decoder: wire.FrameDecoder,
        session: Session,
        place: Slot,
        incoming: Hold,
        outgoing: Hold,
    ) -> None:
        self._service, self._places, self._turns = service, places, turns
        self._spares = spares
        self._stream, self._decoder = stream, decoder
        self._session, self._place = session, place
        self._incoming, self._outgoing = incoming, outgoing
        self._held = 0  # bytes of the frame that is under way
        self._spare: Spare | None = None  # that its payload goes into
        self._answered = trio.Semaphore(REQUESTS_MAX)
        self._send, self._due = trio.open_memory_channel[_Answer](REQUESTS_MAX)

    async def run(self) -> None:
        """Until the client ends it."""
        self._look_who_it_is()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            while (frame := await self._next_frame()) is not None:
                held, self._held = self._held, 0
                spare, self._spare = self._spare, None
                await self._answered.acquire()
                nursery.start_soon(self._answer, frame, held, spare)
            nursery.cancel_scope.cancel()

    def _look_who_it_is(self) -> None:
        """A vault that keeps fragments here is a customer."""
        if self._place.stranger and self._service.is_customer(self._session.vault):
            self._places.promote(self._place, self._session.vault)
            self._incoming.move_to(self._session.vault)
            self._outgoing.move_to(self._session.vault)

    # -- what comes in

    async def _next_frame(self) -> wire.Frame | None:
        """The next frame, or None when the peer closed between frames. Raises Malformed."""
        decoder = self._decoder
        idle = IDLE_STRANGER if self._place.stranger else IDLE_DEADLINE
        with trio.CancelScope(deadline=trio.current_time() + idle) as waiting:
            while (frame := decoder.next_untrusted()) is None:
                if decoder.asked is not None:
                    await self._decide(decoder.asked)
                    seconds = TRANSFER_DEADLINE + decoder.payload_due / SLOWEST
                    waiting.deadline = trio.current_time() + seconds
                    continue
                if decoder.head_due and waiting.deadline > trio.current_time() + TRANSFER_DEADLINE:
                    waiting.deadline = trio.current_time() + TRANSFER_DEADLINE
                if decoder.head_due > SMALL and not self._held:
                    await self._hold(decoder.head_due)
                if not await self._receive():
                    return None
                self._place.hear()
        if waiting.cancelled_caught:
            if not (decoder.head_due or decoder.payload_due):
                log.debug("a connection ends: nothing was asked on it for %d s", idle)
                return None
            raise ProtocolViolation("nothing was heard for too long, or it came too slowly")
        return frame

    async def _receive(self) -> int:
        """Gives the decoder what comes; how many bytes, 0 when the peer closed."""
        decoder = self._decoder
        due, vacant = decoder.payload_due, decoder.vacant
        if not due and not self._held:
            data = await self._stream.receive_some(READ_SMALL)
            decoder.feed(data)
            return len(data)
        self._incoming.wait_begins()
        if vacant:
            length = await self._stream.receive_into(vacant[:READ_BULK], READ_SMALL)
            decoder.fill(length)
        else:
            data = await self._stream.receive_some(min(READ_BULK, max(due, READ_SMALL)))
            length = len(data)
        self._incoming.wait_ends(length)
        if not vacant:
            if decoder.skipping:
                await self._turns.refused(self._place, length)
            decoder.feed(data)
        return length

    async def _hold(self, size: int) -> None:
        if not await self._incoming.wait_for(size, ROOM_DEADLINE):
            raise ProtocolViolation("there is no room for what it sends")
        self._held += size

    async def _decide(self, asked: wire.Asked) -> None:
        """Before a payload is taken: whether it is wanted, and whether there is memory for it."""
        message, length = asked.message, asked.length
        if not isinstance(message, wire.Put):
            raise Malformed(f"{type(message).__name__} with a payload")
        async with self._turns.turn(self._place) as workers:
            work = partial(self._service.refuse_head, self._session, message, length)
            refusal = await trio.to_thread.run_sync(work, limiter=workers)
        if refusal is None and not await self._incoming.wait_for(length, ROOM_DEADLINE):
            refusal = wire.Fault("busy", "too much is on its way at once")
        if refusal is None:
            self._held += length
            self._admit(message, length)
        else:
            self._decoder.refuse(refusal)

    def _admit(self, message: wire.Put, length: int) -> None:
        if length < SPARE_MIN:
            self._decoder.admit()
            return
        front = FILE_PREFIX + len(message.header) + len(message.chunks)
        self._spare = self._spares.take(front + length)
        self._decoder.admit(self._spare.lay_out(front, length))

    # -- what goes out

    async def _answer(self, frame: wire.Frame, held: int, spare: Spare | None) -> None:
        if isinstance(frame.message, wire.Fault):  # refused by its head
            await self._send.send(_Answer(frame.id, frame.message, b"", held, 0))
            return
        if not isinstance(frame.message, wire.Request):
            raise ProtocolViolation(f"{type(frame.message).__name__} inside a session")
        size = _answer_size(frame.message)
        while size and not await self._outgoing.wait_for(size, ROOM_DEADLINE):
            pass  # it asked, and waits: some deadline of its own, or of who holds the room, ends it
        work = partial(self._service.handle, self._session, frame.message, frame.payload)
        try:
            async with self._turns.turn(self._place) as workers:
                reply, payload = await trio.to_thread.run_sync(work, limiter=workers)
        except Exception:
            log.exception("a request failed by our own fault")
            reply, payload = wire.Fault("failed", "see the supplier's log"), b""
        if spare is not None:
            self._spares.give_back(spare)  # no thread looks into it any more
        self._look_who_it_is()  # it may keep something here since, brought on another connection
        await self._send.send(_Answer(frame.id, reply, payload, held, size))

    async def _write(self) -> None:
        async for answer in self._due:
            self._incoming.give_back(answer.incoming)
            seconds = TRANSFER_DEADLINE + len(answer.payload) / SLOWEST
            with trio.move_on_after(seconds) as sending:
                head = wire.encode_frame(answer.id, answer.reply, len(answer.payload))
                await self._pass(head)
                view = memoryview(answer.payload)
                for at in range(0, len(view), SEND_PIECE):
                    await self._pass(view[at : at + SEND_PIECE])
            if sending.cancelled_caught:
                raise ProtocolViolation("the client does not take its replies")
            self._outgoing.give_back(answer.outgoing)
            self._answered.release()

    async def _pass(self, data: bytes | memoryview) -> None:
        self._outgoing.wait_begins()
        await self._stream.send_all(data)
        self._outgoing.wait_ends(len(data))


def _answer_size(request: wire.Request) -> int:
    """Bytes that the answer may have in memory; 0 for what is small."""
    match request:
        case wire.Read():
            return request.length
        case wire.Current() | wire.Prepare():
            return ROOT_MAX + FAMILY_MAX
        case wire.Warrants():
            return WARRANTS_BYTES_MAX
        case wire.List():
            return 64 * KIB
    return 0
