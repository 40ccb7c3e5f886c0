"""A slow line is not a stuck one: a fragment has its time on it, and is sent once."""

import os

import pytest
import trio
import trio.testing
from customers import service_of
from family import KEY, claim_of, contracted, credentials, make_block, serving

from bitdustfs.core.bandwidth import parse_bandwidth
from bitdustfs.errors import DeadlineExceeded, PeerError, Refused
from bitdustfs.net import calls, peer, wire
from bitdustfs.net.handshake import Met
from bitdustfs.net.line import OwnLine
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.supplier import talk
from bitdustfs.units import KIB, MIB

BLOCK = b"b" * 16


class SlowLink:
    """A connection in virtual time: `rate` bytes a second go, `stops` bytes at most.

    `buffer`: what a kernel takes at once. It answers the first request when `due` bytes went, and
    further ones when `then` did, too.
    """

    def __init__(self, rate, due, then=(), stops=1 << 62, buffer=0):
        self.rate, self.due, self.stops, self.buffer = rate, [due, *then], stops, buffer
        self.answers = 0
        self.taken = self.sent = 0
        self.answered, self.began = trio.Event(), trio.current_time()

    def moved(self):
        acked = min((trio.current_time() - self.began) * self.rate, self.taken, self.stops)
        return int(acked)

    async def send_all(self, data):
        self.taken += len(data)
        self.sent += 1
        await self.until(self.taken - self.buffer)
        if self.due and self.taken >= self.due[0]:
            await self.until(self.due.pop(0))
            self.answered.set()

    async def until(self, size):
        if size > self.stops:
            await trio.sleep_forever()
        await trio.sleep_until(self.began + size / self.rate)

    async def receive_some(self, limit):
        await self.answered.wait()
        self.answered, self.answers = trio.Event(), self.answers + 1
        return wire.encode_frame(self.answers, wire.Done())

    async def aclose(self):
        pass


@pytest.fixture
def linked(monkeypatch):
    """Has whoever dials find this link."""
    dialled = []

    def install(make):
        async def meet(address, node, context, bulk, line):
            link = make()
            dialled.append(link)
            return Met(link, node, address, link.moved, lambda: False)

        async def open_session(met, own):
            return wire.FrameDecoder(from_server=True)

        monkeypatch.setattr(peer, "meet", meet)
        monkeypatch.setattr(peer, "open_session", open_session)
        return dialled

    return install


@pytest.mark.deadline(100_000)  # virtual seconds
@pytest.mark.parametrize("buffer", [0, 128 * KIB], ids=["", "a kernel's buffer before it"])
async def test_four_mebibytes_at_eight_kibibytes_a_second_are_sent_once(
    buffer, linked, nursery, autojump_clock
):
    dialled = linked(lambda: SlowLink(8 * KIB, 4 * MIB, buffer=buffer))
    supplier = PeerSupplier(b"n" * 32, ("192.0.2.1:4000",), credentials(), nursery)
    began = trio.current_time()
    await supplier.put(BLOCK, 0, b"claim", b"header", b"", bytes(4 * MIB))
    assert 512 <= trio.current_time() - began <= 560 and len(dialled) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(100_000)
async def test_what_is_stuck_is_given_up_soon(linked, nursery, autojump_clock):
    linked(lambda: SlowLink(8 * KIB, 4 * MIB, stops=800 * KIB))
    supplier = PeerSupplier(b"n" * 32, ("192.0.2.1:4000",), credentials(), nursery)
    began = trio.current_time()
    with pytest.raises(DeadlineExceeded):
        await supplier.put(BLOCK, 0, b"claim", b"header", b"", bytes(4 * MIB))
    assert trio.current_time() - began <= 100 + calls.STALLED + 2 * calls.LOOK_EVERY
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(100_000)
async def test_a_trickle_does_not_go_on_for_ever(linked, nursery, autojump_clock):
    linked(lambda: SlowLink(calls.FLOOR / 2, 4 * MIB))
    supplier = PeerSupplier(b"n" * 32, ("192.0.2.1:4000",), credentials(), nursery)
    began = trio.current_time()
    with pytest.raises(DeadlineExceeded):
        await supplier.put(BLOCK, 0, b"claim", b"header", b"", bytes(4 * MIB))
    assert trio.current_time() - began <= calls.CALL_DEADLINE + 4 * MIB / calls.FLOOR + 1
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(100_000)
async def test_by_this_nodes_own_wish_it_may_be_slower_still(linked, nursery, autojump_clock):
    """Eight KiB a second for thirty suppliers: each has a share, and none is to blame for it."""
    dialled = linked(lambda: SlowLink(calls.FLOOR * 0.6, MIB))
    own = credentials()
    own = type(own)(
        own.vault, own.role, own.key, own.tls_public, own.context,
        line=OwnLine(parse_bandwidth("8K")),
    )  # fmt: skip
    supplier = PeerSupplier(b"n" * 32, ("192.0.2.1:4000",), own, nursery)
    await supplier.put(BLOCK, 0, b"claim", b"header", b"", bytes(MIB))
    assert len(dialled) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(100_000)
