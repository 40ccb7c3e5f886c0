"""One session at a supplier: its requests come in, are worked on side by side, and answered.

One reader task and one writer task. What is decided is the service's; here it is only seen to that
limits hold before anything is read into memory, and that no client holds what others need.
"""

import logging
from functools import partial
from typing import NamedTuple

import trio

from bitdustfs.core.erasure import Buffer
from bitdustfs.core.warrants import WARRANTS_BYTES_MAX
from bitdustfs.errors import Malformed, ProtocolViolation
from bitdustfs.net import wire
from bitdustfs.net.line import OwnLine
from bitdustfs.net.tls import TlsStream
from bitdustfs.supplier.buffers import SLOWEST, Hold
from bitdustfs.supplier.connections import Places, Slot
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session
from bitdustfs.supplier.shelfrows import FILE_PREFIX
from bitdustfs.supplier.spares import Spare, Spares
from bitdustfs.supplier.turns import Turns
from bitdustfs.units import FAMILY_MAX, KIB, ROOT_MAX

log = logging.getLogger(__name__)

REQUESTS_MAX = 8  #: requests of one connection worked on, or their answers not yet sent, at once
SMALL = 4 * KIB  #: bytes of a head or an answer that is not reckoned with
READ_SMALL, READ_BULK = 32 * KIB, 256 * KIB  #: bytes read at once
SPARE_MIN = 256 * KIB  #: bytes of a payload that goes into a spare buffer
SEND_PIECE = 64 * KIB  #: bytes of an answer that are sent before it is looked how fast they went
TRANSFER_DEADLINE = 10.0  #: seconds for one frame, besides what its bytes take at SLOWEST
STALLED = 30.0  #: seconds from piece to piece of a payload or an answer of a slow client
FLOOR = 512  #: bytes a second that it comes to, at least
ROOM_DEADLINE = 5.0  #: seconds that a payload waits for room in memory
IDLE_STRANGER, IDLE_DEADLINE = 60.0, 600.0  #: seconds without a request before a connection ends


class _Answer(NamedTuple):
    """What is to be sent: the id of its question, and what both hold of the memory."""

    id: int
    reply: wire.Reply
    payload: bytes
    incoming: int
    outgoing: int


class Worked(NamedTuple):
    """What came of a request, and the bytes of memory that the answer holds."""

    reply: wire.Reply
    payload: bytes
    size: int


class Talk:
    """One session: its requests, and what they hold of what all share.

    `line`: this node's. As far as it is slow by this node's own wish, the client has longer.
    """

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
        line: OwnLine,
    ) -> None:
        self._line = line
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
            share = self._service.share_of(self._session.vault)
            self._places.promote(self._place, share)
            self._incoming.move_to(share)
            self._outgoing.move_to(share)

    # -- what comes in

    async def _next_frame(self) -> wire.Frame | None:
        """The next frame, or None when the peer closed between frames. Raises Malformed."""
        decoder, down = self._decoder, self._line.down
        latest = 0.0  # when all of a payload has to be here
        idle = IDLE_STRANGER if self._place.stranger else IDLE_DEADLINE
        with trio.CancelScope(deadline=trio.current_time() + idle) as waiting:
            while (frame := decoder.next_untrusted()) is None:
                if decoder.asked is not None:
                    await self._decide(decoder.asked)
                    due, now = decoder.payload_due, trio.current_time()
                    seconds = TRANSFER_DEADLINE + due / SLOWEST + down.own_delay(due)
                    waiting.deadline = now + max(seconds, STALLED)
                    latest = now + due / down.bearable(FLOOR) + down.own_delay(down.piece)
                    continue
                if decoder.head_due:
                    own = down.own_delay(decoder.head_due + down.piece)
                    soon = trio.current_time() + TRANSFER_DEADLINE + own
                    waiting.deadline = min(waiting.deadline, soon)
                if decoder.head_due > SMALL and not self._held:
                    await self._hold(decoder.head_due)
                if not await self._receive():
                    return None
                self._place.hear()
                if decoder.payload_due and not decoder.skipping:  # it may be slow, not stuck
                    slow = min(latest, trio.current_time() + STALLED + down.own_delay(down.piece))
                    waiting.deadline = max(waiting.deadline, slow)
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
        work = partial(self._work, frame.message, frame.payload)
        if isinstance(frame.message, wire.Await):
            herald, asked = self._service.voter.herald, frame.message
            reply, payload, size = await herald.answer(self._session.vault, asked.seconds, work)
        else:
            reply, payload, size = await work()
        if spare is not None:
            self._spares.give_back(spare)  # no thread looks into it any more
        self._look_who_it_is()  # it may keep something here since, brought on another connection
        await self._send.send(_Answer(frame.id, reply, payload, held, size))

    async def _work(self, request: wire.Request, given: Buffer) -> Worked:
        """The answer, and the bytes of memory that it holds."""
        size = _answer_size(request)
        while size and not await self._outgoing.wait_for(size, ROOM_DEADLINE):
            pass  # it asked, and waits: some deadline of its own, or of who holds the room, ends it
        work = partial(self._service.handle, self._session, request, given)
        try:
            async with self._turns.turn(self._place) as workers:
                reply, payload = await trio.to_thread.run_sync(work, limiter=workers)
        except Exception:
            log.exception("a request failed by our own fault")
            reply, payload = wire.Fault("failed", "see the supplier's log"), b""
        if isinstance(reply, wire.Done):  # it may be held back, and is small
            self._outgoing.give_back(size)
            size = 0
        return Worked(reply, payload, size)

    async def _write(self) -> None:
        up = self._line.up
        async for answer in self._due:
            self._incoming.give_back(answer.incoming)
            now, length = trio.current_time(), len(answer.payload)
            seconds = TRANSFER_DEADLINE + length / SLOWEST + up.own_delay(length + SMALL)
            with trio.move_on_after(seconds) as scope:
                await self._pass(wire.encode_frame(answer.id, answer.reply, length))
                view = memoryview(answer.payload)
                for at in range(0, len(view), SEND_PIECE):
                    await self._pass(view[at : at + SEND_PIECE])
                    latest = now + length / up.bearable(FLOOR)
                    slow = trio.current_time() + STALLED + up.own_delay(SEND_PIECE)
                    scope.deadline = max(scope.deadline, min(latest, slow))
            if scope.cancelled_caught:
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
        case wire.Current() | wire.Prepare() | wire.Await() | wire.ShowPast():
            return ROOT_MAX + FAMILY_MAX
        case wire.Warrants():
            return WARRANTS_BYTES_MAX
        case wire.List() | wire.Pasts():
            return 64 * KIB
    return 0
