"""What a node uses of its line: never more than it may, and small things before large ones."""

import os

import pytest
import trio
import trio.testing
from customers import service_of
from family import claim_of, contracted, credentials, make_block

from bitdustfs.core.bandwidth import UNBOUNDED, parse_bandwidth
from bitdustfs.net.dht.udp import UdpSocket
from bitdustfs.net.line import (
    BURST,
    FIRST_MAX,
    IDLE,
    PIECE_SECONDS,
    TURNS_FIRST,
    OwnLine,
    PacedStream,
    Valve,
)
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import make_context
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.units import KIB, MIB

RATE = 1_000_000


@pytest.mark.deadline(200)  # virtual seconds
@pytest.mark.parametrize("workers", [1, 2, 8])
async def test_never_more_than_the_rate_and_a_burst(workers, autojump_clock):
    moved, valve = [], Valve(lambda: RATE)
    await trio.sleep(100)  # a pause saves up a burst, not more

    async def work(number):
        for _ in range(160 // workers):
            await valve.take(valve.piece, first=bool(number % 2))
            moved.append((trio.current_time() - 100, valve.piece))

    async with trio.open_nursery() as nursery:
        for number in range(workers):
            nursery.start_soon(work, number)
    for at, _ in moved:
        went = sum(size for when, size in moved if when <= at)
        assert went <= RATE * (at + BURST) + valve.piece
    assert moved[-1][0] <= 160 * valve.piece / RATE  # and no slower


async def test_no_bound_is_no_wait(autojump_clock):
    before = trio.current_time()
    await Valve(lambda: 0).take(1 << 40)
    assert trio.current_time() == before


async def test_small_questions_pass_what_is_queued(autojump_clock):
    """Ten seconds of fragments wait; a question waits for two pieces of them at most."""
    valve = Valve(lambda: RATE)
    async with trio.open_nursery() as nursery:
        for _ in range(80):
            nursery.start_soon(valve.take, valve.piece, False)
        await trio.sleep(1)
        before = trio.current_time()
        await valve.take(1000, first=True)
        assert trio.current_time() - before <= 2 * PIECE_SECONDS + 0.01
        nursery.cancel_scope.cancel()


async def test_fragments_go_on_beside_many_questions(autojump_clock):
    valve, turns = Valve(lambda: RATE), []

    async def ask():
        while True:
            await valve.take(10_000, first=True)
            turns.append("first")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.sleep(1)
        for _ in range(20):
            await valve.take(10_000, first=False)
            turns.append("bulk")
        nursery.cancel_scope.cancel()
    since = turns[turns.index("bulk") :]
    assert len(since) / since.count("bulk") <= TURNS_FIRST + 2


async def test_who_gives_up_waiting_holds_nobody_up(autojump_clock):
    valve = Valve(lambda: 1000)
    await valve.take(5000)
    for first in (True, False):
        with trio.move_on_after(0.1) as waiting:
            await valve.take(1, first)
        assert waiting.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(valve.take, 1)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.1):
            await valve.take(1)
    with trio.fail_after(1):
        await valve.take(1)


async def test_datagrams_do_not_wait_and_are_made_good(autojump_clock):
    valve = Valve(lambda: 1000)
    await trio.sleep(10)
    before = trio.current_time()
    for _ in range(6):
        valve.charge(100)
    assert trio.current_time() == before
    await valve.take(1)
    assert trio.current_time() - before == pytest.approx(0.6 - BURST)


