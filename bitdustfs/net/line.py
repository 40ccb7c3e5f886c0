"""This node's line: how much of it may be used, each way, and who goes first.

Everything that goes over a connection passes its line: `PacedStream` lies below TLS. So uploads,
reads, audits, rebuilding and roots are all bounded together. What the headers of TCP and IP take
comes on top, about 4 %. A datagram of the DHT never waits. What it took is made good by others, but
no more than a turn of it: nobody asked for what strangers send.

Small questions and answers go first, fragments after them; every few turns a fragment's piece goes
all the same. Pieces are an eighth of a second long, and a question waits for two of them at most.
What is small shows by itself (`Firsts`), so also where both come on one connection.

What comes in is bounded by not taking it: the other side's kernel waits. What this machine's kernel
may hold meanwhile is bounded where a connection begins (`fit`), and comes as a burst. What was
taken is passed on at once, and paid for before more is taken: nothing is held meanwhile.
"""

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from bitdustfs.core.bandwidth import UNBOUNDED, Bandwidth, Direction, parse_bandwidth
from bitdustfs.errors import UsageError
from bitdustfs.net.silence import acknowledged, stranded
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
IDLE, IDLE_SHARE = 1.0, 0.25  #: seconds; in which less than this share came: who is asked hangs
SHARED = 32  #: connections that a bound is fairly divided among, where no more of them wait
FIRST_MAX = 8 * KIB  #: bytes of one connection that go first after a pause


def hour_now() -> int:
    """The hour of the day here, 0 to 23."""
    return time.localtime().tm_hour


class Valve:
    """One way of a line: a token bucket, and who waits for it. `rate`: bytes a second; 0: all."""

    def __init__(self, rate: Callable[[], float]) -> None:
        self._rate = rate
        self._free_at = -math.inf  # when what went so far is made good
        self._asked: dict[object, int] = {}  # bytes that are to come, by who asked
        self._wanted = 0  # these, and those that are not asked for yet
        self._went = 0  # bytes that had their turn, in all
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
        who = object()
        self._wanted += size
        try:
            await self._wait_asked(size)
            self._asked[who] = size
            try:
                yield
            finally:
                self._asked.pop(who, None)
                self._came.set()
                self._came = trio.Event()
        finally:
            self._wanted -= size

    async def _wait_asked(self, size: int) -> None:
        if size < ASKED_FREELY or not self.rate:
            return
        async with self._gate:  # in their order
            while self._asked and 0 < self.rate * ASKED_SECONDS < sum(self._asked.values()) + size:
                before = self._went
                with trio.move_on_after(IDLE) as idle:
                    await self._came.wait()
                if idle.cancelled_caught and self._went - before < self.rate * IDLE * IDLE_SHARE:
                    self._asked.clear()  # whoever was asked hangs: the line is others'

    def bearable(self, least: float) -> float:
        """Bytes a second that one of many connections has to come to, where it is `least` without
        a bound: whoever shares a bound is not to blame for it.
        """
        rate = self.rate
        return min(least, rate / self._sharers) if rate else least

    def own_delay(self, size: float) -> float:
        """Seconds that so many bytes of one of many connections may take longer by this bound."""
        return self._sharers * self.seconds(size)

    @property
    def _sharers(self) -> int:
        return max(SHARED, len(self._first) + len(self._others))

    def charge(self, size: int) -> None:
        """So many bytes went without asking. Others make them good, as far as one turn."""
        rate = self.rate
        if rate:
            now = trio.current_time()
            since = max(self._free_at, now - BURST)
            self._free_at = max(since, min(since + size / rate, now + PIECE_SECONDS))

    async def take(self, size: int, first: bool = True) -> None:
        """Returns once `size` bytes may go. `first`: before those that may wait."""
        if not self.rate:
            return
        await self._wait_turn(first)
        try:
            now = trio.current_time()
            free_at = max(self._free_at, now - BURST)
            self._free_at, self._went = free_at + self.seconds(size), self._went + size
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


class Firsts:
    """Which pieces of one connection go first, one way: as many bytes as fit into small questions
    and answers. All connections together have no more of them than the line has.
    """

    def __init__(self) -> None:
        self._left, self._since = float(FIRST_MAX), trio.current_time()

    def take(self, size: int, rate: float) -> bool:
        """Whether a piece of `size` bytes goes first; `rate`: of the line, bytes a second."""
        now = trio.current_time()
        self._left = min(FIRST_MAX, self._left + (now - self._since) * rate / SHARED)
        self._since = now
        if size > self._left:
            return False
        self._left -= size
        return True


class PacedStream(trio.abc.Stream):
    """A connection, as fast as the line allows.

    `bulk`: where much is sent, it lets others go first; else all that is sent goes first.
    """

    def __init__(self, transport: trio.abc.Stream, line: OwnLine, bulk: bool = True) -> None:
        self._transport, self._line, self._bulk = transport, line, bulk
        self._going, self._coming = Firsts(), Firsts()
        self._received = self._sent = 0
        self._unpaid = 0  # bytes that were taken and had no turn yet
        line.fit(transport)

    def moved(self) -> int:
        """Bytes that came, and those sent that the other end has: what tells slow from stuck."""
        if isinstance(self._transport, trio.SocketStream):
            with suppress(OSError):  # it is closed
                self._sent = acknowledged(self._transport)
        return self._received + self._sent

    def stranded(self) -> bool:
        """Whether it goes out from an address that this machine has not got any more."""
        return isinstance(self._transport, trio.SocketStream) and stranded(self._transport)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        up = self._line.up
        if not up.rate:
            await self._transport.send_all(data)
            return
        view = memoryview(data)
        while view:
            piece, view = view[: up.piece], view[up.piece :]
            first = not self._bulk or self._going.take(len(piece), up.rate)
            await up.take(len(piece), first)
            await self._transport.send_all(piece)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        down, unpaid = self._line.down, self._unpaid
        if unpaid:
            self._unpaid = 0
            await down.take(unpaid, self._coming.take(unpaid, down.rate))
        if down.rate:
            max_bytes = min(max_bytes or down.piece, down.piece)
        data = await self._transport.receive_some(max_bytes)
        self._received += len(data)
        self._unpaid = len(data) if down.rate else 0
        return data

    async def aclose(self) -> None:
        self._line.down.charge(self._unpaid)
        self._unpaid = 0
        await self._transport.aclose()
