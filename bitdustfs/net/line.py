"""This node's line: how much of it may be used, each way, and who goes first.

Everything that goes over a connection passes its line: `PacedStream` lies below TLS. So uploads,
reads, audits, rebuilding and roots are all bounded together. What the headers of TCP and IP take
comes on top, about 4 %. A datagram of the DHT never waits, but what it took is made good by others.

Small questions and answers go first, fragments after them; every few turns a fragment's piece goes
all the same. Pieces are an eighth of a second long, and a question waits for two of them at most.

What comes in is bounded by not taking it: the other side's kernel waits. What this machine's kernel
may hold meanwhile is bounded where a connection begins (`fit`), and comes as a burst.
"""

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from bitdustfs.core.bandwidth import UNBOUNDED, Bandwidth, Direction, parse_bandwidth
from bitdustfs.errors import UsageError
from bitdustfs.net.silence import acknowledged
from bitdustfs.units import KIB, MIB, READ_MAX

BURST = 0.5  #: seconds' worth that may go at once after a pause
PIECE_SECONDS = 0.125  #: seconds' worth that goes in one turn
PIECE_MIN, PIECE_MAX = 1 * KIB, 256 * KIB  #: bytes of it
TURNS_FIRST = 4  #: turns in a row of those that go first, while others wait
KERNEL_SECONDS = 0.25  #: seconds' worth that the kernel may hold of what was not taken
KERNEL_MIN, KERNEL_MAX = 16 * KIB, 4 * MIB  #: bytes of it; where more would be wanted, no bound
ASKED_SECONDS = 1.0  #: seconds' worth that is asked for before some of it came
REQUEST_SECONDS = 0.5  #: seconds' worth that one request asks for
REQUEST_MIN, REQUEST_MAX = 16 * KIB, 1 * MIB  #: bytes of it
ASKED_FREELY = 64 * KIB  #: bytes; a request for fewer does not wait for that
SHARED = 32  #: connections that a bound is fairly divided among, at most


def hour_now() -> int:
    """The hour of the day here, 0 to 23."""
    return time.localtime().tm_hour


class Valve:
    """One way of a line: a token bucket, and who waits for it. `rate`: bytes a second; 0: all."""

    def __init__(self, rate: Callable[[], float]) -> None:
        self._rate = rate
        self._free_at = -math.inf  # when what went so far is made good
        self._asked = self._wanted = 0  # bytes that are to come; with those not asked for yet
        self._gate, self._came = trio.Lock(), trio.Event()
        self._taken = False
        self._first, self._others = deque[trio.Event](), deque[trio.Event]()
        self._in_a_row = 0  # turns of those that go first, while others waited

    @property
    def rate(self) -> float:
        """Bytes a second that may go now; 0: as many as go."""
        return self._rate()

    @property
    def piece(self) -> int:
        """Bytes that go in one turn, at most."""
        rate = self.rate
        return min(PIECE_MAX, max(PIECE_MIN, int(rate * PIECE_SECONDS))) if rate else PIECE_MAX

    @property
    def request(self) -> int:
        """Bytes that one request asks for, at most: small answers wait for those on their way."""
        rate = self.rate
        size = int(rate * REQUEST_SECONDS)
        return min(REQUEST_MAX, max(REQUEST_MIN, size)) if rate else READ_MAX

    def seconds(self, size: float) -> float:
        """How long so many bytes take at least, if nothing else goes; 0 without a bound."""
        rate = self.rate
        return size / rate if rate else 0.0

    def patience(self, size: float) -> float:
        """Seconds after which that many bytes are there if all goes well: all that was asked for
        before comes first, and half of what goes is others'. 0 without a bound.
        """
        return 2 * self.seconds(self._wanted + size)

    def coming(self, size: float) -> float:
        """The same once it was asked for, inside `asking`: only what was asked for comes first."""
        return 2 * (ASKED_SECONDS + self.seconds(size)) if self.rate else 0.0

    @asynccontextmanager
    async def asking(self, size: int) -> AsyncIterator[None]:
        """Enters once so many bytes may be asked for; inside, they come.

        What was asked for cannot be taken back, and whatever is asked next waits for it. So on a
        bounded line it is asked for little by little.
        """
        self._wanted += size
        try:
            await self._wait_asked(size)
            self._asked += size
            try:
                yield
            finally:
                self._asked -= size
                self._came.set()
                self._came = trio.Event()
        finally:
            self._wanted -= size

    async def _wait_asked(self, size: int) -> None:
        if size < ASKED_FREELY or not self.rate:
            return
        async with self._gate:  # in their order
            while self._asked and 0 < self.rate * ASKED_SECONDS < self._asked + size:
                await self._came.wait()

    def bearable(self, least: float) -> float:
        """Bytes a second that one of many connections has to come to, where it is `least` without
        a bound: whoever shares a bound is not to blame for it.
        """
        rate = self.rate
        return min(least, rate / SHARED) if rate else least

    def charge(self, size: int) -> None:
        """So many bytes went without asking; others make them good."""
        rate = self.rate
        if rate:
            self._free_at = max(self._free_at, trio.current_time() - BURST) + size / rate

    async def take(self, size: int, first: bool = True) -> None:
        """Returns once `size` bytes may go. `first`: before those that may wait."""
        if not self.rate:
            return
        await self._wait_turn(first)
        try:
            now = trio.current_time()
            free_at = max(self._free_at, now - BURST)
            self.charge(size)
            await trio.sleep_until(max(now, free_at))
        finally:
            self._pass_on()

    async def _wait_turn(self, first: bool) -> None:
        if not self._taken:
            self._taken = True
            return
        mine, queue = trio.Event(), self._first if first else self._others
        queue.append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():  # it came in the same instant
                self._pass_on()
            else:
                queue.remove(mine)
            raise

    def _pass_on(self) -> None:
        """The next one's turn."""
        owed = self._others and (not self._first or self._in_a_row >= TURNS_FIRST)
        queue = self._others if owed else self._first
        self._in_a_row = self._in_a_row + 1 if self._first and not owed and self._others else 0
        self._taken = bool(queue)
        if queue:
            queue.popleft().set()


