"""The DHT: thirty nodes on loopback find records; replays, forgeries and garbage change nothing."""

import os
from types import SimpleNamespace

import pytest
import trio
from family import KEY
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from bitdustfs.cli.cmd_swarm import unknown_by
from bitdustfs.core.keys import VaultKey, node_id
from bitdustfs.core.records import Ballot
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import Forged, Malformed
from bitdustfs.net.dht import datagram
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
