"""The DHT: thirty nodes on loopback find records; replays, forgeries and garbage change nothing."""

import os
from contextlib import asynccontextmanager

import pytest
import trio
from family import KEY
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from bitdustfs.core.keys import VaultKey, node_id
from bitdustfs.core.records import Ballot
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import Forged, Malformed
from bitdustfs.net.dht import datagram as wire
from bitdustfs.net.dht.node import Dht
from bitdustfs.units import DATAGRAM_MAX


@asynccontextmanager
async def network(count):
    async with trio.open_nursery() as nursery:
        nodes = []
        for _ in range(count):
            node = Dht(SigningKey(os.urandom(32)), serves=True, allow_private=True)
            node.endpoint = ("127.0.0.1", await node.bind("127.0.0.1", 0))
            await nursery.start(node.run)
            nodes.append(node)
        for node in nodes[1:]:
            await node.bootstrap([nodes[0].endpoint])
        yield nodes, nursery
        nursery.cancel_scope.cancel()


async def client(nursery, endpoint):
    node = Dht(SigningKey(os.urandom(32)), serves=False, allow_private=True)
    await node.bind("127.0.0.1", 0)
    await nursery.start(node.run)
    await node.bootstrap([endpoint])
    return node


def run(main):
    async def limited():
        with trio.fail_after(40):
            await main()

    trio.run(limited)


def hint(seq=1):
    return wire.FamilyHint(0, bytes(32), Ballot(1, bytes(16)), seq, (b"n" * 20,) * 16)


def test_a_record_stored_by_one_is_found_by_a_client_through_any_other():
    async def main():
        async with network(30) as (nodes, nursery):
            key = SigningKey(b"k" * 32)
            place = node_id(key.verify_key.encode())
            record = wire.sign_node_record(key, 7, ("127.0.0.1:5000",), 123)
            assert await nodes[5].store(place, record) >= 10
            asker = await client(nursery, nodes[17].endpoint)
            found = await asker.find(place)
            assert wire.open_node_record_untrusted(found, place).offer == 123
            assert await asker.find(b"nothing is here 0000") is None

    run(main)


def test_a_node_s_own_record_is_found_when_nobody_else_has_it_any_more():
    """Look-ups leave their target out; a network whose other nodes restarted forgot its record."""

    async def main():
        async with network(7) as (nodes, nursery):
            node = nodes[3]
            place = node.id
            record = wire.sign_node_record(node._key, 7, ("127.0.0.1:5000",), 123)
            await node.store(place, record)
            for other in nodes:
                if other is not node:
                    other.records.clear()
            asker = await client(nursery, nodes[5].endpoint)
            [met] = [n for n in await asker.nearest(os.urandom(20)) if n.id == place]
            assert await asker.find(place, met) == record
            await node.republish()
            assert sum(place in other.records for other in nodes) >= 6

    run(main)


def test_the_newest_record_wins_and_replays_of_old_ones_are_ignored():
    async def main():
        async with network(8) as (nodes, _):
            capability = KEY.capability()
            place = wire.vault_record_key(capability.record_public, 0)
            old, new = (
                wire.sign_vault_record(KEY.record, capability, seq, hint(seq), Suite.AEGIS256)
                for seq in (1, 2)
            )
            await nodes[1].store(place, new)
            await nodes[2].store(place, old)
            found = await nodes[3].find(place)
            assert wire.open_vault_record_untrusted(found, capability).root_seq == 2

    run(main)


def test_forged_records_are_neither_kept_nor_believed():
    async def main():
        async with network(5) as (nodes, _):
            place = wire.vault_record_key(KEY.record.verify_key.encode(), 0)
            stranger = VaultKey(b"w" * 32)
            forged = wire.sign_vault_record(
                stranger.record, stranger.capability(), 99, hint(), Suite.AEGIS256
            )
            assert await nodes[1]._ask(nodes[2].endpoint, wire.Store(place, forged)) is None
            assert not nodes[2].records
            nodes[2].records[place] = (99, forged)  # a liar shows it all the same
            assert await nodes[1].find(place) is None

    run(main)


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 100, os.urandom(DATAGRAM_MAX), b"\x92\xc4\x00"])
def test_garbage_datagrams_leave_the_node_alive(garbage):
    async def main():
        async with network(2) as (nodes, _):
            with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as raw:
                await raw.sendto(garbage, nodes[0].endpoint)
            assert await nodes[1]._ask(nodes[0].endpoint, wire.Ping()) is not None

    run(main)


def test_an_unconfirmed_address_gets_no_more_than_a_small_answer():
    async def main():
        async with network(12) as (nodes, _):
            key = SigningKey(b"k" * 32)
            with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as raw:
                await raw.bind(("127.0.0.1", 0))
                body = wire.Body(
                    1, key.verify_key.encode(), False, bytes(16), b"", wire.FindNode(bytes(20))
                )
                question = wire.encode_datagram(key, body)
                await raw.sendto(question, nodes[0].endpoint)
                answer = await raw.recv(5000)
                assert len(answer) < len(question) + 50
                assert isinstance(wire.open_datagram_untrusted(answer).message, wire.Pong)

    run(main)


def test_records_and_full_answers_fit_their_datagrams():
    capability = KEY.capability()
    record = wire.sign_vault_record(KEY.record, capability, 1, hint(), Suite.AEGIS256)
    assert len(record) <= wire.DHT_RECORD_MAX
    contact = wire.Contact(b"i" * 20, "255.255.255.255", 65535)
    for message in (wire.Store(b"k" * 20, record), wire.Nodes((contact,) * wire.CONTACTS_MAX)):
        body = wire.Body(1, bytes(32), True, bytes(16), bytes(8), message)
        assert len(wire.encode_datagram(KEY.record, body)) <= DATAGRAM_MAX


@given(st.binary(max_size=300))
def test_datagram_and_record_parsers_raise_malformed_only(data):
    for parse in (
        wire.open_datagram_untrusted,
        lambda d: wire.open_node_record_untrusted(d, bytes(20)),
        lambda d: wire.open_vault_record_untrusted(d, KEY.capability()),
        lambda d: wire.record_seq_untrusted(bytes(20), d),
    ):
        with pytest.raises(Malformed):
            parse(data)


def test_a_datagram_with_another_senders_name_is_refused():
    key, other = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
    body = wire.Body(1, other.verify_key.encode(), True, bytes(16), b"", wire.Ping())
    with pytest.raises(Forged):
        wire.open_datagram_untrusted(wire.encode_datagram(key, body))
