"""Punching, without routers: who is told what, who is dialled, and how a connection is replaced.

On one machine two SYNs never cross. So the node listens where the relay saw it, in place of
dialling; whatever else happens is as it is. tests/t6_hosts/test_punching.py has the routers.
"""

import os
import threading
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from family import claim_of, contracted, credentials, make_block
from nacl.signing import SigningKey
from test_relays import BEHIND, NODE, a_relay, fault_of, said_to_relay, standing_by, through, until

from bitdustfs.core.codec import Decoder
from bitdustfs.errors import DeadlineExceeded, PeerError, ProtocolViolation, Refused, Unreachable
from bitdustfs.net import calls, peer, punching, wire
from bitdustfs.net.handshake import begin, meet
from bitdustfs.net.hostnames import joined_address
from bitdustfs.net.incoming import next_message
from bitdustfs.net.line import OwnLine
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.punching import SharedPort, Tries, may_be_dialled, punch
from bitdustfs.net.tls import make_context
from bitdustfs.supplier import halfway
from bitdustfs.supplier.befriend import Reached
from bitdustfs.supplier.friendlist import KeptThere, way_of
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.units import FRAME_HEAD_MAX, GIB

HEADER, FRAGMENTS = make_block(bytes(range(256)) * 4000)


class Listens(SharedPort):
    """The node's: it is dialled there."""

    async def connect(self, address):
        if self._own is None:
            return await super().connect(address)
        with trio.socket.socket() as listening:
            for option in (trio.socket.SO_REUSEADDR, trio.socket.SO_REUSEPORT):
                listening.setsockopt(trio.socket.SOL_SOCKET, option, 1)
            await listening.bind(self._own)
            listening.listen(1)
            stream, _ = await listening.accept()
        return trio.SocketStream(stream)


class DialsOn(SharedPort):
    """Whoever calls: as if its SYN were on its way until the node listens."""

    async def connect(self, address):
        while True:
            try:
                return await super().connect(address)
            except ConnectionRefusedError:
                await trio.sleep(0.005)


@pytest.fixture
def crossing(monkeypatch):
    """Two that dial each other at the same time meet."""
    monkeypatch.setattr(halfway, "SharedPort", Listens)
    monkeypatch.setattr(punching, "SharedPort", DialsOn)


