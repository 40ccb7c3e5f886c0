"""Lines that fall silent: no connection ends, nothing is refused, nothing comes any more."""

import math
import socket
import threading
from contextlib import asynccontextmanager

import pytest
import trio
from family import claim_of, contracted, credentials, make_block, serving
from nacl.signing import SigningKey

from bitdustfs.errors import DeadlineExceeded, Refused
from bitdustfs.net import calls, silence
from bitdustfs.net import line as line_module
from bitdustfs.net.peer import PIECE, PeerSupplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import MIB


class Line:
    """Between a client and a server. `cut` swallows what its connections carry, for ever."""

    def __init__(self, server):
        self._server, self._down, self.connections = server, [], 0
        self._whole = trio.Event()

    def cut(self):
        self._whole = trio.Event()
        for down in self._down:
            down.set()

    async def carry(self, client):
        self.connections += 1
        down = trio.Event()
        self._down.append(down)
        host, _, port = self._server.rpartition(":")
        server = await trio.open_tcp_stream(host, int(port))
        async with server, client, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, client, server, down)
            nursery.start_soon(self._pump, server, client, down)

    async def _pump(self, source, sink, down):
        async for data in source:
            if not down.is_set():
                await sink.send_all(data)
        if not down.is_set():
            await sink.aclose()


@asynccontextmanager
async def over_a_line():
    """(a supplier's session over a line, the line, what answers at its end)."""
    service = SupplierService(SigningKey(b"n" * 32), MemoryShelf(), 64 * MIB)
    async with serving(service) as address, trio.open_nursery() as nursery:
        line = Line(address)
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, line.carry, [listener])
        ends = (f"127.0.0.1:{listener.socket.getsockname()[1]}",)
        session = PeerSupplier(service.node.verify_key.encode(), ends, credentials(), nursery)
        yield session, line, service
        await session.aclose()
        nursery.cancel_scope.cancel()


async def test_whoever_comes_back_is_reached_by_a_fresh_connection_at_once(monkeypatch):
    monkeypatch.setattr(calls, "SILENCE", 0.2)
    async with over_a_line() as (supplier, line, _):
        await supplier.ping()
        line.cut()
        with trio.move_on_after(0.5) as waiting:
            await supplier.ping()
        assert waiting.cancelled_caught
        with trio.fail_after(2):
            await supplier.ping()
        assert line.connections == 2


