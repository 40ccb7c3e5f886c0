"""One open session with a supplier: requests go out in order, and answers come as they come.

Its two tasks, a reader and a writer, live in the nursery that it was started in. No caller's
cancellation reaches them.

A call that moves much is given up when nothing moves: what the other side's kernel acknowledged
counts. So a fragment on a slow line has its time, and is not begun again and again. What is before
it on the connection has its time, too. A fragment that nobody waits for any more is not sent to its
end: it would hold memory, and whatever comes after it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import DeadlineExceeded, Malformed, PeerError, ProtocolViolation, Unreachable
from bitdustfs.net import wire
from bitdustfs.net.handshake import refused
from bitdustfs.net.incoming import take
from bitdustfs.net.silence import ending
from bitdustfs.net.supplier import MakeWay
from bitdustfs.net.tls import TlsStream
from bitdustfs.units import KIB

CALL_DEADLINE = 10.0  #: seconds for a request and its answer, bulk bytes aside
FLOOR = 512  #: bytes a second that bulk bytes may come down to, as long as something moves
PATIENT_FROM = 16 * KIB  #: bytes of a call that may be as slow as that
STALLED = 30.0  #: seconds that such a call has from when something moved last
MOVED_MIN, LOOK_EVERY = KIB, 2.0  #: bytes that are something; seconds between looks
OWED_MAX = 1000  #: answers that nobody waits for any more and that may still come
STRANDED = "this machine has another address now"
SILENCE = 4.0  #: seconds without a byte after which a connection is not waited for again

REFUSED_UNSENT = 128 * KIB  #: bytes still to go of what was answered, from which they do not go

Replied = tuple[wire.Reply, Buffer]


class Retired(Unreachable):
    """The connection was ended by this side, before it sent anything of the request: another one
    takes it.
    """


@dataclass
class _Waiting:
    """A call whose answer is due. `unsent`: what is still to go of its payload."""

    unsent: memoryview
    held_back: int = 0  #: seconds that its answer may be, while all is well
    begun: bool = False  #: its frame, or some of it, may have gone
    dropped: bool = False  #: it is not to go any more
    done: trio.Event = field(default_factory=trio.Event)
    answer: Replied | PeerError | None = None

    def begin(self) -> None:
        """Its frame goes now."""
        self.begun = True

    def went(self, length: int) -> None:
        """So many bytes more have gone."""
        self.unsent = self.unsent[length:]

    def drop(self) -> None:
        """What has not gone does not go any more, and is not held."""
        self.dropped, self.unsent = True, memoryview(b"")

    def finish(self, answer: Replied | PeerError) -> None:
        """The first answer counts."""
        self.answer = self.answer or answer
        self.done.set()


class Connection:
    """One open session. Its two tasks live in the nursery it was started in.

    `bulk`: what is sent takes its time, `piece` bytes after another, and silence meanwhile means
    nothing. `address`: where it leads. `sent` is told of the bytes of payload that went out,
    `answered` of each answer, and `useless` of an end by silence, or before any answer. `moved`:
    bytes that came or were acknowledged. `stranded`: this machine has another address than the one
    from which it goes out, as after it slept: then another one takes its place. `make_way` is
    waited for before each piece of a payload.
    """

    def __init__(
        self,
        stream: TlsStream,
        decoder: wire.FrameDecoder,
        bulk: bool,
        address: str,
        sent: Callable[[int], None],
        answered: Callable[[], None],
        useless: Callable[[], None],
        moved: Callable[[], int],
        stranded: Callable[[], bool],
        piece: Callable[[], int],
        make_way: MakeWay,
    ) -> None:
        self._moved, self._stranded = moved, stranded
        self._piece, self._make_way = piece, make_way
        self._patient: dict[trio.CancelScope, float] = {}  # -> its deadline at the latest
        self._somebody = trio.Event()  # waits for an answer
        self._stream, self._decoder, self._bulk, self._sent = stream, decoder, bulk, sent
        self._answered, self._useless, self._any_answer = answered, useless, False
        self._address = address
        self._running = trio.CancelScope()
        self._left = False  # there is another one in its place
        self.over = trio.Event()  #: set when it has ended
        self._heard = trio.current_time()
        self._send, self._queue = trio.open_memory_channel[tuple[bytes, _Waiting]](8)
        self._unsent = 0  # bytes of payloads that are still to go
        self._waiting: dict[int, _Waiting] = {}
        self._given_up: set[int] = set()  # requests whose answers nobody waits for any more
        self._next_id = 1
        self._progressed = -math.inf  #: when a piece of a payload was taken last
        self.failure: PeerError | None = None

    async def run(self) -> None:
        """Until the connection ends."""
        try:
            with self._running:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch)
                    await self._read()
        except* (PeerError, Malformed, trio.BrokenResourceError, trio.ClosedResourceError) as group:
            self.fail(ending(group.exceptions))
        finally:
            self.fail(Unreachable("the connection was closed"))
            self.over.set()
            with trio.CancelScope(shield=True):
                await self._stream.aclose()

    @contextmanager
    def patience(self, scope: trio.CancelScope, bulk: int, floor: float = FLOOR) -> Iterator[None]:
        """A call of so many bytes: its `scope` ends later as long as something moves here.

        `floor`: bytes a second that it has to come to, with what is before it.
        """
        bulk += self._unsent
        if bulk < PATIENT_FROM:
            yield
            return
        self._patient[scope] = trio.current_time() + CALL_DEADLINE + bulk / floor
        try:
            yield
        finally:
            del self._patient[scope]

    async def _watch(self) -> None:
        """A slow line is not a stuck one: it is looked at what moved, not at what is complete."""
        counted = self._moved()
        while True:
            if not self._waiting:
                self._somebody = trio.Event()
                await self._somebody.wait()
                counted = self._moved()
            await trio.sleep(LOOK_EVERY)
            if self._waiting and self._stranded():
                self._retire(STRANDED)
            if (moved := self._moved()) - counted < MOVED_MIN:
                continue
            counted, self._progressed = moved, trio.current_time()
            for scope, latest in self._patient.items():
                scope.deadline = min(latest, max(scope.deadline, self._progressed + STALLED))

    @property
    def carried(self) -> bool:
        """Whether any request was answered on it."""
        return self._any_answer

    def fail(self, error: PeerError) -> None:
        """Every call gets the error; the first one counts."""
        if self.failure is None:
            self.failure = error
            swallowed = self._next_id > 1 and not self._any_answer
            broke = isinstance(error, ProtocolViolation)
            if isinstance(error, DeadlineExceeded) or (swallowed and broke):
                self._useless()
        for waiting in self._waiting.values():
            waiting.finish(self.failure)
        self._waiting.clear()
        self._queue.close()  # whoever waits to put something in is told

    async def call(self, request: wire.Request, payload: Buffer) -> Replied:
        if self.failure is not None:
            raise self.failure
        if trio.current_time() - self._heard >= LOOK_EVERY and self._stranded():
            self._retire(STRANDED)
            raise Retired(STRANDED)
        request_id, self._next_id = self._next_id, self._next_id + 1
        held_back = request.seconds if isinstance(request, wire.Await) else 0
        waiting, since = _Waiting(memoryview(payload), held_back), trio.current_time()
        self._waiting[request_id] = waiting
        self._somebody.set()
        self._unsent += len(payload)
        try:
            await self._send.send((wire.encode_frame(request_id, request, len(payload)), waiting))
            await waiting.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            assert self.failure is not None  # only `fail` closes the queue
            raise self.failure from None
        finally:
            self._waiting.pop(request_id, None)
            if not waiting.done.is_set():
                self._give_up(request_id, since, waiting)
            self._end_if_left()
        if isinstance(waiting.answer, PeerError):
            raise waiting.answer
        assert waiting.answer is not None
        return waiting.answer

    def _give_up(self, request_id: int, since: float, waiting: _Waiting) -> None:
        """Somebody who waited since then gives up: where nothing came meanwhile, it is over."""
        if waiting.unsent:
            self._unsent -= len(waiting.unsent)
            waiting.drop()
            if not waiting.begun:
                return
            self._retire("a fragment was given up while it was sent")
        self._given_up.add(request_id)
        if len(self._given_up) > OWED_MAX:
            self.fail(DeadlineExceeded(f"{OWED_MAX} answers did not come in time"))
            self._running.cancel()
        silent = trio.current_time() - max(since, self._heard)
        if self.failure is None and not self._bulk and silent >= SILENCE + waiting.held_back:
            self.fail(DeadlineExceeded(f"nothing was heard for {silent:.0f} s"))
            self._running.cancel()

    def _retire(self, why: str) -> None:
        """A frame is not sent to its end, so nothing can be sent behind it."""
        if self.failure is None:
            self.failure = Retired(why)
            for waiting in self._waiting.values():
                waiting.finish(DeadlineExceeded(why) if waiting.begun else self.failure)
            self._waiting.clear()
            self._queue.close()
        self._running.cancel()

    def leave(self) -> None:
        """Another connection is in its place: it ends once all that was asked is answered."""
        self._left = True
        self._end_if_left()

    def _end_if_left(self) -> None:
        if self._left and not self._waiting:
            self._retire("there is a shorter way")

    def _answered_early(self, waiting: _Waiting) -> None:
        """Who refuses does so at once. A fragment that nobody takes is not sent to its end, unless
        something behind it would be sent again for that.
        """
        others = any(other.begun for other in self._waiting.values())
        if waiting.begun and not others and len(waiting.unsent) > REFUSED_UNSENT:
            self._unsent -= len(waiting.unsent)
            waiting.drop()
            self._retire("a fragment was refused while it was sent")

    def reached_at(self, address: str) -> None:
        """The supplier was reached there just now: if it is silent here, it has moved.

        Nothing is heard while a fragment is sent; it is not silent as long as that goes on.
        """
        silent = trio.current_time() - max(self._heard, self._progressed)
        if address != self._address and silent >= SILENCE:
            self.fail(DeadlineExceeded(f"nothing was heard for {silent:.0f} s; it has moved"))
            self._running.cancel()

    async def _write(self) -> None:
        async for head, waiting in self._queue:
            if waiting.dropped:
                continue
            waiting.begin()
            await self._stream.send_all(head)
            while waiting.unsent:
                await self._make_way(min(len(waiting.unsent), self._piece()))
                if waiting.dropped:
                    return  # the connection ends
                piece = waiting.unsent[: self._piece()]
                await self._stream.send_all(piece)
                if waiting.dropped:
                    return  # the connection ends
                waiting.went(len(piece))
                self._unsent -= len(piece)
                self._sent(len(piece))
                self._progressed = trio.current_time()
                del piece
            waiting.drop()  # a view of a whole block: must not live on while we wait
            del waiting

    async def _read(self) -> None:
        while True:
            frame = self._decoder.next_untrusted()
            if frame is None:
                await take(self._stream, self._decoder)
                self._heard = trio.current_time()
                continue
            self._any_answer = True
            self._answered()
            waiting = self._waiting.pop(frame.id, None)
            if waiting is None:
                if frame.id not in self._given_up:
                    raise ProtocolViolation("an answer that nobody asked for")
                self._given_up.remove(frame.id)
            elif isinstance(frame.message, wire.Fault):
                waiting.finish(refused(frame.message))
                self._answered_early(waiting)
            elif isinstance(frame.message, wire.Reply):
                waiting.finish((frame.message, frame.payload))
            else:
                raise ProtocolViolation("a challenge in the middle of a session")