async def keep_something(session):
    """So that the vault is a customer."""
    await contracted(session, GIB // 10)
    kept = FRAGMENTS[0]
    await session.put(b"b" * 16, 0, claim_of(), HEADER, kept.chunks, kept.payload)


@asynccontextmanager
async def customer_behind_a_relay():
    """(address of the relay, session of a customer who does not punch)."""
    async with (
        a_relay(NODE) as (address, relay),
        standing_by(address) as standing,
        trio.open_nursery() as nursery,
    ):
        await until(standing.addresses)
        session = PeerSupplier(NODE, (through(address),), credentials(), nursery)
        await keep_something(session)
        yield address, session
        await session.aclose()
        await until(lambda: not relay._circuits)
        nursery.cancel_scope.cancel()


async def test_a_connection_past_the_relay_takes_the_place_of_the_one_through_it(crossing, nursery):
    async with customer_behind_a_relay() as (address, _):
        session = PeerSupplier(NODE, (through(address),), credentials(), nursery, punches=True)
        await session.ping()
        await until(lambda: session.way() == "punched")
        assert session.literals() == (through(address),) and session.reached_at() == through(
            address
        )
        kept = FRAGMENTS[1]
        await session.put(b"b" * 16, 1, claim_of(), HEADER, kept.chunks, kept.payload)
        await until(lambda: session.way() == "punched")  # the one for puts, too
        assert bytes(await session.read(b"b" * 16, 1, 0, len(kept))) == bytes(kept.payload)
        assert len(session._connections) == 2
        await session.aclose()


async def test_a_connection_opened_through_the_relay_is_no_sign_that_the_punched_one_is_over(
    crossing, nursery, monkeypatch
):
    monkeypatch.setattr(calls, "SILENCE", 0.0)
    async with customer_behind_a_relay() as (address, _):
        session = PeerSupplier(NODE, (through(address),), credentials(), nursery, punches=True)
        await session.ping()
        await until(lambda: session.way() == "punched")
        punched = session._connections[False]
        kept = FRAGMENTS[1]
        await session.put(b"b" * 16, 1, claim_of(), HEADER, kept.chunks, kept.payload)
        await session.ping()
        assert session._connections[False] is punched and punched.failure is None
        await session.aclose()


async def test_a_way_past_the_relay_on_which_nothing_is_answered_is_not_tried_again_at_once(
    crossing, nursery
):
    async with customer_behind_a_relay() as (address, _):
        session = PeerSupplier(NODE, (through(address),), credentials(), nursery, punches=True)
        await session.ping()
        await until(lambda: session.way() == "punched")
        session._connections[False].fail(DeadlineExceeded("silent"))
        session._connections[False]._running.cancel()
        await until(lambda: session._tries.wait() > 0)
        await session.ping()
        assert session.way() == "relayed"
        await session.aclose()


async def test_what_was_asked_through_the_relay_is_answered_after_the_connection_was_replaced(
    crossing, nursery, monkeypatch
):
    made, answers = [], threading.Event()

    async def serve_held(self, *arguments, serves=SupplierServer.serve_one):
        made.append(self._service)
        await serves(self, *arguments)

    monkeypatch.setattr(SupplierServer, "serve_one", serve_held)
    async with customer_behind_a_relay() as (address, _):
        reads = made[-1].shelf.read

        def read(*what):
            answers.wait(20)
            return reads(*what)

        session = PeerSupplier(NODE, (through(address),), credentials(), nursery, punches=True)
        node = next(one for one in made if one.node == BEHIND)
        node.shelf.read, got = read, []
        async with trio.open_nursery() as asking:

            async def ask():
                got.append(await session.read(b"b" * 16, 0, 0, 1000))

            asking.start_soon(ask)
            await until(lambda: session.way() == "punched")
            await session.ping()  # on the new one
            assert not got
            answers.set()
        assert bytes(got[0]) == bytes(FRAGMENTS[0].payload[:1000])
        await session.aclose()


async def test_with_a_relay_or_a_node_of_before_it_stays_relayed(monkeypatch, nursery, crossing):
    """They take what they do not know for a breach, on a connection that carries nothing else."""
    before = wire.Open | wire.Standby | wire.Through | wire.Meeting
    monkeypatch.setattr(wire, "_from_client", Decoder(before | wire.Request, "r", FRAME_HEAD_MAX))
    async with customer_behind_a_relay() as (address, other):
        with pytest.raises((Unreachable, ProtocolViolation)):
            await punch(through(address), NODE, credentials(), False)
        session = PeerSupplier(NODE, (through(address),), credentials(), nursery, punches=True)
        await session.ping()
        await until(lambda: session._tries.wait() > punching.VAIN_AGAIN / 2)
        connection = session._connections[False]
        await session.ping()
        await other.ping()
        assert session.way() == "relayed" and session._connections[False] is connection
        await session.aclose()


async def test_with_a_node_of_before_at_a_relay_of_now_it_stays_relayed(monkeypatch, crossing):
    async def breach(self, *what):
        raise ProtocolViolation("the client did not open a session")

    monkeypatch.setattr(SupplierServer, "_punch", breach)
    async with customer_behind_a_relay() as (address, session):
        with pytest.raises(Unreachable):
            await punch(through(address), NODE, credentials(), False)
        await session.ping()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_several_connections_go_out_from_one_port(host):
    port = SharedPort()
    came = []
    for _ in range(2):
        [listener] = await trio.open_tcp_listeners(0, host=host)
        async with listener:
            number = listener.socket.getsockname()[1]
            stream = await port.connect(joined_address(host, number))
            there = await listener.accept()
            came.append(there.socket.getpeername()[:2])
            await stream.aclose()
            await there.aclose()
    assert came[0] == came[1]


async def test_a_stranger_has_nobody_dial_him(crossing, monkeypatch):
    """Who keeps nothing there is a stranger, whatever key he shows."""
    monkeypatch.setattr(halfway, "_meet_halfway", None)
    async with a_relay(NODE) as (address, _), standing_by(address) as standing:
        await until(standing.addresses)
        with pytest.raises(Refused, match="keeps something"):
            await punch(through(address), NODE, credentials(), False)
        with pytest.raises(PeerError):  # the proof is that of a session
            await punch(through(address), NODE, credentials(role="reader"), False)


async def test_a_node_dials_for_one_vault_so_often_and_no_more(crossing, monkeypatch):
    monkeypatch.setattr(halfway, "BURST", 2.0)
    async with customer_behind_a_relay() as (address, _):
        for _ in range(2):
            met = await punch(through(address), NODE, credentials(), False)
            await met.aclose()
        with pytest.raises(Refused, match="too often"):
            await punch(through(address), NODE, credentials(), False)


async def test_whoever_does_not_come_through_a_relay_is_not_dialled(nursery):
    async with a_relay(NODE) as (address, _):
        own = credentials()
        met = await meet(address, b"", own.context, False, OwnLine())
        with pytest.raises(Unreachable):
            await begin(met, own, wire.Punch)


async def circuit_of(line, address, calls):
    """(how one is called by the relay, what ends the call) once somebody calls so."""
    caller = said_to_relay(address, calls(wire.VERSION, NODE))
    await caller.__aenter__()
    return (await next_message(*line)).circuit, caller


async def test_a_relay_tells_the_node_alone_and_only_of_who_wants_to_be_dialled():
    ready = wire.Standby(wire.VERSION)
    async with a_relay(NODE) as (address, _), said_to_relay(address, ready, BEHIND) as line:
        assert await next_message(*line) == wire.Done()
        plain, first = await circuit_of(line, address, wire.Through)
        faced, second = await circuit_of(line, address, wire.Facing)
        asked = wire.Whence(wire.VERSION, faced)
        assert await fault_of(address, wire.Whence(wire.VERSION, plain), BEHIND) == "unreachable"
        assert await fault_of(address, asked, SigningKey(os.urandom(32))) == "unreachable"
        assert (
            await fault_of(address, wire.Whence(wire.VERSION, bytes(32)), BEHIND) == "unreachable"
        )
        async with said_to_relay(address, asked, BEHIND) as (stream, decoder):
            seen = await next_message(stream, decoder)
            own = stream._transport._transport.socket.getsockname()
        assert seen.node == f"127.0.0.1:{own[1]}"
        assert may_be_dialled(seen.caller, address) and seen.caller not in (seen.node, address)
        for caller in (first, second):
            await caller.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("address", "relay", "may"),
    [
        ("8.8.4.4:40000", "8.8.8.8:4000", True),
        ("[2001:4860::1]:40000", "[2001:4860::8]:4000", True),
        ("10.0.0.1:40000", "10.0.0.2:4000", True),
        ("10.0.0.1:40000", "8.8.8.8:4000", False),
        ("127.0.0.1:40000", "8.8.8.8:4000", False),
        ("8.8.4.4:22", "8.8.8.8:4000", False),
        ("224.0.0.1:40000", "10.0.0.2:4000", False),
        ("host.example:40000", "10.0.0.2:4000", False),
        (f"relay:{NODE.hex()}@8.8.4.4:40000", "8.8.8.8:4000", False),
        ("", "10.0.0.2:4000", False),
    ],
)
def test_a_relay_names_only_what_a_stranger_might(address, relay, may):
    assert may_be_dialled(address, relay) is may
    assert may_be_dialled(address, f"relay:{NODE.hex()}@{relay}") is may


