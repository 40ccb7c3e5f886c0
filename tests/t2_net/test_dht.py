"""The DHT: thirty nodes on loopback find records; replays, forgeries and garbage change nothing."""

import os
import random
from types import SimpleNamespace

import pytest
import sybils
import trio
from family import KEY
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from sybils import Network

from bitdustfs.cli.cmd_swarm import unknown_by
from bitdustfs.core import records
from bitdustfs.core.keys import VaultKey, node_id
from bitdustfs.core.records import Ballot
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import Forged, Malformed
from bitdustfs.net.dht import bounds, datagram, due
from bitdustfs.net.dht.bounds import KeptRecords
from bitdustfs.net.dht.node import Dht
from bitdustfs.units import DATAGRAM_MAX

pytestmark = pytest.mark.deadline(40)


async def client(nursery, endpoint):
    node = Dht(SigningKey(os.urandom(32)), serves=False, allow_private=True)
    await node.bind("127.0.0.1", 0)
    await nursery.start(node.run)
    await node.bootstrap([endpoint])
    return node


def hint(seq=1):
    return datagram.FamilyHint(0, bytes(32), Ballot(1, bytes(16)), seq, (b"n" * 20,) * 16)


@pytest.mark.parametrize("count", [30])
async def test_a_record_stored_by_one_is_found_by_a_client_through_any_other(nodes, nursery):
    key = SigningKey(b"k" * 32)
    place = node_id(key.verify_key.encode())
    record = datagram.sign_node_record(key, 7, ("127.0.0.1:5000",), 123)
    assert await nodes[5].store(place, record) >= 10
    asker = await client(nursery, nodes[17].endpoint)
    found = await asker.find(place)
    assert datagram.open_node_record_untrusted(found, place).offer == 123
    assert await asker.find(b"nothing is here 0000") is None


@pytest.mark.parametrize("count", [7])
async def test_a_node_s_own_record_is_found_when_nobody_else_has_it_any_more(nodes, nursery):
    """Look-ups leave their target out; a network whose other nodes restarted forgot its record."""
    node = nodes[3]
    place = node.id
    record = datagram.sign_node_record(node._key, 7, ("127.0.0.1:5000",), 123)
    await node.store(place, record)
    for other in nodes:
        if other is not node:
            other.records = KeptRecords(other.id)
    asker = await client(nursery, nodes[5].endpoint)
    [met] = [n for n in await asker.nearest(os.urandom(20)) if n.id == place]
    assert await asker.find(place, met) == record
    await node.republish()
    assert sum(place in other.records for other in nodes) >= 6


@pytest.mark.parametrize("count", [8])
async def test_the_newest_record_wins_and_replays_of_old_ones_are_ignored(nodes):
    capability = KEY.capability()
    place = datagram.vault_record_key(capability.record_public, 0)
    old, new = (
        datagram.sign_vault_record(KEY.record, capability, seq, hint(seq), Suite.AEGIS256)
        for seq in (1, 2)
    )
    await nodes[1].store(place, new)
    await nodes[2].store(place, old)
    found = await nodes[3].find(place)
    assert datagram.open_vault_record_untrusted(found, capability).root_seq == 2


@pytest.mark.parametrize("count", [5])
async def test_forged_records_are_neither_kept_nor_believed(nodes):
    place = datagram.vault_record_key(KEY.record.verify_key.encode(), 0)
    stranger = VaultKey(b"w" * 32)
    forged = datagram.sign_vault_record(
        stranger.record, stranger.capability(), 99, hint(), Suite.AEGIS256
    )
    assert await nodes[1].ask(nodes[2].endpoint, datagram.StoreRecord(place, forged)) is None
    assert len(nodes[2].records) == 0
    nodes[2].records._rows[place] = SimpleNamespace(
        seq=99, record=forged
    )  # a liar shows it all the same
    assert await nodes[1].find(place) is None


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 100, os.urandom(DATAGRAM_MAX), b"\x92\xc4\x00"])
@pytest.mark.parametrize("count", [2])
async def test_garbage_datagrams_leave_the_node_alive(nodes, garbage):
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as raw:
        await raw.sendto(garbage, nodes[0].endpoint)
    assert await nodes[1].ask(nodes[0].endpoint, datagram.DhtPing()) is not None