async def test_what_is_behind_a_large_fragment_has_its_time(linked, nursery, autojump_clock):
    """It waits for nine minutes before its own first byte goes."""
    dialled = linked(lambda: SlowLink(8 * KIB, 4 * MIB, then=[4 * MIB + 40 * KIB]))
    supplier = PeerSupplier(b"n" * 32, ("192.0.2.1:4000",), credentials(), nursery)
    async with trio.open_nursery() as puts:
        puts.start_soon(supplier.put, BLOCK, 0, b"claim", b"header", b"", bytes(4 * MIB))
        await trio.testing.wait_all_tasks_blocked()
        puts.start_soon(supplier.put, BLOCK, 1, b"claim", b"header", b"", bytes(40 * KIB))
    assert len(dialled) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(100_000)
async def test_what_nobody_waits_for_is_not_sent_to_its_end(linked, nursery, autojump_clock):
    """Neither what is on its way, nor what is behind it: what comes next has a fresh connection."""
    answered_at = iter([MIB, 64 * KIB])
    dialled = linked(lambda: SlowLink(8 * KIB, next(answered_at)))
    supplier = PeerSupplier(b"n" * 32, ("192.0.2.1:4000",), credentials(), nursery)
    with trio.move_on_after(20):
        async with trio.open_nursery() as puts:
            for position in range(2):
                payload = bytes(4 * MIB)
                puts.start_soon(supplier.put, BLOCK, position, b"claim", b"header", b"", payload)
    began, [before] = trio.current_time(), dialled
    taken = before.taken
    await supplier.put(BLOCK, 2, b"claim", b"header", b"", bytes(64 * KIB))
    assert trio.current_time() - began <= 10 and len(dialled) == 2
    assert taken == before.taken <= MIB
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(100_000)
async def test_of_two_only_the_one_that_is_given_up_does_not_go(linked, nursery, autojump_clock):
    """It had not begun, so the other goes on where it is."""
    dialled = linked(lambda: SlowLink(8 * KIB, 4 * MIB))
    supplier = PeerSupplier(b"n" * 32, ("192.0.2.1:4000",), credentials(), nursery)
    async with trio.open_nursery() as puts:
        puts.start_soon(supplier.put, BLOCK, 0, b"claim", b"header", b"", bytes(4 * MIB))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(20):
            await supplier.put(BLOCK, 1, b"claim", b"header", b"", bytes(4 * MIB))
    assert len(dialled) == 1 and dialled[0].taken < 5 * MIB
    nursery.cancel_scope.cancel()


class Dribbling(trio.abc.Stream):
    """A real connection on which this side sends, or takes, a little now and then."""

    def __init__(self, stream, piece, pause):
        self.stream, self.piece, self.pause = stream, piece, pause

    async def send_all(self, data):
        for at in range(0, len(data), self.piece):
            if len(data) > self.piece:
                await trio.sleep(self.pause)
            await self.stream.send_all(data[at : at + self.piece])

    async def wait_send_all_might_not_block(self):
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes=None):
        return await self.stream.receive_some(max_bytes)

    async def aclose(self):
        await self.stream.aclose()


