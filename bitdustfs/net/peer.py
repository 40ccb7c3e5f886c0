"""A supplier across the network: TLS to a pinned key, a vault session, pipelined requests.

Two connections at most, opened when needed: one for puts, one for everything else, so that a small
question never waits behind megabytes. Each connection has one reader and one writer task, which no
caller's cancellation reaches; a failed connection fails all its calls at once and is dropped.

A host that loses power, or a router that is switched off, ends no connection: it only falls silent.
So a connection is given up, and the next call opens a fresh one,

- when the kernel gets no acknowledgement (TCP_USER_TIMEOUT), or no answer to keep-alive probes;
- when the supplier is reached at another address, and nothing was heard on this one lately;
- when somebody gives up waiting on the one for small questions, and not a byte came meanwhile;
- when somebody gives up a put whose fragment is still being sent;
- when an answer comes that nobody asked for, or a second one: whoever reads those is kept busy.

Then a supplier that comes back is reached at once, not when TCP tries again. As long as a call
waits, the connection that it was sent on is the one that others go on, too.

Where a relay leads to the supplier, a connection past it is tried beside (punching.py). If one is
had, it takes the place of the other.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

import trio

from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import (
    DeadlineExceeded,
    PeerError,
    Refused,
    Unreachable,
)
from bitdustfs.net import wire
from bitdustfs.net.addresses import relayed
from bitdustfs.net.calls import CALL_DEADLINE, FLOOR, SILENCE, Connection, Replied, Retired
from bitdustfs.net.dialing import Race, nowhere_else
from bitdustfs.net.handshake import Credentials, Met, meet, open_session
from bitdustfs.net.punching import Tries, punch
from bitdustfs.net.supplier import PUNCHED, MakeWay, Supplier, for_nobody
from bitdustfs.net.whereabouts import DIALLED_MAX, HintsOnly, Whereabouts
from bitdustfs.units import KIB

log = logging.getLogger(__name__)

OPEN_DEADLINE = 9.0  #: seconds for all addresses, looking for others, and the session together
SLOWEST = 128 * KIB  #: bytes a second that bulk bytes have at first, also where nothing moves
BACKOFF_FIRST, BACKOFF_MAX = 0.25, 4.0  #: seconds before a failed address is tried again
PUNCH_DEADLINE = 30.0  #: seconds for a session past a relay, all tries included
PIECE = 64 * KIB  #: bytes of payload that are sent in one turn, and noted then


def unnoted() -> None:
    """What happens on a connection that was punched says nothing of any address."""


class PeerSupplier(Supplier):
    """The supplier with key `node`, at one of `addresses` ("host:port") unless it has moved.

    An empty `node` takes whoever answers first, and holds it to that key from then on. While
    `whereabouts` looks for one that was never reached yet, a call waits. For one that was reached
    before, it fails at once, and the look-up goes on beside. `make_way`: for whom payloads wait.
    `punches`: whether a way past a relay is tried.
    """

    def __init__(
        self,
        node: bytes,
        addresses: tuple[str, ...],
        credentials: Credentials,
        nursery: trio.Nursery,
        clock: Callable[[], float] = trio.current_time,
        whereabouts: Whereabouts | None = None,
        make_way: MakeWay = for_nobody,
        punches: bool = False,
    ) -> None:
        self.node, self.addresses = node, addresses
        self._credentials, self._nursery, self._clock = credentials, nursery, clock
        self._whereabouts, self._make_way = whereabouts or HintsOnly(), make_way
        self._connections: dict[bool, Connection] = {}
        self._tries = Tries() if punches else None
        self._punched: set[bool] = set()  # which of them pass by a relay
        self._opening = {True: trio.Lock(), False: trio.Lock()}
        self._retry_at = 0.0
        self._backoff = BACKOFF_FIRST
        self._last_failure = "not tried yet"
        self._reached_at, self._literal = "", ""
        self._sent = 0

    @property
    def sent(self) -> int:
        return self._sent

    def _piece(self) -> int:
        return min(PIECE, self._credentials.line.up.piece)

    def _note_sent(self, length: int) -> None:
        self._sent += length

    @property
    def vault(self) -> bytes:
        """The vault that the sessions are about."""
        return self._credentials.vault

    def invitation(self) -> bytes:
        return self._credentials.invitations.get(self.node, b"")

    def ear(self) -> Supplier:
        credentials = replace(self._credentials, role="follower")
        return PeerSupplier(
            self.node, self.literals(), credentials, self._nursery, self._clock, self._whereabouts
        )

    async def call(self, request: wire.Request, payload: Buffer = b"") -> Replied:
        bulk, line = len(payload) + getattr(request, "length", 0), self._credentials.line
        held_back = request.seconds if isinstance(request, wire.Await) else 0
        deadline = CALL_DEADLINE + held_back + bulk / SLOWEST + line.down.coming(0)
        floor = min(line.up.bearable(FLOOR), line.down.bearable(FLOOR))
        began = trio.current_time()
        with trio.move_on_after(deadline) as scope:
            while True:
                connection = await self._connection(isinstance(request, wire.Put))
                try:
                    with connection.patience(scope, bulk, floor):
                        return await connection.call(request, payload)
                except Retired:
                    continue  # nothing of it was sent
        assert scope.cancelled_caught
        raise DeadlineExceeded(f"no answer within {trio.current_time() - began:.0f} s")

    @property
    def request_max(self) -> int:
        return self._credentials.line.down.request

    def asking(self, length: int) -> AbstractAsyncContextManager[None]:
        return self._credentials.line.down.asking(length)

    def coming(self, length: int) -> float:
        return self._credentials.line.down.coming(length)

    def held_up(self, length: int) -> float:
        return self._credentials.line.down.patience(length)

    def bearable(self, least: float) -> float:
        return self._credentials.line.up.bearable(least)

    async def _connection(self, bulk: bool) -> Connection:
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
            self._punched.discard(bulk)
            self._connections[bulk] = connection
            self._nursery.start_soon(connection.run)
            if self._tries is not None and relayed(self._literal) is not None:
                self._nursery.start_soon(
                    self._pass_by, bulk, connection, self._literal, self._tries
                )
            return connection

    async def _pass_by(self, bulk: bool, through: Connection, way: str, tries: Tries) -> None:
        """Until there is a connection past the relay in the place of this one, or it has ended."""
        while not through.over.is_set():
            with trio.move_on_after(tries.wait()):
                await through.over.wait()
                return
            async with tries.one_at_a_time:
                if through.over.is_set() or tries.wait():
                    continue
                try:
                    past = await self._punch_in_time(bulk, through, way)
                except PeerError as error:
                    tries.failed(error)
                    log.info("node %s is reached by the relay: %s", self.node.hex()[:12], error)
                    continue
            if past is not None:
                await past.over.wait()
                if past.carried:
                    tries.succeeded()
                else:  # a way that lets a handshake through and nothing else is none
                    tries.failed(Unreachable("nothing was answered past the relay"))
            return

    async def _punch_in_time(self, bulk: bool, through: Connection, way: str) -> Connection | None:
        with trio.move_on_after(PUNCH_DEADLINE):
            return await self._punch(bulk, through, way)
        raise Unreachable("no connection past the relay in time")

    async def _punch(self, bulk: bool, through: Connection, way: str) -> Connection | None:
        """The connection past the relay; None where something else took the place of `through`."""
        met = await punch(way, self.node, self._credentials, bulk)
        decoder = await open_session(met, self._credentials)
        past = self._connection_on(met, decoder, bulk, met.literal, unnoted, unnoted)
        wanted = False
        try:
            async with self._opening[bulk]:
                wanted = self._connections.get(bulk) is through
                if wanted:
                    self._connections[bulk] = past
                    self._punched.add(bulk)
                    self._nursery.start_soon(past.run)
        finally:
            if not wanted:
                await met.aclose()
        if not wanted:
            return None
        log.info("node %s is reached past a relay, at %s", self.node.hex()[:12], met.literal)
        through.leave()
        return past

    def reached_at(self) -> str:
        return self._reached_at

    def way(self) -> str:
        there = {bulk for bulk, one in self._connections.items() if one.failure is None}
        if there and there <= self._punched:
            return PUNCHED
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

    async def _open(self, bulk: bool) -> Connection:
        """A session at the first address where the supplier is found.

        Where another node answers, or something that speaks another protocol, other addresses are
        tried: nothing that an address does is the supplier's fault. Raises Refused when the
        supplier itself says no, else what `Race` raises.
        """
        own = self._credentials

        async def attempt(address: str) -> Met:
            return await meet(address, self.node, own.context, bulk, own.line)

        later = self._look_up if self.node else nowhere_else
        race = Race(attempt, Met.aclose, later, patient=not self._reached_at)
        with trio.move_on_after(OPEN_DEADLINE):
            known = self._whereabouts.of(self.node, self.addresses)
            address, met = await race.run(known)
            self.node = self.node or met.key  # what it says is proven by signatures
            decoder = await self._begin(address, met)
            self._reached_at, self._literal = address, met.literal
            other = self._connections.get(not bulk)
            if other is not None and (not bulk) not in self._punched:  # that is elsewhere anyway
                other.reached_at(address)
            answered = partial(self._whereabouts.reached, self.node, address)
            useless = partial(self._whereabouts.failed, self.node, address)
            return self._connection_on(met, decoder, bulk, address, answered, useless)
        raise Unreachable(f"no session within {OPEN_DEADLINE:.0f} s")

    def _connection_on(
        self,
        met: Met,
        decoder: wire.FrameDecoder,
        bulk: bool,
        address: str,
        answered: Callable[[], None],
        useless: Callable[[], None],
    ) -> Connection:
        return Connection(
            met.stream,
            decoder,
            bulk,
            address,
            self._note_sent,
            answered,
            useless,
            met.moved,
            met.stranded,
            self._piece,
            self._make_way,
        )

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
