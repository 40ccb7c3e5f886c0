"""Where nodes are: what is tried first, when somebody is looked up, what is remembered."""

import os
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from family import KEY as VAULT
from family import credentials, family_of, serving
from nacl.signing import SigningKey

from bitdustfs.blocks.circle import Circle
from bitdustfs.cache.state import State, peek_value
from bitdustfs.core.codec import encode
from bitdustfs.core.keys import node_id
from bitdustfs.core.records import Member, open_family_untrusted
from bitdustfs.core.sealing import Suite
from bitdustfs.core.sightings import FOUND_MAX, NODES_MAX, Sighting, Sightings, sightings
from bitdustfs.errors import Malformed, PeerError, Unreachable, WrongPeer
from bitdustfs.family.find import Ways
from bitdustfs.net import calls, peer
from bitdustfs.net.addresses import split
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.discover import own_word
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.dht.seeker import Seeker
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.whereabouts import AGAIN_FIRST, DIALLED_MAX, LOOK_UPS, AddressBook, Located
from bitdustfs.supplier.dials import UNPROVEN_BURST, UNPROVEN_RATE, Dials
from bitdustfs.supplier.kindials import LOOK_UP_BURST, LOOK_UP_BURST_ALL, KinBook, LookUpRates
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB

NODE, OTHER = b"n" * 32, b"o" * 32


class Network:
    """What a look-up finds; how many there were, and at most at once."""

    def __init__(self, seconds=1.0):
        self.records, self.asked, self.most = {}, [], 0
        self._seconds, self._now = seconds, 0

    async def find(self, node):
        self.asked.append(node)
        self._now += 1
        self.most = max(self.most, self._now)
        await trio.sleep(self._seconds)
        self._now -= 1
        return self.records.get(node)


async def test_what_worked_last_comes_first_then_the_nodes_own_word_then_the_family(
    nursery, autojump_clock
):
    network = Network()
    book = AddressBook(network.find, nursery)
    assert book.of(NODE, ["family:1"]) == ("family:1",)
    network.records[NODE] = Located(5, ("said:1", "said:2"))
    assert await book.look_up(NODE) == ("said:1", "said:2")
    book.reached(NODE, "said:2")
    assert book.of(NODE, ["family:1", "said:1"]) == ("said:2", "said:1", "family:1")
    assert len(book.of(NODE, [f"hint:{n}" for n in range(30)])) == DIALLED_MAX


async def test_an_old_record_does_not_take_the_place_of_a_newer_one(nursery, autojump_clock):
    network = Network()
    book = AddressBook(network.find, nursery, Sightings((Sighting(NODE, "", 9, ("now:1",)),)))
    network.records[NODE] = Located(8, ("long-ago:1",))
    assert await book.look_up(NODE) == ("now:1",)
    assert book.of(NODE, []) == ("now:1",)


@pytest.mark.deadline(4000)
async def test_a_node_that_is_not_found_is_looked_up_ever_more_seldom(nursery, autojump_clock):
    network = Network()
    book = AddressBook(network.find, nursery)
    for _ in range(3600):
        book.search(NODE)
        await trio.sleep(1)
    assert 12 <= len(network.asked) <= 20
    book.reached(NODE, "here:1")
    before = len(network.asked)
    await book.look_up(NODE)  # it is lost anew: the pauses begin anew
    await trio.sleep(AGAIN_FIRST + 0.1)
    await book.look_up(NODE)
    assert len(network.asked) == before + 2


async def test_where_a_session_failed_is_tried_last_until_an_answer_comes_from_there(
    nursery, autojump_clock
):
    network = Network()
    book = AddressBook(network.find, nursery)
    book.reached(NODE, "relay:1")
    book.failed(NODE, "relay:1")
    await trio.sleep(2)
    assert book.of(NODE, ["family:1"]) == ("family:1", "relay:1") and network.asked == [NODE]
    book.failed(NODE, "family:1")
    assert book.of(NODE, ["family:1"]) == ("relay:1", "family:1")
    book.reached(NODE, "family:1")
    book.failed(NODE, "relay:1")
    assert book.of(NODE, ["relay:1", "other:1"]) == ("family:1", "other:1", "relay:1")
    for n in range(NODES_MAX + 5):
        book.failed(n.to_bytes(32, "big"), "family:1")
    assert len(book._trials) == NODES_MAX


