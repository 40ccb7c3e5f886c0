"""Who is in the same network says so to those who know its key, and to nobody else."""

import os
import time
from itertools import pairwise

import pytest
import trio
from family import KEY as VAULT
from family import claim_of, contracted, credentials, family_of, root_of, serving
from nacl.signing import SigningKey

from bitdustfs.core.sightings import Sighting, Sightings
from bitdustfs.errors import Forged, Malformed, Unavailable
from bitdustfs.family.find import Ways
from bitdustfs.net.lan import nearby as lan
from bitdustfs.net.lan.beacon import (
    PERIOD,
    QUESTION,
    SIZE_MAX,
    make_beacon,
    port_untrusted,
    read_beacon_untrusted,
    tags_of,
)
from bitdustfs.net.lan.links import LINKS_MAX, Link, chosen
from bitdustfs.net.lan.nearby import Calling, Nearby
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.whereabouts import AddressBook, Located
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
NODE = KEY.verify_key.encode()
NOW = 1_800_000_000


class Cast:
    """A network in memory: what is sent is noted, what comes is said by the test."""

    def __init__(self):
        self.sent, self.heard = [], None

    async def run(self, heard, task_status):
        self.heard = heard
        task_status.started()
        await trio.sleep_forever()

    async def send(self, data):
        self.sent.append((trio.current_time(), data))


@pytest.fixture
async def near(nursery):
    made = Nearby(Cast(), lambda: NOW)
    await nursery.start(made.run)
    return made


def hear(near, data, host="192.168.1.9"):
    near._cast.heard(data, host)


def opened(data, node=NODE, now=NOW):
    """The port that a beacon says to who knows a node's key; None: it is not that node's."""
    beacon = read_beacon_untrusted(data)
    mask = dict(tags_of(node, now)).get(beacon.tag)
    return None if mask is None else port_untrusted(node, beacon, mask)


def test_a_beacon_says_who_and_where_to_those_who_know_the_key():
    data = make_beacon(KEY, 4000, NOW)
    assert opened(data) == 4000
    assert opened(data, OTHER.verify_key.encode()) is None
    assert len(data) == SIZE_MAX


def test_a_beacon_shows_neither_key_nor_port_and_is_another_one_in_every_hour():
    """What two beacons of one node have in common is what those of all nodes have."""
    one, later = make_beacon(KEY, 4000, NOW), make_beacon(KEY, 4000, NOW + PERIOD)
    assert NODE[:4] not in one and (4000).to_bytes(2, "big") != one[18:20]
    assert one[:2] == later[:2] and one[2:18] != later[2:18] and one[18:20] != later[18:20]
    assert one[20:52] != later[20:52] and one[52:] != later[52:]


@pytest.mark.parametrize(("off", "known"), [(-2, False), (-1, True), (1, True), (2, False)])
def test_clocks_may_be_an_hour_apart(off, known):
    assert (opened(make_beacon(KEY, 4000, NOW + off * PERIOD)) == 4000) is known


def test_who_knows_the_key_cannot_call_in_its_name():
    data = bytearray(make_beacon(KEY, 4000, NOW))
    data[19] ^= 1  # another port
    with pytest.raises(Forged):
        opened(bytes(data))
    with pytest.raises(Malformed):
        opened(make_beacon(KEY, 80, NOW))


async def test_a_node_that_calls_is_dialled_there_first(near, nursery, autojump_clock):
    async def find(_):
        return None

    book = AddressBook(find, nursery, near=near)
    assert book.of(NODE, ["9.9.9.9:4000"]) == ("9.9.9.9:4000",)
    hear(near, make_beacon(KEY, 4000, NOW))
    hear(near, make_beacon(KEY, 4000, NOW), "fd00::9")
    short = ("[fd00::9]:4000", "192.168.1.9:4000")
    assert book.of(NODE, ["9.9.9.9:4000"]) == (*short, "9.9.9.9:4000")
    assert book.of(OTHER.verify_key.encode(), []) == ()
    book.failed(NODE, short[0])
    assert book.of(NODE, ["9.9.9.9:4000"]) == (short[1], "9.9.9.9:4000", short[0])