@pytest.mark.parametrize("size", [2000, 1_000_000])
async def test_a_flood_that_nobody_asked_for_stops_nobody(size, autojump_clock):
    """Ten times the line's rate comes in datagrams; what was asked for has the line all the same,
    and a question waits for a turn.
    """
    valve = Valve(lambda: RATE)

    async def flood():
        while True:
            for _ in range(10 * RATE // 50 // size):
                valve.charge(size)
            valve.charge(size)
            await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await trio.sleep(10)
        before = trio.current_time()
        await valve.take(10)
        assert trio.current_time() - before <= PIECE_SECONDS
        before = trio.current_time()
        for _ in range(80):
            await valve.take(valve.piece, False)
        assert trio.current_time() - before <= 80 * valve.piece / RATE + 2 * PIECE_SECONDS
        nursery.cancel_scope.cancel()


async def test_a_flood_of_real_datagrams_leaves_no_debt(nursery):
    line = OwnLine(parse_bandwidth("8K"))
    node, flood = UdpSocket(line), UdpSocket()
    for socket in (node, flood):
        await socket.bind(("127.0.0.1", 0))
    began = trio.current_time()
    for _ in range(200):  # 280 kB: more than half a minute of the line
        await flood.sendto(bytes(1400), node.getsockname())
        await node.recvfrom(2000)
        await node.sendto(bytes(1400), flood.getsockname())
    for valve in (line.up, line.down):
        with trio.fail_after(trio.current_time() - began + 5):
            await valve.take(100)
    node.close()
    flood.close()


async def test_hours_and_changes_hold_at_once(autojump_clock):
    hour = 7
    line = OwnLine(parse_bandwidth("up:10K@8-23"), lambda: hour)
    assert line.up.rate == line.down.rate == 0
    hour = 8
    assert (line.up.rate, line.down.rate) == (10 * KIB, 0)
    line.change(parse_bandwidth("down:20K"))
    assert (line.up.rate, line.down.rate) == (0, 20 * KIB)
    line.change(UNBOUNDED)
    assert line.down.rate == 0


async def test_a_bound_connection_passes_everything_unchanged(autojump_clock):
    near, far = trio.testing.memory_stream_pair()
    paced = PacedStream(near, OwnLine(parse_bandwidth("100K")), bulk=True)
    content, came = os.urandom(300 * KIB), bytearray()
    began = trio.current_time()

    async def receive():
        while len(came) < len(content):
            came.extend(await far.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await paced.send_all(content)
    assert came == content and 2.2 <= trio.current_time() - began <= 3
    await far.send_all(content)
    got = bytearray()
    while len(got) < len(content):
        got += await paced.receive_some(MIB)
    assert got == content and trio.current_time() - began >= 4.4
    await paced.aclose()


class Counting(trio.abc.Stream):
    """A real connection, with what went through it by second."""

    def __init__(self, stream, counts):
        self.stream, self.counts = stream, counts

    async def send_all(self, data):
        self.counts["down"] += len(data)
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self):
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes=None):
        data = await self.stream.receive_some(max_bytes)
        self.counts["up"] += len(data)
        return data

    async def aclose(self):
        await self.stream.aclose()


async def test_all_that_a_client_sends_and_fetches_is_bounded(nursery):
    """Real sockets and TLS; what the other side sees, in real time: only too much would fail."""
    up = down = MIB
    service, counts = service_of(), {"up": 0, "down": 0}
    server = SupplierServer(service, make_context(service.node.encode(), server_side=True))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def accept(stream):
        await server.serve_one(Counting(stream, counts), stream.socket.getpeername())

    nursery.start_soon(trio.serve_listeners, accept, listeners)
    address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    line = OwnLine(parse_bandwidth(f"up:{up}/down:{down}"))
    own = credentials()
    own = type(own)(own.vault, own.role, own.key, own.tls_public, own.context, line=line)
    peer = PeerSupplier(service.node.verify_key.encode(), (address,), own, nursery)
    began = trio.current_time()
    await contracted(peer)
    content = os.urandom(MIB)
    for number in range(2):
        block = bytes([number]) * 16
        header, fragments = make_block(content, block=block, k=2, n=2)
        async with trio.open_nursery() as puts:
            for fragment in fragments:
                puts.start_soon(
                    peer.put, block, fragment.position, claim_of(), header, fragment.chunks,
                    fragment.payload,
                )  # fmt: skip
            with trio.fail_after(5):
                await peer.ping()  # not behind the fragments
    passed = trio.current_time() - began
    assert 2 * MIB < counts["up"] <= up * (passed + BURST) + up / 4
    began, before = trio.current_time(), counts["down"]
    for number in range(2):
        for position in range(2):
            await peer.read(bytes([number]) * 16, position, 0, 512 * KIB)
    passed = trio.current_time() - began
    assert MIB < counts["down"] - before <= down * (passed + BURST) + down / 4
    await peer.aclose()
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(1000)  # virtual seconds
async def test_little_is_asked_for_before_it_comes(autojump_clock):
    """So a small read waits for a second's worth, not for all that a large file has."""
    valve, asked, most = Valve(lambda: RATE), [0], [0]

    async def read(size):
        async with valve.asking(size):
            asked[0] += size
            most[0] = max(most[0], asked[0])
            await valve.take(size)
            asked[0] -= size

    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        for _ in range(40):
            nursery.start_soon(read, 500_000)
        await trio.sleep(1)
        assert valve.patience(0) == pytest.approx(2 * 19, abs=2)
        before = trio.current_time()
        await read(10_000)
        assert trio.current_time() - before <= 1.6
        with trio.move_on_after(1):
            await read(500_000)  # whoever gives up waiting holds nobody up
    assert most[0] <= 1 * RATE + 10_000
    assert trio.current_time() - began <= 20.1 and valve.patience(0) == 0