async def test_where_a_node_answered_for_one_vault_leads_nobody_there_for_another(
    nursery, autojump_clock
):
    network = Network()
    shared = AddressBook(network.find, nursery)
    network.records[NODE] = Located(5, ("said:1",))
    ours, strangers = (KinBook(shared, vault, Dials()) for vault in (b"ours", b"strangers"))
    strangers.reached(NODE, "relay:1")
    assert await strangers.look_up(NODE) == ("said:1",)
    assert ours.of(NODE, ["family:1"]) == ("said:1", "family:1")
    strangers.failed(NODE, "said:1")
    assert strangers.of(NODE, []) == ("relay:1", "said:1")
    assert ours.of(NODE, ["family:1"]) == ("said:1", "family:1")


async def test_an_answer_proves_the_address_that_it_came_from_and_no_other(nursery, autojump_clock):
    """A node answers where its record says; its family names others, whom it would have dialled."""
    network, dials = Network(), Dials()
    shared = AddressBook(network.find, nursery)
    network.records[NODE] = Located(1, ("own:1", "victim:1", "victim:2"))
    await shared.look_up(NODE)
    KinBook(shared, b"vault", dials).reached(NODE, "own:1")
    spent = dials.admitted(b"vault", OTHER, [f"x:{n}" for n in range(100)])
    assert len(spent) == UNPROVEN_BURST
    again = KinBook(shared, b"vault", dials)
    assert again.of(NODE, ["victim:3"]) == ("own:1",)
    assert await again.look_up(NODE) == () and not dials.is_unasked(b"vault", NODE)
    with pytest.raises(Unreachable, match="so soon"):
        again.of(OTHER, ["victim:3"])
    assert dials.is_unasked(b"vault", OTHER)
    await trio.sleep(1 / UNPROVEN_RATE + 0.1)
    assert again.of(OTHER, ["victim:3", "victim:4"]) == ("victim:3",)
    assert not dials.is_unasked(b"vault", OTHER)


async def test_look_ups_of_many_are_few_at_once_and_one_for_a_node(nursery, autojump_clock):
    network = Network()
    book = AddressBook(network.find, nursery)
    nodes = [bytes([n]) * 32 for n in range(40)]
    async with trio.open_nursery() as askers:
        for node in nodes + nodes:
            askers.start_soon(book.look_up, node)
    assert len(network.asked) == 40 and network.most == LOOK_UPS


@pytest.mark.deadline(4000)
async def test_strangers_families_make_a_supplier_look_up_only_so_often(nursery, autojump_clock):
    """A vault that spends its own share leaves the others theirs."""
    network = Network(seconds=0.0)
    book = AddressBook(network.find, nursery, admits=LookUpRates().admits)
    for n in range(1000):
        await book.look_up(n.to_bytes(32, "big"), b"stranger")
    assert len(network.asked) == LOOK_UP_BURST
    await book.look_up(NODE, b"customer")
    assert network.asked[-1] == NODE
    for n in range(1000):
        await book.look_up(n.to_bytes(32, "big"), n.to_bytes(32, "big"))
    assert len(network.asked) == LOOK_UP_BURST_ALL


async def test_a_look_up_that_may_not_begin_makes_the_next_one_no_later(nursery, autojump_clock):
    network, spent = Network(), True
    book = AddressBook(network.find, nursery, admits=lambda vault: not spent)
    for _ in range(100):
        assert await book.look_up(NODE) == ()
    assert not network.asked
    spent = False
    network.records[NODE] = Located(1, ("here:1",))
    assert await book.look_up(NODE) == ("here:1",)