@pytest.mark.parametrize("count", [12])
async def test_an_unconfirmed_address_gets_no_more_than_a_small_answer(nodes):
    key = SigningKey(b"k" * 32)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as raw:
        await raw.bind(("127.0.0.1", 0))
        body = datagram.Body(
            1, key.verify_key.encode(), False, bytes(16), b"", datagram.FindNode(bytes(20))
        )
        question = datagram.encode_datagram(key, body)
        await raw.sendto(question, nodes[0].endpoint)
        answer = await raw.recv(5000)
        assert len(answer) < len(question) + 50
        assert isinstance(datagram.open_datagram_untrusted(answer).message, datagram.DhtPong)


def test_records_and_full_answers_fit_their_datagrams():
    capability = KEY.capability()
    record = datagram.sign_vault_record(KEY.record, capability, 1, hint(), Suite.AEGIS256)
    assert len(record) <= datagram.DHT_RECORD_MAX
    contact = datagram.Contact(b"i" * 20, "255.255.255.255", 65535)
    for message in (
        datagram.StoreRecord(b"k" * 20, record),
        datagram.ContactsAre((contact,) * datagram.CONTACTS_MAX),
    ):
        body = datagram.Body(1, bytes(32), True, bytes(16), bytes(8), message)
        assert len(datagram.encode_datagram(KEY.record, body)) <= DATAGRAM_MAX


@given(st.binary(max_size=300))
def test_datagram_and_record_parsers_raise_malformed_only(data):
    for parse in (
        datagram.open_datagram_untrusted,
        lambda d: datagram.open_node_record_untrusted(d, bytes(20)),
        lambda d: datagram.open_vault_record_untrusted(d, KEY.capability()),
        lambda d: datagram.record_seq_untrusted(bytes(20), d),
    ):
        with pytest.raises(Malformed):
            parse(data)


def test_a_datagram_with_another_senders_name_is_refused():
    key, other = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
    body = datagram.Body(1, other.verify_key.encode(), True, bytes(16), b"", datagram.DhtPing())
    with pytest.raises(Forged):
        datagram.open_datagram_untrusted(datagram.encode_datagram(key, body))


@pytest.mark.parametrize("count", [3])
async def test_a_swarm_is_up_when_newcomers_find_everybody_and_not_before(nodes, nursery):
    """A supplier that nobody knows answers whoever asks it: that is not being found."""
    late = Dht(SigningKey(os.urandom(32)), serves=True, allow_private=True)
    await late.bind("127.0.0.1", 0)
    await nursery.start(late.run)
    addresses = []
    for node in [*nodes, late]:
        addresses.append(f"127.0.0.1:{node.endpoint[1]}")
        record = datagram.sign_node_record(node._key, 1, (addresses[-1],), 1 << 30)
        await node.store(node.id, record)
    assert await unknown_by(addresses[0], addresses) == [addresses[-1]]
    await late.bootstrap([nodes[0].endpoint])
    assert await unknown_by(addresses[0], addresses) == []


# -- datagrams in the names of others


@pytest.fixture
async def flooded(nursery):
    """(network in memory, a node there, what it sent): a list of (bytes, endpoint)."""
    network = Network(random.Random(1))
    node = Dht(SigningKey(b"n" * 32), True, False, network.socket("8.8.8.8"))
    await nursery.start(node.run)
    sent, put = [], node._socket.sendto

    async def sendto(data, address):
        sent.append((data, address))
        return await put(data, address)

    node._socket.sendto = sendto
    nursery.start_soon(network.run)
    return network, node, sent


def checks_of(monkeypatch):
    """A list with an entry for each signature that is looked at."""
    looked, verify = [], records.verify

    def counting(*words):
        looked.append(words[1])
        verify(*words)

    monkeypatch.setattr(records, "verify", counting)
    return looked


