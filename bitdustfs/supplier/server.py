"""The supplier's TCP side: TLS, the vault session, pipelined requests; decisions are the service's.

One reader task and one writer task a connection. A peer that breaks the protocol loses its
connection and costs one log line; limits hold before anything is read into memory.
"""

import logging
import os
import ssl
from functools import partial

import trio

from bitdustfs.core.keys import verify
from bitdustfs.errors import BitdustError, Forged, Malformed, ProtocolViolation
from bitdustfs.net import wire
from bitdustfs.net.tls import TlsStream
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session
from bitdustfs.units import MIB

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 512
REQUESTS_MAX = 8  #: requests of one connection worked on at once
PAYLOADS_MAX = 256 * MIB  #: bytes of payloads of all connections that are taken into memory at once
OPENING_DEADLINE = 10.0  #: seconds for TLS and the session
SEND_DEADLINE = 120.0  #: seconds a client may take to accept one reply
IDLE_DEADLINE = 600.0  #: seconds without a request before a connection is closed

_broken = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class SupplierServer:
    """Serves `service` to every connection that `serve` accepts."""

    def __init__(self, service: SupplierService, context: ssl.SSLContext) -> None:
        self._service, self._context = service, context
        self._key = service.node.verify_key.encode()
        self._connections = 0
        self._memory = _Memory(PAYLOADS_MAX)
        self._workers = trio.CapacityLimiter(8)

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Runs until cancelled."""
        await trio.serve_listeners(self._connection, listeners)

    async def _connection(self, transport: trio.SocketStream) -> None:
        if self._connections >= CONNECTIONS_MAX:
            log.warning("too many connections: one is closed")
            await transport.aclose()
            return
        self._connections += 1
        peer: tuple[str, int] = ("?", 0)
        try:
            peer = transport.socket.getpeername()[:2]  # fails where the client has gone already
            stream = TlsStream(transport, self._context, server_side=True)
            try:
                await self._talk(stream)
            finally:
                await stream.aclose()
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
            self._connections -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(transport)

    async def _talk(self, stream: TlsStream) -> None:
        taken = _Taken(self._memory)
        try:
            await self._requests(stream, taken)
        finally:
            taken.give_back_all()

    async def _requests(self, stream: TlsStream, taken: "_Taken") -> None:
        decoder = wire.FrameDecoder(from_server=False)
        with trio.move_on_after(OPENING_DEADLINE) as opening:
            client_key = await stream.handshake()
            session = await self._open(stream, decoder, client_key)
        if opening.cancelled_caught:
            raise ProtocolViolation("no session within the opening deadline")
        decoder.screen(partial(self._refuse, session, taken))
        send, receive = trio.open_memory_channel[tuple[int, wire.Reply, bytes]](REQUESTS_MAX)
        limiter = trio.Semaphore(REQUESTS_MAX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, stream, receive)
            while True:
                frame = await _next_frame(stream, decoder, IDLE_DEADLINE)
                if frame is None:
                    break
                await limiter.acquire()
                nursery.start_soon(self._answer, session, frame, send, limiter, taken)
            nursery.cancel_scope.cancel()

    async def _open(
        self, stream: TlsStream, decoder: wire.FrameDecoder, client_key: bytes
    ) -> Session:
        nonce = os.urandom(32)
        await stream.send_all(wire.encode_frame(0, wire.Challenge(wire.VERSION, nonce)))
        frame = await _next_frame(stream, decoder, OPENING_DEADLINE)
        if frame is None or not isinstance(frame.message, wire.Open):
            raise ProtocolViolation("the client did not open a session")
        request = frame.message
        try:
            session = self._check_open(request, client_key, nonce)
        except Forged as error:
            fault = wire.Fault("forged", str(error))
            await stream.send_all(wire.encode_frame(frame.id, fault))
            raise
        await stream.send_all(wire.encode_frame(frame.id, wire.Done()))
        return session

    def _check_open(self, request: wire.Open, client_key: bytes, nonce: bytes) -> Session:
        body = wire.session_body(request.role, request.vault, self._key, client_key, nonce)
        if request.role == "owner":
            verify(request.vault, "session", body, request.signature)
            return Session(request.vault, "owner")
        if request.role == "member":
            verify(client_key, "session", body, request.signature)
            if self._service.is_kin(request.vault, client_key):
                return Session(request.vault, "member", client_key)
            if self._service.was_kin(request.vault, client_key):
                return Session(request.vault, "former", client_key)
            raise Forged("this node is not of the vault's family, as it is known here")
        proof = self._service.read_proof(request.vault)
        if request.role != "reader" or proof is None:
            raise Forged("this role cannot be proven here")
        verify(proof, "session", body, request.signature)
        return Session(request.vault, "reader")

    def _refuse(
        self, session: Session, taken: "_Taken", message: wire.AnyMessage, length: int
    ) -> wire.Fault | None:
        """Before a payload is taken: whether it is wanted, and whether there is memory for it."""
        if not length or not isinstance(message, wire.Put):
            return None
        refusal = self._service.refuse_head(session, message, length)
        if refusal is None and not taken.take(length):
            return wire.Fault("busy", "too much is on its way at once")
        return refusal

    async def _answer(
        self,
        session: Session,
        frame: wire.Frame,
        send: "trio.MemorySendChannel[tuple[int, wire.Reply, bytes]]",
        limiter: trio.Semaphore,
        taken: "_Taken",
    ) -> None:
        try:
            if isinstance(frame.message, wire.Fault):  # refused by its head
                await send.send((frame.id, frame.message, b""))
                return
            if not isinstance(frame.message, wire.Request):
                raise ProtocolViolation(f"{type(frame.message).__name__} inside a session")
            work = partial(self._service.handle, session, frame.message, frame.payload)
            try:
                reply, payload = await trio.to_thread.run_sync(work, limiter=self._workers)
            except Exception:
                log.exception("a request failed by our own fault")
                reply, payload = wire.Fault("failed", "see the supplier's log"), b""
            await send.send((frame.id, reply, payload))
        finally:
            taken.give_back(len(frame.payload))
            limiter.release()

    async def _write(
        self,
        stream: TlsStream,
        receive: "trio.MemoryReceiveChannel[tuple[int, wire.Reply, bytes]]",
    ) -> None:
        async for request_id, reply, payload in receive:
            with trio.move_on_after(SEND_DEADLINE) as sending:
                await stream.send_all(wire.encode_frame(request_id, reply, len(payload)))
                await stream.send_all(payload)
            if sending.cancelled_caught:
                raise ProtocolViolation("the client does not take its replies")


class _Memory:
    """Bytes of payloads of all connections that are in memory, or on their way there."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def take(self, size: int) -> bool:
        """Whether there was room for `size` bytes more, which are taken then."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class _Taken:
    """One connection's part of the memory."""

    def __init__(self, memory: _Memory) -> None:
        self._memory, self._bytes = memory, 0

    def take(self, size: int) -> bool:
        taken = self._memory.take(size)
        self._bytes += size if taken else 0
        return taken

    def give_back(self, size: int) -> None:
        self._memory.give_back(size)
        self._bytes -= size

    def give_back_all(self) -> None:
        """The connection ends: also what it did not send in the end."""
        self.give_back(self._bytes)


async def _next_frame(
    stream: TlsStream, decoder: wire.FrameDecoder, deadline: float
) -> wire.Frame | None:
    """The next frame, or None when the peer closed between frames. Raises Malformed."""
    while True:
        frame = decoder.next_untrusted()
        if frame is not None:
            return frame
        with trio.move_on_after(deadline) as waiting:
            data = await stream.receive_some()
        if waiting.cancelled_caught:
            raise ProtocolViolation("nothing was heard for too long")
        if not data:
            return None
        decoder.feed(data)