async def test_where_a_node_is_near_is_for_who_asks_for_its_key_and_is_not_kept(near, nursery):
    """Who repeats a beacon has his own address dialled: nobody else is looked for there, and it
    makes no private contacts wanted.
    """

    async def find(_):
        return None

    book = AddressBook(find, nursery, near=near)
    book.reached(NODE, "9.9.9.9:4000")
    hear(near, make_beacon(KEY, 4000, NOW))
    assert book.nearby() == [(NODE, "192.168.1.9:4000")]
    book.reached(NODE, "192.168.1.9:4000")
    assert book.addresses() == ["9.9.9.9:4000"]
    [seen] = book.sightings()
    assert seen.worked == "9.9.9.9:4000"
    hear(near, make_beacon(OTHER, 4000, NOW), "192.168.1.8")
    book.reached(OTHER.verify_key.encode(), "192.168.1.8:4000")  # met here for the first time
    assert book.nearby()[0] == (OTHER.verify_key.encode(), "192.168.1.8:4000")
    assert book.addresses() == ["9.9.9.9:4000"]


@pytest.mark.deadline(1000)
async def test_an_answer_after_the_beacons_stopped_keeps_no_address_of_theirs(
    near, nursery, autojump_clock
):
    """A session goes on long after: that its address was heard is decided as it is dialled."""

    async def find(_):
        return Located(1, ("192.168.1.7:4000",))

    book = AddressBook(find, nursery, near=near)
    hear(near, make_beacon(KEY, 4000, NOW))
    assert book.of(NODE, ["9.9.9.9:4000"])[0] == "192.168.1.9:4000"
    await trio.sleep(lan.FRESH + 1)
    assert near.of(NODE) == ()
    book.reached(NODE, "192.168.1.9:4000")
    assert [seen.worked for seen in book.sightings()] == [""]
    hear(near, make_beacon(KEY, 4000, NOW), "192.168.1.8")
    assert "192.168.1.8:4000" in await book.look_up(NODE)
    await trio.sleep(lan.FRESH + 1)
    book.reached(NODE, "192.168.1.8:4000")
    assert [seen.worked for seen in book.sightings()] == [""]
    book.of(NODE, ["192.168.1.9:4000"])  # the family names it as well
    book.reached(NODE, "192.168.1.9:4000")
    assert [seen.worked for seen in book.sightings()] == ["192.168.1.9:4000"]


class At(lan.NobodyNear):
    """What was heard of nodes."""

    def __init__(self, heard):
        self.heard = heard

    def of(self, node):
        return self.heard.get(node, ())


async def kept_by(service, nursery):
    """A supplier on loopback with a contract for a vault, its root and its family."""
    address = await nursery.start(serve_forever, service)
    peer = PeerSupplier(service.node.verify_key.encode(), (address,), credentials(), nursery)
    await contracted(peer)
    family = family_of(peer.node)
    await peer.accept(root_of(family), family, claim_of())
    await peer.aclose()
    return peer.node, address


async def serve_forever(service, task_status):
    async with serving(service) as address:
        task_status.started(address)
        await trio.sleep_forever()


async def test_a_vault_is_found_where_its_supplier_is_heard_and_only_by_its_key(nursery):
    (one, here), (other, elsewhere) = [
        await kept_by(SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB), nursery)
        for _ in range(2)
    ]
    gone = Sightings((Sighting(one, "127.0.0.1:1026"), Sighting(other, "127.0.0.1:1027")))

    def ways(heard):
        return Ways(VAULT, ["127.0.0.1:1025"], nursery, gone, near=At(heard))

    found = await ways({one: (here,)}).find_family()
    assert found.family.members[0].node == one
    repeated = ways({one: (elsewhere,), other: (here,)})
    with pytest.raises(Unavailable):
        await repeated.find_family()


