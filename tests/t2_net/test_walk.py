"""Look-ups over a made-up network in memory: they find the nearest, and liars cost them little."""

import hashlib
import os
import random
from functools import partial

import pytest
import trio

from bitdustfs.net.dht.bounds import PER_PREFIX, Neighbourhoods, distance
from bitdustfs.net.dht.datagram import CONTACTS_MAX, Contact
from bitdustfs.net.dht.kad import ContactTable, K
from bitdustfs.net.dht.walk import ALPHA, LAST, Heard, walk

NAMED = CONTACTS_MAX  #: contacts that a node of the made-up network names


def made_up_id(number):
    return hashlib.blake2b(number.to_bytes(4, "big"), digest_size=20).digest()


def contact(number):
    """The made-up node of this number."""
    return Contact(made_up_id(number), f"10.0.{number // 250}.{number % 250}", 4000)


class MadeUpNetwork:
    """Fifty nodes in memory that met all others, each as far as its table has room for them.

    `silent` ones never answer; the others take `seconds`.
    """

    def __init__(self, count=50, silent=(), seconds=0.0):
        self.contacts = [contact(number) for number in range(count)]
        self.silent, self.seconds = {self.contacts[i].id for i in silent}, seconds
        self.asked, self.under_way, self.most_under_way = [], 0, 0
        self.tables = {}
        for number, one in enumerate(self.contacts):
            table = self.tables[one.id] = ContactTable(one.id, lambda oldest: None)
            for other in (*self.contacts[number + 1 :], *self.contacts[:number]):
                table.add(other)

    async def ask(self, asked, target):
        self.asked.append(asked.id)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await trio.sleep(self.seconds)
        self.under_way -= 1
        if asked.id not in self.tables or asked.id in self.silent:
            return None
        return Heard(asked, self.tables[asked.id].nearest(target, NAMED))

    async def find(self, target, start, deadline=100):
        """What a look-up finds."""
        ask = partial(self._asking, target)
        return await walk(target, start, ask, Neighbourhoods(True), deadline)

    async def _asking(self, target, contact):
        return await self.ask(contact, target)

    def nearest(self, target):
        """What a look-up should find, by looking at everybody."""
        answering = [c for c in self.contacts if c.id not in self.silent]
        return sorted(answering, key=lambda c: distance(c.id, target))[:K]


@pytest.mark.parametrize("number", range(100, 110))
async def test_a_look_up_over_fifty_nodes_finds_the_nearest_of_all(number):
    network, target = MadeUpNetwork(), made_up_id(number)
    found = await network.find(target, network.contacts[:1], 10)
    # nobody names more than so many, so that further ones may be others than the next nearest
    assert NAMED <= len(found) <= K
    assert found[:NAMED] == network.nearest(target)[:NAMED]
    assert len(network.asked) == len(set(network.asked)), "a node was asked twice"
    assert len(network.asked) < 50, "a look-up asked everybody"


async def test_a_look_up_gets_past_silent_nodes():
    """Some may be among those found: a silent node that another one names again comes back."""

    network, target = MadeUpNetwork(silent=range(3, 50, 7)), made_up_id(200)
    found = await network.find(target, network.contacts[:3], 10)
    answering = [c for c in found if c.id not in network.silent]
    assert answering[:10] == network.nearest(target)[:10]


async def test_three_are_asked_at_once_and_some_more_once_nothing_nearer_turns_up(
    autojump_clock,
):
    network = MadeUpNetwork(seconds=0.5)
    await network.find(made_up_id(300), network.contacts[:5], 0.4)
    assert network.most_under_way == ALPHA
    network = MadeUpNetwork(seconds=0.5)
    await network.find(made_up_id(300), network.contacts[:5])
    assert ALPHA < network.most_under_way <= LAST


