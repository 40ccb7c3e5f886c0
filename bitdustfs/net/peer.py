"""A supplier across the network: TLS to a pinned key, a vault session, pipelined requests.

Two connections at most, opened when needed: one for puts, one for everything else, so that a small
question never waits behind megabytes. Each connection has one reader and one writer task, which no
caller's cancellation reaches; a failed connection fails all its calls at once and is dropped.

A host that loses power, or a router that is switched off, ends no connection: it only falls silent.
So a connection is given up, and the next call opens a fresh one,

- when the kernel gets no acknowledgement (TCP_USER_TIMEOUT), or no answer to keep-alive probes;
- when the supplier is reached at another address, and nothing was heard on this one lately;
- when somebody gives up waiting on the one for small questions, and not a byte came meanwhile;
- when an answer comes that nobody asked for, or a second one: whoever reads those is kept busy.

Then a supplier that comes back is reached at once, not when TCP tries again. As long as a call
waits, the connection that it was sent on is the one that others go on, too.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import (
    DeadlineExceeded,
    Malformed,
    PeerError,
    ProtocolViolation,
    Refused,
    Unreachable,
)
from bitdustfs.net import wire
from bitdustfs.net.dialing import Race, nowhere_else
from bitdustfs.net.handshake import Credentials, Met, meet, open_session, refused
from bitdustfs.net.incoming import take
from bitdustfs.net.silence import ending
from bitdustfs.net.supplier import Supplier
from bitdustfs.net.tls import TlsStream
from bitdustfs.net.whereabouts import DIALLED_MAX, HintsOnly, Whereabouts
from bitdustfs.units import KIB

log = logging.getLogger(__name__)

OPEN_DEADLINE = 9.0  #: seconds for all addresses, looking for others, and the session together
CALL_DEADLINE = 10.0  #: seconds for a request and its answer, bulk bytes aside
SLOWEST = 128 * KIB  #: bytes a second that bulk bytes are allowed to come down to
BACKOFF_FIRST, BACKOFF_MAX = 0.25, 4.0  #: seconds before a failed address is tried again
OWED_MAX = 1000  #: answers that nobody waits for any more and that may still come
SILENCE = 4.0  #: seconds without a byte after which a connection is not waited for again
PIECE = 256 * KIB  #: bytes of payload after which it is noted how much was sent

Replied = tuple[wire.Reply, Buffer]


@dataclass
class _Waiting:
    """A call whose answer is due."""

    done: trio.Event = field(default_factory=trio.Event)
    answer: Replied | PeerError | None = None

    def finish(self, answer: Replied | PeerError) -> None:
        """The first answer counts."""
        self.answer = self.answer or answer
        self.done.set()


class _Connection:
    """One open session. Its two tasks live in the nursery it was started in.

    `bulk`: what is sent takes its time, and silence meanwhile means nothing. `address`: where it
    leads. `sent` is told of the bytes of payload that went out, `answered` of each answer, and
    `useless` of an end by silence, or before any answer.
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
    ) -> None:
        self._stream, self._decoder, self._bulk, self._sent = stream, decoder, bulk, sent
        self._answered, self._useless, self._any_answer = answered, useless, False
        self._address = address
        self._running = trio.CancelScope()
        self._heard = trio.current_time()
        self._send, self._queue = trio.open_memory_channel[tuple[bytes, Buffer]](8)
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
                    await self._read()
        except* (PeerError, Malformed, trio.BrokenResourceError, trio.ClosedResourceError) as group:
            self.fail(ending(group.exceptions))
        finally:
            self.fail(Unreachable("the connection was closed"))
            with trio.CancelScope(shield=True):
                await self._stream.aclose()

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
        request_id, self._next_id = self._next_id, self._next_id + 1
        waiting, since = _Waiting(), trio.current_time()
        self._waiting[request_id] = waiting
        try:
            await self._send.send((wire.encode_frame(request_id, request, len(payload)), payload))
            await waiting.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            assert self.failure is not None  # only `fail` closes the queue
            raise self.failure from None
        finally:
            self._waiting.pop(request_id, None)
            if not waiting.done.is_set():
                self._give_up(request_id, since)
        if isinstance(waiting.answer, PeerError):
            raise waiting.answer
        assert waiting.answer is not None
        return waiting.answer

    def _give_up(self, request_id: int, since: float) -> None:
        """Somebody who waited since then gives up: where nothing came meanwhile, it is over."""
        self._given_up.add(request_id)
        if len(self._given_up) > OWED_MAX:
            self.fail(DeadlineExceeded(f"{OWED_MAX} answers did not come in time"))
            self._running.cancel()
        silent = trio.current_time() - max(since, self._heard)
        if self.failure is None and not self._bulk and silent >= SILENCE:
            self.fail(DeadlineExceeded(f"nothing was heard for {silent:.0f} s"))
            self._running.cancel()

    def reached_at(self, address: str) -> None:
        """The supplier was reached there just now: if it is silent here, it has moved.

        Nothing is heard while a fragment is sent; it is not silent as long as that goes on.
        """
        silent = trio.current_time() - max(self._heard, self._progressed)
        if address != self._address and silent >= SILENCE:
            self.fail(DeadlineExceeded(f"nothing was heard for {silent:.0f} s; it has moved"))
            self._running.cancel()

    async def _write(self) -> None:
        async for head, payload in self._queue:
            await self._stream.send_all(head)
            for at in range(0, len(payload), PIECE):
                piece = memoryview(payload)[at : at + PIECE]
                await self._stream.send_all(piece)
                self._sent(len(piece))
                self._progressed = trio.current_time()
                del piece
            del payload  # a view of a whole block: must not live on while we wait

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
            elif isinstance(frame.message, wire.Reply):
                waiting.finish((frame.message, frame.payload))
            else:
                raise ProtocolViolation("a challenge in the middle of a session")


