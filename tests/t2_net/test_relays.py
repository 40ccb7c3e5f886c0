"""Relays: a supplier that cannot be dialled is reached through them, and nobody gains more."""

import os
import threading
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio
from family import (
    KEY,
    VaultKey,
    claim_of,
    contracted,
    credentials,
    family_of,
    make_block,
    root_of,
    serving,
)
from nacl.signing import SigningKey

from bitdustfs.core.bandwidth import parse_bandwidth
from bitdustfs.core.keys import node_id
from bitdustfs.errors import PeerError, ProtocolViolation, UsageError
from bitdustfs.net import wire
from bitdustfs.net.addresses import Relayed, dialable, is_here, relayed, split
from bitdustfs.net.dht import datagram
from bitdustfs.net.handshake import greet, meet
from bitdustfs.net.incoming import next_message
from bitdustfs.net.line import OwnLine
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import make_context
from bitdustfs.net.whereabouts import Located, Trials
from bitdustfs.supplier import connections, kinship, standby
from bitdustfs.supplier import relay as relays
from bitdustfs.supplier.caps import BURST_SECONDS, RelayCaps, relay_words
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.relay import RELAYED_HOST, Relay
from bitdustfs.supplier.relaycircle import circle_of
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shares import alone
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.supplier.standby import StandingBy
from bitdustfs.units import GIB, MIB

BEHIND = SigningKey(b"behind a router, with no port op!"[:32])
NODE = BEHIND.verify_key.encode()


def service(key=None):
    return SupplierService(key or SigningKey(os.urandom(32)), MemoryShelf(), GIB)


@asynccontextmanager
async def a_relay(*circle):
    """The address of a supplier that is a relay for these nodes, and the relay."""
    made = service()
    relay = Relay(circle_of(made, [node.hex() for node in circle]))
    context = make_context(made.node.encode(), server_side=True)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(SupplierServer(made, context, relay).serve, listeners)
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}", relay
        nursery.cancel_scope.cancel()


async def unheard_of(node):
    """Nobody's record is found."""