async def test_slow_nodes_hold_up_nobody(autojump_clock):
    network, target = MadeUpNetwork(silent=range(0, 50, 4)), made_up_id(500)
    answer = network.ask

    async def ask(asked, target):
        if asked.id in network.silent:
            await trio.sleep(2.0)
        return await answer(asked, target)

    network.ask = ask
    began = trio.current_time()
    found = await network.find(target, network.contacts[:20])
    assert found[:10] == network.nearest(target)[:10]
    assert trio.current_time() - began < 6


async def test_a_look_up_that_takes_too_long_gives_the_nearest_that_it_asked(autojump_clock):
    network, target = MadeUpNetwork(seconds=1.0), made_up_id(400)
    began = trio.current_time()
    found = await network.find(target, network.contacts[:5], 2.5)
    assert trio.current_time() - began == 2.5
    assert found and {c.id for c in found} <= set(network.asked)
    assert found == sorted(found, key=lambda c: distance(c.id, target))


async def test_what_asking_raises_comes_through_a_look_up():
    async def ask(asked):
        raise RuntimeError("a bug")

    with pytest.RaisesGroup(RuntimeError):
        await walk(bytes(20), [contact(1)], ask, Neighbourhoods(True), deadline=10)


# -- liars


def nearly(target, number):
    """An id that is nearer to the target than any node's."""
    return target[:8] + os.urandom(10) + number.to_bytes(2, "big")


def elsewhere(target, liar):
    """Names made-up ids where nobody answers."""
    return [
        Contact(nearly(target, i), f"10.8.{random.randrange(250)}.{i}", 4000) for i in range(16)
    ]


def at_home(target, liar):
    """Names made-up ids at its own address, at ever other ports."""
    return [
        Contact(nearly(target, i), liar.host, 5000 + random.randrange(50_000)) for i in range(16)
    ]


def at_every_port(target, liar):
    """Names made-up ids at its own address, and answers there at whatever port."""
    return at_home(target, liar)


def at_others(target, liar):
    """Names made-up ids where honest nodes are."""
    return [Contact(nearly(target, i), contact(i).host, 4000) for i in range(16)]


def displaced(target, liar):
    """Names honest nodes where nobody answers."""
    return [Contact(contact(i).id, f"10.8.0.{i}", 4000) for i in range(16)]


@pytest.mark.parametrize("lie", [elsewhere, at_home, at_every_port, at_others, displaced])
@pytest.mark.parametrize("seed", range(3))
async def test_one_in_five_that_names_falsely_changes_no_result(autojump_clock, lie, seed):
    random.seed(seed)
    network, target = MadeUpNetwork(), made_up_id(600 + seed)
    liars = {c.id for c in random.sample(network.contacts, 10)}
    where = {c.endpoint: c for c in network.contacts}
    ports = {c.host: c for c in network.contacts if c.id in liars and lie is at_every_port}

    async def ask(asked, target):
        network.asked.append(asked.endpoint)
        there = where.get(asked.endpoint, ports.get(asked.host))
        if there is None:
            await trio.sleep(2.0)
            return None
        table = network.tables[there.id]
        return Heard(there, lie(target, there) if there.id in liars else table.nearest(target, 16))

    network.ask = ask
    began = trio.current_time()
    found = await network.find(target, random.sample(network.contacts, 10))
    assert found[:NAMED] == network.nearest(target)[:NAMED]
    assert len(network.asked) == len(set(network.asked)), "an address was asked twice"
    assert len(network.asked) < 50 + 3 * len(liars)
    assert trio.current_time() - began < 10


async def test_one_network_has_few_places_in_a_result():
    """Ids are cheap to make, and so are the addresses of one /24: both together win nothing."""
    target, honest = (
        made_up_id(700),
        [Contact(made_up_id(i), f"8.{i}.1.1", 4000) for i in range(60)],
    )
    crowd = [Contact(nearly(target, i), f"9.9.9.{i}", 4000) for i in range(200)]

    async def ask(asked):
        return Heard(asked, random.sample(crowd, 8) + random.sample(honest, 8))

    found = await walk(target, honest[:5], ask, Neighbourhoods(False), deadline=10)
    assert sum(c in crowd for c in found) == PER_PREFIX
    assert len(found) == K