class PeerSupplier(Supplier):
    """The supplier with key `node`, at one of `addresses` ("host:port") unless it has moved.

    An empty `node` takes whoever answers first, and holds it to that key from then on. While
    `whereabouts` looks for one that was never reached yet, a call waits. For one that was reached
    before, it fails at once, and the look-up goes on beside.
    """

    def __init__(
        self,
        node: bytes,
        addresses: tuple[str, ...],
        credentials: Credentials,
        nursery: trio.Nursery,
        clock: Callable[[], float] = trio.current_time,
        whereabouts: Whereabouts | None = None,
    ) -> None:
        self.node, self.addresses = node, addresses
        self._credentials, self._nursery, self._clock = credentials, nursery, clock
        self._whereabouts = whereabouts or HintsOnly()
        self._connections: dict[bool, _Connection] = {}
        self._opening = {True: trio.Lock(), False: trio.Lock()}
        self._retry_at = 0.0
        self._backoff = BACKOFF_FIRST
        self._last_failure = "not tried yet"
        self._reached_at, self._literal = "", ""
        self._sent = 0

    @property
    def sent(self) -> int:
        return self._sent

    def _note_sent(self, length: int) -> None:
        self._sent += length

    @property
    def vault(self) -> bytes:
        """The vault that the sessions are about."""
        return self._credentials.vault

    def invitation(self) -> bytes:
        return self._credentials.invitations.get(self.node, b"")

    async def call(self, request: wire.Request, payload: Buffer = b"") -> Replied:
        bulk = len(payload) + getattr(request, "length", 0)
        deadline = CALL_DEADLINE + bulk / SLOWEST
        with trio.move_on_after(deadline) as scope:
            connection = await self._connection(isinstance(request, wire.Put))
            return await connection.call(request, payload)
        assert scope.cancelled_caught
        raise DeadlineExceeded(f"no answer within {deadline:.0f} s")

    async def _connection(self, bulk: bool) -> _Connection:
        async with self._opening[bulk]:
            connection = self._connections.get(bulk)
            if connection is not None and connection.failure is None:
                return connection
            if self._clock() < self._retry_at:
                raise Unreachable(self._last_failure)
            try:
                connection = await self._open(bulk)
            except PeerError as error:
                self._retry_at = self._clock() + self._backoff
                self._backoff = min(self._backoff * 2, BACKOFF_MAX)
                self._last_failure = str(error)
                raise
            self._backoff = BACKOFF_FIRST
            self._connections[bulk] = connection
            self._nursery.start_soon(connection.run)
            return connection

    def reached_at(self) -> str:
        return self._reached_at

    def way(self) -> str:
        return self._whereabouts.way(self.node, self._literal)

    def literals(self) -> tuple[str, ...]:
        """Where it was reached last, without a name; before that its addresses as they are."""
        return (self._literal,) if self._literal else self.addresses

    def also_at(self, addresses: Iterable[str]) -> None:
        """The supplier may be at these addresses, too; they are tried at the next call."""
        fresh = [address for address in addresses if address not in self.addresses]
        if fresh:
            self.addresses = (*fresh, *self.addresses)[:DIALLED_MAX]
            self._retry_at = 0.0

    async def _open(self, bulk: bool) -> _Connection:
        """A session at the first address where the supplier is found.

        Where another node answers, or something that speaks another protocol, other addresses are
        tried: nothing that an address does is the supplier's fault. Raises Refused when the
        supplier itself says no, else what `Race` raises.
        """
        own = self._credentials

        async def attempt(address: str) -> Met:
            return await meet(address, self.node, own.context, bulk)

        later = self._look_up if self.node else nowhere_else
        race = Race(attempt, Met.aclose, later, patient=not self._reached_at)
        with trio.move_on_after(OPEN_DEADLINE):
            known = self._whereabouts.of(self.node, self.addresses)
            address, met = await race.run(known)
            self.node = self.node or met.key  # what it says is proven by signatures
            decoder = await self._begin(address, met)
            self._reached_at, self._literal = address, met.literal
            other = self._connections.get(not bulk)
            if other is not None:
                other.reached_at(address)
            answered = partial(self._whereabouts.reached, self.node, address)
            useless = partial(self._whereabouts.failed, self.node, address)
            return _Connection(
                met.stream, decoder, bulk, address, self._note_sent, answered, useless
            )
        raise Unreachable(f"no session within {OPEN_DEADLINE:.0f} s")

    async def _begin(self, address: str, met: Met) -> wire.FrameDecoder:
        """As `open_session`; an address that leads to none, and not because it is said no there, is
        useless. That is not known of it where nobody waited for long.
        """
        since = trio.current_time()
        try:
            return await open_session(met, self._credentials)
        except Refused:
            raise
        except BaseException as error:
            if isinstance(error, PeerError) or trio.current_time() - since >= SILENCE:
                self._whereabouts.failed(self.node, address)
            raise

    async def _look_up(self) -> Sequence[str]:
        return await self._whereabouts.look_up(self.node)

    async def aclose(self) -> None:
        for connection in self._connections.values():
            connection.fail(Unreachable("closed by us"))
            await connection._stream.aclose()
        self._connections.clear()