@asynccontextmanager
async def standing_by(*at, key=BEHIND, locate=unheard_of):
    """A supplier that listens nowhere; it stands by at these relays. `locate`: what these say."""
    made = service(key)
    server = SupplierServer(made, make_context(key.encode(), server_side=True))

    async def serve(circuit, crossing):
        await server.serve_one(circuit, (RELAYED_HOST, 0), crossing)

    standing = StandingBy(key, at, serve, OwnLine(), locate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(standing.run)
        yield standing
        nursery.cancel_scope.cancel()


async def until(what):
    with trio.fail_after(20):
        while True:
            if what():
                return
            await trio.sleep(0.01)


def through(address):
    return str(Relayed(NODE, address))


@asynccontextmanager
async def said_to_relay(address, opening, key=None):
    """(connection, decoder) behind what is said in place of Open."""
    own = (key or SigningKey(os.urandom(32))).encode()
    met = await meet(address, b"", make_context(own, server_side=False), False, OwnLine())
    try:
        yield met.stream, await greet(met.stream, opening)
    finally:
        await met.aclose()


async def fault_of(address, opening, key=None):
    async with said_to_relay(address, opening, key) as (stream, decoder):
        reply = await next_message(stream, decoder)
        assert isinstance(reply, wire.Fault), reply
        return reply.code


async def test_a_supplier_that_cannot_be_dialled_keeps_fragments_through_a_relay(nursery):
    header, fragments = make_block(bytes(range(256)) * 4000)
    async with a_relay(NODE) as (address, _), standing_by(address) as standing:
        await until(standing.addresses)
        assert standing.addresses() == (through(address),)
        session = PeerSupplier(NODE, standing.addresses(), credentials(), nursery)
        await contracted(session, space=GIB // 10)
        kept = fragments[0]
        await session.put(b"b" * 16, 0, claim_of(), header, kept.chunks, kept.payload)
        assert bytes(await session.read(b"b" * 16, 0, 0, len(kept))) == bytes(kept.payload)
        assert session.reached_at() == through(address) == session.literals()[0]
        await session.aclose()


async def test_who_has_the_other_version_of_ip_alone_finds_the_way_too():
    """A node with IPv6 alone dials its relay there; who has IPv4 alone cannot, and must not."""
    other = "[2001:db8::1]:4000"

    async def locate(node):
        return Located(1, (through(other), "127.0.0.2:4000", other, "[2001:db8::2]:4000"))

    async with a_relay(NODE) as (first, _), a_relay(NODE) as (second, _):
        async with standing_by(first, second, locate=locate) as standing:
            await until(lambda: len(standing.addresses()) == 3)
            assert standing.addresses() == (through(first), through(second), through(other))
        async with standing_by(first) as standing:  # whose record is not found
            await until(standing.addresses)
            assert standing.addresses() == (through(first),)


async def test_where_a_relay_is_not_found_again_what_was_known_of_it_stays(monkeypatch):
    monkeypatch.setattr(standby, "LOOK_EVERY", 0.01)
    other, looks = "[2001:db8::1]:4000", []

    async def locate(node):
        looks.append(node)
        return Located(1, (other,)) if len(looks) == 1 else None

    async with a_relay(NODE) as (first, _), standing_by(first, locate=locate) as standing:
        await until(lambda: len(looks) > 2)
        assert standing.addresses() == (through(first), through(other))


async def test_where_one_relay_dies_another_one_leads_there(nursery):
    async with a_relay(NODE) as (second, _):
        async with trio.open_nursery() as first_runs:
            async with a_relay(NODE) as (first, _):
                pass
            first_runs.cancel_scope.cancel()
        async with standing_by(first, second) as standing:
            await until(standing.addresses)
            assert standing.addresses() == (through(second),)
            ways = (through(first), through(second))
            session = PeerSupplier(NODE, ways, credentials(), nursery)
            await session.ping()
            assert session.reached_at() == through(second)
            await session.aclose()


async def test_a_relay_that_comes_back_is_stood_by_at_again(monkeypatch):
    monkeypatch.setattr(standby, "AGAIN_FIRST", 0.01)
    async with a_relay(NODE) as (address, relay), standing_by(address) as standing:
        await until(standing.addresses)
        line = relay._lines[NODE]
        line.scope.cancel()
        await until(lambda: relay._lines.get(NODE) not in (None, line))
        await until(standing.addresses)


async def test_a_stranger_is_not_on_standby_and_nobody_is_reached_through_a_relay_by_that():
    stranger = SigningKey(os.urandom(32))
    async with a_relay(NODE) as (address, relay):
        said = wire.Standby(wire.VERSION)
        assert await fault_of(address, said, stranger) == "unauthorised"
        asked = wire.Through(wire.VERSION, stranger.verify_key.encode())
        assert await fault_of(address, asked) == "unreachable"
        assert not relay._lines and not relay._circuits


async def test_a_supplier_that_is_no_relay_says_so():
    async with serving(service()) as address:
        assert await fault_of(address, wire.Through(wire.VERSION, NODE)) == "unreachable"


async def test_nobody_else_comes_in_the_place_of_the_node_that_was_called():
    """Only the node's own key meets who waits; its own TLS inside would show it besides."""
    ready, asked = wire.Standby(wire.VERSION), wire.Through(wire.VERSION, NODE)
    async with a_relay(NODE) as (address, relay), said_to_relay(address, ready, BEHIND) as line:
        assert await next_message(*line) == wire.Done()
        async with said_to_relay(address, asked) as waits:
            called = await next_message(*line)
            meeting = wire.Meeting(wire.VERSION, called.circuit)
            async with said_to_relay(address, meeting) as (liar, _):
                assert await liar.receive_some() == b""
            reply = await next_message(*waits)
            assert isinstance(reply, wire.Fault) and reply.code == "unreachable"
    assert not relay._circuits and not relay._awaited


@asynccontextmanager
async def leading_elsewhere():
    """The address of a relay that leads to another node, whomever one asks for."""
    other = SigningKey(os.urandom(32))
    node = other.verify_key.encode()
    async with a_relay(node) as (address, relay), standing_by(address, key=other) as standing:
        await until(standing.addresses)
        leads = relay._connect
        relay._connect = lambda _, who: leads(node, who)
        yield address


async def test_a_relay_that_leads_to_another_node_is_found_out(nursery):
    async with leading_elsewhere() as address:
        session = PeerSupplier(NODE, (through(address),), credentials(), nursery)
        with pytest.raises(PeerError, match="another node answers"):
            await session.ping()
        assert session.reached_at() == ""
        await session.aclose()


async def test_a_relay_does_not_pose_as_the_node_that_an_address_names(nursery):
    """Also to whoever knows no more of the node than that address: who makes a vault."""
    async with leading_elsewhere() as address:
        session = PeerSupplier(b"", (through(address),), credentials(), nursery)
        with pytest.raises(PeerError, match="another node answers"):
            await session.ping()
        assert session.node == b""
        await session.aclose()


async def test_of_too_many_circuits_those_of_who_has_most_end():
    relay = Relay(alone, RelayCaps(circuits=12))
    assert relay.caps.circuits_of_node == 8
    for number, network in enumerate(["many"] * 6 + ["one"] * 2):
        relay._circuits.add(relays._Passage(NODE, network, float(number), (NODE,)))
    before = {circuit.heard: circuit for circuit in relay._circuits}
    relay._make_way(NODE)
    assert before[0.0].scope.cancel_called and len(relay._circuits) == 7
    relay._make_way(NODE)
    assert len(relay._circuits) == 7


@pytest.mark.parametrize("circuits", [4, 8, 128])
def test_one_mount_has_room_at_a_relay_for_its_two_connections_and_a_way_past_it(circuits):
    assert 3 <= RelayCaps(circuits=circuits).circuits_of_node <= circuits


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("caps", [RelayCaps(), RelayCaps(rate=MIB)])
async def test_a_friend_is_passed_no_more_than_the_cap(caps, nodes, nursery, autojump_clock):
    """What came at once is passed on at once, what is more waits, in a piece of bounded size. With
    several nodes on standby he has no more.
    """
    relay = Relay(alone)
    relay.change(caps)
    passed = []

    class Endless:
        async def receive_some(self, limit):
            await trio.lowlevel.checkpoint()
            assert limit == relays.PIECE
            return bytes(limit)

        async def send_all(self, data):
            passed.append(len(data))

    class Place:
        def hear(self):
            pass

    end = relays.Visitor(NODE, Endless(), None, Place(), None, OwnLine())
    with trio.move_on_after(40):
        async with trio.open_nursery() as pumps:
            for number in range(nodes):
                node = bytes([number]) * 32
                circuit = relays._Passage(node, "n", trio.current_time(), (b"his",))
                pumps.start_soon(relay._pass_on, circuit, end, end, pumps)
    rate, most = caps.rate_of_one, sum(passed)
    assert BURST_SECONDS * rate < most <= (BURST_SECONDS + 40) * rate + nodes * relays.PIECE
    assert relay.passed == most


def from_host(host):
    """Dials from that address of loopback, as from another network."""

    async def connect(address):
        there, port = split(address)
        return await trio.open_tcp_stream(there, port, local_address=host)

    return connect


async def comes_through(address, host):
    """A stranger's connection to the node through the relay; raises PeerError."""
    context = make_context(os.urandom(32), server_side=False)
    return await meet(through(address), NODE, context, False, OwnLine(), from_host(host))


async def test_one_who_comes_through_a_relay_takes_the_limits_of_no_other_one(monkeypatch):
    """Also where the node does not know where they are: they are one network to it."""
    monkeypatch.setattr(connections, "NEW_RATE", 0.01)
    monkeypatch.setattr(connections, "NEW_BURST", 8)
    async with a_relay(NODE) as (address, _), standing_by(address) as standing:
        await until(standing.addresses)
        met = []
        with pytest.raises(PeerError):
            for _ in range(8):
                met.append(await comes_through(address, "127.0.0.9"))
        assert len(met) == 4
        met.append(await comes_through(address, "127.0.0.8"))
        for one in met:
            await one.aclose()


async def test_who_calls_in_a_loop_is_led_there_only_so_often_and_others_still_are():
    async with a_relay(NODE) as (address, relay), standing_by(address) as standing:
        await until(standing.addresses)
        relay.change(RelayCaps(circuits=4))
        with pytest.raises(PeerError, match="too often"):
            for _ in range(30):
                await (await comes_through(address, "127.0.0.9")).aclose()
        await (await comes_through(address, "127.0.0.8")).aclose()


async def test_a_node_that_comes_on_standby_in_a_loop_waits():
    looks, said = [], wire.Standby(wire.VERSION)
    async with a_relay(NODE) as (address, relay):
        circle = relay._circle
        relay._circle = lambda node: looks.append(node) or circle(node)
        for _ in range(int(relays.AGAIN_BURST)):
            async with said_to_relay(address, said, BEHIND) as line:
                assert await next_message(*line) == wire.Done()
        assert await fault_of(address, said, BEHIND) == "busy"
        assert len(looks) == relays.AGAIN_BURST


@pytest.mark.deadline(1000)  # virtual seconds
@pytest.mark.parametrize(("bound", "takes"), [("0", 29), ("8K", 29), ("8K", 120)])
async def test_a_relay_that_is_slow_by_its_own_wish_cuts_off_nobody(bound, takes, autojump_clock):
    """Of 8 KiB a second thirty circuits have so little that a piece takes two minutes."""

    class Slow:
        async def send_all(self, data):
            await trio.sleep(takes)

    line = OwnLine(parse_bandwidth(bound))
    await relays.Visitor(NODE, Slow(), None, None, None, line).send(bytes(relays.PIECE))


@pytest.mark.deadline(1000)
@pytest.mark.parametrize(("bound", "limit"), [("0", 31), ("8K", 200)])
async def test_whoever_takes_nothing_is_cut_off_by_a_relay(bound, limit, autojump_clock):
    class Stuck:
        async def send_all(self, data):
            await trio.sleep_forever()

    line, began = OwnLine(parse_bandwidth(bound)), trio.current_time()
    with pytest.raises(ProtocolViolation):
        await relays.Visitor(NODE, Stuck(), None, None, None, line).send(bytes(relays.PIECE))
    assert trio.current_time() - began <= limit


async def test_a_circuit_on_which_nothing_is_said_ends(monkeypatch, autojump_clock):
    monkeypatch.setattr(relays, "CIRCUIT_IDLE", 30.0)
    circuit = relays._Passage(NODE, "n", trio.current_time(), (NODE,))
    with circuit.scope:
        await relays._end_when_idle(circuit)
    assert circuit.scope.cancelled_caught
    assert trio.current_time() - circuit.heard == pytest.approx(relays.CIRCUIT_IDLE)


async def test_a_circuit_that_is_idle_for_a_moment_too_long_ends_without_an_error(monkeypatch):
    """No clock wakes anybody at the very instant."""
    monkeypatch.setattr(relays, "CIRCUIT_IDLE", 0.05)
    circuit = relays._Passage(NODE, "n", trio.current_time() - 1, (NODE,))
    with circuit.scope:
        await relays._end_when_idle(circuit)
    assert circuit.scope.cancelled_caught


async def test_no_vault_takes_all_places_on_standby_by_naming_nodes(monkeypatch):
    monkeypatch.setattr(relays, "LINES_MAX", 3)
    keys = [SigningKey(bytes([number]) * 32) for number in range(8)]
    names = dict.fromkeys((key.verify_key.encode() for key in keys[:4]), b"a vault of many")
    names |= {keys[4].verify_key.encode(): b"another one"}
    names |= {(node := key.verify_key.encode()): node for key in keys[5:]}  # friends
    said = wire.Standby(wire.VERSION)
    async with a_relay() as (address, relay), AsyncExitStack() as stack:
        relay._circle = lambda node: alone(names[node]) if node in names else ()

        async def stands_by(key):
            line = await stack.enter_async_context(said_to_relay(address, said, key))
            assert await next_message(*line) == wire.Done()

        def there():
            return [names[node] for node in relay._lines]

        for key in keys[:3]:
            await stands_by(key)
        assert await fault_of(address, said, keys[3]) == "busy"
        await stands_by(keys[4])
        assert there() == [b"a vault of many"] * 2 + [b"another one"]
        assert await fault_of(address, said, keys[0]) == "busy"
        for key in keys[5:]:
            await stands_by(key)
        assert {*there()} == {key.verify_key.encode() for key in keys[5:]}
        assert await fault_of(address, said, keys[4]) == "busy"


async def test_many_vaults_of_one_network_take_one_share_of_the_places_on_standby(monkeypatch):
    monkeypatch.setattr(relays, "LINES_MAX", 3)
    keys = [SigningKey(bytes([number]) * 32) for number in range(5)]
    many = {key.verify_key.encode(): ("9.9.9.0/24", key.encode()) for key in keys[:4]}
    said = wire.Standby(wire.VERSION)
    async with a_relay() as (address, relay), AsyncExitStack() as stack:
        relay._circle = lambda node: many.get(node, ("8.8.8.0/24", b"another vault"))
        for key in [*keys[:3], keys[4]]:
            line = await stack.enter_async_context(said_to_relay(address, said, key))
            assert await next_message(*line) == wire.Done()
        assert keys[4].verify_key.encode() in relay._lines
        assert await fault_of(address, said, keys[3]) == "busy"


async def test_pings_on_standby_cost_a_look_now_and_then_and_who_is_out_is_let_go(monkeypatch):
    looks, names = [], {NODE: (NODE,)}
    async with a_relay() as (address, relay):
        relay._circle = lambda node: looks.append(node) or names.get(node, ())
        async with said_to_relay(address, wire.Standby(wire.VERSION), BEHIND) as (stream, decoder):
            assert await next_message(stream, decoder) == wire.Done()

            async def pinged():
                await stream.send_all(wire.encode_frame(1, wire.Ping()))
                return await next_message(stream, decoder)

            for _ in range(20):
                assert await pinged() == wire.Done()
            assert looks == [NODE]
            names.clear()
            monkeypatch.setattr(relays, "LOOK_EVERY", 0.0)
            with pytest.raises((PeerError, trio.BrokenResourceError)), trio.fail_after(20):
                while True:
                    await pinged()


async def test_who_comes_to_a_node_with_all_its_circuits_taken_is_let_in(nursery):
    async with a_relay(NODE) as (address, relay), standing_by(address) as standing:
        await until(standing.addresses)
        context = make_context(os.urandom(32), server_side=False)
        held = [
            await meet(through(address), NODE, context, False, OwnLine())
            for _ in range(relay.caps.circuits_of_node)
        ]
        session = PeerSupplier(NODE, (through(address),), credentials(), nursery)
        await session.ping()
        assert len(relay._circuits) == relay.caps.circuits_of_node
        await session.aclose()
        for met in held:
            await met.aclose()


async def test_a_relay_that_was_named_is_announced_by_its_address():
    """Others dial no names that a record has."""
    async with a_relay(NODE) as (address, _):
        named = address.replace("127.0.0.1", "localhost")
        async with standing_by(named) as standing:
            await until(standing.addresses)
            assert standing.addresses() == (through(address),)
            assert dialable(standing.addresses(), allow_private=True)


def test_an_address_through_a_relay_has_one_form():
    text = f"relay:{NODE.hex()}@192.0.2.1:4000"
    assert relayed(text) == Relayed(NODE, "192.0.2.1:4000") and str(relayed(text)) == text
    assert split(text) == ("192.0.2.1", 4000) and not is_here(through("127.0.0.1:4000"))
    for wrong in ("relay:1", text.upper(), f"relay:{text}", text.replace("@", ""), "1.2.3.4:5"):
        assert relayed(wrong) is None


def test_a_relay_of_a_stranger_is_dialled_only_where_an_address_would_be():
    ways = [through(at) for at in ("8.8.8.8:4000", "10.0.0.1:4000", "a.b:4000", "8.8.8.8:22")]
    assert dialable(ways, allow_private=False) == (through("8.8.8.8:4000"),)
    nested = f"relay:{NODE.hex()}@{through('8.8.8.8:4000')}"
    assert dialable([nested], allow_private=True) == ()


def test_direct_addresses_come_before_relays_and_those_that_failed_after_them():
    trials, way = Trials(), through("8.8.8.8:4000")
    assert trials.arranged([way, "1.1.1.1:4000"]) == ("1.1.1.1:4000", way)
    trials.failed("1.1.1.1:4000")
    assert trials.arranged([way, "1.1.1.1:4000"]) == (way, "1.1.1.1:4000")
    trials.failed(way)
    assert trials.arranged([way, "1.1.1.1:4000"]) == ("1.1.1.1:4000", way)


def test_a_node_record_names_relays_and_older_programs_read_the_rest():
    ways = ("8.8.8.8:4000", *(through(f"8.8.8.{n}:4000") for n in range(3)))
    raw = datagram.sign_node_record(BEHIND, 1, ways, 5)
    record = datagram.open_node_record_untrusted(raw, node_id(NODE))
    assert record.addresses == ways[:1] and record.ways == ways
    old = datagram.NodeRecord.__struct_fields__[:4]
    assert old == ("node", "seq", "addresses", "offer")


def test_what_relay_words_mean():
    assert relay_words(["off"]) == ("off",) and relay_words(["circle", NODE.hex()])
    for wrong in (["off", "circle"], ["anyone"], [NODE.hex()[:40]]):
        with pytest.raises(UsageError):
            relay_words(wrong)


async def test_the_circle_is_who_is_of_a_family_whose_fragments_are_kept():
    made = service()
    circle = circle_of(made, ("circle",))
    owner = MemorySupplier(made, KEY.vault_id, "owner")
    family = family_of(NODE)
    await owner.promise(GIB // 10, 2_000_000_000)
    await owner.prepare(claim_of(), False)
    await owner.accept(root_of(family), family, claim_of())
    assert not circle(NODE)  # nothing is kept yet: whoever promises himself space gains nothing
    header, fragments = make_block(b"content" * 1000)
    kept = fragments[0]
    await owner.put(b"b" * 16, 0, claim_of(), header, kept.chunks, kept.payload)
    assert circle(NODE) and not circle(os.urandom(32))
    assert not circle_of(made, (NODE.hex()[::-1],))(NODE)


async def test_no_family_is_opened_for_a_stranger_who_asks_to_stand_by(monkeypatch):
    """Only so many are held opened; he would have all of them opened again at each attempt."""
    made = service()
    circle = circle_of(made, ("circle",))
    opened = []
    monkeypatch.setattr(kinship, "FAMILIES_KEPT", 1)

    def counted(raw, vault, opens=kinship.open_family_untrusted):
        opened.append(vault)
        return opens(raw, vault)

    for number in range(3):
        key = VaultKey(bytes([number]) * 32)
        owner = MemorySupplier(made, key.vault_id, "owner")
        node = NODE if number == 2 else os.urandom(32)
        family = family_of(node, key=key)
        await contracted(owner, GIB // 10, key)
        await owner.accept(root_of(family, key=key), family, claim_of(key))
        header, fragments = make_block(b"content" * 1000, key=key)
        kept = fragments[0]
        await owner.put(b"b" * 16, 0, claim_of(key), header, kept.chunks, kept.payload)
    monkeypatch.setattr(kinship, "open_family_untrusted", counted)
    made.kinship.forget(key.vault_id)
    assert not circle(os.urandom(32)) and not opened
    assert circle(NODE) and opened == [key.vault_id]


async def test_strangers_who_ask_to_stand_by_are_looked_up_one_at_a_time():
    """So they hold one thread at most, of those that customers need."""
    together, most, lock = 0, 0, threading.Lock()
    several = threading.Barrier(2)

    def slow(node):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        with suppress(threading.BrokenBarrierError):
            several.wait(0.2)  # a second one, if it may come, meets the first here
        with lock:
            together -= 1
        return ()

    made = service()
    context = make_context(made.node.encode(), server_side=True)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(SupplierServer(made, context, Relay(slow)).serve, listeners)
        async with trio.open_nursery() as strangers:
            for _ in range(3):
                strangers.start_soon(fault_of, address, wire.Standby(wire.VERSION))
        nursery.cancel_scope.cancel()
    assert most == 1
