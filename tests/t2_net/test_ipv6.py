"""IPv6: sessions, the DHT over either version of IP or both, and what counts as one network."""

import os

import pytest
import trio
from family import KEY, credentials
from nacl.signing import SigningKey

from bitdustfs.core.keys import node_id
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.bounds import PER_PREFIX, DatagramRates, Neighbourhoods, prefix_of
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.dht.udp import UdpSocket
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import make_context
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import DATAGRAM_MAX, GIB

pytestmark = pytest.mark.deadline(40)


async def node(nursery, host, serves=True):
    made = Dht(SigningKey(os.urandom(32)), serves=serves, allow_private=True)
    await made.bind(host, 0)
    await nursery.start(made.run)
    return made


def at(node, host):
    return host, node.endpoint[1]


async def test_a_supplier_serves_over_ipv6(nursery):
    service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
    context = make_context(service.node.encode(), server_side=True)
    listeners = await trio.open_tcp_listeners(0, host="::1")
    nursery.start_soon(SupplierServer(service, context).serve, listeners)
    address = f"[::1]:{listeners[0].socket.getsockname()[1]}"
    session = PeerSupplier(service.node.verify_key.encode(), (address,), credentials(), nursery)
    await session.ping()
    await session.promise(GIB, 2_000_000_000)
    await session.aclose()
    nursery.cancel_scope.cancel()


async def test_a_network_over_ipv6_alone_finds_records(nursery):
    nodes = [await node(nursery, "::1") for _ in range(6)]
    for one in nodes[1:]:
        await one.bootstrap([at(nodes[0], "::1")])
    key = SigningKey(os.urandom(32))
    place = node_id(key.verify_key.encode())
    record = datagram.sign_node_record(key, 1, ("[::1]:4000",), 1)
    assert await nodes[1].store(place, record) >= 4
    asker = await node(nursery, "::", serves=False)
    await asker.bootstrap([at(nodes[3], "::1")])
    assert await asker.find(place) == record


async def test_who_is_in_both_networks_joins_both_by_an_address_of_one(nursery):
    both = [await node(nursery, "::") for _ in range(2)]
    fours = [await node(nursery, "127.0.0.1") for _ in range(3)]
    sixes = [await node(nursery, "::1") for _ in range(3)]
    for one in fours:
        await one.bootstrap([at(both[0], "127.0.0.1")])
    for one in sixes:
        await one.bootstrap([at(both[0], "::1")])
    key = SigningKey(os.urandom(32))
    place = node_id(key.verify_key.encode())
    record = datagram.sign_node_record(key, 1, ("[::1]:4000",), 1)
    await sixes[0].store(place, record)
    with trio.fail_after(20):
        while not any(":" in host for host, _ in both[1].contacts()):
            await both[1].bootstrap([at(fours[0], "127.0.0.1"), at(both[0], "127.0.0.1")])
            await trio.sleep(0.1)
    assert await both[1].find(place) == record
    await both[0].republish()  # and what is stored in one comes into the other
    assert await fours[2].find(place) == record
    assert all(":" not in host for one in fours for host, _ in one.contacts())
    assert all(":" in host for one in sixes for host, _ in one.contacts())


@pytest.mark.parametrize(("bound", "asked"), [("0.0.0.0", "127.0.0.2"), ("::", "127.0.0.2"),
                                              ("::", "::1"), ("::1", "::1")])  # fmt: skip
async def test_an_answer_leaves_from_the_address_that_was_asked(nursery, bound, asked):
    """Bound to all addresses, the kernel would answer from 127.0.0.1."""
    answering = await node(nursery, bound)
    asking = await node(nursery, "::", serves=False)
    assert await asking.bootstrap([at(answering, asked)]) == 1
    assert asking.contacts() == [at(answering, asked)]


async def test_an_address_that_is_gone_does_not_keep_a_socket_from_sending(nursery):
    one, other = UdpSocket(), UdpSocket()
    await one.bind(("::", 0))
    await other.bind(("127.0.0.1", 0))
    target = other.getsockname()[:2]
    one._asked[target] = bytes([8, 8, 8, 8])  # an address of nobody here
    await one.sendto(b"still", target)
    assert (await other.recvfrom(100))[0] == b"still"
    assert target not in one._asked
    for made in (one, other):
        made.close()


async def test_where_there_is_no_way_nobody_is_waited_for(nursery, autojump_clock):
    four = await node(nursery, "127.0.0.1", serves=False)
    began = trio.current_time()
    assert await four.bootstrap([("2606:4700::1", 4000)]) == 0
    assert trio.current_time() == began


def test_of_ipv6_a_48_is_one_network():
    assert prefix_of("2606:4700:1::1") == prefix_of("2606:4700:1:ffff::9")
    assert prefix_of("2606:4700:1::1") != prefix_of("2606:4700:2::1")
    crowd = Neighbourhoods(False).crowd()
    for n in range(PER_PREFIX):
        assert not crowd.is_full("2606:4700:1::1")
        crowd.add(f"2606:4700:1:{n}::1")
    assert crowd.is_full("2606:4700:1:77::1") and not crowd.is_full("2606:4700:2::1")


async def test_one_48_sends_only_so_many_datagrams(autojump_clock):
    rates = DatagramRates(Neighbourhoods(False))
    heard = sum(rates.admits(f"2606:4700:1:{n:x}::1") for n in range(1000))
    assert heard == 200 and rates.admits("2606:4700:2::1")


def test_full_answers_of_ipv6_fit_their_datagrams():
    contact = datagram.Contact(b"i" * 20, ":".join(["ffff"] * 8), 65535)
    message = datagram.ContactsAre((contact,) * datagram.CONTACTS_MAX)
    body = datagram.Body(1, bytes(32), True, bytes(16), bytes(8), message)
    assert len(datagram.encode_datagram(KEY.record, body)) <= DATAGRAM_MAX