async def test_a_machine_with_another_address_dials_anew_at_once(monkeypatch):
    """What was asked on the old way ends soon; what is asked then does not go that way at all."""
    moved = False
    monkeypatch.setattr(calls, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(line_module, "stranded", lambda transport: moved)
    async with over_a_line() as (supplier, line, _):
        await supplier.ping()
        line.cut()
        moved, began = True, trio.current_time()
        with pytest.raises(DeadlineExceeded, match="another address"):
            await supplier.ping()
        assert trio.current_time() - began < 2 and line.connections == 1
        moved = False
        await supplier.ping()
        assert line.connections == 2
        line.cut()
        await trio.sleep(calls.LOOK_EVERY)
        monkeypatch.setattr(line_module, "stranded", lambda transport: line.connections == 2)
        began = trio.current_time()
        await supplier.ping()
        assert line.connections == 3 and trio.current_time() - began < 2


async def test_an_address_that_is_gone_strands_a_connection_where_another_leads_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = trio.socket.from_stdlib_socket(socket.create_connection(server.getsockname()))
        there = trio.SocketStream(one)
        assert not silence.stranded(there)
        with (
            pytest.MonkeyPatch.context() as patch
        ):  # of TEST-NET-1, which no machine has (RFC 5737)
            patch.setattr(type(one), "getsockname", lambda self: ("192.0.2.1", 4000))
            assert silence.stranded(there)
            patch.setattr(type(one), "getpeername", lambda self: ("0.0.0.0", 0))
        one.close()
        assert not silence.stranded(there)  # it says so itself


async def test_what_waits_on_a_silent_connection_ends_when_a_ping_gives_it_up(monkeypatch):
    """So an audit that waits still is on the connection on which a later ping is answered."""
    monkeypatch.setattr(calls, "SILENCE", 0.2)
    async with over_a_line() as (supplier, line, _):
        await contracted(supplier, 4 * MIB)
        line.cut()
        ended = trio.Event()

        async def read():
            with pytest.raises(DeadlineExceeded, match="nothing was heard"):
                await supplier.read(b"b" * 16, 0, 0, 100)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with trio.move_on_after(0.5):
                await supplier.ping()
            with trio.fail_after(0.5):
                await ended.wait()


async def test_a_slow_answer_costs_no_connection_while_others_come(monkeypatch):
    monkeypatch.setattr(calls, "SILENCE", 0.2)
    async with over_a_line() as (supplier, line, service):
        await contracted(supplier, 4 * MIB)
        reading = threading.Event()

        def read(*what):
            reading.wait(5)
            raise Refused("not-found")

        service.shelf.read = read
        async with trio.open_nursery() as nursery:

            async def ping():
                while True:
                    await supplier.ping()
                    await trio.sleep(0.05)

            nursery.start_soon(ping)
            with trio.move_on_after(0.5) as waiting:
                await supplier.read(b"b" * 16, 0, 0, 100)
            reading.set()
            nursery.cancel_scope.cancel()
        await supplier.ping()
        assert waiting.cancelled_caught and line.connections == 1


async def test_putting_takes_its_time_and_silence_meanwhile_means_nothing(monkeypatch):
    monkeypatch.setattr(calls, "SILENCE", 0.0)
    async with over_a_line() as (supplier, line, _):
        await contracted(supplier, 64 * MIB)
        header, fragments = make_block(bytes(4 * MIB))

        async def put(position):
            fragment = fragments[position]
            await supplier.put(
                b"b" * 16, position, claim_of(), header, fragment.chunks, fragment.payload
            )

        await put(0)
        with trio.move_on_after(0):
            await put(1)
        await put(2)
        assert line.connections == 2  # one for questions, one for bulk


async def test_a_supplier_that_is_reached_elsewhere_is_not_waited_for_where_it_was(monkeypatch):
    """The connection for puts may be silent for long; not when its supplier has moved."""
    monkeypatch.setattr(calls, "SILENCE", 0.2)
    async with over_a_line() as (supplier, line, service), serving(service) as elsewhere:
        await contracted(supplier, 32 * MIB)
        header, fragments = make_block(bytes(4 * MIB))

        async def put(position):
            one = fragments[position]
            await supplier.put(
                b"b" * 16, position, claim_of(), header, one.chunks, one.payload
            )  # fmt: skip

        await put(0)
        line.cut()
        supplier.also_at((elsewhere,))
        with trio.move_on_after(0.5):
            await supplier.ping()
        with trio.fail_after(2):
            await supplier.ping()
            await put(1)
        assert supplier.reached_at() == elsewhere


async def test_an_upload_that_goes_on_is_not_silent_where_the_supplier_is_reached_elsewhere_too():
    """A fragment that is sent is answered at its end alone."""
    async with over_a_line() as (supplier, _line, _service):
        await contracted(supplier, 32 * MIB)
        header, fragments = make_block(bytes(MIB))
        one = fragments[0]
        await supplier.put(b"b" * 16, 0, claim_of(), header, one.chunks, one.payload)
        bulk, now = supplier._connections[True], trio.current_time()
        assert bulk._progressed > -math.inf
        bulk._heard, bulk._progressed = now - 2 * calls.SILENCE, now
        bulk.reached_at("192.0.2.1:4000")
        assert bulk.failure is None
        bulk._progressed = now - 2 * calls.SILENCE
        bulk.reached_at("192.0.2.1:4000")
        assert bulk.failure is not None


async def test_payloads_are_sent_at_the_pace_that_was_given_and_questions_are_not():
    service, pieces, go_on = (
        SupplierService(SigningKey(b"n" * 32), MemoryShelf(), 64 * MIB),
        [],
        trio.Event(),
    )

    async def make_way(size):
        pieces.append(size)
        await go_on.wait()

    header, fragments = make_block(bytes(4 * MIB))
    one = fragments[0]
    async with serving(service) as address, trio.open_nursery() as nursery:
        node = service.node.verify_key.encode()
        supplier = PeerSupplier(node, (address,), credentials(), nursery, make_way=make_way)
        await contracted(supplier, 32 * MIB)
        assert pieces == []
        with trio.move_on_after(0.2) as held:
            await supplier.put(b"b" * 16, 0, claim_of(), header, one.chunks, one.payload)
        assert held.cancelled_caught
        assert len(pieces) == 1
        go_on.set()
        await supplier.put(b"b" * 16, 0, claim_of(), header, one.chunks, one.payload)
        assert max(pieces) <= PIECE
        assert sum(pieces[1:]) == len(one.payload)  # the first was given up
        await supplier.aclose()
        nursery.cancel_scope.cancel()