async def test_what_is_remembered_is_bounded_and_outlives_the_process(nursery, tmp_path):
    book = AddressBook(Network().find, nursery)
    for n in range(NODES_MAX + 10):
        book.reached(n.to_bytes(32, "big"), f"10.0.0.1:{5000 + n}")
    kept = Sightings(book.sightings(), ("10.0.0.1:4000",))
    assert len(kept.nodes) == NODES_MAX
    state = State(tmp_path, bytes(32), bytes(32), Suite.AEGIS256)
    assert state.get_value("whereabouts") is None  # as in a state of version 1
    state.set_value("whereabouts", encode(kept))
    state.close()
    again = sightings.decode_untrusted(peek_value(tmp_path, "whereabouts"))
    last = NODES_MAX + 9
    other = AddressBook(Network().find, nursery, again)
    assert other.addresses()[0] == f"10.0.0.1:{5000 + last}"
    assert other.of(last.to_bytes(32, "big"), ["x:1"])[0] == f"10.0.0.1:{5000 + last}"
    assert peek_value(tmp_path / "nowhere", "whereabouts") is None


@pytest.mark.parametrize(
    "amiss",
    [
        Sightings((Sighting(NODE),) * (NODES_MAX + 1)),
        Sightings((Sighting(NODE[1:]),)),
        Sightings((Sighting(NODE, "x" * 301),)),
        Sightings((Sighting(NODE, "", 1, ("a:1",) * (FOUND_MAX + 1)),)),
        Sightings((), ("a:1",) * 33),
    ],
)
def test_a_memory_beyond_its_bounds_is_none(amiss):
    with pytest.raises(Malformed):
        sightings.decode_untrusted(encode(amiss))


# -- real sessions and a real DHT


def service():
    return SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)


async def announce(dht, node, seq, *addresses):
    record = datagram.sign_node_record(node, seq, addresses, GIB)
    await dht.store(node_id(node.verify_key.encode()), record)


@pytest.mark.parametrize("count", [8])
async def test_a_supplier_that_moved_is_found_by_its_own_record_past_a_liar_at_its_old_address(
    nodes, nursery
):
    """Somebody else answers at the old address; an old record leads there as well."""
    moved, liar = service(), service()
    key = moved.node.verify_key.encode()
    async with serving(liar) as old, serving(moved) as new:
        await announce(nodes[1], moved.node, 1, old)
        seeker = Seeker(lambda: [":".join(map(str, nodes[3].endpoint))], nursery)
        book = AddressBook(seeker.find, nursery)
        session = PeerSupplier(key, (old,), credentials(), nursery, whereabouts=book)
        with pytest.raises(WrongPeer):
            await session.ping()
        await announce(nodes[2], moved.node, 2, new)
        book = AddressBook(seeker.find, nursery)
        again = PeerSupplier(key, (old,), credentials(), nursery, whereabouts=book)
        await again.ping()
        assert again.reached_at() == new and book.of(key, [old]) == (new, old)
        await again.aclose()
        assert len(seeker.contacts()) >= 2


async def test_a_session_whose_supplier_moves_fails_at_once_and_finds_it_later(nursery):
    moving = service()
    key = moving.node.verify_key.encode()
    network = Network(seconds=0.1)
    book = AddressBook(network.find, nursery)
    async with serving(moving) as first:
        session = PeerSupplier(key, (first,), credentials(), nursery, whereabouts=book)
        await session.ping()
    async with serving(moving) as second:
        network.records[key] = Located(1, (second,))
        failed = 0
        with trio.fail_after(5):
            while session.reached_at() != second:
                try:
                    await session.ping()
                except PeerError:
                    failed += 1
                    await trio.sleep(0.05)
        assert failed and len(network.asked) == 1
        await session.aclose()