async def test_a_relay_that_names_what_is_never_dialled_has_nobody_dialled(crossing, monkeypatch):
    dialled = []

    async def connect(self, address, connects=Listens.connect):
        if self._own is not None:
            dialled.append(address)
        return await connects(self, address)

    monkeypatch.setattr(Listens, "connect", connect)
    monkeypatch.setattr(halfway, "may_be_dialled", lambda address, relay: False)
    async with customer_behind_a_relay() as (address, _):
        with pytest.raises(Refused, match="cannot be dialled"):
            await punch(through(address), NODE, credentials(), False)
    assert not dialled


async def test_another_node_that_answers_there_gets_nothing(crossing, monkeypatch):
    """Whoever sits behind the same router, or came first: TLS shows the key."""
    other = make_context(os.urandom(32), server_side=True)

    async def connection(self, transport, serves=SupplierServer._connection):
        impostor = SupplierServer(self._service, other)
        await serves(impostor, transport)

    async with customer_behind_a_relay() as (address, _):
        monkeypatch.setattr(SupplierServer, "_connection", connection)
        context = credentials().context
        with pytest.raises(PeerError, match="another node"):
            await meet(address, NODE, context, False, OwnLine())
        with pytest.raises(PeerError):
            await punch(through(address), NODE, credentials(), False)


@pytest.mark.deadline(400_000)  # virtual seconds
@pytest.mark.parametrize(("error", "most"), [(Unreachable("in vain"), 12), (Refused("busy"), 20)])
async def test_what_is_in_vain_is_tried_seldomer_and_seldomer(
    error, most, autojump_clock, monkeypatch, nursery
):
    tried = []

    async def in_vain(*what):
        tried.append(trio.current_time())
        await trio.sleep(5)
        raise error

    monkeypatch.setattr(peer, "punch", in_vain)
    session = PeerSupplier(NODE, (), credentials(), nursery, punches=True)

    class Stays:
        over = trio.Event()

    began = trio.current_time()
    with trio.move_on_after(86400):
        async with trio.open_nursery() as both:
            for bulk in (True, False):
                both.start_soon(session._pass_by, bulk, Stays, "way", session._tries)
    assert len([when for when in tried if when - began < 86400]) <= most
    pauses = [late - early for early, late in pairwise(tried)]
    assert pauses == sorted(pauses) and max(pauses) <= punching.AGAIN_MAX + 5


async def test_what_succeeds_is_tried_again_at_once():
    tries = Tries()
    tries.failed(Unreachable())
    assert tries.wait() > 0
    tries.succeeded()
    assert tries.wait() == 0
    tries.failed(Refused("busy"))
    assert tries.wait() <= punching.REFUSED_AGAIN


@pytest.mark.parametrize(
    ("met", "by_a_mount", "shown"),
    [
        ("relayed", "punched", "punched"),
        ("relayed", "relayed", "relayed"),
        ("direct", "punched", "direct"),
        ("relayed", None, "relayed"),
    ],
)
def test_a_friend_whom_a_mount_reaches_past_a_relay_is_shown_so(met, by_a_mount, shown):
    kept = by_a_mount and KeptThere(0, None, by_a_mount)
    assert way_of(Reached("", met), kept) == shown