@pytest.mark.parametrize("stuck", [False, True])
async def test_a_supplier_waits_for_a_slow_customer_and_not_for_a_stuck_one(
    stuck, nursery, monkeypatch
):
    """Its first fragment as well, when it is a stranger still."""
    monkeypatch.setattr(talk, "TRANSFER_DEADLINE", 0.2)
    monkeypatch.setattr(talk, "SLOWEST", 1 << 40)
    monkeypatch.setattr(talk, "STALLED", 0.5 if stuck else 20.0)

    async def meet(address, node, context, bulk, line):
        met = await real(address, node, context, bulk, line)
        stream = met.stream._transport
        pause = 30.0 if stuck else 0.1
        stream._transport = (
            Dribbling(stream._transport, 8 * KIB, pause) if bulk else (stream._transport)
        )
        return met

    real = peer.meet
    monkeypatch.setattr(peer, "meet", meet)
    service = service_of()
    header, fragments = make_block(os.urandom(128 * KIB), BLOCK, k=1, n=1)
    async with serving(service) as address:
        supplier = PeerSupplier(b"", (address,), credentials(), nursery)
        await contracted(supplier)
        put = [BLOCK, 0, claim_of(), header, fragments[0].chunks, fragments[0].payload]
        if stuck:
            with pytest.raises(PeerError):
                await supplier.put(*put)
            assert service.shelf.vault(KEY.vault_id).fragments == 0
        else:
            await supplier.put(*put)
            assert service.traffic.received == 128 * KIB
        await supplier.aclose()
    nursery.cancel_scope.cancel()


async def test_a_supplier_that_is_slow_by_its_own_wish_cuts_off_nobody(nursery, monkeypatch):
    """What it takes and gives within its bound is no client's fault, however long it takes."""
    monkeypatch.setattr(talk, "TRANSFER_DEADLINE", 0.1)
    monkeypatch.setattr(talk, "SLOWEST", 1 << 40)
    monkeypatch.setattr(talk, "STALLED", 0.1)
    monkeypatch.setattr(talk, "FLOOR", 1 << 40)
    service = service_of()
    header, fragments = make_block(os.urandom(96 * KIB), BLOCK, k=1, n=1)
    async with serving(service, line=OwnLine(parse_bandwidth("80K"))) as address:
        supplier = PeerSupplier(b"", (address,), credentials(), nursery)
        await contracted(supplier)
        [fragment] = fragments
        await supplier.put(BLOCK, 0, claim_of(), header, fragment.chunks, fragment.payload)
        assert await supplier.read(BLOCK, 0, 0, 96 * KIB) == fragment.payload
        await supplier.aclose()
    nursery.cancel_scope.cancel()


async def test_what_is_refused_is_not_sent_to_its_end():
    """The refusal comes at once; what is behind it goes over another connection."""
    service = service_of()
    own = credentials()
    own = type(own)(
        own.vault, own.role, own.key, own.tls_public, own.context,
        line=OwnLine(parse_bandwidth("up:1M")),
    )  # fmt: skip
    header, fragments = make_block(bytes(16 * MIB))
    one = fragments[0]
    async with serving(service) as address, trio.open_nursery() as nursery:
        supplier = PeerSupplier(service.node.verify_key.encode(), (address,), own, nursery)
        for _ in range(3):
            with pytest.raises(Refused):
                await supplier.put(BLOCK, 0, claim_of(), header, one.chunks, one.payload)
        assert supplier.sent < len(one.payload) // 2
        await supplier.ping()
        await supplier.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.deadline(100_000)
async def test_what_had_not_begun_goes_over_another_connection(linked, nursery, autojump_clock):
    """One is given up while it is sent; the other behind it is none the wiser."""
    answered_at = iter([4 * MIB, 64 * KIB])
    dialled = linked(lambda: SlowLink(8 * KIB, next(answered_at)))
    supplier = PeerSupplier(b"n" * 32, ("192.0.2.1:4000",), credentials(), nursery)
    async with trio.open_nursery() as puts:

        async def give_up():
            with trio.move_on_after(20):
                await supplier.put(BLOCK, 0, b"claim", b"header", b"", bytes(4 * MIB))

        puts.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        puts.start_soon(supplier.put, BLOCK, 1, b"claim", b"header", b"", bytes(64 * KIB))
    assert len(dialled) == 2
    nursery.cancel_scope.cancel()