async def test_what_is_larger_than_that_is_asked_for_alone(autojump_clock):
    valve = Valve(lambda: 10_000)
    with trio.fail_after(1):
        async with valve.asking(1_000_000):
            with trio.move_on_after(0.5) as waiting:
                async with valve.asking(100_000):
                    raise AssertionError("two at once")
            assert waiting.cancelled_caught
            async with valve.asking(1000):
                pass


@pytest.mark.deadline(1000)
@pytest.mark.parametrize("size", [300_000, 3_000_000])
async def test_promise_9_whoever_hangs_keeps_nobody_from_asking(size, autojump_clock):
    """Asked for so much, it sends nothing, or next to nothing. Others are asked a second later."""
    valve = Valve(lambda: RATE)

    async def hang():
        async with valve.asking(size):
            while True:
                await trio.sleep(0.1)
                await valve.take(100)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(hang)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        for _ in range(10):
            async with valve.asking(500_000):
                await valve.take(500_000)
        assert trio.current_time() - before <= 3 * IDLE + 10 * 0.5 + BURST
        nursery.cancel_scope.cancel()


class Endless(trio.abc.ReceiveStream):
    """Whatever is asked for is there."""

    def __init__(self):
        self.given = 0

    async def receive_some(self, max_bytes=None):
        self.given += max_bytes
        return bytes(max_bytes)

    async def send_all(self, data):
        pass

    async def wait_send_all_might_not_block(self):
        pass

    async def aclose(self):
        pass


@pytest.mark.deadline(1000)
async def test_nothing_is_held_while_a_connection_waits_for_its_turn(autojump_clock):
    """A hundred connections that send without end: whatever was taken of them has been passed on,
    and they had the bound together, and a turn each.
    """
    line, came, sources = OwnLine(parse_bandwidth("1M")), [0], [Endless() for _ in range(100)]

    async def receive(source):
        paced = PacedStream(source, line)
        while True:
            data = await paced.receive_some(MIB)
            came[0] += len(data)

    async with trio.open_nursery() as nursery:
        for source in sources:
            nursery.start_soon(receive, source)
        for second in range(1, 20):
            await trio.sleep(1)
            given = sum(source.given for source in sources)
            assert given == came[0]
            assert given <= MIB * (second + BURST) + (len(sources) + 1) * line.down.piece
        nursery.cancel_scope.cancel()


@pytest.mark.deadline(1000)
async def test_small_requests_and_answers_do_not_wait_behind_bulk_of_others(autojump_clock):
    """At a supplier nobody says which connection is for what: it shows by what goes over it."""
    line = OwnLine(parse_bandwidth("100K"))
    fat = [PacedStream(Endless(), line) for _ in range(8)]
    slim = PacedStream(Endless(), line)

    async def bulk(paced):
        while True:
            await paced.receive_some(32 * KIB)
            await paced.send_all(bytes(32 * KIB))

    async with trio.open_nursery() as nursery:
        for paced in fat:
            nursery.start_soon(bulk, paced)
        await trio.sleep(10)
        for _ in range(50):
            before = trio.current_time()
            await slim.receive_some(200)
            await slim.receive_some(200)  # what came before has had its turn
            await slim.send_all(bytes(200))
            assert trio.current_time() - before <= 6 * PIECE_SECONDS
            await trio.sleep(0.5)
        nursery.cancel_scope.cancel()


async def test_what_goes_on_and_on_does_not_stay_first(autojump_clock):
    """Many who send a little at a time do not keep out those who send much at once."""
    line, went = OwnLine(parse_bandwidth("100K")), [0]

    async def dribble(paced):
        while True:
            await paced.send_all(bytes(KIB))
            went[0] += KIB

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(dribble, PacedStream(Endless(), line))
        paced = PacedStream(Endless(), line)
        await paced.send_all(bytes(2 * FIRST_MAX))
        await trio.sleep(10)
        before = trio.current_time()
        await paced.send_all(bytes(100 * KIB))
        assert trio.current_time() - before <= 11 * 1.2  # a share like that of others
        nursery.cancel_scope.cancel()