@pytest.mark.deadline(10_000)
async def test_a_node_that_calls_no_more_is_forgotten(near, autojump_clock):
    hear(near, make_beacon(KEY, 4000, NOW))
    await trio.sleep(lan.FRESH - 1)
    assert near.of(NODE) == ("192.168.1.9:4000",)
    await trio.sleep(2)
    assert near.of(NODE) == ()


async def test_a_link_local_address_is_not_dialled(near):
    hear(near, make_beacon(KEY, 4000, NOW), "fe80::1%2")
    hear(near, make_beacon(KEY, 4000, NOW), "fe80::1")
    assert near.of(NODE) == ()


@pytest.mark.deadline(10_000)
async def test_who_floods_a_network_is_heard_only_so_often(near, autojump_clock):
    for _ in range(lan.HEARD_MAX):
        hear(near, make_beacon(SigningKey(os.urandom(32)), 4000, NOW), "192.168.1.66")
    hear(near, make_beacon(KEY, 4000, NOW))
    assert near.of(NODE) == ("192.168.1.9:4000",)
    assert len(near._heard) == lan.BURST
    for number in range(lan.HEARD_MAX * 4):
        hear(
            near, make_beacon(SigningKey(os.urandom(32)), 4000, NOW), f"10.0.{number % 4}.{number}"
        )
        await trio.sleep(0.1)
    assert len(near._heard) == lan.HEARD_MAX


async def test_a_false_signature_is_looked_at_once_and_pushes_no_true_one_out(
    near, autojump_clock, monkeypatch
):
    """By who knows the key, and has it not, from many addresses."""
    hear(near, make_beacon(KEY, 4000, NOW))
    assert near.of(NODE) == ("192.168.1.9:4000",)
    looked, opened = [], lan.port_untrusted
    monkeypatch.setattr(lan, "port_untrusted", lambda *words: looked.append(1) or opened(*words))
    false = bytearray(make_beacon(KEY, 4000, NOW))
    false[-1] ^= 1
    for number in range(2 * lan.HEARD_MAX):
        hear(near, bytes(false), f"10.0.{number // 200}.{number % 200}")
        await trio.sleep(1 / lan.RATE_ALL)
    for _ in range(10):
        assert near.of(NODE) == ("192.168.1.9:4000",)
    assert 0 < len(looked) <= lan.HEARD_MAX


@pytest.mark.deadline(10_000)
async def test_questions_are_asked_and_answered_only_so_often(near, nursery, autojump_clock):
    cast = near._cast
    await trio.sleep(0.1)
    assert [data for _, data in cast.sent] == [QUESTION]  # at the beginning
    nursery.start_soon(Calling(KEY, "0.0.0.0:4000", near, cast).run)
    for _ in range(600):
        near.ask()
        hear(near, QUESTION)
        await trio.sleep(0.1)
    for said, least in ((QUESTION, lan.ASK_LEAST), (None, lan.CALL_LEAST)):
        times = [at for at, data in cast.sent if (data == QUESTION) == (said == QUESTION)]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len(gaps) > 5 and min(gaps) > least - 0.001


@pytest.mark.deadline(10_000)
async def test_a_node_calls_twice_a_minute_when_nobody_asks(near, nursery, autojump_clock):
    nursery.start_soon(Calling(KEY, "0.0.0.0:4000", near, near._cast).run)
    await trio.sleep(10 * lan.CALL_EVERY + 1)
    called = [data for _, data in near._cast.sent if data != QUESTION]
    assert len(called) == 11
    assert all(opened(data, now=time.time()) == 4000 for data in called)


def test_where_a_public_address_is_nothing_is_said():
    home, street = Link("192.168.1.5", 2), Link("8.8.8.8", 3)
    every = [home, Link("fd00::5", 2), street, Link("2606:4700::1", 3), Link("2606:4700::2", 4)]
    every += [Link("100.64.0.5", 5), Link("192.168.9.9", 5)]  # of a provider
    assert chosen(every) == [home, Link("fd00::5", 2), Link("2606:4700::2", 4)]
    many = [Link(f"10.0.0.{n}", n) for n in range(100)]
    assert len(chosen(many)) == LINKS_MAX
