"""Sybils in the DHT: look-ups go round them, and nobody's records are pushed out by others'."""

import os
import random

import pytest
import sybils
import trio
from nacl.signing import SigningKey
from sybils import Network, live, without_signatures

from bitdustfs.core.keys import node_id
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.bounds import KeptRecords, distance
from bitdustfs.net.dht.datagram import Contact
from bitdustfs.net.dht.node import Dht


def made_record(seq=1, key=None):
    """(place, record) of a node that nobody knows."""
    key = key or SigningKey(os.urandom(32))
    record = datagram.sign_node_record(key, seq, ("127.0.0.1:5000",), 1)
    return node_id(key.verify_key.encode()), record


@pytest.mark.deadline(10_000)  # of a virtual clock
async def test_look_ups_are_right_where_one_in_five_lies_drops_and_floods(
    autojump_clock, monkeypatch
):
    """The large form is scripts/sybils; its table is in docs/testing.md."""
    for name, unsigned in without_signatures().items():
        monkeypatch.setattr(datagram, name, unsigned)
    tally = await live(120, 0.2, 20, seed=1, met=True)
    assert tally.counts.total() == 20
    assert tally.false == 0 and tally.right >= 0.96
    assert tally.messages / 20 <= 200, "liars draw questions to where nobody is"


@pytest.mark.deadline(10_000)
async def test_who_joins_among_sybils_finds_what_is_there(autojump_clock):
    """Datagrams are signed here, and nobody knows anybody but those it joins by."""
    tally = await live(24, 0.2, 6, seed=20)
    assert tally.false == 0 and tally.right == 1.0


class Evil(Dht):
    """Names made-up ids near what is looked for, at `ports`: it answers at all of them."""

    def __init__(self, key, ports):
        super().__init__(key, serves=True, allow_private=True)
        self._ports = ports

    def _response(self, message, asker):
        if isinstance(message, datagram.StoreRecord):
            return datagram.Stored()
        return datagram.ContactsAre(tuple(self.names(message)))

    def names(self, message):
        target = message.key if isinstance(message, datagram.FindValue) else message.target
        base = int.from_bytes(target, "big")
        ports = random.sample(self._ports, 16)
        near = [(base ^ (1 + self._ports.index(port))).to_bytes(20, "big") for port in ports]
        return [Contact(i, "127.0.0.1", port) for i, port in zip(near, ports, strict=True)]


class Malforming(Evil):
    """Names hosts that are none."""

    def names(self, message):
        hosts = ["2001:4860::1%\0", "\0", "localhost", "1.2.3", "127.0.0.1 ", "::1"]
        return [Contact(os.urandom(20), host, 5000 + i) for i, host in enumerate(hosts)]


@pytest.mark.parametrize("count", [12])
@pytest.mark.parametrize("kind", [Evil, Malforming])
async def test_one_node_that_names_falsely_takes_no_record_for_itself(nodes, nursery, kind):
    key, ports = SigningKey(os.urandom(32)), []
    for _ in range(24):
        evil = kind(key, ports)
        ports.append(await evil.bind("127.0.0.1", 0))
        await nursery.start(evil.run)
    await evil.bootstrap([nodes[0].endpoint])
    for node in nodes:
        await node.nearest(os.urandom(20))
    for number in range(3):
        place, record = made_record()
        assert await nodes[number].store(place, record) >= 10
        assert sum(place in node.records for node in nodes) >= 10
        assert await nodes[-1 - number].find(place) == record


class OneAmongGood(Dht):
    """Names `strange` in the midst of those whom it should name."""

    strange, named = None, 0

    def _response(self, message, asker):
        answer = super()._response(message, asker)
        if not isinstance(answer, datagram.ContactsAre):
            return answer
        self.named += 1
        good = answer.contacts[: datagram.CONTACTS_MAX - 1]
        middle = len(good) // 2
        return datagram.ContactsAre((*good[:middle], self.strange, *good[middle:]))


@pytest.fixture
async def acquainted(strange, nursery, monkeypatch):
    """Eight nodes in memory and a client. The last node names `strange`, and all met it."""
    monkeypatch.setattr(sybils, "LOSS", 0.0)
    network = Network(random.Random(1))
    nursery.start_soon(network.run)

    async def node(kind, number, serves=True):
        key = SigningKey(os.urandom(32))
        made = kind(key, serves, False, network.socket(f"8.8.{number}.1"))
        await nursery.start(made.run)
        return made

    nodes = [await node(OneAmongGood if number == 7 else Dht, number) for number in range(8)]
    nodes[-1].strange = strange
    for one in nodes:
        for other in nodes:
            one._meet(Contact(other.id, *other.endpoint))
    return nodes, await node(Dht, 8, serves=False)