def asked(message, token=b"", number=0):
    """A question that nobody in particular asks."""
    key = SigningKey(b"k" * 32)
    body = datagram.Body(
        1, key.verify_key.encode(), True, number.to_bytes(16, "big"), token, message
    )
    return datagram.encode_datagram(key, body)


@pytest.mark.deadline(1000)
@pytest.mark.parametrize("token", [b"", datagram.NO_TOKEN])
async def test_forged_sources_draw_few_answers_and_nothing_larger(
    autojump_clock, flooded, monkeypatch, token
):
    """Neither one network nor all together are flooded, and those who are there go on."""
    monkeypatch.setattr(sybils, "LOSS", 0.0)
    network, node, sent = flooded
    friend = Dht(SigningKey(b"f" * 32), False, False, network.socket("9.9.9.9"))
    async with trio.open_nursery() as nursery:
        await nursery.start(friend.run)
        assert await friend.ask(node.endpoint, datagram.DhtPing())
        sent.clear()
        looked = checks_of(monkeypatch)
        ping, find = asked(datagram.DhtPing(), token), asked(datagram.FindNode(bytes(20)), token, 1)
        began = trio.current_time()
        for number in range(4000):
            host = "9.9.9.9" if number % 2 else f"5.{number // 250}.{number % 250}.1"
            node._socket.receive(find if number % 3 else ping, (host, 4000))
        assert await friend.ask(node.endpoint, datagram.FindNode(bytes(20)))
        passed = trio.current_time() - began
        nursery.cancel_scope.cancel()
    pongs = [s for s in sent if s[1] != friend.endpoint or len(s[0]) < 160]
    to_one = [s for s in pongs if s[1][0] == "9.9.9.9"]
    assert 0 < len(to_one) <= bounds.CLAIMED_BURST + 1 + passed * bounds.CLAIMED_RATE
    in_all = bounds.CLAIMED_BURST_ALL + passed * bounds.CLAIMED_RATE_ALL
    assert len(to_one) < len(pongs) <= in_all + 1
    of_pings = [s for s, _ in pongs if datagram.peek_datagram_untrusted(s).id == bytes(16)]
    longer = [data for data in of_pings if len(data) > len(ping)]
    assert len(longer) <= (0 if token else bounds.SHORT_BURST + passed * bounds.SHORT_RATE)
    assert all(len(data) <= len(ping) + 10 for data in of_pings), "nodes of before ask so"
    assert len(pongs[0][0]) <= len(find)
    assert len(looked) <= 4, "signatures of others were looked at"


@pytest.mark.deadline(1000)
async def test_answers_that_nobody_asked_for_cost_no_signature(
    autojump_clock, flooded, monkeypatch
):
    network, node, _ = flooded
    looked = checks_of(monkeypatch)
    victim = ("9.9.9.9", 4000)
    silent = network.socket(*victim)()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.ask, victim, datagram.DhtPing())
        (question, _) = await silent.recvfrom(2000)
        waited_for = datagram.peek_datagram_untrusted(question).id
        for number in range(500):
            node._socket.receive(asked(datagram.Stored(), b"", number), victim)
        fair = asked(datagram.Stored(), b"", int.from_bytes(waited_for, "big"))
        false = fair[:-1] + bytes([fair[-1] ^ 1])
        for _ in range(500):
            node._socket.receive(false, ("9.9.9.8", 4000))
            node._socket.receive(false, victim)
        await trio.sleep(0.1)
    assert len(looked) <= due.LOOKED_AT_MAX


@pytest.mark.deadline(1000)
async def test_where_others_say_that_nodes_are_is_written_to_only_so_often(autojump_clock, flooded):
    """Whoever names a victim's addresses has no other node flood them."""
    _, node, sent = flooded
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(1000):
            there = f"9.9.9.{number % 250}", 4000 + number
            nursery.start_soon(node.ask, there, datagram.DhtPing())
    passed = trio.current_time() - began
    assert 0 < len(sent) <= bounds.WRITTEN_BURST + passed * bounds.WRITTEN_RATE
    assert await node._send(("9.9.8.1", 4000), bytes(16), datagram.DhtPing())