class OwnLine:
    """What one node may use of its line. `hour`: of the day, 0 to 23."""

    def __init__(
        self, bandwidth: Bandwidth = UNBOUNDED, hour: Callable[[], int] = hour_now
    ) -> None:
        self.bandwidth, self._hour = bandwidth, hour
        self.up, self.down = Valve(lambda: self._of("up")), Valve(lambda: self._of("down"))

    def change(self, bandwidth: Bandwidth) -> None:
        """Other bounds from here on."""
        self.bandwidth = bandwidth

    def _of(self, way: Direction) -> float:
        return self.bandwidth.rate(way, self._hour()) if self.bandwidth.bounds else 0.0

    def fit(self, transport: trio.abc.Stream) -> None:
        """Has the kernel hold little of what was not taken of a connection that begins."""
        rate = self.down.rate
        size = max(KERNEL_MIN, int(rate * KERNEL_SECONDS))
        if isinstance(transport, trio.SocketStream) and rate > 0 and size < KERNEL_MAX:
            # the kernel takes twice as much, for what it keeps beside the bytes
            transport.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, size // 2)


def bandwidth_word(value: object) -> Bandwidth:
    """Of config.toml: bytes a second, or "up:1M/down:8M" (core/bandwidth.py). Raises UsageError."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        return parse_bandwidth(value)
    raise UsageError('write bytes a second, for example "up:1M/down:8M"')


class PacedStream(trio.abc.Stream):
    """A connection, as fast as the line allows. `bulk`: what is sent lets others go first."""

    def __init__(self, transport: trio.abc.Stream, line: OwnLine, bulk: bool = False) -> None:
        self._transport, self._line, self._first = transport, line, not bulk
        self._received = self._sent = 0
        line.fit(transport)

    def moved(self) -> int:
        """Bytes that came, and those sent that the other end has: what tells slow from stuck."""
        if isinstance(self._transport, trio.SocketStream):
            with suppress(OSError):  # it is closed
                self._sent = acknowledged(self._transport)
        return self._received + self._sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        up = self._line.up
        if not up.rate:
            await self._transport.send_all(data)
            return
        view = memoryview(data)
        while view:
            piece, view = view[: up.piece], view[up.piece :]
            await up.take(len(piece), self._first)
            await self._transport.send_all(piece)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        down = self._line.down
        if not down.rate:
            data = await self._transport.receive_some(max_bytes)
            self._received += len(data)
            return data
        data = await self._transport.receive_some(min(max_bytes or down.piece, down.piece))
        self._received += len(data)
        await down.take(len(data))
        return data

    async def aclose(self) -> None:
        await self._transport.aclose()