AN_ID = b"a strange contact 00"


@pytest.mark.parametrize(
    "strange",
    [
        Contact(AN_ID, host, 5000) for host in
        ("2606:4700::1%\0", "2606:4700::1%lo", "\0", "", "localhost", "1.2.3", "9.9.9.9 ", "::")
    ],
)  # fmt: skip
async def test_of_good_contacts_beside_a_malformed_address_all_count(autojump_clock, acquainted):
    """Whoever joins by such a node alone finds all that it names besides."""
    nodes, asker = acquainted
    await asker.bootstrap([nodes[-1].endpoint])
    assert {contact.id for contact in await asker.nearest(AN_ID)} == {node.id for node in nodes}


@pytest.mark.parametrize(
    "strange",
    [
        Contact(b"short", "9.9.9.9", 5000), Contact(bytes(21), "9.9.9.9", 5000),
        Contact(AN_ID, "1" * 65, 5000), Contact(AN_ID, b"\xff", 5000), Contact(AN_ID, None, 5000),
        Contact(AN_ID, "9.9.9.9", 80), Contact(AN_ID, "9.9.9.9", -1),
        Contact(AN_ID, "9.9.9.9", 2**64 - 1), None,
    ],
)  # fmt: skip
async def test_a_malformed_contact_among_good_ones_ends_no_search(autojump_clock, acquainted):
    """The answer does not parse. So its node counts as silent, and the others are found."""
    nodes, asker = acquainted
    honest = {node.id for node in nodes[:-1]}
    await asker.bootstrap([nodes[-1].endpoint, nodes[0].endpoint])
    before = nodes[-1].named
    assert {contact.id for contact in await asker.nearest(AN_ID)} == honest
    assert nodes[-1].named > before, "no search came by"
    place, record = made_record()
    assert await nodes[1].store(place, record) == len(honest) - 1
    assert await asker.find(place) == record


# -- what is kept


def test_records_near_the_own_id_stay_whoever_floods():
    own, rng = bytes(20), random.Random(1)
    kept = KeptRecords(own, limit=100, per_sender=1000)
    places = [made_record() for _ in range(400)]
    for number, (place, record) in enumerate(places):
        kept.keep(place, record, f"sender {number % 7}")
    nearest = sorted(places, key=lambda p: distance(p[0], own))[:100]
    assert len(kept) == 100
    assert all(place in kept for place, _ in nearest)
    rng.shuffle(places)
    for place, record in places:
        kept.keep(place, record, "another one")
    assert all(place in kept for place, _ in nearest) and len(kept) == 100


def test_one_sender_pushes_out_its_own_records_only():
    own = bytes(20)
    kept = KeptRecords(own, limit=1000, per_sender=20)
    honest = [made_record() for _ in range(15)]
    for place, record in honest:
        kept.keep(place, record, "honest")
    flood = [made_record() for _ in range(200)]
    for place, record in flood:
        kept.keep(place, record, "flooding")
    assert all(place in kept for place, _ in honest)
    nearest = sorted(flood, key=lambda p: distance(p[0], own))[:20]
    assert {place for place, _ in flood if place in kept} == {place for place, _ in nearest}
    assert len(kept) == 35


def test_who_stores_others_records_again_cannot_take_them_along():
    """A record is counted for the sender that has fewer."""
    kept = KeptRecords(bytes(20), limit=1000, per_sender=20)
    place, record = made_record()
    kept.keep(place, record, "flooding")  # first of all
    kept.keep(place, record, "honest")
    kept.keep(place, record, "honest")
    for other in [made_record() for _ in range(100)]:
        kept.keep(*other, "flooding")
    kept.keep(place, record, "honest")
    assert place in kept
    kept.keep(place, record, "flooding")
    for other in [made_record() for _ in range(100)]:
        kept.keep(*other, "flooding")
    assert place in kept


def test_a_newer_version_takes_the_place_of_the_older_and_no_other_way_round():
    kept, key = KeptRecords(bytes(20), limit=10, per_sender=5), SigningKey(b"k" * 32)
    (place, old), (_, new) = made_record(1, key), made_record(2, key)
    for record in (old, new, old):
        kept.keep(place, record, "somebody")
    assert kept.newest(place) == (2, new) and len(kept) == 1


@pytest.mark.parametrize("count", [1])
async def test_a_flood_of_checks_is_bounded(nodes):
    """Each datagram of an unknown node asks for a ping; pings are sent some at a time."""
    for number in range(10_000):
        nodes[0]._checks.later(Contact(os.urandom(20), "127.0.0.1", 2000 + number))
    assert nodes[0]._checks._put.statistics().current_buffer_used <= 64
    await trio.lowlevel.checkpoint()