@pytest.mark.parametrize("answers", [-1, 0, 1])
async def test_a_relay_that_swallows_what_follows_a_handshake_is_not_dialled_first_again(
    nursery, monkeypatch, answers
):
    """It passes on the node's proof of its key; also that there is a session, or some answers."""
    supplier, cut = service(), trio.Event()
    key = supplier.node.verify_key.encode()

    async def pump(source, sink):
        async for data in source:
            if not cut.is_set():
                await sink.send_all(data)

    async def relay(client):
        host, port = split(real)
        server = await trio.open_tcp_stream(host, port)
        async with server, client, trio.open_nursery() as pumps:
            pumps.start_soon(pump, client, server)
            pumps.start_soon(pump, server, client)

    async def open_session(met, own):
        if answers < 0 and not cut.is_set():
            cut.set()
            patience.deadline = trio.current_time() + 0.3
        decoder = await real_open(met, own)
        if answers == 0 and not cut.is_set():
            cut.set()
            patience.deadline = trio.current_time() + 0.3
        return decoder

    patience = trio.CancelScope()
    real_open = peer.open_session
    monkeypatch.setattr(peer, "open_session", open_session)
    monkeypatch.setattr(peer, "SILENCE", 0.1)
    monkeypatch.setattr(calls, "SILENCE", 0.1)
    network = Network(seconds=0.1)
    book = AddressBook(network.find, nursery)
    async with serving(supplier) as real:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, relay, [listener])
        spliced = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        network.records[key] = Located(1, (real,))
        session = PeerSupplier(key, (spliced,), credentials(), nursery, whereabouts=book)
        for _ in range(answers):
            await session.ping()
            cut.set()
            patience.deadline = trio.current_time() + 0.3
        with patience:
            await session.ping()
        assert session.reached_at() == ("" if answers < 0 else spliced)
        await book.look_up(key)
        assert network.asked == [key]
        assert book.of(key, session.addresses) == (real, spliced)
        await session.ping()
        assert session.reached_at() == real
        await session.aclose()


async def test_addresses_given_later_are_tried_as_well(nursery):
    supplier = service()
    key = supplier.node.verify_key.encode()
    async with serving(supplier) as address:
        session = PeerSupplier(key, ("127.0.0.1:1",), credentials(), nursery)
        with pytest.raises(Unreachable):
            await session.ping()
        session.also_at((address,))
        await session.ping()
        await session.aclose()


async def test_a_look_up_that_fails_ends_nothing_else(nursery, autojump_clock, caplog):
    async def fail(node):
        raise OSError("no more sockets")

    book = AddressBook(fail, nursery)
    assert await book.look_up(NODE) == ()
    assert "no more sockets" in caplog.text
    book.reached(NODE, "here:1")
    assert book.of(NODE, []) == ("here:1",)


@pytest.mark.parametrize("count", [2])
async def test_a_seeker_whose_node_failed_makes_another(nodes, nursery):
    seeker = Seeker(lambda: [":".join(map(str, nodes[0].endpoint))], nursery)
    first = await seeker.dht()
    first._socket.close()  # receiving from it fails
    await trio.testing.wait_all_tasks_blocked()
    again = await seeker.dht()
    assert again is not first and again.contacts()


async def test_how_a_supplier_is_reached_is_what_it_says_of_itself(nursery):
    """It is asked over UDP where it was reached by TCP. Nobody else can say it."""
    service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
    async with serving(service) as address:
        key, port = service.node.verify_key.encode(), split(address)[1]
        dht = Dht(service.node, serves=True, allow_private=True)
        await dht.bind("127.0.0.1", port)
        await nursery.start(dht.run)
        ways = Ways(VAULT, [address], nursery)
        member = Member(key, (address,), GIB)
        family = open_family_untrusted(family_of(key), VAULT.vault_id)
        circle = Circle(family, lambda _: ways.connect(member))
        session = circle.session(family.members[0])
        await session.ping()
        await ways.hear_how()
        assert session.way() == "direct"  # it says nothing
        for signer, mapped, shown in (
            (service.node, (address,), "mapped"),
            (SigningKey(b"o" * 32), (), "mapped"),
            (service.node, (), "direct"),
        ):
            record = datagram.sign_node_record(signer, 2, (address,), GIB, mapped)
            dht.records._rows[dht.id] = SimpleNamespace(seq=2, record=record, sender="")
            ways._asked_how.clear()
            await ways.hear_how()
            assert session.way() == shown


async def test_who_has_no_sockets_left_asks_nobody_how_it_is_reached(monkeypatch):
    async def bind(self, host, port):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Dht, "bind", bind)
    assert await own_word(NODE, "127.0.0.1:4000") is None


def test_a_relay_s_way_is_known_by_its_address():
    book = AddressBook(None, None)
    book.says_mapped(NODE, ["9.9.9.9:1"])
    found = [book.way(NODE, a) for a in ("9.9.9.9:1", "9.9.9.9:2", f"relay:{'ab' * 32}@9.9.9.9:1")]
    assert found == ["mapped", "direct", "relayed"]
    assert book.way(OTHER, "9.9.9.9:1") == "direct"
